"""A fee that a call brings (charge on event), from its draw through the journal to the audit."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from msgspec import Raw, msgpack

from fuzz.targets import FEE
from fuzz.world import LOADED_MS, Lane
from rater.core.amounts import Form
from rater.core.bucket.messages import (
    ClientWrite,
    DrawItem,
    DrawRequest,
    FeeAsk,
    ItemCandidate,
    Use,
    bucket_of,
)
from rater.core.bucket.model import Bucket
from rater.core.catalog.codes import NO_RATE
from rater.core.catalog.offers import LimitText
from rater.core.clients.views import PeriodText
from rater.core.journal.auditing import Ledger
from rater.core.journal.comparing import Stored
from rater.core.journal.outcomes import OutcomeRow, Pending, pack_rows, unpack_kept
from rater.core.journal.reconciling import Reconciling
from rater.core.line import steps
from rater.core.line.batch import Batch
from rater.core.rating.transaction import FeeText
from rater.stream.journal import understood

FIELDS = ["3.1.a", "3.1.fee.charged", "3.1.fee.net", "3.1.fee.amount"]
LIMIT = ItemCandidate(0, 600, 0, False, False, False, 0, None, None)  # noqa: FBT003 - its own order
HEAD = (
    "42", 'orig","client":"42","account":null,"side":"orig","service":"calls","cdr":{"source":"', "",
    ',"currency":"USD","catalog":1', Raw(msgpack.encode([PeriodText('"3"', "3.1", "1")])),
)  # fmt: skip
KIND = ',"package":"1","limit":"a","kind":"volume","period":'
TEXT = LimitText(money=False, waive=False, group=0, field=".a", prefix=KIND, tag=',"taken":"')


def row(number: int) -> OutcomeRow:
    """Return what is kept of the side of a record; its call may bring the fee."""
    return OutcomeRow(
        0, "default", f"a{number}", LOADED_MS, None, "380501234567", 60_000, 60, None, (), 0, number,
        LOADED_MS, b"key %04d" % number, b"same", 0, 0, 0, (FeeText(0, FEE.decode(), -10),),
    )  # fmt: skip


def drawn() -> Bucket:
    """Return a bucket in which two calls drew from the limit of a period; the first one brought its fee."""
    bucket = Bucket()
    call = bucket.fence(0, 1).number
    _, call = bucket.register(0, 1, call, 1)
    made = ClientWrite("42", 0, 1, b"register", delta=20)
    call = bucket.draw(
        DrawRequest(0, 1, call, LOADED_MS, 0, 0, 0, [made], [], [], [], b"", contextless=True)
    ).number
    items = [
        DrawItem(
            0, row(number).key, b"same", 60, Form(-1, 0, 1), same_record=False, candidates=(LIMIT,),
            fees=(FeeAsk(0, 1, -10, -12, deny=True),),
        )
        for number in (1, 2)
    ]  # fmt: skip
    context = pack_rows(["t.cdrs"], [HEAD], [NO_RATE], [[Raw(msgpack.encode(TEXT))]], [row(1), row(2)])
    bucket.draw(
        DrawRequest(0, 1, call, LOADED_MS, 0, 0, 0, [], [], [Use("42", 1, 0, FIELDS)], items, context)
    )
    return bucket


def published(kept: list[Any]) -> Batch:
    """Publish what was kept, as a lane does that was taken over."""
    lane = Lane()
    standing = lane.lane.standing
    batch = Batch(standing, [])
    for one in kept:
        steps.replay(batch, SimpleNamespace(offset=one.entry.offset, timestamp=LOADED_MS), one)
    steps.render(batch, standing)
    return batch


def kept_of(bucket: Bucket) -> list[Any]:
    """Return the sides that a bucket keeps."""
    ((context, packed),) = bucket.lanes[0].outcomes.values()
    return unpack_kept(context, packed)


def test_a_fee_is_published_beside_its_usage() -> None:
    """Usage and fee are two transactions of one record, each with what it did; the next call has none."""
    batch = published(kept_of(drawn()))
    values = [value or b"" for _, value, _ in batch.transactions]
    effects: list[Any] = [understood(headers) for _, _, headers in batch.transactions]
    assert values[1] == FEE
    assert [b'"fee_covered":true' in value for value in values] == [True, False, False]
    assert [(one.offset, one.index, one.balance, one.counters) for one in effects] == [
        (1, 0, 0, [("3.1.a", 60)]),
        (1, 6, -12, [("3.1.fee.charged", 1), ("3.1.fee.net", -10), ("3.1.fee.amount", -12)]),
        (2, 0, 0, [("3.1.a", 60)]),
    ]
    assert (effects[1].key, effects[1].content) == (b"", b"")
    assert batch.counts.transactions == {"usage": 2, "subscription_fee": 1}


def test_a_rebuilt_bucket_has_the_fee() -> None:
    """From the journal alone come the sums that the draw left; the audit finds header and value agree."""
    bucket, empty = drawn(), Bucket()
    batch = published(kept_of(bucket))
    step = Reconciling(
        empty.fence(0, 9), bucket=bucket_of("42", 1), buckets=1, positions={}, generation_ms=10**9
    )
    ledger = Ledger()
    for at, (_, value, headers) in enumerate(batch.transactions, 10):
        effect: Any = understood(headers)
        step.read([(at, effect)])
        ledger.add(0, at, value or b"", effect)
    what = step.finish(0, 9, 1, 99)
    empty.reconcile(what)
    there = bucket.clients["42"]
    assert empty.clients["42"].used == there.used
    assert empty.clients["42"].balance == there.balance - 20  # what it began with is not in this journal
    assert ledger.findings == []
    assert ledger.compare("42", Stored(there.balance - 20, there.used)) == []


def test_a_kept_fee_stays_with_its_side() -> None:
    """What stays pending is put together anew when a lane is taken, the fee with it."""
    bucket = drawn()
    fenced = bucket.fence(0, 9)
    kept = kept_of(bucket)
    step = Reconciling(fenced, bucket=0, buckets=1, positions={"t.cdrs": 2}, generation_ms=10**9)
    what = step.finish(0, 9, fenced.number, 99)
    # the first call's record was passed, and is undone
    bucket.reconcile(what)
    assert bucket.clients["42"].used == dict(zip(FIELDS, (60, 0, 0, 0), strict=True))
    (left,) = kept_of(bucket)
    assert isinstance(left, Pending)
    assert (left.result, left.entry.context) == (kept[1].result, kept[1].entry.context)
