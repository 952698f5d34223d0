"""Clients, merged: what is fixed, whose accounts they are, which rate tables they name."""

from __future__ import annotations

from msgspec.structs import replace

from rater.core.catalog.specs import ClientEntry, ClientSpec, Tables
from rater.core.catalog_files.merge_client_packages import merge_client_packages
from rater.core.catalog_files.merge_state import Merging
from rater.core.catalog_files.placed import Placed
from rater.core.clients.loading import same_client
from rater.core.clients.state import ClientState
from rater.core.naming import spelt


def merge_clients(merging: Merging) -> None:
    """Merge clients, and list those that change with their client packages."""
    packages = merge_client_packages(merging)
    for placed in merging.file.clients:
        state = merging.existing.clients.get(placed.value.id)
        spec = _client(merging, placed, state)
        own = packages.pop(spec.id, [])
        same = state is not None and same_client(state, spec)
        if own or not same:
            merging.entries.append(ClientEntry(spec.id, None if same else spec, own))
    merging.entries.extend(ClientEntry(of, None, own) for of, own in packages.items())


def _client(merging: Merging, placed: Placed[ClientSpec], state: ClientState | None) -> ClientSpec:
    """Return the client with its references as what they mean is spelt, checked."""
    spec, content = placed.value, merging.new
    if state is None:
        merging.check_new_id(placed, spec.id)
    elif state.currency != spec.currency:
        problem = f"the client's currency is {state.currency} and cannot change any more; keep it"
        merging.fault(placed, "currency", spec.currency, problem)
    merging.check_currency(placed, spec.currency)
    merging.check_known(placed, "reseller", spec.reseller, content.resellers, "reseller")
    profile = merging.named(placed, "tax_profile", spec.tax_profile, content.tax_profiles, "tax profile")
    tables = _tables(merging, placed, "rate_tables", spec.rate_tables)
    accounts = spec.accounts
    for position, account in enumerate(accounts):
        if account.rate_tables:
            own = _tables(merging, placed, f"accounts[{position}].rate_tables", account.rate_tables)
            if own is not account.rate_tables:
                accounts = [
                    *accounts[:position],
                    replace(account, rate_tables=own),
                    *accounts[position + 1 :],
                ]
        owner = merging.existing.accounts.get(account.id)
        if owner is not None and owner != spec.id:
            problem = f"belongs to client {owner!r}; account ids are unique in the system, choose another"
            merging.fault(placed, f"accounts[{position}].id", account.id, problem)
    if profile is spec.tax_profile and tables is spec.rate_tables and accounts is spec.accounts:
        return spec
    return replace(spec, tax_profile=profile, rate_tables=tables, accounts=accounts)


def _tables(merging: Merging, placed: Placed[ClientSpec], field: str, tables: Tables) -> Tables:
    """Return rate tables by side and service as these are spelt; the same object where they are so."""
    for names in tables.values():
        for service, name in names.items():
            if name not in merging.new.rate_tables or service not in merging.services:
                return _spelt_tables(merging, placed, field, tables)
    return tables  # as it is by the million: the paths of the others take longer than all else here


def _spelt_tables(merging: Merging, placed: Placed[ClientSpec], field: str, tables: Tables) -> Tables:
    out: Tables = {}
    for side, names in tables.items():
        own = out[side] = {}
        for service, name in names.items():
            table = merging.named(
                placed, f"{field}.{side}.{service}", name, merging.new.rate_tables, "rate table"
            )
            kept = merging.named(placed, f"{field}.{side}", service, merging.services, "service")
            if kept in own or (kept != service and kept in names):
                problem = f"is service {spelt(kept)}, which stands there too; leave one out"
                merging.fault(placed, f"{field}.{side}", service, problem)
            own[kept] = table
    return out
