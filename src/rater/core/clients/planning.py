"""A change of a client in the making: what is decided step by step becomes one `Change`.

A plan is made for the balance and counters that are known, and travels with the intervals of values for which
the same plan comes out: each test narrows them (decisions/0060-one-change.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from rater.core.amounts import LIMIT
from rater.core.bucket.messages import ClientWrite, CounterChange, hint_of
from rater.core.catalog.compiled import Catalog
from rater.core.clients.changes import Change, ChangeEvent, ChangeTransaction
from rater.core.clients.state import (
    ClientPackage,
    ClientState,
    HeldDid,
    HeldPeriod,
    Life,
    write_state,
    zone_name,
)
from rater.core.instants import earlier, shared_rfc3339
from rater.core.kinds import EventType

ENOUGH = 2**52
"""A balance for which nothing is refused: planned for where none is known."""
STEP_MAX = 64
"""Transactions, events or moments of due work after which a plan ends; what is left comes with the next."""

_encode = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder(order="deterministic").encode


class Cause(NamedTuple):
    """What brings a change: the command's id or the record's place, and who sent it."""

    id: str
    actor: str = ""


class Known(NamedTuple):
    """What a bucket told of a client: balance in micros, counters; None: nothing yet."""

    balance: int | None = None
    counters: Mapping[str, int] = {}


class Plan:
    """What becomes of one client. Steps change it; `change` returns it as a value."""

    def __init__(
        self, state: ClientState, catalog: Catalog, known: Known, cause: Cause, *, new: bool = False,
        keep_ms: int = 0,
    ) -> None:  # fmt: skip
        """Begin with a client as it is; new: it does not exist yet. keep_ms: see `lifecycle.due_change`."""
        self.state = state
        self.catalog = catalog
        self.cause = cause
        self.keep_ms = keep_ms
        self.packages = list(state.packages)
        self.version = state.version if new else state.version + 1
        self.delta = 0
        self.transactions: list[ChangeTransaction] = []
        self.events: list[ChangeEvent] = []
        self.tells_balance = True  # that it has crossed the client's mark
        self.unpayable: dict[str, str] = {}
        """Client package → a sentence: why its fees cannot be worked out."""
        self.due: dict[int, tuple[ClientPackage, ClientState, Any]] = {}
        """What was found due of client packages, by their places (`lifecycle`)."""
        self.touched: set[str] = set()
        """Client packages whose life changed."""
        self._expected = 0 if new else state.version
        self._was_due = None if new else state.due_ms
        self._balance = known.balance if known.balance is not None else 0 if new else ENOUGH
        self._counters = known.counters
        self._least, self._most = -LIMIT, LIMIT
        self._asked: dict[str, CounterChange] = {}
        self._members: list[str] = []
        self._history: list[tuple[str, bytes]] = []

    @property
    def full(self) -> bool:
        """Whether no more due work goes into it; free periods have events alone."""
        return max(len(self.transactions), len(self.events)) >= STEP_MAX

    @property
    def balance(self) -> int:
        """The balance as far as the plan has come."""
        return self._balance + self.delta

    def reaches(self, least: int) -> bool:
        """Return whether the balance is `least` or more now; the plan holds for what agrees in that."""
        before = least - self.delta
        if self._balance >= before:
            self._least = max(self._least, before)
            return True
        self._most = min(self._most, before - 1)
        return False

    def affords(self, needed: int) -> bool:
        """Return whether balance and credit limit cover an amount; what is nothing to pay needs no funds."""
        return needed <= 0 or self.reaches(needed - self.state.credit_limit)

    def fits(self, amount: int) -> bool:
        """Return whether the balance stays within ±2⁵³ with this amount."""
        return self.reaches(-LIMIT - amount) and not self.reaches(LIMIT + 1 - amount)

    def pin(self) -> int:
        """Return the balance; the plan holds for exactly that, for it says what is there."""
        self._least, self._most = max(self._least, self._balance), min(self._most, self._balance)
        return self.balance

    def within(self, least: int, most: int) -> bool:
        """Return whether the balance lies in an interval; the plan holds for no other. Nothing was moved."""
        self._least, self._most = max(self._least, least), min(self._most, most)
        return least <= self.balance <= most

    def move(self, kind: str, amount: int, value: bytes, counters: tuple[tuple[str, int], ...] = ()) -> None:
        """Add a transaction. The caller knows that it `fits`, and has counted what it adds to counters."""
        self.delta += amount
        self.transactions.append(ChangeTransaction(kind, amount, value, counters))

    def counter(self, field: str) -> int:
        """Return what a counter holds; the plan holds for exactly that."""
        value = self._counters.get(field, 0)
        asked = self._asked.get(field) or CounterChange(field, value, value, 0)
        self._asked[field] = asked._replace(least=value, most=value)
        return value

    def counter_up_to(self, field: str, most: int) -> int:
        """Return what a counter holds; the plan holds for all values up to `most`, else for exactly this."""
        value = self._counters.get(field, 0)
        if field not in self._asked:
            span = (-LIMIT, most) if value <= most else (value, value)
            self._asked[field] = CounterChange(field, *span, 0)
        return value

    def counter_within(self, asked: CounterChange) -> bool:
        """Return whether a counter lies in an interval, and add to it; the plan holds for no other value."""
        self._asked[asked.field] = asked
        return asked.least <= self._counters.get(asked.field, 0) <= asked.most

    def count(self, field: str, delta: int) -> None:
        """Add to a counter that was asked for."""
        asked = self._asked[field]
        self._asked[field] = asked._replace(delta=asked.delta + delta)

    def place_of(self, of_id: str) -> int | None:
        """Return where a client package stands among the client's; None: it has none of this id."""
        return next((place for place, of in enumerate(self.packages) if of.id == of_id), None)

    def put(self, place: int, held: ClientPackage, **life: Any) -> ClientPackage:
        """Replace a client package, with these fields of its life changed; its version grows once."""
        old = held.life or Life(version=0)
        version = old.version if held.id in self.touched else old.version + 1
        self.touched.add(held.id)
        held = replace(held, life=replace(old, version=version, **life))
        self.packages[place] = held
        return held

    def assign(self, held: ClientPackage) -> int:
        """Add a client package; returns its place."""
        self.packages.append(held)
        self.touched.add(held.id)
        if all(of.package != held.package for of in self.state.packages):
            self.become_member(held.package)
        return len(self.packages) - 1

    def become_member(self, package: str) -> None:
        """Note the client among those that were ever given a package."""
        if package not in self._members:
            self._members.append(package)

    def stop_of(self, held: ClientPackage, period: HeldPeriod, at_ms: int) -> int | None:
        """Return when a period stops: as scheduled, by an end date, or when its client package was closed.

        at_ms: as of which the package's end date is. One that never begins stops where it would have begun.
        """
        stop = earlier(period.stop_ms, held.end_ms)
        if held.life is not None:
            stop = earlier(stop, held.life.ended_ms)
        package = self.catalog.packages.get(held.package)
        version = None if package is None else package.at(at_ms)
        if version is not None and version.spec.end_date is not None:
            zone = self.catalog.zones.at(zone_name(self.state, period.by_ms), period.by_ms)
            stop = earlier(stop, version.end_ms(zone))
        return None if stop is None else max(stop, period.start_ms)

    def told(self, held: ClientPackage, at_ms: int) -> dict[str, Any]:
        """Return what an event's `before` and `after` say of a client package at an instant."""
        life = held.life or Life()
        period = None
        for period in reversed(life.periods):  # the first one, where none has begun
            if period.start_ms <= at_ms:
                break
        stop = None if period is None else self.stop_of(held, period, at_ms)
        return {
            "status": status_of(held, at_ms),
            "period": None if period is None else period.number,
            "period_start": None if period is None else shared_rfc3339(period.start_ms),
            "period_stop": None if stop is None else shared_rfc3339(stop),
            "end_date": held.end_date,
            "waiting": None if life.waiting is None else life.waiting.reason,
        }

    def tell(
        self, kind: EventType, held: ClientPackage, at_ms: int, *, period: int = 0,
        before: dict[str, Any] | None = None, data: dict[str, Any] | None = None, did: HeldDid | None = None,
    ) -> None:  # fmt: skip
        """Add an event of a client package, or of a DID that it gives."""
        package = self.catalog.packages.get(held.package)
        about, account = f"{held.id}/{period}", held.account
        if did is not None:
            about, account = f"{about}/{did.number}", did.account
            data = {"number": did.number, **(data or {})}
        self.events.append(
            self.event(
                kind, about, at_ms, account=account, client_package=held.id,
                package_name=None if package is None else package.at(at_ms).name, period=period or None,
                before=before, after=self.told(held, at_ms) if held.life is not None else None, data=data,
            )
        )  # fmt: skip

    def event(
        self, kind: EventType, about: str, at_ms: int, *, account: str | None = None,
        client_package: str | None = None, package_name: str | None = None, period: int | None = None,
        before: dict[str, Any] | None = None, after: dict[str, Any] | None = None,
        data: dict[str, Any] | None = None,
    ) -> ChangeEvent:  # fmt: skip
        """Return an event of this change: its id names the client's version after it."""
        out = {
            "id": f"{self.state.id}/{self.version}/{kind}/{about}", "type": kind, "at": shared_rfc3339(at_ms),
            "client": self.state.id, "account": account, "client_package": client_package,
            "package_name": package_name, "period": period, "cause": self.cause.id,
            "actor": self.cause.actor or None, "before": before, "after": after, "data": data,
        }  # fmt: skip
        return ChangeEvent(kind, self.state.id.encode(), _encode(out))

    def outdate(self, held: ClientPackage, period: HeldPeriod) -> None:
        """Put a period of a client package into the history."""
        self._history.append((history_field(held.id, period.number), write_period(period)))

    @property
    def outdated(self) -> dict[str, bytes]:
        """What the plan puts into the history: field → row."""
        return dict(self._history)

    def change(self, due_ms: int | None, calls_ms: int | None, at_ms: int) -> Change:
        """Return what was decided, at the instant of the change.

        due_ms: when something is due next; calls_ms: of what calls do before them.
        """
        self._outdate()
        self._cross(at_ms)
        state = replace(
            self.state, version=self.version, catalog=max(self.state.catalog, self.catalog.version),
            packages=self.packages, changed_ms=max(self.state.changed_ms, at_ms), due_ms=due_ms,
            calls_ms=calls_ms,
        )  # fmt: skip
        low, high = -LIMIT - self.delta, LIMIT - self.delta
        write = ClientWrite(
            client=state.id, expected=self._expected, version=self.version, state=write_state(state),
            least=max(self._least, low), most=min(self._most, high), delta=self.delta,
            counters=list(self._asked.values()),
            hints=[] if due_ms is None or due_ms == self._was_due else [hint_of(due_ms, state.id)],
            members=self._members, history=self._history,
        )  # fmt: skip
        return Change(write, tuple(self.transactions), tuple(self.events), due_ms)

    def _outdate(self) -> None:
        """Move periods that no call can fall into any more to the history."""
        if not self.keep_ms:
            return
        for place, held in enumerate(self.packages):
            if held.id not in self.touched or held.life is None:
                continue
            old = [
                of for of in held.life.periods[:-1] if of.stop_ms is not None and of.stop_ms <= self.keep_ms
            ]
            if old:
                for of in old:
                    self.outdate(held, of)
                kept = tuple([of for of in held.life.periods if of not in old])
                self.packages[place] = replace(held, life=replace(held.life, periods=kept))

    def _cross(self, at_ms: int) -> None:
        """Tell that the balance fell below the client's mark, or rose to it again."""
        mark = self.state.low_balance
        if mark is None or not self.tells_balance or not (self.delta or self._expected == 0):
            return
        delta, self.delta = self.delta, 0
        was_low = self._expected > 0 and not self.reaches(mark)  # a new client was not low
        self.delta = delta
        is_low = not self.reaches(mark)
        if was_low != is_low:
            kind = EventType.LOW_BALANCE if is_low else EventType.BALANCE_RESTORED
            self.events.append(self.event(kind, "0/0", at_ms))


def history_field(client_package: str, number: int) -> str:
    """Return the field of a period in its client's history."""
    return f"{client_package}.{number}"


def write_period(period: HeldPeriod) -> bytes:
    """Return a period as the history keeps it."""
    return _pack(period)


_periods = msgspec.msgpack.Decoder(HeldPeriod)


def read_period(raw: bytes) -> HeldPeriod:
    """Return the period in the bytes; msgspec.MsgspecError when there is none."""
    return _periods.decode(raw)


def status_of(held: ClientPackage, at_ms: int) -> str:
    """Return pending, active or archive (RULES.md section 4, Renewal)."""
    life = held.life or Life()
    if life.ended_ms is not None:
        return "archive"
    last = life.periods[-1] if life.periods else None
    if last is None or (life.waiting is not None and last.stop_ms is not None and at_ms >= last.stop_ms):
        return "pending"
    return "active"
