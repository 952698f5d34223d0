"""A catalog load: what files say, checked against what is loaded and merged into it, all or nothing.

Source of the rules: CONTRACTS.md "Catalog file", RULES.md section 3 (what is fixed once assigned, status)
and 4 (Assign, editing afterwards). Pure: the caller fetches what exists (`wanted`) and publishes the result.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from rater.core.amounts import E10, LIMIT, format_e10
from rater.core.catalog.specs import (
    BUILT_IN,
    ClientEntry,
    ClientPackageSpec,
    ClientSpec,
    Content,
    DeckSpec,
    IdentificationRule,
    LimitSpec,
    PackageHistory,
    PackageSpec,
    ServiceSpec,
    Tables,
    from_objects,
    objects,
)
from rater.core.catalog_files.fields import Fault, what
from rater.core.catalog_files.placed import CatalogFile, Placed
from rater.core.catalog_files.rate_rows import OpenFile
from rater.core.catalog_files.rows import read_files
from rater.core.clients.changes import first_start, same_client, same_package
from rater.core.clients.periods import whole_second
from rater.core.clients.state import ClientPackage, ClientState
from rater.core.naming import Names, hidden, mixed, name_key, spelt
from rater.core.periods import Span, in_step, parse_span, when_ms
from rater.core.zones import Zones, brought, installed, notes

__all__ = [
    "CatalogFile", "ClientEntry", "Existing", "Fault", "Merged", "OpenFile", "from_objects", "merge",
    "objects", "read_files", "wanted", "warnings",
]  # fmt: skip


class Existing(NamedTuple):
    """What exists of the clients and accounts that a file names (`wanted`)."""

    clients: Mapping[str, ClientState | None]
    """Client id → register; None or absent: there is no such client."""
    accounts: Mapping[str, str]
    """Account → its client."""


class Merged(NamedTuple):
    """A load that was accepted: the content, the clients that it changes, and whether it changes anything.

    notes: sentences on names that were read as others, spelt otherwise, and on time zones.
    """

    content: Content
    entries: list[ClientEntry]
    changed: bool
    notes: Sequence[str] = ()


def wanted(file: CatalogFile) -> tuple[set[str], set[str]]:
    """Return the ids of clients and the accounts that `merge` needs to know of."""
    clients = {placed.value.id for placed in file.clients}
    accounts = {account.id for placed in file.clients for account in placed.value.accounts}
    for rows in (file.client_packages, file.identification):
        for placed in rows:
            clients.add(placed.value.client)
            if placed.value.account is not None:
                accounts.add(placed.value.account)
    accounts |= {placed.value.account for placed in file.dids if placed.value.account is not None}
    return clients, accounts


def merge(content: Content | None, file: CatalogFile, at_ms: int, existing: Existing) -> Merged | list[Fault]:
    """Return the content with the files' rows and the clients that they change, or every fault.

    `at_ms` is the now of the load. Nothing that is handed in is changed. Loading the same file again changes
    nothing, unless a newer release of tzdata is installed here than the catalog has.
    """
    merging = _Merging(content or Content(), file, whole_second(at_ms), existing)
    merging.run()
    if faults := file.faults + merging.faults:
        return faults
    changed = bool(merging.entries) or merging.new != merging.old
    told = () if content is None else notes(merging.old.zones, merging.new.zones, installed())
    said = (*merging.read_otherwise(), *told)
    return Merged(merging.new if changed else merging.old, merging.entries, changed, said)


class _Merging:
    """One load under way.

    Rows that are at fault already are merged like the others, as nothing comes of it: for the faults that
    they have besides. What follows from a fault is not told (`faulty`, `lost`), nor a value twice (`told`).
    """

    def __init__(self, old: Content, file: CatalogFile, at_ms: int, existing: Existing) -> None:
        self.old = old
        self.new = replace(
            old,
            **{name: dict(getattr(old, name)) for name in _DICTS},
            identification=_ordered(old.identification, [placed.value for placed in file.identification]),
            zones=brought(old.zones, installed(), at_ms),
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
        self._code_names: dict[str, Names] = {}
        self._clients_of: dict[str, str] | None = None

    def fault(self, placed: Placed[Any], field: str, value: object, problem: str) -> None:
        path = f"{placed.path}.{field}" if field else placed.path
        fault = Fault(placed.file, path, what(value), problem)
        if self.told.isdisjoint(((fault.file, path), (fault.file, path, fault.value))):
            self.told.add((fault.file, path, fault.value))
            self.faults.append(fault)

    def run(self) -> None:
        """Merge every section, those that others refer to first."""
        self._currencies()
        self._services()
        self.new.resellers.update({placed.value.id: placed.value for placed in self.file.resellers})
        for profile in self.file.tax_profiles:
            name = self._row("tax profile", profile)
            self.new.tax_profiles[name] = _with(profile.value, name=name)
        self._decks_and_tables()
        for package in self.file.packages:
            self._package(package)
        self._names_still_known()
        self._clients()
        for rule in self.file.identification:
            self._whose(rule, rule.value.client, rule.value.account)
        self._dids()

    # ---------------------------------------------------------------------------------------- shared content
    def _currencies(self) -> None:
        base, content = self.file.base, self.new
        if base is not None:
            if content.base not in {None, base.value}:
                self.fault(
                    base, "", base.value, f"the base is {content.base} and cannot change any more; keep it"
                )
            elif base.value in content.currencies:
                self.fault(
                    base, "", base.value, "is loaded as a currency with rates; keep the base that it is in"
                )
            if self.faults:
                self.lost.add("currencies")
            content.base = base.value
        for placed in self.file.currencies:
            name = placed.value.name
            if content.base is None and "currencies" not in self.lost:
                self.fault(placed, "", name, "there is no base currency yet; give currencies.base")
            elif name == content.base:
                self.fault(placed, "", name, "is the base, worth 1 of itself; leave it out")
            elif name not in content.currencies:
                known = [content.base or "", *content.currencies]
                other = next((other for other in known if name_key(other) == name_key(name)), None)
                if other is not None:
                    self.fault(placed, "", name, f"differs from {other} in letter case alone; write {other}")
            content.currencies[name] = placed.value.rates

    def _services(self) -> None:
        for placed in self.file.services:
            spec = _with(placed.value, name=self._row("service", placed))
            known = self.new.all_services().get(spec.name)
            if known is not None and known != spec:
                problem = (
                    f"is {known.unit} / {known.price_unit} and cannot change any more; give it another name"
                )
                if placed.good:
                    self.fault(placed, "", f"{spec.unit} / {spec.price_unit}", problem)
            elif spec not in BUILT_IN:
                self.new.services[spec.name] = spec
        self.services = self.new.all_services()

    def _decks_and_tables(self) -> None:
        for placed in self.file.code_decks:
            name = self._row("code deck", placed)
            self.new.decks[name] = _with(placed.value, name=name)
        for placed_table in self.file.rate_tables:
            table = placed_table.value
            self._currency(placed_table, table.currency)
            deck = self._named(placed_table, "code_deck", table.code_deck, self.new.decks, "code deck")
            name = self._row("rate table", placed_table)
            self.new.rate_tables[name] = _with(table, name=name, code_deck=deck)

    # ------------------------------------------------------------------------------------------------- names
    def _row(self, kind: str, placed: Placed[Any]) -> str:
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

    def _named(
        self, placed: Placed[Any], field: str, name: str | None, among: Container[str], kind: str
    ) -> Any:
        """Return the name of another row, as it is spelt there; a fault where there is none."""
        if name is None or name in among:
            return name
        meant = self.names[kind].meant(name)
        if len(meant) == 1:
            self._read(placed, field, name, meant[0], kind)
            return meant[0]
        if meant:
            self.fault(placed, field, name, _either(meant))
        else:
            self._known(placed, field, name, (), kind)
        return name

    def _read(self, placed: Placed[Any], field: str, name: str, as_name: str, kind: str) -> None:
        self._read_as.setdefault((kind, name, as_name), []).append(f"{placed.path}.{field}")

    def read_otherwise(self) -> list[str]:
        """Return sentences on the names that were read as others."""
        return _few(
            self.notes
            + [
                f"{kind} {spelt(name)} ({_some(paths)}) is {spelt(meant)}"
                for (kind, name, meant), paths in self._read_as.items()
            ]
        )

    def _currency(self, placed: Placed[Any], name: str) -> None:
        if not self.new.currency_known(name) and "currencies" not in self.lost:
            known = [self.new.base or "", *self.new.currencies]
            self._missing(placed, "currency", name, known, "currency; give its rate in currencies.rates")

    def _known(
        self, placed: Placed[Any], field: str, name: str | None, among: Iterable[str], kind: str
    ) -> None:
        if name is not None and name not in among and f"{kind.replace(' ', '_')}s" not in self.lost:
            self._missing(placed, field, name, among, kind + _NOWHERE)

    def _sure(self, section: str, name: str, among: Container[str]) -> bool:
        """Return whether it is there, and without faults: so that more can be checked against it."""
        return name in among and (section, name) not in self.faulty

    def _missing(self, placed: Placed[Any], field: str, name: str, among: Iterable[str], kind: str) -> None:
        key = name_key(name)
        near = [known for known in among if name_key(known) == key]
        self.fault(placed, field, name, f"no such {kind}" + (f"; did you mean {near[0]!r}?" if near else ""))

    # ---------------------------------------------------------------------------------------------- packages
    def _package(self, placed: Placed[PackageSpec]) -> None:
        spec = placed.value
        old, faults = self.old.packages.get(spec.id), len(self.faults)
        if old is not None and old.assigned:
            self._check_fixed(placed, old.latest, spec)
        self._currency(placed, spec.currency)
        self._known(placed, "reseller", spec.reseller, self.new.resellers, "reseller")
        spec = replace(spec, limits=[self._limit(placed, n, limit) for n, limit in enumerate(spec.limits)])
        if old is not None and old.status == "archived":
            del self.faults[faults:]  # its code names may have gone since: it is final, and stays as it is
            if spec != old.latest and placed.good:
                problem = "archived, which is final; make a new one, or keep all as it was"
                self.fault(placed, "", spec.id, problem)
            return
        self.new.packages[spec.id] = _history(old, spec, self.at_ms)

    def _limit(self, placed: Placed[PackageSpec], position: int, limit: LimitSpec) -> LimitSpec:
        """Return the limit in counting units, its references checked."""
        here = Placed(placed.file, f"{placed.path}.limits[{position}]", limit)
        limit = _with(
            limit,
            service=self._named(here, "service", limit.service, self.services, "service"),
            code_deck=self._named(here, "code_deck", limit.code_deck, self.new.decks, "code deck"),
        )
        deck = limit.code_deck or ""
        if limit.code_name is not None and self._sure("code_decks", deck, self.new.decks):
            kind = f"code name in code deck {deck!r}"
            meant = self._names_in(deck).meant(limit.code_name)
            if not meant:
                self._known(here, "code_name", limit.code_name, (), kind)
            elif meant[0] != limit.code_name:
                self._read(here, "code_name", limit.code_name, meant[0], "code name")
        if not self._sure("services", limit.service, self.services):
            return replace(limit, limit=0)  # cannot be counted
        if limit.type != "volume":
            return limit
        service = self.services[limit.service]
        return replace(
            limit,
            limit=self._counted(here, "limit", limit.limit, service),
            rollover=self._counted(here, "rollover", limit.rollover, service),
        )

    def _counted(self, here: Placed[LimitSpec], field: str, e10: int, service: ServiceSpec) -> int:
        """Return a volume in counting units, from 10^-10 price units."""
        count, rest = divmod(e10 * service.price_unit, E10)
        if rest:
            unit = f"{service.unit}s, of which {service.price_unit} are one price unit"
            self.fault(here, field, format_e10(e10), f"not a whole number of {unit}; round it")
        if count > LIMIT:
            self.fault(here, field, format_e10(e10), f"more than {LIMIT} {service.unit}s; make it smaller")
        return count

    def _names_in(self, deck: str) -> Names:
        """Return the code names of a deck, all spellings of each."""
        names = self._code_names.get(deck)
        if names is None:
            names = self._code_names[deck] = Names(dict.fromkeys(self.new.decks[deck].codes.values()))
        return names

    def _check_fixed(self, placed: Placed[PackageSpec], old: PackageSpec, spec: PackageSpec) -> None:
        """Refuse what may not change since the package was assigned."""
        for field in ("currency", "type"):
            before, after = getattr(old, field), getattr(spec, field)
            if before != after:
                problem = f"it is {before}, and fixed since the package was assigned; keep it"
                self.fault(placed, field, after, problem)

    def _names_still_known(self) -> None:
        """Refuse a deck without a code name that a package which is not in the file goes by."""
        replaced = {name: placed for name, placed in self.rows["code deck"].items() if placed.good}
        if not replaced:
            return
        brought = {placed.value.id for placed in self.file.packages}
        for of, history in self.new.packages.items():
            if of in brought or history.status == "archived":
                continue
            for limit in history.latest.limits:
                deck = limit.code_deck or ""
                if deck in replaced and limit.code_name and not self._names_in(deck).alike(limit.code_name):
                    problem = (
                        f"lacks this code name, which limit {limit.id!r} of package {of!r} is for; keep it"
                    )
                    self.fault(replaced[deck], "codes", limit.code_name, problem)

    # ----------------------------------------------------------------------------------------------- clients
    def _clients(self) -> None:
        packages = self._client_packages()
        for placed in self.file.clients:
            register = self.existing.clients.get(placed.value.id)
            spec = self._client(placed, register)
            own = packages.pop(spec.id, [])
            same = register is not None and same_client(register, spec)
            if own or not same:
                self.entries.append(ClientEntry(spec.id, None if same else spec, own))
        self.entries.extend(ClientEntry(of, None, own) for of, own in packages.items())

    def _client(self, placed: Placed[ClientSpec], register: ClientState | None) -> ClientSpec:
        """Return the client with its references as what they mean is spelt, checked."""
        spec, content = placed.value, self.new
        if register is not None and register.currency != spec.currency:
            problem = f"the client's currency is {register.currency} and cannot change any more; keep it"
            self.fault(placed, "currency", spec.currency, problem)
        self._currency(placed, spec.currency)
        self._known(placed, "reseller", spec.reseller, content.resellers, "reseller")
        profile = self._named(placed, "tax_profile", spec.tax_profile, content.tax_profiles, "tax profile")
        tables = self._tables(placed, "rate_tables", spec.rate_tables)
        accounts = spec.accounts
        for position, account in enumerate(accounts):
            if account.rate_tables:
                own = self._tables(placed, f"accounts[{position}].rate_tables", account.rate_tables)
                if own is not account.rate_tables:
                    accounts = [
                        *accounts[:position],
                        replace(account, rate_tables=own),
                        *accounts[position + 1 :],
                    ]
            owner = self.existing.accounts.get(account.id)
            if owner is not None and owner != spec.id:
                problem = f"belongs to client {owner!r}; account ids are unique in the system, choose another"
                self.fault(placed, f"accounts[{position}].id", account.id, problem)
        if profile is spec.tax_profile and tables is spec.rate_tables and accounts is spec.accounts:
            return spec
        return replace(spec, tax_profile=profile, rate_tables=tables, accounts=accounts)

    def _tables(self, placed: Placed[ClientSpec], field: str, tables: Tables) -> Tables:
        """Return rate tables by side and service as these are spelt; the same object where they are so."""
        for names in tables.values():
            for service, name in names.items():
                if name not in self.new.rate_tables or service not in self.services:
                    return self._spelt_tables(placed, field, tables)
        return tables  # as it is by the million: the paths of the others take longer than all else here

    def _spelt_tables(self, placed: Placed[ClientSpec], field: str, tables: Tables) -> Tables:
        out: Tables = {}
        for side, names in tables.items():
            own = out[side] = {}
            for service, name in names.items():
                table = self._named(
                    placed, f"{field}.{side}.{service}", name, self.new.rate_tables, "rate table"
                )
                kept = self._named(placed, f"{field}.{side}", service, self.services, "service")
                if kept in own or (kept != service and kept in names):
                    problem = f"is service {spelt(kept)}, which stands there too; leave one out"
                    self.fault(placed, f"{field}.{side}", service, problem)
                own[kept] = table
        return out

    def _whose(self, placed: Placed[Any], client: str, account: str | None) -> None:
        """Refuse a client that does not exist, and an account that is not its own."""
        register = self.existing.clients.get(client)
        if client not in self.brought and register is None:
            self._known(placed, "client", client, (), "client")
            return
        if account is None or self.owners.get(account) == client:
            return
        if register is not None and account in register.accounts:
            return
        owner = self.owners.get(account) or self.existing.accounts.get(account)
        if owner:
            self.fault(placed, "account", account, f"belongs to client {owner!r}; correct one of them")
        elif "accounts" not in self.lost or (client in self.brought and self._client_sure(client)):
            self.fault(placed, "account", account, "no such account" + _NOWHERE)

    def _dids(self) -> None:
        for placed in self.file.dids:
            account = placed.value.account
            if account not in self.owners:
                self._known(placed, "account", account, self.existing.accounts, "account")
            self.new.dids[placed.value.number] = placed.value

    # --------------------------------------------------------------------------------------- client packages
    def _client_packages(self) -> dict[str, list[ClientPackageSpec]]:
        """Return the client packages that change, by client."""
        out: dict[str, list[ClientPackageSpec]] = {}
        held: dict[str, dict[str, ClientPackage]] = {}
        for placed in self.file.client_packages:
            spec = placed.value
            before = self._held(held, spec.client).get(spec.id)
            if before is not None and same_package(before, spec):
                continue
            if before is None:
                self._assign(placed)
            else:
                self._edit(placed, before)
            out.setdefault(spec.client, []).append(spec)
        return out

    def _held(self, held: dict[str, dict[str, ClientPackage]], client: str) -> dict[str, ClientPackage]:
        """Return what the client has already, by id."""
        found = held.get(client)
        if found is None:
            register = self.existing.clients.get(client)
            found = held[client] = {of.id: of for of in register.packages} if register is not None else {}
        return found

    def _owner(self, client_package: str) -> str | None:
        """Return which client has the client package already, of those that the file names."""
        if self._clients_of is None:
            registers = [register for register in self.existing.clients.values() if register is not None]
            self._clients_of = {of.id: register.id for register in registers for of in register.packages}
        return self._clients_of.get(client_package)

    def _assign(self, placed: Placed[ClientPackageSpec]) -> None:
        spec = placed.value
        self._whose(placed, spec.client, spec.account)
        owner = self._owner(spec.id)
        if owner is not None:
            problem = f"is one of client {owner!r}; ids are unique in the system, choose another"
            self.fault(placed, "id", spec.id, problem)
        history = self.new.packages.get(spec.package)
        if history is None:
            self._known(placed, "package", spec.package, self.new.packages, "package")
            return
        if ("packages", spec.package) in self.faulty:
            return
        if history.status != "active":
            remedy = "enable it first" if history.status == "disabled" else "assign another"
            self.fault(placed, "package", spec.package, f"{history.status}: it cannot be assigned; {remedy}")
        if not history.assigned:
            self.new.packages[spec.package] = replace(history, assigned=True)
        self._check_quantity(placed, history.latest)
        if not self._client_sure(spec.client):
            return
        if placed.good:
            self._check_runs(placed, history.latest)
        if history.latest.align_to_payment_terms:
            self._check_aligned(placed, history.latest)

    def _client_sure(self, client: str) -> bool:
        if client in self.brought:
            return ("clients", client) not in self.faulty
        return self.existing.clients.get(client) is not None

    def _check_quantity(self, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
        largest = max((limit.limit for limit in package.limits), default=0)
        if largest * placed.value.quantity > LIMIT:
            problem = f"times the largest limit it is more than counters hold, {LIMIT}; make it smaller"
            self.fault(placed, "quantity", placed.value.quantity, problem)

    def _check_runs(self, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
        """Refuse an assignment whose first period would begin at its end, or after it."""
        spec = placed.value
        if spec.end_date is None and package.end_date is None:
            return
        zone = self._zone(spec.client)
        package_start = None if package.start_date is None else when_ms(package.start_date, zone)
        start = first_start(spec, package_start, zone, self.at_ms)
        if spec.end_date is not None and when_ms(spec.end_date, zone) <= start:
            problem = "not after the start of the first period, so it would never run; change the dates"
            self.fault(placed, "end_date", spec.end_date, problem)
        elif package.end_date is not None and when_ms(package.end_date, zone) <= start:
            problem = f"ends on {package.end_date}, before the first period would start; change the dates"
            self.fault(placed, "package", spec.package, problem)

    def _check_aligned(self, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
        """Refuse a package whose period does not go with the client's payment terms."""
        client = placed.value.client
        spec, register = self.brought.get(client), self.existing.clients.get(client)
        terms = spec.payment_terms if spec is not None else register.terms if register is not None else None
        if terms is None:
            problem = "aligned to payment terms, which the client has not; give the client payment_terms"
            self.fault(placed, "package", package.id, problem)
        elif package.period and not in_step(parse_span(package.period), parse_span(terms.every)):
            problem = (
                f"its period ({package.period}) does not fit the client's payment terms ({terms.every}): "
                "neither is a multiple of the other; assign another, or change one of them"
            )
            self.fault(placed, "package", package.id, problem)

    def _zone(self, client: str) -> ZoneInfo:
        spec, register = self.brought.get(client), self.existing.clients.get(client)
        if spec is not None:
            return self.zones.at(spec.time_zone, self.at_ms)
        return self.zones.at("UTC" if register is None else register.zone, self.at_ms)

    def _edit(self, placed: Placed[ClientPackageSpec], held: ClientPackage) -> None:
        """Check a changed row of what is assigned: the end date may change, and not to before now."""
        spec = placed.value
        for field in ("account", "package", "start_date", "activate_in_past", "quantity"):
            before, after = getattr(held, field), getattr(spec, field)
            if before != after:
                problem = f"it is {what(before)} and cannot change any more; {_ANEW}"
                self.fault(placed, field, after, problem)
        if held.end_date == spec.end_date:
            return
        history = self.new.packages.get(spec.package)
        if history is not None and history.status == "archived":
            self.fault(placed, "package", spec.package, "archived, which is final; leave the row as it was")
        if not self._client_sure(spec.client):
            return
        end_ms = None if spec.end_date is None else when_ms(spec.end_date, self._zone(spec.client))
        if held.end_ms is not None and held.end_ms <= self.at_ms:
            problem = f"it ended on {held.end_date}, which is final; {_ANEW}"
            self.fault(placed, "end_date", spec.end_date, problem)
        elif end_ms is not None and end_ms < self.at_ms:
            self.fault(placed, "end_date", spec.end_date, "before now; write now or later")
        elif end_ms is not None and end_ms <= held.start_ms:
            problem = "not after the start of the first period; write a later one"
            self.fault(placed, "end_date", spec.end_date, problem)


_NOWHERE = ", neither in the file nor loaded; correct the name, or load it too"
_ANEW = "assign the package anew under another id"


def _either(meant: list[str]) -> str:
    """Return the problem of a name that reads like several."""
    return f"may be {' or '.join(map(spelt, meant))}, which are both loaded; write one of them just so"


def _with(spec: Any, **values: Any) -> Any:
    """Return a row with these fields; itself where it has them."""
    if all(getattr(spec, name) == value for name, value in values.items()):
        return spec
    return replace(spec, **values)


_DICTS = (
    "currencies", "services", "resellers", "decks", "rate_tables", "tax_profiles", "packages", "dids",
)  # fmt: skip


def _history(old: PackageHistory | None, spec: PackageSpec, at_ms: int) -> PackageHistory:
    """Return the package's history with what a load says; the same object when that changes nothing."""
    if old is None:
        return PackageHistory([(at_ms, spec)], [(at_ms, spec.status)])
    if spec == old.latest:
        return old
    versions, statuses = list(old.versions), list(old.statuses)
    since, latest = versions[-1]
    if replace(spec, status=latest.status) == latest or not old.assigned:
        # The status has a history of its own, and what was never assigned has no period that keeps a version.
        versions[-1] = (since, spec)
    else:
        versions.append((_later(since, at_ms), spec))
    if spec.status != old.status:
        statuses.append((_later(statuses[-1][0], at_ms), spec.status))
    return PackageHistory(versions, statuses, old.assigned)


def _later(since: int, at_ms: int) -> int:
    """Return when a change holds from: its load, and after the one before even when a clock was put back."""
    return max(at_ms, since + 1000)


def _ordered(old: list[IdentificationRule], new: list[IdentificationRule]) -> list[IdentificationRule]:
    """Return the rules: the file's in its order, where the first of them stood; the others around them.

    A rule is known by its conditions. Absence deletes nothing.
    """
    if not new:
        return old
    named = {rule.conditions() for rule in new}
    place = next((n for n, rule in enumerate(old) if rule.conditions() in named), len(old))
    return [*old[:place], *new, *(rule for rule in old[place:] if rule.conditions() not in named)]


# ---------------------------------------------------------------------------------------------- warnings
def warnings(file: CatalogFile, content: Content | None = None) -> list[str]:
    """Return sentences on what the file says that is unusual, or kept without effect yet.

    `content` is what was loaded before.
    """
    packages = [placed.value for placed in file.packages]
    out = [
        f"{subject} ({_some(ids)}): {effect}"
        for subject, effect, has in _NOTES
        if (ids := [spec.id for spec in packages if has(spec)])
    ]
    if file.tax_profiles:
        out.append("tax profiles: kept, but no tax is charged yet")
    if file.dids:
        out.append("dids: kept, but nothing is decided by them yet")
    if ids := [placed.value.id for placed in file.clients if placed.value.low_balance is not None]:
        out.append(f"low_balance of clients ({_some(ids)}): kept, but no event tells of it yet")
    out += _few([note for placed in file.code_decks for note in _code_names(placed.value)])
    out += _hidden_ids(file)
    before = content.packages if content is not None else {}
    for spec in packages:
        old = before.get(spec.id)
        if old is not None and old.assigned and old.latest.name != spec.name:
            names = f"{old.latest.name!r} becomes {spec.name!r}"
            out.append(
                f"package {spec.id} is assigned and renamed, {names}: earlier transactions keep the old name"
            )
    return out


_NOTES: tuple[tuple[str, str, Callable[[PackageSpec], bool]], ...] = (
    ("fees of packages", "kept, but not charged yet", lambda spec: bool(spec.fees)),
    ("discounts of packages", "kept, but not applied yet", lambda spec: bool(spec.discounts)),
    ("DID limits of packages", "kept, but not enforced yet", lambda spec: bool(spec.did_limits)),
    (
        "on_hold_days of packages",
        "differ from renew_for, so DIDs are freed before or after the wait for funds ends",
        lambda spec: any(
            row.on_hold_days and spec.renew_for not in {None, str(Span(row.on_hold_days, "day"))}
            for row in spec.did_limits
        ),
    ),
    (
        "align_to_payment_terms",
        "kept, but not applied yet: the first period is a whole one with full limits",
        lambda spec: spec.align_to_payment_terms,
    ),
    ("charge_on_event", "kept, but no fee is charged yet", lambda spec: spec.charge_on_event),
    (
        "advance_renew and renew_for",
        "kept, but periods follow each other without a test of funds yet",
        lambda spec: spec.advance_renew is not None or spec.renew_for is not None,
    ),
    (
        "rollover of limits",
        "kept, but unused volume is not moved yet",
        lambda spec: any(limit.rollover for limit in spec.limits),
    ),
)


def _code_names(deck: DeckSpec) -> Iterable[str]:
    """Yield sentences on code names that are one in several spellings, or look like another one."""
    counts = Counter(deck.codes.values())
    for alike in Names(counts).doubles():
        spellings = [f"{spelt(name)} ({_codes(counts[name])})" for name in alike]
        yield f"code deck {what(deck.name)}: {_and(spellings)} are one name"
    for name in counts:
        if (word := mixed(name)) is not None:
            yield (
                f"code deck {what(deck.name)}: {spelt(name)} ({_codes(counts[name])}) mixes letters of two "
                f"alphabets in {spelt(word)}: it is another name than one that looks the same ({word!a})"
            )


def _codes(count: int) -> str:
    return "1 code" if count == 1 else f"{count} codes"


def _and(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _hidden_ids(file: CatalogFile) -> list[str]:
    """Return sentences on ids with what one does not see: ids are compared character by character."""
    found = {
        "resellers": [placed.value.id for placed in file.resellers],
        "packages": [placed.value.id for placed in file.packages],
        "clients": [placed.value.id for placed in file.clients],
        "accounts": [account.id for placed in file.clients for account in placed.value.accounts],
        "client packages": [placed.value.id for placed in file.client_packages],
    }
    return [
        f"ids of {section} ({_some([spelt(of) for of in odd])}): a blank at an end and an invisible "
        "character are part of an id"
        for section, ids in found.items()
        if (odd := [of for of in ids if hidden(of)])
    ]


_NOTES_SHOWN = 20


def _few(notes: list[str]) -> list[str]:
    """Return the first of the notes, and how many more there are: a deck may have them by the thousand."""
    more = len(notes) - _NOTES_SHOWN
    return notes if more <= 0 else [*notes[:_NOTES_SHOWN], f"and {more} more notes on names like these"]


def _some(ids: list[str]) -> str:
    shown = 5
    return ", ".join(ids[:shown]) + (f" and {len(ids) - shown} more" if len(ids) > shown else "")
