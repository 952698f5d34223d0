"""DIDs, merged: the inventory of numbers, and those that the load assigns to accounts.

A row with an account that it had not before assigns the number once; a row without one takes nothing away.
"""

from __future__ import annotations

from msgspec.structs import replace

from rater.core.catalog.specs import ClientEntry, DidSpec
from rater.core.catalog_files.merge_state import Merging
from rater.core.catalog_files.placed import Placed
from rater.core.clients.did_rows import fits
from rater.core.clients.state import did_name, did_of
from rater.core.reasons import shown


def merge_dids(merging: Merging) -> None:
    """Merge DIDs, and add those that are assigned to what the load changes of their clients."""
    asked: dict[str, list[tuple[str, str]]] = {}
    for placed in merging.file.dids:
        spec = placed.value
        account, before = spec.account, merging.old.dids.get(spec.number)
        merging.new.dids[spec.number] = spec
        if account is None:
            continue
        client = merging.owners.get(account) or merging.existing.accounts.get(account)
        if client is None:
            merging.check_known(placed, "account", account, (), "account")
        elif (before is None or before.account != account) and _is_to_be(merging, placed, client, account):
            asked.setdefault(client, []).append((spec.number, account))
    if asked:
        merging.entries = [replace(of, dids=asked.pop(of.id, [])) for of in merging.entries]
        merging.entries += [ClientEntry(client, dids=numbers) for client, numbers in asked.items()]


def _is_to_be(merging: Merging, placed: Placed[DidSpec], client: str, account: str) -> bool:
    """Return whether the load has to ask for a number; a fault is noted where that could only be refused."""
    number, tags = placed.value.number, placed.value.tags
    holder = merging.existing.accounts.get(did_name(number))
    state = merging.existing.clients.get(holder or "")
    found = None if state is None else did_of(state, number)
    if found is not None:
        held_by = found[1].account
        if (holder, held_by) == (client, account):
            return False
        problem = f"DID {number} is held by account {held_by!r} of client {holder!r}; release it first"
        merging.fault(placed, "account", account, problem)
    elif _is_sure(merging, client) and not _allowed(merging, placed.value, client, account):
        problem = (
            f"client {client!r} has no client package for it that allows DID {number} "
            f"(tags: {shown(', '.join(tags) or 'none')}); assign one, or correct the tags"
        )
        merging.fault(placed, "account", account, problem)
    return True


def _is_sure(merging: Merging, client: str) -> bool:
    """Return whether what the client and its client packages are to be is known: else other faults say it."""
    return merging.client_sure(client) and "client_packages" not in merging.lost


def _allowed(merging: Merging, spec: DidSpec, client: str, account: str) -> bool:
    """Return whether a client package has a row for a DID; whether it is active and has room is not known."""
    state = merging.existing.clients.get(client)
    has = [
        (held.package, held.account)
        for held in (state.packages if state is not None else ())
        if held.life is None or held.life.ended_ms is None
    ]
    for entry in merging.entries:
        if entry.id == client:
            has += [(of.package, of.account) for of in entry.packages]
    return any(
        not merging.sure("packages", package, merging.new.packages)
        or any(fits(row, spec.tags) for row in merging.new.packages[package].latest.did_limits)
        for package, of in has
        if of in {None, account}
    )
