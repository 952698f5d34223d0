"""Each safeguard, switched off, makes runs go wrong that go right with it: so the simulation can find that.

A safeguard is switched off here alone, by putting something in its place. Each test runs seeds with the
faults that the safeguard is for until one goes wrong, then that very seed with the safeguard in place.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
from aiokafka.producer import sender as aiokafka_sender
from msgspec.structs import replace

from rater.core.bucket import model
from rater.core.bucket.duplicates import Duplicates
from rater.core.bucket.messages import Status
from rater.core.bucket.model import Bucket
from rater.core.clients.state import ClientState
from rater.core.clients.views import ClientView
from rater.core.journal.outcomes import KeptChange
from rater.core.journal.reconciling import Reconciling
from rater.core.line import draw_request, steps, trimming
from rater.core.line.batch import Batch, Side
from rater.core.line.trimming import Settled
from rater.stream import endtxn, journal
from rater.stream import producer as producer_module
from rater.stream.journal import Mark
from rater.worker import takeover
from rater.worker.buckets import LaneBuckets
from rater.worker.line import Line
from simulation import clients
from simulation.checking import check as check_world
from simulation.loads import BACKLOG, UNBROKEN, Backlog, Loads
from simulation.scenario import Profile, Scenario, call_of, catalog
from simulation.world import Failure, World

pytestmark = pytest.mark.usefixtures("simulated")

SEEDS_MAX = 300


def profile(name: str, **more: Any) -> Profile:
    """Return a profile with these faults only."""
    return Profile(name=name, **{"second_load": 0.0, "faults": (2, 5), **more})


def red_seed(faults: Profile, wanted: str, kind: type[Scenario], first: int) -> int:
    """Return the next seed, from the first on, that goes wrong in the way that the safeguard prevents."""
    for seed in range(first, first + SEEDS_MAX):
        try:
            kind(seed, faults).run()
        except Failure as failure:
            if any(fault.startswith(tuple(wanted.split())) for fault in failure.faults):
                return seed
    pytest.fail(f"{SEEDS_MAX} seeds without the safeguard, and none goes wrong")


def check(
    switched_off: Any, faults: Profile, wanted: str, kind: type[Scenario] = Scenario, first: int = 0
) -> None:
    """Find a seed that is red without the safeguard; with it the seed is green.

    first: where to begin; near to one that was red, for the time that it takes.
    """
    with switched_off:
        seed = red_seed(faults, wanted, kind, first)
    kind(seed, faults).run()


def test_stored_outcome() -> None:
    """Without the stored outcome, what was drawn and not published comes again as its own duplicate: lost."""
    request = draw_request.RequestBuilder.request

    def without(self: Any, *args: Any) -> Any:
        call = request(self, *args)
        call.contextless = True
        return call

    crashes = profile("crashes", weights={"crash": 1, "freeze": 1})
    check(mock.patch.object(draw_request.RequestBuilder, "request", without), crashes, "I2 I4")


def test_replay_before_identification() -> None:
    """Without looking for stored outcomes first, they are decided again, as duplicates of themselves."""
    crashes = profile("crashes", weights={"crash": 1, "freeze": 1})
    check(mock.patch.object(steps, "replay_of", return_value=()), crashes, "I2 I4")


def test_mark() -> None:
    """Without the mark's positions, records that left no transaction are worked on again: rejected twice."""
    commit = producer_module.LaneProducer.commit

    async def without(
        self: Any, transactions: Any, rejected: Any, events: Any, mark: Mark, *more: Any
    ) -> int:
        first = self.__dict__.setdefault("first", mark)
        return await commit(self, transactions, rejected, events, replace_mark(mark, first), *more)

    def replace_mark(mark: Mark, first: Mark) -> Mark:
        return replace(mark, positions=first.positions, times=first.times)

    crashes = profile("crashes", weights={"crash": 1, "freeze": 1}, bad=0.4)
    check(mock.patch.object(producer_module.LaneProducer, "commit", without), crashes, "I1")


def test_journal_tail() -> None:
    """Resuming from the group's offsets, which lag, instead of the journal's tail: rejected twice."""
    last_mark = journal.last_mark

    async def without(client: Any, topic: str, partition: int, *args: Any, **more: Any) -> Mark | None:
        mark = await last_mark(client, topic, partition, *args, **more)
        broker = clients.BROKERS[client["bootstrap_servers"]]
        kept = {name: at for (_, name, lane), at in broker.offsets.items() if lane == partition}
        if mark is None:
            return None
        # Without the times: nobody compares what the group's offsets do not carry.
        return replace(mark, positions={name: kept.get(name, 0) for name in mark.positions}, times={})

    crashes = profile("crashes", weights={"crash": 1, "freeze": 1}, bad=0.4)
    check(mock.patch.object(takeover, "last_mark", without), crashes, "I1 I2 I4")


def test_reconcile() -> None:
    """Without reconciling, what the store lost stays lost: counters and balances are too small."""
    reconcile = LaneBuckets.reconcile

    async def without(self: LaneBuckets, bucket: int, what: Any) -> None:
        names = ("balances", "counters", "duplicates", "states", "accounts")
        nothing: dict[str, Any] = {name: [] for name in names}
        await reconcile(self, bucket, replace(what, added=None, **nothing))

    losses = profile("losses", weights={"roll_back": 2, "flush": 1})
    check(mock.patch.object(LaneBuckets, "reconcile", without), losses, "I2 I3 not")


def test_duplicate_check() -> None:
    """Without looking for the key, a call that comes twice is charged twice."""
    blind = mock.patch.object(Duplicates, "known", return_value=None)
    check(blind, profile("duplicates", faults=(0, 1), duplicates=0.4), "I3")


def test_gate() -> None:
    """Without the gate, a store that lost history rates a call again that an idle lane has rated."""

    def without(self: Bucket, lane: int, token: int, number: int) -> Status:
        return self.guard(lane, token, number)

    losses = profile("losses over lanes", lanes=(2, 3), weights={"roll_back": 2, "flush": 1}, duplicates=0.5)
    check(mock.patch.object(Bucket, "_gate", without), losses, "I3 I6")


def test_call_number() -> None:
    """Without the call's number, a store that fell back in its own run goes on as if nothing were lost."""

    def without(self: Bucket, lane: int, token: int, _call: int) -> Status:
        stored = self.lanes.get(lane) or model.Lane()
        if token < stored.token:
            return Status.FENCED
        return Status.REGRESSED if token > stored.token else Status.OK

    back = profile("set back", lanes=(1,), weights={"snapshot": 1}, faults=(1, 3))
    check(mock.patch.object(Bucket, "guard", without), back, "I2")


def test_await_of_every_delivery() -> None:
    """Without looking at each delivery, a Kafka transaction is committed whose batch was refused: lost."""

    async def without(self: Any, producer: Any, groups: Any, filled: Any) -> list[list[int]]:
        await producer.begin_transaction()
        self._open = True
        sent: list[Any] = []
        await producer_module._send(producer, groups, filled, sent)  # noqa: SLF001 - the rest is as it was
        self._open = False
        await producer.commit_transaction()
        good = [each for each in sent if each.delivery.exception() is None]
        return [
            [
                each.delivery.result().offset + n
                for each in good
                if each.group == number
                for n in range(each.records)
            ]
            or [0]
            for number in range(len(groups))
        ]

    refusals = profile("refusals", weights={"noise": 1}, noise=("batch_refused",), faults=(2, 4), bad=0.3)
    check(mock.patch.object(producer_module.LaneProducer, "_write", without), refusals, "I1 I2 I4")


@contextlib.contextmanager
def _stock_end() -> Iterator[None]:
    with (
        mock.patch.object(endtxn, "install"),
        mock.patch.object(aiokafka_sender.EndTxnHandler, "do", clients.STOCK_END),
    ):
        yield


def test_endtxn_hook() -> None:
    """Without the hook, a held EndTxn is repeated, and its first copy ends the next transaction half-way."""
    held = profile(
        "held ends",
        weights={"noise": 1},
        noise=("end_held", "slow"),
        faults=(6, 10),
        bad=0.4,
        cdrs=(30, 60),
        lanes=(1,),
    )
    check(_stock_end(), held, "I1 I2 I4")


def forgotten_ends() -> Profile:
    """Return a profile of brokers that are all killed about when one of them ends a Kafka transaction."""
    weights = {"kafka_killed": 3, "noise": 2, "crash": 1}
    return profile("forgotten ends", weights=weights, noise=("batch_refused", "slow", "end_lost"), bad=0.3)


def test_one_commit_late() -> None:
    """Without waiting for the next commit, what is to repeat one that the brokers forgot is dropped: lost."""
    forgettable = trimming.forgettable

    def without(before: Settled | None, now: Settled, pending: int) -> tuple[Settled | None, Settled | None]:
        _, proven = forgettable(before, now, pending)
        return proven, proven

    check(mock.patch.object(trimming, "forgettable", without), forgotten_ends(), "I2 I4")


async def two_crashes(world: World) -> None:
    """A worker dies with a call drawn; its successor does loads before the call comes again, then dies."""
    slot = world.add_worker()
    await world.begin_load(catalog(), applied=True)
    slot.wanted = False
    world.server.done = lambda _who, what: world.crash(slot) if what == "draw" else None
    world.send(0, call_of("n1", "volume"))
    await world.until(lambda: slot.worker is None)
    for number in range(4):
        account = b'{"id": "a-volume"}'
        await world.begin_load(catalog(2).replace(account, account + b', {"id": "b%d"}' % number))
    draws = 0

    def third(_who: str, what: str) -> None:
        nonlocal draws
        draws += what == "draw"
        if draws == 3:
            slot.wanted = False
            world.crash(slot)

    world.server.done = third
    slot.wanted = True
    world.start(slot)
    await world.until(lambda: draws == 3 and slot.worker is None)
    world.server.done = lambda _who, _what: None
    slot.wanted = True
    world.start(slot)
    await world.drained(60.0)
    await world.stop_workers()
    world.faults += check_world(world)


def test_nothing_trimmed_before_the_predecessor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without waiting for what a predecessor drew and has not published, a second crash loses it."""
    monkeypatch.setattr("rater.worker.line.COMMIT_RECORDS_MAX", 1)  # each batch in a Kafka transaction
    forgettable = trimming.forgettable

    def without(before: Settled | None, now: Settled, _: int) -> tuple[Settled | None, Settled | None]:
        return forgettable(before, now, 0)

    with (
        mock.patch.object(trimming, "forgettable", without),
        pytest.raises(Failure, match=r"I4: .* of n1 is lost"),
    ):
        World(0, batch_max=1).run(two_crashes)
    World(0, batch_max=1).run(two_crashes)


def test_include() -> None:
    """Without one end in all partitions for what the brokers forgot, each goes another way: lost, twice."""
    check(mock.patch.object(endtxn, "include"), forgotten_ends(), "I1 I4")


async def late_request(world: World) -> None:
    """A draw of a worker that is dead comes late, when an emptied store counts its calls as it did."""
    first = world.add_worker()
    await world.begin_load(catalog(), applied=True)
    world.add_worker()
    world.server.held["worker0", "draw"] = 12.0
    world.send(0, call_of("n1", "free"))
    await world.until(lambda: not world.server.held)
    first.wanted = False
    world.crash(first)
    world.server.lose()
    world.server.done = lambda who, what: cut(world, who) if what == "draw" else None
    await asyncio.sleep(14.0)
    world.heal()
    await world.drained(60.0)
    await world.stop_workers()
    world.faults += check_world(world)


def cut(world: World, who: str) -> None:
    """Cut a worker off from Kafka, so that it cannot commit what it has drawn."""
    if who == "worker1":
        world.slots[1].process.kafka_cut = True  # type: ignore[union-attr]


def test_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the token, a late call of a dead owner passes for its successor's: charged, not published."""
    # So the calls of both are counted alike: a rebuild in one part, and nothing beside the line.
    monkeypatch.setattr(takeover, "RECONCILE_EFFECTS_MAX", 5000)
    monkeypatch.setattr("rater.worker.buckets.EXPIRE_S", 3600.0)

    def without(self: Bucket, lane: int, _token: int, number: int) -> Status:
        stored = self.lanes.get(lane) or model.Lane()
        # The dead owner has asked once more: whether snapshots are to be put in place.
        return Status.OK if number - stored.number in {0, 1} else Status.REGRESSED

    with (
        mock.patch.object(Bucket, "guard", without),
        pytest.raises(Failure, match=r"I2: free has the balance"),
    ):
        World(1).run(late_request)
    World(1).run(late_request)


def test_catalog_of_a_state() -> None:
    """Without asking which catalog a state needs, a lane reads it with an older one: a package is missed."""
    make = ClientView.__init__

    def without(self: ClientView, state: ClientState) -> None:
        make(self, state)
        self.catalog = 0

    check(mock.patch.object(ClientView, "__init__", without), UNBROKEN, "A", Loads)


def test_rejection_of_now() -> None:
    """Without looking again before it rejects, a worker that did not carry a load out rejects as before."""

    def without(side: Any, rejection: Any, _client: Any, catalog: Any, *_: Any) -> None:
        side.rejection, side.catalog = rejection, catalog.version

    check(mock.patch.object(steps, "_reject_side", without), UNBROKEN, "O", Loads)


def test_counter_of_a_period() -> None:
    """Without each call's own period, those behind the first draw its counters: others than they say."""
    builder = draw_request.RequestBuilder
    add = builder.add
    first: dict[Any, Any] = {}

    def without(self: draw_request.RequestBuilder, side: Side, *of: Any) -> None:
        add(self, side, *of)
        if side.opened is None or side.view is None:
            return
        names = tuple(one.field.rpartition(".")[0] for one in side.opened.packages)
        packages = first.setdefault(names, side.opened.packages)
        _, fields = self._clients[side.view.id]
        wrong = [packages[one.group].field + one.text.field for one in side.candidates]
        self.items[-1].candidates = tuple(
            one._replace(field=fields.setdefault(name, len(fields)))
            for one, name in zip(self.items[-1].candidates, wrong, strict=True)
        )

    check(mock.patch.object(builder, "add", without), BACKLOG, "O I2", Backlog)


def test_all_limits_once_asked() -> None:
    """Without noting whose first limits did not do, they are asked again and again: a lane stands still."""
    check(mock.patch.object(steps, "ask_whole", return_value=set()), BACKLOG, "P", Backlog)


def test_tick_before_records_without_a_time() -> None:
    """Without a tick before records that have no time, an old time of the lane refuses calls of now."""
    undated = profile("undated", faults=(0, 2), weights={"crash": 1}, undated=1.0)
    check(mock.patch.object(Line, "_lacks_time", return_value=False), undated, "O")


def test_effect_once() -> None:
    """Without taking a change by its record alone, its transactions are added to a lost store besides."""
    change = Reconciling._change  # noqa: SLF001 - what is switched off

    def without(self: Any, record: Any, *, lost: bool) -> None:
        change(self, record, lost=lost)
        self._changed = None

    losses = profile("losses", weights={"roll_back": 2, "flush": 1})
    check(mock.patch.object(Reconciling, "_change", without), losses, "I2")


def test_events_are_kept() -> None:
    """Without its events in the outcome, a change that was drawn and not published is never told of."""

    def without(batch: Batch, record: Any, decided: Any) -> None:
        if isinstance(decided, KeptChange):
            batch.changes.append(decided)
        else:
            replay(batch, record, decided)

    replay = steps.replay
    crashes = profile("crashes", weights={"crash": 1}, second_load=1.0)
    check(mock.patch.object(steps, "replay", without), crashes, "I13")
