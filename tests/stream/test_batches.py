"""Finished batches in the library's sender, on a real broker; and that it still asks what it asked."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import aiokafka
import pytest
from aiokafka.producer import message_accumulator, producer, sender
from aiokafka.producer.message_accumulator import BatchBuilder

from rater.core.journal.records import Outgoing
from rater.stream import batches as batches_module
from rater.stream.batches import BATCH_BYTES, WrittenBatch
from rater.stream.journal import Owner

if TYPE_CHECKING:
    from stream.conftest import Scene

LIBRARY = "0.14.0"
"""Of requirements.lock: with another one look at what its sender does with a batch, then write it here."""
ASKED = {"append", "record_count", "closed", "close", "_set_producer_state", "_build"}
"""What the library's sender asks of a builder."""


def _asked() -> Iterator[str]:
    """Yield the attributes of builders that the library uses outside of their class."""
    for module in (message_accumulator, sender, producer):
        for node in ast.parse(inspect.getsource(module)).body:
            if isinstance(node, ast.ClassDef) and node.name == BatchBuilder.__name__:
                continue
            for part in ast.walk(node):
                if isinstance(part, ast.Attribute) and ast.unparse(part.value).endswith("builder"):
                    yield part.attr


def _shape(function: Any) -> list[tuple[str, Any]]:
    return [(name, of.kind) for name, of in inspect.signature(function).parameters.items()]


def test_the_library_asks_what_it_asked() -> None:
    """A finished batch stands in for a builder: this is all that the library does with one, and how."""
    assert aiokafka.__version__ == LIBRARY
    assert set(_asked()) == ASKED
    for name in (*ASKED, "size"):
        assert _shape(getattr(WrittenBatch, name)) == _shape(getattr(BatchBuilder, name)), name


@pytest.mark.kafka
@pytest.mark.parametrize("way", ["native", "python", "lacking"])
async def test_what_was_written_is_read(scene: Scene, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, values, headers and order are those that were given, over batches and Kafka transactions."""
    if way == "lacking":
        monkeypatch.setattr(batches_module, "engine", lambda: None)
    lane = await scene.lane(native=way != "python")
    await lane.claim(Owner("w1", "g"))
    records: list[Outgoing] = [(b"%d" % n, b'{"id":"%d"}' % n * 60, [("e", b"%d" % n)]) for n in range(3000)]
    records[1500:1500] = [(None, None, [("control", b"\xff"), ("é", b"")]), (b"", b"", [])]
    records[100] = (b"large", b"z" * (BATCH_BYTES + 1), [])
    events: list[Outgoing] = [(b"c", b"event", [])]
    places = []
    for number, some in enumerate((records[:1600], records[1600:], [])):
        places.append(await lane.commit(some, [], events, scene.mark(number)))
    read = await scene.committed(scene.topics.transactions)
    kept = [(one.key, one.value, list(one.headers)) for one in read if one.offset not in places][
        1:
    ]  # less the owner
    assert kept == records
    assert [one.offset for one in read if one.offset in places] == places
    assert [one.value for one in await scene.committed(scene.topics.events)] == [b"event"] * 3
    stamps = [one.timestamp for one in read]
    assert stamps == sorted(stamps)
