"""A load under way: what was loaded, what it becomes, the faults so far, and what names mean."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple

from msgspec.structs import replace

from rater.core.catalog.specs import ClientEntry, Content, IdentificationRule
from rater.core.catalog_files.fields import Fault, what
from rater.core.catalog_files.placed import CatalogFile, Placed
from rater.core.catalog_files.remarks import few, some
from rater.core.clients.state import ClientState, client_package_name
from rater.core.naming import Names, name_key, spelt
from rater.core.zones import Release, Zones

NOWHERE = ", neither in the file nor loaded; correct the name, or load it too"
_DICTS = (
    "currencies", "services", "resellers", "decks", "rate_tables", "tax_profiles", "packages", "dids",
)  # fmt: skip


class Existing(NamedTuple):
    """What exists of the clients, accounts and client packages that a file names (`wanted`)."""

    clients: Mapping[str, ClientState | None]
    """Client id → state; None or absent: there is no such client."""
    accounts: Mapping[str, str]
    """Account, or name of a client package (`client_package_name`) → its client."""
    assigned: AbstractSet[str] = frozenset()
    """Packages that commands assigned, of those that `doubted` names."""


class Merging:
    """One load under way.

    Faulty rows are merged too, so that one run finds all of their faults; the result is thrown away then.
    `faulty` and `lost` silence faults that follow from others, `told` those that were told before.
    """

    def __init__(
        self, old: Content, file: CatalogFile, at_ms: int, existing: Existing, zones: list[Release]
    ) -> None:
        """Begin with a copy of what is loaded. `at_ms`: the now of the load; zones: those to be."""
        self.old = old
        self.new = replace(
            old,
            **{name: dict(getattr(old, name)) for name in _DICTS},
            identification=_ordered(old.identification, [placed.value for placed in file.identification]),
            zones=zones,
        )
        self.zones = Zones(self.new.zones)
        self.file = file
        self.at_ms = at_ms
        self.existing = existing
        self.faults: list[Fault] = []
        self.faulty = set(file.faulty)
        self.lost = set(file.lost)
        self.told: set[tuple[str, ...]] = {(fault.file, fault.path) for fault in file.faults}
        self.entries: list[ClientEntry] = []
        self.brought = {placed.value.id: placed.value for placed in file.clients}
        self.owners = {
            account.id: placed.value.id for placed in file.clients for account in placed.value.accounts
        }
        self.services = old.all_services()
        self.names = {
            "service": Names(self.services), "code deck": Names(old.decks),
            "rate table": Names(old.rate_tables), "tax profile": Names(old.tax_profiles),
        }  # fmt: skip
        """By kind: the names of rows, as they are kept."""
        self.rows: dict[str, dict[str, Placed[Any]]] = {kind: {} for kind in self.names}
        """By kind and name: the file's row."""
        self.notes: list[str] = []
        self._read_as: dict[tuple[str, str, str], list[str]] = {}
        """(kind, as it is written, as it was read) → paths."""
        self.fitting: set[tuple[Any, ...]] = set()
        """What assignments that fit their package and client have in common with others that do so too."""
        self._code_names: dict[str, Names] = {}
        self._clients_of: dict[str, str] | None = None

    def fault(self, placed: Placed[Any], field: str, value: object, problem: str) -> None:
        """Note a fault of a row, unless it is told already; field: its path in the row, "": the row."""
        path = f"{placed.path}.{field}" if field else placed.path
        fault = Fault(placed.file, path, what(value), problem)
        if self.told.isdisjoint(((fault.file, path), (fault.file, path, fault.value))):
            self.told.add((fault.file, path, fault.value))
            self.faults.append(fault)

    def kept_name(self, kind: str, placed: Placed[Any]) -> str:
        """Return the name that a row is kept by: of the row that it is an update of, as that is spelt.

        Two rows of one name are a fault. But what an earlier load kept apart stays so: there each spelling
        means its own row, and another one is a fault.
        """
        name: str = placed.value.name
        if not name:
            return name
        names, rows = self.names[kind], self.rows[kind]
        meant = names.meant(name)
        if len(meant) > 1:
            self.fault(placed, "name", name, _either(meant))
            return name
        kept = meant[0] if meant else name
        names.add(kept)
        other = rows.setdefault(kept, placed)
        if other is not placed:
            problem = f"{other.file}: {other.path} has this name too, spelt {spelt(other.value.name)}"
            self.fault(placed, "name", name, f"{problem}; leave one out, or give it another name")
        elif kept != name:
            self.notes.append(
                f"{kind} {spelt(name)} is {spelt(kept)}, as it was loaded first: that is updated"
            )
        elif len(alike := names.alike(name)) > 1:
            others = ", ".join(spelt(one) for one in alike if one != name)
            self.notes.append(
                f"{kind} {spelt(name)} reads like {others}, and both stay: an earlier load had both"
            )
        if not placed.good:
            self.faulty.add((f"{kind.replace(' ', '_')}s", kept))
        return kept

    def named(
        self, placed: Placed[Any], field: str, name: str | None, among: Container[str], kind: str
    ) -> Any:
        """Return the name of another row, as it is spelt there; a fault where there is none."""
        if name is None or name in among:
            return name
        meant = self.names[kind].meant(name)
        if len(meant) == 1:
            self.read(placed, field, name, meant[0], kind)
            return meant[0]
        if meant:
            self.fault(placed, field, name, _either(meant))
        else:
            self.check_known(placed, field, name, (), kind)
        return name

    def read(self, placed: Placed[Any], field: str, name: str, as_name: str, kind: str) -> None:
        """Note that a name was read as another."""
        self._read_as.setdefault((kind, name, as_name), []).append(f"{placed.path}.{field}")

    def read_otherwise(self) -> list[str]:
        """Return sentences on the names that were read as others."""
        return few(
            self.notes
            + [
                f"{kind} {spelt(name)} ({some(paths)}) is {spelt(meant)}"
                for (kind, name, meant), paths in self._read_as.items()
            ],
            "names",
        )

    def check_currency(self, placed: Placed[Any], name: str) -> None:
        """Refuse a currency that there is not."""
        if not self.new.currency_known(name) and "currencies" not in self.lost:
            known = [self.new.base or "", *self.new.currencies]
            self._missing(placed, "currency", name, known, "currency; give its rate in currencies.rates")

    def check_new_id(self, placed: Placed[Any], of: str) -> None:
        """Refuse an id that ids of transactions and events could not be told apart by: it stands in them.

        Those of an earlier build stay what they are.
        """
        if "/" in of:
            self.fault(placed, "id", of, "has a `/`, which parts ids of transactions; write another")

    def check_known(
        self, placed: Placed[Any], field: str, name: str | None, among: Iterable[str], kind: str
    ) -> None:
        """Refuse a name that is not among these."""
        if name is not None and name not in among and f"{kind.replace(' ', '_')}s" not in self.lost:
            self._missing(placed, field, name, among, kind + NOWHERE)

    def sure(self, section: str, name: str, among: Container[str]) -> bool:
        """Return whether it is there, and without faults: so that more can be checked against it."""
        return name in among and (section, name) not in self.faulty

    def _missing(self, placed: Placed[Any], field: str, name: str, among: Iterable[str], kind: str) -> None:
        key = name_key(name)
        near = [known for known in among if name_key(known) == key]
        self.fault(placed, field, name, f"no such {kind}" + (f"; did you mean {near[0]!r}?" if near else ""))

    def code_names(self, deck: str) -> Names:
        """Return the code names of a deck, all spellings of each."""
        names = self._code_names.get(deck)
        if names is None:
            names = self._code_names[deck] = Names(dict.fromkeys(self.new.decks[deck].codes.values()))
        return names

    def check_owner(self, placed: Placed[Any], client: str, account: str | None) -> None:
        """Refuse a client that does not exist, and an account that is not its own."""
        state = self.existing.clients.get(client)
        if client not in self.brought and state is None:
            self.check_known(placed, "client", client, (), "client")
            return
        if account is None or self.owners.get(account) == client:
            return
        if state is not None and account in state.accounts:
            return
        owner = self.owners.get(account) or self.existing.accounts.get(account)
        if owner:
            self.fault(placed, "account", account, f"belongs to client {owner!r}; correct one of them")
        elif "accounts" not in self.lost or (client in self.brought and self.client_sure(client)):
            self.fault(placed, "account", account, "no such account" + NOWHERE)

    def holder(self, client_package: str) -> str | None:
        """Return which client has the client package already.

        Those of a build before are not in the index, and known of the clients that the file names alone.
        """
        found = self.existing.accounts.get(client_package_name(client_package))
        if found is not None:
            return found
        if self._clients_of is None:
            states = [state for state in self.existing.clients.values() if state is not None]
            self._clients_of = {of.id: state.id for state in states for of in state.packages}
        return self._clients_of.get(client_package)

    def client_sure(self, client: str) -> bool:
        """Return whether the client exists or comes, without faults."""
        if client in self.brought:
            return ("clients", client) not in self.faulty
        return self.existing.clients.get(client) is not None


def changed(spec: Any, **values: Any) -> Any:
    """Return a row with these fields; itself where it has them."""
    if all(getattr(spec, name) == value for name, value in values.items()):
        return spec
    return replace(spec, **values)


def _either(meant: list[str]) -> str:
    """Return the problem of a name that reads like several."""
    return f"may be {' or '.join(map(spelt, meant))}, which are both loaded; write one of them just so"


def _ordered(old: list[IdentificationRule], new: list[IdentificationRule]) -> list[IdentificationRule]:
    """Return the rules: the file's in its order, where the first of them stood; the others around them.

    A rule is known by its conditions. Absence deletes nothing.
    """
    if not new:
        return old
    named = {rule.conditions() for rule in new}
    place = next((n for n, rule in enumerate(old) if rule.conditions() in named), len(old))
    return [*old[:place], *new, *(rule for rule in old[place:] if rule.conditions() not in named)]
