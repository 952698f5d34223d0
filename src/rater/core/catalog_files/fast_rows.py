"""Clients and client packages of a catalog file, read at once: they come by the million.

Read field by field, to tell all that is wrong, a client's row takes 10 µs and a client package's 2.5; one
whose fields all have their types takes 3 and 1. And a JSON file becomes these rows without mappings between:
4 µs of a client and its package in place of 8. None: it is not so, and is read field by field.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from rater.core.amounts import QUANTITY_MAX
from rater.core.catalog.specs import AccountSpec, ClientPackageSpec, ClientSpec, TermsSpec
from rater.core.catalog_files.fields import CURRENCY, TEXT_CHARS_MAX, is_over, micros
from rater.core.cdr import SIDES
from rater.core.json_text import UNREADABLE
from rater.core.periods import canonical_when, parse_span, zone_of

_Text = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
_TableNames = dict[str, dict[_Text, _Text]]


class _Account(Struct, forbid_unknown_fields=True, omit_defaults=True):
    id: _Text
    rate_tables: _TableNames | UnsetType | None = UNSET


class _Terms(Struct, forbid_unknown_fields=True):
    every: _Text
    anchor: _Text


class ClientRow(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A client's row; UNSET: the field is not there."""

    id: _Text
    currency: _Text
    name: Annotated[str, Meta(max_length=TEXT_CHARS_MAX)] | UnsetType | None = UNSET
    reseller: _Text | UnsetType | None = UNSET
    time_zone: _Text | UnsetType | None = UNSET
    balance: str | UnsetType | None = UNSET
    credit_limit: str | UnsetType | None = UNSET
    low_balance: str | UnsetType | None = UNSET
    payment_terms: _Terms | UnsetType | None = UNSET
    tax_profile: _Text | UnsetType | None = UNSET
    rate_tables: _TableNames | UnsetType | None = UNSET
    accounts: list[_Account] | UnsetType | None = UNSET


class ClientPackageRow(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A client package's row; UNSET: the field is not there."""

    id: _Text
    client: _Text
    package: _Text
    account: _Text | UnsetType | None = UNSET
    start_date: str | UnsetType | None = UNSET
    end_date: str | UnsetType | None = UNSET
    activate_in_past: bool | UnsetType | None = UNSET
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)] | UnsetType | None = UNSET


def client_of(row: ClientRow) -> ClientSpec | None:
    """Return the client that a row says."""
    zone, terms, own = row.time_zone or "UTC", row.payment_terms or None, row.accounts or ()
    try:
        zone_of(zone)
        spec = ClientSpec(
            row.id, row.currency, row.name or "", row.reseller or None, zone,
            _amount(row.balance) or 0, _amount(row.credit_limit) or 0, _amount(row.low_balance),
            None if terms is None else TermsSpec(str(parse_span(terms.every)), canonical_when(terms.anchor)),
            row.tax_profile or None, row.rate_tables or {},
            [AccountSpec(account.id, account.rate_tables or {}) for account in own],
        )  # fmt: skip
    except ValueError:
        return None
    texts = [row.id, spec.name, zone, row.reseller or "", row.tax_profile or "", terms.every if terms else ""]
    for tables in (spec.rate_tables, *[account.rate_tables for account in spec.accounts]):
        for side, names in tables.items():
            if side not in SIDES or not names:
                return None
            texts += names.values()
    texts += [account.id for account in own]
    good = spec.credit_limit >= 0 and "".join(texts).isprintable() and CURRENCY.fullmatch(row.currency)
    return spec if good else None


def _amount(text: str | UnsetType | None) -> int | None:
    return micros(text) if isinstance(text, str) else None


def client_package_of(row: ClientPackageRow) -> ClientPackageSpec | None:
    """Return the client package that a row says."""
    start, end = row.start_date, row.end_date
    try:
        start = canonical_when(start) if isinstance(start, str) else None
        end = canonical_when(end) if isinstance(end, str) else None
    except ValueError:
        return None
    if not (row.id + row.client + row.package + (row.account or "")).isprintable():
        return None
    if start is not None and end is not None and is_over(start, end):
        return None
    return ClientPackageSpec(
        row.id, row.client, row.package, row.account or None, start, end, row.activate_in_past or False,
        row.quantity or 1,
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ JSON files
class Parsed(NamedTuple):
    """A JSON file in two: the rows of these sections, and what else it holds, as JSON."""

    rows: dict[str, Sequence[Struct]]
    rest: bytes


_FORMS: Final[dict[str, Any]] = {"clients": list[ClientRow], "client_packages": list[ClientPackageRow]}
SPECS: Final[dict[str, Callable[[Any], Any]]] = {"clients": client_of, "client_packages": client_package_of}
"""Section → what makes of one of its rows what it says."""
_PIECE = 10_000
_APART = re.compile(rb'"[ \t\r\n]+:')
_ESCAPED = re.compile(rb"\\u00(?:22|3[Aa])")
_encode = msgspec.json.Encoder().encode


def parse(raw: bytes) -> Parsed | None:
    """Return what a JSON file holds; None: it is read field by field.

    Of names that come twice in an object msgspec keeps the last and says nothing. So what was read is written
    again, and the number of `":` in it is compared with the file's: where they differ, the file is read field
    by field, which tells of such names. So is one with a quote apart from its colon, or with either escaped,
    where this count would not be right.
    """
    raw = raw.removeprefix(b"\xef\xbb\xbf")
    try:
        sections = msgspec.json.decode(raw, type=dict[str, Raw])
        rows = {
            name: msgspec.json.decode(sections.pop(name), type=form)
            for name, form in _FORMS.items()
            if name in sections
        }
        rest = _encode(sections)
        msgspec.json.decode(rest)  # what is wrong in it has its place in the whole file
    except UNREADABLE:
        return None
    if _APART.search(raw) or _ESCAPED.search(raw):
        return None
    again = len(rows) + _names(rest) + sum(map(_names, _written(rows.values())))
    return Parsed(rows, rest) if _names(raw) == again else None


def _written(lists: Iterable[Sequence[Struct]]) -> Iterable[bytes]:
    """Yield rows as JSON, some at once: all would take as much memory as the file."""
    for rows in lists:
        for at in range(0, len(rows), _PIECE):
            yield _encode(rows[at : at + _PIECE])


def _names(text: bytes) -> int:
    return text.count(b'":')
