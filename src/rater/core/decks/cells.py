"""A cell of a deck becomes codes, a price, an instant, an increment: exact, or a sentence why it is none.

Workbooks keep numbers as binary floats. The number that was typed is the shortest decimal that gives the
float, the one that was computed is what a workbook shows of it, 15 digits; a code is one below 2^53, where
floats are exact (RULES.md 2.2: nothing is a binary float).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from rater.core.amounts import LIMIT
from rater.core.catalog_files.fields import e10, what
from rater.core.decks.profile import DateOrder
from rater.core.decks.words import SIGNS
from rater.core.naming import dashes
from rater.core.number_text import ascii_form

Cell = str | float | bool | date | datetime | time | timedelta
"""As a workbook has them; of a text file all are texts. Empty: "" or blanks."""

# ruff: noqa: TRY004 - a cell of another type is no defect of the caller's

CODE_DIGITS = 15
"""Digits of a code in a deck (E.164): with more, two codes have run together."""
_RANGE_DIGITS = 3
RANGE_CODES = 10_000
"""Codes that one range or list may mean."""

_NOTHING = frozenset({"", "-", "n/a", "na", "none", "null"})
_DIGITS = re.compile(r"[0-9]+")
_THOUSANDS = re.compile(r"[1-9][0-9]{0,2}(?:,[0-9]{3})+")
_SHORT_THOUSANDS = re.compile(r"[1-9][0-9]?(?:,[0-9]{3})+")


def letters(place: int) -> str:
    """Return the letters of a column by its place, from 0."""
    out = ""
    place += 1
    while place:
        place, rest = divmod(place - 1, 26)
        out = chr(ord("A") + rest) + out
    return out


def text_of(cell: Cell) -> str:
    """Return a cell as text, without blanks around it; a number in digits, the shortest that mean it."""
    if isinstance(cell, str):
        return cell.strip()
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, int):
        return str(cell)
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() and abs(cell) < LIMIT else format(Decimal(repr(cell)), "f")
    return cell.isoformat() if isinstance(cell, date | time) else str(cell)


def is_nothing(cell: Cell) -> bool:
    """Return whether a cell is empty, or says that there is nothing: a dash, n/a."""
    return isinstance(cell, str) and dashes(cell).strip().lower() in _NOTHING


# ---------------------------------------------------------------------------------------------------- codes
def codes_of(cell: Cell, country: str | None = None) -> list[str]:
    """Return the codes that a cell means: one, a list, ranges; country: the code to put before each.

    Raises ValueError with a sentence where it means none, or may mean two things.
    """
    text = _code_text(cell)
    if _DIGITS.fullmatch(text) and (text[0] != "0" or country):
        return [_checked((country or "") + text)]
    # Areas of three digits are lists: 242,246. With fewer in front it may be 1,242 as a workbook shows 1242.
    if (_THOUSANDS if country is None else _SHORT_THOUSANDS).fullmatch(text):
        problem = (
            "may be a list, or a code with marks of thousands; write the list as 1, 242 and the code as 1242"
        )
        raise ValueError(problem)
    out: list[str] = []
    first = ""
    for part in re.split(r"[,;/\n]", dashes(text)):
        item = part.strip()
        if not item:
            continue
        for code in _range(item, is_area=country is not None):
            if country is None and first and len(code) < len(first) and code[:2] != first[:2]:
                problem = f"{code} behind {first} may be short for a longer code; write each code in full"
                raise ValueError(problem)
            first = first or code
            out.append(_checked((country or "") + code))
        if len(out) > RANGE_CODES:
            raise ValueError(f"means more than {RANGE_CODES} codes; write them in several rows")
    if not out:
        raise ValueError("no code; write digits")
    return out


def _code_text(cell: Cell) -> str:
    if isinstance(cell, bool | date | time | timedelta):
        raise ValueError("not a code: the workbook made something else of it; format the column as text")
    if not isinstance(cell, float):
        return _ascii(text_of(cell))
    if not cell.is_integer():
        raise ValueError(
            "not a code: a number with a fraction; format the column as text, and write it again"
        )
    if not 0 <= cell < LIMIT:
        raise ValueError("too large for a number of a workbook, its digits are lost; write it as text")
    return str(int(cell))


def _ascii(text: str) -> str:
    """Return a text with digits, blanks and marks as ASCII has them; lines stay."""
    return text if text.isascii() else "\n".join(map(ascii_form, text.split("\n"))).strip()


def _range(item: str, *, is_area: bool) -> Iterator[str]:
    first, dash, last = (part.strip() for part in item.partition("-"))
    if not dash:
        yield _one(item, is_area=is_area)
        return
    begin, end = _one(first, is_area=is_area), _one(last, is_area=is_area)
    # 44-20 is rather a country and an area: ranges of whole codes begin alike, and are longer.
    alike = len(begin) == len(end) and (is_area or (len(begin) >= _RANGE_DIGITS and begin[0] == end[0]))
    if not alike:
        problem = "may be a range or one code; write a range in full, as 1242-1246, and a code without a dash"
        raise ValueError(problem)
    low, high = int(begin), int(end)
    if low > high:
        raise ValueError("a range that goes backwards; write the lower code first")
    if high - low >= RANGE_CODES:
        raise ValueError(f"a range of more than {RANGE_CODES} codes; write the shorter code that covers them")
    for number in range(low, high + 1):
        yield str(number).zfill(len(begin))


def _one(text: str, *, is_area: bool) -> str:
    """Return the digits of a code: without +, 00, blanks between groups."""
    bare = text.removeprefix("+").strip()
    groups = bare.split()
    if len(groups) > 1 and _may_be_several(groups, is_area=is_area):
        raise ValueError(
            "blanks: may be one code or several; put commas between codes, and no blanks into one"
        )
    code = "".join(groups)
    if not _DIGITS.fullmatch(code):
        raise ValueError("not a code; write digits" + (", no exponent" if "e+" in text.lower() else ""))
    if is_area:
        return code
    code = code.removeprefix("00")
    if not code or code[0] == "0":
        raise ValueError("begins with 0, as no code of a country does; write it with its country code")
    return code


def _may_be_several(groups: list[str], *, is_area: bool) -> bool:
    """Return whether groups of digits look like codes of their own: 447 448, 44 7 44 8, 44 49 33."""
    alike = len({len(group) for group in groups}) == 1 and len(groups[0]) > 1
    return (
        len({group[:2] for group in groups}) == 1
        or groups[0] in groups[1:]
        or (alike and (is_area or len(groups) > 2))  # noqa: PLR2004 - of two, a country and an area
    )


def _checked(code: str) -> str:
    if len(code) > CODE_DIGITS:
        raise ValueError(f"more than {CODE_DIGITS} digits: have codes run together? put commas between them")
    return code


# --------------------------------------------------------------------------------------------------- prices
_AMOUNT = re.compile(
    r"(?P<before>[^0-9.,]*?)(?P<sign>[-+]?)\s*(?P<digits>[0-9.,' ]*[0-9])(?P<after>[^0-9.,]*)"
)
_DECIMALS = 10
_POINT_GROUPS = re.compile(r"[1-9][0-9]{0,2}[.][0-9]{3}")
_GROUPS = re.compile(r"[0-9]{1,3}(?:[.,' ][0-9]{3})+")


def price_of(cell: Cell, currency: str | None, mark: str | None) -> int:
    """Return a price or fee in 10^-10.

    currency: the only one whose letters or sign may stand beside. mark: the decimal mark, None where nobody
    said: then what may be one of thousands is refused. Raises ValueError with a sentence.
    """
    if isinstance(cell, bool | date | time | timedelta):
        raise ValueError("not a price: the workbook made something else of it; format the column as numbers")
    if isinstance(cell, float):
        return _e10(_decimal(cell))
    found = _AMOUNT.fullmatch(dashes(_ascii(text_of(cell))))
    if found is None:
        raise ValueError("not a price; write a decimal number")
    for beside in (found["before"].strip(), found["after"].strip()):
        _check_currency(beside, currency)
    return _e10(found["sign"].replace("+", "") + _plain_number(found["digits"], mark))


def may_be_thousands(cell: Cell) -> bool:
    """Return whether the one point of a price may be a mark of thousands: 1.234."""
    found = _AMOUNT.fullmatch(dashes(_ascii(cell.strip()))) if isinstance(cell, str) else None
    return found is not None and _POINT_GROUPS.fullmatch(found["digits"]) is not None


def has_decimal_comma(cell: Cell) -> bool:
    """Return whether a text that was read as a price, its mark said by nobody, has a decimal comma."""
    found = _AMOUNT.fullmatch(dashes(_ascii(cell.strip()))) if isinstance(cell, str) else None
    if found is None:
        return False
    marks = [sign for sign in found["digits"] if sign in ".,"]
    return marks.count(",") == 1 and marks[-1] == ","


def _decimal(cell: float) -> str:
    """Return a workbook's number in digits: as it was typed, else as it shows what it has computed."""
    typed = text_of(cell)
    if len(typed.partition(".")[2]) <= _DECIMALS or not math.isfinite(cell):
        return typed
    return format(Decimal(f"{cell:.15g}"), "f")


def _e10(text: str) -> int:
    try:
        return e10(text)
    except ValueError as error:
        raise ValueError(str(error).partition(" ")[2] if str(error).startswith("'") else str(error)) from None


def _check_currency(beside: str, currency: str | None) -> None:
    if not beside or currency is None:
        if beside:
            raise ValueError(f"has {what(beside)!r} beside the number; leave it out")
        return
    known = SIGNS.get(beside, beside.upper()).split()
    if currency.upper() not in known:
        raise ValueError(
            f"has {what(beside)!r} beside the number, the table is in {currency}; correct one of them"
        )


def _plain_number(digits: str, mark: str | None) -> str:
    """Return a number with a point as its decimal mark and nothing between thousands."""
    marks = [sign for sign in digits if sign in ".,"]
    if mark is None and marks:
        mark = marks[-1]
        if marks == [","] and _GROUPS.fullmatch(digits) and not digits.startswith("0"):
            problem = 'is the comma a decimal mark or one of thousands? say it in the profile: decimal = ","'
            raise ValueError(problem)
        if len(marks) > 1 and len(set(marks)) == 1:
            mark = "," if mark == "." else "."
    whole, point, fraction = digits.partition(mark or ".")
    if re.search(r"[^0-9]", whole):
        if _GROUPS.fullmatch(whole) is None or len(set(re.sub("[0-9]", "", whole))) > 1 or whole[0] == "0":
            raise ValueError(
                f"not a number with the decimal mark {mark or '.'!r}; correct it, or the profile"
            )
        whole = re.sub("[^0-9]", "", whole)
    if re.search(r"[^0-9]", fraction):
        raise ValueError("not a number: there are marks behind its decimal mark; correct it")
    return f"{whole or '0'}.{fraction}" if point else whole


# ---------------------------------------------------------------------------------------- dates, increments
_MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october",
    "november", "december",
)  # fmt: skip
_NUMBERS = re.compile(r"(\d{1,4})([./ -])(\d{1,2})\2(\d{1,4})", re.ASCII)
_NAMED = re.compile(
    r"(?P<day>\d{1,2})[ .-]*(?P<month>[a-z]{3,9})[ .,-]*(?P<year>\d{4}|\d\d)|"
    r"(?P<month2>[a-z]{3,9})[ .]*(?P<day2>\d{1,2})[ ,]+(?P<year2>\d{4})",
    re.ASCII,
)
_CLOCK = re.compile(r"[T ]00:00(:00)?(\.0+)?$")


def when_of(cell: Cell, order: DateOrder | None) -> str:
    """Return a date or instant as the catalog writes it: "2026-12-01", or an instant with offset.

    A time without offset is no instant: only midnight is taken, as the date. Raises ValueError with a
    sentence, also where day and month may be exchanged and nobody said the order.
    """
    if isinstance(cell, datetime):
        if cell.time() != time():
            raise ValueError("a time of day without offset; write the date alone")
        return cell.date().isoformat()
    if isinstance(cell, date):
        return cell.isoformat()
    text = text_of(cell)
    if re.fullmatch(r"(19|20)\d{6}", text, re.ASCII):
        return _day(text[:4], text[4:6], text[6:])
    if not isinstance(cell, str):
        raise ValueError("not a date but a number; format the column as dates")
    if re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d.*", text, re.ASCII) and not _CLOCK.search(text):
        return text
    bare = dashes(_CLOCK.sub("", text)).lower()
    if (found := _NAMED.fullmatch(bare)) is not None:
        word = found["month"] or found["month2"]
        # Of its name or the beginning: marraskuu is November in Finland.
        months = [number for number, name in enumerate(_MONTHS, 1) if name.startswith(word)]
        if len(months) == 1:
            year = found["year"] or found["year2"]
            day = found["day"] or found["day2"]
            return _day(year if len(year) > 2 else f"20{year}", str(months[0]), day)  # noqa: PLR2004
    if (found := _NUMBERS.fullmatch(bare)) is not None:
        return _numbered(found[1], found[3], found[4], order)
    raise ValueError("not a date; write it as 2026-12-01")


def _numbered(one: str, two: str, three: str, order: DateOrder | None) -> str:
    if len(one) == 4:  # noqa: PLR2004 - a year
        return _day(one, two, three)
    if order == "ymd":
        return _day(f"20{one}" if len(one) == 2 else one, two, three)  # noqa: PLR2004 - a year without century
    if len(three) != 4 and not (order and len(three) == 2):  # noqa: PLR2004 - the same
        raise ValueError('which of its numbers is the year? say their order in the profile: dates = "dmy"')
    year = three if len(three) == 4 else f"20{three}"  # noqa: PLR2004 - the same
    if order is None:
        if int(one) <= 12 and int(two) <= 12 and int(one) != int(two):  # noqa: PLR2004 - months
            raise ValueError(
                'which is the day, which the month? say it in the profile: dates = "dmy" or "mdy"'
            )
        order = "mdy" if int(two) > 12 else "dmy"  # noqa: PLR2004 - the same
    return _day(year, two, one) if order == "dmy" else _day(year, one, two)


def _day(year: str, month: str, day: str) -> str:
    try:
        return date(int(year), int(month), int(day)).isoformat()
    except ValueError:
        raise ValueError("no such date; correct it, or the order of day and month in the profile") from None


_PAIR = re.compile(r"([0-9]{1,6})\s*[/+:x-]\s*([0-9]{1,6})")
_SECONDS = re.compile(r"([0-9]{1,6})\s*(?:s|sec|secs|seconds?)?\.?", re.IGNORECASE)


def increment_of(cell: Cell) -> tuple[int, int]:
    """Return (minimal time, interval) in seconds: of `60/1`, of `6` both are 6. Raises ValueError."""
    text = dashes(_seconds_text(cell)).lower()
    if (found := _PAIR.fullmatch(text)) is not None:
        first, interval = int(found[1]), int(found[2])
    else:
        first = interval = seconds_of(text)
    if not interval:
        raise ValueError("an interval of 0 seconds; write 1 or more")
    return first, interval


def seconds_of(cell: Cell) -> int:
    """Return whole seconds. Raises ValueError with a sentence."""
    found = _SECONDS.fullmatch(_seconds_text(cell))
    if found is None:
        raise ValueError('not an increment; write seconds like "60/1", "6"')
    return int(found[1])


def _seconds_text(cell: Cell) -> str:
    if isinstance(cell, date | time | timedelta | bool):
        raise ValueError("not an increment: the workbook made a date of it; format the column as text")
    return text_of(cell)
