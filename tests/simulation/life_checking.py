"""What must be true of a run in which packages live, when all that is due is done.

By topics and store alone, as in `checking.py`, and by what the bucket carried out, in its order. Registers of
clients are read with rater's own reader. The names L1 ... are of this module.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from rater.core.clients.planning import read_period
from rater.core.clients.state import ClientState, HeldPeriod, read_state
from rater.core.journal.outcomes import KeptChange, unpack_kept
from rater.core.rating.transaction import Context
from simulation import checking
from simulation.checking import Transaction
from simulation.comparing import ahead_of, each_ends, items_of
from simulation.did_checking import check_dids
from simulation.life_comparing import compare_life

if TYPE_CHECKING:
    from simulation.world import Ordered, World

SIDES = ("orig", "term")
FEES = {"activation_fee", "subscription_fee"}
_context = msgspec.msgpack.Decoder(Context)


def check_life(world: World) -> list[str]:
    """Return a sentence for each thing that is not as it must be."""
    if world.broker.recreated:
        return []
    transactions, rejected = list(checking.transactions_of(world)), checking.rejected_of(world)
    draws = [items_of(drawn) for drawn in world.server.drawn]
    sent = {(one.topic, one.lane, one.offset): one for one in world.sent}
    usage = {(one.record, SIDES[one.index]): one.said for one in transactions if one.said["type"] == "usage"}
    events = list(events_of(world))
    found = [
        *checking.once(transactions, rejected),
        *checking.sums(world, transactions),
        *checking.marks(world),
        *checking.changes(world, transactions),
        *checking.events(world),
        *checking.nothing_hangs(world),
        *ahead_of(draws),
        *each_ends(sent, usage, rejected, draws),
        *world.server.again,
        *_periods(world, transactions),
        *_given_back(transactions),
        *_draws(world),
        *_answers(world, events),
        *_adjusted(world, transactions, events),
        *_told(transactions, events),
        *waits(world),
        *_rows(world),
        *check_dids(world, events),
    ]
    return found or list(compare_life(world, transactions, events))


def events_of(world: World) -> Iterator[dict[str, Any]]:
    """Yield all events, lane by lane."""
    for lane in range(world.lanes):
        for entry in world.visible((world.topics.events, lane)):
            yield json.loads(entry.value or b"")


def _states(world: World) -> dict[str, ClientState]:
    return {
        client: read_state(raw)
        for bucket in world.server.buckets
        for client, raw in bucket.states.items()
    }  # fmt: skip


def _periods(world: World, transactions: list[Transaction]) -> Iterator[str]:
    """L1: a period is opened with its fees or not at all: each has them once, and no other fee is there."""
    fees = {
        (one.said["client_package"], one.said["period"], one.said["type"]): checking.micros(
            one.said["amount"]
        )
        for one in transactions
        if one.said["type"] in FEES
    }
    by_event = {
        (one.said["client_package"], one.said["period"], one.said["type"])
        for one in transactions
        if one.said["type"] in FEES and one.said.get("cdr")
    }
    states = _states(world)
    removed = {of for state in states.values() for of in state.removed}
    charged: dict[tuple[str, int, str], int] = {}
    for client, held_id, period in _all_periods(world, states):
        for one in period.charged:
            key = held_id, period.number, one.type
            charged[key] = one.amount
            if fees.get(key) != one.amount:
                yield f"L1: {client} {key} was opened with {one.amount}, its fee is {fees.get(key)}"
    for key, amount in fees.items():
        if key not in charged and key not in by_event and key[0] not in removed:
            yield f"L1: the fee {key} of {amount} is of no period that was opened"


def _all_periods(world: World, states: dict[str, ClientState]) -> Iterator[tuple[str, str, HeldPeriod]]:
    """Yield all periods that were ever opened: those of registers, and those of history."""
    for client, state in states.items():
        for held in state.packages:
            for period in held.life.periods if held.life is not None else ():
                yield client, held.id, period
    for bucket in world.server.buckets:
        for client, rows in bucket.history.items():
            for name, (_, row) in rows.items():
                held_id, _, _ = name.rpartition(".")
                yield client, held_id, read_period(row)


def _given_back(transactions: list[Transaction]) -> Iterator[str]:
    """L2: a refund is what it gives back, a reversal what it takes back, each of something published."""
    first = {
        one.said["id"]: checking.micros(one.said["amount"])
        for one in transactions
        if one.said["type"] != "reversal"
    }
    for one in transactions:
        said, amount = one.said, checking.micros(one.said["amount"])
        if said["type"] == "refund":
            whole = -sum(first.get(name, 0) for name in said["of"])
            if amount != whole or not all(name in first for name in said["of"]):
                yield f"L2: {one.where} gives back {amount}, not {whole} of {said['of']}"
        elif said["type"] == "reversal" and first.get(said["id"]) != -amount:
            yield f"L2: {one.where} takes back {amount} of {said['id']}, which is {first.get(said['id'])}"


class _Draw(NamedTuple):
    """A draw of a side from a period, and the state of its client that the bucket had."""

    where: str
    client: str
    at_ms: int
    bound_ms: int
    state: ClientState
    taken: list[tuple[str, int]]


def _draws(world: World) -> Iterator[str]:
    """L3, L4: calls draw from periods that are open; what was due before a call is done before it."""
    archived = {name for name, of in _statuses(world).items() if of == "archived"}
    last = {}
    for number, carried in enumerate(world.server.carried):
        for decided in unpack_kept(carried.context, carried.packed):
            last[decided.identity[0], carried.lane, decided.identity[1], decided.identity[2]] = number
    for number, carried in enumerate(world.server.carried):
        for decided in unpack_kept(carried.context, carried.packed):
            if isinstance(decided, KeptChange):
                continue
            topic, offset, index = decided.identity
            if decided.result.outcome or last[topic, carried.lane, offset, index] != number:
                continue
            context = _context.decode(decided.entry.context)
            limits = [context.limits[at] for at, *_ in decided.result.takes]
            taken = [(context.head.packages[limit.group].id, context.head.packages[limit.group].period)
                     for limit in limits]  # fmt: skip
            at_ms = _ms(json.loads(_value(world, topic, carried.lane, offset))["answered_at"])
            one = _Draw(
                f"{topic}[{carried.lane}]@{offset} {SIDES[index]}", decided.client, at_ms,
                min(at_ms, world.broker.partition((topic, carried.lane)).entries[offset].at_ms),
                read_state(carried.states[decided.client]),
                [(json.loads(held), int(period)) for held, period in taken],
            )  # fmt: skip
            yield from _open(one)
            yield from _done_before(one, archived)


def _value(world: World, topic: str, lane: int, offset: int) -> bytes:
    return world.broker.partition((topic, lane)).entries[offset].value or b""


def _ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def _open(draw: _Draw) -> Iterator[str]:
    held = {of.id: of for of in draw.state.packages}
    for name, number in draw.taken:
        life = held[name].life if name in held else None
        period = next((of for of in life.periods if of.number == number), None) if life else None
        if life is None or period is None:
            yield f"L3: {draw.where} draws from period {number} of {name}, which was not opened"
            continue
        stops = [of for of in (period.stop_ms, held[name].end_ms, life.ended_ms) if of is not None]
        if period.voided:
            yield f"L3: {draw.where} draws from period {number} of {name}, which is void"
        elif not period.start_ms <= draw.at_ms < min(stops, default=draw.at_ms + 1):
            yield f"L3: {draw.where} of {draw.at_ms} draws from {name} {period}"


def _done_before(draw: _Draw, archived: set[str]) -> Iterator[str]:
    """Tell what a state lacks that was due before a call, whatever its package costs: else it would wait.

    What is to be archived is left to the tick.
    """
    for held in draw.state.packages:
        life = held.life
        if life is None or life.waiting is not None or life.ended_ms is not None or held.package in archived:
            continue
        if not life.periods:
            due_ms = max(held.start_ms, held.assigned_ms)
            ended = held.end_ms is not None and held.end_ms <= due_ms
        else:
            stop = life.periods[-1].stop_ms
            due_ms = draw.bound_ms + 1 if stop is None else stop
            ended = life.last or (held.end_ms is not None and held.end_ms <= due_ms)
        if due_ms <= draw.bound_ms and not ended:
            yield f"L4: {draw.where} of {draw.at_ms} was rated without {held.id}, due at {due_ms}: {life}"


def _answers(world: World, events: list[dict[str, Any]]) -> Iterator[str]:
    """L5: each command of a client is answered by one event, which says that it was done or refused."""
    told: dict[str, list[str]] = defaultdict(list)
    for event in events:
        if event["type"] in {"command_done", "command_refused"}:
            told[event["id"].split("/")[0]].append(event["id"])
    for one in world.ordered:
        answers = told.get(one.said["id"], [])
        if len(answers) != 1:
            yield f"L5: command {one.said['id']} ({one.said['do']}) is answered by {answers}"


def _adjusted(world: World, transactions: list[Transaction], events: list[dict[str, Any]]) -> Iterator[str]:
    """L6: an adjustment that was done is in the journal once; one that was not, is not; a key counts once."""
    done = {event["id"].split("/")[0]: event["data"] for event in events if event["type"] == "command_done"}
    ids: Counter[str] = Counter(one.said["id"] for one in transactions if one.said["type"] == "adjustment")
    by_key: dict[tuple[str, str], list[Ordered]] = defaultdict(list)
    for one in world.ordered:
        if one.said["do"] == "adjust" and not one.said.get("dry_run"):
            by_key[one.said["client"], one.said["key"]].append(one)
    for (client, key), several in by_key.items():
        first = [one for one in several if not done.get(one.said["id"], {"repeated": True})["repeated"]]
        if ids[f"adjust/{client}/{key}"] != len(first) or len(first) > 1:
            yield (
                f"L6: adjust/{client}/{key} is published {ids[f'adjust/{client}/{key}']} times, "
                f"and done by {[one.said['id'] for one in first]}"
            )


def _told(transactions: list[Transaction], events: list[dict[str, Any]]) -> Iterator[str]:
    """L7: what an event tells of is there: each opening of periods has its event, each fee an opening."""
    opened = Counter(
        (event["client_package"], event["period"])
        for event in events
        if event["type"] in {"activated", "renewed", "renewed_late"}
    )
    for key, times in opened.items():
        if times > 1:
            yield f"L7: that {key} was opened is told {times} times"
    first: dict[str, int] = {}
    for name, number in opened:
        first[name] = min(number, first.get(name, number))
    for one in transactions:
        said = one.said
        key = said.get("client_package"), said.get("period")
        past = key[0] in first and key[1] is not None and first[key[0]] == 1
        if said["type"] in FEES and key not in opened and not past:
            yield f"L7: {one.where} is a fee of {key}, of whose opening nobody is told"


def waits(world: World) -> Iterator[str]:
    """L8: nothing waits for money that is there, or for a package that is enabled."""
    disabled = {name for name, of in _statuses(world).items() if of != "active"}
    for bucket in world.server.buckets:
        for client, raw in bucket.states.items():
            state, balance = read_state(raw), bucket.clients[client].balance
            for held in state.packages:
                waiting = held.life.waiting if held.life is not None else None
                if waiting is None or held.package in disabled:
                    continue
                if waiting.reason == "package_disabled":
                    yield f"L8: {held.id} of {client} waits for its package, which is active"
                elif waiting.reason == "funds" and waiting.total <= balance + state.credit_limit:
                    yield f"L8: {held.id} of {client} waits for {waiting.total}, there are {balance}"


def _rows(world: World) -> Iterator[str]:
    """L9: what was loaded last of a client is what its state says."""
    rows = {row["id"]: row for file in _loaded(world) for row in file.get("clients", ())}
    for client, state in _states(world).items():
        row = rows[client]
        said = state.name, state.credit_limit
        if said != (row["name"], checking.micros(row["credit_limit"])):
            yield f"L9: {client} is {said}, loaded was {row}"


def _statuses(world: World) -> dict[str, str]:
    """Return the status of each package by the last file that says it."""
    status: dict[str, str] = {}
    for file in _loaded(world):
        for row in file.get("packages", ()):
            status[row["id"]] = row.get("status") or "active"
    return status


def _loaded(world: World) -> Iterator[dict[str, Any]]:
    for entry in world.visible((world.topics.commands, 0)):
        said = json.loads(entry.value) if entry.value and entry.value[:1] == b"{" else {}
        if said.get("args", {}).get("part") == "manifest":
            yield json.loads(world.files[(entry.key or b"").decode()])
