"""A catalog load: what files say, checked against what is loaded and merged into it, all or nothing.

Source of the rules: CONTRACTS.md "Catalog file", RULES.md section 3 (what is fixed once assigned, status)
and 4 (Assign, editing afterwards). Pure: the caller fetches what exists (`wanted`) and publishes the result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rater.core.catalog.specs import ClientEntry, Content, from_objects, objects
from rater.core.catalog_files.fields import Fault
from rater.core.catalog_files.merge_clients import merge_clients
from rater.core.catalog_files.merge_dids import merge_dids
from rater.core.catalog_files.merge_packages import doubted, merge_packages
from rater.core.catalog_files.merge_shared import merge_rules, merge_shared
from rater.core.catalog_files.merge_state import Existing, Merging
from rater.core.catalog_files.placed import CatalogFile
from rater.core.catalog_files.rate_rows import OpenFile
from rater.core.catalog_files.remarks import warnings
from rater.core.catalog_files.rows import read_files
from rater.core.clients.earlier import whole_second
from rater.core.clients.state import client_package_name, did_name
from rater.core.zones import brought, installed, notes

__all__ = [
    "CatalogFile", "ClientEntry", "Existing", "Fault", "Merged", "OpenFile", "doubted", "from_objects",
    "merge", "objects", "read_files", "wanted", "warnings",
]  # fmt: skip


class Merged(NamedTuple):
    """A load that was accepted: the content, the clients that it changes, and whether it changes anything.

    notes: sentences on names that were read as others, spelt otherwise, and on time zones.
    """

    content: Content
    entries: list[ClientEntry]
    changed: bool
    notes: Sequence[str] = ()


def wanted(file: CatalogFile) -> tuple[set[str], set[str]]:
    """Return the ids of clients, and the names in the account index, that `merge` needs to know of."""
    clients = {placed.value.id for placed in file.clients}
    accounts = {account.id for placed in file.clients for account in placed.value.accounts}
    accounts |= {client_package_name(placed.value.id) for placed in file.client_packages}
    for rows in (file.client_packages, file.identification):
        for placed in rows:
            clients.add(placed.value.client)
            if placed.value.account is not None:
                accounts.add(placed.value.account)
    for did in (placed.value for placed in file.dids):
        if did.account is not None:
            accounts |= {did.account, did_name(did.number)}
    return clients, accounts


def merge(content: Content | None, file: CatalogFile, at_ms: int, existing: Existing) -> Merged | list[Fault]:
    """Return the content with the files' rows and the clients that they change, or every fault.

    `at_ms` is the now of the load. Nothing that is handed in is changed. Loading the same file again changes
    nothing, unless a newer release of tzdata is installed here than the catalog has.
    """
    old, at_ms, release = content or Content(), whole_second(at_ms), installed()
    merging = Merging(old, file, at_ms, existing, brought(old.zones, release, at_ms))
    # Those that others refer to come first.
    merge_shared(merging)
    merge_packages(merging)
    merge_clients(merging)
    merge_rules(merging)
    merge_dids(merging)
    if faults := file.faults + merging.faults:
        return faults
    changed = bool(merging.entries) or merging.new != merging.old
    told = () if content is None else notes(merging.old.zones, merging.new.zones, release)
    said = (*merging.read_otherwise(), *told)
    return Merged(merging.new if changed else merging.old, merging.entries, changed, said)
