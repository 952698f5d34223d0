"""`rater recycle`."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from cli.conftest import Capture, Put
from rater.cli import main
from rater.config import Settings
from rater.core.line.recycling import Choice
from rater.jobs.recycle import Report

OLDER = (
    "4 calls are older than 7 days, the duplicate window, and were not sent; --late looks them up in the "
    "journal and sends what it does not have"
)


@pytest.fixture
def asked(app: Put) -> list[tuple[Choice, bool, bool]]:
    """Put a recycling in place that tells of everything; returns what was asked for."""
    asked: list[tuple[Choice, bool, bool]] = []

    async def recycle(_: Settings, choice: Choice, *__: Any, late: bool, dry_run: bool) -> Report:
        asked.append((choice, late, dry_run))
        if choice.reason is None:
            return Report()
        return Report(Counter({"rate_missing": 1, "malformed": 2}), 3, 4, 5, Counter({"gone": 6}), 7)

    app(recycle=recycle)
    return asked


def test_what_was_sent_is_told(asked: list[tuple[Choice, bool, bool]], capsys: Capture) -> None:
    """What was sent is data; what was not is talk, and the exit code is 1 where something was left."""
    assert main(["recycle"]) == 0
    assert capsys.readouterr() == ("nothing sent again\n", "")
    assert main(["recycle", "--reason", "malformed"]) == 1
    told = capsys.readouterr()
    assert told.out == "malformed: 2 records sent again\nrate_missing: 1 record sent again\n"
    assert told.err.splitlines() == [
        "5 sides are in the journal, so they are not rated again",
        OLDER,
        "7 sides were taken back by a re-rating: `rater rerate` rates them again",
        "6 records came from gone, which no source of the settings reads: add one, or leave them",
    ]
    arguments = ["--reason", "too_old", "--late", "--dry-run", "--source", "default", "--since", "2026-11-30"]
    assert main(["recycle", *arguments, "--until", "2026-12-01", "--json"]) == 1
    assert json.loads(capsys.readouterr().out) == {
        "sent": {"rate_missing": 1, "malformed": 2}, "dry_run": True, "done": 3, "too_old": 4, "known": 5,
        "topics_without_source": {"gone": 6}, "taken_back": 7,
    }  # fmt: skip
    day_ms = 86_400_000
    since_ms = 1_795_996_800_000
    assert [one[1:] for one in asked] == [(False, False), (False, False), (True, True)]
    choice = asked[-1][0]
    assert (choice.reason, choice.topic) == ("too_old", "rater.cdrs")
    assert (choice.since_ms, choice.until_ms) == (since_ms, since_ms + day_ms)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--reason", "no_rate"], "no_rate is no reason; there are malformed, too_large"),
        (["--source", "pbx"], "--source pbx: there is no such source"),
        (["--reason", "too_old"], "add --late, which looks them up in the journal first"),
    ],
)
def test_wrong_input(
    asked: list[tuple[Choice, bool, bool]], capsys: Capture, arguments: list[str], told: str
) -> None:
    """Nothing is sent, and the sentence says what would do."""
    assert main(["recycle", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert asked == []
