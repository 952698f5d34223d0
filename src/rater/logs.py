"""Logs: structured, to standard error, JSON for machines and readable on a terminal.

Fixed names: `at` (RFC 3339, UTC), `level`, `event` (a short phrase, always the same for the same thing),
`logger` of a library, `left_out` (how often it has told the same since its last line), and whatever the line
binds: worker, lane, bucket, topic, partition, offset, client, reason, error. Nothing is logged for single
records; where a reason, or an id, has a telephone number all the same, a pseudonym stands in its place.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, TextIO

import structlog

from rater.pseudonyms import Pseudonyms

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger


REPEATED_S = 10.0
"""A library's message comes at most once in so many seconds."""
MESSAGES_MAX = 1000
"""Messages that are remembered for it."""


PLAIN = frozenset({"at", "level", "logger", "worker", "group", "topic"})
"""Names whose values hold no telephone numbers, though many digits."""
OF_SETTINGS = "set up dangerously"
"""The event whose reasons have numbers of settings alone."""


def set_up(
    level: str = "info",
    form: Literal["auto", "json", "text"] = "auto",
    stream: TextIO | None = None,
    *,
    numbers: Pseudonyms | None = None,
) -> None:
    """Send all logs, also those of libraries, to `stream` (standard error).

    numbers: what stands for telephone numbers; None: they do.
    """
    out = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="at"),
        structlog.processors.StackInfoRenderer(),
    ]
    end = _ending(out, numbers, text=form == "text" or (form == "auto" and out.isatty()))
    structlog.configure(
        processors=[*shared, *end],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(out)
    handler.addFilter(_Seldom())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[
                _left_out,
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _one_line,
                *end,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # aiokafka tells at info and warning what it retries by itself, many lines for each broker that restarts;
    # what matters of it reaches us as an exception. aiohttp's access log would be a line for each scrape.
    for name, least in (
        ("aiokafka", logging.ERROR),
        ("aiohttp.access", logging.WARNING),
        ("asyncio", logging.WARNING),
    ):
        logging.getLogger(name).setLevel(max(least, root.level))


def _ending(out: TextIO, numbers: Pseudonyms | None, *, text: bool) -> list[Processor]:
    """Return what a line ends with: its traceback, numbers hidden, and its form."""
    plain = structlog.dev.plain_traceback
    return [
        structlog.processors.format_exc_info,
        *([] if numbers is None else [partial(_without_numbers, numbers)]),
        structlog.dev.ConsoleRenderer(colors=_has_colours(out), timestamp_key="at", exception_formatter=plain)
        if text
        else structlog.processors.JSONRenderer(default=str),
    ]


def _without_numbers(
    numbers: Pseudonyms, _logger: WrappedLogger, _method: str, event: EventDict
) -> EventDict:
    if event.get("event") == OF_SETTINGS:
        return event
    return {name: value if name in PLAIN else numbers.hide(value) for name, value in event.items()}


def _has_colours(out: TextIO) -> bool:
    return out.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Seldom(logging.Filter):
    """Lets the same message of a library pass once in `REPEATED_S`: it repeats a fault with each attempt.

    The one that passes again carries `left_out`: how many came in between and were not told.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, str], tuple[float, int]] = {}
        """Logger and message → when it was told last, and how often it was left out since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the message is to be told."""
        what, now = (record.name, record.getMessage()), time.monotonic()
        told_at, left_out = self._told.get(what, (-REPEATED_S, 0))
        if now - told_at < REPEATED_S:
            self._told[what] = told_at, left_out + 1
            return False
        if len(self._told) >= MESSAGES_MAX:
            self._told.clear()
        self._told[what] = now, 0
        record.left_out = left_out
        return True


def _left_out(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Tell with a library's message how often it was left out."""
    left_out = getattr(event.get("_record"), "left_out", 0)
    if left_out:
        event["left_out"] = left_out
    return event


def _one_line(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Keep a library's message on one line, so that a log line stays a record."""
    event["event"] = " ".join(str(event.get("event", "")).split())
    return event


def tame(loop: asyncio.AbstractEventLoop) -> None:
    """Make the loop tell about exceptions that nobody fetched in our form.

    Closing a producer after a failed batch leaves the futures of its other deliveries behind: the fault
    itself has been raised already, from the one that was awaited. asyncio would write a traceback for each.
    """
    loop.set_exception_handler(_told)


def _told(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    error = context.get("exception")
    message = str(context.get("message", ""))
    log = structlog.get_logger()
    if message.startswith("Future exception was never retrieved") and type(error).__module__.startswith(
        "aiokafka"
    ):
        log.debug("delivery given up", error=repr(error))
        return
    log.error("unhandled in the event loop", message=message, error=repr(error), exc_info=error)
