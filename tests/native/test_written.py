"""Kafka batches of the native engine, byte for byte those of aiokafka's own builder."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import encode_varint
from hypothesis import example, given
from hypothesis import strategies as st

from rater.core.journal.records import Outgoing
from rater.stream import batches as batches_module
from rater.stream.batches import BATCH_BYTES, WrittenBatch, batches


@pytest.fixture(autouse=True, scope="module")
def _the_librarys_level() -> Iterator[None]:
    """Compress as the library does: at another level its bytes would be others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "LEVEL", 3)
        yield


AT_MS = 1_796_000_000_000
ZSTD = 4
SMALL = 700
"""Bytes of a batch: some of the records do not fit into one."""

_bytes = st.none() | st.binary(max_size=300) | st.integers(0, 400).map(lambda size: b"7" * size)
_headers = st.lists(st.tuples(st.text(max_size=70), st.binary(max_size=150)), max_size=4)
_records = st.lists(st.tuples(_bytes, _bytes, _headers), max_size=200)
_producer = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**15 - 1), st.integers(0, 2**31 - 1))


def _library(most: int) -> Any:
    """Return what makes builders as the library's producer does."""
    return SimpleNamespace(create_batch=lambda: BatchBuilder(most, ZSTD, is_transactional=True))


def _built(
    most: int, records: list[Outgoing], at_ms: int, state: tuple[int, int, int], *, native: bool
) -> Any:
    """Return of each batch: records, size before it is built, and its bytes."""
    found = []
    for batch in batches(_library(most), records, at_ms, native=native):
        assert isinstance(batch, WrittenBatch) is native
        size = batch.size()
        batch._set_producer_state(*state)  # noqa: SLF001 - the sender's
        found.append((batch.record_count(), size, bytes(batch._build())))  # noqa: SLF001 - the same
        assert batch.size() == len(found[-1][2])
    return found


@given(_records, st.integers(0, 2**50), _producer)
@example([(b"k" * length, None, [("e", b"v")]) for length in (62, 63, 64, 65)], AT_MS, (1, 2, 3))
@example([(None, b"v", [("h", b"")] * 64)], AT_MS, (1, 2, 3))
@example([(b"1", None, [])] * 200, AT_MS, (1, 2, 3))
@example([(b"k", b"v" * n, [("e", b"1234")]) for n in (303, 302)], AT_MS, (1, 2, 3))  # fills one
def test_the_same_bytes(records: list[Outgoing], at_ms: int, state: tuple[int, int, int]) -> None:
    """Header, records, compression, sums, and where batches are cut: all is as the library makes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "BATCH_BYTES", SMALL)
        written = _built(SMALL, records, at_ms, state, native=True)
    assert written == _built(SMALL, records, at_ms, state, native=False)


def test_the_same_bytes_of_whole_batches() -> None:
    """Batches of 1 MiB, with a record in the middle that is larger than one."""
    records: list[Outgoing] = [(b"%d" % n, b'{"id":"%d"}' % n * 50, [("e", b"%d" % n)]) for n in range(5000)]
    records[2500] = (b"large", b"z" * (BATCH_BYTES + 1), [])
    written = _built(BATCH_BYTES, records, AT_MS, (7, 1, 70), native=True)
    assert written == _built(BATCH_BYTES, records, AT_MS, (7, 1, 70), native=False)
    assert [size <= BATCH_BYTES for _, size, _ in written].count(False) == 1


@given(_records, _records)
def test_a_panic_is_no_loss(ours: list[Outgoing], runs: list[Outgoing]) -> None:
    """Where the engine panics over records the library writes them, also those that the engine wrote."""

    def panics(*_: Any) -> None:
        raise batches_module.engine().Panic("planted")

    run = b"".join(len(body).to_bytes(4, "little") + body for body in map(_body, runs))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module.engine(), "kafka_records", panics)
        found = list(batches(_library(BATCH_BYTES), [*ours, run], AT_MS))
    expected = list(batches(_library(BATCH_BYTES), [*ours, *runs], AT_MS, native=False))
    assert [bytes(batch._build()) for batch in found] == [bytes(batch._build()) for batch in expected]  # noqa: SLF001 - the sender's


def _body(record: Outgoing) -> bytes:
    """Return key, value and headers as Kafka has them."""
    out = bytearray()

    def put(what: bytes | None) -> None:
        encode_varint(-1 if what is None else len(what), out.append)
        out.extend(what or b"")

    key, value, headers = record
    put(key)
    put(value)
    encode_varint(len(headers), out.append)
    for name, header in headers:
        put(name.encode())
        put(header)
    return bytes(out)


def test_a_batch_is_built_once() -> None:
    """Sent again after an error, it has the bytes that it had; and nothing is added to it meanwhile."""
    [batch] = batches(_library(BATCH_BYTES), [(b"k", b"v", [])], AT_MS)
    batch._set_producer_state(1, 2, 3)  # noqa: SLF001 - the sender's
    assert batch.append(timestamp=None, key=b"k", value=b"v") is None
    first = batch._build()  # noqa: SLF001 - the same
    assert batch._build() is first  # noqa: SLF001 - the same
    assert batch.record_count() == 1


@pytest.mark.parametrize(
    "record",
    [
        ("k", b"v", []),
        (b"k", bytearray(b"v"), []),
        (b"k", b"v", (("e", b""),)),
        (b"k", b"v", [(b"e", b"")]),
        [b"k", b"v", []],
    ],
)
def test_what_is_no_record_is_refused(record: Any) -> None:
    """Nothing of it is written."""
    with pytest.raises(TypeError):
        list(batches(_library(BATCH_BYTES), [(b"k", b"v", []), record], AT_MS))


@pytest.mark.parametrize("run", [b"\x01", b"\x02\0\0\0a"])
def test_a_run_that_is_none_is_refused(run: bytes) -> None:
    """Nothing of it is written."""
    with pytest.raises(ValueError, match="no run of records"):
        list(batches(_library(BATCH_BYTES), [run], AT_MS))
