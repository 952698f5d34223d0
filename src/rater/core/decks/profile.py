"""The profile of a carrier: how its decks are written, and what a deck means for the rate table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import replace

from rater.core.catalog_files.fields import CURRENCY, CURRENCY_PROBLEM
from rater.core.decks.words import FIELDS, STATUSES
from rater.core.periods import canonical_when, when_ms, zone_of

Kind = Literal["full", "partial"]
DateOrder = Literal["dmy", "mdy", "ymd"]


class Profile(Struct, frozen=True, kw_only=True):
    """How a carrier writes its decks, and what they mean."""

    kind: Annotated[Kind, Meta(description="full: codes that are missing are closed; partial: they stay")] = (
        "partial"
    )
    currency: Annotated[str | None, Meta(description="the currency of the prices, such as USD")] = None
    create: Annotated[
        bool, Meta(description="make the rate table and the code deck where there are none")
    ] = False
    code_deck: Annotated[str | None, Meta(description="the code deck that takes the names")] = None
    sheet: Annotated[str | None, Meta(description="the sheet of a workbook")] = None
    columns: Annotated[dict[str, str], Meta(description="field → header or letter of its column")] = field(
        default_factory=dict
    )
    dates: Annotated[
        DateOrder | None, Meta(description="one of dmy, mdy, ymd: the order of day, month and year")
    ] = None
    decimal: Annotated[
        Literal[".", ","] | None, Meta(description='"." or ",": the decimal mark of prices')
    ] = None
    zone: Annotated[str, Meta(description="the time zone of dates, such as Europe/Kyiv")] = "UTC"
    increment: Annotated[
        str | None, Meta(description="MINIMAL/INTERVAL in seconds, of codes that are new and have none")
    ] = None
    statuses: Annotated[dict[str, str], Meta(description="word of the deck → new, increase, decrease, …")] = (
        field(default_factory=dict)
    )
    move_percent: Annotated[
        int, Meta(ge=0, le=1_000_000, description="moves of prices beyond it are marked")
    ] = 50


INCREMENT = re.compile(r"([0-9]{1,6})/([0-9]{1,6})")


def profile_faults(profile: Profile) -> Iterator[tuple[str, object, str]]:
    """Yield (key, value, problem) of what is wrong in a profile, though each value has the right type."""
    if profile.currency is not None and not CURRENCY.fullmatch(profile.currency):
        yield "currency", profile.currency, CURRENCY_PROBLEM
    if profile.create and profile.currency is None:
        yield "create", True, "needs a currency; give it"
    try:
        zone_of(profile.zone)
    except ValueError as error:
        yield "zone", profile.zone, str(error)
    if profile.increment is not None:
        found = INCREMENT.fullmatch(profile.increment)
        if found is None or not int(found[2]):
            yield "increment", profile.increment, 'not an increment; write seconds like "60/1"'
    for name in profile.columns:
        if name not in FIELDS:
            yield f"columns.{name}", profile.columns[name], f"no such field; known are {', '.join(FIELDS)}"
    for word, status in profile.statuses.items():
        if status not in STATUSES:
            yield f"statuses.{word}", status, f"no such status; known are {', '.join(STATUSES)}"


def columns_of(text: str) -> dict[str, str]:
    """Return field → header or letter, of `code=A,price="Per min"`. Raises ValueError with a sentence."""
    out: dict[str, str] = {}
    rest = text
    while rest.strip():
        found = _COLUMN.match(rest)
        if found is None or found[1] not in FIELDS:
            raise ValueError(f"{rest}: write FIELD=COLUMN; fields are {', '.join(FIELDS)}")
        out[found[1]] = found[2].strip().strip("\"'")
        rest = rest[found.end() :]
    return out


_COLUMN = re.compile(r"""\s*(\w+)\s*=(\s*"[^"]*"\s*|\s*'[^']*'\s*|[^,"']*)(?:,|$)""")


def chosen(profiles: Mapping[str, Profile], name: str | None, columns: Mapping[str, str]) -> Profile:
    """Return the profile of a name (None: one without any) with the columns that were given.

    Raises ValueError with a sentence where there is none of this name.
    """
    if name is None:
        return Profile(columns=dict(columns))
    if name not in profiles:
        near = difflib.get_close_matches(name, profiles, 1)
        there = ", ".join(profiles) or "none"
        hint = f"did you mean {near[0]}?" if near else f"there are {there}"
        raise ValueError(f"{name}: there is no such profile; {hint}; or add [decks.{name}] to the settings")
    return replace(profiles[name], columns={**profiles[name].columns, **columns})


def effective_ms(text: str | None, profile: Profile) -> int | None:
    """Return from when rows hold that do not say it: a date in the profile's zone, or RFC 3339; None: now.

    Raises ValueError with a sentence.
    """
    return None if text is None else when_ms(canonical_when(text), zone_of(profile.zone))
