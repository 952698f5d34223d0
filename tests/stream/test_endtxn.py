"""The end of a Kafka transaction is sent once, on a real broker behind a proxy that loses answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiokafka.producer import sender as aiokafka_sender

from rater.core.journal.records import Outgoing
from rater.errors import Halt, Retake
from rater.stream import connecting, endtxn
from rater.stream.journal import Owner, end_offset

if TYPE_CHECKING:
    from stream.conftest import Proxied, Scene

pytestmark = pytest.mark.kafka

OWNER = Owner("w1", "g")


@pytest.mark.parametrize("mode", ["lose", "cut"])
async def test_unanswered_end_is_sent_once(scene: Scene, proxied: Proxied, mode: str) -> None:
    """EndTxn whose answer is lost is sent once, the caller is told Retake, and the journal says what was."""
    async with proxied() as proxy:
        producer = await scene.lane(request_timeout_ms=1000)
        await producer.claim(OWNER)
        proxy.mode, proxy.end_txns = mode, 0
        with pytest.raises(Retake):
            await producer.commit([(b"c", b"unknown", [])], [], [], scene.mark(1))
        await connecting.settle()
        assert proxy.end_txns == 1
        with pytest.raises(Retake, match=r"closed"):
            await producer.commit([], [], [], scene.mark(2))
    token = await (await scene.lane()).claim(OWNER)
    assert b"unknown" in [value for _, _, value, _ in await scene.journal(token + 1)]


async def test_stock_aiokafka_repeats_it(
    scene: Scene, proxied: Proxied, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the hook the same loss is repeated and reported as success: the hook is what prevents it."""
    async with proxied() as proxy:
        producer = await scene.lane()
        await producer.claim(OWNER)
        monkeypatch.setattr(aiokafka_sender.EndTxnHandler, "do", aiokafka_sender.BaseHandler.do)
        proxy.mode, proxy.end_txns = "cut", 0
        commit = asyncio.create_task(producer.commit([(b"c", b"x", [])], [], [], scene.mark(1)))
        await proxy.answered.wait()
        proxy.mode = "pass"
        await commit
        assert proxy.end_txns == 2
        await producer.close()


async def test_a_new_producer_ends_what_may_be_open_and_each_commit_where_the_last_one_was(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first transaction ends in all partitions of the lane, others where they or the last one wrote."""
    included: list[set[str]] = []
    include = endtxn.include

    def told(producer: object, places: set[tuple[str, int]]) -> None:
        included.append({topic.removeprefix(scene.topics.prefix) for topic, _ in places})
        include(producer, places)

    monkeypatch.setattr(endtxn, "include", told)
    producer = await scene.lane()
    await producer.claim(OWNER)
    rejected: list[Outgoing] = [(None, b"r", [])]
    await producer.commit([(b"c", b"x", [])], rejected, [], scene.mark(1))
    at = await producer.commit([(b"c", b"y", [])], [], [], scene.mark(2))
    await producer.commit([], [], [], scene.mark(3))
    every = {"transactions", "rejected", "events", "commands"}
    both = {"transactions", "rejected"}
    assert included == [every, {"transactions"}, both, both, {"transactions"}]
    # The journal: abort, owner, end, x, mark, end, y and mark.
    assert at == 7
    # Rejected: abort, record, its end, and the end of the commit after it, which wrote nothing there.
    assert await end_offset(scene.client, scene.topics.rejected, 0) == 4


async def test_commit_has_a_deadline(scene: Scene, proxied: Proxied) -> None:
    """A commit that the broker does not answer ends with Retake after our own deadline, not the library's."""
    async with proxied() as proxy:
        producer = await scene.lane(commit_deadline_s=0.3, request_timeout_ms=2000)
        proxy.mode = "lose"
        began = asyncio.get_running_loop().time()
        with pytest.raises(Retake, match=r"TimeoutError"):
            await producer.commit([(b"c", b"x", [])], [], [], scene.mark(1))
        assert asyncio.get_running_loop().time() - began < 1.5
        await connecting.settle()


def test_hook_refuses_other_versions(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version of aiokafka that the hook was not tested with is refused with the remedy."""
    monkeypatch.setattr("aiokafka.__version__", "0.15.0")
    with pytest.raises(Halt, match=r"0\.15\.0 is installed.*aiokafka==0\.14\.\*"):
        endtxn.install()
