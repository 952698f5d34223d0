"""The journal against what a bucket kept: what is added, what is taken back, what is yet to be published."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from msgspec import msgpack
from msgspec.structs import replace

from rater.core.amounts import Form
from rater.core.bucket.messages import (
    ClientWrite,
    DrawItem,
    DrawRequest,
    DrawResult,
    FeeAsk,
    FeeResult,
    FenceReply,
    ItemCandidate,
    Outcome,
    Reconcile,
    Status,
    Use,
    bucket_of,
    pack_results,
)
from rater.core.bucket.model import Bucket
from rater.core.catalog.codes import NO_RATE
from rater.core.catalog.offers import LimitText
from rater.core.clients.changes import ChangeEvent, ChangeTransaction
from rater.core.clients.views import PeriodText
from rater.core.journal.outcomes import (
    Copy,
    Decided,
    KeptChange,
    OutcomeEntry,
    Pending,
    pack_changes,
    pack_kept,
    read_copy,
    unpack_kept,
    write_copy,
)
from rater.core.journal.reconciling import FORGET_GENERATIONS_MAX, Reconciling, effects
from rater.core.journal.records import FEE_INDEX_MIN, ChangeRecord, Effect, StateRecord
from rater.core.rating.transaction import Context, FeeText, TransactionHead

TOPIC = "calls"
CLIENT = "c"
FIELD = "1.1.a"
LENGTH_MS = 1000
LANE_MS = 3500
HEAD = TransactionHead(CLIENT, "", "", "", (PeriodText("1", "1.1", "1"),))
LIMITS = (LimitText(False, False, 0, ".a", "", ""),)  # noqa: FBT003 - its own order
CONTEXT = msgpack.encode(Context(0, "s", "i", 0, None, "1", 0, 0, None, (), HEAD, NO_RATE, LIMITS))
LIMIT = ItemCandidate(0, 10**6, 1, False, False, False, 0, None, None)  # noqa: FBT003 - its own order


def key_of(offset: int) -> bytes:
    """Return the duplicate key of the record at this offset."""
    return b"key %04d" % offset


def entry(offset: int, record_ms: int = LANE_MS, client: str = CLIENT) -> OutcomeEntry:
    """Return what is kept of the decision on a record."""
    return OutcomeEntry(TOPIC, offset, 0, record_ms, key_of(offset), b"same", client, CONTEXT)


def rated(money: int, units: int = 0) -> DrawResult:
    """Return a result that charged so much and took so many units."""
    return DrawResult(Outcome.RATED, -money, None, ((0, units, 0, 0),) if units else ())


def effect(offset: int, money: int, units: int = 0, **other: Any) -> Effect:
    """Return what the journal says of a record's transaction."""
    given: dict[str, Any] = {
        "topic": TOPIC, "partition": 0, "offset": offset, "index": 0,
        "record_ms": LANE_MS, "lane_ms": LANE_MS, "key": key_of(offset), "content": b"same",
        "client": CLIENT, "balance": -money,
        "counters": [(FIELD, units)] if units else [],
    }  # fmt: skip
    return Effect(**{**given, **other})


COMMANDS = "commands"
CHANGED = (COMMANDS, 3, 2)
"""Identity of `changed(3, ...)`."""


def changed(offset: int, delta: int, counters: list[tuple[str, int]] | None = None) -> KeptChange:
    """Return what is kept of a change with two transactions and an event."""
    parts = (ChangeTransaction("adjustment", delta - 4, b"one"), ChangeTransaction("fee", 4, b"two"))
    told = (ChangeEvent("command_done", b"id", b"told"),)
    return KeptChange(COMMANDS, offset, 2, LANE_MS, CLIENT, 7, b"seven", delta, counters or [], parts, told)


def journaled(kept: KeptChange, at: int) -> list[tuple[int, ChangeRecord | Effect]]:
    """Return what the journal says of a change from an offset on: the whole of it, then its shares."""
    whole = ChangeRecord(
        kept.topic, kept.offset, kept.index, LANE_MS, LANE_MS, kept.client, kept.version, kept.state,
        kept.delta, kept.counters,
    )  # fmt: skip
    shares = [
        Effect(kept.topic, 0, kept.offset, kept.index, LANE_MS, LANE_MS, b"", b"", kept.client, of.amount, [])
        for of in kept.transactions
    ]
    return list(enumerate([whole, *shares], at))


def keeps(*kept: KeptChange, **given: Any) -> FenceReply:
    """Return what a bucket keeps of calls of changes, one each."""
    outcomes = [(5 + at, pack_changes([one], b""), pack_results([], [])) for at, one in enumerate(kept)]
    return FenceReply(Status.OK, 9, given.pop("floor", 0), outcomes, LANE_MS, **given)


def fenced(*kept: tuple[OutcomeEntry, DrawResult], floor: int = 0, base: int | None = None) -> FenceReply:
    """Return what a bucket keeps of a lane: each outcome by a call of its own, from 5 on."""
    outcomes = [
        (5 + at, msgpack.encode([one]), pack_results([], [result])) for at, (one, result) in enumerate(kept)
    ]
    return FenceReply(Status.OK, 9, floor, outcomes, LANE_MS, floor if base is None else base)


def reconciling(reply: FenceReply, position: int = 0, **options: Any) -> Reconciling:
    """Begin to compare, for the only bucket; position: the next offset by the lane's last mark."""
    given = {"bucket": 0, "buckets": 1, "positions": {TOPIC: position}, "generation_ms": LENGTH_MS}
    return Reconciling(reply, **{**given, **options})


def finish(step: Reconciling) -> Reconcile:
    """Return the last corrections."""
    return step.finish(0, 1, 9, 100)


def corrections(what: Reconcile) -> dict[str, Any]:
    """Return what a reconcile asks for, without what is empty."""
    names = (
        "balances",
        "counters",
        "duplicates",
        "states",
        "accounts",
        "pending",
        "forget",
        "drop_calls",
        "hints",
        "members",
        "history",
    )
    return {name: getattr(what, name) for name in names if getattr(what, name)}


def test_effects_of_a_decision() -> None:
    """Only what was rated or changed has effects; takes from one counter add up."""
    twice = DrawResult(Outcome.RATED, -7, None, ((0, 2, 0, 0), (0, 3, 0, 0)))
    assert effects(Pending(entry(1), twice)) == (-7, {FIELD: 5})
    for outcome in (Outcome.DUPLICATE, Outcome.DIFFERS, Outcome.OUT_OF_RANGE):
        assert effects(Pending(entry(1), DrawResult(outcome, 0, None, ()))) == (0, {})
    assert effects(changed(1, 12, [(FIELD, 3)])) == (12, {FIELD: 3})


def test_decided_and_not_published_is_pending() -> None:
    """What is kept from the positions on and is not in the journal stays as it is, to be published."""
    step = reconciling(fenced((entry(3), rated(5)), (entry(4), rated(6))), position=3)
    assert corrections(finish(step)) == {}
    assert {identity: getattr(kept, "result", None) for identity, kept in step.pending.items()} == {
        (TOPIC, 3, 0): rated(5),
        (TOPIC, 4, 0): rated(6),
    }


def test_published_and_kept_is_dropped() -> None:
    """An outcome that the journal has as it was kept changes no sum; only the outcome is dropped."""
    step = reconciling(fenced((entry(3), rated(5, 2))), position=4)
    step.read([(50, effect(3, 5, 2))])
    assert corrections(finish(step)) == {"drop_calls": [5]}
    assert not step.pending


def test_some_published_some_pending() -> None:
    """When some outcomes go, those that stay are put together under the number of the correcting call."""
    step = reconciling(fenced((entry(3), rated(5)), (entry(4), rated(6))), position=4)
    step.read([(50, effect(3, 5))])
    context, packed = msgpack.encode([entry(4)]), pack_results([], [rated(6)])
    assert corrections(finish(step)) == {"drop_calls": [5, 6], "pending": [(9, context, packed)]}
    assert list(step.pending) == [(TOPIC, 4, 0)]


def test_lost_effects_are_added() -> None:
    """What the journal has from the floor on and the bucket lacks is added, with time and duplicates."""
    step = reconciling(fenced(floor=50), position=9)
    step.read([(49, effect(1, 100, 100)), (50, effect(2, 5, 1)), (51, effect(3, 6, 2, lane_ms=4100))])
    what = finish(step)
    assert corrections(what) == {
        "balances": [(CLIENT, -11)],
        "counters": [(CLIENT, FIELD, 3)],
        "duplicates": [(3, key_of(2), b"same"), (4, key_of(3), b"same")],
    }
    assert (what.floor, what.lane_ms, what.final) == (100, 4100, True)


def test_duplicates_that_nobody_can_ask_for_are_left_out() -> None:
    """The rest of their effects is added: balances are the sums of the whole journal."""
    step = reconciling(fenced(floor=50), position=9)
    step.first_generation = 4
    step.read([(50, effect(2, 5, 1)), (51, effect(3, 6, 2, lane_ms=4100))])
    assert corrections(finish(step)) == {
        "balances": [(CLIENT, -11)],
        "counters": [(CLIENT, FIELD, 3)],
        "duplicates": [(4, key_of(3), b"same")],
    }


def test_opposite_effects_leave_no_correction() -> None:
    """Sums that come to nothing are not sent."""
    step = reconciling(fenced(floor=50), position=9)
    step.read([(50, effect(2, 5, 1, index=2)), (51, effect(3, -5, -1, index=2))])
    assert step.size == 0
    assert corrections(finish(step)) == {}


def test_undone_is_taken_back_and_forgotten() -> None:
    """What is kept below the positions and not in the journal is taken back; its key may be rated again."""
    kept = ((entry(3, record_ms=1200), rated(5, 2)), (entry(4), DrawResult(Outcome.DUPLICATE, 0, None, ())))
    step = reconciling(fenced(*kept), position=9)
    assert corrections(finish(step)) == {
        "balances": [(CLIENT, 5)],
        "counters": [(CLIENT, FIELD, -2)],
        "forget": [(1, key_of(3)), (2, key_of(3)), (3, key_of(3))],
        "drop_calls": [5, 6],
    }
    assert not step.pending


def test_what_fell_back_does_not_stay_pending() -> None:
    """The bucket does not know of an owner who had it in order: others drew without what it keeps since then.

    It would be published on top of theirs, and a limit overdrawn; so it is taken back, and decided anew.
    """
    reply = fenced((entry(3), rated(100, 100)))
    reply.token = 20
    known = reconciling(reply, ready_token=20)
    known.finish(0, 1, 9, 100)
    assert list(known.pending) == [(TOPIC, 3, 0)]
    fallen = reconciling(reply, ready_token=30)
    what = corrections(finish(fallen))
    assert fallen.pending == {}
    assert what["balances"] == [(CLIENT, 100)]
    assert what["counters"] == [(CLIENT, FIELD, -100)]
    assert (LANE_MS // LENGTH_MS, key_of(3)) in what["forget"]


def test_forgetting_is_bounded() -> None:
    """A record from long ago, as old clocks make them, is looked for in a bounded number of generations."""
    reply = fenced((entry(3, record_ms=0), rated(5)))
    reply.lane_ms = 1_000_000
    assert len(finish(reconciling(reply, position=9)).forget) == FORGET_GENERATIONS_MAX + 1


def test_key_that_another_transaction_stands_for_is_kept() -> None:
    """An undone decision whose key the journal has by another record leaves the key in place."""
    step = reconciling(fenced((entry(3), rated(5))), position=9)
    step.read([(50, effect(7, 5, key=key_of(3)))])
    what = corrections(finish(step))
    assert "forget" not in what
    assert what["duplicates"] == [(3, key_of(3), b"same")]


def test_published_otherwise_is_corrected_by_the_difference() -> None:
    """Where the journal says another amount and another key than what is kept, the journal holds."""
    step = reconciling(fenced((entry(3), rated(5, 2))), position=9)
    step.read([(50, effect(3, 8, 1, key=b"another!"))])
    assert corrections(finish(step)) == {
        "balances": [(CLIENT, -3)],
        "counters": [(CLIENT, FIELD, -1)],
        "duplicates": [(3, b"another!", b"same")],
        "forget": [(3, key_of(3))],
        "drop_calls": [5],
    }


def test_other_buckets_are_passed() -> None:
    """Only what lies in the bucket is corrected: clients, and account index entries by their own hash."""
    names = [f"client {number}" for number in range(20)]
    records = [(50 + at, effect(at, 1, client=name)) for at, name in enumerate(names)]
    states = [(80, StateRecord(TOPIC, 90, 2, "", 0, b"", [(name, "owner") for name in names]))]
    for bucket in range(3):
        mine = [name for name in names if bucket_of(name, 3) == bucket]
        step = reconciling(fenced(), position=99, bucket=bucket, buckets=3)
        step.read([*records, *states])
        what = finish(step)
        assert what.balances == [(name, -1) for name in mine]
        assert what.accounts == [(name, "owner") for name in mine]


def test_highest_version_of_a_register_holds() -> None:
    """Registers come by version, whatever the order of their records; the last of equals holds."""
    step = reconciling(fenced(floor=50), position=9)
    versions = [(49, 9, b"below the floor"), (50, 2, b"two"), (51, 1, b"one"), (52, 2, b"two again")]
    step.read([(at, StateRecord("cmd", at, 2, CLIENT, version, blob, [])) for at, version, blob in versions])
    assert corrections(finish(step)) == {"states": [(CLIENT, 2, b"two again")]}


def test_between_base_and_floor_is_only_looked_up() -> None:
    """After a crash in a rebuild, records that were added already still tell what is published."""
    step = reconciling(fenced((entry(3), rated(5)), floor=60, base=50), position=9)
    assert step.read_from == 50
    step.read([(55, effect(3, 5)), (56, effect(4, 7)), (60, effect(5, 9))])
    assert corrections(finish(step)) == {
        "balances": [(CLIENT, -9)],
        "duplicates": [(3, key_of(5), b"same")],
        "drop_calls": [5],
    }


def test_unfinished_rebuild_is_finished() -> None:
    """A bucket whose rebuild stopped between two parts gets a last call though nothing is left to add."""
    what = finish(reconciling(fenced(floor=60, base=50), position=9))
    assert corrections(what) == {}
    assert (what.floor, what.final) == (100, True)


def test_parts_add_up() -> None:
    """A part carries what has come together since the last one; only the last is final."""
    step = reconciling(fenced(), position=9)
    step.read([(50, effect(2, 5))])
    first = step.part(0, 1, 9, 51)
    assert (first.floor, first.final, first.balances) == (51, False, [(CLIENT, -5)])
    assert step.size == 0
    step.read([(51, effect(3, 7))])
    last = step.finish(0, 1, 10, 100)
    assert (last.floor, last.final, last.balances) == (100, True, [(CLIENT, -7)])


# ------------------------------------------------------------------ changes of clients
def test_a_lost_change_is_added_once() -> None:
    """What a change did is taken from its record alone: its transactions, several, are shares of it."""
    step = reconciling(fenced(floor=50), positions={COMMANDS: 9})
    step.read(journaled(changed(3, 12, [(FIELD, -2)]), 50))
    what = finish(step)
    assert corrections(what) == {
        "balances": [(CLIENT, 12)],
        "counters": [(CLIENT, FIELD, -2)],
        "states": [(CLIENT, 7, b"seven")],
    }
    assert what.lane_ms == LANE_MS


def test_a_change_cut_by_a_part_is_added_once() -> None:
    """Shares that lie beyond the floor of a rebuild that stopped behind their change add nothing."""
    step = reconciling(fenced(floor=51, base=50), positions={COMMANDS: 9})
    step.read(journaled(changed(3, 12), 50))
    assert corrections(finish(step)) == {}


def test_what_a_lost_change_added_besides_sums_is_added_again() -> None:
    """Hints, members and history; of a change that is not lost nothing."""
    change = ChangeRecord(
        COMMANDS, 3, 2, LANE_MS, LANE_MS, CLIENT, 7, b"seven", 0, [],
        [(9, b"\x00\x01c")], ["p"], [("3.1", b"row")],
    )  # fmt: skip
    there = reconciling(keeps(floor=51, base=51), positions={COMMANDS: 9})
    there.read([(50, change)])
    assert corrections(finish(there)) == {}
    lost = reconciling(keeps(floor=50), positions={COMMANDS: 9})
    lost.read([(50, change)])
    assert lost.size == 4
    assert corrections(finish(lost)) == {
        "states": [(CLIENT, 7, b"seven")],
        "hints": [(9, b"\x00\x01c")],
        "members": [("p", CLIENT)],
        "history": [(CLIENT, 7, "3.1", b"row")],
    }


def test_what_a_lost_change_went_on_from_is_left_for_its_lane() -> None:
    """Unless that lane has published it, as far as is known; of a change that is kept nothing is left."""
    other, topic = changed(8, 5), (COMMANDS, "id")
    upon = [(1, write_copy(other, "id")), (2, write_copy(changed(9, 6), "id"))]
    change = ChangeRecord(
        COMMANDS, 3, 2, LANE_MS, LANE_MS, CLIENT, 8, b"eight", 0, [], upon=upon, instead=[6]
    )  # fmt: skip
    lost = reconciling(keeps(floor=50), positions={COMMANDS: 9})
    lost.published = {1: {topic: 8, (COMMANDS, "gone"): 99}, 2: {topic: 10}}
    lost.read([(50, change)])
    assert finish(lost).copies == [(1, f"{COMMANDS}/8/2/7", upon[0][1])]
    assert read_copy(upon[0][1]) == Copy("id", other)
    kept = reconciling(keeps(changed(3, 0), floor=50), positions={COMMANDS: 9})
    kept.read([(50, change)])
    assert finish(kept).copies == []


def test_a_fee_is_taken_back_with_its_side() -> None:
    """Kept, and published otherwise: without the fee; the lost fee of another is added by itself."""
    entry, result = bringing(0), rated(5, 2)._replace(fee=FeeResult(0, None, -4))
    assert effects(Pending(entry, result)) == (
        -9,
        {FIELD: 2, **dict(zip(fee_fields(0), (1, -3, -4), strict=True))},
    )
    step = reconciling(fenced((entry, result), floor=50), position=9)
    step.read([(50, effect(0, 5, 2)), (51, effect(1, 1)), (52, fee_effect(1, -104))])
    what = corrections(finish(step))
    assert what["balances"] == [(CLIENT, 4 - 1 - 104)]
    assert what["counters"] == [
        *((CLIENT, field, delta) for field, delta in zip(fee_fields(0), (-1, 3, 4), strict=True)),
        *((CLIENT, field, delta) for field, delta in zip(fee_fields(1), (1, -103, -104), strict=True)),
    ]


def test_a_published_change_is_dropped() -> None:
    """A change that is kept as the journal has it changes nothing; the outcome goes."""
    kept = changed(3, 12, [(FIELD, -2)])
    step = reconciling(keeps(kept), positions={COMMANDS: 9})
    step.read(journaled(kept, 50))
    assert corrections(finish(step)) == {"states": [(CLIENT, 7, b"seven")], "drop_calls": [5]}


def test_a_change_that_is_not_published_stays_pending_whole() -> None:
    """It stays with all that is published of it, also beside sides and where the bucket fell back.

    A register cannot be undone; taken back by half, an opening balance would be lost.
    """
    kept = changed(3, 12, [(FIELD, -2)])
    reply = keeps(kept, token=20)
    reply.outcomes.append((7, msgpack.encode([entry(4)]), pack_results([], [rated(6)])))
    step = reconciling(reply, positions={COMMANDS: 3}, ready_token=30)
    what = finish(step)
    assert step.pending == {CHANGED: kept}
    assert what.balances == [(CLIENT, 6)]
    assert [unpack_kept(context, packed) for _, context, packed in what.pending] == [[kept]]


def test_a_change_whose_record_was_passed_is_taken_back() -> None:
    """What it did to sums is undone: its record does not come again."""
    step = reconciling(keeps(changed(3, 12, [(FIELD, -2)])), positions={COMMANDS: 9})
    what = corrections(finish(step))
    assert what == {"balances": [(CLIENT, -12)], "counters": [(CLIENT, FIELD, 2)], "drop_calls": [5]}


def test_what_stays_together_comes_back() -> None:
    """Changes and sides of one call come back as they were, also which side woke its client."""
    kept: list[Decided] = [
        changed(3, 12),
        Pending(entry(4), rated(6)),
        Pending(entry(5), rated(1), woke=True),
    ]
    assert unpack_kept(*pack_kept(kept)) == kept
    assert unpack_kept(*pack_kept(kept[1:2])) == kept[1:2]
    assert unpack_kept(*pack_kept([])) == []


def test_applies_of_the_version_before_are_changes() -> None:
    """Of a call of applies those that were done are pending, with their adjustment; the others were not."""
    entries = [
        OutcomeEntry(
            COMMANDS, 3, index, LANE_MS, b"", b"", f"c{index}", msgpack.encode(["apply", 1, b"r", *of])
        )
        for index, of in ((2, (12, b"opening")), (3, (0, None)), (4, (5, b"left out")))
    ]
    packed = msgpack.encode([3, 1, 1, 0])
    opening = (ChangeTransaction("adjustment", 12, b"opening"),)
    assert unpack_kept(msgpack.encode(entries), packed) == [
        KeptChange(COMMANDS, 3, 2, LANE_MS, "c2", 1, b"r", 12, [], opening, ()),
        KeptChange(COMMANDS, 3, 3, LANE_MS, "c3", 1, b"r", 0, [], (), ()),
    ]


def test_the_journal_of_the_version_before_is_read_as_it_is() -> None:
    """A register stands in a record of its own there, and the transaction's header is the effect."""
    step = reconciling(fenced(floor=50), positions={COMMANDS: 9})
    opening = effect(3, -12, topic=COMMANDS, index=2, key=b"", content=b"")
    step.read([(50, StateRecord(COMMANDS, 3, 2, CLIENT, 1, b"one", [])), (51, opening)])
    assert corrections(finish(step)) == {"balances": [(CLIENT, 12)], "states": [(CLIENT, 1, b"one")]}


# ------------------------------------------------------------------ any history
@st.composite
def histories(draw: st.DrawFn) -> dict[str, Any]:
    """Return calls of a lane, how much of them was published and how, and where the store and we stop.

    Some of them bring a fee.
    """
    sizes = draw(st.lists(st.integers(1, 3), min_size=1, max_size=8))
    records = sum(sizes)
    published = draw(st.integers(0, records))
    return {
        "sizes": sizes,
        "as_decided": [draw(st.sampled_from([True] * 5 + [False, None])) for _ in range(published)],
        "brings": draw(st.sets(st.integers(0, records))),
        "kept_calls": draw(st.integers(0, len(sizes))),
        "trims": draw(st.integers(0, len(sizes))),
        "reads": draw(st.lists(st.integers(1, 3), max_size=records)),
        "parts": draw(st.sets(st.integers(0, records))),
        "crashes": draw(st.sets(st.integers(0, records))),
    }  # fmt: skip


def fee_fields(at: int) -> list[str]:
    """Return the counters of the fee that the record at this offset brings: of a period of its own."""
    return [f"2.{at}.fee.{name}" for name in ("charged", "net", "amount")]


def bringing(at: int) -> OutcomeEntry:
    """Return what is kept of a side that brings a fee: net 3 + 100 at, amount one more."""
    packages = (*HEAD.packages, PeriodText("2", f"2.{at}", str(at)))
    context = Context(
        0, "s", "i", 0, None, "1", 0, 0, None, (), replace(HEAD, packages=packages), NO_RATE, LIMITS,
        (FeeText(1, "told", -3 - 100 * at),),
    )  # fmt: skip
    return replace(entry(at), context=msgpack.encode(context))


def fee_effect(at: int, amount: int) -> Effect:
    """Return what the journal says of the fee that the record at this offset brought."""
    sums = list(zip(fee_fields(at), (1, amount + 1, amount), strict=True))
    return effect(at, -amount, index=FEE_INDEX_MIN, key=b"", content=b"", counters=sums)


def _draw(bucket: Bucket, number: int, offsets: list[int], trim: int, floor: int, brings: set[int]) -> int:
    fields = [FIELD, *(field for at in offsets for field in fee_fields(at))]
    items = [
        DrawItem(
            0, key_of(at), b"same", at + 1, Form(0, -10 - at, 1), same_record=False, candidates=(LIMIT,),
            fees=(FeeAsk(1, 1 + 3 * place, -3 - 100 * at, -4 - 100 * at, deny=False),) * (at in brings),
        )
        for place, at in enumerate(offsets)
    ]  # fmt: skip
    reply = bucket.draw(
        DrawRequest(
            lane=0, token=1, number=number, trim=trim, floor=floor,
            lane_ms=LANE_MS, generation=LANE_MS // LENGTH_MS, changes=[], accounts=[],
            uses=[Use(CLIENT, 1, 0, fields)], items=items,
            context=msgpack.encode([bringing(at) if at in brings else entry(at) for at in offsets]),
        )
    )  # fmt: skip
    assert reply.status == Status.OK
    return reply.number


@given(histories())
def test_a_reconciled_bucket_is_journal_plus_pending(history: dict[str, Any]) -> None:
    """Whatever was lost, published otherwise or cut short: sums and keys are of journal and pending.

    The lane draws some calls; a store that fell back keeps the first of them; the journal has a prefix of
    the records, some not at all and some with another amount; the comparison is read in pieces, sent in
    parts, and begun again after crashes.
    """
    bucket = Bucket()
    bucket.fence(0, 1)
    _, request = bucket.register(0, 1, 1, 1)
    opening = ClientWrite(CLIENT, 0, 1, b"")
    request = bucket.draw(
        DrawRequest(0, 1, request, 0, 0, 0, 0, [opening], [], [], [], b"", contextless=True)
    ).number
    journal: list[tuple[int, Effect]] = []
    for at, published in enumerate(history["as_decided"]):
        if published is not None:
            journal.append((100 + 2 * at, effect(at, 10 + at + (0 if published else 3), at + 1)))
        # What was not published as it was decided may have brought a fee, too, or none.
        if published is not None and (at in history["brings"] if published else at % 3):
            journal.append((101 + 2 * at, fee_effect(at, -4 - 100 * at - (not published))))
    position = len(history["as_decided"])
    offset = 0
    for number, size in enumerate(history["sizes"][: history["kept_calls"]]):
        # Only what was published as it was decided may have been trimmed, with its effects below the floor.
        whole = all(history["as_decided"][:offset]) and offset <= position
        trim, floor = (request - 1, 100 + 2 * offset) if number < history["trims"] and whole else (0, 0)
        offsets = list(range(offset, offset + size))
        request = _draw(bucket, request, offsets, trim, floor, history["brings"])
        offset += size
    step = _compare(bucket, journal, position, history)
    expected = [(said.balance, dict(said.counters), said.key) for _, said in journal]
    for decided in step.pending.values():
        assert isinstance(decided, Pending)
        expected.append((*effects(decided), decided.entry.key))
    client = bucket.clients[CLIENT]
    assert client.balance == sum(balance for balance, _, _ in expected)
    sums: Counter[str] = Counter()
    for _, counters, _ in expected:
        for field, delta in counters.items():
            sums[field] += delta
    assert {field: used for field, used in client.used.items() if used} == dict(sums)
    remembered = bucket.duplicates.generations.get(LANE_MS // LENGTH_MS, {})
    assert set(remembered) == {key for _, _, key in expected if key}
    again = bucket.fence(0, 999)
    assert again.base == again.floor
    left = reconciling(again, position=position)
    assert corrections(left.finish(0, 999, again.number, 300)) == {}
    assert left.pending == step.pending
    assert {at for _, at, _ in step.pending} == set(range(position, offset))


def _compare(
    bucket: Bucket, journal: list[tuple[int, Effect]], position: int, history: dict[str, Any]
) -> Reconciling:
    """Take the lane as often as it crashes; the last comparison, finished, is returned."""
    crashes = sorted(history["crashes"], reverse=True)
    token = 2
    while True:
        reply = bucket.fence(0, token)
        call = reply.number
        step = reconciling(reply, position=position)
        rest = [(at, said) for at, said in journal if at >= step.read_from]
        sizes = list(history["reads"])
        crash = crashes.pop() if crashes else None
        reads = 0
        while rest and reads != crash:
            size = sizes.pop(0) if sizes else 1
            piece, rest = rest[:size], rest[size:]
            step.read(piece)
            reads += 1
            if reads in history["parts"]:
                status, call = bucket.reconcile(step.part(0, token, call, piece[-1][0] + 1))
                assert status == Status.OK
        if crash is None or reads != crash:
            assert bucket.reconcile(step.finish(0, token, call, 200))[0] == Status.OK
            return step
        token += 1
