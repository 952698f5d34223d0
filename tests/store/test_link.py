"""WorkerConnections: whatever Redis does or fails to do ends in the fault that says what to do about it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from rater.errors import Halt, StoreDown, StoreUnknown
from rater.local.child import HOST
from rater.local.redis import Redis
from rater.store.link import FunctionMissing, Link

Answer = Callable[[list[bytes]], bytes | None]
"""A command to the bytes that are sent back; None: hang up."""

TIMEOUT_S = 5.0
SHORT_S = 0.2
TURNS = 60
"""Of the loop: more than a command and its reply take."""
STANDALONE = b"$17\r\ncluster_enabled:0\r\n"
SILENT = b""
IN_CLUSTER = b"$17\r\ncluster_enabled:1\r\n"


def all_slots(port: int) -> bytes:
    """Return the map of a cluster of one node."""
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n$9\r\n127.0.0.1\r\n:%d\r\n" % port


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[int]:
    """Serve what `answer` says at a port of 127.0.0.1, which is given."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                count = int((await reader.readline())[1:])
                words = []
                for _ in range(count):
                    size = int((await reader.readline())[1:])
                    words.append((await reader.readexactly(size + 2))[:-2])
                reply = answer(words)
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        except (ValueError, OSError, EOFError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(talk, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


def link_to(port: int, timeout_s: float = TIMEOUT_S, password: str | None = None) -> Link:
    """Return a link that is not open yet."""
    return Link(f"redis://{HOST}:{port}", None, password, timeout_s)


async def fault_of(reply: bytes | None, timeout_s: float = TIMEOUT_S) -> tuple[int, BaseException]:
    """Return the port of a server, and the fault that its reply to a command becomes."""

    def answer(words: list[bytes]) -> bytes | None:
        return STANDALONE if words[0] == b"INFO" else reply

    async with serving(answer) as port:
        link = link_to(port, timeout_s)
        await link.open()
        try:
            with pytest.raises((Halt, StoreDown, StoreUnknown)) as caught:
                await link.ask("key", "GET", "key")
        finally:
            await link.close()
        return port, caught.value


@pytest.mark.parametrize(
    "reply",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
        b"-MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist.\r\n",
        b"-NOREPLICAS Not enough good replicas to write.\r\n",
        b"-BUSY Redis is busy running a script.\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
        b"-MOVED 12539 127.0.0.1:1\r\n",
        b"-ASK 12539 127.0.0.1:1\r\n",
        b"-ERR max number of clients reached\r\n",
    ],
    ids=lambda reply: str(reply[1:].split()[0] if reply[:4] != b"-ERR" else b"max clients", "ascii"),
)
async def test_a_refusal_did_nothing(reply: bytes) -> None:
    """What Redis refuses before it begins, and will do at another time, is StoreDown: wait and repeat."""
    port, fault = await fault_of(reply)
    assert type(fault) is StoreDown
    assert f"{HOST}:{port}" in str(fault)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (b"-NOAUTH Authentication required.\r\n", "rater config acl"),
        (b"-NOPERM User rater has no permissions to run the 'get' command\r\n", "'get'.*rater config acl"),
        (
            b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            "WRONGTYPE.*redis.prefix",
        ),
        (b"-ERR user_script:7: attempt to compare nil with number\r\n", "compare nil.*this version's"),
        (b"-CROSSSLOT Keys in request don't hash to the same slot\r\n", "same slot"),
    ],
)
async def test_a_refusal_that_stays_stops_the_worker(reply: bytes, says: str) -> None:
    """What no waiting heals is a Halt that says where, what, and what to do."""
    port, fault = await fault_of(reply)
    assert type(fault) is Halt
    assert f"{HOST}:{port}" in str(fault)
    assert re.search(says, str(fault))


async def test_missing_functions_did_nothing() -> None:
    """A function that is not there has done nothing, and is told apart so that it can be loaded."""
    _, fault = await fault_of(b"-ERR Function not found\r\n")
    assert type(fault) is FunctionMissing
    assert isinstance(fault, StoreDown)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(None, id="hung up"),
        pytest.param(b"$100\r\nhalf", id="half a reply"),
        pytest.param(SILENT, id="silence"),
        pytest.param(b"HTTP/1.1 400 Bad Request\r\n\r\n", id="another protocol"),
        pytest.param(b"*2\r\n:0\r\n?\r\n", id="not RESP"),
    ],
)
async def test_a_lost_reply_is_not_guessed(reply: bytes | None) -> None:
    """A command whose reply does not come, or cannot be read, may have been done: StoreUnknown."""
    port, fault = await fault_of(reply, SHORT_S)
    assert type(fault) is StoreUnknown
    assert f"{HOST}:{port}" in str(fault)


async def test_several_commands_at_once() -> None:
    """Each has its reply, in order. After one that is refused no reply is left behind for another."""

    def answer(words: list[bytes]) -> bytes:
        if words[0] == b"INFO":
            return STANDALONE
        return b"-OOM command not allowed\r\n" if words[1] == b"bad" else b"$1\r\n%b\r\n" % words[1]

    async with serving(answer) as port:
        link = link_to(port)
        await link.open()
        try:
            assert await link.ask_several("key", [("GET", "a"), ("GET", "b")]) == [b"a", b"b"]
            with pytest.raises(StoreDown, match="OutOfMemoryError"):
                await link.ask_several("key", [("GET", "a"), ("GET", "bad"), ("GET", "c")])
            assert await link.ask("key", "GET", "d") == b"d"
        finally:
            await link.close()


async def test_a_late_reply_is_nobody_elses() -> None:
    """The reply to a command that timed out is never taken for the next command's."""
    late = asyncio.Event()

    def answer(words: list[bytes]) -> bytes | None:
        if words[0] == b"INFO":
            return STANDALONE
        if words[1] == b"first":
            late.set()
            return SILENT
        return b"$6\r\nsecond\r\n"

    async with serving(answer) as port:
        link = link_to(port, SHORT_S)
        await link.open()
        with pytest.raises(StoreUnknown):
            await link.ask("key", "GET", "first")
        assert late.is_set()
        assert await link.ask("key", "GET", "second") == b"second"
        await link.close()


async def test_a_cancelled_command_leaves_no_reply_behind() -> None:
    """A command that is cancelled while it waits takes its connection with it."""
    asked = asyncio.Event()

    def answer(words: list[bytes]) -> bytes | None:
        if words[0] == b"INFO":
            return STANDALONE
        asked.set()
        return SILENT if words[1] == b"first" else b"$6\r\nsecond\r\n"

    async with serving(answer) as port:
        link = link_to(port)
        await link.open()
        task = asyncio.create_task(link.ask("key", "GET", "first"))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await link.ask("key", "GET", "second") == b"second"
        await link.close()


async def test_nobody_listens() -> None:
    """A server that is not there has done nothing, and the fault says which one was asked."""
    async with serving(lambda _: None) as port:
        pass
    with pytest.raises(StoreDown, match=f"{HOST}:{port} is not reachable"):
        await link_to(port).open()


async def test_moved_slots_are_found_again() -> None:
    """When a slot has moved, the next command asks for the map and goes to the slot's new owner."""
    owner = 0

    def answer(words: list[bytes]) -> bytes | None:
        if words[0] == b"INFO":
            return IN_CLUSTER
        if words[0] == b"CLUSTER":
            return all_slots(owner)
        return b"-MOVED 12539 127.0.0.1:%d\r\n" % owner

    async with serving(answer) as old, serving(lambda _: b"$3\r\nnew\r\n") as new:
        owner = old
        link = link_to(old)
        await link.open()
        owner = new
        with pytest.raises(StoreDown, match=r"MOVED|Moved"):
            await link.ask("key", "GET", "key")
        assert await link.ask("key", "GET", "key") == b"new"
        await link.close()


async def test_the_map_comes_from_whoever_has_one() -> None:
    """The named node is down, another one hangs, a third was taken out: the fourth tells where slots are."""
    asked: list[str] = []

    def out(words: list[bytes]) -> bytes | None:
        asked.append("out")
        return IN_CLUSTER if words[0] == b"INFO" else b"*0\r\n"

    def silent(_: list[bytes]) -> bytes | None:
        asked.append("silent")
        return SILENT

    def good(words: list[bytes]) -> bytes | None:
        return {b"INFO": IN_CLUSTER, b"CLUSTER": all_slots(port)}.get(words[0], b"$3\r\nyes\r\n")

    async with serving(lambda _: None) as gone:
        pass
    async with serving(silent) as hangs, serving(out) as other, serving(good) as port:
        nodes = ",".join(f"{HOST}:{one}" for one in (gone, hangs, other, port))
        link = Link(f"redis://{nodes}/0", None, None, SHORT_S)
        await link.open()
        assert await link.ask("key", "GET", "key") == b"yes"
        assert set(asked) == {"silent", "out"}
        await link.close()


async def test_who_gave_cause_for_doubt_is_asked_last() -> None:
    """A primary that was cut off from its cluster has an old map for ever: the others are asked first."""
    cut_off = False

    def old(words: list[bytes]) -> bytes | None:
        if words[0] == b"INFO":
            return IN_CLUSTER
        if words[0] == b"CLUSTER":
            return all_slots(first)
        return b"-CLUSTERDOWN The cluster is down\r\n" if cut_off else b"$3\r\nold\r\n"

    def new(words: list[bytes]) -> bytes | None:
        return all_slots(takes_over) if words[0] == b"CLUSTER" else b"$3\r\nnew\r\n"

    async with serving(old) as first, serving(new) as takes_over:
        link = Link(f"redis://{HOST}:{first},{HOST}:{takes_over}", None, None, TIMEOUT_S)
        await link.open()
        assert await link.ask("key", "GET", "key") == b"old"
        cut_off = True
        with pytest.raises(StoreDown, match="cluster is down"):
            await link.ask("key", "GET", "key")
        assert await link.ask("key", "GET", "key") == b"new"
        await link.close()


async def test_no_node_answers() -> None:
    """Then nothing was done, and the fault says how many were asked."""
    async with serving(lambda _: None) as one, serving(lambda _: None) as two:
        pass
    link = Link(f"redis://{HOST}:{one},{HOST}:{two}", None, None, TIMEOUT_S)
    with pytest.raises(StoreDown, match=f"none of 2 Redis nodes answers; the last of them: .*:{two} is not"):
        await link.open()
    await link.close()


async def test_uncovered_slot_says_which() -> None:
    """A cluster that lacks an owner for a slot does nothing, and the fault names the slot."""

    def answer(words: list[bytes]) -> bytes | None:
        if words[0] == b"INFO":
            return IN_CLUSTER
        return b"*1\r\n*3\r\n:0\r\n:10\r\n*2\r\n$0\r\n\r\n:1\r\n"

    async with serving(answer) as port:
        link = link_to(port)
        await link.open()
        with pytest.raises(StoreDown, match="slot 12539"):
            await link.ask("key", "GET", "key")
        await link.close()


def test_url_that_cannot_be_read() -> None:
    """A URL of another kind stops the worker with the form that is expected."""
    with pytest.raises(Halt, match=r"redis\.url.*redis://HOST:PORT/DB"):
        Link("http://localhost", None, None, TIMEOUT_S)


def test_a_parameter_that_no_connection_has_is_told() -> None:
    """What stands behind the `?` of the URL is for the library: what it refuses is no defect of ours."""
    with pytest.raises(Halt, match=r"redis\.url: .*'ssl_ca_certs'.*rediss://"):
        Link("redis://localhost/0?ssl_ca_certs=ca.pem", None, None, TIMEOUT_S)
    with pytest.raises(Halt, match=r"redis\.url: .*never"):
        Link("rediss://localhost/0?ssl_cert_reqs=never", None, None, TIMEOUT_S)
    Link("rediss://localhost/0?ssl_ca_certs=ca.pem", None, None, TIMEOUT_S)


async def test_replies_stay_bytes(start_redis: Callable[..., Redis]) -> None:
    """No parameter of the URL turns replies into texts, which no part of the store expects."""
    link = Link(f"{start_redis().url}/0?decode_responses=true", None, None, TIMEOUT_S)
    await link.open()
    assert await link.ask("key", "ECHO", "text") == b"text"
    await link.close()


@pytest.mark.parametrize("password", [None, "wrong"])
async def test_wrong_password(start_redis: Callable[..., Redis], password: str | None) -> None:
    """A password that is missing or wrong stops the worker; the sentence never shows it."""
    server = start_redis(settings={"requirepass": "right"})
    with pytest.raises(Halt, match=r"denied access.*redis\.password") as caught:
        await link_to(server.port, password=password).open()
    assert f"{HOST}:{server.port}" in str(caught.value)
    assert "wrong'" not in str(caught.value)
    assert ".." not in str(caught.value)


async def test_frozen_then_killed_then_back(start_redis: Callable[..., Redis]) -> None:
    """A frozen server leaves the outcome open, a dead one did nothing, and one that is back is used again."""
    server = start_redis()
    link = link_to(server.port, SHORT_S)
    await link.open()
    server.pause()
    with pytest.raises(StoreUnknown):
        await link.ask("key", "SET", "key", "1")
    server.kill()
    with pytest.raises(StoreDown):
        await link.ask("key", "SET", "key", "2")
    server.restart()
    assert await link.ask("key", "GET", "key") is None
    await link.close()


async def test_a_cancellation_is_obeyed_wherever_it_comes() -> None:
    """A lane that asks again and again ends when it is told to, at whatever turn of the loop that is."""

    async def again_and_again(link: Link) -> None:
        while True:
            await link.ask("key", "GET", "key")

    async with serving(lambda words: STANDALONE if words[0] == b"INFO" else b"$-1\r\n") as port:
        link = link_to(port)
        await link.open()
        try:
            for turns in range(TURNS):
                asking = asyncio.create_task(again_and_again(link))
                for _ in range(turns):
                    await asyncio.sleep(0)
                asking.cancel()
                ended, _ = await asyncio.wait([asking], timeout=TIMEOUT_S)
                asking.cancel()
                assert ended, f"it goes on after a cancellation at turn {turns}"
                assert asking.cancelled()
        finally:
            await link.close()
