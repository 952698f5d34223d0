"""Who may ask: tokens, roles, sessions, guesses."""

from __future__ import annotations

import pytest

from rater.admin.access import (
    ATTEMPTS_MAX,
    ATTEMPTS_S,
    SESSION_S,
    Attempts,
    Session,
    Sessions,
    Tokens,
    User,
)

ANNA, VERA = User("anna", "administer"), User("vera", "view")
LONG = "0123456789abcdef01234567"


def test_a_token_is_its_users() -> None:
    """A token is known whole; a part of it, or another, is nobody's."""
    tokens = Tokens([(ANNA, LONG), (VERA, LONG[::-1])])
    assert tokens.user_of(LONG) == ANNA
    assert tokens.user_of(LONG[:-1]) is None
    assert tokens.user_of("") is None
    assert tokens.user_of("\udcff") is None


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ([(ANNA, "short")], "20 or more"),
        ([(ANNA, LONG + "\nmore")], "one line"),
        ([(ANNA, LONG), (VERA, LONG)], "the same token"),
        ([(ANNA, LONG), (ANNA, LONG[::-1])], "two tokens are named anna"),
    ],
)
def test_tokens_that_cannot_be_taken(known: list[tuple[User, str]], told: str) -> None:
    """A token that is easily guessed, or not one user's, is refused with a sentence."""
    with pytest.raises(ValueError, match=told):
        Tokens(known)


def test_a_role_may_what_weaker_ones_may() -> None:
    """What looks may look, what operates may look too, and so on."""
    otto = User("otto", "operate")
    assert [otto.may("view"), otto.may("operate"), otto.may("administer")] == [True, True, False]
    assert not VERA.may("operate")


def test_who_guesses_has_to_wait() -> None:
    """After so many wrong tokens an address waits, and no other one does."""
    attempts = Attempts()
    for second in range(ATTEMPTS_MAX):
        assert attempts.wait_s("a", second) == 0
        attempts.failed("a", second)
    assert attempts.wait_s("a", ATTEMPTS_MAX) == ATTEMPTS_S - ATTEMPTS_MAX + 1
    assert attempts.wait_s("b", ATTEMPTS_MAX) == 0
    assert attempts.wait_s("a", ATTEMPTS_S) == 0


def test_a_session_ends_when_nobody_asks() -> None:
    """Each request keeps it; a long silence, or logging out, ends it."""
    sessions = Sessions()
    sessions.begin(Session("one", ANNA, "csrf", 0))
    assert sessions.find("one", SESSION_S) is not None
    assert sessions.find("one", 2 * SESSION_S) is not None
    assert sessions.find("one", 3 * SESSION_S + 1) is None
    assert sessions.find("one", 3 * SESSION_S + 1) is None
    sessions.begin(Session("two", ANNA, "csrf", 0))
    sessions.end("two")
    assert sessions.find("two", 0) is None
    assert sessions.find(None, 0) is None
    sessions.begin(Session("three", ANNA, "csrf", 0))  # a page that moves by itself lets none go on
    assert sessions.find("three", SESSION_S, by_itself=True) is not None
    assert sessions.find("three", SESSION_S + 1) is None
