"""README.md of the results: figures beside their targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from prose import (
    CGRATES,
    FORMULAS,
    GROWTH_HEAD,
    GROWTH_TWICE,
    GROWTH_WHY,
    HEAD,
    LOADED,
    RENEWED,
    TAIL,
    TRIED,
)
from report_jobs import offline, rebuilding, rerating
from report_reading import reading
from tables import judged, latencies, table

TIMES_KAFKA, TIMES_BEST = (6.2, 6.5), (3.6, 4.1)
"""CDRs per core-second of this worker before it had a native engine, in times of CGRateS: of its engine that
reads from Kafka, and of its best (CGRATES in prose.py)."""


def report(results: Path) -> str:
    """Return README.md of whatever results there are."""
    parts = {path.stem: orjson.loads(path.read_bytes()) for path in results.glob("*.json")}
    text = [HEAD]
    for name, section in PARTS.items():
        if name in parts:
            text.append(section(parts[name]))
    text.append(TAIL)
    return "\n".join(text)


def _spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    return f"{form.format(min(values))} / {form.format(median(values))}"


class _Rounds:
    """Figures of the rounds of the main measurement, one for each round."""

    def __init__(self, rounds: Sequence[dict[str, Any]]) -> None:
        self.rounds = rounds
        self.sides = median(self.each(lambda one: one["worker"]["sides"] / one["worker"]["cdrs"]))
        self.core = 1e6 / median(self.of("worker_us"))
        """CDRs of a core-second."""

    def each(self, of: Callable[[dict[str, Any]], float]) -> list[float]:
        return [of(one) for one in self.rounds]

    def of(self, name: str, build: str = "worker") -> list[float]:
        return self.each(lambda one: one[build][name])

    @property
    def has_before(self) -> bool:
        return self.rounds[0].get("before") is not None

    def to_before(self, name: str) -> list[float]:
        return self.each(lambda one: one["worker"][name] / one["before"][name])

    def to_pass(self) -> list[float]:
        return self.each(lambda one: one["worker"]["worker_us"] / one["pass_us"])


def _judged_rows(rounds: _Rounds, few: _Rounds | None) -> list[tuple[str, str, str, str]]:
    passed = rounds.to_pass()
    rows = [("worker, to the pass-through", _spread(passed), "≤ 2.2", judged(median(passed), 2.2))]
    if few is not None:
        passed = few.to_pass()
        rows.append(("the same with 20,000 clients", _spread(passed), "≤ 2.0", judged(median(passed), 2.0)))
    if rounds.has_before:
        worker, redis = (rounds.to_before(name) for name in ("worker_us", "redis_us"))
        gain = 1 / median(worker)
        rows += [
            (
                "worker, to the build before",
                _spread(worker, "{:.2f}"),
                "≤ 0.22",
                judged(median(worker), 0.22),
            ),
            ("Redis, to the build before", _spread(redis, "{:.2f}"), "≤ 0.65", judged(median(redis), 0.65)),
        ]
        for what, times, bound in (("from Kafka", TIMES_KAFKA, 25), ("at its best", TIMES_BEST, 12)):
            ours = [gain * one for one in times]
            shown = f"{ours[0]:.0f} to {ours[1]:.0f}"
            rows.append(
                (
                    f"in times of CGRateS {what} (reckoned)",
                    shown,
                    f"≥ {bound}",
                    judged(ours[0], bound, least=True),
                )
            )
    return rows


def _other_rows(rounds: _Rounds, load_s: float) -> list[tuple[str, str]]:
    of, each, worker = rounds.of, rounds.each, rounds.of("worker_us")
    side, redis_side = ([us / rounds.sides for us in of(name)] for name in ("worker_us", "redis_us"))
    before = [] if not rounds.has_before else [
        (f"{what}, CPU of a CDR, the build before", f"{_spread(of(name, 'before'))} µs")
        for what, name in (("worker", "worker_us"), ("Redis", "redis_us"))
    ]  # fmt: skip
    return [
        ("worker, CPU of a CDR", f"{_spread(worker)} µs (in the system: {_spread(of('worker_system_us'))})"),
        ("Redis, CPU of a CDR", f"{_spread(of('redis_us'))} µs"),
        *before,
        ("worker and Redis, CPU of a CDR side", f"{_spread(side)} µs and {_spread(redis_side)} µs"),
        ("CDRs of a core-second of the worker", f"{rounds.core:,.0f}"),
        ("Kafka broker, CPU of a CDR", f"{_spread(of('kafka_us'))} µs"),
        ("pass-through, CPU of a CDR", f"{_spread(each(lambda one: one['pass_us']))} µs"),
        (
            "CDRs a second, one worker (best / median)",
            f"{max(of('rate')):,.0f} / {median(of('rate')):,.0f}",
        ),
        ("the same of the pass-through (median)", f"{median(each(lambda one: one['pass_rate'])):,.0f}"),
        ("CDRs of a commit", f"{median(of('records_per_commit')):,.0f}"),
        ("Redis calls of 1,000 CDRs", f"{median(of('redis_calls')) * 1000:.1f}"),
        ("draws of a CDR", f"{median(of('draws')):.2f}"),
        (
            "memory: worker (resident), Redis (used)",
            f"{max(of('rss_mb')):.0f} MB, {max(of('redis_mb')):.0f} MB",
        ),
        ("loading the catalog", f"{load_s:.0f} s"),
        ("cores that other processes kept busy meanwhile", f"{median(of('others_cores')):.1f}"),
    ]


def _main(found: dict[str, Any]) -> str:
    rounds, about = _Rounds(found["rounds"]), found["about"]
    sides = rounds.sides
    few = _Rounds(found["few"]) if found.get("few") else None
    rows, more = _judged_rows(rounds, few), _other_rows(rounds, found["load_s"])
    against = f", the build before ({about['against']})" if rounds.has_before else ""
    where = table(("stage", "share"), ((stage, f"{share:.0%}") for stage, share in found["stages"].items()))
    settings = ", ".join(f"{name} {value:,}" for name, value in about["settings"].items())
    world = found["world"]
    return f"""\
## What a CDR costs

{about["date"]}; {about["cpu"]}; Python {about["python"]}, aiokafka {about["aiokafka"]},
{about["redis"]}. {world["clients"]:,} clients (Zipf), {world["codes"]:,} codes, 1 to 5 limits each,
both sides in a fifth of the calls, JSON of 400 bytes; out come records of
{found["out_bytes"]:.0f} bytes, {sides:.2f} for each CDR. Every call goes to another number, of all codes
of the deck. Settings: {settings}.
{len(rounds.rounds)} rounds, in each the worker{against}, then the pass-through; best / median:

{table(("figure", "result", "target", "met"), rows)}
{table(("besides", "result"), more)}
The time is CPU time, user and system, of the whole process, from `/proc`. The machine is shared
with other work and has fewer cores than there are busy processes, so CDRs a second say little;
CPU time says what a core of one's own would do, within some 15 % (neighbours cost cache misses).
{CGRATES}
### Where the time goes

A sampled profile of one more run; the flame graph is [results/flame.svg](results/flame.svg).

{where}
{TRIED}"""


def _latency_judged(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    rows = []
    for label, bound in (("default", 120), ("low latency", 40)):
        at = found[label]["judged"]
        age_ms, partitions = (found[label]["settings"][name] for name in ("age_ms", "partitions"))
        rows.append((
            (f"p99 at {at['rate']:,.0f} CDR/s, {label} (`worker.batch_age_ms = {age_ms}`, "
             f"partitions {partitions})"),
            f"{at['p99_ms']:.0f} ms", f"≤ {bound} ms", judged(at["p99_ms"], bound),
        ))  # fmt: skip
        kept = [step for step in found[label]["steps"] if step["p99_ms"] <= bound]
        most = f"{kept[-1]['share']:.0%}, {kept[-1]['rate']:,.0f} CDR/s" if kept else "none"
        rows.append((f"the highest load with p99 ≤ {bound} ms, {label}", most, "", ""))
    return rows


def _latency_by_load(found: dict[str, Any]) -> str:
    shares = [step["share"] for step in found["default"]["steps"]]
    rows = []
    for share in shares:
        row = [f"{share:.0%}"]
        for steps in found.values():
            step = next((step for step in steps["steps"] if step["share"] == share), None)
            row += (
                ["", "", "", ""]
                if step is None
                else [f"{step['rate']:,.0f}", f"{step['p50_ms']:.0f}", f"{step['p99_ms']:.0f}",
                      f"{step['worker_us']:.0f}"]
            )  # fmt: skip
        rows.append(row)
    head = ["load"]
    for label in found:
        head += [f"CDR/s, {label}", "p50 ms", "p99 ms", "CPU µs"]
    return table(head, rows)


def _latency(found: dict[str, Any]) -> str:
    return f"""\
## Latency

From sending a CDR to reading its transaction (`read_committed`), with the sender and the reader on
the same machine. The load is a share of what the worker did with a full topic just before.

{table(("figure", "result", "target", "met"), _latency_judged(found))}
{_latency_by_load(found)}
A lane that keeps up begins a batch `worker.batch_age_ms` after the last one; else a batch closes by count
(`worker.batch_records_max`) or by bytes (what one fetch brings, 2 MiB of a partition). A batch costs the
worker 4 to 5 ms and the broker 2 ms whatever it carries: at 8,000 CDR/s on four lanes 80 batches a second
take 45 of the 65 µs of a CDR. A profile of that (30 November 2026): the engine 32 %, commit 18, polling
14, calls to Redis 14, the event loop and freeing 14, all in the client libraries and asyncio, no function
of which has a twentieth. So the age stays at 50: with 30 the lanes make no more batches than their
commits allow, p50 and p99 at 8,000 CDR/s were the same within the noise (p99 112 to 171 ms with 50, 136
to 151 with 30, on a busier machine), and CPU 3 % more. Four lanes with an age of 2 ms make 300 batches a
second: a core. So low latency takes few lanes as well as a short age: as many partitions as workers.

How much is left over decides: worker, broker, Redis, the sender and the reader share these two cores, and a
core is what is waited for. The servers are warm: in the first minute the broker compiles its code, for which
it takes 0.9 of a core in place of 0.3 at 1,000 CDR/s, where p99 was then 178 ms, and 70 after it.

![p99](results/latency-p99.svg)
![p50](results/latency-p50.svg)
"""


GROWTH = {"clients": 1.3, "packages": 1.5, "codes": 1.1}
"""How much more CPU the largest may cost than the smallest; "flat" is within the noise."""


_SAME = (("partitions", 1), ("workers", 0), ("hot", 0), ("usual", 0), ("duplicates", 0))
"""Where the lines cross: all that they are about as it is elsewhere."""


def _growth(found: dict[str, Any]) -> str:
    text = [
        "## Growth\n",
        GROWTH_HEAD,
    ]
    every = [point for line in found.values() for point in line["points"]]
    if any(point.get("rounds", 1) > 1 for point in every):
        text.append(GROWTH_TWICE)
    same = [
        (found[name]["date"], found[name]["points"][at]["worker_us"])
        for name, at in _SAME
        if name in found and at < len(found[name]["points"])
    ]
    for date in sorted({date for date, _ in same}):
        of_date = [us for other, us in same if other == date]
        text.append(
            f"{len(of_date)} of the points of {date} are the same measurement, of which the worker took "
            f"{min(of_date):.0f} to {max(of_date):.0f} µs: so much is the noise.\n"
        )
    for name, line in found.items():
        text += _growth_line(name, line)
    return "\n".join(text)


def _growth_line(name: str, line: dict[str, Any]) -> list[str]:
    points = line["points"]
    rows = [
        (
            f"{point['x']:,.0f}", f"{point['worker_us']:.1f}", f"{point['redis_us']:.1f}",
            f"{point['records_per_commit']:,.0f}", f"{point['rss_mb']:.0f}", f"{point['redis_mb']:.0f}",
            f"{point['draws']:.2f}", f"{point['load_s']:.0f}", f"{point['warm']:,.0f}",
        )
        for point in points
    ]  # fmt: skip
    head = (
        line["title"], "worker µs", "Redis µs", "CDRs of a commit", "worker MB", "Redis MB",
        "draws of a CDR", "load, s", "calls before",
    )  # fmt: skip
    text = [f"### By {line['title']}\n\n{line['date']}.\n\n{table(head, rows)}"]
    ratios = [_times(points, *of) for of in (("worker_us",), ("redis_us",), ("worker_us", "redis_us"))]
    if name in GROWTH:
        bound = "flat (1.1)" if name == "codes" else f"{GROWTH[name]}"
        text.append(
            f"Largest to smallest: worker {ratios[0]:.2f}, Redis {ratios[1]:.2f}, both together "
            f"{ratios[2]:.2f}; target: ≤ {bound}; met: {judged(max(ratios), GROWTH[name])}.\n"
        )
    if name == "workers":
        text.append(
            f"Two workers, CPU of a CDR in times of one: {ratios[0]:.2f}; target: two do ≥ 1.8 times\n"
            f"the work of one, that is ≤ 1.11 (on two cores the rate cannot show it); met: "
            f"{judged(ratios[0], 2 / 1.8)}.\n"
        )
    if name in GROWTH_WHY:
        text.append(GROWTH_WHY[name])
    text.append(f"![{name}](results/growth-{name}.svg)\n")
    return text


def _times(points: list[dict[str, Any]], *figures: str) -> float:
    """Return what the last point costs in times of the first."""
    first, last = (sum(point[figure] for figure in figures) for point in (points[0], points[-1]))
    return float(last / first)


def _memory(found: dict[str, Any]) -> str:
    rows = [
        ("client (balance, register, one account)", found["client"], "", ""),
        ("client package with two limits, no counter yet", found["client_package"], "", ""),
        ("period counter, the first of a client package", found["counter_first"], "", ""),
        ("period counter, a further one", found["counter_second"], "", ""),
        (
            "client package with two limits and a counter of each", found["package_whole"], "≤ 400",
            judged(found["package_whole"], 400),
        ),
        ("entry of the duplicates", found["duplicate"], "≤ 40", judged(found["duplicate"], 40)),
    ]  # fmt: skip
    sizes = table(
        ("thing", "bytes", "target", "met"), ((name, f"{size:.0f}", *rest) for name, size, *rest in rows)
    )
    return f"""\
## Memory of Redis

What `MEMORY USAGE` (all samples) says of the keys before and after {found["clients"]:,} of each were
added ({found["entries"]:,} duplicates); that is {found["explained"]:.0%} of the growth of `used_memory`
meanwhile, the rest being the server's main table and buffers.

{sizes}
{FORMULAS}"""


def _load(found: dict[str, Any]) -> str:
    rows = [
        (
            f"{run['workers']}{', the build before' if run.get('is_before') else ''}",
            f"{run['seconds']:.0f} s",
            latencies(run["before_ms"]), latencies(run["meanwhile_ms"]), _megabytes(run["worker_mb"]),
            _megabytes(run.get("called_mb", [])), f"{run['redis_mb']:.0f} MB",
        )
        for run in found["runs"]
    ]  # fmt: skip
    head = (
        "workers", "from start to end", "calls before, p50 / p99 / most", "calls meanwhile",
        "memory: workers", "after half the clients have called", "Redis (used)",
    )  # fmt: skip
    return f"""\
## Loading

`rater load` of {found["clients"]:,} clients with an account and a client package each (JSON,
{found["file_mb"]:.0f} MB), from the command's start to its end, while {found["rate"]:,.0f} CDR/s of others
are rated; all on two cores. Before and meanwhile: the latency of these, end to end. Then half of the loaded
clients call, once each.

{table(head, rows)}
{table(("figure", "result", "target", "met"), _load_judged(found["runs"]))}
{LOADED}"""


def _load_judged(runs: list[dict[str, Any]]) -> list[tuple[str, str, str, str]]:
    now = next(run for run in runs if run["workers"] == 1 and not run.get("is_before"))
    rows = [(
        "p99 of the calls meanwhile", f"{now['meanwhile_ms']['p99']:.0f} ms", "≤ 300 ms",
        judged(now["meanwhile_ms"]["p99"], 300),
    )]  # fmt: skip
    before = next((run for run in runs if run.get("is_before")), None)
    if before is not None:
        took = now["seconds"] / before["seconds"]
        memory = sum(now["called_mb"]) / sum(before["called_mb"])
        rows += [
            ("time, to the build before", f"{took:.2f}", "≤ 0.5", judged(took, 0.5)),
            ("memory of the worker, to the build before", f"{memory:.2f}", "≤ 0.6", judged(memory, 0.6)),
        ]
    return rows


def _megabytes(found: list[float]) -> str:
    return " + ".join(f"{mb:.0f}" for mb in found) + " MB" if found else ""


def _renewals(found: dict[str, Any]) -> str:
    alone, beside = found["alone"], found["beside"]
    pace = beside["clients"] / beside["seconds"]
    worker, redis = (alone[f"{of}_us"] / alone[f"{side}side_us"] for of, side in _SIDES)
    p99 = beside["meanwhile_ms"]["p99"] / beside["before_ms"]["p99"]
    once = all(run["charged_once"] == run["clients"] for run in found.values())
    rows = [
        (
            "worker, CPU of a renewal, in times of a side",
            f"{worker:.1f} ({alone['worker_us']:.0f} to {alone['side_us']:.0f} µs)", "≤ 3",
            judged(worker, 3),
        ),
        (
            "Redis, CPU of a renewal, in times of a side",
            f"{redis:.1f} ({alone['redis_us']:.1f} to {alone['redis_side_us']:.1f} µs)", "≤ 3",
            judged(redis, 3),
        ),
        (
            f"{beside['clients']:,} beside {beside['calls_s']:,.0f} CDR/s, one worker",
            f"{beside['seconds']:.0f} s, {pace:,.0f} a second", "1,000,000 in 600 s: ≥ 1,667 a second",
            judged(pace, 1_667, least=True),
        ),
        (
            "p99 of the calls meanwhile, in times of before", f"{p99:.1f}", "≤ 2", judged(p99, 2),
        ),
        (
            "the due index, bytes of Redis for each", f"{beside['index_bytes']:.0f}", "≤ 40",
            judged(beside["index_bytes"], 40),
        ),
        ("each fee charged once", "yes" if once else "no", "yes", "yes" if once else "**no**"),
    ]  # fmt: skip
    besides = [
        ("renewed a second without calls", f"{alone['clients'] / alone['seconds']:,.0f}"),
        ("Kafka broker, CPU of a renewal, without calls", f"{alone['kafka_us']:.0f} µs"),
        ("calls before, p50 / p99 / most", latencies(beside["before_ms"])),
        ("calls meanwhile", latencies(beside["meanwhile_ms"])),
        (
            "load average at the end of both (two cores)",
            f"{alone['load_average']:.1f}, {beside['load_average']:.1f}",
        ),
    ]
    return f"""\
## Renewals

Client packages with a taxed monthly fee that are all due at one instant: {alone["clients"]:,} without calls,
each then {alone["worker_us"]:.0f} µs of the worker, and {beside["clients"]:,} while the same clients call.
`benchmarks/run.py renewals --renewed {beside["clients"]}`

{table(("figure", "result", "target", "met"), rows)}
{table(("besides", "result"), besides)}
{RENEWED}"""


def _batches(found: dict[str, Any]) -> str:
    rows = [
        ("worker, CPU of a batch", f"{found['batch_ms']:.1f} ms"),
        ("Kafka broker, CPU of a batch", f"{found['kafka_batch_ms']:.1f} ms"),
        (
            "Kafka, disk for a batch: its mark, the ends of its Kafka transaction",
            f"{found['batch_bytes']:,.0f} bytes",
        ),
        *(
            (f"Kafka, disk for a CDR, {topic}", f"{size:,.0f} bytes")
            for topic, size in found["bytes"].items()
        ),
    ]
    return f"""\
## What a batch costs

{found["date"]}; other processes kept {found["others_cores"]:.1f} cores busy, which makes CPU dearer.
Whatever a batch carries: what a trickle ({found["records_of_a_batch"]:.1f} CDRs of a batch) took more than
as many CDRs of full batches. Disk is that of one copy; CDRs were sent as they are, what is published is
compressed (zstd). `rater plan` reckons with it
([decision 0141](../src/rater/decisions/0141-a-plan-is-a-formula.md)).

{table(("figure", "result"), rows)}"""


_SIDES = (("worker", ""), ("redis", "redis_"))


PARTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "main": _main, "latency": _latency, "growth": _growth, "memory": _memory, "load": _load,
    "renewals": _renewals, "rerating": rerating, "offline": offline, "rebuilding": rebuilding,
    "batches": _batches, "reading": reading,
}  # fmt: skip
