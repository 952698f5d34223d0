"""README.md of the results: figures beside their targets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import orjson

CGRATES_KAFKA = (1_540, 1_790)
"""CDRs per core-second of CGRateS' engine that reads from Kafka, measured on the machine of the targets."""
CGRATES_BEST = 6_410
"""The best that was found: JSON-RPC, all data in the memory of the process, nothing kept."""


def report(results: Path) -> str:
    """Return README.md of whatever results there are."""
    parts = {path.stem: orjson.loads(path.read_bytes()) for path in results.glob("*.json")}
    text = [_HEAD]
    for name, section in PARTS.items():
        if name in parts:
            text.append(section(parts[name]))
    text.append(_TAIL)
    return "\n".join(text)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"


def _judged(value: float, bound: float, *, least: bool = False) -> str:
    return "yes" if (value >= bound if least else value <= bound) else "**no**"


def _spread(values: Sequence[float], form: str = "{:.1f}") -> str:
    return f"{form.format(min(values))} / {form.format(median(values))}"


def _main(found: dict[str, Any]) -> str:
    rounds, about = found["rounds"], found["about"]

    def each(of: Callable[[dict[str, Any]], float]) -> list[float]:
        return [of(one) for one in rounds]

    def of(name: str) -> list[float]:
        return each(lambda one: one["worker"][name])

    sides = median(each(lambda one: one["worker"]["sides"] / one["worker"]["cdrs"]))
    worker, redis = of("worker_us"), of("redis_us")
    ratio = each(lambda one: one["worker"]["worker_us"] / one["pass_us"])
    side, redis_side = [us / sides for us in worker], [us / sides for us in redis]
    core = 1e6 / median(worker)
    times = (core / CGRATES_KAFKA[1], core / CGRATES_KAFKA[0])
    rows = [
        ("worker, CPU of a CDR side", f"{_spread(side)} µs", "≤ 8 µs", _judged(median(side), 8)),
        ("ratio to the pass-through", _spread(ratio), "≤ 2.2", _judged(median(ratio), 2.2)),
        ("Redis, CPU of a CDR side", f"{_spread(redis_side)} µs", "≤ 5 µs", _judged(median(redis_side), 5)),
        (
            "CDRs per core-second of the worker, in times of CGRateS from Kafka",
            f"{times[0]:.0f} to {times[1]:.0f} ({core:,.0f})", "≥ 70", _judged(times[0], 70, least=True),
        ),
    ]  # fmt: skip
    more = [
        ("worker, CPU of a CDR", f"{_spread(worker)} µs (in the system: {_spread(of('worker_system_us'))})"),
        ("Redis, CPU of a CDR", f"{_spread(redis)} µs"),
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
        ("in times of the best of CGRateS (in memory, nothing kept)", f"{core / CGRATES_BEST:.0f}"),
        ("loading the catalog", f"{found['load_s']:.0f} s"),
        ("cores that other processes kept busy meanwhile", f"{median(of('others_cores')):.1f}"),
    ]
    where = _table(("stage", "share"), ((stage, f"{share:.0%}") for stage, share in found["stages"].items()))
    settings = ", ".join(f"{name} {value:,}" for name, value in about["settings"].items())
    world = found["world"]
    return f"""\
## What a CDR costs

{about["date"]}; {about["cpu"]}; Python {about["python"]}, aiokafka {about["aiokafka"]},
{about["redis"]}. {world["clients"]:,} clients (Zipf), {world["codes"]:,} codes, 1 to 5 limits each,
both sides in a fifth of the calls, JSON of 400 bytes; out come records of
{found["out_bytes"]:.0f} bytes, {sides:.2f} for each CDR. Every call goes to another number, of all codes
of the deck. Settings: {settings}.
{len(rounds)} rounds, in each the worker and then the pass-through; best / median:

{_table(("figure", "result", "target", "met"), rows)}
{_table(("besides", "result"), more)}
The time is CPU time, user and system, of the whole process, from `/proc`. The machine is shared
with other work and has fewer cores than there are busy processes, so CDRs a second say little;
CPU time says what a core of one's own would do, within some 15 % (neighbours cost cache misses).
CGRateS was measured on the machine of the targets, not in this run: {CGRATES_KAFKA[0]:,} to
{CGRATES_KAFKA[1]:,} CDRs per core-second from Kafka, where it loses and repeats debits in a crash.

### Where the time goes

A sampled profile of one more run; the flame graph is [results/flame.svg](results/flame.svg).

{where}
{_TRIED}"""


_TRIED = """\
### What was tried, and the floor

The targets were set on a machine where the pass-through took 3.7 µs; what it takes here is in the
table, so compare ratios. Steps that were taken last, each measured before and after on one machine (the
first two on one 2.4 times as slow as it is when quiet, with a pass-through of 4.1 µs):

- What matching works out is kept by package and shared by clients, no longer by client and code, and a
  transaction's text by client and by rate, no longer by both: 135 → 55 µs of a side in-process for clients
  that have not called before (`line.py`, new), 176 → 104 µs of a CDR in the worker after 60,000 CDRs,
  667 → 353 MB of its memory.
- What the sides of a call share is told apart by client first: 4 → 1.5 look-ups for each side.
- Clients share it whenever their packages began, not only those that began in the same second; a view that is
  kept is 11 objects for the collector, not 20; a new period takes 10 µs, not 20: 42 → 31 µs of a side
  in-process for new clients, 27 → 24 for known ones.
- The collector looks after 100,000 new objects: 50,000 took more time (4.9 % of the worker's, 250,000 took
  2.1 %), 250,000 stopped it for 110 ms at once, 100,000 do for 50 and take as little.
- A lane that keeps up begins a batch `batch_age_ms` after the last one, and asks twice for what has come:
  before, it slept after the first record came, and what the library had fetched ahead held back the rest.
  At 12,000 CDR/s p50 100 → 40 ms; with an age of 2 ms 100 → 15 (that of four lanes was never below 48).
- A code of a rate table has one place, not two, and codes of one price share what is made of it: of 300,000
  codes in turn a look-up takes 1.3 µs in place of 2.0, the first one 3.5 in place of 5.8, in-process on a day
  when all took three times as long. A client's account is looked at once, when its route is made: identifying
  sides of new clients 6.3 to 8.1 → 4.9 to 5.1 µs, on that day too.
- With many packages a call has several candidates, and clients with the same packages now share how their
  counters are numbered in a draw call; what a transaction says of a client's packages is packed once, not for
  each draw call: with 50 packages matching 27 to 31 → 15 to 21 µs of a side and packing 8 → 3.4 to 5.7,
  in-process on that day (with one package 12 to 15 → 10 to 12).
- hiredis packs the commands of Redis, no longer redis-py in Python: 560 → 130 µs for a call with 700 keys,
  of which a side has one.

Tried and left out, for it gained nothing that could be told from the noise: batches of 250 or 1,000
records in place of 4,000 (41 and 45 in place of 46 in-process, and more calls to Redis), identifying and
matching by 64 or 256 sides before the next (34 and 32 in place of 35 for `known`, one run as far from the
next), malloc in place of Python's own allocator, with and without huge pages, Python 3.13, uvloop (5 % at
3,000 CDR/s, 3 % at 12,000), and compiling the core by mypyc 2.4 (matching, rating, batching and six more; 31
and 32 in place of 28 to 31 for `known`): its fields are msgspec's, which compiled code reaches no faster than
the interpreter of 3.11. A client's state in Redis as one msgpack string in place of a hash (MGET and MSET of
a call's 700 clients in place of HMGET and HSET of each; the Lua function alone, as Redis tells its time): 2.6
µs of a client in place of 2.6 to 2.8 with 10,000 clients, 3.2 to 4.0 in place of 3.8 to 4.3 with 1,000,000:
what the commands save, packing in Lua takes.

The floor: `line.py small` is the same code with all it touches in the processor's nearest cache, that is
the instructions alone: 11 µs of a side on the quiet machine (18 to 29 on the day of the table); the rest of
`known` (24) is memory, of `new` (31) the first call of a client. The interpreter's loop is a third of the
time and no function has a tenth of it (perf); a side takes 1,860 bytecodes in 31 calls of Python, 133,000
instructions of the processor (callgrind), and no function has an eighth of them: less would need fewer
objects for each side (some 30 now), or compiled code. Kafka and Redis add what the pass-through costs and
some 4 µs of calls. In Redis a seventh of the time is making Lua strings, of which each key, field and
answer is one; a tenth each are finding keys and running Lua, the rest has no large part (perf): a side
needs two commands for its client and one or two for its duplicate, 1 to 1.5 µs each.
"""


def _latency(found: dict[str, Any]) -> str:
    rows = []
    for label, bound in (("default", 250), ("low latency", 50)):
        half = next(step for step in found[label]["steps"] if step["share"] == 0.5)  # noqa: PLR2004 - half load
        age_ms, partitions = (found[label]["settings"][name] for name in ("age_ms", "partitions"))
        rows.append((
            f"p99 at half load, {label} (`worker.batch_age_ms = {age_ms}`, partitions {partitions})",
            f"{half['p99_ms']:.0f} ms", f"≤ {bound} ms", _judged(half["p99_ms"], bound),
        ))  # fmt: skip
        kept = [step for step in found[label]["steps"] if step["p99_ms"] <= bound]
        most = f"{kept[-1]['share']:.0%}, {kept[-1]['rate']:,.0f} CDR/s" if kept else "none"
        rows.append((f"the highest load with p99 ≤ {bound} ms, {label}", most, "", ""))
    shares = [step["share"] for step in found["default"]["steps"]]
    table = []
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
        table.append(row)
    head = ["load"]
    for label in found:
        head += [f"CDR/s, {label}", "p50 ms", "p99 ms", "CPU µs"]
    return f"""\
## Latency

From sending a CDR to reading its transaction (`read_committed`), with the sender and the reader on
the same machine. The load is a share of what the worker did with a full topic just before.

{_table(("figure", "result", "target", "met"), rows)}
{_table(head, table)}
A lane that keeps up begins a batch `worker.batch_age_ms` after the last one; else a batch closes by count
(`worker.batch_records_max`) or by bytes (what one fetch brings, 2 MiB of a partition). A batch costs the
worker 2 to 4 ms and the broker 2 ms whatever it carries (at 1,000 CDR/s on four lanes 3.5 of the worker's
4.5 ms of a commit, nearly all of it in the client libraries and asyncio, no function with a tenth), and
four lanes with an age of 2 ms make 300 of them a second: a core of each. So low latency takes few lanes as
well as a short age: as many partitions as workers.

How much is left over decides: worker, broker, Redis, the sender and the reader share these two cores (at
half load the worker takes 0.7 of one, the sender and the reader 0.2), and a core is what is waited for. It
is not the collector: when that looked after 10,000 objects in place of 100,000, so for 5 ms at a time in
place of 50, p99 with low latency at 8,000 CDR/s was 83 to 133 ms in place of 65 to 81. The servers are
warm: in the first minute the broker compiles its code, for which it takes 0.9 of a core in place of 0.3 at
1,000 CDR/s, where p99 was then 178 ms, and 70 after it. Measured without that minute, and with cores a
third as quick, p99 at half load was 430 ms by default and 348 with low latency.

![p99](results/latency-p99.svg)
![p50](results/latency-p50.svg)
"""


GROWTH = {"clients": 1.3, "packages": 1.5, "codes": 1.1}
"""How much more CPU the largest may cost than the smallest; "flat" is within the noise."""


_GROWTH_HEAD = """\
CPU of a CDR, worker and Redis, and how many calls a worker had seen before: of a line as many for each point,
and twice as many as the largest has codes or clients. Where a line is about something else: 20,000 clients
(2,000 for packages), 36,235 codes, 4 partitions, one worker.
"""

_SAME = (("partitions", 1), ("workers", 0), ("hot", 0), ("usual", 0), ("duplicates", 0))
"""Where the lines cross: all that they are about as it is elsewhere."""

_GROWTH_TWICE = """\
Each line was measured there and back, packages and workers twice so, 1,000,000 clients in one direction; the
best counts, for a neighbour on the machine only ever makes it slower.
"""

_GROWTH_WHY = {
    "codes": """\
With a hundred codes all that belongs to one lies in the processor's caches, and a draw call has each rate
and most amounts several times, which are then packed and written once. From 36,235 to 300,000 it is within
the noise. Measured after 40,000 calls, with the first look at nearly each of 300,000 codes among them, it
was 1.27.
""",
    "clients": """\
Nothing is searched by client; what grows is that fewer calls of a draw are of one client (two commands of
Redis for each), that a client's keys, view and packages are in no cache, and that with 1,000,000 a tenth of
the measured sides is still the first of its client (by Zipf's law), which has to be fetched, decoded and
opened.
""",
}


def _growth(found: dict[str, Any]) -> str:
    text = [
        "## Growth\n",
        _GROWTH_HEAD,
    ]
    every = [point for line in found.values() for point in line["points"]]
    if any(point.get("rounds", 1) > 1 for point in every):
        text.append(_GROWTH_TWICE)
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
        text.append(f"### By {line['title']}\n\n{line['date']}.\n\n{_table(head, rows)}")
        ratios = [_times(points, *of) for of in (("worker_us",), ("redis_us",), ("worker_us", "redis_us"))]
        if name in GROWTH:
            bound = "flat (1.1)" if name == "codes" else f"{GROWTH[name]}"
            text.append(
                f"Largest to smallest: worker {ratios[0]:.2f}, Redis {ratios[1]:.2f}, both together "
                f"{ratios[2]:.2f}; target: ≤ {bound}; met: {_judged(max(ratios), GROWTH[name])}.\n"
            )
        if name == "workers":
            text.append(
                f"Two workers, CPU of a CDR in times of one: {ratios[0]:.2f}; target: two do ≥ 1.8 times\n"
                f"the work of one, that is ≤ 1.11 (on two cores the rate cannot show it); met: "
                f"{_judged(ratios[0], 2 / 1.8)}.\n"
            )
        if name in _GROWTH_WHY:
            text.append(_GROWTH_WHY[name])
        text.append(f"![{name}](results/growth-{name}.svg)\n")
    return "\n".join(text)


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
            _judged(found["package_whole"], 400),
        ),
        ("entry of the duplicates", found["duplicate"], "≤ 40", _judged(found["duplicate"], 40)),
    ]  # fmt: skip
    table = _table(
        ("thing", "bytes", "target", "met"), ((name, f"{size:.0f}", *rest) for name, size, *rest in rows)
    )
    return f"""\
## Memory of Redis

What `MEMORY USAGE` (all samples) says of the keys before and after {found["clients"]:,} of each were
added ({found["entries"]:,} duplicates); that is {found["explained"]:.0%} of the growth of `used_memory`
meanwhile, the rest being the server's main table and buffers.

{table}
{_FORMULAS}"""


def _load(found: dict[str, Any]) -> str:
    rows = [
        (
            str(run["workers"]), f"{run['seconds']:.0f} s", "≤ 60 s", _judged(run["seconds"], 60),
            _latencies(run["before_ms"]), _latencies(run["meanwhile_ms"]),
            " + ".join(f"{mb:.0f}" for mb in run["worker_mb"]) + " MB", f"{run['redis_mb']:.0f} MB",
        )
        for run in found["runs"]
    ]  # fmt: skip
    head = (
        "workers", "result", "target", "met", "before, p50 / p99 / most", "meanwhile", "memory: workers",
        "Redis (used)",
    )  # fmt: skip
    return f"""\
## Loading

`rater load` of {found["clients"]:,} clients with an account and a client package each (JSON,
{found["file_mb"]:.0f} MB), from the command's start to its end, while {found["rate"]:,.0f} CDR/s of others
are rated; all on two cores. Before and meanwhile: the latency of these, end to end.

{_table(head, rows)}
{_LOADED}"""


def _latencies(ms: dict[str, float]) -> str:
    return " / ".join(f"{each:.0f}" for each in ms.values()) + " ms"


_LOADED = """\
The two cores do all of it: 1,000 CDR/s alone take 0.9 of one once the servers are warm (worker 0.3, broker
0.3, sender and reader 0.2), 1.1 to 1.5 before. The loader and the worker come one after the other, for
nothing is applied before all was checked: 300,000 clients took the loader 14 and then the worker 14 s
beside the calls, and 28 s in all with no calls. What a client takes, in
µs of CPU: the loader 33 (reading 15, merging 7, asking Redis for what there is 4, writing 3), the worker 30
(4 of them Redis' calls, 3 the commit), no function with a tenth of it. One after the other that is 63 s of a
core for 1,000,000: the floor of this code on such a day.

What was done: the loader reads rows whose fields all have their types at once (23 → 15 µs), and a JSON file
becomes these rows without mappings between, which costs counting its names, for msgspec does not see that
one comes twice (16 → 11); the collector waits meanwhile; hiredis packs what Redis is told (a tenth of the
worker's part before). Of the same 300,000 clients beside calls the last step took 33 → 30 s. A poll returns
two of the 400 clients' commands: with all that one fetch brings (136, 23 MB), calls waited 8 s for 200,000
clients and 27 s for 1,000,000. Two workers share the second part. On the two days before, one worker took
114 to 176 s, with a p99 of 758 to 1,140 ms meanwhile: the machine's speed differs by a factor of two and
more.
"""


_FORMULAS = """\
What it is made of (Redis 8 with jemalloc, which rounds each allocation up to a size class: steps of
16 bytes to 128, then of a fifth to an eighth):

- client: the hash `c:ID` (a listpack of `v`, `b` and the counters) and the string `r:ID` (the
  register, msgpack), each with its key and entry of the main table, and a field of the account
  index `a:` for each account;
- client package: its part of the register, 40 to 60 bytes of msgpack, in steps of the size classes;
- period counter: a field `PACKAGE.PERIOD.LIMIT` and a number in the listpack of `c:ID`: the length
  of the field + 2, and 2 to 9 for the number; with more than 128 fields the hash becomes a table of
  60 to 80 bytes for each;
- entry of the duplicates: 8 bytes of the key's digest and 4 of the content's, in the value of a group of some
  16 (`width_of` in functions.lua), which share a field of 2 or 3 bytes and its place in the hash
  `u:GENERATION`.
"""

PARTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "main": _main, "latency": _latency, "growth": _growth, "memory": _memory, "load": _load,
}  # fmt: skip

_HEAD = """\
# Benchmarks

    make bench            # the main measurement, memory, latency, loading: some 20 minutes
    make bench-growth     # the growth tables: most of an hour; one: benchmarks/run.py growth --line clients

One command runs the shipped worker, all guarantees on (deduplication, outcomes, journal headers,
transactions, `read_committed`), as its own process against a real Apache Kafka and a real Redis with
jemalloc, all from Python packages: nothing has to be installed. It writes this page, from
`results/*.json`.
"""

_TAIL = """\
## How it is measured

- `world.py` makes the catalog (the demo's deck, every code priced) and the CDRs; `system.py` starts
  servers and workers.
- A round begins with a warm-up: connecting, taking lanes, reading the catalog, filling caches (600,000
  calls, for with 200,000 many of the measured ones were the first of their client: 55 µs of a CDR, and 45
  after 1,000,000; for latency and loading a minute of 1,000 CDR/s). Then the worker has nothing left and
  stands still while the measured CDRs are put into the topics; the marks are where it goes on, and where
  the last of them is committed. What is committed it tells at `/metrics`, asked twice a second: 2 ms of its
  CPU each time, which are counted.
- `passing.py` is the pass-through: for each partition a consumer and a transactional producer, the
  settings of the worker, as many records of the same bytes (real ones of the first round), measured
  between the same marks. It keeps no offsets: it is the floor.
- `sampled.py` is the profiler: CPU time by stack, the collector apart.
- `tests/line/test_costs.py` is the guard in CI: calls, requests, bytes, memory and function calls of
  a CDR, which no busy machine changes.
- `line.py` measures the pure steps in-process, without Kafka and Redis.
- `loading.py` measures the reading and merging of catalogs.
"""
