"""Keys of calls sort as bytes in the order of what they are made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rater.core.rerating.calls import PastSide, pack, unpack
from rater.core.rerating.sorting import client_of, key, latest, sorted_again, sorted_unrated

TEXTS = st.text(st.sampled_from("\0\1ab\x7f\u00e9\u20ac\U0001f600"), max_size=4)
NUMBERS = st.integers(-(2**53), 2**53)
KEYS = st.tuples(
    TEXTS, st.integers(0, 1), NUMBERS, TEXTS, TEXTS, st.integers(0, 1), st.integers(0, 300),
    st.integers(0, 1),
)  # fmt: skip


@given(one=KEYS, other=KEYS, same=st.integers(0, 8))
def test_keys_sort_as_their_parts_do(one: tuple[object, ...], other: tuple[object, ...], same: int) -> None:
    """Whatever the texts hold: one that begins another comes before it."""
    other = one[:same] + other[same:]
    made, second = key(*one), key(*other)  # type: ignore[arg-type]
    assert (made < second, made == second) == (one < other, one == other)
    client, begin = client_of(made)
    assert client == one[0]
    assert second.startswith(begin) == (other[0] == client)


def past(revision: int, **more: object) -> PastSide:
    """Return a side of a call with so many revisions."""
    return PastSide(
        "1", None, 0, "s", "a", "calls", 7, 60_000, unanswered=False, caller=None, called="380",
        value=b"{}" if revision else b"", revision=revision, stands=bool(revision), **more,  # type: ignore[arg-type]
    )  # fmt: skip


def test_what_was_published_last() -> None:
    """The last revision, at the place of the first, and that it was reversed; a rejected call has none."""
    first, second = past(1, place=("cdrs", 2, 3)), past(2)
    reversal = key("1", 1, 7, "a", "s", 0, 2, 1), b""
    entries = [sorted_unrated(past(0)), sorted_again(first), sorted_again(second)]
    ((is_fee, was_rated, raw),) = latest(entries)
    assert (is_fee, was_rated) == (False, True)
    assert unpack(raw) == past(2, place=("cdrs", 2, 3))
    ((_, _, raw),) = latest([*entries, reversal])
    one = unpack(raw)
    assert isinstance(one, PastSide)
    assert not one.stands
    assert list(latest([reversal])) == []
    assert list(latest(entries[:1])) == [(False, False, pack(past(0)))]
