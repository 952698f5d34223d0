"""What a lane does for a re-rating job beside changing clients: it rejects sides, and rates rejected ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rater.core.bucket.messages import Outcome
from rater.core.cdr import SIDES, Arrival, Cdr
from rater.core.commands.records import RerateArgs, RerateFirstArgs, RerateSwapArgs
from rater.core.commands.rerates import counted
from rater.core.journal.traces import valid
from rater.core.line.batch import Batch, Side
from rater.core.line.reading import read
from rater.core.line.steps import rejected_record
from rater.core.reasons import Rejection
from rater.core.sources.csv_reading import COLUMNS
from rater.worker.buckets import LaneBuckets


@dataclass(slots=True)
class _Sent:
    """A rejected record as it came, at the place of the command that brings it again."""

    value: bytes | None
    offset: int
    timestamp: int
    headers: Any
    key: bytes | None = None


def note_part(batch: Batch, args: RerateArgs) -> None:
    """Publish what a part of a job has besides its change, and count it; a replay does the same."""
    batch.counts.rerated.update(counted(args))
    if not isinstance(args, RerateSwapArgs):
        return
    for value, trace in zip(args.transactions, args.traces, strict=False):
        if (passed_on := valid(trace.encode())) is not None:
            batch.traces.rated_again[value.encode()] = passed_on
    for one in args.rejected:
        rejection = Rejection(one.reason, one.detail, one.shown, one.side)
        batch.rejected.append(
            rejected_record(
                rejection, (one.topic, one.partition, one.offset), one.key, one.value,
                catalog=args.catalog, attempt=b"1", columns=one.columns, job=args.job,
                trace=valid(one.trace.encode()),
            )
        )  # fmt: skip


def first_sides(buckets: LaneBuckets, batch: Batch) -> list[Side]:
    """Return the sides that were rejected before and that jobs have rated now; of any age.

    They are duplicates where the line has rated them meanwhile.
    """
    catalog, standing = buckets.lane.catalog, buckets.lane.standing
    services = frozenset[str]() if catalog is None else catalog.service_names
    arrival = Arrival(standing.lane_ms, standing.lane_ms, services)
    sides = []
    for record, args in batch.firsts:
        found = _read(buckets, record, args, arrival)
        index = SIDES.index(args.side)
        party = None if found is None else found.term if index else found.orig
        if found is not None and party is not None:
            sent = _sent(record, args)
            if (trace := valid(args.trace.encode())) is not None:
                batch.traces.of[batch.commands_topic, record.offset] = trace
            sides.append(Side(batch.commands_topic, sent, index, found, party, job=args.job))
    batch.sides += sides
    return sides


def _read(buckets: LaneBuckets, record: Any, args: RerateFirstArgs, arrival: Arrival) -> Cdr | None:
    found = read(_sent(record, args), arrival, buckets.map_of(args.topic))
    return found if isinstance(found, Cdr) else None


def _sent(record: Any, args: RerateFirstArgs) -> _Sent:
    headers = () if args.columns is None else ((COLUMNS, args.columns),)
    return _Sent(args.value, record.offset, record.timestamp, headers)


def leave_rejected(batch: Batch) -> None:
    """Leave out sides that jobs had rated and that cannot be all the same: their rejected record is there."""
    if batch.firsts:
        batch.sides = [side for side in batch.sides if side.job is None or not _is_rejected(side)]


def _is_rejected(side: Side) -> bool:
    return side.rejection is not None or (
        side.result is not None and side.result.outcome in (Outcome.DIFFERS, Outcome.OUT_OF_RANGE)
    )
