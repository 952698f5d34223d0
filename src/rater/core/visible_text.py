"""Texts that are shown to people: what cannot be seen is escaped."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Return the text with escapes (\x01, \xa0, \u200b) in the place of what cannot be seen."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(char: str) -> str:
    return char if char.isprintable() else char.encode("unicode_escape").decode()
