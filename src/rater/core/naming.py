"""Names as people read them: spellings that look alike are one name.

For names that a person writes in one place and again in another: code names, code decks, rate tables, tax
profiles, services. Ids (clients, accounts, packages, what a switch sends) are compared as they are, and so
are currencies, whose form leaves letters and digits alone.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable

_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f"
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Controls that are no blanks, and what Unicode calls Default_Ignorable_Code_Point: soft hyphens, zero-width
spaces and joiners, marks of direction, variation selectors, fillers."""
_APOSTROPHES = "`\u00b4\u02b9\u02bb\u02bc\u02bd\u02c8\u2018\u2019\u201a\u201b\u2032\u2035\ua78c\uff07\uff40"
_QUOTES = "\u00ab\u00bb\u201c\u201d\u201e\u201f\u2033\u2036\u301d\u301e\u301f\uff02"
_DASHES = "\u058a\u05be\u1806\u2010\u2011\u2012\u2013\u2014\u2015\u2043\u2212\u2e3a\u2e3b\ufe58\ufe63\uff0d"
_BLANKS = "\u2800"
"""Of Braille: a pattern without dots. All others are whitespace to Python."""
_ALIKE = str.maketrans(
    {
        **dict.fromkeys(_APOSTROPHES, "'"),
        **dict.fromkeys(_QUOTES, '"'),
        **dict.fromkeys(_DASHES, "-"),
        **dict.fromkeys(_BLANKS, " "),
    }
)
_TO_DASH = str.maketrans(dict.fromkeys(_DASHES, "-"))
_ALPHABETS = frozenset(("LATIN", "GREEK", "CYRILLIC", "ARMENIAN", "CHEROKEE", "COPTIC"))
"""Those that share shapes of letters, as Unicode's names of characters begin."""


def name_key(name: str) -> str:
    """Return what two spellings of one name have in common: the names are the same where it is.

    Unicode's NFKC_Casefold (compatible and canonical forms, letter case, invisible characters), and beyond it
    blanks (none outside, one inside) and the forms of dashes and quotation marks. Accents, punctuation and
    blanks beside it can be seen, so they tell names apart; so do the letters of another alphabet (`mixed`).

    It is its own key. What Unicode says of a character never changes, so releases of Python differ in
    characters alone that the older one does not know.
    """
    if name.isascii() and name.isprintable():
        return " ".join(name.replace("`", "'").lower().split())
    text = _INVISIBLE.sub("", name).translate(_ALIKE)
    # Twice: a compatible form may have a case of its own, and a folded letter a composed form.
    for _ in range(2):
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(text.translate(_ALIKE).split())


def dashes(text: str) -> str:
    """Return a text with one form of dash."""
    return text if text.isascii() else text.translate(_TO_DASH)


def mixed(name: str) -> str | None:
    """Return the first word with letters of two alphabets that look alike, a Cyrillic one among Latin ones.

    A table of letters that look alike would make one name of words that are two in their own languages, and
    changes with each release; that one word mixes alphabets is a slip of the keyboard nearly always.
    """
    if name.isascii():
        return None
    for word in unicodedata.normalize("NFKC", name).split():
        alphabets = {unicodedata.name(letter, "").split(" ")[0] for letter in word if letter.isalpha()}
        if len(alphabets & _ALPHABETS) > 1:
            return word
    return None


def spelt(name: str) -> str:
    """Return a name in quotes, with escapes for what one would not see: no two spellings look alike."""
    quoted = json.dumps(name, ensure_ascii=False)
    return "".join(
        letter
        if letter == " "
        or (letter.isprintable() and not unicodedata.combining(letter) and not _INVISIBLE.match(letter))
        else json.dumps(letter)[1:-1]
        for letter in quoted
    )


def hidden(text: str) -> bool:
    """Return whether a text holds what one does not see: a blank at an end, or an invisible character."""
    return text != text.strip() or (not text.isascii() and _INVISIBLE.search(text) is not None)


class Names:
    """Names of one kind, found by any spelling that reads the same."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Begin with these."""
        self._by_key: dict[str, list[str]] = {}
        for name in names:
            self.add(name)

    def add(self, name: str) -> None:
        """Add a name; again is harmless."""
        alike = self._by_key.setdefault(name_key(name), [])
        if name not in alike:
            alike.append(name)

    def alike(self, name: str) -> list[str]:
        """Return the names that read the same, this one included where it is one; in the order of adding."""
        return self._by_key.get(name_key(name), [])

    def meant(self, name: str) -> list[str]:
        """Return the names that may be meant: itself alone where it is one, else all that read the same."""
        alike = self.alike(name)
        return [name] if name in alike else alike

    def doubles(self) -> list[list[str]]:
        """Return the names that are spelt in more than one way, each with its spellings."""
        return [alike for alike in self._by_key.values() if len(alike) > 1]
