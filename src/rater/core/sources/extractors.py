"""What the expressions and conditions of a map are compiled to: functions of a record's slots.

A value that is no text (None, a Problem) passes through all of them; an Inexact is a text to conditions, to
`match`, `absent` and to what reads durations and times.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from rater.core.reasons import Reason, shown
from rater.core.sources.formats import Inexact, Problem, Slots
from rater.core.sources.map_language import Condition, Extract
from rater.core.sources.values import TIME_MS_MAX, Reader, int32_address


def any_of(options: tuple[Condition, ...]) -> Condition:
    """Return a condition that holds where one of these does."""

    def holds(slots: Slots) -> bool:
        for option in options:  # noqa: SIM110 - a generator costs as much as the conditions, for each record
            if option(slots):
                return True
        return False

    return holds


def first(takes: tuple[Extract, ...]) -> Extract:
    """Return an extractor of the first value that there is."""

    def take(slots: Slots) -> Any:
        for one in takes:
            value = one(slots)
            if value is not None:
                return value
        return None

    return take


def joined(parts: tuple[tuple[Extract, bool], ...], separator: str, *, in_order: bool) -> Extract:
    """Return an extractor of several texts as one; parts: (extractor, whether it may lack a value)."""

    def take(slots: Slots) -> Any:
        texts: list[str] = []
        for part, optional in parts:
            value = part(slots)
            if value.__class__ is str:
                texts.append(value)
            elif value is not None or not optional:
                return value
        return separator.join(sorted(texts) if in_order else texts) or None

    return take


def matched(take: Extract, pattern: re.Pattern[str]) -> Extract:
    """Return an extractor of what the pattern finds in the whole text: its first group, if it has one."""
    group = 1 if pattern.groups else 0

    def matched(slots: Slots) -> Any:
        text = take(slots)
        if not isinstance(text, str):
            return text
        found = pattern.fullmatch(text)
        piece = found[group] or None if found else None
        if piece is None or text.__class__ is str or piece.isdecimal():
            return piece  # digits that the map's author has taken out by themselves are meant
        return Inexact(piece)

    return matched


def present(take: Extract, absent: frozenset[str]) -> Extract:
    """Return an extractor for which these texts are no value."""

    def present(slots: Slots) -> Any:
        text = take(slots)
        return None if isinstance(text, str) and text in absent else text

    return present


def changed(take: Extract, change: Callable[[str], str | None]) -> Extract:
    """Return an extractor of the changed text; of what is Inexact nothing is changed."""

    def changed(slots: Slots) -> Any:
        text = take(slots)
        return change(text) or None if text.__class__ is str else text

    return changed


def converted(take: Extract, read: Reader, reason: Reason, detail: str) -> Extract:
    """Return an extractor of numbers, of which 0 means: no value."""

    def converted(slots: Slots) -> Any:
        text = take(slots)
        if not isinstance(text, str):
            return text
        number = read(text)
        return Problem(reason, detail, shown(text)) if number is None else number or None

    return converted


def measured(take: Extract, read: Callable[[str], int | Fraction | None]) -> Extract:
    """Return an extractor of amounts. What is none stays a text: the call's time is judged before it."""

    def measured(slots: Slots) -> Any:
        text = take(slots)
        if not isinstance(text, str):
            return text
        number = read(text)
        return str(text) if number is None else number

    return measured


def added(parts: tuple[tuple[Extract, bool], ...]) -> Extract:
    """Return an extractor of the sum of exact amounts; parts: (extractor, whether it may lack a value).

    Without any value there is no sum.
    """

    def added(slots: Slots) -> Any:
        total: Fraction | None = None
        for part, optional in parts:
            amount = part(slots)
            if amount.__class__ is Fraction:
                total = amount if total is None else total + amount
            elif amount is not None or not optional:
                return amount
        return total

    return added


def worked_out(take: Extract, change: Callable[[Fraction], Fraction | int]) -> Extract:
    """Return an extractor of the exact amount, changed: scaled, or rounded to a whole one."""

    def worked_out(slots: Slots) -> Any:
        amount = take(slots)
        return change(amount) if amount.__class__ is Fraction else amount

    return worked_out


def spanned(begin: Extract, end: Extract) -> Extract:
    """Return an extractor of the ms from one time to the other; below zero it is a text, as in `measured`."""

    def spanned(slots: Slots) -> Any:
        first, last = begin(slots), end(slots)
        if first.__class__ is int and last.__class__ is int:
            return last - first if last >= first else str(last - first)
        return first if first.__class__ is Problem else last if last.__class__ is Problem else None

    return spanned


def summed(take: Extract, more: Extract, detail: str) -> Extract:
    """Return an extractor of a time, ms, with a duration added; detail: of the problem where it cannot be."""

    def total(slots: Slots) -> Any:
        base = take(slots)
        if base.__class__ is not int:
            return base
        extra = more(slots)
        if extra is None:
            return base
        if extra.__class__ is int and base + extra <= TIME_MS_MAX:
            return base + extra
        return extra if extra.__class__ is Problem else Problem(Reason.BAD_TIME, detail, shown(extra))

    return total


def int32(take: Extract, detail: str) -> Extract:
    """Return an extractor of the IP address that a 32-bit number is."""

    def converted(slots: Slots) -> Any:
        text = take(slots)
        if text.__class__ is not str:
            return text
        found = int32_address(text)
        return Problem(Reason.MALFORMED, detail, shown(text)) if found is None else found or None

    return converted


def fits(pattern: re.Pattern[str], value: object) -> bool:
    """Return whether it is a text that the pattern fits as a whole."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None
