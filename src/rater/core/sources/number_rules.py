"""How numbers are written at a switch, from a map's [numbers] and its source's defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rater.core.sources.pieces import Pieces
from rater.core.sources.telephone import LETTERS, SUFFIX, Numbering, NumberRule

_DIGITS_MAX = 64


def numbering(pieces: Pieces, table: dict[str, Any], defaults: Mapping[str, object]) -> Numbering:
    """Return how a map's table and its source's defaults say that numbers are written."""
    numbers = pieces.table(table, "numbers")
    pieces.keys(numbers, {"strip", "suffix", "rules", "letters"}, "numbers")
    of_rules = (defaults, "defaults.") if "rules" in defaults else (numbers, "numbers.")
    rules = [
        rule
        for index, one in enumerate(pieces.items(of_rules[0], "rules", of_rules[1]))
        if (rule := _rule(pieces, one, f"{of_rules[1]}rules[{index}]"))
    ]
    if country := defaults.get("country"):
        rules.append(NumberRule(str(defaults.get("trunk_prefix", "0")), str(country), 1, _DIGITS_MAX))
    of_letters = (defaults, "defaults.") if "letters" in defaults else (numbers, "numbers.")
    letters = "keep"
    if "letters" in of_letters[0]:
        letters = pieces.one_of(of_letters[0], "letters", tuple(LETTERS), f"{of_letters[1]}letters")
    strip = _longest_first(pieces, "strip", defaults, numbers)
    suffix = _longest_first(pieces, "suffix", defaults, numbers)
    if "suffix" not in defaults and "suffix" not in numbers:
        suffix = SUFFIX
    return Numbering(strip, suffix, tuple(rules), LETTERS.get(letters))


def _longest_first(
    pieces: Pieces, key: str, defaults: Mapping[str, object], numbers: dict[str, Any]
) -> tuple[str, ...]:
    texts = (
        pieces.texts(defaults, key, "defaults.")
        if key in defaults
        else pieces.texts(numbers, key, "numbers.")
    )
    return tuple(sorted(texts, key=len, reverse=True))


def _rule(pieces: Pieces, one: object, where: str) -> NumberRule | None:
    if not isinstance(one, dict):
        pieces.fault(where, one, 'is a rule, a table: {prefix = "00", to = ""}')
        return None
    pieces.keys(one, {"prefix", "to", "digits"}, where)
    if "to" not in one or not {"prefix", "digits"} & one.keys():
        pieces.fault(where, one, 'needs to, and prefix or digits: {prefix = "0", to = "380", digits = 10}')
    for key in ("prefix", "to"):
        text = pieces.text(one, key, f"{where}.")
        if text and not (text.isascii() and text.isdecimal()):
            pieces.fault(f"{where}.{key}", text, "holds digits only; other characters go to strip")
    low, high = _digits(pieces, one.get("digits", [1, _DIGITS_MAX]), f"{where}.digits")
    return NumberRule(pieces.text(one, "prefix", f"{where}."), pieces.text(one, "to", f"{where}."), low, high)


def _digits(pieces: Pieces, value: object, where: str) -> tuple[int, int]:
    match value:
        case int() if not isinstance(value, bool) and 0 < value <= _DIGITS_MAX:
            return value, value
        case [int(low), int(high)] if 0 < low <= high <= _DIGITS_MAX:
            return low, high
        case _:
            pieces.fault(
                where, value, f"is a count, or the least and the most: 10 or [7, 10], up to {_DIGITS_MAX}"
            )
            return 1, _DIGITS_MAX
