"""Connections to Kafka: started while the broker is away, and reading with settings that are safe for us."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    InvalidTransactionTimeout,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)

from rater.errors import Halt, StreamDown

RETRY_S = 0.1
"""Pause between two attempts to connect: a broker that restarts is away for seconds."""
RETRY_BACKOFF_MS = 20
"""aiokafka's 100 ms would slow every take-over by as much (one back-off after CONCURRENT_TRANSACTIONS)."""
READ_BACKOFF_MS = 100
"""Of consumers, which ask again and again while the broker is away: at 20 ms, those of four lanes kept a core
busy with it, at 100 ms 4 % of one."""
REQUEST_TIMEOUT_MS = 10_000
"""So long an unanswered request counts as on its way; aiokafka's 40 s is long for a frozen broker."""
STOP_S = 15.0
"""So long a closing client may take in the background: a lost EndTxn holds it for one request timeout."""
FETCH_MAX_BYTES = 16 * 2**20
PARTITION_FETCH_BYTES = 2**20
"""Read ahead of one partition; a larger batch still comes whole, so this bounds memory and not records."""

FORBIDDEN = (
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
    TopicAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    InvalidTransactionTimeout,
)
"""Refusals that waiting does not heal."""
_RIGHTS = (TopicAuthorizationFailedError, GroupAuthorizationFailedError, TransactionalIdAuthorizationFailed)
NOBODY = (AssertionError, AttributeError)
"""What aiokafka raises where a broker answers but names no broker at all, not even itself: one that has just
started, or is so busy that its controller took it for dead. It passes."""


class Client(Protocol):
    """What a producer, a consumer and an admin client of aiokafka have in common."""

    async def start(self) -> None:
        """Connect."""


C = TypeVar("C", bound=Client)
Connection = Mapping[str, Any]
"""aiokafka's connection settings: bootstrap_servers, security_protocol, sasl_…, ssl_context."""


async def started(make: Callable[[], C], deadline_s: float) -> C:
    """Return a started client, a fresh one for each attempt.

    Raises StreamDown when the broker is still away after `deadline_s` seconds, Halt when it refuses us.
    """
    until = time.monotonic() + deadline_s
    while True:
        client = make()
        starting = asyncio.ensure_future(client.start())
        try:
            async with asyncio.timeout(max(until - time.monotonic(), RETRY_S)):
                await asyncio.shield(starting)
        except FORBIDDEN as error:
            await shut(client)
            raise Halt(refusal(error)) from error
        except (KafkaError, OSError, TimeoutError, *NOBODY) as error:
            _give_up(starting)
            await shut(client)
            if time.monotonic() + RETRY_S > until:
                raise StreamDown(f"Kafka is not reachable ({_why(error)})") from error
            await asyncio.sleep(RETRY_S)
        except BaseException:
            later(_shut_once_started(client, starting))
            raise
        else:
            return client


async def _shut_once_started(client: Any, starting: asyncio.Future[None]) -> None:
    """Stop a client whose start nobody waits for any more.

    aiokafka leaves the first connection open where its start is cancelled while it asks who is there.
    """
    await asyncio.wait([starting], timeout=STOP_S)
    _give_up(starting)
    await shut(client)


def _give_up(starting: asyncio.Future[None]) -> None:
    starting.cancel()
    ignore(starting)


def _why(error: BaseException) -> str:
    """Return an error's text; aiokafka shows servers as Python does: ('kafka1', 9092, <AddressFamily.…>)."""
    text = str(error) or type(error).__name__
    return re.sub(r"\('([^']*)', (\d+), <[^>]*>\)", r"\1:\2", text)


def refusal(error: BaseException) -> str:
    """Return the sentence for one of `FORBIDDEN`. Which rights a worker needs: `rights.of_worker`."""
    what = {
        TopicAuthorizationFailedError: "kafka.sasl_username may not use a topic",
        GroupAuthorizationFailedError: "kafka.sasl_username may not use the group of kafka.group_id: it "
        "needs Read",
        TransactionalIdAuthorizationFailed: "kafka.sasl_username may not use transactional ids that "
        "begin with kafka.group_id: it needs Write",
        InvalidTransactionTimeout: "the broker's transaction.max.timeout.ms is shorter than ours",
    }.get(type(error), "Kafka refuses kafka.sasl_username, kafka.sasl_password or kafka.sasl_mechanism")
    may = isinstance(error, _RIGHTS)
    remedy = " (`rater config acl --kafka` prints the commands)" if may else ""
    return f"{what} ({type(error).__name__}: {error}); correct the setting, or grant it on the broker{remedy}"


async def shut(client: Any) -> None:
    """Stop a client for good, however it is; never raises, never lasts longer than `STOP_S`.

    A consumer that is stopped while a failed fetch waits to be tried again passes that fetch's cancellation
    on, and leaves its connections open. It must not pass for ours: our task would end without a word, and
    its lane would be served by nobody.
    """
    stop = client.stop if hasattr(client, "stop") else client.close
    stopping = asyncio.create_task(stop())
    ignore(stopping)
    try:
        await asyncio.wait([stopping], timeout=STOP_S)
        if stopping.cancelled():
            with contextlib.suppress(Exception):
                await client._client.close()  # noqa: SLF001 - aiokafka has no other way to its connections
    finally:
        stopping.cancel()


def ignore(future: asyncio.Future[Any] | None) -> None:
    """Take note of how a future ends: asyncio logs exceptions that nobody asked for."""
    if future is not None:
        future.add_done_callback(lambda done: done.cancelled() or done.exception())


_later: set[asyncio.Task[None]] = set()


def later(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Run work in the background; the loop alone would forget a task nobody holds."""
    task = asyncio.create_task(work)
    _later.add(task)
    task.add_done_callback(_later.discard)
    return task


async def settle() -> None:
    """Wait for what was left to the background: for tests. A program that ends takes it along."""
    while _later:
        await asyncio.gather(*_later, return_exceptions=True)


def consumer(client: Connection, **settings: Any) -> AIOKafkaConsumer:
    """Return a consumer that reads only what is committed, never jumps and commits nothing by itself."""
    return AIOKafkaConsumer(
        **{
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "fetch_max_wait_ms": 50,
            "fetch_max_bytes": FETCH_MAX_BYTES,
            "max_partition_fetch_bytes": PARTITION_FETCH_BYTES,
            "retry_backoff_ms": READ_BACKOFF_MS,
            "request_timeout_ms": REQUEST_TIMEOUT_MS,
            **client,
            **settings,
        }
    )


@contextlib.asynccontextmanager
async def reading(
    client: Connection, partitions: list[TopicPartition], *, deadline_s: float, **settings: Any
) -> AsyncIterator[AIOKafkaConsumer]:
    """Give a consumer that is assigned `partitions`; aiokafka's errors inside become StreamDown or Halt."""
    reader = await started(lambda: consumer(client, **settings), deadline_s)
    try:
        reader.assign(partitions)
        yield reader
    except FORBIDDEN as error:
        raise Halt(refusal(error)) from error
    except KafkaError as error:
        raise StreamDown(f"Kafka did not let us read ({type(error).__name__}: {error})") from error
    finally:
        await shut(reader)
