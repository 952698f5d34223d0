"""Connecting while the broker is away, being refused, and what is left to the background."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import aiokafka.client
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
)

from rater.errors import Halt, StreamDown
from rater.stream import connecting
from rater.stream.connecting import later, reading, settle, shut, started
from rater.stream.group import Ownership
from rater.stream.producer import LaneProducer
from rater.stream.topics import Topics

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from stream.conftest import Guarded, Scene


class Away:
    """A client that fails to start as often as there are errors."""

    def __init__(self, errors: list[BaseException]) -> None:
        """Share the errors with those made after it."""
        self.errors = errors
        self.stopped = False

    async def start(self) -> None:
        """Fail by the next error."""
        if self.errors:
            raise self.errors.pop(0)

    async def stop(self) -> None:
        """Note it, and fail as well."""
        self.stopped = True
        raise KafkaConnectionError


async def test_starting_goes_on_until_the_broker_is_there() -> None:
    """Each attempt has a fresh client, and each client that failed is stopped, whatever stopping raises.

    AssertionError is what aiokafka raises where the broker names no broker, not even itself.
    """
    nobody = AssertionError("Did we not perform bootstrap?")
    errors: list[BaseException] = [KafkaConnectionError(), OSError(), TimeoutError(), nobody]
    made: list[Away] = []

    def make() -> Away:
        made.append(Away(errors))
        return made[-1]

    assert await started(make, 30) is made[-1]
    assert [client.stopped for client in made] == [True, True, True, True, False]


async def test_starting_ends_at_its_deadline_or_at_a_refusal() -> None:
    """A broker that stays away means StreamDown after the deadline, a refusal means Halt at once."""
    away = Away([KafkaConnectionError("nobody")] * 100)
    began = asyncio.get_running_loop().time()
    with pytest.raises(StreamDown, match=r"not reachable \(KafkaConnectionError: nobody\)"):
        await started(lambda: away, 0.25)
    assert 0.1 < asyncio.get_running_loop().time() - began < 2
    with pytest.raises(Halt, match=r"kafka\.sasl_password"):
        await started(lambda: Away([SaslAuthenticationFailed("no")]), 60)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (KafkaConnectionError(f"from {[('kafka1', 9092, socket.AF_INET)]}"), "from [kafka1:9092]"),
        (TimeoutError(), "(TimeoutError)"),
    ],
)
async def test_why_kafka_is_away_is_readable(error: Exception, said: str) -> None:
    """Servers are told as people write them, and an error without a text by its name."""
    with pytest.raises(StreamDown) as told:
        await started(lambda: Away([error] * 10), 0)
    assert said in str(told.value)


async def test_a_cancelled_start_is_stopped_in_the_background() -> None:
    """Who is cancelled while connecting leaves no client behind."""
    away = Away([asyncio.CancelledError()])
    with pytest.raises(asyncio.CancelledError):
        await started(lambda: away, 60)
    await settle()
    assert away.stopped


@pytest.mark.kafka
async def test_a_start_that_is_cancelled_leaves_no_connection(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not the first one either, by which aiokafka asks who is there."""
    made: list[Any] = []
    connect = aiokafka.client.create_conn

    async def connected(*place: Any, **more: Any) -> Any:
        made.append(await connect(*place, **more))
        asyncio.get_running_loop().call_soon(task.cancel)
        return made[-1]

    monkeypatch.setattr(aiokafka.client, "create_conn", connected)
    task = asyncio.create_task(started(lambda: connecting.consumer(scene.client), 30))
    with pytest.raises(asyncio.CancelledError):
        await task
    await settle()
    assert [one.connected() for one in made] == [False] * len(made)
    assert made


async def test_shutting_a_client_that_hangs_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client whose stop never ends is left after `STOP_S`; what is left to the background is waited for."""
    monkeypatch.setattr(connecting, "STOP_S", 0.01)

    class Hanging:
        """Never stops."""

        async def close(self) -> None:
            """Hang."""
            await asyncio.Event().wait()

    task = later(shut(Hanging()))
    await settle()
    assert task.done()


@pytest.mark.kafka
@pytest.mark.parametrize("stop", [AIOKafkaConsumer.stop, shut])
async def test_a_consumer_whose_fetch_waits_to_be_tried_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, stop: Callable[[Any], Awaitable[None]]
) -> None:
    """The library's `stop` passes the fetch's cancellation on and leaves connections; `shut` does neither."""
    reader = await started(lambda: connecting.consumer(scene.client, retry_backoff_ms=60_000), 30)
    library = reader._client  # noqa: SLF001 - whose connections are left
    asked = asyncio.Event()

    async def fail(*_: Any, **__: Any) -> None:
        asked.set()
        raise KafkaConnectionError

    monkeypatch.setattr(library, "send", fail)
    place = TopicPartition(scene.topics.transactions, 0)
    reader.assign([place])
    reader.seek(place, 0)
    await asyncio.wait_for(asked.wait(), 30)
    await asyncio.sleep(0)
    if stop is shut:
        await stop(reader)
    else:
        with pytest.raises(asyncio.CancelledError):
            await stop(reader)
        assert any(connection.connected() for connection in library._conns.values())  # noqa: SLF001
        await library.close()
    assert not any(connection.connected() for connection in library._conns.values())  # noqa: SLF001


@pytest.mark.kafka
async def test_faults_while_reading_are_sorted(scene: Scene) -> None:
    """Inside `reading`, a refusal becomes Halt and another error of Kafka StreamDown."""
    for error, kind in ((TopicAuthorizationFailedError("t"), Halt), (KafkaConnectionError("x"), StreamDown)):
        with pytest.raises(kind):
            async with reading(scene.client, [], deadline_s=10):
                raise error


@pytest.mark.kafka
async def test_who_may_not_is_told_which_right_is_missing(guarded: Guarded, prefix: str) -> None:
    """Without rights, taking a lane and joining the group stop with the setting whose user lacks them."""
    topics = Topics(prefix, 1)
    await topics.create(guarded("admin", "admin"), 1)
    guest = guarded("guest", "guest")
    with pytest.raises(Halt, match=r"kafka\.sasl_username may not use transactional ids .*kafka\.group_id"):
        await LaneProducer(guest, topics, f"{prefix}g", 0).open()
    assert "the group of kafka.group_id" in connecting.refusal(GroupAuthorizationFailedError("g"))

    async def ignored(_: set[int]) -> None:
        """Take no lane."""

    ownership = Ownership(guest, f"{prefix}g", topics.commands)
    await ownership.start(ignored, ignored)
    with pytest.raises(Halt, match=r"kafka\.sasl_username may not use"):
        await asyncio.wait_for(ownership.run(), 15)
    await ownership.stop()


async def test_a_lane_of_a_wrong_password_waits_for_no_broker(guarded: Guarded) -> None:
    """A refused login ends like a broker that is away, by the deadline; `rater check` tells them apart."""
    wrong: dict[str, Any] = guarded("admin", "wrong")
    with pytest.raises(StreamDown, match=r"not reachable"):
        await LaneProducer(wrong, Topics("t.", 1), "g", 0, open_deadline_s=0.2).open()
