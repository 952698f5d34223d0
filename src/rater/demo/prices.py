"""What a minute costs where, and how much traffic goes there: plausible for a small carrier.

Prices are retail, in USD per minute, as text: no float touches money. Other tables are derived in catalog.py.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from rater.demo import deck

if TYPE_CHECKING:
    from collections.abc import Mapping


class Country(NamedTuple):
    """A destination with traffic of its own."""

    name: str  # as the deck calls it
    code: str
    digits: int  # of a whole number, country code included
    weight: int  # share of the traffic, in no unit
    fixed: str  # price of a minute to a fixed line
    mobile: str
    increments: tuple[int, int] = (1, 1)  # minimal time, interval, both in seconds
    setup_fee: str = "0"
    capital: str = ""  # code of its busiest place


MINUTE = (60, 60)
HALF = (30, 6)
SIX = (6, 6)

COUNTRIES = (
    Country("Ukraine", "380", 12, 130, "0.098", "0.145", MINUTE, capital="38044"),
    Country("USA", "1", 11, 120, "0.0089", "0.0089", SIX, capital="1212"),
    Country("UK", "44", 12, 95, "0.0094", "0.0285", capital="4420"),
    Country("Germany", "49", 12, 90, "0.0105", "0.0342", capital="4930"),
    Country("Poland", "48", 11, 60, "0.0151", "0.0298", capital="4822"),
    Country("France", "33", 11, 50, "0.0098", "0.0364"),
    Country("Italy", "39", 12, 45, "0.0117", "0.0418", capital="3906"),
    Country("India", "91", 12, 45, "0.0148", "0.0151", MINUTE),
    Country("Spain", "34", 11, 40, "0.0102", "0.0235", capital="3491"),
    Country("Mexico", "52", 12, 35, "0.0065", "0.0121", MINUTE, capital="5255"),
    Country("Turkey", "90", 12, 32, "0.0276", "0.1890", HALF, capital="90212"),
    Country("Romania", "40", 11, 28, "0.0082", "0.0240", capital="4021"),
    Country("Netherlands", "31", 11, 25, "0.0112", "0.0318"),
    Country("Canada", "1", 11, 24, "0.0072", "0.0072", SIX),
    Country("Nigeria", "234", 13, 22, "0.0721", "0.0894", HALF),
    Country("Brazil", "55", 13, 20, "0.0124", "0.0389", HALF),
    Country("Philippines", "63", 12, 18, "0.1260", "0.1580", MINUTE),
    Country("China", "86", 13, 16, "0.0165", "0.0172"),
    Country("Moldova", "373", 11, 15, "0.1830", "0.2480", MINUTE),
    Country("United Arab Emirates", "971", 12, 14, "0.1720", "0.1940", HALF),
    Country("Georgia", "995", 12, 13, "0.0842", "0.1215", MINUTE),
    Country("Pakistan", "92", 12, 12, "0.0480", "0.0495", HALF),
    Country("Israel", "972", 12, 12, "0.0121", "0.0296"),
    Country("Egypt", "20", 12, 11, "0.0985", "0.1140", MINUTE),
    Country("Vietnam", "84", 11, 10, "0.0590", "0.0615", HALF),
    Country("Bangladesh", "880", 13, 10, "0.0275", "0.0268", HALF),
    Country("South Africa", "27", 11, 9, "0.0684", "0.1042"),
    Country("Australia", "61", 11, 8, "0.0148", "0.0362"),
    Country("Japan", "81", 12, 7, "0.0246", "0.0668"),
    Country("Saudi Arabia", "966", 12, 7, "0.0915", "0.1420", HALF),
    Country("Singapore", "65", 10, 5, "0.0118", "0.0124"),
    Country("Cuba", "53", 10, 2, "0.7150", "0.7480", MINUTE, "0.05"),
)

# The shortest codes are the busiest places and carriers; a price list for a few thousand codes is enough.
_MOBILE_CODES_MAX = 160
_PLACE_CODES_MAX = 60
_AREA_DIGITS = 4
"""Of a North American area code with its country code."""


class Destination(NamedTuple):
    """A code with a price."""

    code: str
    is_mobile: bool


@cache
def destinations(country: Country) -> tuple[Destination, ...]:
    """Return the country's codes that are priced one by one, its own code first."""
    mobile: list[str] = []
    places: list[str] = []
    for code, name in deck.codes().items():
        if code.startswith(country.code) and name.startswith(country.name) and code != country.code:
            (mobile if deck.MOBILE in name else places).append(code)
    own = (country.code,) if deck.codes().get(country.code) == country.name else ()
    chosen = [
        *(Destination(code, is_mobile=False) for code in own),
        *(Destination(code, is_mobile=False) for code in _shortest(places, _PLACE_CODES_MAX)),
        *(Destination(code, is_mobile=True) for code in _shortest(mobile, _MOBILE_CODES_MAX)),
    ]
    return tuple(chosen)


def _shortest(codes: list[str], at_most: int) -> list[str]:
    return sorted(sorted(codes, key=lambda code: (len(code), code))[:at_most])


@cache
def elsewhere() -> Mapping[str, str]:
    """Return code → code name of everything else in the world, one code for each: no traffic of its own."""
    codes = deck.codes()
    priced = {one.code for country in COUNTRIES for one in destinations(country)}
    return {
        code: name
        for code, name in codes.items()
        if code not in priced
        and (
            len(code) == _AREA_DIGITS
            if code.startswith("1")
            else not any(code[:size] in codes for size in range(1, len(code)))
        )
    }
