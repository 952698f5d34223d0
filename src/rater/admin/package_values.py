"""The form of a package: it becomes a row as in a catalog file, and a package becomes what it shows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from rater.core.amounts import E10, format_e10, format_micros
from rater.core.catalog.specs import LimitSpec, PackageSpec, ServiceSpec

TEXTS = (
    "id", "name", "type", "currency", "reseller", "setup_fee", "client_balance", "renewal_charge", "priority",
    "dynamic_tag", "start_date", "end_date",
)  # fmt: skip
FLAGS = ("fees_include_taxes", "align_to_payment_terms", "full_charge", "charge_on_event")
SPANS = ("period", "advance_renew", "renew_for")
ROWS = {
    "fees": ("type", "name", "note", "rate"),
    "discounts": ("activation_count", "discount"),
    "did_limits": ("quantity", "allowed_tags", "on_hold_days"),
    "limits": (
        "id", "type", "service", "code_deck", "code", "code_name", "limit", "exclude", "min_call",
        "per_call_max", "rollover",
    ),
}  # fmt: skip
"""Blocks of rows → their fields."""
ROWS_MAX = 200
_LISTS = {"allowed_tags", "exclude"}
_NUMBERS = {"priority", "activation_count", "quantity", "on_hold_days", "min_call", "per_call_max"}
_WHOLE = re.compile(r"-?[0-9]{1,18}")
_BLANKS = " \t\r\n"
_CHOSEN = {"fees": {"type"}, "limits": {"type", "service"}}
"""Fields whose choice is never empty: a row with nothing else was not filled in."""

Rows = list[dict[str, str]]


class Values(Struct):
    """What the form shows: texts by the field's name, of spans NAME_count and NAME_unit; rows by block."""

    texts: dict[str, str]
    rows: dict[str, Rows]


def empty() -> Values:
    """Return the form of a new package: the defaults of RULES.md section 3."""
    texts = dict.fromkeys([*TEXTS, *FLAGS], "")
    texts |= {
        "type": "customer", "setup_fee": "charge", "client_balance": "deny", "renewal_charge": "on_period",
        "priority": "0", "currency": "USD",
    }  # fmt: skip
    for name in SPANS:
        texts |= {f"{name}_count": "", f"{name}_unit": "month"}
    texts["period_count"] = "1"
    return Values(texts, {block: [] for block in ROWS})


def of_form(form: Mapping[str, str]) -> Values:
    """Return what a form that was sent says."""
    names = [*TEXTS, *FLAGS, *(f"{name}_{part}" for name in SPANS for part in ("count", "unit"))]
    texts = {name: form.get(name, "").strip(_BLANKS) for name in names}
    rows: dict[str, Rows] = {}
    for block, fields in ROWS.items():
        rows[block] = []
        for number in range(ROWS_MAX):
            begin = f"{block}.{number}."
            row = {field: form[begin + field].strip(_BLANKS) for field in fields if begin + field in form}
            if not row:
                break
            rows[block].append({field: row.get(field, "") for field in fields})
    return Values(texts, rows)


def of_spec(spec: PackageSpec, services: Mapping[str, ServiceSpec]) -> Values:
    """Return a package as the form shows it: volumes in price units."""
    texts = {name: _text(getattr(spec, name)) for name in (*TEXTS, *FLAGS)}
    for name in SPANS:
        count, _, unit = (getattr(spec, name) or "").partition(" ")
        texts |= {f"{name}_count": count, f"{name}_unit": unit.removesuffix("s") or "month"}
    rows: dict[str, Rows] = {
        block: [{field: _text(getattr(row, field)) for field in ROWS[block]} for row in getattr(spec, block)]
        for block in ("fees", "discounts", "did_limits")
    }
    rows["limits"] = [_limit(limit, services) for limit in spec.limits]
    return Values(texts, rows)


def _limit(limit: LimitSpec, services: Mapping[str, ServiceSpec]) -> dict[str, str]:
    row = {field: _text(getattr(limit, field)) for field in ROWS["limits"]}
    for field in ("min_call", "rollover"):
        row[field] = "" if row[field] == "0" else row[field]
    if limit.type == "money":
        row["limit"] = format_micros(limit.limit)
        return row
    price_unit = services[limit.service].price_unit
    row["limit"] = format_e10(limit.limit * E10 // price_unit)
    row["rollover"] = format_e10(limit.rollover * E10 // price_unit) if limit.rollover else ""
    return row


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(value)
    if isinstance(value, bool):
        return "1" if value else ""
    return "" if value is None else str(value)


def to_row(values: Values) -> dict[str, Any]:
    """Return the row of a catalog file that the form says; what is wrong in it is found where it is read."""
    row: dict[str, Any] = {name: _value(name, values.texts[name]) for name in TEXTS if values.texts[name]}
    row |= {name: True for name in FLAGS if values.texts[name]}
    for name in SPANS:
        if count := values.texts[f"{name}_count"]:
            unit = values.texts[f"{name}_unit"]
            row[name] = f"{count} {unit}" + ("" if count == "1" else "s")
    for block in ROWS:
        if rows := [_row(one) for one in filled(block, values.rows[block])]:
            row[block] = rows
    return row


def filled(block: str, rows: Rows) -> Rows:
    """Return the rows of a block in which anything is written."""
    chosen = _CHOSEN.get(block, set())
    return [row for row in rows if any(value for field, value in row.items() if field not in chosen)]


def _row(texts: Mapping[str, str]) -> dict[str, Any]:
    return {field: _value(field, text) for field, text in texts.items() if text}


def _value(field: str, text: str) -> Any:
    """Return a field's value as a file has it: numbers where it is one, else the text, which is at fault."""
    if field in _LISTS:
        return [part for part in re.split(r"[\s,;]+", text) if part]
    if field in _NUMBERS and _WHOLE.fullmatch(text):
        return int(text)
    return text
