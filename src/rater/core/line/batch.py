"""A batch: what one poll brought in (or a slice of it), and what becomes of it.

Its records become sides; each side ends as a transaction, a rejected record or a duplicate, in the order of
the records.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any, Protocol

from msgspec import Struct
from msgspec.structs import replace

from rater.core.bucket.messages import DrawResult
from rater.core.catalog.codes import Rate, RateText
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.offers import Candidate, LimitText
from rater.core.cdr import SIDES, Cdr, Party
from rater.core.clients.changes import ChangeEvent
from rater.core.clients.dids import freed_number
from rater.core.clients.views import ClientView, Opened
from rater.core.instants import is_stamp
from rater.core.journal.outcomes import Decided, KeptChange, OutcomeRow
from rater.core.journal.records import STEP_INDEX, Headers, Identity, Outgoing, Run
from rater.core.journal.traces import Timed, Traces
from rater.core.kinds import EventType
from rater.core.line.counts import Counts
from rater.core.rating.event_fees import EventFee
from rater.core.rating.pricing import Priced
from rater.core.rating.transaction import TransactionHead
from rater.core.reasons import Rejection
from rater.core.reasons import Side as SideName

SIDE_INDEX = {side: index for index, side in enumerate(SIDES)}

timestamp = attrgetter("timestamp")
"""Of a record, ms."""


class Record(Protocol):
    """A Kafka record as the client library hands it out."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


class LanePosition(Struct, frozen=True):
    """Where a lane stands behind a batch; the mark of a Kafka transaction says it of its last batch.

    A value that is never changed: the lane goes on to the next one while batches that wait for their commit
    carry theirs. What the reader has fetched beyond it is the reader's own (`LaneReader.next`).
    """

    positions: Mapping[str, int] = {}
    """Topic → offset behind its last record; none of a topic that nothing was read of."""
    times: Mapping[str, int] = {}
    """Topic → timestamp of that record, ms."""
    lane_ms: int = 0
    """The lane's time: the highest timestamp of its records (`is_stamp`), ms."""
    catalog: int = 0
    """Version of the catalog that the lane rates by; 0: it has none."""
    body: int = 0
    """Offset of that catalog's body in partition 0 of the commands topic."""
    life: bool = False
    """Whether all clients of the lane's own buckets that a version before 2026-12 left are taken over."""

    def behind(self, last: Mapping[str, Record]) -> LanePosition:
        """Return the position behind these records, the last ones of their topics."""
        return replace(
            self,
            positions={**self.positions, **{topic: record.offset + 1 for topic, record in last.items()}},
            times={**self.times, **{topic: record.timestamp for topic, record in last.items()}},
        )


class Standing(Struct):
    """A lane as the steps know it: where it stands, the rules that hold for it, and what it was left."""

    lane: int
    commands_topic: str
    window_ms: int
    """The duplicate window."""
    generation_ms: int
    """Length of a generation of duplicates."""
    position: LanePosition
    """Behind the last batch that was processed; while one is, its time and its catalog are those of now."""
    pending: dict[Identity, Decided] = {}
    """Outcomes that were decided before and not published: found by (topic, offset, index), never decided
    again."""
    lost: dict[Identity, KeptChange] | None = None
    """Changes that were drawn before and not published, and are lost in Redis, while other lanes went on from
    them: they are drawn once more, as they were, when their records come. None: not asked for yet."""

    @property
    def lane_ms(self) -> int:
        """The lane's time, ms."""
        return self.position.lane_ms

    @lane_ms.setter
    def lane_ms(self, lane_ms: int) -> None:
        self.position = replace(self.position, lane_ms=lane_ms)


class Side(Struct, gc=False):
    """One side of a CDR on its way through the line."""

    topic: str
    record: Any
    index: int
    cdr: Cdr | None = None
    party: Party | None = None
    rejection: Rejection | None = None
    identified_by: Catalog | None = None
    """The catalog that the next three rest on."""
    view: ClientView | None = None
    """Whose call it is, with the account and the rate: what `identify` found."""
    account: str | None = None
    rate: Rate | None = None
    priced: Priced | None = None
    opened: Opened | None = None
    """What is open of the client's packages; None: nothing was looked for."""
    candidates: tuple[Candidate, ...] = ()
    """What it may draw from."""
    fees: tuple[EventFee, ...] = ()
    """What it may bring as the first call of a period."""
    cut: bool = False
    """They are the first few: it is asked again with all of them where these do not do."""
    late: bool = False
    """A period that it may draw from was over when its record came in."""
    row: OutcomeRow | None = None
    """What its transaction says, with the next three: kept with the outcome."""
    head: TransactionHead | None = None
    rate_text: RateText | None = None
    limits: tuple[LimitText, ...] = ()
    job: str | None = None
    """The re-rating job that has it rated, of one that was rejected before."""
    whole: bool = False
    """The first limits did not do for it: it is asked with all of them."""
    catalog: int = 0
    """Version of the catalog that a rejection was judged by; 0: by none, so it tells of the batch's."""
    result: DrawResult | None = None
    told: int | None = None
    """How many events of the batch are of what was drawn before it; None: a predecessor drew it."""

    @property
    def name(self) -> SideName | None:
        """Which side; None: of a record of which that is not known."""
        return SIDES[self.index] if self.index >= 0 else None

    @property
    def offset(self) -> int:
        """Of its record."""
        offset: int = self.record.offset
        return offset


Told = tuple[int | None, Sequence[ChangeEvent], Headers]
"""`Side.told`, the events of the side, and their headers."""


class Batch:
    """What a poll brought in, and what becomes of it."""

    timed: Sequence[Timed] = ()
    """How long the steps before its commit took, where spans are made of it."""

    def __init__(self, standing: Standing, polled: list[tuple[str, list[Any]]]) -> None:
        self.polled = [(topic, records) for topic, records in polled if topic != standing.commands_topic]
        self.commands: list[Any] = [
            record for topic, records in polled if topic == standing.commands_topic for record in records
        ]
        self.commands_topic = standing.commands_topic
        self.lane = standing.lane
        self.records = sum(len(records) for _, records in polled)
        self.last: dict[str, Record] = {topic: records[-1] for topic, records in polled if records}
        """The last record of each topic."""
        self.sides: list[Side] = []
        self.changes: list[KeptChange] = []
        """Changes of clients that were carried out, now or by a predecessor."""
        self.events: list[Outgoing] = []
        self.controls: list[Outgoing] = []
        """Control records of the journal beside the mark (states of the account index)."""
        self.transactions: list[Outgoing] = []
        self.runs: list[Run] = []
        """Transactions behind those, which the native engine writes."""
        self.rejected: list[Outgoing] = []
        self.snapshots: list[Outgoing] = []
        """Of clients, and of what else the lane's own buckets have."""
        self.ticks: list[Outgoing] = []
        """Commands of the lane to itself."""
        self.freed: list[tuple[str, str, int]] = []
        """(number, client, time) of DIDs that changes freed: the lanes of the numbers are told."""
        self.to_numbers: list[tuple[str, bytes]] = []
        """(number, command) for the lanes of numbers."""
        self.firsts: list[tuple[Any, Any]] = []
        """(record, `RerateFirstArgs`) of commands that have a side rated which was rejected before."""
        self.traces = Traces(polled)
        self.counts = Counts()
        for topic, records in self.polled:
            self.counts.cdrs += len(records)
            self.counts.topics[topic] += len(records)
            self.counts.arrivals.update(map(timestamp, records))
        self.decided_by = 0
        """The newest version of the catalog that a side was decided by before, which is published again."""
        self.woken: list[Side] = []
        """Sides that raised their client's balance to what it waits for, and nothing was tried again yet."""
        self.steps: dict[Identity, int] = {}
        """Topic, offset and index → how many changes were carried out under it, the next ones of which are
        those of further steps (`step_index`)."""
        self.requests: dict[int, int] = {}
        """Bucket → number of the last request that carried something of this batch."""
        self.position = standing.position
        """Where the lane stands behind the batch; until it is decided: where it began."""
        self.pending_left = 0
        """Outcomes of a predecessor that had not come again when this batch was rated."""

    def step_index(self, topic: str, offset: int, index: int) -> int:
        """Return the index of the next change under this identity: a plan that is long goes on in steps."""
        return index + STEP_INDEX * self.steps.get((topic, offset, index), 0)

    def add_changes(self, changes: Iterable[KeptChange]) -> None:
        """Take what was carried out: its events as they were made with it; the rest is rendered."""
        for change in changes:
            self.changes.append(change)
            identity = change.topic, change.offset, change.index % STEP_INDEX
            self.steps[identity] = self.steps.get(identity, 0) + 1
            self.tell(change.events, self.traces.headers(change.topic, change.offset))
            self.freed += [
                (freed_number(event.value), change.client, change.record_ms)
                for event in change.events
                if event.type == EventType.DID_FREED
            ]

    def tell(self, events: Iterable[ChangeEvent], headers: Headers | None = None) -> None:
        """Add events that are published with the batch, all with these headers."""
        for event in events:
            self.events.append((event.key, event.value, headers or []))
            self.counts.tell(event)

    def tell_among(self, placed: Sequence[Told]) -> None:
        """Add events, each behind so many of those that are there (None: all), as it was drawn."""
        before, self.events, at = self.events, [], 0
        for told, events, headers in sorted(
            placed, key=lambda one: len(before) if one[0] is None else one[0]
        ):
            place = len(before) if told is None else told
            self.events += before[at:place]
            at = place
            self.tell(events, headers)
        self.events += before[at:]

    @property
    def catalog(self) -> int:
        """Version of the catalog that the lane has behind the batch; before: that it begins with."""
        return self.position.catalog

    def journaled(self) -> list[Outgoing | Run]:
        """Return what goes into the journal ahead of the mark, in order."""
        return [*self.controls, *self.transactions, *self.runs]

    def release(self) -> None:
        """Let go of what only processing needed: what is published stays."""
        self.polled, self.commands, self.last, self.sides, self.changes = [], [], {}, [], []
        self.woken, self.firsts, self.steps = [], [], {}
        if not self.timed:  # else its spans name them
            self.traces = Traces([])


def slices(standing: Standing, polled: list[tuple[str, list[Any]]], records_max: int) -> list[Batch]:
    """Cut what came in into equal batches of at most `records_max` records.

    The lane's time stays within one generation of duplicates in a batch: its keys all go into that one.
    """
    batches = []
    for group in _by_generation(standing, polled):
        piece: list[tuple[str, list[Any]]] = []
        total = sum(len(records) for _, records in group)
        room = size = -(-total // max(1, -(-total // records_max)))
        for topic, records in group:
            at = 0
            while at < len(records):
                part = records[at : at + room]
                piece.append((topic, part))
                at += len(part)
                room -= len(part)
                if room <= 0:
                    batches.append(Batch(standing, piece))
                    piece, room = [], size
        if piece:
            batches.append(Batch(standing, piece))
    return batches


def _by_generation(
    standing: Standing, polled: list[tuple[str, list[Any]]]
) -> list[list[tuple[str, list[Any]]]]:
    """Part what came in where the lane's time enters another generation: seldom, or after a long absence."""
    lane_ms, length_ms = standing.lane_ms, standing.generation_ms
    latest_ms = max([max(map(timestamp, records), default=0) for _, records in polled], default=0)
    if latest_ms // length_ms <= lane_ms // length_ms:
        return [polled]
    groups: list[list[tuple[str, list[Any]]]] = [[]]
    for topic, records in polled:
        start = 0
        for at, record in enumerate(records):
            if not is_stamp(record.timestamp):
                continue
            if record.timestamp // length_ms > lane_ms // length_ms:
                if at > start:
                    groups[-1].append((topic, records[start:at]))
                groups.append([])
                start = at
            lane_ms = max(lane_ms, record.timestamp)
        groups[-1].append((topic, records[start:]))
    return [group for group in groups if group]
