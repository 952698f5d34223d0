"""The faults, one coroutine each: it hurts a running installation, and leaves it so that it can heal.

A kind's docstring says what happens; `rows` are the faults of tests/README.md that it covers. What must hold
after each is always the same: everything goes on, and the auditor finds nothing.
"""

from __future__ import annotations

import asyncio
import resource
import shutil
import signal
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Literal

import psutil
from redis.exceptions import RedisError

from faults import proxy
from faults.hooked import POINTS
from faults.proxy import Rule
from faults.rig import BUCKETS, REDIS_TIMEOUT_S, SESSION_MS, Rig, Slot, limited, unlimited, until
from rater.local.redis import Redis

DAY_NS = 86_400 * 10**9
ARMED_S = 10.0
"""So long a rule waits for its request: an idle worker may have none."""
DRAW = b"rater_v4_draw", b"rater_v4_change"


Family = Literal["worker", "kafka", "redis", "loss"]
"""Who is hurt. loss: Redis forgets what it had said yes to."""


@dataclass(frozen=True)
class Kind:
    """A fault: how it is done, which faults of the list it is, how often it is done in a full run."""

    name: str
    do: Callable[[Rig], Awaitable[None]]
    rows: tuple[str, ...]
    times: int
    family: Family
    quick: bool
    """Whether it is short enough for `make test`."""

    @property
    def told(self) -> str:
        """What happens, in a sentence."""
        return " ".join((self.do.__doc__ or "").split())


KINDS: dict[str, Kind] = {}


Fault = Callable[[Rig], Awaitable[None]]


def kind(family: Family, *rows: str, times: int = 10, quick: bool = True) -> Callable[[Fault], Fault]:
    """Note a fault under the name of its coroutine."""

    def note(do: Fault) -> Fault:
        KINDS[do.__name__] = Kind(do.__name__, do, rows, times, family, quick)
        return do

    return note


# --- workers


@kind("worker", "F1", times=15)
async def worker_killed(rig: Rig) -> None:
    """A worker is killed (SIGKILL) at a random moment; another is started in its place."""
    await rig.end(rig.any_running())


@kind("worker", "F4", times=6)
async def worker_frozen(rig: Rig) -> None:
    """A worker is frozen (SIGSTOP), beyond the session timeout, until others have its lanes; then goes on."""
    slot = await rig.owning()
    lanes = rig.lanes_of(slot)
    assert slot.process is not None
    slot.process.send_signal(signal.SIGSTOP)
    try:
        await taken_over(rig, slot, lanes)
    finally:
        slot.process.send_signal(signal.SIGCONT)


async def taken_over(rig: Rig, slot: Slot, lanes: list[int]) -> None:
    """Wait until lanes of a slot's worker belong to others."""
    if len(rig.running()) < 2:
        rig.launch(next(one for one in rig.slots if not one.alive))
    await until(
        lambda: not set(lanes) & set(rig.lanes_of(slot)),
        f"lanes {lanes} of worker {slot.number} are taken over",
    )


@kind("worker", "F6", times=10)
async def worker_drained(rig: Rig) -> None:
    """A worker is told to end (SIGTERM): it publishes what it has drawn and ends with 0."""
    slot = await rig.owning()
    code = await rig.end(slot, signal.SIGTERM)
    assert code == 0, f"code {code}: {slot.log.read_text()[-600:]}"


@kind("worker", "F5", times=6, quick=False)
async def loop_blocked(rig: Rig) -> None:
    """A worker's event loop is blocked for longer than the session timeout, heartbeats included."""
    slot = await rig.owning()
    assert slot.process is not None
    slot.process.send_signal(signal.SIGUSR1)


@kind("worker", "F7", times=8)
async def memory_short(rig: Rig) -> None:
    """A worker gets no more memory than it has (RLIMIT_AS): it dies of it or goes on, and skips nothing."""
    async with short_of(rig, resource.RLIMIT_AS, lambda process: process.memory_info().vms + 2**16):
        await asyncio.sleep(rig.rng.choice([1, 4]))


@kind("worker", "F7", times=8)
async def files_short(rig: Rig) -> None:
    """A worker can open no further file or connection (RLIMIT_NOFILE), and all its connections are reset."""
    async with short_of(rig, resource.RLIMIT_NOFILE, lambda process: process.num_fds()) as slot:
        slot.redis.reset()
        slot.kafka.reset()
        await asyncio.sleep(rig.rng.choice([1, 4]))  # where Redis was lost too, all lanes wait for this one


@asynccontextmanager
async def short_of(rig: Rig, what: int, have: Callable[[psutil.Process], int]) -> AsyncIterator[Slot]:
    """Limit a worker to what it has, until the end."""
    slot = await rig.owning()
    assert slot.process is not None
    process = slot.process
    slot.ended_by_us = True
    limited(process.pid, what, have(psutil.Process(process.pid)))
    try:
        yield slot
    finally:
        if process.poll() is None:
            unlimited(process.pid, what)  # it may still die of it: `ended_by_us` stays


@kind("worker", "F8", times=12)
async def clock_jumps(rig: Rig) -> None:
    """A worker's wall clock jumps by up to a day, forwards or backwards, while it runs, and later back."""
    slot = await rig.owning()
    offset = rig.rng.choice([-DAY_NS, DAY_NS, -60 * 10**9, 3600 * 10**9])
    with slot.clock.open("r+b") as file:
        file.write(struct.pack(">q", offset))
    try:
        await rig.progress(everywhere=True)
    finally:
        with slot.clock.open("r+b") as file:
            file.write(struct.pack(">q", 0))


@kind("worker", "F3", times=30)
async def dies_at_a_point(rig: Rig) -> None:
    """A worker kills itself at a point of taking a lane, drawing or committing, at its 1st to 4th passing."""
    await at_a_point(rig, "SIGKILL")


@kind("worker", "F3", "F4", times=10, quick=False)
async def freezes_at_a_point(rig: Rig) -> None:
    """A worker stops at one of those points until others have its lanes, then goes on there as a zombie."""
    await at_a_point(rig, "SIGSTOP")


async def at_a_point(rig: Rig, number: str, name: str | None = None) -> None:
    """Start a worker that sends itself a signal at a point, random without a name, in place of another."""
    point = f"{name or rig.rng.choice(list(POINTS))}:{rig.rng.randrange(1, 5)}:{number}"
    slot = rig.any_running()
    await rig.end(slot)
    rig.launch(slot, point)
    assert slot.process is not None
    process = psutil.Process(slot.process.pid)
    slot.ended_by_us = True

    def there() -> bool:
        others = [one for one in rig.running() if one is not slot]
        if not others:
            rig.launch(next(one for one in rig.slots if not one.alive))
        return not slot.alive or process.status() == psutil.STATUS_STOPPED

    try:
        await until(there, point, ARMED_S)
    except AssertionError:
        await rig.end(slot)  # a point that was not passed so often; killed it is all the same
        return
    if slot.alive:
        try:
            await asyncio.sleep(SESSION_MS / 1000 + 1)  # it may have lanes that it has not claimed yet
            await taken_over(rig, slot, rig.lanes_of(slot))
        finally:
            slot.process.send_signal(signal.SIGCONT)
        slot.ended_by_us = False


@kind("worker", "F10", times=6, quick=False)
async def workers_come_and_go(rig: Rig) -> None:
    """A third worker joins and leaves, again and again, before the lanes have come to rest."""
    slot = next((one for one in rig.slots if not one.alive), None)
    if slot is None:
        slot = rig.any_running()
        await rig.end(slot)
    for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        rig.launch(slot)
        before = len(rig.watched.owners)
        await until(lambda before=before: len(rig.watched.owners) > before, "a lane is taken")  # type: ignore[misc]
        await rig.end(slot, how)


# --- Kafka


@kind("kafka", "F12", "F13", times=12)
async def broker_killed(rig: Rig) -> None:
    """The broker is killed, with all its coordinators, in mid transaction; then it is restarted."""
    await asyncio.to_thread(rig.servers.kafka.kill)
    await asyncio.to_thread(rig.servers.kafka.restart)


@kind("kafka", "F12", times=4, quick=False)
async def broker_restarted(rig: Rig) -> None:
    """The broker is stopped in order and started again."""
    await asyncio.to_thread(rig.servers.kafka.restart)


@kind("kafka", "F14", times=5, quick=False)
async def broker_frozen(rig: Rig) -> None:
    """The broker is frozen for longer than a request may take, then goes on."""
    rig.servers.kafka.pause()
    try:
        await asyncio.sleep(rig.rng.choice([2, 5, 12]))
    finally:
        rig.servers.kafka.resume()


@kind("kafka", "F12", times=4, quick=False)
async def broker_disk_full(rig: Rig) -> None:
    """The broker can write nothing more (RLIMIT_FSIZE, as a full disk): it gives up, and is restarted."""
    kafka = rig.servers.kafka
    limited(kafka.pid, resource.RLIMIT_FSIZE, 1)
    try:
        await until(lambda: not kafka.running, "the broker gives up", 30)
    except AssertionError:
        unlimited(kafka.pid, resource.RLIMIT_FSIZE)
        await asyncio.to_thread(kafka.kill)
    await asyncio.to_thread(kafka.restart)


async def at_kafka(
    rig: Rig, apis: set[int], action: proxy.Action, *, times: int = 1, seconds: float = 0
) -> None:
    """Do something to the next requests of a worker to Kafka, or to their answers."""
    await armed(rig, "kafka", Rule(apis, action, times=times, seconds=seconds))


async def armed(rig: Rig, which: str, rule: Rule) -> None:
    """Let a rule hold for a worker until it is used up."""
    slot = await rig.owning()
    gate = slot.kafka if which == "kafka" else slot.redis
    gate.arm(rule)
    try:
        await until(rule.used_up.is_set, "the rule is used up", ARMED_S)
    except AssertionError:
        rig.missed += not rule.hits
    finally:
        gate.rules = [one for one in gate.rules if one is not rule]


@kind("kafka", "F15", times=20)
async def end_of_transaction_cut(rig: Rig) -> None:
    """The broker ends a Kafka transaction, and the connection is reset before the answer."""
    await at_kafka(rig, {proxy.END_TXN}, "cut", times=rig.rng.randrange(1, 4))


@kind("kafka", "F15", times=5)
async def end_of_transaction_lost(rig: Rig) -> None:
    """The answer to the end of a Kafka transaction never comes, and the connection stays."""
    await at_kafka(rig, {proxy.END_TXN}, "lose")


@kind("kafka", "F15", times=15)
async def end_of_transaction_late(rig: Rig) -> None:
    """The request to end a Kafka transaction arrives when its lane was long taken again (KAFKA-17754)."""
    await at_kafka(rig, {proxy.END_TXN}, "late", seconds=rig.rng.choice([0.5, 2, 5]))


@kind("kafka", "F15", times=20)
async def produce_cut(rig: Rig) -> None:
    """Records are appended, and the connection is reset before the acknowledgement."""
    await at_kafka(rig, {proxy.PRODUCE}, "cut", times=rig.rng.randrange(1, 4))


@kind("kafka", "F15", times=12, quick=False)
async def produce_late(rig: Rig) -> None:
    """Records are delivered to the broker when the connection that brought them has been reset."""
    await at_kafka(rig, {proxy.PRODUCE}, "late", seconds=rig.rng.choice([0.2, 1, 3]))


@kind("kafka", "F15", times=12)
async def produce_held(rig: Rig) -> None:
    """Acknowledgements come seconds late."""
    await at_kafka(rig, {proxy.PRODUCE, proxy.END_TXN}, "hold", times=3, seconds=rig.rng.choice([0.5, 2]))


@kind("kafka", "F13", times=12)
async def transaction_start_cut(rig: Rig) -> None:
    """The answers to adding partitions to a Kafka transaction, or to a producer's start, are cut off."""
    rig.any_running().kafka.reset()
    await at_kafka(
        rig, {proxy.INIT_PRODUCER_ID, proxy.ADD_PARTITIONS, proxy.FIND_COORDINATOR}, "cut", times=2
    )


@kind("kafka", "F10", "F13", times=12)
async def group_answers_cut(rig: Rig) -> None:
    """The group coordinator's answers (join, sync, heartbeat) are cut off, also in a rebalance."""
    await at_kafka(
        rig, {proxy.JOIN_GROUP, proxy.SYNC_GROUP, proxy.HEARTBEAT}, "cut", times=rig.rng.randrange(1, 4)
    )


@kind("kafka", "F22", times=12)
async def fetch_cut(rig: Rig) -> None:
    """What was fetched does not arrive: records of several topics are on their way."""
    await at_kafka(rig, {proxy.FETCH}, "cut", times=rig.rng.randrange(1, 6))


@kind("kafka", "F21", times=15)
async def kafka_connections_reset(rig: Rig) -> None:
    """All connections of a worker to Kafka are reset at once."""
    rig.any_running().kafka.reset()


@kind("kafka", "F21", times=6)
async def cut_off_from_kafka(rig: Rig) -> None:
    """A worker is cut off from Kafka, and not from Redis, until others have its lanes."""
    slot = await rig.owning()
    lanes = rig.lanes_of(slot)
    rig.rng.choice([slot.kafka.shut, slot.kafka.silence])()
    try:
        await taken_over(rig, slot, lanes)
    finally:
        slot.kafka.heal()


# --- Redis


@kind("redis", "F24", times=12)
async def redis_killed(rig: Rig) -> None:
    """Redis is killed and restarted with what its append-only file holds."""
    await asyncio.to_thread(rig.primary.kill)
    await asyncio.to_thread(rig.primary.restart)


@kind("loss", "F25", times=10)
async def redis_tail_cut(rig: Rig) -> None:
    """Redis is killed, and the last bytes of its append-only file are gone: it is a little older."""
    await asyncio.to_thread(rig.primary.kill)
    files = sorted((rig.primary.folder / "appendonlydir").glob("*.incr.aof"))
    if files:
        size = files[-1].stat().st_size
        with files[-1].open("r+b") as file:
            file.truncate(max(0, size - rig.rng.randrange(1, 60_000)))
    await asyncio.to_thread(rig.primary.restart)


@kind("loss", "F26", times=12)
async def redis_restarts_empty(rig: Rig) -> None:
    """Redis is killed and comes back without any data or function."""
    await rig.empty(rig.primary)


@kind("loss", "F26", times=12)
async def redis_flushed(rig: Rig) -> None:
    """FLUSHALL, under load."""
    await rig.redis("FLUSHALL")


@kind("loss", "F26", times=12)
async def bucket_deleted(rig: Rig) -> None:
    """All keys of one bucket are deleted; the others stay."""
    bucket = rig.rng.randrange(BUCKETS)
    await rig.redis(
        "EVAL",
        "local at = '0' repeat local r = redis.call('SCAN', at, 'MATCH', ARGV[1], 'COUNT', 1000) at = r[1] "
        "for _, key in ipairs(r[2]) do if not string.find(key, ':meta') then redis.call('DEL', key) end end "
        "until at == '0'",
        "0",
        f"{rig.prefix}{{{bucket}}}:*",
    )


@kind("loss", "F27", times=6)
async def redis_restored(rig: Rig) -> None:
    """Redis is killed, and an older copy of its files is put back: it knows nothing of what came since."""
    folder, copy = rig.primary.folder / "appendonlydir", rig.folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    await asyncio.to_thread(rig.primary.kill)
    shutil.copytree(folder, copy)
    await asyncio.to_thread(rig.primary.restart)
    await rig.progress(200)
    await asyncio.to_thread(rig.primary.kill)
    shutil.rmtree(folder)
    shutil.copytree(copy, folder)
    await asyncio.to_thread(rig.primary.restart)


@kind("loss", "F28", "F30", times=10)
async def replica_promoted(rig: Rig) -> None:
    """A replica that has not got the last writes becomes the primary; the old one is gone."""
    old = await replicate(rig)
    await rig.progress(60)  # these writes the replica never gets
    await asyncio.to_thread(old.kill)
    rig.primary = rig.spare
    rig.lead_redis(rig.primary)
    await asyncio.to_thread(old.restart)


@kind("loss", "F29", "F30", times=6, quick=False)
async def split_brain(rig: Rig) -> None:
    """One worker stays with the old primary while the others have the promoted replica; then it follows."""
    old = await replicate(rig)
    rig.primary = rig.spare
    rig.revive()
    stays = rig.any_running()
    rig.lead_redis(rig.primary, [slot for slot in rig.slots if slot is not stays])
    await asyncio.sleep(rig.rng.choice([0.5, 2, 5]))
    rig.lead_redis(rig.primary, [stays])
    assert old is not rig.primary


async def replicate(rig: Rig) -> Redis:
    """Make the spare a replica that has everything, then one that gets nothing more; returns the primary."""
    spare = rig.spare
    await rig.redis("REPLICAOF", proxy.HOST, str(rig.primary.port), store=spare)

    async def in_step() -> bool:
        return bool((await rig.redis("INFO", "replication", store=spare))["master_link_status"] == "up")

    await until(in_step, "the replica has a copy")
    await rig.redis("REPLICAOF", "NO", "ONE", store=spare)
    return rig.primary


@kind("redis", "F31", times=10)
async def redis_frozen(rig: Rig) -> None:
    """Redis is frozen for longer than a call may take: it carries out what was sent when it goes on."""
    rig.primary.pause()
    try:
        await asyncio.sleep(REDIS_TIMEOUT_S * rig.rng.choice([0.5, 1.5, 3]))
    finally:
        rig.primary.resume()


@kind("redis", "F31", times=20)
async def draw_reply_cut(rig: Rig) -> None:
    """A draw is carried out, and the connection is reset before its reply."""
    await armed(rig, "redis", Rule(DRAW, "cut", times=rig.rng.randrange(1, 4)))


@kind("redis", "F31", times=12)
async def draw_reply_lost(rig: Rig) -> None:
    """The reply to a draw never comes, and the connection stays."""
    await armed(rig, "redis", Rule(DRAW, "lose", times=rig.rng.randrange(1, 3)))


@kind("redis", "F31", times=15)
async def draw_late(rig: Rig) -> None:
    """A draw is delivered when its connection has been reset and the lane was taken again."""
    await armed(rig, "redis", Rule(DRAW, "late", seconds=rig.rng.choice([0.2, 1, 3])))


@kind("redis", "F31", times=15)
async def taking_reply_cut(rig: Rig) -> None:
    """The replies to fencing, reconciling or registering a bucket are cut off, while a lane is taken."""
    rig.any_running().redis.reset()
    word = rig.rng.choice([b"rater_v4_fence", b"rater_v4_reconcile", b"rater_v4_register"])
    await armed(rig, "redis", Rule((word,), rig.rng.choice(["cut", "late"]), times=2, seconds=0.5))


@kind("redis", "F31", times=8, quick=False)
async def redis_slow(rig: Rig) -> None:
    """Each reply of Redis comes late, within the time a call may take."""
    await armed(rig, "redis", Rule((b"rater_v4",), "hold", times=10, seconds=0.3))


@kind("redis", "F21", times=15)
async def redis_connections_reset(rig: Rig) -> None:
    """All connections of a worker to Redis are reset at once."""
    rig.any_running().redis.reset()


@kind("redis", "F21", times=6)
async def cut_off_from_redis(rig: Rig) -> None:
    """A worker is cut off from Redis, and not from Kafka, for some seconds: its lanes wait."""
    slot = await rig.owning()
    rig.rng.choice([slot.redis.shut, slot.redis.silence])()
    try:
        await asyncio.sleep(rig.rng.choice([1, 3]))
    finally:
        slot.redis.heal()


@kind("redis", "F32", times=12)
async def functions_flushed(rig: Rig) -> None:
    """The functions are gone from Redis (FUNCTION FLUSH), the data is there."""
    await rig.redis("FUNCTION", "FLUSH")


@kind("redis", "F34", times=10)
async def redis_full(rig: Rig) -> None:
    """Redis has no memory left (maxmemory): it refuses to write, until it gets more."""
    await rig.redis("CONFIG", "SET", "maxmemory", "1mb")
    try:
        await asyncio.sleep(rig.rng.choice([0.5, 2]))
    finally:
        await rig.redis("CONFIG", "SET", "maxmemory", "0")


@kind("redis", "F34", times=6)
async def redis_disk_full(rig: Rig) -> None:
    """Redis cannot write its append-only file (RLIMIT_FSIZE, as a full disk): it refuses to write."""
    limited(rig.primary.pid, resource.RLIMIT_FSIZE, 1)
    try:

        async def refuses() -> bool:
            try:
                return bool((await rig.redis("INFO", "persistence"))["aof_last_write_status"] == "err")
            except (RedisError, OSError):
                return not rig.primary.running

        await until(refuses, "Redis notices", 30)
    finally:
        if rig.primary.running:
            unlimited(rig.primary.pid, resource.RLIMIT_FSIZE)
    if not rig.primary.running:
        await asyncio.to_thread(rig.primary.restart)


# --- input


@kind("worker", "F36", "F44", times=10)
async def records_sent_again(rig: Rig) -> None:
    """The last records are sent again, to other partitions than before."""
    for raw in list(rig.recent):
        await rig.put(raw)
