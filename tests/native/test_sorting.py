"""Entries are sorted natively as by Python, and of each call the same is found to be the last."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.runs import entries_of, written
from rater.core.rerating import calls
from rater.core.rerating.calls import NOWHERE, Fee, PastSide, pack
from rater.core.rerating.sorting import CALL, FEE, Sorted, client_of, key
from rater.errors import Halt
from rater.jobs import rerate_calls, spooling
from rater.jobs.rerate_calls import Calls
from rater.jobs.spooling import NativeSorter, Sorter
from rater.native import engine
from rater.native.holding import Native

TOGETHER = 3
CLIENTS = ["1", "12", "a\0", "a\0b", "\u00e9\u20ac", ""]
CODES = ["", "38", "380", "4"]


def entry(client: str, name: str, revision: int, turn: int, more: tuple[int, Any, bool]) -> Sorted:
    """Return a call, or a reversal of it, as it is sorted. more: time, place, whether it stands."""
    at_ms, place, stands = more
    of = key(client, CALL, at_ms, name, "s", at_ms % 2, revision, turn)
    if turn:
        return of, b""
    value = b'{"id": "x", "code": "%s"}' % [b"380", b"44"][at_ms % 2] if revision else b""
    call = PastSide(
        client, None, at_ms % 2, "s", name, "calls", at_ms, 60_000, unanswered=False, caller=None, called="",
        value=value, revision=revision, stands=stands, place=place,
    )  # fmt: skip
    return of, pack(call)


ENTRIES = st.builds(
    entry, st.sampled_from(CLIENTS), st.sampled_from(["c", "d"]), st.integers(0, 3), st.integers(0, 1),
    st.tuples(st.integers(-1, 2), st.sampled_from([NOWHERE, ("t", 0, 2**40)]), st.booleans()),
)  # fmt: skip
FEES = st.builds(
    lambda client, n, turn: (key(client, FEE, 0, "f", "", 0, n, turn), b"" if turn else fee(client, n)),
    st.sampled_from(CLIENTS), st.integers(0, 2), st.integers(0, 1),
)  # fmt: skip


def fee(client: str, revision: int) -> bytes:
    """Return a fee as it is kept."""
    return pack(Fee(client, "f", b"{}", revision))


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Have parts of few calls, and many files."""
    with (
        patch.object(calls, "TOGETHER", TOGETHER), patch.object(rerate_calls, "TOGETHER", TOGETHER),
        patch.object(spooling, "TOGETHER", TOGETHER), patch.object(spooling, "SORTED_BYTES", 400),
        patch.object(spooling, "PARTS_MAX", 3), patch.object(spooling, "CHUNK_BYTES", 300),
    ):  # fmt: skip
        yield


def by_clients(made: Calls) -> tuple[list[Fee], list[bytes]]:
    """Return what there is of a client."""
    return made.fees, list(made.spool)


@settings(max_examples=200, deadline=None)
@given(
    entries=st.lists(ENTRIES | FEES, max_size=40, unique_by=lambda of: of[0]), code=st.sampled_from(CODES),
    gone=st.sets(st.sampled_from(["s/c/orig", "s/d/orig", "s/c/term"])),
)  # fmt: skip
def test_the_last_of_each_call(entries: list[Sorted], code: str, gone: set[str]) -> None:
    """By client: fees, and calls in parts of the same size, those left out that Python says."""

    def has(call: PastSide) -> bool:
        return call.name not in gone

    python, native = Sorter(), NativeSorter(Native())
    python.add(*entries)
    for one in entries:
        native.add(one)
    wanted, found = dict[str, Any](), dict[str, Any]()
    for begin, some in groupby(python, key=lambda of: client_of(of[0])[1]):
        made = Calls(code, has)
        made.take(some)
        wanted[client_of(begin)[0]] = by_clients(made)
    for client, parts in groupby(native.calls(code), key=lambda of: of[0]):
        made = Calls(code, has)
        for _, fees, part, doubtful in parts:
            made.take_part(fees, part, doubtful)
        made.end()
        found[client] = by_clients(made)
    assert found == wanted
    python.close()
    native.close()


@settings(max_examples=100, deadline=None)
@given(entries=st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=5)), max_size=60))
def test_runs_are_sorted(entries: list[Sorted]) -> None:
    """Keys that begin alike, keys that are equal, and none; a run begins anew each time."""
    sorting = engine.Sorting()
    for _ in range(2):
        for one in entries:
            sorting.add(*one)
        assert sorting.size() == sum(len(of) + len(raw) for of, raw in entries)
        assert list(entries_of(b"".join(iter(lambda: sorting.run(10), b"")))) == sorted(entries)
    runs = [written(sorted(entries[at::3])) for at in range(3)]
    files: list[Any] = [_File(run) for run in runs[:2]]
    merged, found = engine.Merged(files, runs[2], ""), b""
    while some := merged.run(10):
        found += some
    assert list(entries_of(found)) == sorted(entries)


class _File:
    """A file that gives little at once."""

    def __init__(self, raw: bytes) -> None:
        self.rest = raw

    def read(self, size: int) -> bytes:
        """Return the next bytes."""
        found, self.rest = self.rest[: min(size, 7)], self.rest[min(size, 7) :]
        return found


@pytest.mark.parametrize("cut", [1, 7, 9, 20])
def test_a_run_that_is_cut_off(cut: int) -> None:
    """It is told of: nothing is taken for all."""
    run = written([entry("1", "c", 1, 0, (0, NOWHERE, True))])
    with pytest.raises(ValueError, match="is cut off"):
        engine.Merged([], run[:-cut] if cut < len(run) else run, "").calls(TOGETHER)


def test_a_panic_over_sorted_calls_ends_the_job() -> None:
    """What was read may be gone by then."""
    sorter = NativeSorter(Native())
    sorter.add(entry("1", "c", 1, 0, (0, NOWHERE, True)))
    with (
        patch.object(Native, "merged", side_effect=engine.Panic("out of bounds")),
        pytest.raises(Halt, match="RATER_WORKER__ENGINE=python"),
    ):
        list(sorter.calls(""))
