"""An audit looks at clients and DIDs in Redis, again and again where they differ, until that is settled.

It runs while workers rate. Then the store is ahead of the journal (or the journal that was read is behind):
a client that differs is looked at again after reading on. What was published by then explains it, or it is a
finding when it differs while nothing of it moves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rater.core.clients.state import did_name
from rater.core.journal.comparing import (
    Book,
    Finding,
    Step,
    Stored,
    compare,
    compare_dids,
    compare_entry,
    held_numbers,
    is_on_its_way,
)
from rater.store.buckets import Buckets

ROUNDS_MAX = 20
"""How often what differs is looked at again, PAUSE_S apart, while the journal goes on."""
PAUSE_S = 0.5
QUIET_ROUNDS = 3
"""What differs over so many rounds without a new record of it is a finding."""

CLIENTS_AT_ONCE = 50
"""Clients of which the state is asked for at once, each by a connection: services count these, and to begin
200 by TLS takes a busy machine longer than a call may take."""


ReadOn = Callable[[Collection[str]], Awaitable[Mapping[str, Sequence[Step]]]]
"""Reads what the journal has by then; returns the steps of these clients in it."""


class Settled(NamedTuple):
    """found: name → what is wrong. unsettled: names of clients that moved all the time."""

    found: dict[str, list[Finding]]
    unsettled: list[str]


class Looks:
    """What is looked at: clients by their ids, DIDs as the account index names them (`did_name`)."""

    def __init__(
        self,
        store: Buckets,
        book: Callable[[str], Book],
        usage: Callable[[str], int | None],
        inventory: Container[str] | None = None,
    ) -> None:
        """book: what the journal says of a client. usage: as of `compare`. inventory: DIDs of the catalog."""
        self._store, self._book, self._usage, self.inventory = store, book, usage, inventory
        self._stored: dict[str, Stored | None] = {}
        """Clients that differed when they were looked at last, as the store had them."""

    async def look(self, names: Iterable[str]) -> dict[str, list[Finding]]:
        """Return what differs now, by name."""
        found: dict[str, list[Finding]] = {}
        for some in batched(sorted(names), CLIENTS_AT_ONCE):
            numbers = [name[1:] for name in some if name.startswith(did_name(""))]
            found |= await self._clients([name for name in some if not name.startswith(did_name(""))])
            found |= await self._dids(numbers)
        return found

    async def _clients(self, names: Sequence[str]) -> dict[str, list[Finding]]:
        stored = dict(zip(names, await asyncio.gather(*(self._ask(name) for name in names)), strict=True))
        held = {name: numbers for name in names if (numbers := held_numbers(stored[name]))}
        owners = await self._owners([number for numbers in held.values() for number in numbers])
        found = {
            name: [
                *compare(name, self._book(name), stored[name], self._usage),
                *compare_dids(name, held.get(name, ()), owners, self.inventory),
            ]
            for name in names
        }
        wrong = {name: findings for name, findings in found.items() if findings}
        self._stored |= {name: stored[name] for name in wrong}
        return wrong

    async def _dids(self, numbers: Sequence[str]) -> dict[str, list[Finding]]:
        owners = await self._owners(numbers)
        states = await self._store.states(owners.values()) if owners else {}
        found = {}
        for number in numbers:
            owner = owners.get(did_name(number))
            state = None if owner is None else states.get(owner)
            held = held_numbers(None if state is None else Stored(0, {}, state))
            found[did_name(number)] = [*compare_entry(number, owner, held)]
        return {name: findings for name, findings in found.items() if findings}

    async def _owners(self, numbers: Iterable[str]) -> dict[str, str]:
        names = [did_name(number) for number in numbers]
        return await self._store.accounts(names) if names else {}

    async def _ask(self, name: str) -> Stored | None:
        found = await self._store.client(name)
        return None if found is None else Stored(found[1], found[2], found[0])

    async def settle(self, suspects: dict[str, list[Finding]], read_on: ReadOn) -> Settled:
        """Look at what differs until it is settled."""
        quiet = dict.fromkeys(suspects, 0)
        for _ in range(ROUNDS_MAX):
            if all(quiet[name] >= QUIET_ROUNDS for name in suspects):
                break
            await asyncio.sleep(PAUSE_S)
            before = {name: self._book(name).moved() for name in suspects}
            steps = await read_on(suspects)
            suspects = await self.look(
                name
                for name, found in suspects.items()
                if name not in steps or not self._explained(name, found, before[name][:2], steps[name])
            )
            for name in suspects:
                quiet[name] = quiet[name] + 1 if self._book(name).moved() == before[name] else 0
        self._stored.clear()
        settled = {name: found for name, found in suspects.items() if quiet[name] >= QUIET_ROUNDS}
        return Settled(settled, [name for name in suspects if name not in settled])

    def _explained(
        self,
        name: str,
        found: Sequence[Finding],
        before: tuple[int, Mapping[str, int]],
        steps: Sequence[Step],
    ) -> bool:
        """Return whether sums alone differed, and by what was published since."""
        stored = self._stored.get(name)
        sums = all(one.kind in {"balance", "counter"} for one in found)
        return stored is not None and sums and is_on_its_way(before, stored, steps)


def batched(names: list[str], size: int) -> Iterator[list[str]]:
    """Yield the names in lists of at most `size`."""
    for at in range(0, len(names), size):
        yield names[at : at + size]
