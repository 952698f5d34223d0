"""What README.md of the results says besides its figures: how they are measured, and why they are so."""

HEAD = """\
# Benchmarks

    make bench            # the main measurement, memory, latency, loading, jobs: some 35 minutes
    make bench-growth     # the growth tables: most of an hour; one: benchmarks/run.py growth --line clients
    .venv/bin/python benchmarks/run.py main --against TREE   # with the build of another working tree beside
    .venv/bin/python benchmarks/offline.py                   # a CDR rated in memory, without servers

One command runs the shipped worker, all guarantees on (deduplication, outcomes, journal headers,
transactions, `read_committed`), as its own process against a real Apache Kafka and a real Redis with
jemalloc, all from Python packages: nothing has to be installed. It writes this page, from
`results/*.json`.
"""

CGRATES = """\
CGRateS was not measured in this run, but on 29 November 2026 beside the worker of that day, which had no
native engine: one machine of two shared cores, A B A B, each with its own Redis 8.2.3 and Kafka 4.3.1, an
event of 415 bytes, 60,000 measured after 20,000 (200,000 after 200,000 of rater), CPU from `/proc`; the
newest source to be had then (master of 30 June 2026, "v0.11.0~dev"), tuned by its documentation. Increments
of 1 s:

| engine | CPU of a CDR | per core-second |
|---|---|---|
| CGRateS, from Kafka, data in Redis | 217 to 257 µs, Redis 26 to 31 | 3,890 to 4,610 |
| CGRateS, the same, rated CDRs exported to Kafka | 287, 322 µs | 3,110 to 3,490 |
| CGRateS at its best: JSON-RPC, all in its memory, nothing kept | 132, 139 µs | 7,180 to 7,580 |
| rater of that day, calls as above | 33.8 to 36.4 µs, Redis 7.8 to 8.9 | 27,500 to 29,600 |

So it was 6.2 to 6.5 times CGRateS from Kafka, 3.6 to 4.1 times its best; the rows above multiply that by what
the worker gained since, in this run. With increments of 60 s the same ratios were 4.1 to 4.9 and 2.3 to 2.9.
"""

TRIED = """\
### What was tried, and the floor

The rounds of 30 November 2026 (2 x Intel Xeon) lie far apart: 0.30, 0.31 and 0.22 of the build before,
3.0, 3.0 and 2.2 pass-throughs. On the machine of the day before (2 x AMD EPYC, where a pass-through took
4.6 µs, not 7), without the steps that follow, it was 0.23 of the build before (15 of 65 µs), 3.3
pass-throughs, and 2.5 with 20,000 clients. What they gave the native engine alone (`natively.py`, 20,000
clients, µs of a CDR, little else running): 8.5 → 5.6 for clients that have not called before, 6.7 → 5.2
for known ones, 5.3 → 4.0 with all in the nearest cache:

- rates of a draw are told apart by their place in the table, not by what a transaction says of them, which
  is written where it goes: putting requests together 2.0 → 1.6;
- what is rendered, sent and kept of a batch has room from the start, for a buffer that grows is copied and
  mapped anew: rendering for new clients 2.5 → 1.1;
- what transactions of a client share is written without formatting: 1.6 → 1.2.

Tried and left out: huge pages for what is allocated (glibc's own setting; 100,000 clients: all but
writing 5.4 → 4.9 µs for known ones, but writing results 1.1 → 2.2, for large pieces are cleared anew for
each batch: 6.6 → 7.8 in all); another allocator (mimalloc: 5.2 → 5.0 and 4.1 → 3.6, but 5.7 → 8.6 for new
clients, as it gives memory back between batches; and it wants a compiler of C); zstd at level -1 (0.17 of
1.2 µs of a record, 16 % more bytes), by a library that keeps its context (0.2, one more dependency), lz4
(4.3 µs, 19 % more bytes), snappy (0.7, 60 % more bytes). What is left of a CDR with 20,000 clients,
sampled: 42 % the engine, 12 % zstd, 12 % the client library's reading (both are the pass-through's, too),
8 % freeing what was read, 8 % the calls to Redis. The engine's part is spread: no function has a tenth,
copying of texts an eighth of all. With 100,000 clients the same work waits for memory: some 1.5 times as
long.

What follows is of the steps in Python. Steps that were taken last, each measured before and after on one
machine (the first two on one 2.4 times as slow as it is when quiet, with a pass-through of 4.1 µs):

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

GROWTH_HEAD = """\
CPU of a CDR, worker and Redis, and how many calls a worker had seen before: of a line as many for each point,
and twice as many as the largest has codes or clients. Where a line is about something else: 20,000 clients
(2,000 for packages), 36,235 codes, 4 partitions, one worker.
"""

GROWTH_TWICE = """\
Each line was measured there and back, packages and workers twice so, 1,000,000 clients in one direction; the
best counts, for a neighbour on the machine only ever makes it slower.
"""

GROWTH_WHY = {
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

FORMULAS = """\
What it is made of (Redis 8 with jemalloc, which rounds each allocation up to a size class: steps of
16 bytes to 128, then of a fifth to an eighth):

- client: the hash `c:ID` (a listpack of `v`, `b` and the counters) and the string `r:ID` (the
  register, msgpack), each with its key and entry of the main table, and a field of the account
  index `a:` for each account;
- client package: its part of the register, 40 to 60 bytes of msgpack, in steps of the size classes;
- period counter: a field `PACKAGE.PERIOD.LIMIT` and a number in the listpack of `c:ID`: the length
  of the field + 2, and 2 to 9 for the number; with more than 128 fields the hash becomes a table of
  60 to 80 bytes for each;
- entry of the duplicates: 8 bytes of the key's digest and 4 of the content's, in a string for each call in
  the hash `u:GENERATION`, and 8 to 16 cells of 3 bytes in the string `f:GENERATION`; the figures here are
  of groups, as they were before.
"""

LOADED = """\
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
worker's part before). Of the same 300,000 clients beside calls the last step took 33 → 30 s. A poll
returned two of the 400 clients' commands when the table was measured: with all that one fetch brings (136,
23 MB), calls waited 8 s for 200,000 clients and 27 s for 1,000,000. Since then commands bring 200
clients and a poll returns one: of 200,000 clients, before and after it, p99 of the calls meanwhile went from
1,195 to 680 ms and the load from 34 to 42 s (400 clients, one a poll: 994 ms, 43 s; 100 clients, one a poll:
713 ms, 50 s). At 1,000,000 that is not measured yet. What a client takes, above, is of an earlier build.
Two workers share the second part. On the two days before, one worker took
114 to 176 s, with a p99 of 758 to 1,140 ms meanwhile: the machine's speed differs by a factor of two and
more.

Since that table, in-process (`loading.py`; µs of a client, the build before and this one in turn, each three
times, on a machine with five times the work that its cores could do; each client package opens two periods):
planning 142 to 175 → 14, merging 28 to 35 → 8, for what clients have in common is worked out once ([decision
0118](../src/rater/decisions/0118-clients-that-are-alike.md)). Who loads looks at the events of its parts
alone, not at those of clients, of which there are three and more for each. 60,000 clients beside calls took
24 → 12 s on that machine.
"""

RENEWED = """\
A side is one of those clients' calls, measured just before in the same worker; of what renewals took, what
the worker took while nothing came is taken off. One is: reading the state; the plan, that is what is due, the
period, the fee and the event; writing all of it; and in Kafka a record for each of fee, event and state.

What was done, the in-process figure (`line.py`, `renewals`: µs of one) before and after, on a shared machine:

- What is due of a client package is looked at twice in place of five times, and of ten that are due at once
  twice each in place of a dozen times: 120 → 97, and of a client with ten 1,300 → 720.
- Fees, boundaries and the texts of instants that many clients have in common are worked out once, and a
  state is read again only where more of its client is due: 97 → 60, with ten 720 → 500.
- A lane that has due work ready does not wait for records before it writes the next tick: 370 → 2,100
  renewals a second without calls (20,000 of them). With three ticks of a bucket out, not one, 6,100 were
  renewed a second beside 2,000 CDR/s in place of 3,700, but p99 of the calls was 3.2 times that before in
  place of 1.7.
- Of hints that are due a lane has 5,000 of a bucket in memory, not all.
- Without calls the next tick goes out in the commit of what the one before did; a tick reads states and makes
  no views of them; what is planned asks for versions, dates and fields less often: 49 → 40.

Before it a renewal took 214 µs of the worker, 6.8 times a side of that day.
"""

RERATED = """\
The job runs with `nice -n 10`, for it shares the cores of worker and servers here. A call that ends as it did
is never an object of Python; where the rest of its time goes: [decision
0121](../src/rater/decisions/0121-a-re-rate-by-bytes.md).
"""

TAIL = """\
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
- `line.py` measures the pure steps in-process, without Kafka and Redis, `natively.py` the native engine.
- `script.py` measures what the functions in Redis take of a side, beside other versions of them.
- `loading.py` measures the reading and merging of catalogs.
- `reading.py` measures the read model, `filling.py` fills one for its lists; `results/reading.json` is
  what its `--json` wrote, put together.
"""
