"""The demo's code deck: where a number lies in the world, as a carrier's price list would name it.

`deck.csv` beside this file is derived from the data of Google's libphonenumber (deck.LICENSE.md says how).
The package `phonenumbers` is needed only to rebuild it: `python -m rater.demo.deck`. Names are "COUNTRY",
"COUNTRY PLACE" or "COUNTRY Mobile CARRIER".
"""

from __future__ import annotations

import csv
import io
import re
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

NAME = "a-z"
FILE = Path(__file__).with_name("deck.csv")
MOBILE = " Mobile "
"""What stands between a country and its carrier in a code name."""

PLACE_DIGITS_MAX = 6
"""Longest prefix of a place: the seventh digit tells villages apart, which no price list does."""
CARRIER_DIGITS_MAX = 7
"""Longest prefix of a mobile carrier."""


@cache
def codes() -> Mapping[str, str]:
    """Return code → code name, in the order of the file (by code, as text)."""
    with FILE.open(encoding="utf-8", newline="") as lines:
        return {row["code"]: row["code_name"] for row in csv.DictReader(lines)}


def written(deck: Mapping[str, str]) -> str:
    """Return a deck as the text of its file: one line for each code, sorted, header first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("code", "code_name"))
    writer.writerows(sorted(deck.items()))
    return text.getvalue()


# ---------------------------------------------------------------------------------------------- rebuilding it
class Sources(NamedTuple):
    """What is taken from libphonenumber: prefixes (digits, country code first) and names in English."""

    regions: Mapping[
        int, tuple[str, ...]
    ]  # country calling code → ISO 3166 regions that share it, main one first
    region_names: Mapping[str, str]
    area_codes: Mapping[str, str]  # North American area code (3 digits) → region that it belongs to
    places: Mapping[str, str]
    carriers: Mapping[str, str]


# Shorter than libphonenumber's, or missing there; the ones below 800 are the ITU's for codes of no country.
_NAMES = {
    "US": "USA", "GB": "UK", "CD": "Congo DR", "SX": "Sint Maarten", "AC": "Ascension", "XK": "Kosovo",
    "VI": "US Virgin Islands", "800": "International Freephone", "808": "International Shared Cost",
    "870": "Inmarsat", "878": "Universal Personal Number", "881": "Satellite Mobile",
    "882": "International Networks", "883": "International Networks", "888": "Disaster Relief",
    "979": "International Premium",
}  # fmt: skip
# Regions that share a country code with a larger one and are told apart by these prefixes.
_WITHIN = {
    "76": "KZ",
    "77": "KZ",
    "3906698": "VA",
    "4779": "SJ",
    "35818": "AX",
    "262269": "YT",
    "262639": "YT",
}


def build(sources: Sources) -> dict[str, str]:
    """Return the deck.

    Countries, places and carriers, less every code that its shorter prefix names alike.
    """
    countries = _countries(sources)
    deck = dict(countries)
    for code, place in sources.places.items():
        if len(code) <= PLACE_DIGITS_MAX and not (_american(code) and len(code) != len("1201")):
            deck[code] = _place(_longest(code, countries), code, place)
    for code, carrier in sources.carriers.items():
        if len(code) <= CARRIER_DIGITS_MAX:
            deck[code] = _clean(f"{_longest(code, countries)}{MOBILE}{carrier}")
    _join_tens(deck)
    return {code: name for code, name in sorted(deck.items()) if _longest(code[:-1], deck) != name}


def _countries(sources: Sources) -> dict[str, str]:
    named = {**sources.region_names, **_NAMES}
    countries = {
        str(code): named.get(regions[0]) or named[str(code)] for code, regions in sources.regions.items()
    }
    countries.update({f"1{area}": named[region] for area, region in sources.area_codes.items()})
    countries.update({code: named[region] for code, region in _WITHIN.items()})
    return countries


def _american(code: str) -> bool:
    """Tell whether the code is North American, where an area code is as fine as prices get."""
    return code.startswith("1")


def _place(country: str, code: str, place: str) -> str:
    # "Gurgaon, Haryana": the region is what is priced. "Chicago, IL": the state is an abbreviation there.
    name = _clean(place.split(", ", maxsplit=1)[0] if _american(code) else place.rsplit(", ", maxsplit=1)[-1])
    return name if name.startswith(country) else f"{country} {name}"


def _clean(name: str) -> str:
    return re.sub(r"\s+", " ", name).strip().removesuffix(" city")


def _longest(code: str, names: Mapping[str, str]) -> str:
    """Return the name of the longest prefix of `code` (itself included), "" for none."""
    return next((names[code[:size]] for size in range(len(code), 0, -1) if code[:size] in names), "")


def _join_tens(deck: dict[str, str]) -> None:
    """Name a prefix whose ten continuations are all named alike (libphonenumber lists the ten)."""
    for size in range(CARRIER_DIGITS_MAX, 3, -1):
        for stem in {code[:-1] for code in deck if len(code) == size} - deck.keys():
            tens = {deck.get(f"{stem}{digit}", "") for digit in range(10)}
            if len(tens) == 1:
                deck[stem] = tens.pop()


def _installed() -> Sources:
    """Read the sources from the package `phonenumbers`."""
    import phonenumbers  # noqa: PLC0415 - not needed to use the deck
    from phonenumbers import carrierdata, geocoder, geodata  # noqa: PLC0415 - the same

    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE
    every = {region for several in regions.values() for region in several}
    return Sources(
        regions={code: tuple(several) for code, several in regions.items()},
        region_names={region: geocoder._region_display_name(region, "en") for region in every},  # noqa: SLF001 - the only way
        area_codes=dict(_areas(phonenumbers, regions[1])),
        places={code: names["en"] for code, names in geodata.GEOCODE_DATA.items() if "en" in names},
        carriers={code: names["en"] for code, names in carrierdata.CARRIER_DATA.items() if "en" in names},
    )


def _areas(phonenumbers: Any, regions: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """Yield the area codes of the regions that share the country code 1, but those of its main region."""
    for region in regions[1:]:
        metadata = phonenumbers.PhoneMetadata.metadata_for_region(region)
        pattern = metadata.leading_digits or metadata.fixed_line.national_number_pattern
        for area in map(str, range(200, 1000)):
            # Toll-free and personal numbers are listed under every region; an example number tells them
            # apart.
            number = f"{area}2345678"
            if re.fullmatch(pattern, area if metadata.leading_digits else number):
                yield area, region


def main() -> None:
    """Rebuild the file."""
    deck = build(_installed())
    FILE.write_text(written(deck), encoding="utf-8")
    sys.stderr.write(f"{FILE.name}: {len(deck)} codes, {len(set(deck.values()))} names\n")


if __name__ == "__main__":
    main()
