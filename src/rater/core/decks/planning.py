"""A deck meets the catalog: rate table and code deck as they will be, and the difference; or faults."""

from __future__ import annotations

from hashlib import blake2b
from typing import NamedTuple

import msgspec

from rater.core.catalog.specs import Content, DeckSpec, RateTableSpec
from rater.core.catalog_files.fields import Fault
from rater.core.catalog_files.merging import CatalogFile, Existing, merge, warnings
from rater.core.catalog_files.placed import Placed
from rater.core.catalog_files.remarks import some
from rater.core.catalog_files.unmatched import unmatched
from rater.core.decks.difference import Change, Difference, difference
from rater.core.decks.profile import Profile
from rater.core.decks.reading import RateDeck, Sheet, read_deck
from rater.core.instants import rfc3339
from rater.core.naming import Names, name_key, spelt


class Renamed(NamedTuple):
    """A code whose name in the code deck changes."""

    code: str
    before: str
    after: str


class Plan(NamedTuple):
    """What an import does: the rows to load, and what they change.

    version: of the catalog that it was made for, 0: there is none. deck: without its rows. codes: how many it
    had. names: code → name, as it will be. load_notes: what the load will say besides. seen: a digest of rate
    table and code deck as they were: the same plan comes of the same. is_changed: whether they will differ.
    """

    version: int
    table: RateTableSpec
    is_new: bool
    deck: RateDeck
    codes: int
    difference: Difference
    code_deck: DeckSpec | None
    renamed: list[Renamed]
    names: dict[str, str]
    notes: list[str]
    load_notes: list[str]
    seen: str
    is_changed: bool

    def rows(self) -> CatalogFile:
        """Return what a load takes."""
        file = CatalogFile()
        where = self.deck.sheet.file
        if self.code_deck is not None:
            file.code_decks.append(Placed(where, "code deck", self.code_deck))
        file.rate_tables.append(Placed(where, "rate table", self.table))
        return file


def plan(
    content: Content | None, version: int, sheet: Sheet, table: str, profile: Profile, *,
    effective_ms: int | None, now_ms: int,
) -> Plan | list[Fault]:  # fmt: skip
    """Return what importing a sheet into a rate table does to the catalog of this version, or every fault.

    effective_ms: from when rows hold that do not say it; None: from now on, in a table that is new always.
    """
    old = content or Content()
    try:
        before, empty = _found(old, table, profile)
    except _Refused as error:
        return [Fault(sheet.file, error.where, error.value, error.problem)]
    deck = read_deck(sheet, profile, empty.currency, effective_ms)
    if isinstance(deck, list):
        return deck
    compared = difference(None if before is None else before.rates, deck, profile, now_ms)
    new = RateTableSpec(empty.name, empty.currency, empty.code_deck, compared.rows)
    code_deck, renamed = _named(old, deck, empty.code_deck if profile.code_deck is not None else None)
    names = code_deck.codes if code_deck is not None else _names(old, empty.code_deck)
    codes = len(deck.rows)
    deck = deck._replace(rows=[])  # of large decks 60 MB, which a load needs
    named = old.decks.get(empty.code_deck or "")
    is_changed = before != new or (code_deck is not None and code_deck != named)
    made = Plan(
        version, new, before is None, deck, codes, compared, code_deck, renamed, names, [], [],
        _digest(before, named), is_changed,
    )  # fmt: skip
    merged = merge(old, made.rows(), now_ms, Existing({}, {}))
    if isinstance(merged, list):
        return merged
    file = made.rows()
    notes = [*warnings(file, old), *unmatched(merged.content, file), *merged.notes]
    return made._replace(notes=_notes(made, now_ms), load_notes=notes)


def _digest(table: RateTableSpec | None, code_deck: DeckSpec | None) -> str:
    raw = msgspec.msgpack.encode([table, code_deck], order="deterministic")
    return blake2b(raw, digest_size=16).hexdigest()


class _Refused(Exception):  # noqa: N818 - named for what happened
    """What is asked does not fit what is loaded."""

    def __init__(self, where: str, value: str, problem: str) -> None:
        super().__init__(problem)
        self.where, self.value, self.problem = where, value, problem


def _found(content: Content, table: str, profile: Profile) -> tuple[RateTableSpec | None, RateTableSpec]:
    """Return the table as it is (None: there is none), and without rows as it will be."""
    meant = Names(content.rate_tables).meant(table)
    if len(meant) > 1:
        raise _Refused(
            "--table", table, f"may be {' or '.join(map(spelt, meant))}; write one of them just so"
        )
    deck = _code_deck(content, profile)
    if not meant:
        if not profile.create or profile.currency is None:
            near = ", ".join(sorted(content.rate_tables)[:5])
            known = f" (there are {near})" if near else ""
            problem = f"no such rate table{known}; or give currency and create = true in the profile"
            raise _Refused("--table", table, problem)
        if content.base is None:
            problem = (
                "no catalog has named its currencies yet; load one with `currencies: {base: USD}` "
                "(or yours) by `rater load` first"
            )
            raise _Refused("currency", profile.currency, problem)
        return None, RateTableSpec(table, profile.currency, deck, [])
    before = content.rate_tables[meant[0]]
    if profile.currency not in {None, before.currency}:
        problem = f"the rate table {before.name} is in {before.currency}; import into another one"
        raise _Refused("currency", str(profile.currency), problem)
    if deck is not None and before.code_deck not in {None, deck}:
        problem = f"the rate table {before.name} has the code deck {before.code_deck}; write that one"
        raise _Refused("code_deck", deck, problem)
    return before, RateTableSpec(before.name, before.currency, before.code_deck or deck, [])


def _code_deck(content: Content, profile: Profile) -> str | None:
    """Return the name of the code deck that takes the deck's names, as it is spelt."""
    wanted = profile.code_deck
    if wanted is None:
        return None
    meant = Names(content.decks).meant(wanted)
    if len(meant) > 1:
        raise _Refused("code_deck", wanted, f"may be {' or '.join(map(spelt, meant))}; write one just so")
    if not meant and not profile.create:
        problem = "no such code deck; correct it in the profile, or write create = true there"
        raise _Refused("code_deck", wanted, problem)
    return meant[0] if meant else wanted


def _names(content: Content, code_deck: str | None) -> dict[str, str]:
    deck = content.decks.get(code_deck) if code_deck is not None else None
    return {} if deck is None else deck.codes


def _named(content: Content, deck: RateDeck, name: str | None) -> tuple[DeckSpec | None, list[Renamed]]:
    """Return the code deck of this name with the deck's names, and which change; None: no names are taken.

    A name that is spelt otherwise stays.
    """
    if name is None:
        return None, []
    codes = dict(_names(content, name))
    renamed = []
    for row in deck.rows:
        before = codes.get(row.code)
        if row.name is None or (before is not None and name_key(before) == name_key(row.name)):
            continue
        codes[row.code] = row.name
        if before is not None:
            renamed.append(Renamed(row.code, before, row.name))
    return DeckSpec(name, codes), renamed


def _costs_nothing(change: Change) -> bool:
    """Return whether a change brings a price of 0 or below."""
    after, before = change.after, change.before
    return after is not None and after.price_e10 <= 0 and (before is None or before.price_e10 > 0)


def _notes(made: Plan, now_ms: int) -> list[str]:
    """Return sentences on what people may not expect of the difference."""
    out, compared = list(made.deck.notes), made.difference
    days = [change.from_ms for change in compared.changes if change.from_ms is not None]
    past = [] if made.is_new else [day for day in days if day < now_ms]
    if past:
        out.append(
            f"{len(past)} changes begin before now, the first on {rfc3339(min(past))[:10]}: calls that were "
            "rated since then keep their amounts"
        )
    if compared.without_increment:
        out.append(
            f"{compared.without_increment} new codes without increment are billed by the second; "
            'else give the profile an increment = "60/60"'
        )
    if compared.counts["later"]:
        out.append(f"{compared.counts['later']} codes have rows for later from before, which stay")
    unpaid = [change.code for change in compared.changes if _costs_nothing(change)]
    if unpaid:
        out.append(f"calls cost nothing, or less than nothing, by {len(unpaid)} codes: {some(unpaid)}")
    nameless = sum(change.kind == "new" and change.code not in made.names for change in compared.changes)
    if nameless and made.code_deck is not None:
        out.append(f"{nameless} new codes have no name in the deck: limits by name do not hold for them")
    elif nameless and "name" in made.deck.header.columns:
        where = f"the code deck {made.table.code_deck}" if made.table.code_deck is not None else "a code deck"
        out.append(
            f"{nameless} new codes have no name in {where}: give the profile a code_deck "
            "that takes the deck's names"
        )
    return out
