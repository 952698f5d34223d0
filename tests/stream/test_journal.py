"""Reading the journal up to an exact place, on a real broker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
import pytest

from rater.core.clients.state import ClientState, write_state
from rater.core.journal.outcomes import KeptChange, write_copy
from rater.core.journal.records import (
    CONTROL_HEADER,
    ChangeRecord,
    Effect,
    StateRecord,
    change_record,
    effect_headers,
    state_record,
)
from rater.errors import Halt, StreamDown
from rater.stream.journal import (
    EarlierMark,
    GroupsMark,
    Mark,
    Owner,
    control_record,
    end_offset,
    last_mark,
    last_marks,
    read_range,
    understood,
)

if TYPE_CHECKING:
    from stream.conftest import Scene

pytestmark = pytest.mark.kafka

OWNER = Owner("w1", "g")


async def test_owner_sees_all_that_was_committed_before(scene: Scene) -> None:
    """Every commit lies below the next owner's record, which ends the tail; its mark is the last one."""
    first = await scene.lane()
    await first.claim(OWNER)
    for number in range(5):
        await first.commit([(b"c", b"%d" % number, [])], [], [], scene.mark(number))
    token = await (await scene.lane()).claim(Owner("w2", "g"))
    assert await last_mark(scene.client, scene.topics.transactions, 0, token) == scene.mark(4)
    tail = await scene.journal(token + 1)
    assert [value for _, _, value, _ in tail if value is not None] == [b"0", b"1", b"2", b"3", b"4"]
    assert tail[-1] == (token, None, None, Owner("w2", "g"))
    assert [offset for offset, *_ in await scene.journal(token)][-1] < token


async def test_a_long_range_comes_in_parts(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one fetch brings is not in memory at once; the parts are whole and end at the place asked for."""
    monkeypatch.setattr("rater.stream.journal.READ_RECORDS_MAX", 3)
    producer = await scene.lane()
    for number in range(4):
        await producer.commit(
            [(b"c", b"%d.%d" % (number, n), []) for n in range(5)], [], [], scene.mark(number)
        )
    token = await (await scene.lane()).claim(OWNER)
    parts = [part async for part in read_range(scene.client, scene.topics.transactions, 0, 0, token)]
    assert max(map(len, parts)) == 3
    values = [value for part in parts for _, _, value, _ in part if value is not None]
    assert values == [b"%d.%d" % (number, n) for number in range(4) for n in range(5)]


async def test_last_mark_is_found_behind_aborted_transactions(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owner records and aborted transactions behind it, more than a step back covers, hide no mark."""
    monkeypatch.setattr("rater.stream.journal.STEP_BACK", 2)
    journal = scene.topics.transactions
    producer = await scene.lane()
    await producer.commit([(b"c", b"x", [])], [], [], scene.mark(7))
    for _ in range(3):
        await producer.claim(OWNER)
    _, value, headers = control_record(scene.mark(8))
    aborter = await scene.transactional("aborter")
    for _ in range(5):
        await aborter.begin_transaction()
        await aborter.send_and_wait(journal, value, key=b"m", headers=headers, partition=0)
        await aborter.abort_transaction()
    token = await (await scene.lane()).claim(OWNER)
    assert await last_mark(scene.client, journal, 0, token) == scene.mark(7)
    assert [said for *_, said in await scene.journal(token)][-4:] == [scene.mark(7), OWNER, OWNER, OWNER]


async def test_a_lane_that_never_committed_has_no_mark(scene: Scene) -> None:
    """An empty journal, and one with owner records alone, is a new lane and not a fault."""
    producer = await scene.lane()
    assert await last_mark(scene.client, scene.topics.transactions, 0, await producer.claim(OWNER)) is None
    assert await last_mark(scene.client, scene.topics.transactions, 0, await producer.claim(OWNER)) is None


async def test_last_marks_of_all_lanes(scene: Scene) -> None:
    """A lane without a mark has None: one that committed none, and one that nobody has taken yet."""
    journal, lanes = scene.topics.transactions, scene.topics.partitions
    assert await last_marks(scene.client, journal, lanes, deadline_s=5) == [None] * lanes
    producer = await scene.lane(1)
    await producer.claim(OWNER)
    assert await last_marks(scene.client, journal, lanes, deadline_s=5) == [None] * lanes
    await producer.commit([], [], [], scene.mark(3))
    offset = await producer.commit([], [], [], scene.mark(4))
    async with asyncio.timeout(10):
        while await end_offset(scene.client, journal, 1) <= offset:
            pass  # the broker has promised it, and writes its marker within milliseconds
    assert await last_marks(scene.client, journal, lanes, deadline_s=5) == [
        scene.mark(4) if lane == 1 else None for lane in range(lanes)
    ]


async def test_a_truncated_journal_halts(scene: Scene) -> None:
    """When records that are needed were removed, reading stops with the remedy; the rest can be read."""
    journal = scene.topics.transactions
    producer = await scene.lane()
    offset = await producer.commit([(b"c", b"x", [])], [], [], scene.mark(1))
    kept = await producer.commit([(b"c", b"y", [])], [], [], scene.mark(2))
    token = await producer.claim(OWNER)
    await scene.remove_before(journal, offset + 1)
    with pytest.raises(
        Halt, match=rf"{journal}\[0\] begins at offset {offset + 1}, but is needed from 0: .*backup"
    ):
        await scene.journal(token)
    assert await last_mark(scene.client, journal, 0, token) == scene.mark(2)
    await scene.remove_before(journal, kept + 1)
    with pytest.raises(Halt, match=r"retention\.ms=-1"):
        await last_mark(scene.client, journal, 0, token)


async def test_what_cannot_be_read_halts(scene: Scene) -> None:
    """A header of ours that this version does not know stops the reader; others' headers do not matter."""
    producer = await scene.lane()
    await producer.commit([(b"c", b"x", [("trace", b"?")])], [], [], scene.mark(1))
    token = await producer.claim(OWNER)
    assert (await scene.journal(token))[0][3] is None
    writer = await scene.writer("foreign")
    [offset] = await writer.write(
        [(scene.topics.transactions, 0, None, None, [("control", b"\x91\xa6future")])]
    )
    with pytest.raises(Halt, match=r"'control' that cannot be read .* newer version"):
        await scene.journal(offset + 1)


def test_a_state_is_keyed_by_its_client() -> None:
    """A state lies with its client's transactions, and is read as it was written."""
    client = ClientState("42", 3, 1, "Rose", None, "USD", "UTC", 0, None, None, None, {}, {"acc": {}}, [], 0)
    state = StateRecord("t.commands", 5, 0, "42", 3, write_state(client), [("acc", "42")])
    key, value, headers = state_record(state)
    assert (key, value, understood(headers)) == (b"42", None, state)


def reads_or_halts(change: ChangeRecord, *, reads: bool) -> None:
    """Assert that a change is read as it was written, or that it is none."""
    _, _, headers = change_record(change)
    if reads:
        assert understood(headers) == change
    else:
        with pytest.raises(Halt, match=r"'control' that cannot be read"):
            understood(headers)


@pytest.mark.parametrize("client", ["", "43"])
def test_a_change_of_another_client_than_its_state_halts(client: str) -> None:
    """A change holds the state of the client that it names, and it names one: else nobody takes it."""
    state = ClientState("42", 3, 1, "Rose", None, "USD", "UTC", 0, None, None, None, {}, {}, [], 0)
    change = ChangeRecord("t.commands", 5, 2, 0, 0, client, 3, write_state(state), 0, [])
    _, _, headers = change_record(change)
    with pytest.raises(Halt, match=r"'control' that cannot be read"):
        understood(headers)


@pytest.mark.parametrize(("element", "reads"), [(b"\x00\x0742", True), (b"\x00\x0743", False), (b"7", False)])
def test_a_hint_is_of_the_client_that_changes(element: bytes, reads: bool) -> None:  # noqa: FBT001
    """A change with hints, members and history is read as it was written; with another's hint it is none."""
    state = ClientState("42", 3, 1, "Rose", None, "USD", "UTC", 0, None, None, None, {}, {}, [], 0)
    change = ChangeRecord(
        "t.commands", 5, 2, 0, 0, "42", 3, write_state(state), 0, [], [(9, element)], ["1"], [("3.1", b"row")]
    )
    reads_or_halts(change, reads=reads)


@pytest.mark.parametrize(
    ("copy", "reads"),
    [(write_copy(KeptChange("t.cdrs", 7, 2, 0, "42", 2, b"r", 0, [], (), ()), "id"), True),
     (write_copy(KeptChange("t.cdrs", 7, 2, 0, "43", 2, b"r", 0, [], (), ()), "id"), False),
     (b"\x01", False)],
    ids=["the same client's", "another's", "none"],
)  # fmt: skip
def test_what_a_change_goes_on_from_is_of_its_client(copy: bytes, reads: bool) -> None:  # noqa: FBT001
    """A change with copies of changes of other lanes is read as it was written; else it is none."""
    state = ClientState("42", 3, 1, "Rose", None, "USD", "UTC", 0, None, None, None, {}, {}, [], 0)
    change = ChangeRecord("t.commands", 5, 2, 0, 0, "42", 3, write_state(state), 0, [], upon=[(1, copy)])
    reads_or_halts(change, reads=reads)


async def test_foreign_transaction_in_the_journal_is_told(scene: Scene) -> None:
    """A read of the journal that another producer blocks ends by its deadline and says so."""
    journal = scene.topics.transactions
    foreign = await scene.transactional("foreign")
    await foreign.begin_transaction()
    await foreign.send_and_wait(journal, b"open", partition=0)
    token = await (await scene.lane()).claim(OWNER)
    with pytest.raises(StreamDown, match=r"holds a Kafka transaction open"):
        await last_mark(scene.client, journal, 0, token, deadline_s=1)
    await foreign.abort_transaction()
    assert await last_mark(scene.client, journal, 0, token) is None


async def test_nothing_to_read_reads_nothing(scene: Scene) -> None:
    """An empty range asks the broker nothing; the end of an empty partition is 0."""
    nowhere = {"bootstrap_servers": "127.0.0.1:1"}
    assert [records async for records in read_range(nowhere, "t", 0, 5, 5)] == []
    assert await end_offset(scene.client, scene.topics.transactions, 1) == 0


def test_marks_of_earlier_versions_are_read() -> None:
    """A mark without token, or without ids of topics, says the rest; one of ours gives back what it was.

    Its tag is another now, which they cannot read: they stop at it.
    """
    ours = Mark({"t.cdrs": 1}, {"t.cdrs": 2}, 3, 4, 5, 6, {"t.cdrs": "x" * 22})
    ((name, raw),) = control_record(ours)[2]
    assert understood([(name, raw)]) == ours
    tag, *fields = msgspec.msgpack.decode(raw)
    assert tag == "mark_v4"
    for count, said in ((7, EarlierMark(*fields[:7])), (6, EarlierMark(*fields[:6])), (5, None)):
        earlier = msgspec.msgpack.encode(["mark", *fields[:count]])
        read = understood([(CONTROL_HEADER, earlier)])
        assert isinstance(read, Mark)
        assert read == said or (read.token, read.ids) == (-1, {})
    groups = msgspec.msgpack.encode(["mark_v3", *fields])
    assert understood([(CONTROL_HEADER, groups)]) == GroupsMark(*fields)


@pytest.mark.parametrize("field", ["v", "b"])
def test_a_header_adds_to_no_version_and_no_balance(field: str) -> None:
    """Counters lie beside a client's version and balance: a header that names these is none of ours."""
    effect = Effect("t.cdrs", 0, 5, 0, 1, 1, b"k" * 8, b"c" * 4, "42", -6000, [(field, 60)])
    with pytest.raises(Halt, match="'e' that cannot be read"):
        understood(effect_headers(effect))
