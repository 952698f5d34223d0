"""`rater audit`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from cli.conftest import Capture, Put
from rater.cli import main
from rater.config import Settings
from rater.core.journal.auditing import Ledger
from rater.errors import Halt


def _ledger(*problems: str) -> Ledger:
    ledger = Ledger()
    for problem in problems:
        ledger.find("balance", "client 42", problem)
    return ledger


def test_an_audit_prints_each_finding(app: Put, capsys: Capture) -> None:
    """A finding is a line of data, the sum is talk; with a finding the code is 1."""
    ledger = _ledger()

    async def audit(_: Settings, progress: Callable[[int, int], None]) -> Ledger:
        progress(1, 1)
        return ledger

    app(audit=audit)
    assert main(["audit"]) == 0
    assert capsys.readouterr() == ("", "0 transactions of 0 clients read: counters and balances agree\n")
    ledger = _ledger("Redis has 7", "Redis has 8")
    assert main(["audit"]) == 1
    assert capsys.readouterr() == (
        "client 42: Redis has 7\nclient 42: Redis has 8\n",
        "0 transactions of 0 clients read: 2 findings\n",
    )
    assert main(["audit", "--json"]) == 1
    first = capsys.readouterr().out.splitlines()[0]
    assert json.loads(first) == {"kind": "balance", "where": "client 42", "problem": "Redis has 7"}


def test_an_audit_that_repeats_says_where_it_is_served(app: Put, capsys: Capture) -> None:
    """The address comes first, then what each audit finds, until something stops it."""

    @asynccontextmanager
    async def audits(_: Settings, every_s: int) -> AsyncIterator[tuple[int, AsyncIterator[Ledger]]]:
        async def ledgers() -> AsyncIterator[Ledger]:
            yield _ledger()
            yield _ledger("Redis has 7")
            raise Halt(f"stopped after two, {every_s} s apart")

        yield 1234, ledgers()

    app(audits=audits)
    assert main(["audit", "--every", "10m", "--metrics-host", "127.0.0.1"]) == 1
    told = capsys.readouterr()
    assert told.out == "client 42: Redis has 7\n"
    assert told.err.splitlines() == [
        "http://127.0.0.1:1234/metrics tells what the last audit found",
        "0 transactions of 0 clients read: counters and balances agree",
        "0 transactions of 0 clients read: 1 finding",
        "rater: stopped after two, 600 s apart",
    ]
