"""Values as people read them: money in its currency's digits, volumes in price units, local times."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

from rater.core.amounts import format_e10, format_micros, parse_micros
from rater.core.periods import local_of, zone_of
from rater.core.visible_text import visible

_NO_DIGITS = (
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF",
    "XOF", "XPF",
)  # fmt: skip
_DIGITS = dict.fromkeys(_NO_DIGITS, 0) | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
"""Digits of a currency behind the point (ISO 4217), where they are not two."""

MINUS = "\u2212"
_MINUTE = 60
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_MEGABYTE = 1024
_WHOLE = 10
_SPANS = (
    (1, 0.001, "{:.0f} ms"), (10, 1, "{:.1f} s"), (120, 1, "{:.0f} s"), (7200, 60, "{:.0f} min"),
)  # fmt: skip
"""Spans below so many seconds are told in such a unit."""


def money(micros: int | str | None, currency: str | None = None) -> str:
    """Return an amount (micros, or decimal text) with its currency's digits, and more where it has more."""
    if micros is None:
        return ""
    value = parse_micros(micros) if isinstance(micros, str) else micros
    whole, _, rest = format_micros(abs(value)).partition(".")
    rest = rest.ljust(_DIGITS.get(currency or "", 2), "0")
    sign = MINUS if value < 0 else ""
    text = f"{sign}{int(whole):,}" + (f".{rest}" if rest else "")
    return f"{text}\u00a0{currency}" if currency else text


def decimal_money(text: str | None, currency: str | None = None) -> str:
    """Return decimal text, of up to ten decimals, as `money` would."""
    if not text:
        return ""
    whole, _, rest = text.removeprefix("-").partition(".")
    rest = rest.ljust(_DIGITS.get(currency or "", 2), "0")
    sign = MINUS if text.startswith("-") else ""
    shown = f"{sign}{int(whole):,}" + (f".{rest}" if rest else "")
    return f"{shown}\u00a0{currency}" if currency else shown


def price(e10: int, currency: str | None = None) -> str:
    """Return a price, in 10^-10 of its currency, as `decimal_money` would."""
    return decimal_money(format_e10(e10), currency)


def volume(units: int, unit: str) -> str:
    """Return counting units in price units: seconds as minutes, 90:05; KiB as MB; others as they are."""
    if unit == "second":
        minutes, seconds = divmod(units, _MINUTE)
        return f"{minutes:,}:{seconds:02}" if seconds else f"{minutes:,}"
    if unit == "KiB":
        whole, rest = divmod(units, _MEGABYTE)
        return f"{whole:,}.{rest * 100 // _MEGABYTE:02}" if rest else f"{whole:,}"
    return f"{units:,}"


_UNITS = {"second": "min", "KiB": "MB"}


def of_limit(value: int, limit: Any) -> str:
    """Return what is used of a limit, or its size, without the unit."""
    return money(value, None) if limit.kind == "money" else volume(value, limit.unit)


def unit_of(limit: Any) -> str:
    """Return the unit that `of_limit` counts in."""
    return str(_UNITS.get(limit.unit, limit.unit))


def share(limit: Any) -> str:
    """Return how much of a limit is used, as a number of 0 to 100."""
    return "0" if not limit.size else str(min(100, limit.used * 100 // limit.size))


def local(at_ms: int | None, zone: str | None = None) -> str:
    """Return an instant to the minute (to the second where it has any) in a time zone, None: UTC."""
    if at_ms is None:
        return ""
    at = datetime.fromtimestamp(at_ms // 1000, UTC) if zone is None else local_of(at_ms, zone_of(zone))
    return at.strftime("%Y-%m-%d %H:%M" + (":%S" if at.second else ""))


def speed(value: float) -> str:
    """Return how many there are, or come a second: whole from 10 on, with a decimal below."""
    return f"{value:,.0f}" if value >= _WHOLE or value == int(value) else f"{value:.1f}"


def duration(seconds: float) -> str:
    """Return a span of time in the unit that fits it."""
    for below, unit_s, form in _SPANS:
        if seconds < below:
            return form.format(seconds / unit_s)
    return f"{seconds / 3600:,.1f} h"


def rfc_ms(text: str | None) -> int | None:
    """Return the instant of RFC 3339 text, in ms."""
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return int(at.timestamp()) * 1000 + at.microsecond // 1000


def plain(value: Any) -> str:
    """Return a value of an event: an instant (RFC 3339) as `local` in UTC, others as they are."""
    if isinstance(value, str) and _INSTANT.fullmatch(value):
        return local(rfc_ms(value))
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def words(name: object) -> str:
    """Return the name of a state or reason as words."""
    return str(name).replace("_", " ")


def part(name: object) -> str:
    """Return an id as a part of a path."""
    return quote(str(name), safe="")


def query(values: Mapping[str, Any], **more: Any) -> str:
    """Return a query of a URL; what is None, empty or false is left out."""
    found = [
        (name, "1" if one is True else str(one))
        for name, value in {**values, **more}.items()
        for one in (value if isinstance(value, list | tuple) else (value,))
        if one not in (None, "", False)
    ]
    return "?" + urlencode(found) if found else ""


def pairs(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return names as what a choice is made of."""
    return [(name, name) for name in names]


def names(of: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return things that have an id and a name as what a choice is made of."""
    return [(of_id, f"{one.name} ({of_id})") for of_id, one in of.items()]


FILTERS: dict[str, Callable[..., Any]] = {
    "money": money, "decimal_money": decimal_money, "of_limit": of_limit, "unit_of": unit_of, "share": share,
    "local": local, "rfc_ms": rfc_ms, "words": words, "part": part, "query": query, "visible": visible,
    "price": price, "volume": volume, "plain": plain, "shell": shlex.quote, "pairs": pairs, "names": names,
    "duration": duration,
}  # fmt: skip
"""What templates may call."""
