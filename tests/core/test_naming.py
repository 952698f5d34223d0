"""Names as people read them."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.naming import Names, hidden, mixed, name_key, spelt

SAME = [
    ("Bahamas", "Bahamas "),
    ("Bahamas", "\tBAHAMAS"),
    ("Ukraine Kiev", "Ukraine  Kiev"),
    ("Ukraine Kiev", "Ukraine\u00a0Kiev"),  # no-break space
    ("Ukraine Kiev", "Ukraine\u202f\u2009Kiev"),  # narrow ones
    ("Ukraine Kiev", "Ukraine\u200b Kiev\ufeff"),  # zero width
    ("Ukraine Kiev", "Ukra\u00adine Kiev"),  # soft hyphen
    ("Ukraine Kiev", "\u202aUkraine Kiev\u202c"),  # marks of direction
    ("Réunion", "Re\u0301union"),  # composed and not
    ("Réunion", "RÉUNION"),
    ("Fiji", "\uff26\uff49\uff4a\uff49"),  # full width
    ("Pacific", "Paci\ufb01c"),  # a ligature
    ("Straße", "STRASSE"),
    ("Bahamas - Mobile", "Bahamas \u2013 Mobile"),
    ("Guinea-Bissau", "Guinea\u2011Bissau"),
    ("Guinea-Bissau", "Guinea\u2212Bissau"),
    ("Cote d'Ivoire", "Cote d\u2019Ivoire"),
    ("Cote d'Ivoire", "Cote d\u00b4Ivoire"),
    ("Cote d'Ivoire", "Cote d`Ivoire"),
    ('"Premium"', "\u201cPremium\u201d"),
    ("Україна", "УКРАЇНА"),
]

OTHER = [
    ("Niger", "Nigeria"),
    ("Ukraine Kiev", "UkraineKiev"),
    ("Réunion", "Reunion"),  # an accent can be seen
    ("Bahamas - Mobile", "Bahamas-Mobile"),
    ("Bahamas, Mobile", "Bahamas Mobile"),
    ("Bahamas", "B\u0430hamas"),  # a Cyrillic letter: told, not guessed
    ("a-z", "a_z"),
    ("Zone 1", "Zone l"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_spellings_that_look_alike_are_one_name(one: str, other: str) -> None:
    """Blanks, invisible characters, forms, letter case, dashes and quotes do not tell names apart."""
    assert name_key(one) == name_key(other)
    assert name_key(one) == name_key(other)


@pytest.mark.parametrize(("one", "other"), OTHER)
def test_what_can_be_seen_tells_names_apart(one: str, other: str) -> None:
    """Accents, punctuation, other letters and blanks between words make another name."""
    assert name_key(one) != name_key(other)


def test_a_key_is_its_own_key_for_every_character() -> None:
    """Whatever character stands in a name, its key is the key of itself."""
    for code in range(sys.maxunicode + 1):
        if unicodedata.category(chr(code)) not in {"Cn", "Co", "Cs"}:  # not assigned, private, half of one
            key = name_key(f"a{chr(code)}b")
            assert name_key(key) == key, hex(code)


@given(st.text(max_size=12))
def test_a_key_is_its_own_key(text: str) -> None:
    """The key of a key is the key, and neither blanks around nor letter case change it."""
    key = name_key(text)
    assert name_key(key) == key
    assert name_key(f" {text}\u00a0") == key


@given(st.text(st.characters(max_codepoint=126), max_size=12))
def test_the_short_way_is_the_long_one(text: str) -> None:
    """Plain ASCII is read at once, with what the long way gives."""
    assert name_key(text) == name_key(f"\u200b{text}")


def test_names_are_found_in_any_spelling() -> None:
    """A name means itself where it is one, else all that read the same."""
    names = Names(["a-z", "b"])
    names.add("b")
    assert names.meant("A-Z ") == ["a-z"]
    assert names.meant("c") == []
    assert names.doubles() == []
    names.add("A-Z ")
    assert names.meant("a-z") == ["a-z"]
    assert names.meant("A\u2011Z") == ["a-z", "A-Z "]
    assert names.alike("a-z") == ["a-z", "A-Z "]
    assert names.doubles() == [["a-z", "A-Z "]]


def test_what_one_would_not_see_is_shown() -> None:
    """Spellings that look alike are shown so that they do not."""
    assert spelt("Bahamas ") == '"Bahamas "'
    assert spelt("Україна") == '"Україна"'
    assert spelt("a\u00a0\u200b\u00adb") == '"a\\u00a0\\u200b\\u00adb"'
    assert spelt("e\u0301") == '"e\\u0301"'
    assert spelt('say "x"\\') == '"say \\"x\\"\\\\"'
    assert [hidden(text) for text in ("42", "42 ", "\u00a042", "4\u200b2", "Ж", "a b")] == [
        False, True, True, True, False, False,
    ]  # fmt: skip


def test_a_word_that_mixes_alphabets() -> None:
    """A Cyrillic or Greek letter in a Latin word is found; words of one alphabet each are none."""
    assert mixed("USA B\u0430hamas") == "B\u0430hamas"
    assert mixed("\u039dauru") == "\u039dauru"
    assert mixed("Україна Kiev") is None
    assert mixed("Réunion") is None
    assert mixed("日本 Tokyo") is None
    assert mixed("Bahamas") is None
