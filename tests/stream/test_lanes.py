"""Owning a lane and writing for it, on a real broker."""

from __future__ import annotations

import asyncio
import gc
import random
from typing import TYPE_CHECKING, Any, Self

import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator

from rater.core.journal.records import Effect, effect_headers
from rater.errors import Fenced, Halt, StreamDown
from rater.stream import connecting
from rater.stream import producer as producer_module
from rater.stream.group import Ownership
from rater.stream.journal import Owner, last_mark
from rater.stream.producer import LaneProducer
from rater.stream.topics import Topics

if TYPE_CHECKING:
    from stream.conftest import Scene

pytestmark = pytest.mark.kafka

OWNER = Owner("w1", "g")


async def test_new_owner_fences_the_old(scene: Scene) -> None:
    """Once a second producer of the lane is open, the first one publishes nothing and is told Fenced."""
    first = await scene.lane()
    await first.claim(OWNER)
    second = await scene.lane()
    with pytest.raises(Fenced, match=r"newer producer"):
        await first.commit([(b"c", b"zombie", [])], [(b"c", b"zombie", [])], [], scene.mark(1))
    token = await second.claim(OWNER)
    assert b"zombie" not in [value for _, _, value, _ in await scene.journal(token + 1)]
    assert await scene.committed(scene.topics.rejected) == []


async def test_a_fenced_commit_leaves_no_exception_unasked(scene: Scene) -> None:
    """Nothing is left for asyncio to log about the batches that were given up; each commit says Fenced."""
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))
    first = await scene.lane()
    await first.claim(OWNER)
    await scene.lane()
    big: list[Any] = [(b"c", b"z" * 700_000, [])] * 3  # each a batch
    with pytest.raises(Fenced):
        await first.commit(big, big, big, scene.mark(1))
    await connecting.settle()
    gc.collect()
    assert told == []


async def test_lanes_do_not_fence_each_other(scene: Scene) -> None:
    """Each lane has an id and a partition of its own."""
    first, second = await scene.lane(0), await scene.lane(1)
    assert await first.claim(OWNER) == await second.claim(OWNER) == 1  # behind an abort's marker
    await first.commit([], [], [], scene.mark(1))


async def test_open_transaction_of_the_old_owner_is_not_seen(scene: Scene) -> None:
    """What the predecessor left open is aborted by the take-over; the tail neither has it nor waits."""
    first = await scene.transactional("g-0")  # the id of lane 0
    await first.begin_transaction()
    await first.send_and_wait(scene.topics.transactions, b"open", partition=0)
    token = await (await scene.lane()).claim(OWNER)
    assert [value for _, _, value, _ in await scene.journal(token + 1)] == [None]
    assert await last_mark(scene.client, scene.topics.transactions, 0, token) is None


async def test_who_is_slower_than_the_transaction_timeout_is_fenced(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A Kafka transaction that outlives its timeout publishes nothing, and the lane can be taken again."""
    events = scene.topics.events
    send = producer_module._send  # noqa: SLF001 - where a commit stands between its records and its end

    async def slowly(*args: Any) -> None:
        await send(*args)
        assert await scene.decided(events, 2) == []  # the broker's abort marker has come

    producer = await scene.lane(transaction_timeout_ms=1000)
    with monkeypatch.context() as patch:
        patch.setattr(producer_module, "_send", slowly)
        with pytest.raises(Fenced, match=r"too slow"):
            await producer.commit([], [], [(b"c", b"slow", [])], scene.mark(1))
    await (await scene.lane()).commit([], [], [(b"c", b"again", [])], scene.mark(1))
    assert [record.value for record in await scene.committed(events)] == [b"again"]


async def test_a_timeout_that_the_broker_does_not_allow_halts(scene: Scene) -> None:
    """A transaction timeout above the broker's maximum is a setting to correct, not a broker to wait for."""
    with pytest.raises(Halt, match=r"transaction\.max\.timeout\.ms"):
        await scene.lane(transaction_timeout_ms=3_600_000)


async def test_commit_of_many_and_of_big_records(scene: Scene) -> None:
    """5,000 transactions, one of 900 KB, a rejected input of 10 MB and an event make one commit, in order."""
    effect = Effect("t.cdrs", 0, 9, 1, 5, 6, b"k" * 8, b"c" * 4, "42", -6000, [("3.4.m1", 60)])
    many: list[Any] = [(b"42", b'{"n":%d}' % number * 20, effect_headers(effect)) for number in range(5000)]
    many.insert(2500, (b"42", bytes(range(256)) * 3600, []))
    producer = await scene.lane()
    rejected = [(None, b"r" * (10 * 2**20), [("reason", b"too_large")])]
    offset = await producer.commit(many, rejected, [(b"42", b"{}", [])], scene.mark(1))
    found = await scene.journal(offset + 1)
    assert [value for _, _, value, _ in found] == [value for _, value, _ in many] + [None]
    assert found[0][3] == effect
    assert found[-1] == (offset, None, None, scene.mark(1))
    (reject,) = await scene.committed(scene.topics.rejected)
    assert (len(reject.value), reject.headers) == (10 * 2**20, (("reason", b"too_large"),))
    assert len(await scene.committed(scene.topics.events)) == 1


@pytest.mark.parametrize("native", [True, False])
async def test_too_large_is_never_committed(scene: Scene, native: bool) -> None:  # noqa: FBT001 - a parameter
    """A record that the broker refuses stops with a sentence, and nothing of its commit is published."""
    producer = await scene.lane(native=native)
    # incompressible, for the broker measures what arrives
    big = random.Random(1).randbytes(12 * 2**20)  # noqa: S311 - noise
    with pytest.raises(Halt, match=r"larger than the topic takes: set its max\.message\.bytes to 11534336"):
        await producer.commit([(b"c", b"with it", [])], [(None, big, [])], [], scene.mark(1))
    await connecting.settle()
    token = await (await scene.lane()).claim(OWNER)
    assert [said for *_, said in await scene.journal(token + 1)] == [OWNER]


async def test_closing_in_a_commit_aborts_it(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing in the middle of a Kafka transaction aborts it, so readers do not wait until it times out."""
    events, producer = scene.topics.events, await scene.lane()
    commit, sending = _stuck(scene, producer, monkeypatch)
    await sending.wait()
    await producer.close()
    await producer.close()
    assert await scene.decided(events, 2) == []  # of the record and its abort marker
    commit.cancel()
    await asyncio.wait([commit])


async def test_a_cancelled_commit_is_aborted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that is cancelled before its end was asked for publishes nothing and is cleaned up."""
    events, producer = scene.topics.events, await scene.lane()
    commit, sending = _stuck(scene, producer, monkeypatch)
    await sending.wait()
    commit.cancel()
    with pytest.raises(asyncio.CancelledError):
        await commit
    await connecting.settle()
    assert await scene.decided(events, 2) == []


def _stuck(
    scene: Scene, producer: LaneProducer, monkeypatch: pytest.MonkeyPatch
) -> tuple[asyncio.Task[int], asyncio.Event]:
    """Begin a commit that goes no further than its records; the event is set when they are sent."""
    sending = asyncio.Event()
    send = producer_module._send  # noqa: SLF001 - where a commit stands between its records and its end

    async def stuck(*args: Any) -> None:
        await send(*args)
        await asyncio.gather(*(each.delivery for each in args[3]))
        sending.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(producer_module, "_send", stuck)
    commit = asyncio.create_task(producer.commit([], [], [(b"c", b"open", [])], scene.mark(1)))
    return commit, sending


async def test_writer_writes_to_many_partitions_at_once(scene: Scene) -> None:
    """A writer's records appear together, each at the offset returned; a second writer of the id fences."""
    writer = await scene.writer("catalog")
    chunk = b"x" * 900_000
    records: list[Any] = [
        (scene.topics.commands, number % 2, b"k", b"%d" % number + chunk, []) for number in range(12)
    ]
    assert await writer.write(records) == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    found = await scene.committed(scene.topics.commands)
    assert [record.value[:2] for record in found] == [b"0x", b"2x", b"4x", b"6x", b"8x", b"10"]
    await scene.writer("catalog")
    with pytest.raises(Fenced):
        await writer.write(records)


async def test_start_without_a_broker_ends_at_the_deadline() -> None:
    """A producer for a broker that is away says StreamDown after the deadline."""
    nowhere = {"bootstrap_servers": "127.0.0.1:1"}
    producer = LaneProducer(nowhere, Topics("t.", 1), "g", 0, open_deadline_s=0.3)
    with pytest.raises(StreamDown, match=r"not reachable"):
        await producer.open()


class Member:
    """A worker of the group that only notes its lanes."""

    def __init__(self, scene: Scene, **settings: Any) -> None:
        """Not in the group yet."""
        self.lanes: set[int] = set()
        self.changed = asyncio.Event()
        self.gate = asyncio.Event()  # a revocation ends when it is set
        self.gate.set()
        self.revoking = asyncio.Event()
        self.ownership = Ownership(
            scene.client,
            scene.group,
            scene.topics.commands,
            **{"session_timeout_ms": 6000, "heartbeat_interval_ms": 200, **settings},
        )

    async def __aenter__(self) -> Self:
        """Join the group and keep polling."""
        await self.ownership.start(self.revoked, self.assigned)
        self.running = asyncio.create_task(self.ownership.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Leave the group; `run` ends by itself."""
        await self.ownership.stop()
        await asyncio.wait_for(self.running, 5)

    async def revoked(self, revoked: set[int]) -> None:
        """Give lanes up when the gate opens."""
        self.revoking.set()
        await self.gate.wait()
        self.lanes -= revoked

    async def assigned(self, assigned: set[int]) -> None:
        """Note lanes."""
        self.lanes |= assigned
        self.changed.set()

    async def until(self, count: int) -> None:
        """Wait until so many lanes are ours."""
        async with asyncio.timeout(15):
            while len(self.lanes) != count:
                self.changed.clear()
                await self.changed.wait()


async def test_lanes_are_handed_over(scene: Scene) -> None:
    """Two workers have each lane exactly once, and who stays gets the lanes of who leaves."""
    async with Member(scene) as second:
        async with Member(scene) as first:
            await first.until(1)
            await second.until(1)
            assert first.lanes | second.lanes == {0, 1}
        await second.until(2)


async def test_a_lane_is_not_assigned_before_it_was_given_up(scene: Scene) -> None:
    """Another worker gets a lane only when the callback that gives it up has returned."""
    async with Member(scene) as first:
        await first.until(2)
        first.gate.clear()
        async with Member(scene) as second:
            await first.revoking.wait()
            assert second.lanes == set()
            assert not second.changed.is_set()
            first.gate.set()
            await second.until(1)
            await first.until(1)
            assert first.lanes | second.lanes == {0, 1}


async def test_who_is_stopped_within_a_rebalance_ends(scene: Scene) -> None:
    """`run` ends when told to stop while others have not given their lanes up, and nobody gets any."""
    async with Member(scene) as first:
        await first.until(2)
        first.gate.clear()
        async with Member(scene) as second:
            await first.revoking.wait()
            assert second.lanes == set()
        first.gate.set()


async def test_failed_callback_ends_the_run(scene: Scene) -> None:
    """What a callback raises comes out of `run`, where aiokafka would have swallowed it."""
    member = Member(scene)

    async def broken(_: set[int]) -> None:
        await asyncio.sleep(0)
        raise Halt("cannot take it")

    await member.ownership.start(member.revoked, broken)
    with pytest.raises(Halt, match=r"cannot take it"):
        await asyncio.wait_for(member.ownership.run(), 15)
    await member.ownership.stop()


async def test_a_session_that_the_broker_does_not_allow_halts(scene: Scene) -> None:
    """A session timeout outside the broker's bounds is told, instead of being without lanes for ever."""
    member = Member(scene, session_timeout_ms=500, heartbeat_interval_ms=100)
    await member.ownership.start(member.revoked, member.assigned)
    with pytest.raises(Halt, match=r"session_timeout_ms must lie within the broker's"):
        await asyncio.wait_for(member.ownership.run(), 15)
    await member.ownership.stop()


async def test_the_death_of_the_librarys_group_task_ends_the_run(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When aiokafka's own part in the group dies, `run` ends, instead of polling on without ever a lane."""

    async def broken(*_: object) -> None:
        await asyncio.sleep(0)
        raise ZeroDivisionError

    monkeypatch.setattr(GroupCoordinator, "ensure_active_group", broken)
    member = Member(scene)
    await member.ownership.start(member.revoked, member.assigned)
    with pytest.raises(StreamDown, match=r"failed for good"):
        await asyncio.wait_for(member.ownership.run(), 15)
    await member.ownership.stop()
