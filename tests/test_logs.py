"""Logs: one JSON object for each line."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from rater import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Give back the process's logging as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def told(stream: io.StringIO) -> list[dict[str, object]]:
    """Return the lines as objects."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_fixed_names() -> None:
    """Machines find at, level and event in each line, beside what was bound."""
    stream = io.StringIO()
    logs.set_up("info", "auto", stream)
    structlog.get_logger().info("lane taken", lane=3)
    structlog.get_logger().debug("not asked for")
    (line,) = told(stream)
    assert line.keys() == {"at", "level", "event", "lane"}
    assert (line["level"], line["event"], line["lane"]) == ("info", "lane taken", 3)
    assert str(line["at"]).endswith("Z")


def test_libraries_tell_in_the_same_form_on_one_line() -> None:
    """A library's message is an object too, whatever line breaks it has; aiokafka's chatter is left out."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    logging.getLogger("some.library").warning("two\nlines of %s", "text")
    logging.getLogger("aiokafka.consumer").warning("retrying")
    (line,) = told(stream)
    assert line["event"] == "two lines of text"
    assert line["logger"] == "some.library"


def test_a_library_repeats_itself_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same fault is told once in ten seconds, then with how often it was left out; another at once."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    library = logging.getLogger("aiokafka.cluster")
    for topic in ("a", "a", "b", "a"):
        library.error("Topic %s not found in cluster metadata", topic)
    for name in ("some.library", "another.library", "some.library"):
        logging.getLogger(name).warning("Topic b not found in cluster metadata")
    for _ in range(2):
        structlog.get_logger().warning("ours are told each time")
    monkeypatch.setattr(logs, "REPEATED_S", 0.0)
    for topic in ("a", "b", "a"):
        library.error("Topic %s not found in cluster metadata", topic)
    assert [(line.get("logger"), line["event"], line.get("left_out")) for line in told(stream)] == [
        ("aiokafka.cluster", "Topic a not found in cluster metadata", None),
        ("aiokafka.cluster", "Topic b not found in cluster metadata", None),
        ("some.library", "Topic b not found in cluster metadata", None),
        ("another.library", "Topic b not found in cluster metadata", None),
        (None, "ours are told each time", None),
        (None, "ours are told each time", None),
        ("aiokafka.cluster", "Topic a not found in cluster metadata", 2),
        ("aiokafka.cluster", "Topic b not found in cluster metadata", None),
        ("aiokafka.cluster", "Topic a not found in cluster metadata", None),
    ]


def test_an_exception_is_part_of_its_line() -> None:
    """A traceback does not break the lines."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    try:
        _ = 1 // 0
    except ZeroDivisionError:
        structlog.get_logger().exception("cannot divide")
    (line,) = told(stream)
    assert "ZeroDivisionError" in str(line["exception"])


class Terminal(io.StringIO):
    """A terminal that keeps what it is shown."""

    def isatty(self) -> bool:
        """Return that it is one."""
        return True


def test_a_terminal_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """By itself a terminal gets words, ours and a library's, coloured unless that is not wanted."""
    for no_color, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        monkeypatch.setenv("TERM", "xterm")
        terminal = Terminal()
        logs.set_up("info", "auto", terminal)
        structlog.get_logger().info("lane taken", lane=3)
        logging.getLogger("some.library").warning("retrying")
        shown = terminal.getvalue()
        assert "lane taken" in shown
        assert "retrying" in shown
        assert "{" not in shown
        assert ("\x1b" in shown) is coloured


def test_text_is_for_people() -> None:
    """As text a line is no JSON, and without colours where nobody sees them."""
    stream = io.StringIO()
    logs.set_up("info", "text", stream)
    structlog.get_logger().info("lane taken", lane=3)
    assert "lane taken" in stream.getvalue()
    assert "lane=3" in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


async def test_the_loop_tells_in_our_form() -> None:
    """An exception that nobody fetched is a line of the log; that of a given-up delivery only of debug."""
    stream = io.StringIO()
    logs.set_up("info", "json", stream)
    loop = asyncio.get_running_loop()
    logs.tame(loop)
    given_up = type("KafkaError", (Exception,), {"__module__": "aiokafka.errors"})()
    loop.call_exception_handler({"message": "Future exception was never retrieved", "exception": given_up})
    loop.call_exception_handler({"message": "Task failed", "exception": ValueError("x")})
    (line,) = told(stream)
    assert line["level"] == "error"
    assert line["message"] == "Task failed"
