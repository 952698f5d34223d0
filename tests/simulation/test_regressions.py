"""What the simulation has found, each as a story of its own."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from rater.worker.process import Worker
from simulation.checking import check, check_any, transactions_of
from simulation.clockwork import Process
from simulation.life import Life
from simulation.loads import Loads
from simulation.scenario import Scenario, call_of, catalog
from simulation.world import World

pytestmark = pytest.mark.usefixtures("simulated")


async def finished(world: World) -> None:
    """Let all be worked off, end the workers, and check."""
    world.heal()
    await world.drained(60.0)
    await world.stop_workers()
    await asyncio.sleep(0.1)
    world.faults += world.halts + check(world)


def test_replayed_outcomes_go_before_the_floor_passes_them() -> None:
    """What a predecessor drew and we published is not undone by whoever takes the lane next.

    Once published it must go with the next draw: that raises the floor beyond its transaction, and what is
    kept without being found in the journal counts as never published.
    """

    async def story(world: World) -> None:
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        world.server.done = lambda _who, what: world.crash(slot) if what == "draw" else None
        world.send(0, call_of("n1", "volume"))
        await world.until(lambda: slot.starts > 1)
        world.server.done = lambda _who, _what: None
        await world.drained(60.0)
        world.send(0, call_of("n2", "free"))
        await world.drained(60.0)
        world.crash(slot)
        world.send(0, call_of("n3", "free"))
        await finished(world)

    World(1).run(story)


def test_what_is_published_while_something_pends_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """What we drew and published before a predecessor's outcome came again is not undone by the next owner.

    It is kept as long as that is; then it must go with the next draw too, although the commit that settled
    the last of it had no draw of its own.
    """
    monkeypatch.setattr(
        "rater.worker.line.COMMIT_RECORDS_MAX", 1
    )  # each batch in a Kafka transaction of its own

    async def story(world: World) -> None:
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        world.server.done = lambda _who, what: world.crash(slot) if what == "draw" else None
        slot.wanted = False
        world.send(0, call_of("n1", "volume"))
        await world.until(lambda: slot.worker is None)
        world.server.done = lambda _who, _what: None
        await world.begin_load(catalog(2))
        slot.wanted = True
        world.start(slot)
        await world.drained(60.0)
        world.send(0, call_of("n2", "free"))
        await world.drained(60.0)
        world.crash(slot)
        world.send(0, call_of("n3", "free"))
        await finished(world)

    for seed in range(6):  # in most of them the commands are read before the record that pends
        World(seed, batch_max=1).run(story)


def test_views_of_clients_that_the_store_has_lost() -> None:
    """A view of a client whose making was lost before it was published is not held against the store.

    The worker saw the new client, the store fell back to before it, and the call came before the load again:
    that is no sign of keys that somebody has deleted, and the worker goes on.
    """
    cached = 0

    async def story(world: World) -> None:
        nonlocal cached
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        slot.wanted = False
        world.crash(slot)
        await world.begin_load(catalog(2))
        world.send(0, call_of("n1", "late"))
        world.server.save()
        slot.wanted = True
        world.start(slot)
        (bucket,) = world.server.buckets

        def refuse(_who: str, _what: str) -> None:
            if "late" in bucket.clients:
                world.broker.faults.batch_refused = 1.0

        world.server.done = refuse
        await world.until(lambda: world.broker.faults.batch_refused)
        await asyncio.sleep(0.2)
        assert slot.worker is not None
        cached += "late" in slot.worker.shared.views.clients
        world.server.done = lambda _who, _what: None
        world.server.roll_back()
        world.broker.fetch_max = 2  # so the call is read before the last records of the load
        world.heal()
        await finished(world)

    for seed in range(6):  # in most of them the load is read before the call at first
        World(seed).run(story)
    assert cached


def test_no_lane_is_taken_while_a_worker_ends() -> None:
    """A lane that the group gives to a worker that is ending is not taken: it would be left half-way."""

    async def story(world: World) -> None:
        first, second = world.add_worker(), world.add_worker()
        await world.begin_load(catalog(), applied=True)
        assert first.worker is not None
        assert second.worker is not None
        first.wanted = second.wanted = False
        second.worker.stopping.set()
        await world.until(lambda: second.worker is None)
        first.worker.stopping.set()
        await asyncio.sleep(0.02)
        epochs = {name: known.epoch for name, known in world.broker.ids.items()}
        await world.until(lambda: first.worker is None)
        assert {name: known.epoch for name, known in world.broker.ids.items()} == epochs
        world.faults += check(world)

    for seed in range(10):
        World(seed, lanes=3).run(story)


def test_who_ends_while_the_group_takes_its_lanes_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they are cut off within a Kafka transaction, and its readers stand still until that times out."""
    ending: list[Worker] = []
    drop = Worker.drop

    async def told_to_stop(worker: Worker, lanes: set[int]) -> None:
        if worker in ending:
            worker.stopping.set()
        await drop(worker, lanes)

    monkeypatch.setattr(Worker, "drop", told_to_stop)

    async def story(world: World) -> None:
        first = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        assert first.worker is not None
        assert first.task is not None
        ending.append(first.worker)
        first.wanted = False
        world.add_worker()
        number = 0
        while not first.task.done():  # always within some call
            world.send(number % 2, call_of(f"n{number}", "free"))
            number += 1
            await asyncio.sleep(0.01)
        assert ("worker0", "ends") in [(who, what) for _, who, what in world.story]
        await finished(world)

    for seed in range(4):
        World(seed, lanes=2).run(story)


def test_a_load_that_is_cancelled_leaves_nothing_open() -> None:
    """At any step: else lanes would get no commands for ten minutes."""

    async def load(world: World, process: Process) -> None:
        try:
            await world._load_once(catalog())  # noqa: SLF001 - one attempt
        finally:
            await world.loop.end_rest(process)

    async def story(world: World) -> None:
        world.add_worker()
        process = world.process("loader")
        work = world.loop.spawn(process, load(world, process))
        process.turns[world.rng.randrange(40, 110)] = lambda: cancelled.append(work.cancel())
        await asyncio.wait([work])
        await asyncio.sleep(1.0)
        for lane in range(world.lanes):
            partition = world.broker.partition((world.topics.commands, lane))
            assert partition.stable == partition.end
        await world.stop_workers()

    cancelled: list[bool] = []
    for seed in range(60):
        World(seed, lanes=2).run(story)
    assert sum(cancelled) > 30


def test_a_large_rebuild_survives_crashes() -> None:
    """A store that was emptied is rebuilt in parts; whoever dies between two leaves nothing twice, or out."""

    async def story(world: World) -> None:
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)
        for number in range(40):
            world.send(0, call_of(f"n{number}", ("volume", "money", "both", "free")[number % 4], 7))
        await world.drained(60.0)
        seen = 0

        def count(_who: str, what: str) -> None:
            nonlocal seen
            seen += what == "reconcile"
            if what == "reconcile" and seen in {3, 8}:
                world.crash(slot)

        world.server.done = count
        world.server.lose()
        await world.until(lambda: slot.starts > 2)
        await finished(world)

    for seed in range(3):
        world = World(seed, batch_max=3)
        world.broker.fetch_max = 6
        world.run(story)


def swapped(version: int) -> bytes:
    """Return a catalog of one client with ten minutes; the second ends its package, and begins another."""
    of: dict[str, Any] = {"client": "42", "start_date": "2026-09-01", "activate_in_past": True}
    assigned = [{**of, "id": "old", "package": "O"}]
    if version > 1:
        now = "2026-09-21T14:13:22Z"
        new = {**of, "id": "new", "package": "P", "start_date": now}
        assigned = [{**assigned[0], "end_date": now}, new]
    limit = {"type": "volume", "service": "calls", "code": "*", "limit": 10}
    package = {"type": "customer", "currency": "USD", "limits": [limit]}
    return json.dumps({
        "currencies": {"base": "USD"},
        "rate_tables": [{"name": "retail", "currency": "USD", "rates": [{"code": "1", "price": "1"}]}],
        "packages": [{"id": name, "name": name, **package} for name in "OP"[:version]],
        "clients": [{"id": "42", "currency": "USD", "rate_tables": {"orig": {"calls": "retail"}}}],
        "client_packages": assigned,
    }).encode()  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_a_package_in_place_of_another(workers: int) -> None:
    """A lane that is behind does not read a client's new state with its old catalog, wherever it has it from.

    Under either catalog the call is free; with the state of one and the packages of the other it was charged.
    """

    async def story(world: World) -> None:
        for _ in range(workers):
            world.add_worker()
        await world.begin_load(swapped(1), applied=True)
        await world.shared()
        for lane in range(2):
            world.send(lane, {**call_of(f"a{lane}", "42"), "answered_at": "2026-09-21T14:00:00Z"})
        await world.drained(60.0)
        world.broker.hold((world.topics.commands, 1), 8.0)
        made = len(world.server.states)
        load = world.begin_load(swapped(2))
        await world.until(lambda: len(world.server.states) > made)
        await asyncio.sleep(4.0)  # records are not older than their calls
        for number in range(2):
            for lane in range(2):
                world.send(lane, {**call_of(f"b{number}{lane}", "42"), "answered_at": "2026-09-21T14:13:23Z"})
            await asyncio.sleep(0.2)
        await load
        await world.drained(60.0)
        await world.stop_workers()
        await asyncio.sleep(0.1)
        world.faults += check_any(world)
        (bucket,) = world.server.buckets
        held = bucket.clients["42"]
        if (held.balance, held.used["old.1.0"], held.used["new.1.0"]) != (0, 60, 120):
            world.faults.append(f"42 has the balance {held.balance} and the counters {held.used}")

    for seed in range(5):
        World(seed, lanes=2).run(story)


def test_a_change_is_published_though_the_store_fell_back() -> None:
    """What was decided of a client and not published stays so when the store falls back to that moment.

    It knows of no later owner then, and draws are taken back. But a register cannot be: the client would be
    in no journal, and its opening balance nowhere, for the load finds it there when its record comes again.
    """

    async def story(world: World) -> None:
        slot = world.add_worker()
        await world.begin_load(catalog(), applied=True)

        def dies(at: str) -> None:
            def done(_who: str, what: str) -> None:
                if what == at and "late" in world.server.buckets[0].clients:
                    slot.wanted = False
                    world.crash(slot)

            slot.wanted, world.server.done = True, done

        dies("draw")
        await world.begin_load(catalog(2))
        world.server.save()
        dies("register")
        world.start(slot)
        await world.until(lambda: slot.process is not None and not slot.process.alive)
        world.server.done = lambda _who, _what: None
        world.server.roll_back(keep_run=True)
        slot.wanted = True
        world.start(slot)
        await finished(world)

    World(1).run(story)


def test_a_tick_that_kafka_forgot_is_written_again() -> None:
    """A lane whose records wait for their tick writes another when the end of that one's transaction is lost.

    Else it would commit nothing more, and what is open in its partition of the commands would stay so.
    """
    Scenario(8090).run()


def test_what_was_decided_by_a_newer_catalog_comes_again_first() -> None:
    """A lane that is taken again, and meets what it had decided before the load that it was decided by.

    It catches up with that load: its mark names no older catalog than the transactions that it goes with.
    """
    Loads(234).run()


def test_a_refused_command_leaves_the_rest_of_what_is_due_to_a_tick() -> None:
    """It had done a step of it; late calls come before the rest, and draw what would have rolled over."""
    Life(1903).run()


def paid_by_the_hour() -> bytes:
    """Return a catalog of one client who can pay one hour of a package, not two, and earns by calls."""
    fees = [{"type": "subscription", "name": "hour", "rate": "1.00"}]
    package = {
        "id": "P",
        "name": "P",
        "type": "customer",
        "currency": "USD",
        "period": "1 hour",
        "fees": fees,
    }
    tables = {"orig": {"calls": "earns"}, "term": {"calls": "earns"}}
    return json.dumps({
        "currencies": {"base": "USD"},
        "rate_tables": [{"name": "earns", "currency": "USD", "rates": [{"code": "1", "price": "-1"}]}],
        "packages": [package],
        "clients": [{"id": "42", "currency": "USD", "balance": "1.50", "rate_tables": tables}],
        "client_packages": [{"id": "h", "client": "42", "package": "P"}],
    }).encode()  # fmt: skip


def test_a_side_that_pays_for_what_was_due_before_its_record() -> None:
    """What was due before a record waits for money, which its first side brings, and the second one follows.

    The bucket stops before that one, and tells the balance that the first would leave: none that the client
    has. A lane that planned by it was refused for the balance that is there, planned by that, was stopped
    before the second side, and so on for ever.
    """

    async def story(world: World) -> None:
        world.add_worker()
        await world.begin_load(paid_by_the_hour(), applied=True)
        world.skip(3600)
        call = {**call_of("n1", "42"), "answered_at": "2026-09-21T15:13:20.100Z"}
        world.send(0, {**call, "term": {"client": "42"}})
        await world.drained(60.0)
        await world.stop_workers()
        said = [one.said for one in transactions_of(world)]
        assert [(one["period"], one["amount"]) for one in said if one["type"] == "subscription_fee"] == [
            (1, "-1"), (2, "-1"),
        ]  # fmt: skip
        assert [one["amount"] for one in said if one["type"] == "usage"] == ["0.5", "-0.5"]
        world.faults += world.halts

    World(1).run(story)


def test_what_waits_for_its_package_hides_nothing() -> None:
    """A client package waits for its package, at no cost, another for 5.00: a call earns and clears it."""
    file = json.loads(paid_by_the_hour())
    fee = file["packages"][0]
    fee["fees"][0]["rate"] = "5.00"
    free = {**fee, "id": "Z", "name": "Z", "fees": []}
    file["packages"].append(free)
    file["client_packages"].append({"id": "z", "client": "42", "package": "Z"})
    file["clients"][0]["balance"] = "6.00"

    async def story(world: World) -> None:
        world.add_worker()
        await world.begin_load(json.dumps(file).encode(), applied=True)
        off = {"packages": [{**free, "status": "disabled"}]}
        await world.begin_load(json.dumps(off).encode(), applied=True)
        world.skip(3600)
        await asyncio.sleep(10.0)
        call = {**call_of("n1", "42"), "answered_at": "2026-09-21T15:13:25.100Z", "duration_ms": 360_000}
        world.send(0, call)
        await world.drained(60.0)
        await world.stop_workers()
        said = [one.said for one in transactions_of(world) if one.said["type"] == "subscription_fee"]
        assert [(one["client_package"], one["period"]) for one in said] == [("h", 1), ("h", 2)]
        world.faults += world.halts

    World(1).run(story)
