"""Each fault of money or standstill that was seen, in its smallest case, on the worker's own line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from oracle import lanes
from oracle.lanes import Ended, System
from oracle.scenario import DAY_MS, LoadStep, RecordStep, Scenario, Step, ms, rfc3339, second
from rater.errors import Fenced, StoreDown

NOON = ms("2026-11-27T12:00:00Z")
Row = dict[str, Any]


def catalog(*limits: Row, period: str | None = None, price: str = "0.60", **client: Any) -> Row:
    """Return a catalog: client 42 with a package of these limits since September."""
    return {
        "currencies": {"base": "USD"},
        "rate_tables": [{"name": "retail", "currency": "USD", "rates": [{"code": "380", "price": price}]}],
        "packages": [
            {
                "id": "1",
                "name": "P",
                "type": "customer",
                "currency": "USD",
                "period": period,
                "limits": list(limits),
            }
        ],
        "clients": [{"id": "42", "currency": "USD", "rate_tables": {"orig": {"calls": "retail"}}, **client}],
        "client_packages": [held("1", "1")],
    }


def held(identity: str, package: str, **more: Any) -> Row:
    """Return a client package of client 42."""
    return {
        "id": identity, "client": "42", "package": package, "start_date": "2026-09-01T00:00:00Z",
        "activate_in_past": True, **more,
    }  # fmt: skip


def minutes(limit: int, number: int = 0) -> Row:
    """Return a volume limit for all of 380."""
    return {"id": f"m{number}", "type": "volume", "service": "calls", "code": "380*", "limit": limit}


def record(
    name: str, at_ms: int, seconds: int, *, lane: int = 0, now_ms: int = NOON, **more: Any
) -> RecordStep:
    """Return a call of client 42 that is over before its record comes."""
    call = {
        "id": name, "called": "380501234567", "answered_at": rfc3339(at_ms), "duration_ms": seconds * 1000,
        "orig": {"client": "42"}, **more,
    }  # fmt: skip
    return RecordStep(now_ms, json.dumps(call).encode(), lane)


def loaded(file: Row, at_ms: int = NOON - DAY_MS) -> LoadStep:
    """Return a load."""
    return LoadStep(at_ms, file)


Plan = Callable[[System], Awaitable[None]]


def rated(
    steps: Sequence[Step], plan: Plan | None = None, *, buckets: int = 1, lane_count: int = 1,
    processes: int = 1,
) -> System:  # fmt: skip
    """Rate steps: each load, then all records behind it in one batch; or as `plan` says."""
    out: list[System] = []

    async def work() -> None:
        system = System(Scenario(0, tuple(steps)), buckets=buckets, lanes=lane_count, processes=processes)
        out.append(system)
        await system.open()
        if plan is not None:
            await plan(system)
            return
        for number, step in enumerate(steps):
            if isinstance(step, LoadStep):
                await drained(system)
                system.load(step)
            else:
                system.send(step, number, 0)
        await drained(system)

    lanes.run(work)
    return out[0]


async def drained(system: System, records: int = 10**9) -> None:
    """Let all lanes take what waits."""
    for lane in range(system.lanes):
        while await system.step(lane, records):
            pass


def amounts(system: System) -> list[tuple[str, list[str], int]]:
    """Return (amount, what is left of each limit, overage) of the transactions in order."""
    return [
        (one.value["amount"], [draw["left"] for draw in one.value["draws"]], one.value["overage"])
        for number in sorted(system.ended)
        for one in system.ended[number]
        if one.outcome == "transaction"
    ]


def only(system: System, number: int) -> Ended:
    """Return how the one side of a step ended."""
    (ended,) = system.ended[number]
    return ended


def test_another_period() -> None:
    """Calls of one client in two periods, in one batch: each draws from the counter of its own period."""
    day, next_day = NOON - DAY_MS, NOON - 60_000 * 30
    calls = [(day, 60), (next_day, 120), (next_day, 30), (next_day, 600)]
    steps: list[Step] = [
        loaded(catalog(minutes(10), period="1 day"), NOON - 2 * DAY_MS),
        *(record(f"c{n}", at, seconds) for n, (at, seconds) in enumerate(calls)),
    ]
    assert amounts(rated(steps)) == [
        ("0", ["540"], 0), ("0", ["480"], 0), ("0", ["450"], 0), ("-1.5", ["0"], 150),
    ]  # fmt: skip


def test_five_limits_on_five_days() -> None:
    """Calls that need more than the first four limits, on five days in one batch, are rated."""
    steps: list[Step] = [
        loaded(catalog(*(minutes(1, n) for n in range(5)), period="1 day"), NOON - 6 * DAY_MS),
        *(record(f"c{n}", NOON - (5 - n) * DAY_MS, 300) for n in range(5)),
    ]
    assert amounts(rated(steps)) == [("0", ["0"] * 5, 0)] * 5


def test_five_limits_for_65_accounts() -> None:
    """Calls of 65 accounts of a client that need more than the first four limits, in one batch, are rated."""
    names = [f"a{n}" for n in range(65)]
    file = catalog(
        *(minutes(1, n) for n in range(5)), period="1 day", accounts=[{"id": name} for name in names]
    )
    steps: list[Step] = [
        loaded(file),
        *(record(name, NOON - 600_000, 300, orig={"client": "42", "account": name}) for name in names),
    ]
    found = amounts(rated(steps))
    assert found[:2] == [("0", ["0"] * 5, 0), ("-3", [], 300)]
    assert len(found) == 65


def test_accounts_that_others_forget() -> None:
    """Looking accounts up ends, also where the process forgets them before each call of the store."""
    names = [f"sip-{number}" for number in range(8)]
    steps: list[Step] = [
        loaded(catalog(minutes(10), accounts=[{"id": name} for name in names])),
        *(record(name, NOON - 600_000, 60, orig={"account": name}) for name in names),
    ]

    async def plan(system: System) -> None:
        system.load(steps[0])  # type: ignore[arg-type]
        await drained(system)

        async def forget(*_: object) -> None:
            lanes.forget_views(system)

        system.pause = forget
        for number, step in enumerate(steps[1:], 1):
            system.send(step, number, 0)  # type: ignore[arg-type]
        await drained(system)

    found = amounts(rated(steps, plan, buckets=3))
    assert [amount for amount, _, _ in found] == ["0"] * 8


def test_an_archived_package_expires_before_the_tick_has_cancelled_it() -> None:
    """A late call goes by when the package was archived, whether its client packages are closed yet or not.

    The package never stops by itself: by that alone the other one, which stops in a month, would be drawn.
    """
    file = catalog(minutes(10), period="1 month")
    archived = {**file["packages"][0], "id": "2", "name": "Q", "period": None}
    file["packages"].append(archived)
    file["client_packages"].append(held("2", "2"))
    steps: list[Step] = [
        loaded(file),
        loaded({"packages": [{**archived, "status": "archived"}]}, NOON - 60_000),
        record("before", NOON - 120_000, 60),
        record("after", NOON - 60_000, 60),
    ]
    found = [only(rated(steps), number).value["draws"] for number in (2, 3)]
    assert [[draw["client_package"] for draw in draws] for draws in found] == [["2"], ["1"]]


def test_a_lost_lane_asks_no_bucket_any_more() -> None:
    """A lane that is another's now, says one bucket, asks no other one any more, though that is down."""
    file = catalog(minutes(10))
    file["clients"].append({**file["clients"][0], "id": "43"})
    steps: list[Step] = [
        loaded(file),
        record("a", NOON - 600_000, 60),
        record("b", NOON - 600_000, 60, orig={"client": "43"}),
    ]
    asked: list[int] = []

    async def plan(system: System) -> None:
        system.load(steps[0])  # type: ignore[arg-type]
        await drained(system)
        for number, step in enumerate(steps[1:], 1):
            system.send(step, number, 0)  # type: ignore[arg-type]

        async def pause(what: str, lane: int, bucket: int, clients: Sequence[str]) -> None:
            if what != "draw":
                return
            if "43" in clients:
                raise StoreDown("down")
            system.buckets[bucket].lanes[lane].token += 1

        system.pause = pause
        with pytest.raises(Fenced):
            await system.step(0, 2)
        asking = asyncio.all_tasks() - {asyncio.current_task()}
        asked.append(len(asking))

    rated(steps, plan, buckets=4)
    assert asked == [0]


def swapped() -> list[Step]:
    """Return a load with a package, one that swaps it for another, and a call a second later on each lane."""
    first = catalog(minutes(10), price="1")
    first["packages"][0]["name"] = "O"
    second_file = {
        "packages": [
            {"id": "2", "name": "Q", "type": "customer", "currency": "USD", "limits": [minutes(10)]}
        ],
        "client_packages": [
            held("1", "1", end_date=second(NOON)),
            {"id": "2", "client": "42", "package": "2", "start_date": second(NOON)},
        ],
    }
    return [
        loaded(first),
        loaded(second_file, NOON),
        record("b", NOON + 1000, 60, now_ms=NOON + 70_000),
        record("a", NOON + 1000, 60, now_ms=NOON + 70_000),
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_new_state_under_an_old_catalog(processes: int) -> None:
    """A lane that has not read a load yet uses no state that the load made, wherever it came from."""
    steps = swapped()

    async def plan(system: System) -> None:
        system.load(steps[0])  # type: ignore[arg-type]
        await drained(system)
        warm = record("warm", NOON - 100_000, 60, now_ms=NOON - 1000)
        for lane in (0, 1):
            system.send(warm, lane, lane)
            await system.step(lane, 1)
        system.load(steps[1])  # type: ignore[arg-type]
        while await system.step(0, 0):  # lane 0 obeys manifest and chunk; lane 1 has read nothing of the load
            pass
        # Through lane 0 the process knows the client's new state; in another process it comes with STALE.
        system.send(steps[2], 2, 0)  # type: ignore[arg-type]
        await system.step(0, 1)
        system.inputs[1] = [one for one in system.inputs[1] if not one.command]
        system.send(steps[3], 3, 1)  # type: ignore[arg-type]
        await system.step(1, 1)

    system = rated(steps, plan, lane_count=2, processes=processes)
    assert (only(system, 3).value["amount"], only(system, 3).value["catalog"]) == ("0", 2)


def later_good(change: str) -> list[Step]:
    """Return a load under which client 42 is rejected, one that mends it, and two calls."""
    file = catalog(minutes(10))
    file["client_packages"] = []
    file["currencies"]["rates"] = {"GBP": [{"rate": "1.27", "from": "2027-02-01"}]}
    bad = {"name": "bad", "currency": "USD", "rates": [{"code": "380", "price": "900000000"}]}
    mended: Row = {"clients": [json.loads(json.dumps(file["clients"][0]))]}
    if change == "table":
        bad = {"name": "bad", "currency": "GBP", "rates": [{"code": "380", "price": "1"}]}
    if change == "limit":
        money = {"id": "b", "type": "money", "service": "calls", "code": "380*", "limit": "5"}
        file["packages"].append(
            {"id": "2", "name": "M", "type": "customer", "currency": "GBP", "limits": [money]}
        )
        file["client_packages"] = [held("2", "2")]
        mended = {"client_packages": [held("2", "2", end_date=second(NOON))]}
    else:
        file["rate_tables"].append(bad)
        file["clients"][0]["rate_tables"] = {"orig": {"calls": "bad"}}
    return [
        loaded(file),
        record("a", NOON - 900_000, 660, now_ms=NOON - 1000),
        loaded(mended, NOON),
        record("b", NOON + 1000, 660, now_ms=NOON + 700_000),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [("table", "currency_unknown"), ("range", "amount_out_of_range"), ("limit", "currency_unknown")],
)
def test_rejection_rests_on_no_old_view(change: str, reason: str) -> None:
    """What was rejected by price or limits is rated once a load has mended it, in each worker."""
    steps = later_good(change)

    async def plan(system: System) -> None:
        system.load(steps[0])  # type: ignore[arg-type]
        await drained(system)
        system.send(steps[1], 1, 1)  # type: ignore[arg-type]
        await system.step(1, 1)  # lane 1, another process, knows the client as it was
        system.load(steps[2])  # type: ignore[arg-type]
        await drained(system)
        system.send(steps[3], 3, 1)  # type: ignore[arg-type]
        await system.step(1, 1)

    system = rated(steps, plan, lane_count=2, processes=2)
    assert only(system, 1).reason == reason
    assert (only(system, 3).outcome, only(system, 3).reason) == ("transaction", None)
    assert only(system, 3).value["amount"] == "-6.6"


def test_replayed_rejection_keeps_its_value() -> None:
    """What was decided before a crash and is rejected by it names the same value as it would have."""
    steps: list[Step] = [
        loaded(catalog(minutes(10))),
        record("same", NOON - 90_000, 60),
        record("same", NOON - 90_000, 61),
    ]

    async def plan(system: System) -> None:
        system.load(steps[0])  # type: ignore[arg-type]
        await drained(system)
        for number in (1, 2):
            system.send(steps[number], number, 0)  # type: ignore[arg-type]
        await system.step(0, 2, commit=False)
        await system.retake(0)
        await drained(system)

    for how in (None, plan):
        ended = only(rated(steps, how), 2)
        assert (ended.reason, ended.value) == ("duplicate_differs", "same")


@pytest.mark.parametrize("buckets", [1, 2, 3, 4, 8])
def test_one_id_at_two_clients(buckets: int) -> None:
    """The same id at another client is another call, whatever the buckets; at the same client it differs."""
    file = catalog(minutes(10))
    file["clients"] += [{**file["clients"][0], "id": "43"}]
    steps: list[Step] = [
        loaded(file),
        record("same", NOON - 90_000, 60),
        record("same", NOON - 90_000, 60, orig={"client": "43"}),
        record("same", NOON - 90_000, 61, orig={"client": "43"}),
    ]
    system = rated(steps, buckets=buckets)
    assert [only(system, n).reason or only(system, n).outcome for n in (1, 2, 3)] == [
        "transaction", "transaction", "duplicate_differs",
    ]  # fmt: skip


def test_one_batch_one_catalog() -> None:
    """After a catch-up in the middle of a batch, mark, transactions and rejected records name one catalog."""
    steps = swapped()
    unknown = record("u", NOON + 1000, 60, now_ms=NOON + 70_000, orig={"client": "nobody"})

    async def plan(system: System) -> None:
        system.load(steps[0])  # type: ignore[arg-type]
        await drained(system)
        system.load(steps[1])  # type: ignore[arg-type]
        while await system.step(0, 0):
            pass
        lanes.forget_views(system)
        system.inputs[1] = [one for one in system.inputs[1] if not one.command]
        system.send(unknown, 2, 1)
        system.send(steps[3], 3, 1)  # type: ignore[arg-type]
        await system.step(
            1, 2
        )  # asserts it (lanes.System): the client's state needs catalog 2, so lane 1 catches up

    system = rated(steps, plan, lane_count=2, processes=2)
    assert only(system, 3).value["catalog"] == 2
    headers = dict(only(system, 2).published[2])
    assert headers["catalog"] == b"2"


def test_what_was_rejected_before_a_catch_up_is_judged_again() -> None:
    """A batch that catches up before it draws is of one catalog, what it had rejected until then included."""
    first = catalog(minutes(10))
    first["rate_tables"].append({"name": "no", "currency": "USD", "rates": [{"code": "1", "price": "1"}]})
    first["clients"].append({"id": "43", "currency": "USD", "rate_tables": {"orig": {"calls": "no"}}})
    more = {"name": "no", "currency": "USD", "rates": [{"code": "380", "price": "1"}]}
    swap = swapped()[1].file  # type: ignore[union-attr]
    steps: list[Step] = [loaded(first), loaded({**swap, "rate_tables": [more]}, NOON)]

    async def plan(system: System) -> None:
        system.load(steps[0])  # type: ignore[arg-type]
        await drained(system)
        system.send(record("warm", NOON - 100_000, 60, now_ms=NOON - 1000), 0, 1)
        await system.step(1, 1)  # so lane 1, a process of its own, knows 42 as it was
        system.load(steps[1])  # type: ignore[arg-type]
        while await system.step(0, 0):  # lane 0 obeys manifest and chunk; lane 1 has read nothing of the load
            pass
        system.inputs[1] = [one for one in system.inputs[1] if not one.command]
        system.send(record("a", NOON + 1000, 60, now_ms=NOON + 70_000, orig={"client": "43"}), 2, 1)
        system.send(record("b", NOON + 1000, 60, now_ms=NOON + 70_000), 3, 1)
        system.send(RecordStep(NOON + 70_000, b"no call", 1), 4, 1)
        await system.step(1, 3)

    system = rated(steps, plan, lane_count=2, processes=2)
    assert dict(only(system, 4).published[2])["catalog"] == b"2"
    said = [only(system, number).value for number in (2, 3)]
    assert [(one["amount"], one["catalog"]) for one in said] == [("-1", 2), ("0", 2)]
