"""Lists in files: what goes in comes out, sorted, with few files open however many entries there are."""

from __future__ import annotations

from unittest.mock import patch

from hypothesis import given, settings
from hypothesis import strategies as st

from rater.jobs import spooling
from rater.jobs.spooling import Sorter, Spool, merged

ENTRIES = st.lists(st.tuples(st.binary(max_size=3), st.binary(max_size=5)), max_size=60)


@settings(deadline=None)
@given(entries=ENTRIES)
def test_entries_come_out_sorted(entries: list[tuple[bytes, bytes]]) -> None:
    """Parts are merged to larger ones, and those again: of each size there are fewer than the bound."""
    with patch.object(spooling, "SORTED_MAX", 2), patch.object(spooling, "PARTS_MAX", 3):
        sorter = Sorter()
        for entry in entries:
            sorter.add(entry)
            assert all(len(parts) < 3 for parts in sorter._parts.by_turns)  # noqa: SLF001 - its open files
        assert list(sorter) == sorted(entries)
        assert list(sorter) == sorted(entries)  # as often as one likes
        sorter.close()


def test_entries_that_are_large_go_to_files_by_their_size() -> None:
    """Not by their number alone."""
    with patch.object(spooling, "SORTED_BYTES", 100):
        sorter = Sorter()
        for n in range(9, 0, -1):
            sorter.add((b"%d" % n, bytes(60)))
        assert len(sorter._parts.by_turns[0]) == 4  # noqa: SLF001 - what went to files
        assert [key for key, _ in sorter] == [b"%d" % n for n in range(1, 10)]
        sorter.close()


@settings(deadline=None)
@given(pieces=st.lists(st.binary(max_size=9), max_size=20), more=st.binary(max_size=9))
def test_a_spool_gives_back_what_was_added(pieces: list[bytes], more: bytes) -> None:
    """In memory, and in a file when it is large; also after it was gone through."""
    with patch.object(spooling, "SPOOLED_BYTES", 30):
        spool = Spool()
        for piece in pieces:
            spool.add(piece)
        assert list(spool) == pieces
        spool.add(more)
        assert (list(spool), spool.count) == ([*pieces, more], len(pieces) + 1)
        assert spool.size == sum(map(len, [*pieces, more]))
        spool.close()


def test_sorted_lists_are_merged() -> None:
    """Any number of them."""
    lists = [[(b"a", b""), (b"c", b"")], [], [(b"b", b"x")]]
    assert [key for key, _ in merged(*lists)] == [b"a", b"b", b"c"]
