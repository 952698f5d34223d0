"""DIDs: the numbers of the catalog in force, who holds each, and how."""

from __future__ import annotations

from msgspec import Struct

from rater.core.catalog.specs import DidSpec
from rater.core.clients.state import ClientState, did_name, did_of
from rater.core.kinds import DidState
from rater.queries import catalog as catalog_queries
from rater.queries.clients import NotThereError, states_of
from rater.queries.connections import Connections
from rater.store.buckets import Buckets


class DidUse(Struct, frozen=True, kw_only=True):
    """A number now. client, account, client_package: who holds it, None: it is free.

    hold_until_ms: None where it is not on hold.
    """

    number: str
    tags: list[str]
    state: DidState
    client: str | None = None
    account: str | None = None
    client_package: str | None = None
    hold_until_ms: int | None = None


class Wanted(Struct, frozen=True, kw_only=True):
    """Which numbers are asked for; None: whichever."""

    tag: str | None = None
    client: str | None = None
    state: DidState | None = None

    def has(self, did: DidUse) -> bool:
        """Return whether a number is one of those; tags are looked at before."""
        return self.client in (None, did.client) and self.state in (None, did.state)


async def dids(at: Connections, wanted: Wanted) -> list[DidUse]:
    """Return the numbers that are asked for, in order. Raises Halt where what Redis holds cannot be read."""
    catalog = await catalog_queries.newest(at.kafka, at.topics, at.catalogs)
    if catalog is None:
        return []
    specs = [
        spec for _, spec in sorted(catalog.dids.items()) if wanted.tag is None or wanted.tag in spec.tags
    ]
    owners = await at.store.accounts([did_name(spec.number) for spec in specs])
    states = await states_of(at.store, set(filter(None, owners.values())))
    uses = [use_of(spec, states.get(owners.get(did_name(spec.number), ""))) for spec in specs]
    return [use for use in uses if wanted.has(use)]


def use_of(spec: DidSpec, holder: ClientState | None) -> DidUse:
    """Return a number; holder: the client that its entry names. It is free where that holds it no more."""
    found = None if holder is None else did_of(holder, spec.number)
    if holder is None or found is None:
        return DidUse(number=spec.number, tags=spec.tags, state=DidState.FREE)
    held, did = found
    until = did.hold_until_ms
    return DidUse(
        number=spec.number, tags=spec.tags, state=DidState.IN_USE if until is None else DidState.ON_HOLD,
        client=holder.id, account=did.account, client_package=held.id, hold_until_ms=until,
    )  # fmt: skip


async def holder_of(store: Buckets, number: str) -> str:
    """Return the client that holds a number. Raises NotThereError where none does."""
    name = did_name(number)
    client = (await store.accounts([name])).get(name)
    if not client:
        raise NotThereError("DID in use", number)
    return client
