"""The functions in Redis against their twin in Python: whatever is asked, both answer and keep the same.

What a native bucket does, draws and changes, it does beside them (native/buckets.py).

Each server gets half the examples of the Hypothesis profile (`--hypothesis-profile`): 50 if none is named.
"""

from __future__ import annotations

import asyncio
import copy
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from importlib import resources
from typing import Any, ClassVar

import pytest
import redis
from engine_choice import is_native_here
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec import msgpack

from rater.core.amounts import LIMIT, Form
from rater.core.bucket.messages import (
    HOUR_MS,
    ClientWrite,
    CounterChange,
    DrawItem,
    DrawReply,
    DrawRequest,
    FeeAsk,
    ItemCandidate,
    Outcome,
    Reconcile,
    Status,
    Use,
    hint_of,
)
from rater.core.bucket.model import Bucket
from rater.core.bucket.restoring import ClientRow, ReadReply, Restore, read_clients, restore
from rater.errors import Halt
from rater.store.buckets import Buckets
from rater.store.keys import Keys

LANES = 2
LENGTH_MS = 1000
CLIENTS = ["c0", "c1", "c2"]
LIMITS = ["1.1.a", "1.1.b", "2.7.a", "2.7.b"]
SUMS = [f"{period}.fee.{name}" for period in ("1.1", "2.7") for name in ("charged", "net", "amount")]
FIELDS = LIMITS + SUMS
PACKAGES = ["p0", "p1"]
HOURS = 6
ACCOUNTS = ["a0", "a1", "a2"]
DIGESTS = [bytes([n // 3, 0, 0, 0]) + bytes([n // 2]) + bytes([n]) * 3 for n in range(6)]
"""Keys: of two cells, which tell two of three apart."""
CONTENTS = [b"same", b"else"]

lanes = st.integers(0, LANES - 1)
off = st.sampled_from(
    [0, 0, 0, 0, 0, 0, 0, 0, 0, -1, 1]
)  # how far a token or a call number is from the right one
clients = st.sampled_from(CLIENTS)
times = st.integers(0, 12 * LENGTH_MS)
sums = st.one_of(st.integers(-500, 500), st.integers(-(2**54), 2**54))
used = st.one_of(st.integers(0, 300), st.integers(0, 300), st.integers(-(2**54), 2**54))
numbers = st.one_of(st.integers(0, 200), st.integers(0, LIMIT))
signed = st.one_of(st.integers(-200, 200), st.integers(-(2**70), 2**70))
forms = st.builds(Form, signed, signed, st.one_of(st.integers(1, 100), st.integers(1, 2**70)))
rates = st.builds(Form, st.integers(1, 2**40), st.just(0), st.integers(1, 2**40))
accounts = st.lists(st.tuples(st.sampled_from(ACCOUNTS), st.sampled_from(["", *CLIENTS])), max_size=2)


micros = st.one_of(st.integers(-60, 5), st.integers(-60, 5), st.integers(-LIMIT, LIMIT))


@st.composite
def fees(draw: st.DrawFn, allows: list[bool]) -> tuple[FeeAsk, ...]:
    """Return what the first draw of each of some client packages brings."""
    return tuple(
        FeeAsk(group, len(LIMITS) + 3 * group, draw(micros), draw(micros), not allows[group])
        for group in draw(st.sampled_from([(), (), (), (0,), (1,), (0, 1), (1, 0)]))
    )


@st.composite
def candidates(draw: st.DrawFn, allows: list[bool]) -> tuple[ItemCandidate, ...]:
    """Return volume limits, then money limits; those of a client package agree in `allow`."""
    found = []
    fields = draw(st.permutations(range(len(LIMITS))))  # no two limits share a counter
    for field, money in zip(fields, sorted(draw(st.lists(st.booleans(), max_size=4))), strict=False):
        group = draw(st.integers(0, 1))
        exchange = money and draw(st.booleans())
        found.append(
            ItemCandidate(
                field=field,
                size=draw(numbers),
                group=group,
                money=money,
                waive=not money and draw(st.booleans()),
                allow=allows[group],
                cap=draw(st.one_of(st.just(0), numbers)),
                to_package=draw(rates) if exchange else None,
                to_client=draw(rates) if exchange else None,
            )
        )
    return tuple(found)


@st.composite
def items(draw: st.DrawFn) -> DrawItem:
    """Return an item whose cost before packages is in range, as the caller has to see to."""
    cost, billed = draw(forms), draw(numbers)
    allows = draw(st.lists(st.booleans(), min_size=2, max_size=2))
    key = draw(st.integers(0, len(DIGESTS) - 1))
    if abs(cost.at(billed)) > LIMIT:
        cost = Form(0, 0, 1)
    return DrawItem(
        use=draw(st.integers(0, len(CLIENTS) - 1)),
        key=DIGESTS[key],
        older=DIGESTS[key // 3 * 3 + draw(st.integers(0, 2))],
        content=draw(st.sampled_from(CONTENTS)),
        billed=billed,
        cost=cost,
        same_record=draw(st.booleans()),
        candidates=draw(candidates(allows)),
        cut=draw(st.sampled_from([False, False, False, True])),
        fees=draw(fees(allows)),
    )


hints = st.lists(st.builds(hint_of, st.integers(0, HOURS * HOUR_MS - 1), clients), max_size=3)
rows = st.tuples(st.sampled_from(["1.1", "1.2"]), st.binary(max_size=3))

copies = st.lists(st.tuples(lanes, st.sampled_from(["a/1/2", "a/2/2"]), st.binary(max_size=3)), max_size=2)

restored = st.builds(
    ClientRow,
    client=clients,
    version=st.integers(1, 3),
    state=st.binary(max_size=4),
    balance=sums,
    counters=st.dictionaries(st.sampled_from(FIELDS), used, max_size=2),
    history=st.lists(
        st.tuples(st.sampled_from(["1.1", "1.2"]), st.integers(1, 4), st.binary(max_size=3)),
        max_size=2,
        unique_by=lambda row: row[0],
    ),
)

far = st.one_of(st.integers(-500, 500), st.sampled_from([-LIMIT, LIMIT]), st.integers(-LIMIT, LIMIT))
lows = st.one_of(*[st.integers(-LIMIT, -1000)] * 5, st.integers(-300, 0), far)
highs = st.one_of(*[st.integers(1000, LIMIT)] * 5, st.integers(0, 600), far)
deltas = st.one_of(*[st.integers(-20, 200)] * 5, far)

counted = st.lists(
    st.builds(CounterChange, st.sampled_from([*FIELDS, "1.1.moved"]), lows, highs, deltas),
    max_size=3,
    unique_by=lambda counter: counter.field,
)
changed = st.lists(
    st.builds(
        ClientWrite,
        client=clients,
        expected=st.integers(0, 2),
        version=st.integers(1, 3),
        state=st.binary(max_size=5),
        least=lows,
        most=highs,
        delta=deltas,
        counters=counted,
        hints=hints,
        members=st.lists(st.sampled_from(PACKAGES), max_size=2),
        history=st.lists(rows, max_size=2),
        carries=st.sampled_from([False, True, True]),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda change: change.client,
)


wrong = st.sampled_from([None, None, None, None, 0, 1, 2])
"""Which use names a wrong version."""
wakes = st.one_of(st.none(), st.integers(-300, 300))


class Machine(RuleBasedStateMachine):
    """One bucket, on a server and as its twin. Restart and roll-back of the server are played by keys.

    The store has a worker's rights; `admin` looks at the keys and plays what happens to a server.
    """

    runner: ClassVar[asyncio.Runner]
    user: ClassVar[Any]
    admin: ClassVar[redis.Redis]

    def __init__(self) -> None:
        super().__init__()
        self.keys = Keys(self.user.prefix, 0, 1)
        self.twin = Bucket("run 0")
        self.saved: tuple[Bucket, dict[bytes, bytes]] | None = None
        self.third: Callable[[DrawRequest, DrawReply], None] | None = None
        """Has the native bucket draw, too, and compares; None: it is to be made of what the twin holds."""
        self.store = self.run(
            Buckets.connect(
                self.user.url,
                prefix=self.user.prefix,
                buckets=1,
                lanes=LANES,
                username=self.user.name,
                password=self.user.password,
                timeout_s=30,
            )
        )

    def run(self, step: Any) -> Any:
        """Wait for one step of the store."""
        return self.runner.run(step)

    def names(self) -> list[bytes]:
        """Return the keys of the bucket."""
        found: Any = self.admin.keys(f"{self.user.prefix}*")
        return [name for name in found if not name.endswith(b":meta")]

    def clear(self) -> None:
        """Delete the keys of the bucket."""
        names = self.names()
        if names:
            self.admin.unlink(*names)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.clear()
        self.run(self.store.close())

    def owner(self, lane: int, token: int, number: int) -> tuple[int, int]:
        """Return a token (an offset, so none is negative) and a call number, so far from the right ones."""
        known = self.twin.lanes.get(lane)
        return max(0, token + (known.token if known else 0)), number + (known.number if known else 0)

    @initialize()
    def take_all(self) -> None:
        """Begin with an open gate, as nearly all steps need it."""
        for lane in range(LANES):
            self.fence(lane, 1)
            self.register(lane, 0, 0)

    def open(self) -> None:
        """Take all lanes anew where the gate is shut, for nothing is drawn behind it."""
        if self.twin.open != self.twin.run_id:
            self.take_all()

    @rule(lane=lanes, token=st.sampled_from([-1, 0, 0, 1, 1, 1]))
    def fence(self, lane: int, token: int) -> None:
        """Take a lane."""
        token, _ = self.owner(lane, token, 0)
        assert self.run(self.store.fence(0, lane, token)) == self.twin.fence(lane, token)

    @rule(lane=lanes, token=off, number=off)
    def register(self, lane: int, token: int, number: int) -> None:
        """Register a lane at the gate."""
        token, number = self.owner(lane, token, number)
        expected = self.twin.register(lane, token, number, LANES)
        assert self.run(self.store.register(0, lane, token, number)) == expected

    @rule(
        lane=lanes,
        token=off,
        number=off,
        lane_ms=times,
        trim=st.integers(0, 3),
        floor=st.integers(0, 50),
        index=accounts,
        drawn=st.lists(items(), max_size=6),
        wrong=wrong,
        credit=st.one_of(st.integers(-100, 100), st.integers(-LIMIT, LIMIT)),
        contextless=st.booleans(),
    )
    def draw(self, lane: int, token: int, number: int, drawn: list[DrawItem], **what: Any) -> None:
        """Draw."""
        self.ask(lane, token, number, [], drawn, **what)

    @rule(
        lane=lanes,
        token=off,
        number=off,
        changes=changed,
        right=st.sampled_from([True, True, True, False]),
        drawn=st.lists(items(), max_size=2),
        wrong=wrong,
        wake=wakes,
        mark=wakes,
    )
    def change(
        self,
        lane: int,
        token: int,
        number: int,
        changes: list[ClientWrite],
        right: bool,  # noqa: FBT001
        **what: Any,
    ) -> None:
        """Change clients, and draw what the changes leave; mostly they expect the version that is there."""
        self.open()
        for change in changes:
            known = self.twin.clients.get(change.client)
            if right:
                change.expected = (known and known.version) or 0
        self.ask(lane, token, number, changes, **what)

    def ask(
        self,
        lane: int,
        token: int,
        number: int,
        changes: list[ClientWrite],
        drawn: list[DrawItem],
        *,
        wrong: int | None = None,
        wake: int | None = None,
        mark: int | None = None,
        **what: Any,
    ) -> DrawReply:
        """Make a call; its uses name clients that exist or come to, but for one that is wrong."""
        token, number = self.owner(lane, token, number)
        after = {name: held.version for name, held in self.twin.clients.items()}
        after |= {change.client: change.version for change in changes}
        there = [name for name in CLIENTS if after.get(name) or wrong == 0]
        uses = [
            Use(name, (after.get(name) or 0) + (number == wrong), what.get("credit", 0), FIELDS, wake, mark)
            for number, name in enumerate(there)
        ]
        lane_ms = what.get("lane_ms", 5 * LENGTH_MS)
        request = DrawRequest(
            lane=lane,
            token=token,
            number=number,
            lane_ms=lane_ms,
            generation=lane_ms // LENGTH_MS,
            trim=max(0, number - what.get("trim", 0)),
            floor=what.get("floor", 0),
            changes=changes,
            accounts=what.get("index", []),
            uses=uses,
            items=[item for item in drawn if item.use < len(uses)],
            context=b"context %d" % number,
            contextless=what.get("contextless", False),
        )
        reply = self.run(self.store.draw(0, request))
        if self.third is None:
            self.third = third_of(self.twin)
        expected = self.twin.draw(request)
        assert reply == expected
        assert isinstance(reply, DrawReply)
        if self.third is not None:
            self.third(request, reply)
        return reply

    @rule(
        lane=lanes,
        token=off,
        number=off,
        floor=st.integers(0, 50),
        lane_ms=times,
        balances=st.lists(st.tuples(clients, sums), max_size=3),
        counters=st.lists(st.tuples(clients, st.sampled_from(FIELDS), used), max_size=3),
        duplicates=st.lists(
            st.tuples(st.integers(0, 12), st.sampled_from(DIGESTS), st.sampled_from(CONTENTS)), max_size=3
        ),
        forget=st.lists(st.tuples(st.integers(0, 12), st.sampled_from(DIGESTS)), max_size=3),
        states=st.lists(st.tuples(clients, st.integers(1, 4), st.binary(max_size=4)), max_size=3),
        hints=hints,
        members=st.lists(st.tuples(st.sampled_from(PACKAGES), clients), max_size=2),
        rows=st.lists(st.tuples(clients, st.integers(1, 4), rows), max_size=3),
        copies=copies,
        index=accounts,
        pending=st.booleans(),
        unsettled=st.lists(clients, max_size=2, unique=True),
        final=st.booleans(),
    )
    def reconcile(
        self,
        lane: int,
        token: int,
        number: int,
        pending: bool,  # noqa: FBT001
        unsettled: list[str],
        index: list[tuple[str, str]],
        rows: list[tuple[str, int, tuple[str, bytes]]],
        **what: Any,
    ) -> None:
        """Correct a bucket: the gate need not be open."""
        token, number = self.owner(lane, token, number)
        known = self.twin.lanes.get(lane)
        request = Reconcile(
            lane=lane,
            token=token,
            number=number,
            accounts=index,
            drop_calls=sorted(known.outcomes)[:2] if known else [],
            pending=[(number, b"again", b"\x91\x00")] if pending else [],
            unsettled=unsettled if pending else [],
            history=[(client, version, *row) for client, version, row in rows],
            **what,
        )
        assert self.run(self.store.reconcile(0, request)) == self.twin.reconcile(request)
        self.third = None

    def correct(self, rng: random.Random) -> None:
        """Forget a key, or remember one."""
        found = [(n, key) for n, held in self.twin.duplicates.generations.items() for key in held]
        request = Reconcile(0, *self.owner(0, 0, 0), 0)
        if rng.random() < 0.5 and found:
            request.forget = [rng.choice(found)]
        else:
            request.duplicates = [(rng.randrange(3, 6), key_of_few_cells(rng), CONTENTS[0])]
        assert self.run(self.store.reconcile(0, request)) == self.twin.reconcile(request)
        self.third = None

    @rule(
        lane=lanes,
        token=off,
        number=off,
        asked=st.lists(clients, max_size=3, unique=True),
        accounts=st.lists(st.sampled_from(ACCOUNTS), max_size=3, unique=True),
    )
    def views(self, lane: int, token: int, number: int, asked: list[str], accounts: list[str]) -> None:
        """Ask for registers and accounts."""
        token, number = self.owner(lane, token, number)
        answer = self.run(self.store.views(0, lane, token, number, asked, accounts))
        assert answer == self.twin.views(lane, token, number, asked, accounts)

    @rule(
        lane=lanes,
        token=off,
        number=off,
        upto=st.integers(-1, HOURS),
        known=st.dictionaries(st.integers(0, HOURS), st.integers(0, 4)),
    )
    def due(self, lane: int, token: int, number: int, upto: int, known: dict[int, int]) -> None:
        """Read the due index."""
        token, number = self.owner(lane, token, number)
        answer = self.run(self.store.due(0, lane, token, number, upto, known))
        assert answer == self.twin.due(lane, token, number, upto, known)

    @rule(lane=lanes, token=off, number=off, hour=st.integers(0, HOURS), off=off, upto=st.integers(-1, HOURS))
    def drop_due(self, lane: int, token: int, number: int, hour: int, off: int, upto: int) -> None:
        """Drop an hour's hints; mostly there are as many as the caller knows."""
        token, number = self.owner(lane, token, number)
        length = len(self.twin.due_index.hours.get(hour, ())) + off
        answer = self.run(self.store.drop_due(0, lane, token, number, hour, length, upto))
        assert answer == self.twin.drop_due(lane, token, number, hour, length, upto)

    @rule(
        lane=lanes,
        token=off,
        number=off,
        package=st.sampled_from(PACKAGES),
        first=st.integers(0, 3),
        count=st.integers(1, 3),
    )
    def members(self, lane: int, token: int, number: int, package: str, first: int, count: int) -> None:
        """Read who was ever given a package."""
        token, number = self.owner(lane, token, number)
        answer = self.run(self.store.list_members(0, lane, token, number, package, first, count))
        assert answer == self.twin.list_members(lane, token, number, package, first, count)

    @rule(lane=lanes, token=off, number=off)
    def copies(self, lane: int, token: int, number: int) -> None:
        """Read what others have of the lane's changes, and what is kept of the lane itself."""
        token, number = self.owner(lane, token, number)
        answer = self.run(self.store.list_copies(0, lane, token, number))
        answer.changes.sort()
        expected = self.twin.list_copies(lane, token, number)
        expected.changes.sort()
        assert answer == expected
        assert self.run(self.store.kept(0, lane)) == self.twin.kept(lane)

    @rule(client=clients)
    def history(self, client: str) -> None:
        """Read a client's periods that have left its state."""
        rows = self.twin.history.get(client, {})
        assert self.run(self.store.history(client)) == {field: row for field, (_, row) in rows.items()}

    @rule(lane=lanes, token=off, number=off, asked=st.lists(clients, max_size=3, unique=True))
    def read(self, lane: int, token: int, number: int, asked: list[str]) -> None:
        """Read clients with all that is kept."""
        owner = self.owner(lane, token, number)
        reply = self.run(self.store.read_clients(0, lane, *owner, asked))
        assert in_order(reply) == in_order(read_clients(self.twin, lane, *owner, LANES, asked))

    @rule(
        lane=lanes,
        token=off,
        number=off,
        rows=st.lists(restored, max_size=2, unique_by=lambda row: row.client),
        index=st.lists(st.tuples(st.sampled_from(ACCOUNTS), clients), max_size=2),
        members=st.lists(st.tuples(st.sampled_from(PACKAGES), clients), max_size=2),
        hints=hints,
        floors=st.sampled_from([None, None, [], [0, 0], [5, 9]]),
        flushed=st.sampled_from([True, True, False]),
    )
    def restore(
        self, lane: int, token: int, number: int, rows: list[ClientRow], index: list[tuple[str, str]],
        flushed: bool, **what: Any,  # noqa: FBT001
    ) -> None:  # fmt: skip
        """Put clients in place, in a bucket that lost all or not, or ask how far it is."""
        if flushed and not self.twin.rebuilt.begun:
            self.flush()
            self.fence(lane, 1)
        request = Restore(lane, *self.owner(lane, token, number), rows, index, **what, upto=7)
        mixed = self.twin.rebuilt.begun and (
            self.twin.open or any(of.floor for of in self.twin.lanes.values())
        )
        if mixed and self.twin.guard(lane, request.token, request.number) == Status.OK:
            with pytest.raises(Halt, match="RATER_MIXED"):
                self.run(self.store.restore(0, request))
            return
        assert self.run(self.store.restore(0, request)) == restore(self.twin, request, LANES)

    @rule(lane=lanes, token=off, number=off)
    def probe(self, lane: int, token: int, number: int) -> None:
        """Ask whether a draw would be heard."""
        token, number = self.owner(lane, token, number)
        assert self.run(self.store.probe(0, lane, token, number)) == self.twin.probe(lane, token, number)

    @rule(lane=lanes, token=off, number=off, lane_ms=times)
    def expire(self, lane: int, token: int, number: int, lane_ms: int) -> None:
        """Drop old generations."""
        token, number = self.owner(lane, token, number)
        expected = self.twin.expire(lane, token, number, LANES, lane_ms, LENGTH_MS)
        assert self.run(self.store.expire(0, lane, token, number, lane_ms, LENGTH_MS)) == expected
        self.third = None

    @rule()
    def flush(self) -> None:
        """Lose everything, as by FLUSHALL."""
        self.clear()
        self.twin, self.third = Bucket(self.twin.run_id), None

    @rule()
    def restart(self) -> None:
        """Begin another run of the server with the data kept: what was registered before no longer counts."""
        fields: Any = self.admin.hkeys(self.keys.gate)
        for name in fields:
            if name == b"joined" or name.startswith(b"at:"):
                self.admin.hset(self.keys.gate, name, "before")
        self.twin.run_id += "'"

    @rule()
    def save(self) -> None:
        """Remember the state, to fall back to."""
        dumps: Any = {name: self.admin.dump(name) for name in self.names()}
        self.saved = copy.deepcopy(self.twin), dumps

    @precondition(lambda self: self.saved)
    @rule()
    def roll_back(self) -> None:
        """Fall back to an older state, as by a failover; registrations count in the run they were made in."""
        assert self.saved
        self.clear()
        for name, dump in self.saved[1].items():
            self.admin.restore(name, 0, dump)
        run = self.twin.run_id
        self.twin, self.third = copy.deepcopy(self.saved[0]), None
        if run != self.twin.run_id:
            self.restart()
            self.twin.run_id = run

    @invariant()
    def same_state(self) -> None:
        """Both hold the same."""
        assert self.kept() == twin_state(self.twin, self.keys)

    def kept(self) -> dict[str, Any]:
        """Return what the server holds of the bucket, but run ids."""
        names = sorted(self.names())
        asked = self.admin.pipeline(transaction=False)
        for name in names:
            if name.startswith(self.keys.client_state.encode()):
                asked.get(name)
            elif name.startswith(self.keys.cells(0)[:-1].encode()):
                asked.strlen(name)
            elif name.startswith((self.keys.due(0)[:-1].encode(), self.keys.members("").encode())):
                asked.lrange(name, 0, -1)
            else:
                asked.hgetall(name)
        found = {name.decode(): value for name, value in zip(names, asked.execute(), strict=True)}
        for key, fields in found.items():
            if key == self.keys.gate:
                found[key] = {name: value for name, value in fields.items() if name[:2] not in (b"jo", b"at")}
            elif key.startswith((self.keys.lane(0)[:-1], self.keys.client)):  # 0 is the same as none
                found[key] = {name: value for name, value in fields.items() if value != b"0"}
            elif key.startswith(self.keys.generation(0)[:-1]):
                found[key] = entries_of(fields, partial(self.cell, key.replace(":u:", ":f:")))
        return {
            key: value
            for key, value in found.items()
            if (value or isinstance(value, bytes)) and not isinstance(value, int)
        }

    def cell(self, name: str, place: int) -> bytes:
        """Return what a cell of a generation holds."""
        held: Any = self.admin.getrange(name, 3 * place, 3 * place + 2)
        return bytes(held)


def third_of(twin: Bucket) -> Callable[[DrawRequest, DrawReply], None] | None:
    """Return what has a native bucket, as the twin is, draw and compares; None: there is none."""
    if not is_native_here():
        return None
    from native import buckets  # noqa: PLC0415 - it may not be there

    return partial(buckets.check, twin, buckets.native_of(twin))


COUNTS = b"n", b"o", b"w", b"s", b"e", b"k", b"z"


def entries_of(fields: dict[bytes, bytes], cell: Callable[[int], bytes]) -> dict[bytes, bytes]:
    """Return key → content of a generation, each of whose entries is where its key is looked for."""
    found: dict[bytes, bytes] = {}
    counts = {name: int(fields.get(name, 0)) for name in COUNTS}
    grouped = 0
    for name, entries in fields.items():
        if name in COUNTS:
            continue
        assert entries
        for at in range(0, len(entries), 12):
            key, content = entries[at : at + 8], entries[at + 8 : at + 12]
            assert key not in found
            found[key] = content
            held = cell(int.from_bytes(key[:4], "little") % counts[b"z"]) if counts[b"z"] else b""
            if name.startswith(b"chunk:"):
                assert held == int(name[6:]).to_bytes(2) + key[4:5]
                continue
            grouped += 1
            assert name[:-1] == key[: len(name) - 1]
            assert name[-1] in (key[len(name) - 1], key[len(name) - 1] & 0xF0)
            assert any(held) or counts[b"n"] > counts[b"o"]
    assert counts[b"n"] >= grouped
    assert counts[b"k"] >= len(found) - grouped
    return found


def in_order(reply: ReadReply) -> ReadReply:
    """Return it without zeros and without what has no order: 0 is the same as none."""
    reply.copies.sort()
    reply.clients = [
        row._replace(
            counters={of: used for of, used in row.counters.items() if used}, history=sorted(row.history)
        )
        for row in reply.clients
    ]
    return reply


def twin_clients(twin: Bucket, keys: Keys) -> dict[str, Any]:
    """Return the keys of clients that the server has to hold."""
    found: dict[str, Any] = {}
    for name, client in twin.clients.items():
        fields = {b"v": client.version or 0, b"b": client.balance}
        fields |= {field.encode(): used for field, used in client.used.items()}
        found[keys.client + name] = {field: b"%d" % value for field, value in fields.items() if value}
    found |= {keys.client_state + name: register for name, register in twin.states.items()}
    return found


def twin_gate(twin: Bucket) -> dict[bytes, bytes]:
    """Return the fields of the gate that the server has to hold, but run ids."""
    state = {b"t:%d" % lane: b"%d" % ms for lane, ms in twin.times.items()}
    if twin.rebuilt.begun:
        state[b"restoring"] = b"1"
    if twin.rebuilt.whole is not None:
        state[b"whole"] = b"%d" % twin.rebuilt.whole
    if twin.due_index.lowest is not None:
        state[b"due_min"] = b"%d" % twin.due_index.lowest
    if twin.duplicates.lowest is not None:
        state[b"gen_min"] = b"%d" % twin.duplicates.lowest
    return state


def twin_state(twin: Bucket, keys: Keys) -> dict[str, Any]:
    """Return the keys that the server has to hold."""
    found: dict[str, Any] = {keys.gate: twin_gate(twin)}
    for number, lane in twin.lanes.items():
        fields = {b"token": lane.token, b"call": lane.number, b"floor": lane.floor, b"base": lane.base}
        if lane.token < 0:  # nobody has taken it since it was put in place
            del fields[b"token"]
        found[keys.lane(number)] = {name: b"%d" % value for name, value in fields.items() if value}
        outcomes: dict[bytes, bytes] = {}
        for one, (context, packed) in lane.outcomes.items():
            outcomes |= {b"%dc" % one: context, b"%dr" % one: packed}
        outcomes |= {b"%dw" % one: msgpack.encode(changed) for one, changed in lane.changed.items()}
        found[keys.outcomes(number)] = outcomes
    found |= twin_clients(twin, keys)
    found[keys.unsettled] = {name.encode(): b"%d:%d" % made for name, made in twin.unsettled.items()}
    for account, name in twin.accounts.items():
        found.setdefault(keys.accounts(account), {})[account.encode()] = name.encode()
    found |= {keys.due(hour): list(held) for hour, held in twin.due_index.hours.items()}
    found |= {keys.members(of): [name.encode() for name in held] for of, held in twin.members.items()}
    for name, periods in twin.history.items():
        found[keys.history(name)] = {
            field.encode(): b"%d:%b" % (version, row) for field, (version, row) in periods.items()
        }
    for number, held in twin.copies.items():
        found[keys.copies(number)] = {identity.encode(): change for identity, change in held.items()}
    found |= {keys.generation(number): dict(held) for number, held in twin.duplicates.generations.items()}
    return {key: value for key, value in found.items() if value or isinstance(value, bytes)}


@pytest.fixture(params=["valkey", "valkey cluster", "redis", "redis cluster"])
def machine(user_of: Callable[..., Any], request: pytest.FixtureRequest) -> Iterator[type[Machine]]:
    """The machine at a server of each flavour, alone and as a cluster, as a user with a worker's rights."""
    flavour, _, cluster = request.param.partition(" ")
    with asyncio.Runner() as runner:
        Machine.runner = runner
        Machine.user = user_of(flavour, cluster=bool(cluster))
        Machine.admin = redis.Redis.from_url(Machine.user.url)
        yield Machine
        Machine.admin.close()


def test_twin(machine: type[Machine]) -> None:
    """Whatever steps are asked, in whatever order, the server answers and keeps what the twin does."""
    profile = settings.default
    assert profile
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=profile.max_examples // 2,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def some_changes(rng: random.Random, twin: Bucket) -> list[ClientWrite]:
    """Return changes of which most can be done: their conditions lie about what is there."""

    def interval(held: int) -> tuple[int, int]:
        least = rng.choice((-LIMIT, held, held - rng.randrange(100)))
        most = rng.choice((LIMIT, held, held + rng.randrange(100)))
        miss = rng.choice((0,) * 15 + (1, -1))
        return min(least + miss, LIMIT), max(most + miss, -LIMIT)

    found = []
    for client in rng.sample(CLIENTS, rng.randrange(1, 4)):
        known = twin.clients.get(client)
        version = (known.version if known else None) or 0
        sums = known.used if known else {}
        counters = [
            CounterChange(field, *interval(sums.get(field, 0)), rng.choice((0, 0, 1, 30, -30)))
            for field in rng.sample([*LIMITS, "1.1.moved"], rng.choice((0, 0, 1, 2, 5)))
        ]
        found.append(
            ClientWrite(
                client,
                version + (rng.random() < 0.03),
                version + 1,
                rng.randbytes(3),
                *interval(known.balance if known else 0),
                rng.choice((0, 5, 200, -40, -40, LIMIT)),
                counters,
                carries=rng.random() < 0.8,
            )
        )
    return found


def some_items(rng: random.Random) -> list[DrawItem]:
    """Return sides that cost and bring a little, of few limits."""
    return [
        DrawItem(
            use=rng.randrange(len(CLIENTS)),
            key=rng.randbytes(8) if rng.random() < 0.9 else DIGESTS[0],
            content=rng.choice(CONTENTS),
            billed=60,
            cost=Form(rng.choice((-1, -1, 1, 1, 2)), 0, 1),
            same_record=rng.random() < 0.2,
            candidates=tuple(
                ItemCandidate(field, rng.randrange(400), 0, money, False, False, 0, None, None)  # noqa: FBT003
                for field, money in zip(rng.sample(range(4), 2), (False, rng.random() < 0.5), strict=True)
            )
            * (rng.random() < 0.7),
            cut=rng.random() < 0.05,
        )
        for _ in range(rng.randrange(6))
    ]


def test_changes(machine: type[Machine]) -> None:
    """Changes that hold or are due, and rises to what a client waits for, are the same on both sides."""
    answered: Counter[str] = Counter()
    for seed in range(60):
        rng, one = random.Random(seed), machine()  # noqa: S311 - a test
        marks = random.Random(1000 + seed)  # noqa: S311 - the same
        one.take_all()
        for _ in range(25):
            changes = some_changes(rng, one.twin) if rng.random() < 0.6 else []
            wake = rng.choice((None, 0, 100, rng.randrange(-300, 300)))
            wrong = 0 if rng.random() < 0.03 else None
            mark = marks.choice((None, None, 0, marks.randrange(-300, 300)))
            reply = one.ask(
                rng.randrange(LANES), 0, 0, changes, some_items(rng), wrong=wrong, wake=wake, mark=mark
            )
            answered[reply.status.name] += 1
            answered["changed"] += bool(changes) and reply.status == Status.OK
            answered["drawn on"] += bool(changes) and any(result.takes for result in reply.results)
            answered["woken"] += bool(reply.woken)
            for result in reply.results:
                answered[f"low {result.low}"] += 1
            answered["due before an item"] += any(due.item is not None for due in reply.due)
            one.same_state()
        one.teardown()
    seen = ("OK", "STALE", "UNSETTLED", "MORE", "DUE", "changed", "drawn on", "woken", "due before an item")
    seen_low = ("low True", "low False")
    assert min(answered[name] for name in (*seen, *seen_low)) >= 5, answered


FEW_CELLS = {
    "CELLS_MIN, CELLS_MAX": "4, 32",
    "CELLS_EACH": "1",
    "CHUNKS": "6",
    "FILLED": "3",
    "FEW": "1",
}
"""Numbers of functions.lua, so small that a few keys fill cells and chunks."""


def with_few_cells() -> str:
    """Return functions.lua with these numbers."""
    code = resources.files("rater.store").joinpath("functions.lua").read_text("utf-8")
    for name, value in FEW_CELLS.items():
        code, found = re.subn(rf"(?m)^local {name} = [^-\n]*", f"local {name} = {value} ", code)
        assert found == 1, name
    return code


def key_of_few_cells(rng: random.Random) -> bytes:
    """Return a key of one of a dozen places."""
    return bytes([rng.randrange(12), 0, 0, 0, rng.randrange(3), rng.randrange(4), 0, 0])


def sides_of_few_cells(rng: random.Random) -> list[DrawItem]:
    """Return sides whose keys share a dozen places, many known; some are refused, some out of range."""
    found = []
    for _ in range(rng.choice((1, 1, 2, 3, 8))):
        key = key_of_few_cells(rng)
        older = key[:4] + key_of_few_cells(rng)[4:]
        found.append(
            DrawItem(
                use=rng.randrange(len(CLIENTS)), key=key, older=older, content=rng.choice(CONTENTS), billed=1,
                cost=Form(rng.choice((0, 1, 1, 1, LIMIT)), 0, 1), same_record=False, candidates=(),
                cut=rng.random() < 0.1,
            )
        )  # fmt: skip
    return found


def test_few_cells(machine: type[Machine]) -> None:
    """Whatever cells hold, of which calls and generations: each key is found, once, and no other one is."""
    answered: Counter[Any] = Counter()
    for seed in range(30):
        rng, one = random.Random(seed), machine()  # noqa: S311 - a test
        one.admin.function_load(with_few_cells(), replace=True)
        one.take_all()
        one.ask(0, 0, 0, [ClientWrite(name, 0, 1, b"") for name in CLIENTS], [])
        for _ in range(rng.randrange(3)):
            one.correct(rng)
        for _ in range(40):
            lane_ms = LENGTH_MS * rng.randrange(3, 6)
            reply = one.ask(rng.randrange(LANES), 0, 0, [], sides_of_few_cells(rng), lane_ms=lane_ms)
            answered[reply.status] += 1
            answered.update(result.outcome for result in reply.results)
            if rng.random() < 0.1:
                one.correct(rng)
            if rng.random() < 0.1:
                one.same_state()
        one.same_state()
        one.teardown()
    assert min(answered[of] for of in (Status.OK, Status.MORE, *Outcome)) >= 20, answered


def items_with_fees(rng: random.Random) -> list[DrawItem]:
    """Return sides whose limits are of two client packages that charge on event, one or both under `deny`."""
    found = []
    for _ in range(rng.randrange(1, 6)):
        allows = rng.choice(([False, False], [False, False], [False, True], [True, True]))
        kinds = [(money, group) for money in (False, True) for group in rng.sample(range(2), 2)]
        limits = [
            ItemCandidate(field, rng.choice((0, 70, 400)), group, money, False, allows[group], 0, None, None)  # noqa: FBT003
            for field, (money, group) in zip(rng.sample(range(4), 4), kinds, strict=True)
            if rng.random() < 0.7
        ]
        asked = [
            FeeAsk(group, 4 + 3 * group, -rng.randrange(60), amount, not allows[group])
            for group, amount in ((0, rng.choice((-50, -50, 0, 9, -LIMIT))), (1, -80))
            if rng.random() < 0.9
        ]
        found.append(
            DrawItem(
                use=rng.randrange(len(CLIENTS)),
                key=rng.randbytes(8),
                content=CONTENTS[0],
                billed=60,
                cost=Form(rng.choice((-1, -1, 1, 0)), 0, 1),
                same_record=rng.random() < 0.2,
                candidates=tuple(limits),
                cut=rng.random() < 0.03,
                fees=tuple(asked),
            )
        )
    return found


def test_fees(machine: type[Machine]) -> None:
    """Fees that first draws bring are charged once, and passed over, alike on both sides."""
    told: Counter[Any] = Counter()
    for seed in range(60):
        rng, one = random.Random(seed), machine()  # noqa: S311 - a test
        marks = random.Random(1000 + seed)  # noqa: S311 - the same
        one.take_all()
        funds = rng.choice((0, 60, 200, 200, 1000, 10_000, LIMIT - 50))
        one.ask(0, 0, 0, [ClientWrite(client, 0, 1, b"r", delta=funds) for client in CLIENTS], [])
        for _ in range(12):
            changes = some_changes(rng, one.twin) if rng.random() < 0.1 else []
            drawn = items_with_fees(rng) if rng.random() < 0.8 else some_items(rng)
            credit, wake = rng.choice((0, 0, 30, 90)), rng.choice((None, 0, 100))
            mark = marks.choice((None, 0, 50, 150))
            reply = one.ask(rng.randrange(LANES), 0, 0, changes, drawn, wake=wake, credit=credit, mark=mark)
            told[reply.status.name] += 1
            for result in reply.results:
                if result.fee is not None:
                    told["charged", result.fee.charged is not None, result.fee.covered] += 1
                told["low with a fee"] += result.fee is not None and result.low is True
                told["out of range"] += result.outcome == Outcome.OUT_OF_RANGE
            one.same_state()
        for client in one.twin.clients.values():
            told["once"] += client.used.get("1.1.fee.charged", 0) == 1
            assert client.used.get("1.1.fee.charged", 0) <= 1
        one.teardown()
    seen = [("charged", *what) for what in ((True, None), (True, True), (True, False), (False, False))]
    assert (
        min(
            told[name] for name in [*seen, ("charged", False, True), "out of range", "once", "low with a fee"]
        )
        >= 5
    ), told


def test_hints(machine: type[Machine]) -> None:
    """Hints that come with changes are read, and dropped when they are all known, alike on both sides."""
    seen: Counter[str] = Counter()
    for seed in range(30):
        rng, one = random.Random(seed), machine()  # noqa: S311 - a test
        one.take_all()
        for version in range(25):
            change = ClientWrite("c0", version, version + 1, b"r")
            change.hints = [hint_of(rng.randrange(HOURS) * HOUR_MS, "c0") for _ in range(rng.randrange(3))]
            change.members = rng.sample(PACKAGES, rng.randrange(2))
            change.history = [("1.1", rng.randbytes(2))] * rng.randrange(2)
            assert one.ask(0, 0, 0, [change], []).status == Status.OK
            upto, known = rng.randrange(HOURS), {rng.randrange(HOURS): rng.randrange(3)}
            token, number = one.owner(1, 0, 0)
            reply = one.run(one.store.due(0, 1, token, number, upto, known))
            assert reply == one.twin.due(1, token, number, upto, known)
            seen["read"] += bool(reply.hints)
            if reply.hints and rng.random() < 0.5:
                hour = reply.hints[0][0]
                length = len(one.twin.due_index.hours[hour]) - (rng.random() < 0.2)
                gone = one.run(one.store.drop_due(0, 1, token, number, hour, length, upto))
                assert gone == one.twin.drop_due(1, token, number, hour, length, upto)
                seen["dropped" if gone.dropped else "kept"] += 1
            one.same_state()
        one.teardown()
    assert min(seen[name] for name in ("read", "dropped", "kept")) >= 20, seen
