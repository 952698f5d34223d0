"""What servers need before anything is kept there: the functions, and numbers fixed at first use."""

from __future__ import annotations

import re
from importlib import resources

from rater.errors import Halt, StoreDown
from rater.store.keys import meta_key
from rater.store.link import Address, FunctionMissing, Link

LIBRARY = "rater_v4"
VERSION_MIN = 7


class Library:
    """The functions on the servers: whether they are there, and loading them."""

    def __init__(self, link: Link) -> None:
        """Use these connections."""
        self._link = link
        self._code = resources.files("rater.store").joinpath("functions.lua").read_bytes()

    async def check(self) -> list[str]:
        """Return a sentence for each thing about the servers that must be changed, each with its remedy."""
        problems: list[str] = []
        for address in await self._link.primaries():
            where, info = await self._look(address)
            version = info.get("redis_version")
            if version is not None and not _is_new(version):
                problems.append(f"{where} is version {version}; use Redis 7 or Valkey 7.2, or newer")
            policy = info.get("maxmemory_policy", "noeviction")
            if policy != "noeviction":
                problems.append(
                    f"{where} has maxmemory-policy {policy}, which deletes balances when memory is short; "
                    "set it to noeviction"
                )
            if await self._loaded(address) is False:
                problems.append(
                    f"{where} lacks the functions {LIBRARY}; load rater/store/functions.lua there"
                )
        return problems

    async def unseen(self) -> list[str]:
        """Return a sentence for each thing that `check` could not look at, as some services let nobody."""
        found: list[str] = []
        for address in await self._link.primaries():
            where, info = await self._look(address)
            if "maxmemory_policy" not in info:
                found.append(
                    f"{where} does not tell its maxmemory-policy (INFO memory): see to it in the service's "
                    "settings that it is noeviction, for any other deletes balances when memory is short"
                )
            try:
                await self._link.ask_at(address, "FUNCTION", "LIST", "LIBRARYNAME", LIBRARY)
            except Halt:
                found.append(
                    f"{where} does not let this user list functions: they answer, but whether they are this "
                    "version's is not known; grant +function|list, or load rater/store/functions.lua there "
                    "with each new version"
                )
        return found

    async def _look(self, address: Address) -> tuple[str, dict[str, str]]:
        """Return what a server is called, and what it tells of itself."""
        info = read_info(await self._link.ask_at(address, "INFO", "everything"))
        return f"Redis at {address.host}:{address.port}", info

    async def _loaded(self, address: Address) -> bool | None:
        """Return whether the library is there; None: it is, with other code."""
        try:
            found = await self._link.ask_at(address, "FUNCTION", "LIST", "LIBRARYNAME", LIBRARY, "WITHCODE")
        except Halt:  # not allowed to list: a call shows whether it is there
            return await self._answers(address)
        if not found:
            return False
        fields = dict(zip(found[0][::2], found[0][1::2], strict=True))
        return True if fields[b"library_code"] == self._code else None

    async def _answers(self, address: Address) -> bool:
        """Return whether the function that came last is there: a library of an earlier version lacks it."""
        try:
            await self._link.ask_at(address, "FCALL", f"{LIBRARY}_change", 0)
        except FunctionMissing:
            return False
        except Halt as error:
            # Without keys the function fails as it begins, which shows that it is there.
            return "user_function" in str(error)
        return True

    async def load(self, address: Address) -> None:
        """Load the library where it is absent or differs; if that is not allowed, one with all of it does."""
        state = await self._loaded(address)
        if state is True:
            return
        try:
            await self._link.ask_at(address, "FUNCTION", "LOAD", "REPLACE", self._code)
        except Halt as error:
            if state is False or not await self._answers(address):
                raise Halt(
                    f"{error}. The functions {LIBRARY} are missing there, or those of an earlier version are "
                    "there: grant +function|load, or let an administrator load them: "
                    "redis-cli -x FUNCTION LOAD REPLACE < functions.lua"
                ) from error


_REMEDIES = {
    "buckets": "buckets cannot be changed: set redis.buckets back, or use another redis.prefix",
    "lanes": "set topics.partitions back, or add partitions by `rater topics grow`",
}
_READS: dict[str, tuple[str, ...]] = {
    "GET": (), "MGET": (), "HGET": ("f",), "HGETALL": (), "HKEYS": (), "HMGET": ("f",), "LLEN": (),
    "LRANGE": ("0", "0"),
}  # fmt: skip
"""Command -> what it takes beside a key."""


async def unreadable(link: Link, prefix: str, buckets: int) -> list[str]:
    """Return a sentence for each reading that our user is denied, on any server. Raises StoreDown.

    Some are needed seldom, and a lane would stop at them long after its start. What writes needs no look:
    functions ask for all of it before they write (`fence`).
    """
    of_server = {await link.address(f"{prefix}{{{bucket}}}:"): bucket for bucket in range(buckets)}
    denied: list[str] = []
    for address, bucket in of_server.items():
        key = f"{prefix}{{{bucket}}}:none"
        asked = [(command, key, *more) for command, more in _READS.items()]
        for command in [*asked, ("SCAN", "0", "MATCH", key, "COUNT", "1")]:
            try:
                await link.ask_at(address, *command)
            except Halt as error:
                denied.append(str(error))
    return denied


async def provision(link: Link, prefix: str, buckets: int, lanes: int) -> None:
    """Fix the numbers of buckets and lanes, or compare with those that are fixed. Raises Halt, StoreDown."""
    key = meta_key(prefix)
    for name, number in (("buckets", buckets), ("lanes", lanes)):
        await link.ask(key, "HSETNX", key, name, number)
    if not await is_provisioned(link, prefix, buckets, lanes):
        raise StoreDown(f"{key} has just been deleted; is Redis being flushed?")


async def is_provisioned(link: Link, prefix: str, buckets: int, lanes: int) -> bool:
    """Return whether these numbers of buckets and lanes are fixed; False: none are. Raises Halt."""
    key = meta_key(prefix)
    for name, number in (("buckets", buckets), ("lanes", lanes)):
        fixed = await link.ask(key, "HGET", key, name)
        if fixed is None:
            return False
        if fixed != b"%d" % number:
            raise Halt(
                f"{key} in Redis says {name} = {str(fixed, 'utf-8', 'replace')}, and {number} are asked "
                f"for; {_REMEDIES[name]}"
            )
    return True


async def provisioned(link: Link, prefix: str) -> tuple[int | None, int | None]:
    """Return the numbers of buckets and lanes that are fixed; None: it is not. Raises Halt, StoreDown."""
    key = meta_key(prefix)
    buckets, lanes = await link.ask(key, "HMGET", key, "buckets", "lanes")
    return None if buckets is None else int(buckets), None if lanes is None else int(lanes)


async def widen(link: Link, prefix: str, buckets: int, lanes: int) -> None:
    """Fix another number of lanes, a higher one, while nobody rates. Raises Halt, StoreDown."""
    key = meta_key(prefix)
    await link.ask(key, "HSET", key, "lanes", lanes)
    await provision(link, prefix, buckets, lanes)


def _is_new(version: str) -> bool:
    major, _, _ = version.partition(".")
    return major.isdigit() and int(major) >= VERSION_MIN


def read_info(reply: bytes) -> dict[str, str]:
    """Return the fields of an INFO reply."""
    return dict(re.findall(r"^([a-z0-9_]+):([^\r\n]*)", str(reply, "utf-8", "replace"), re.MULTILINE))
