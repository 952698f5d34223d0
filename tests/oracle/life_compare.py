"""The product's offline rater beside the oracle of the life of packages, step by step.

`PYTHONPATH=src:tests python -m oracle.life_compare --seeds 5000` compares pairs and so many random scenarios;
a scenario that differs is told with its first difference, made as small as it goes. Exit code 1 then.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from fractions import Fraction
from typing import Any

from oracle.life import CHANGES, Event, Life, Result, World
from oracle.life_calendar import EPOCH
from oracle.life_pairs import CommandStep, LifeScenario, Step, of_options, pairs
from oracle.life_random import random_scenario
from oracle.reference import DAY_MS
from oracle.scenario import LoadStep
from rater.core.offline import Duplicate, Rater, Transaction

Row = dict[str, Any]

WINDOW_DAYS = 4000
NUMBERS = {"amount", "net", "rate", "discount", "percent", "taken", "left", "covered", "price", "setup_fee"}
TIMES = {"at", "period_start", "period_stop", "from", "to"}
OF_PERIOD = {"activated", "renewed", "renewed_late", "charge_pending"}
"""Events whose period is compared."""
CROSSINGS = ("low_balance", "balance_restored")
"""At a call the oracle looks once, behind all of it; the product tells what each change and side crosses."""
UNKNOWN = {"catalog", "actor", "reason", "key", "job"}
"""Of a transaction, what the oracle does not say."""


def plain(value: Any, name: str = "") -> Any:
    """Return a value as it means: decimals as fractions, times as seconds, without fields that are null."""
    if isinstance(value, dict):
        return {key: plain(one, key) for key, one in value.items() if one is not None and key not in UNKNOWN}
    if isinstance(value, list):
        return [plain(one, name) for one in value]
    if name in NUMBERS and isinstance(value, str):
        return Fraction(value)
    if name in TIMES and isinstance(value, str) and value[:1].isdigit():
        seconds = (datetime.fromisoformat(value) - EPOCH).total_seconds()
        return seconds // 1 if name in {"from", "to"} else seconds
    return value


def transactions(rows: Iterable[Row], *, only: Iterable[Row] | None = None) -> list[Row]:
    """Return transactions to compare; only: those of the oracle, whose fields alone count, one for one.

    Clients are apart: which one's come first says nothing.
    """
    rows = sorted(rows, key=lambda row: str(row["client"]))
    found = [plain(row if row["type"] != "reversal" else brief(row)) for row in rows]
    if only is None:
        return found
    fields = [set(row) for row in transactions(only)]
    known = [
        {key: row[key] for key in wanted if key in row} for row, wanted in zip(found, fields, strict=False)
    ]
    return known + found[len(fields) :]


def brief(row: Row) -> Row:
    """Return what of a reversal is compared: whose it is, and its numbers."""
    fields = (
        "id",
        "revision",
        "type",
        "client",
        "client_package",
        "at",
        "reverses",
        "net",
        "taxes",
        "amount",
    )
    return {name: row[name] for name in fields if name in row}


def events(rows: Iterable[Row]) -> list[tuple[Any, ...]]:
    """Return what events say that the oracle says too, in any order."""
    return sorted(
        (row["type"], row["client"], row.get("client_package") or "",
         row.get("period") if row["type"] in OF_PERIOD else 0,
         str(sorted(plain(row["data"]).items())) if row["type"] == "rerate_needed" else "")
        for row in rows if row["type"] in CHANGES
    )  # fmt: skip


def settled(rows: list[Row]) -> list[Row]:
    """Return events with no more crossings of a client's mark than lead from before all of them to behind."""
    out: list[Row] = []
    for row in rows:
        back = next((one for one in out if row["type"] in CROSSINGS and is_back(one, row)), None)
        if back is None:
            out.append(row)
        else:
            out.remove(back)
    return out


def is_back(one: Row, row: Row) -> bool:
    """Tell if an event takes back what another one tells of a balance."""
    return one["client"] == row["client"] and {one["type"], row["type"]} == set(CROSSINGS)


def event_row(event: Event) -> Row:
    """Return an event of the oracle as the product writes it."""
    return {**event._asdict(), "period": event.period}


class Pair:
    """Both of them, and what differs between them at a step."""

    def __init__(self) -> None:
        self.world = World(WINDOW_DAYS)
        self.rater = Rater(WINDOW_DAYS * DAY_MS)
        self.started = False

    def step(self, step: Step) -> str | None:
        """Take both one step further; return what differs first, None: nothing."""
        if isinstance(step, LoadStep):
            return self.load(step)
        if isinstance(step, CommandStep):
            return self.command(step)
        sides = self.world.rate(step.raw, step.record_ms)
        ended = self.rater.rate(step.raw, step.record_ms)
        wanted = [
            plain(side["value"]) if side["outcome"] == "transaction" else side["outcome"] for side in sides
        ]
        got: list[Any] = []
        for one in ended:
            value = json.loads(one.value) if isinstance(one, Transaction) else None
            got.append(plain(value) if value else "duplicate" if isinstance(one, Duplicate) else "rejected")
        taken, told = self.taken()
        return differs("sides", wanted, got) or self.same(self.world.result, taken, settled(told))

    def load(self, step: LoadStep) -> str | None:
        """Load a file."""
        self.world.load(step.file, step.at_ms)
        faults = self.rater.load([("catalog.json", json.dumps(step.file).encode())], step.at_ms)
        result = self.world.result
        taken, told = self.taken()
        if self.started and step.file.get("packages"):  # what it means for clients is worked off by ticks
            tick = {"id": f"tick-{step.at_ms}", "at": at_text(step.at_ms), "do": "tick", "args": {}}
            more = self.world.command(tick, step.at_ms)
            self.rater.command(json.dumps(tick).encode(), step.at_ms)
            result = Result([*result.transactions, *more.transactions], [*result.events, *more.events])
            late, later = self.taken()
            taken, told = [*taken, *late], [*told, *later]
        self.started = True
        return differs("faults", [], [str(fault) for fault in faults]) or self.same(result, taken, told)

    def command(self, step: CommandStep) -> str | None:
        """Give a command."""
        result = self.world.command(step.row, step.record_ms)
        self.rater.command(json.dumps(step.row).encode(), step.record_ms)
        taken, told = self.taken()
        if step.row["do"] == "tick":
            return self.same(result, taken, told)
        done = [row for row in told if row["type"] in {"command_done", "command_refused"}]
        (answer,) = done or [{"type": "nothing", "data": {}}]
        wanted = "command_refused" if result.refused else "command_done"
        problem = differs(
            f"answer ({result.refused}, {answer['data'].get('reason')})", wanted, answer["type"]
        )
        data = answer["data"]
        if problem is not None or wanted == "command_refused":
            return problem or self.same(result, taken, told)
        problem = differs("repeated", bool(result.done.get("repeated")), data["repeated"])
        if "client_package" in result.done:
            problem = problem or differs("id", result.done["client_package"], answer["client_package"])
        if step.row.get("dry_run"):
            return problem or self.same(result, data["transactions"], data["events"], dry=True)
        return problem or self.same(result, taken, told)

    def ends(self) -> str | None:
        """Return what differs of what is left: numbers, pending charges, ends, and each period."""
        for client, owner in self.world.owners.items():
            packages = {one.id: one for one in self.rater.states[client].packages}
            problem = differs(f"client packages of {client}", sorted(owner.lives), sorted(packages))
            for name in owner.lives if problem is None else ():
                problem = problem or self.end_of(owner.lives[name], packages[name].life)
            if problem is not None:
                return problem
        return None

    def end_of(self, wanted: Life, got: Any) -> str | None:
        """Return what differs of one client package."""
        waiting = wanted.waiting and (wanted.waiting.kind, wanted.waiting.since, wanted.waiting.until)
        ours = (wanted.numbered, len(wanted.periods), waiting, wanted.ended and wanted.ended[0], wanted.last)
        waits = got.waiting and (got.waiting.kind, got.waiting.since_ms, got.waiting.until_ms)
        theirs = (got.numbered, got.count, waits, got.ended_ms, got.last)
        kept = {one.number: one for one in got.periods}
        periods = {
            one.number: (one.start.ms, one.stop and one.stop.ms, one.count, one.voided, one.moved, one.rolled)
            for one in wanted.periods
            if one.number in kept
        }
        found = {
            one.number: (one.start_ms, one.stop_ms, one.count, one.voided, some(one.moved), some(one.rolled))
            for one in got.periods
        }
        return differs(f"end of {wanted.id}", ours, theirs) or differs(
            f"periods of {wanted.id}", periods, found
        )

    def taken(self) -> tuple[list[Row], list[Row]]:
        """Return what the product has published since the last time: transactions and events."""
        published, told = self.rater.take()
        return [json.loads(one) for one in published], [json.loads(one) for one in told]

    def same(self, result: Result, published: list[Row], told: list[Row], *, dry: bool = False) -> str | None:
        """Return what differs of transactions, events and balances."""
        wanted = transactions(result.transactions)
        problem = differs("transactions", wanted, transactions(published, only=result.transactions))
        rows = [event_row(one) for one in result.events]
        problem = problem or differs("events", events(rows), events(told))
        balances = {client: self.rater.balance(client) for client in self.world.balances}
        return problem or (None if dry else differs("balances", self.world.balances, balances))


def some(units: dict[str, int] | None) -> dict[str, int]:
    """Return limits of which something moved."""
    return {name: number for name, number in (units or {}).items() if number}


def differs(what: str, wanted: Any, got: Any) -> str | None:
    """Return how two values differ, as short as it goes; None: they do not."""
    if wanted == got:
        return None
    if isinstance(wanted, dict) and isinstance(got, dict):
        keys = [key for key in {**wanted, **got} if wanted.get(key) != got.get(key)]
        return f"{what}.{keys[0]}: oracle {wanted.get(keys[0])!s}, product {got.get(keys[0])!s}"
    if isinstance(wanted, list) and isinstance(got, list):
        for place, (one, other) in enumerate(zip(wanted, got, strict=False)):
            name = f"{what}[{place}]"
            if one != other and isinstance(one, dict) and one.get("id") == getattr(other, "get", str)("id"):
                return differs(f"{name} {one.get('id')}", one, other)
        brief = [
            [one.get("id", one) if isinstance(one, dict) else one for one in row] for row in (wanted, got)
        ]
        return f"{what}: oracle {brief[0]}, product {brief[1]}"
    return f"{what}: oracle {wanted!s}, product {got!s}"


def difference(steps: Iterable[Step]) -> tuple[int, str] | None:
    """Return the first step at which they differ, and how; None: they never do."""
    both, place = Pair(), 0
    for place, step in enumerate(steps):
        try:
            problem = both.step(step)
        except Exception as fault:  # noqa: BLE001 - whatever fails is a difference
            problem = f"raised {type(fault).__name__}: {fault}"
        if problem is not None:
            return place, problem
    problem = both.ends()
    return None if problem is None else (place, problem)


def kind(problem: str) -> str:
    """Return what sort of difference it is, so that a smaller scenario shows the same."""
    return problem.partition(":")[0].partition("[")[0]


def smallest(scenario: LifeScenario, until: Callable[[], bool]) -> tuple[list[Step], str]:
    """Drop steps as long as the scenario differs in the same way; until: time is up."""
    found = difference(scenario.steps)
    assert found is not None
    steps, problem = list(scenario.steps[: found[0] + 1]), found[1]
    size = max(1, len(steps) // 2)
    while size and not until():
        for start in range(len(steps) - 1 - size, 0, -size):
            fewer = steps[:start] + steps[start + size :]
            less = difference(fewer)
            if less is not None and kind(less[1]) == kind(problem) and "raised" not in less[1]:
                steps, problem = fewer[: less[0] + 1], less[1]
        size //= 2
    return steps, problem


def told(steps: Iterable[Step]) -> list[str]:
    """Return steps as lines."""
    lines = []
    for step in steps:
        if isinstance(step, LoadStep):
            lines.append(f"  load at {at_text(step.at_ms)}: {json.dumps(step.file)}")
        elif isinstance(step, CommandStep):
            lines.append(f"  command at {at_text(step.record_ms)}: {json.dumps(step.row)}")
        else:
            lines.append(f"  record at {at_text(step.record_ms)}: {step.raw.decode()}")
    return lines


def at_text(ms: int) -> str:
    """Return an instant for people."""
    return datetime.fromtimestamp(ms / 1000, EPOCH.tzinfo).isoformat()


def scenario_of(name: tuple[str, int]) -> LifeScenario:
    """Return the scenario of (`pairs`, its row and round) or (`random`, its seed)."""
    what, number = name
    rows = pairs()
    return random_scenario(number) if what == "random" else of_options(rows[number % len(rows)], number)


def compared(name: tuple[str, int]) -> tuple[tuple[str, int], int, str | None]:
    """Return a scenario's name, how many steps it has, and how it differs."""
    scenario = scenario_of(name)
    found = difference(scenario.steps)
    return name, len(scenario.steps), None if found is None else found[1]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m oracle.life_compare", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="random scenarios (default: 1000)")
    parser.add_argument("--seed", type=int, default=0, help="of the first (default: 0)")
    parser.add_argument("--rounds", type=int, default=1, help="how often each row of pairs (default: once)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument(
        "--shown", type=int, default=1, help="differences of other kinds to show (default: 1)"
    )
    parser.add_argument("--list", action="store_true", help="the first difference of each scenario")
    given = parser.parse_args()
    began = time.monotonic()
    names = [("pairs", number) for number in range(len(pairs()) * given.rounds)]
    names += [("random", seed) for seed in range(given.seed, given.seed + given.seeds)]
    with multiprocessing.get_context("fork").Pool(given.jobs) as pool:
        results = list(pool.imap(compared, names, chunksize=8))
    differing: dict[str, list[tuple[str, int]]] = {}
    for name, _, problem in results:
        if problem is not None:
            differing.setdefault(kind(problem), []).append(name)
    if given.list:
        for name, _, problem in results:
            if problem is not None:
                sys.stdout.write(f"{name[0]} {name[1]}: {problem[:300]}\n")
    for sort, seeds in list(differing.items())[: given.shown]:
        until = time.monotonic() + 30
        steps, problem = smallest(scenario_of(seeds[0]), lambda until=until: time.monotonic() > until)  # type: ignore[misc]
        sys.stdout.write(f"{sort}: {len(seeds)}, first {seeds[0]}\n  {problem}\n")
        if seeds[0][0] == "pairs":
            sys.stdout.write(f"  {pairs()[seeds[0][1] % len(pairs())]}\n")
        sys.stdout.write("\n".join(told(steps)) + "\n")
    count, took = sum(map(len, differing.values())), time.monotonic() - began
    steps_done = sum(number for _, number, _ in results)
    sys.stdout.write(f"life: {len(names)} scenarios, {steps_done} steps, {took:.0f} s: {count} differ\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
