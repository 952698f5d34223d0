"""Kafka in memory: partitions, Kafka transactions, groups; its clients are in clients.py.

It behaves as the real one was measured to (PROTOCOL.md 5): a producer's start fences the one before and
ends what it left open; the end of a Kafka transaction is answered before its markers are written, and until
then readers stand still; nothing tells the end of one Kafka transaction from that of the next; a batch that
is refused does not keep a Kafka transaction from being committed. test_contract.py compares it with Kafka.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from aiokafka.errors import (
    InvalidTimestampError,
    InvalidTxnState,
    KafkaConnectionError,
    MessageSizeTooLargeError,
    NotEnoughReplicasError,
    ProducerFenced,
    UnknownTopicOrPartitionError,
)

from simulation.clockwork import OUTSIDE, Process, chance, wall_s

Place = tuple[str, int]
Raw = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]], int | None]
"""Key, value, headers, timestamp."""
SCAN_S = 1.0
"""How late the broker finds that a Kafka transaction is too old."""
FUTURE_MAX_MS = 3_600_000


class Piece:
    """What one Kafka transaction wrote into one partition."""

    __slots__ = ("first", "forgotten", "place", "status")

    def __init__(self, place: Place) -> None:
        self.place = place
        self.forgotten = False
        self.status = "open"  # open | committed | aborted
        self.first: int | None = None


class Entry(NamedTuple):
    """One offset of a partition."""

    offset: int
    at_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]
    piece: Piece | None
    control: bool

    @property
    def visible(self) -> bool:
        """Whether a reader of what is committed gets it."""
        return not self.control and (self.piece is None or self.piece.status == "committed")


class Partition:
    """A log; offsets count from 0, and `begin` says from where on they are kept."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.begin = 0
        self.open: dict[Piece, int] = {}
        self.watchers: list[asyncio.Future[None]] = []

    @property
    def end(self) -> int:
        """The offset of the next record."""
        return len(self.entries)

    @property
    def stable(self) -> int:
        """The offset below which all is decided (LSO)."""
        return min(self.open.values(), default=len(self.entries))

    def append(self, raw: Raw, piece: Piece | None, now_ms: int, *, control: bool = False) -> int:
        """Add one record."""
        key, value, headers, at_ms = raw
        offset = len(self.entries)
        at = now_ms if at_ms is None else at_ms
        self.entries.append(Entry(offset, at, key, value, tuple(headers), piece, control))
        if piece is not None and piece.first is None and not control:
            piece.first = offset
            self.open[piece] = offset
        return offset

    def wake(self) -> None:
        """Tell those who wait for records."""
        watchers, self.watchers = self.watchers, []
        for watcher in watchers:
            if not watcher.done():
                watcher.set_result(None)


class Transactional:
    """What the coordinator knows of a transactional id."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.epoch = -1
        self.status = "empty"  # empty | open | ending | ended
        self.committing = False
        self.pieces: dict[Place, Piece] = {}
        self.marks: list[asyncio.TimerHandle] = []
        self.unmarked: dict[Place, Piece] = {}
        """Of an ended Kafka transaction whose markers were forgotten: the next one there ends them."""
        self.number = 0
        self.timeout_s = 60.0


class Member:
    """One member of a group."""

    def __init__(self, name: str, topic: str, session_s: float) -> None:
        self.name, self.topic, self.session_s = name, topic, session_s
        self.seen = 0.0
        self.joining: asyncio.Future[tuple[str, int, list[int]]] | None = None


class Group:
    """A consumer group with the eager protocol and range assignment."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}
        self.generation = 0
        self.stable = True
        self.round = 0


class Faults:
    """How often what goes wrong; all zero: nothing."""

    def __init__(self) -> None:
        self.latency_s = (0.0005, 0.004)
        self.marker_s = (0.001, 0.006)
        self.end_lost = 0.0
        """An EndTxn is carried out and its answer lost."""
        self.end_held = 0.0
        """An EndTxn is held in the network: the client hears nothing, and it arrives late."""
        self.batch_refused = 0.0
        self.fetch_failed = 0.0
        self.slow = 0.0
        """An answer takes a second."""


class Broker:
    """The whole cluster."""

    def __init__(
        self, rng: random.Random, tell: Callable[[str, str], None] = lambda _who, _what: None
    ) -> None:
        self.rng = rng
        self.tell = tell
        self.faults = Faults()
        self.topics: dict[str, list[Partition]] = {}
        self.settings: dict[str, dict[str, str]] = {}
        self.topic_ids: dict[str, bytes] = {}
        self._created = 0
        self.ids: dict[str, Transactional] = {}
        self.groups: dict[str, Group] = {}
        self.offsets: dict[tuple[str, str, int], int] = {}
        self.up = True
        self.on_commit: Callable[[], object] | None = None
        """Called once, when a Kafka transaction is committed and before that is answered."""
        self.recreated = False
        """Whether a topic was made anew: of its offsets each may name two records."""
        self.broken: list[str] = []
        """Errors of the in-memory Kafka itself."""
        self.batch_records_max = 0
        """Records that fit into a batch; 0: as many as its size allows."""
        self.fetch_max = 0
        """Records of one partition that one fetch brings; 0: mostly all."""
        self.held: set[Place] = set()
        """Who reads these beside others gets nothing new of them: so a lane is behind in its commands."""
        self._members = 0

    # ------------------------------------------------------------------ the network
    async def ask(self, process: Process | None, call: Callable[[], Any], *, connect: bool = False) -> Any:
        """Send a request and wait for the answer. The library repeats what is lost, so it is only late.

        connect: of a new client, which gives up when nobody answers.
        """
        if process is not None and process.state == "ghost":
            raise KafkaConnectionError("gone")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        if connect and not self.reachable(process):
            await asyncio.sleep(0.05)
            raise KafkaConnectionError("nobody listens")
        loop.call_later(self.delay(), self._arrive, process, call, answer, context=OUTSIDE)
        return await answer

    def delay(self) -> float:
        """Return how long a message takes."""
        if chance(self.rng, self.faults.slow):
            return self.rng.uniform(0.2, 2.0)
        low, high = self.faults.latency_s
        return low + (high - low) * self.rng.random()

    def reachable(self, process: Process | None) -> bool:
        """Return whether a process's requests arrive."""
        return self.up and not (process is not None and process.kafka_cut)

    def _arrive(self, process: Process | None, call: Callable[[], Any], answer: asyncio.Future[Any]) -> None:
        loop = asyncio.get_running_loop()
        if not self.reachable(process):
            if process is None or process.alive:
                loop.call_later(0.3, self._arrive, process, call, answer, context=OUTSIDE)
            return
        result: Any = None
        error: Exception | None = None
        try:
            result = call()
        except Exception as raised:  # noqa: BLE001 - it is the answer
            error = raised
        if isinstance(result, asyncio.Future):  # the broker answers later
            result.add_done_callback(lambda done: self._reply(process, answer, done.result(), None))
        else:
            self._reply(process, answer, result, error)

    def _reply(
        self, process: Process | None, answer: asyncio.Future[Any], result: Any, error: Exception | None
    ) -> None:
        asyncio.get_running_loop().call_later(
            self.delay(), self._deliver, process, answer, result, error, context=OUTSIDE
        )

    def _deliver(
        self, process: Process | None, answer: asyncio.Future[Any], result: Any, error: Exception | None
    ) -> None:
        if not self.reachable(process) and (process is None or process.alive):
            asyncio.get_running_loop().call_later(
                0.3, self._deliver, process, answer, result, error, context=OUTSIDE
            )
        elif not answer.done():
            if error is not None:
                answer.set_exception(error)
            else:
                answer.set_result(result)

    def now_ms(self) -> int:
        """Return the time on the broker's wall."""
        return int(wall_s() * 1000)

    # ------------------------------------------------------------------ topics
    def create(self, name: str, partitions: int, settings: dict[str, str]) -> None:
        """Make a topic, or make it anew."""
        self.recreated = self.recreated or name in self.topics
        self.topics[name] = [Partition() for _ in range(partitions)]
        self._created += 1
        self.topic_ids[name] = self._created.to_bytes(16, "big")
        self.settings[name] = settings

    def partition(self, place: Place) -> Partition:
        """Return a partition that is there."""
        found = self.topics.get(place[0])
        if found is None or place[1] >= len(found):
            raise UnknownTopicOrPartitionError(str(place))
        return found[place[1]]

    def put(self, place: Place, records: Iterable[Raw]) -> list[int]:
        """Append records of a producer without transactions."""
        partition = self.partition(place)
        offsets = [partition.append(raw, None, self.now_ms()) for raw in records]
        partition.wake()
        return offsets

    def hold(self, place: Place, for_s: float) -> None:
        """Let a lane be behind in one partition for a while."""
        self.tell("kafka", f"{place[0]}[{place[1]}] is held back for {for_s:.2f} s")
        self.held.add(place)
        asyncio.get_running_loop().call_later(for_s, self._go_on, place, context=OUTSIDE)

    def _go_on(self, place: Place) -> None:
        self.held.discard(place)
        self.partition(place).wake()

    # ------------------------------------------------------------------ Kafka transactions
    def init(self, name: str, timeout_s: float) -> tuple[int, int] | None:
        """Fence earlier producers of the id; None: what the last one left is being ended, ask again."""
        known = self.ids.get(name)
        if known is None:
            known = self.ids[name] = Transactional(len(self.ids))
        if known.status == "open":
            known.epoch += 1
            self._end(name, known, commit=False)
        if known.status == "ending":
            return None
        known.epoch += 1
        known.timeout_s = timeout_s
        known.status = "empty"
        self.tell("kafka", f"{name} has epoch {known.epoch}")
        return known.pid, known.epoch

    def _known(self, name: str, epoch: int) -> Transactional:
        known = self.ids[name]
        if epoch != known.epoch:
            raise ProducerFenced
        return known

    def add(self, name: str, epoch: int, places: Iterable[Place]) -> bool:
        """Take partitions into the Kafka transaction; False: the one before is being ended, ask again."""
        known = self._known(name, epoch)
        if known.status == "ending":
            return False
        if known.status != "open":
            known.status = "open"
            known.pieces = {}
            known.number += 1
            asyncio.get_running_loop().call_later(
                known.timeout_s + SCAN_S * self.rng.random(), self._too_old, name, known, known.number,
                context=OUTSIDE,
            )  # fmt: skip
        for place in sorted(places):
            if place not in known.pieces:
                self.partition(place)
                known.pieces[place] = known.unmarked.pop(place) if place in known.unmarked else Piece(place)
        return True

    def _too_old(self, name: str, known: Transactional, number: int) -> None:
        if known.status == "open" and known.number == number:
            self.tell("kafka", f"{name}: its transaction has timed out")
            known.epoch += 1
            self._end(name, known, commit=False)

    def produce(self, name: str, epoch: int, place: Place, records: list[Raw]) -> int:
        """Append a batch; returns its first offset."""
        known = self._known(name, epoch)
        piece = known.pieces.get(place)
        if known.status != "open" or piece is None:
            raise InvalidTxnState
        now_ms = self.now_ms()
        if any(at_ms is not None and at_ms > now_ms + FUTURE_MAX_MS for _, _, _, at_ms in records):
            raise InvalidTimestampError
        size = sum(len(key or b"") + len(value or b"") + 70 for key, value, _, _ in records)
        if size > int(self.settings.get(place[0], {}).get("max.message.bytes", 1_048_588)):
            raise MessageSizeTooLargeError
        if chance(self.rng, self.faults.batch_refused):
            self.tell("kafka", f"{name}: a batch for {place[0]}[{place[1]}] is refused")
            raise NotEnoughReplicasError
        partition = self.partition(place)
        first = partition.end
        for raw in records:
            partition.append(raw, piece, now_ms)
        return first

    def end(self, name: str, epoch: int, *, commit: bool) -> bool:
        """Decide a Kafka transaction; False: ask again. Which one is meant the request does not say."""
        known = self._known(name, epoch)
        if known.status == "open":
            self._end(name, known, commit=commit)
            return True
        if known.status in ("ending", "ended") and known.committing == commit:
            return known.status == "ended"
        raise InvalidTxnState

    def _end(self, name: str, known: Transactional, *, commit: bool) -> None:
        known.status, known.committing = "ending", commit
        what = "committed" if commit else "aborted"
        wrote = ", ".join(f"{place[0]}[{place[1]}]" for place in known.pieces)
        self.tell("kafka", f"{name}: transaction {known.number} is {what}: {wrote}")
        if commit and self.on_commit is not None:
            self.on_commit()
            self.on_commit = None
        loop, last, known.marks = asyncio.get_running_loop(), 0.0, []
        for piece in known.pieces.values():
            delay = self.rng.uniform(*self.faults.marker_s)
            last = max(last, delay)
            known.marks.append(loop.call_later(delay, self._mark, piece, what, context=OUTSIDE))
        known.marks.append(loop.call_later(last + 0.0001, self._ended, known, context=OUTSIDE))

    def _mark(self, piece: Piece, what: str) -> None:
        partition = self.partition(piece.place)
        partition.append((None, None, (), None), piece, self.now_ms(), control=True)
        piece.status = what
        partition.open.pop(piece, None)
        partition.wake()

    @staticmethod
    def _ended(known: Transactional) -> None:
        known.status = "ended"

    def forget_marks(self) -> None:
        """End what is being ended without markers, as brokers do that have all been killed.

        The first that is up again finds the partitions without leaders, takes them for deleted, and is done
        with the Kafka transaction. It stays open there until its producer ends another one. Not so twice in a
        row: what the protocol then loses is told in the README.
        """
        for name, known in self.ids.items():
            pieces = known.pieces.values()
            if known.status == "ending" and all(
                piece.status == "open" and not piece.forgotten for piece in pieces
            ):
                self.tell("kafka", f"{name}: transaction {known.number} is forgotten before it is marked")
                for mark in known.marks:
                    mark.cancel()
                for piece in pieces:
                    piece.forgotten = True
                known.unmarked.update(known.pieces)
                known.status = "ended"

    # ------------------------------------------------------------------ groups
    def join(
        self, group_id: str, member: str, topic: str, session_s: float
    ) -> asyncio.Future[tuple[str, int, list[int]]]:
        """Join a group; answered when all its members have: (member, generation, partitions)."""
        group = self.groups.setdefault(group_id, Group())
        if member not in group.members:
            self._members += 1
            member = f"m{self._members}"
            group.members[member] = Member(member, topic, session_s)
        known = group.members[member]
        known.joining = answer = asyncio.get_running_loop().create_future()
        self._rebalance(group)
        if all(each.joining is not None for each in group.members.values()):
            self._assign(group, group.round)
        return answer

    def _rebalance(self, group: Group) -> None:
        if group.stable:
            group.stable = False
            group.round += 1
            wait = max(each.session_s for each in group.members.values())
            asyncio.get_running_loop().call_later(wait, self._assign, group, group.round, context=OUTSIDE)

    def _assign(self, group: Group, number: int) -> None:
        """Share the partitions out in ranges among those who have joined."""
        if group.stable or number != group.round:
            return
        group.members = {name: each for name, each in group.members.items() if each.joining is not None}
        group.stable = True
        group.generation += 1
        names = sorted(group.members)
        for index, name in enumerate(names):
            member = group.members[name]
            count = len(self.topics[member.topic])
            size, more = divmod(count, len(names))
            first = size * index + min(index, more)
            lanes = list(range(first, first + size + (index < more)))
            self.tell("kafka", f"{name} is given lanes {lanes} (generation {group.generation})")
            joining, member.joining = member.joining, None
            if joining is not None and not joining.done():
                joining.set_result((name, group.generation, lanes))
            member.seen = asyncio.get_running_loop().time()
            self._expect(group, member)

    def _expect(self, group: Group, member: Member) -> None:
        """Look later whether a member has been heard of."""
        loop = asyncio.get_running_loop()
        late = member.seen + member.session_s - loop.time()
        loop.call_later(max(late, 0.01), self._overdue, group, member, group.generation, context=OUTSIDE)

    def _overdue(self, group: Group, member: Member, generation: int) -> None:
        if group.members.get(member.name) is not member or generation != group.generation:
            return
        if member.joining is not None:
            return
        if asyncio.get_running_loop().time() < member.seen + member.session_s - 0.001:
            self._expect(group, member)
            return
        self.tell(
            "kafka", f"{member.name} was not heard of for {member.session_s:g} s: its lanes go to others"
        )
        self.leave_group(group, member.name)

    def heartbeat(self, group_id: str, member: str, generation: int) -> str:
        """Return ok, rebalance or unknown."""
        group = self.groups[group_id]
        known = group.members.get(member)
        if known is None or (group.stable and generation != group.generation):
            return "unknown"
        known.seen = asyncio.get_running_loop().time()
        return "ok" if group.stable else "rebalance"

    def leave(self, group_id: str, member: str) -> None:
        """Leave a group."""
        group = self.groups.get(group_id)
        if group is not None:
            self.leave_group(group, member)

    def leave_group(self, group: Group, member: str) -> None:
        """Take a member out; the others share its lanes."""
        if group.members.pop(member, None) is None or not group.members:
            return
        self._rebalance(group)
        if all(each.joining is not None for each in group.members.values()):
            self._assign(group, group.round)
