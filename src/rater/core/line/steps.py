"""The pure steps of the straight line over a batch: decode, identify, match, settle, render.

Between the steps the worker awaits the store; here nothing awaits. One step runs over all sides before the
next begins: that is what makes one call for each bucket possible.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

import msgspec

from rater.core.bucket.messages import DrawReply, DrawResult, Outcome, bucket_of
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import LimitType
from rater.core.cdr import SIDES, Cdr
from rater.core.clients.views import Views
from rater.core.instants import STAMP_MS_END
from rater.core.journal.outcomes import Decided, KeptChange, brought_fee, row_of
from rater.core.journal.records import (
    CDR_INDICES,
    CHANGE_INDEX_MIN,
    FEE_INDEX_MIN,
    JOB_HEADER,
    STEP_INDEX,
    ChangeRecord,
    Effect,
    Headers,
    Outgoing,
    StateRecord,
    change_record,
    effect_headers,
    state_record,
)
from rater.core.journal.traces import TRACE_HEADER
from rater.core.kinds import DuplicateKind, SideOutcome, TransactionType
from rater.core.line.batch import Batch, Record, Side, Standing, Told
from rater.core.line.draw_request import RequestBuilder
from rater.core.line.due import Planned, index_of
from rater.core.line.reading import arrivals, begin_ms, count_known, header_of, read, take_rejected
from rater.core.rating.crossings import crosses, draw_events
from rater.core.rating.event_fees import event_fees
from rater.core.rating.identifying import Ahead, Identified
from rater.core.rating.identifying import identify as identify_side
from rater.core.rating.identifying import wanted as wanted_of
from rater.core.rating.matching import match as match_limits
from rater.core.rating.matching import package_type
from rater.core.rating.pricing import price as price_of
from rater.core.rating.transaction import Context, catalog_of, plain_id, refused, rendered
from rater.core.reasons import Reason, Rejection
from rater.core.reasons import Side as SideName
from rater.core.sources.csv_reading import COLUMNS
from rater.core.sources.formats import Skipped
from rater.core.sources.source_map import SourceMap

_context = msgspec.msgpack.Decoder(Context)


Requests = dict[int, RequestBuilder]
"""Bucket → request."""


def decode(
    batch: Batch, standing: Standing, maps: Mapping[str, SourceMap | None], services: frozenset[str]
) -> list[Side]:
    """Return the sides that have to be rated; what was decided before, or cannot be read, is settled."""
    sides: list[Side] = []
    every = batch.sides
    lane_ms = begin_ms(batch, standing)
    for topic, record, arrival in arrivals(batch, lane_ms, standing.window_ms, services):
        lane_ms = arrival.lane_ms
        replayed = replay_of(batch, standing, topic, record) if standing.pending else ()
        found = read(record, arrival, maps.get(topic))
        if isinstance(found, Cdr):
            count_known(batch, record, arrival)
            if found.orig is not None and 0 not in replayed:
                sides.append(side := Side(topic, record, 0, found, found.orig))
                every.append(side)
            if found.term is not None and 1 not in replayed:
                sides.append(side := Side(topic, record, 1, found, found.term))
                every.append(side)
            take_rejected(batch, topic, record, found.rejected, replayed, batch.catalog)
        elif not isinstance(found, Skipped):  # else it is no call, says the source's map
            take_rejected(batch, topic, record, found, replayed, batch.catalog)
    standing.lane_ms = lane_ms
    return sides


def replay_of(batch: Batch, standing: Standing, topic: str, record: Record) -> list[int]:
    """Take what was decided of a record before out of the pending; returns its indices."""
    found = []
    for first in CDR_INDICES:
        index = first
        while (decided := standing.pending.pop((topic, record.offset, index), None)) is not None:
            replay(batch, record, decided)
            found.append(index)
            index += STEP_INDEX
    return found


def replay(batch: Batch, record: Record, decided: Decided) -> None:
    """Settle a side, or a change, by the outcome that was kept of it."""
    batch.counts.replayed += 1
    if isinstance(decided, KeptChange):
        batch.add_changes([decided])
        return
    entry = decided.entry
    side, context = Side(entry.topic, record, entry.index), _context.decode(entry.context)
    side.result = decided.result
    side.row = row_of(context, entry.key, entry.content, record)
    side.head, side.rate_text, side.limits = context.head, context.rate, context.limits
    batch.decided_by = max(batch.decided_by, catalog_of(context.head))
    batch.sides.append(side)
    if decided.woke:
        batch.woken.append(side)


class Lacking:
    """What has to be had before sides can be identified, or rejected for good."""

    def __init__(self) -> None:
        self.clients: set[str] = set()
        self.accounts: set[str] = set()
        self.catalog = 0
        """The newest version of the catalog that a client's state asks for."""

    def __bool__(self) -> bool:
        return bool(self.clients or self.accounts or self.catalog)

    def by_bucket(self, buckets: int) -> dict[int, tuple[set[str], set[str]]]:
        """Return bucket → (clients, accounts) to look up there."""
        out: dict[int, tuple[set[str], set[str]]] = {}
        for client in self.clients:
            out.setdefault(bucket_of(client, buckets), (set(), set()))[0].add(client)
        for account in self.accounts:
            out.setdefault(bucket_of(account, buckets), (set(), set()))[1].add(account)
        return out


def identify(sides: Iterable[Side], catalog: Catalog, views: Views) -> Lacking:
    """Find whose call each side is, and at which rate; returns what is lacking.

    Where something is, ask again with all sides when it was had: those whose client's view holds still stay
    as they are. A rejected side stands with its rejection, which holds when nothing is lacking.
    """
    lacking = Lacking()
    for side in sides:
        view = side.view
        if view is not None and side.identified_by is catalog and views.find(view.id) is view:
            continue
        side.rejection, side.view, side.identified_by = None, None, catalog
        found = identify_side(side.cdr, SIDES[side.index], side.party, catalog, views)  # type: ignore[arg-type]
        if isinstance(found, Identified):
            side.view, side.account, side.rate = found.view, found.account, found.rate
        elif isinstance(found, Rejection):
            _reject_side(side, found, _whose_view(side, catalog, views), catalog, views, lacking)
        elif isinstance(found, Ahead):
            lacking.catalog = max(lacking.catalog, found.catalog)
        elif found.client is not None:
            lacking.clients.add(found.client)
        elif found.account is not None:
            lacking.accounts.add(found.account)
    return lacking


def _reject_side(
    side: Side, rejection: Rejection, client: str | None, catalog: Catalog, views: Views, lacking: Lacking
) -> None:
    """Reject a side, whatever the step that finds it: a rejection rests on a view of now.

    client: whose view the rejection rests on, None: on none. A draw names the version of the view it used, so
    an old one is found out; a rejection draws nothing, and the cached view may be its only reason.
    """
    side.rejection, side.catalog = rejection, catalog.version
    if client is not None and client not in views.fetched:
        lacking.clients.add(client)


def outdated(sides: Iterable[Side], catalog: Catalog | None) -> set[int]:
    """Return the `id` of each side that an older catalog than this one rejects."""
    version = 0 if catalog is None else catalog.version
    return {id(side) for side in sides if side.rejection is not None and side.catalog < version}


def _whose_view(side: Side, catalog: Catalog, views: Views) -> str | None:
    """Return the client whose view a side's identification rests on, None when it rests on none."""
    client, account = wanted_of(side.cdr, side.name, side.party, catalog)  # type: ignore[arg-type]
    if client is None and account is not None:
        client = views.owner(account)
    return None if client is None or views.find(client) is None else client


def price(sides: Iterable[Side], catalog: Catalog, views: Views) -> Lacking:
    """Work out what each identified side costs before packages; returns what is lacking."""
    lacking = Lacking()
    for side in sides:
        cdr, view = side.cdr, side.view
        if side.rejection is not None or cdr is None or view is None:
            continue
        found = price_of(cdr, SIDES[side.index], side.rate, view.currency, catalog)
        if isinstance(found, Rejection):
            _reject_side(side, found, view.id, catalog, views, lacking)
        else:
            side.priced = found
    return lacking


def match(
    sides: Iterable[Side], catalog: Catalog, views: Views, buckets: int, ask_whole: Container[str] = ()
) -> tuple[Requests, Lacking]:
    """Return the requests of priced sides, with what each may draw from, and what is lacking.

    Where something is, the requests are not to be made: have it, then identify, price and match all again.
    ask_whole: clients whose calls are asked with all limits at once; others may be asked with the first few,
    which changes nothing but how often is asked.
    """
    requests: Requests = {}
    lacking = Lacking()
    for side in sides:
        cdr, view, priced, rate = side.cdr, side.view, side.priced, side.rate
        if side.rejection is not None or cdr is None or view is None or priced is None:
            continue
        side.opened, side.candidates, side.cut, side.late, side.fees = None, (), False, False, ()
        if priced.billed and rate is not None and view.packages:
            name = SIDES[side.index]
            kind = package_type(priced.sign, name)
            opened = side.opened = view.opened(side.account, cdr.service, kind, cdr.at_ms, catalog)
            whole = side.whole or bool(opened.by_event) or view.id in ask_whole
            matched = match_limits(
                opened, view, name, rate.code, priced.billed, cdr.at_ms, catalog, whole=whole
            )
            if isinstance(matched, Rejection):
                _reject_side(side, matched, view.id, catalog, views, lacking)
                continue
            side.candidates, side.cut = matched
            if opened.by_event:
                fees = event_fees(opened, view, side.candidates, cdr, name, catalog)
                if isinstance(fees, Rejection):
                    _reject_side(side, fees, view.id, catalog, views, lacking)
                    continue
                side.fees = fees
            came_ms = side.record.timestamp
            if opened.until_ms <= came_ms < STAMP_MS_END:
                side.late = any(opened.stops_ms[one.group] <= came_ms for one in side.candidates)
        bucket = view.crc % buckets
        builder = requests.get(bucket)
        if builder is None:
            builder = requests[bucket] = RequestBuilder()
        builder.add(side, cdr, view, priced, catalog.version)
    return requests, lacking


def add_changes(
    requests: Requests, batch: Batch, planned: Sequence[Planned], buckets: int
) -> None:  # fmt: skip
    """Add what is due before sides to the requests that have them."""
    for change, side, view in planned:
        builder = requests.setdefault(view.crc % buckets, RequestBuilder())
        builder.change(change, side.topic, side.record, index_of(batch, side))


def ask_whole(request: RequestBuilder, items: list[int]) -> set[str]:
    """Note that the first limits of these items did not do; returns their clients.

    Other calls of the same clients are asked with all limits as well: each client's limits do not do once.
    """
    clients = {request.uses[request.items[item].use].client for item in items}
    for side, item in zip(request.sides, request.items, strict=True):
        side.whole = side.whole or request.uses[item.use].client in clients
    return clients


def halves(sides: list[Side]) -> list[list[Side]]:
    """Return the sides in two parts, with those of one record together; of one record alone: in one."""
    middle = len(sides) // 2
    while 0 < middle < len(sides) and sides[middle].record is sides[middle - 1].record:
        middle += 1
    return [part for part in (sides[:middle], sides[middle:]) if part]


def settle(batch: Batch, request: RequestBuilder, reply: DrawReply) -> None:
    """Note what became of a request: its changes were carried out, each side has its result."""
    batch.add_changes(request.changes)
    told = len(batch.events)
    for side, result in zip(request.sides, reply.results, strict=True):
        side.result, side.told = result, told
    batch.woken += [request.sides[item] for item in reply.woken]


def render(batch: Batch, standing: Standing) -> None:
    """Turn every change and every side into what is published of it; changes first, events as drawn."""
    counts, lane, lane_ms = batch.counts, standing.lane, standing.lane_ms
    outcomes: list[tuple[SideName, SideOutcome]] = []
    draws, told = list[LimitType](), list[Told]()
    usage = late = 0
    for change in batch.changes:
        _render_change(batch, standing, change)
    for side in batch.sides:
        if side.rejection is not None:
            reject(batch, side, side.rejection)
            continue
        result, row, head, name = side.result, side.row, side.head, SIDES[side.index]
        assert result is not None  # noqa: S101 - settle gave one to each
        assert row is not None  # noqa: S101 - every drawn side has them
        assert head is not None  # noqa: S101 - the same
        assert side.rate_text is not None  # noqa: S101 - the same
        if result.outcome == Outcome.RATED:
            counters, tells, trace = [], result.low is not None, batch.traces.headers(side.topic, row.offset)
            for at, taken, left, _ in result.takes:
                limit = side.limits[at]
                counters.append((head.packages[limit.group].field + limit.field, taken))
                draws.append("money" if limit.money else "volume")
                tells = tells or (bool(limit.marks) and crosses(limit.marks, taken, left))
            effect = Effect(
                side.topic, lane, row.offset, side.index, row.record_ms, lane_ms, row.key, row.content,
                head.client, result.amount, counters,
            )  # fmt: skip
            transaction = rendered(row, head, side.rate_text, side.limits, result)
            batch.transactions.append((head.client.encode(), transaction, effect_headers(effect) + trace))
            if result.fee is not None:
                _render_fee(batch, standing, side, result)
            if tells:
                cause = f"{side.topic}/{lane}/{row.offset}"
                told.append((side.told, draw_events(transaction, side.limits, result, cause), trace))
            outcomes.append((name, SideOutcome.RATED if row.why is None else SideOutcome.ZERO))
            usage += 1
            late += side.late
        elif result.outcome == Outcome.DUPLICATE:
            outcomes.append((name, SideOutcome.DUPLICATE))
            counts.duplicates[DuplicateKind.SAME] += 1
        else:
            # As it was decided, also by a predecessor: of its CDR nothing is left but what is kept.
            side.catalog = catalog_of(head)
            side.rejection = refused(result.outcome, plain_id(row), name)
            reject(batch, side, side.rejection)
    batch.tell_among(told)
    counts.sides.update(outcomes)
    counts.draws.update(draws)
    counts.transactions[TransactionType.USAGE] += usage
    counts.late += late


def _render_fee(batch: Batch, standing: Standing, side: Side, result: DrawResult) -> None:
    """Publish the fee that a side brought, if it did, beside its usage."""
    row, head = side.row, side.head
    assert row is not None  # noqa: S101 - every drawn side has them
    assert head is not None  # noqa: S101 - the same
    fee = brought_fee(head.packages, row.fees, result)
    if fee is None:
        return
    effect = Effect(
        side.topic, standing.lane, row.offset, FEE_INDEX_MIN + side.index, row.record_ms, standing.lane_ms,
        b"", b"", head.client, fee.amount, fee.counters,
    )  # fmt: skip
    headers = effect_headers(effect) + batch.traces.headers(side.topic, row.offset)
    batch.transactions.append((head.client.encode(), fee.value, headers))
    batch.counts.transactions[TransactionType.SUBSCRIPTION_FEE] += 1


def _render_change(batch: Batch, standing: Standing, change: KeptChange) -> None:
    """Publish a change: its whole effect, then its transactions, each with its share."""
    lane, lane_ms, key = standing.lane, standing.lane_ms, change.client.encode()
    whole = ChangeRecord(
        change.topic, change.offset, change.index, change.record_ms, lane_ms, change.client, change.version,
        change.state, change.delta, change.counters, change.hints, change.members, change.history,
        [*change.upon], change.instead,
    )  # fmt: skip
    batch.transactions.append(change_record(whole))
    for kind, amount, value, counters in change.transactions:
        share = Effect(
            change.topic, lane, change.offset, change.index, change.record_ms, lane_ms, b"", b"",
            change.client, amount, [*counters],
        )  # fmt: skip
        headers = effect_headers(share) + batch.traces.headers(change.topic, change.offset)
        batch.transactions.append((key, value, headers))
        batch.counts.transactions[kind] += 1


def account_state(topic: str, offset: int, accounts: list[tuple[str, str]]) -> Outgoing:
    """Return the control record that keeps entries of the account index."""
    return state_record(StateRecord(topic, offset, CHANGE_INDEX_MIN, "", 0, b"", accounts))


def reject(batch: Batch, side: Side, rejection: Rejection) -> None:
    """Publish a side, or a record, as rejected."""
    record = side.record
    batch.rejected.append(
        rejected_record(
            rejection, (side.topic, batch.lane, side.offset), record.key, record.value,
            catalog=side.catalog or batch.catalog, attempt=header_of(record, "attempt") or b"1",
            columns=header_of(record, COLUMNS), trace=batch.traces.of.get((side.topic, side.offset)),
        )
    )  # fmt: skip
    batch.counts.rejected[rejection.reason] += 1
    batch.counts.sides[rejection.side or "none", SideOutcome.REJECTED] += 1
    if rejection.reason is Reason.DUPLICATE_DIFFERS:
        batch.counts.duplicates[DuplicateKind.DIFFERS] += 1


def rejected_record(
    rejection: Rejection, place: tuple[str, int, int], key: bytes | None, value: bytes | None, *,
    catalog: int, attempt: bytes, columns: bytes | None, job: str | None = None, trace: bytes | None = None,
) -> Outgoing:  # fmt: skip
    """Return the record of a side, or a record, that is rejected. place: topic, partition, offset of it.

    job: of a re-rating that has taken back what was published of it. trace: that the record is of.
    """
    topic, partition, offset = place
    headers: Headers = [
        ("reason", rejection.reason.value.encode()),
        ("detail", rejection.detail.encode("utf-8", "backslashreplace")),
        ("value", rejection.value.encode("utf-8", "backslashreplace")),
        ("side", (rejection.side or "").encode()),
        ("source_topic", topic.encode()),
        ("source_partition", b"%d" % partition),
        ("source_offset", b"%d" % offset),
        ("catalog", b"%d" % catalog),
        ("attempt", attempt),
    ]
    if columns is not None:  # the record says nothing without it
        headers.append((COLUMNS, columns))
    if job is not None:
        headers.append((JOB_HEADER, job.encode()))
    if trace is not None:
        headers.append((TRACE_HEADER, trace))
    return key, value, headers
