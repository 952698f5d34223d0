"""The safeguards of the life of packages: each, switched off, makes a run go wrong that is right with it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace as replaced
from typing import Any
from unittest import mock

import pytest
from msgspec.structs import replace

from rater.core.bucket import draft
from rater.core.bucket.draft import Draft
from rater.core.bucket.drawing import draw_item
from rater.core.clients.planning import Plan
from rater.core.clients.state import did_name
from rater.core.journal.outcomes import KeptChange
from rater.core.line import steps
from rater.core.line.batch import Side
from rater.core.line.due import Parted
from rater.worker import commands, index
from rater.worker.buckets import LaneBuckets
from simulation.checking import sums, transactions_of
from simulation.did_checking import check_dids
from simulation.life import DIDS, LIFE, Life, Row
from simulation.life_checking import events_of, waits
from simulation.scenario import Profile, call_of
from simulation.test_ablations import check
from simulation.world import Failure, World

pytestmark = pytest.mark.usefixtures("simulated")


def profile(name: str, **more: Any) -> Profile:
    """Return a profile of packages that live, with these faults only."""
    return replaced(LIFE, name=name, **{"faults": (0, 0), **more})


CRASHES = profile("life crashes", faults=(3, 6), weights={"crash": 1})
LOSSES = profile("life losses", faults=(1, 3), weights={"flush": 1, "lose_bucket": 1, "crash": 1})
PACKAGES = profile("life packages", faults=(1, 3), weights={"flush": 1}, second_load=1.0)
LANES = profile("life lanes", lanes=(2, 3), workers=(2,))
ANY = 2**53


def test_due_work_before_a_call() -> None:
    """Without it a call is charged what the period that began before it covers."""

    def without(sides: list[Side], *_: object) -> Parted:
        return Parted(sides, [], [])

    check(mock.patch("rater.worker.line.part", without), profile("life"), "L4", Life)


def test_a_kept_change_is_published() -> None:
    """Without replaying it, a change that was drawn and not published is in no journal."""
    replay = steps.replay

    def without(batch: Any, record: Any, decided: Any) -> None:
        if not isinstance(decided, KeptChange):
            replay(batch, record, decided)

    check(mock.patch.object(steps, "replay", without), CRASHES, "I2 I12", Life, 30)


def test_condition_on_the_balance() -> None:
    """Without it a plan for a balance that nobody has is carried out: fees are paid with money that lacks."""
    change = Draft.change

    def without(self: Any, write: Any) -> None:
        change(self, replace(write, least=-ANY, most=ANY))

    check(mock.patch.object(Draft, "change", without), profile("life"), "C", Life, 35)


def test_version_of_a_client() -> None:
    """Without asking for it, two lanes that find the same due both do it."""
    admit = Draft.admit

    def without(self: Any, request: Any) -> Any:
        stale = admit(self, request)
        return stale if stale is None else []

    check(mock.patch.object(Draft, "admit", without), LANES, "I1 I2 I3 I12 L3", Life)


def test_key_of_a_command() -> None:
    """Without its counter, a command that comes again is carried out again."""
    counter = Plan.counter

    def without(self: Plan, field: str) -> int:
        value = counter(self, field)
        if field.startswith("key."):
            self._asked[field] = self._asked[field]._replace(least=-ANY, most=ANY)
            return 0
        return value

    check(mock.patch.object(Plan, "counter", without), profile("life"), "I3 L6", Life)


@pytest.mark.parametrize(
    ("what", "faults", "wanted", "first"),
    [("hints", LOSSES, "D", 0), ("members", PACKAGES, "L8", 65), ("history", LOSSES, "L1", 85)],
    ids=["hints", "members", "history"],
)
def test_what_a_rebuild_brings(what: str, faults: Profile, wanted: str, first: int) -> None:
    """Without these, what is due after a loss is not found; nor who waits for a package; nor old periods."""
    reconcile = LaneBuckets.reconcile

    async def without(self: LaneBuckets, bucket: int, given: Any) -> None:
        nothing: dict[str, Any] = {what: []}
        await reconcile(self, bucket, replace(given, **nothing))

    check(mock.patch.object(LaneBuckets, "reconcile", without), faults, wanted, Life, first)


def test_packages_that_change() -> None:
    """Without telling their clients, what waits for a disabled package waits for ever."""
    check(mock.patch("rater.worker.commands.changed_packages", return_value=[]), PACKAGES, "L8", Life, 65)


def test_usage_wakes() -> None:
    """Without trying again when usage raises a balance, what waits for it goes on waiting."""

    async def without(*_: object) -> int:
        return 0

    check(mock.patch.object(LaneBuckets, "wake", without), profile("life"), "L8 C", Life)


def test_counters_of_a_change() -> None:
    """Without asking for counters that a change rests on, what calls have used meanwhile rolls over too."""
    change = Draft.change

    def without(self: Any, write: Any) -> None:
        asked = [
            of if of.field.startswith("key.") else of._replace(least=-ANY, most=ANY) for of in write.counters
        ]
        change(self, replace(write, counters=asked))

    check(mock.patch.object(Draft, "change", without), profile("life"), "C I6", Life, 50)


def test_a_fee_of_a_first_call() -> None:
    """Without its counter, each call of a period brings the fee that is charged on event."""

    def without(item: Any, used: list[int], funds: Any, signed: Any) -> Any:
        charged = {ask.field for ask in item.fees}
        return draw_item(item, [0 if n in charged else of for n, of in enumerate(used)], funds, signed)

    check(mock.patch.object(draft, "draw_item", without), profile("life"), "I3", Life)


def test_hints_of_changes() -> None:
    """Without them, nothing is done of a client whom no call meets."""
    change = Plan.change

    def without(self: Plan, *moments: Any) -> Any:
        made = change(self, *moments)
        made.write.hints = []
        return made

    check(mock.patch.object(Plan, "change", without), profile("life"), "D", Life)


def test_a_number_is_claimed() -> None:
    """Without looking who has it, a number is given to two."""

    async def without(buckets: Any, batch: Any, record: Any, number: str, client: str, **more: Any) -> None:
        if not more["only_look"]:
            await index.enter(buckets, batch, record, did_name(number), client)

    check(mock.patch("rater.worker.commands.claim_did", without), profile("life"), "N1 N4", Life, 40)


def test_a_freed_number_is_told() -> None:
    """Without telling its lane, a number that a tick has freed is never given on."""
    check(mock.patch("rater.core.line.batch.freed_number", return_value=DIDS[0]), profile("life"), "N2", Life)


def paid_by_the_hour() -> bytes:
    """Return a client with one hour's fee and a number by it, who earns by calls."""
    package = {
        "id": "P", "name": "P", "type": "customer", "currency": "USD", "period": "1 hour",
        "fees": [{"type": "subscription", "name": "hour", "rate": "1.00"}],
        "did_limits": [{"quantity": 1, "on_hold_days": 1}],
    }  # fmt: skip
    client = {
        "id": "42", "currency": "USD", "balance": "1.50", "accounts": [{"id": "sip"}],
        "rate_tables": {"orig": {"calls": "earns"}},
    }  # fmt: skip
    return json.dumps({
        "currencies": {"base": "USD"},
        "rate_tables": [{"name": "earns", "currency": "USD", "rates": [{"code": "1", "price": "-1"}]}],
        "packages": [package], "clients": [client], "dids": [{"number": DIDS[0]}],
        "client_packages": [{"id": "h", "client": "42", "package": "P"}],
    }).encode()  # fmt: skip


def assigned() -> Row:
    """Return the command that assigns the number now."""
    said = {"id": "k", "key": "k", "do": "did_assign", "client": "42", "at": "2026-09-21T14:13:20Z"}
    return {**said, "args": {"number": DIDS[0], "account": "sip"}}


async def killed_at(world: World, number: int, begin: Callable[[], object]) -> None:
    """Begin something, kill the worker when its draw of this number was carried out, and start it again."""
    (slot,), drawn = world.slots, 0

    def done(_who: str, what: str) -> None:
        nonlocal drawn
        drawn += what == "draw"
        if what == "draw" and drawn == number:
            slot.wanted = False
            world.crash(slot)

    world.server.done = done
    begin()
    await world.until(lambda: slot.process is not None and not slot.process.alive)
    world.server.done = lambda _who, _what: None
    slot.wanted = True
    world.start(slot)
    await world.drained(60.0)


def check_story(switched_off: Any, story: Callable[[World], Awaitable[None]], wanted: str) -> None:
    """Tell a story, which ends as it must with the safeguard, and does not without it."""

    async def told(world: World) -> None:
        world.add_worker()
        await world.begin_load(paid_by_the_hour(), applied=True)
        await story(world)
        await world.stop_workers()
        transactions, events = list(transactions_of(world)), list(events_of(world))
        world.faults += [*world.halts, *sums(world, transactions), *waits(world), *check_dids(world, events)]

    World(1).run(told)
    with switched_off, pytest.raises(Failure) as failure:
        World(1).run(told)
    assert failure.value.faults[0].startswith(wanted)


def test_woken_after_a_crash() -> None:
    """Without the kept note that a side woke its client, who dies before that is tried leaves it waiting."""
    replay = steps.replay

    def without(batch: Any, record: Any, decided: Any) -> None:
        replay(batch, record, decided if isinstance(decided, KeptChange) else decided._replace(woke=False))

    async def story(world: World) -> None:
        world.skip(3600)
        await asyncio.sleep(2.0)  # the second hour waits for money
        call = {**call_of("n1", "42"), "answered_at": "2026-09-21T15:13:20.100Z"}
        await killed_at(world, 1, lambda: world.send(0, call))

    check_story(mock.patch.object(steps, "replay", without), story, "L8")


def test_entries_are_made_again() -> None:
    """Without it, the entry of a command that was drawn and not published is in no journal."""

    async def story(world: World) -> None:
        await killed_at(world, 2, lambda: world.order(assigned()))  # 1: the entry, 2: the client
        world.server.lose()
        world.send(0, call_of("n1", "42"))
        await world.drained(60.0)

    async def without(*_: object) -> None:
        pass

    check_story(mock.patch.object(commands, "_tell_again", without), story, "N2")
