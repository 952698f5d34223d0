"""What buckets may forget after each commit of a lane."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from rater.core.line.trimming import Settled, forgettable

FIRST, SECOND, THIRD = Settled((1, 0), 10), Settled((2, 4), 20), Settled((2, 5), 30)


def told(commits: Iterable[tuple[Settled, int]]) -> list[Settled | None]:
    """Return what buckets are told after each commit."""
    unproven, found = None, []
    for now, pending in commits:
        settled, unproven = forgettable(unproven, now, pending)
        found.append(settled)
    return found


def test_one_commit_late() -> None:
    """What is settled with a commit is forgotten after the next one: brokers may forget the last commit."""
    assert told([(FIRST, 0), (SECOND, 0), (THIRD, 0)]) == [None, FIRST, SECOND]


def test_nothing_while_a_predecessor_left_something() -> None:
    """While outcomes of a predecessor wait to be published nothing is forgotten, nor is it to be proven."""
    assert told([(FIRST, 2), (SECOND, 1), (THIRD, 0), (THIRD, 0)]) == [None, None, None, THIRD]


def test_what_was_to_be_proven_waits_for_the_predecessor() -> None:
    """A commit while something is pending proves nothing: what waited for it goes with the next one."""
    assert told([(FIRST, 0), (SECOND, 1), (THIRD, 0)]) == [None, None, FIRST]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=20))
def test_what_may_be_forgotten_is_whole_and_never_of_the_last_commit(steps: list[tuple[int, int]]) -> None:
    """Requests and floor go together, are of one commit before the last, and never go back."""
    commits, number = [], 0
    for floor, (requests, pending) in enumerate(steps):
        number += requests
        commits.append((Settled((number,), floor), pending))
    last = -1
    for at, settled in enumerate(told(commits)):
        if settled is not None:
            assert settled in [now for now, _ in commits[:at]]
            assert commits[at][1] == 0
            assert settled.floor >= last
            last = settled.floor
