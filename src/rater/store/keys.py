"""Names of the keys in Redis. All keys of a bucket share its hash tag, so a bucket lives on one cluster node.

What the user that rater connects as may do: config/redis-worker.acl.
"""

from __future__ import annotations

import re
from zlib import crc32

ACCOUNT_SHARDS = 64
"""Hashes that a bucket's account index is spread over, so that none grows too large to move or to delete."""


class Keys:
    """The keys of one bucket."""

    __slots__ = ("_base", "_buckets", "client", "client_state", "gate", "nothing", "unsettled")

    def __init__(self, prefix: str, bucket: int, buckets: int) -> None:
        """Name the keys of `bucket`, one of `buckets`."""
        base = f"{prefix}{{{bucket}}}:"
        self._base = base
        self._buckets = buckets
        self.gate = f"{base}g"
        self.unsettled = f"{base}w"
        self.nothing = f"{base}m"
        """Never written: who names it is refused while the slot is moved key by key (PROTOCOL.md 5.6)."""
        self.client = f"{base}c:"  # to be followed by the client's id
        self.client_state = f"{base}r:"  # the same

    def lane(self, lane: int) -> str:
        """Return the hash of a lane's token, call, floor and base."""
        return f"{self._base}l:{lane}"

    def outcomes(self, lane: int) -> str:
        """Return the hash of a lane's outcomes that are not known to be committed."""
        return f"{self._base}o:{lane}"

    def accounts(self, account: str) -> str:
        """Return the hash that an account's index entry is in."""
        # Not the remainder itself: the bucket is a remainder of the same number.
        return self.account_shard(crc32(account.encode()) // self._buckets % ACCOUNT_SHARDS)

    def account_shard(self, shard: int) -> str:
        """Return one of the hashes that the account index is spread over."""
        return f"{self._base}a:{shard}"

    def generation(self, generation: int) -> str:
        """Return the hash of the duplicate keys of a generation."""
        return f"{self._base}u:{generation}"

    def cells(self, generation: int) -> str:
        """Return the string that tells which duplicate keys a generation may have."""
        return f"{self._base}f:{generation}"

    def due(self, hour: int) -> str:
        """Return the list of an hour's hints in the due index."""
        return f"{self._base}d:{hour}"

    def members(self, package: str) -> str:
        """Return the list of the clients that were ever given a package."""
        return f"{self._base}p:{package}"

    def history(self, client: str) -> str:
        """Return the hash of a client's periods that have left its state."""
        return f"{self._base}h:{client}"

    def copies(self, lane: int) -> str:
        """Return the hash of a lane's changes that other lanes went on from."""
        return f"{self._base}k:{lane}"


def meta_key(prefix: str) -> str:
    """Return the hash of what is fixed at provisioning: `buckets` and `lanes`."""
    return f"{prefix}{{0}}:meta"


def states_pattern(prefix: str) -> str:
    """Return the SCAN pattern of all clients' states.

    A prefix holds no character that is special there.
    """
    return f"{prefix}{{*}}:r:*"


def kind_of(prefix: str, key: str) -> tuple[int, str, str] | None:
    """Return bucket, kind (a letter) and name of a key that is of something; None: it is another key."""
    found = re.fullmatch(rf"{re.escape(prefix)}\{{([0-9]+)\}}:([a-z]):(.*)", key, re.DOTALL)
    return (int(found[1]), found[2], found[3]) if found else None


def client_of(prefix: str, key: str) -> str | None:
    """Return the client whose state this key is, None when it is another key."""
    found = re.fullmatch(rf"{re.escape(prefix)}\{{[0-9]+\}}:r:(.*)", key, re.DOTALL)
    return found[1] if found else None
