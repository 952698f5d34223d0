"""`rater audit`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from cli.conftest import Capture, Put
from rater.cli import main
from rater.config import Settings
from rater.core.journal.auditing import Ledger
from rater.core.journal.comparing import Finding
from rater.errors import Halt
from rater.jobs.audit_file import AuditFile
from rater.jobs.running_audit import Round

UNSETTLED = "3 of the clients moved all the time, and could not be compared"


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


def _round(*problems: str, unsettled: int = 0, whole: bool = True) -> Round:
    findings = [Finding("balance", "client 42", problem) for problem in problems]
    return Round(findings, len(findings), 5, 2, unsettled, 2, whole)


def test_an_audit_that_goes_on_tells_what_is_new(app: Put, capsys: Capture) -> None:
    """The address comes first; then a finding when it is found, and the result when it is another."""

    @asynccontextmanager
    async def audits(
        _: Settings, every_s: int, file: str, __: object
    ) -> AsyncIterator[tuple[int, AsyncIterator[Round]]]:
        async def rounds() -> AsyncIterator[Round]:
            yield _round(whole=False)
            yield _round()
            for _ in range(2):
                yield _round("Redis has 7")
            yield _round("Redis has 7", "Redis has 8", unsettled=3)
            raise Halt(f"stopped, {every_s} s apart, {file}")

        yield 1234, rounds()

    app(audits=audits)
    assert main(["audit", "--every", "10s", "--file", "kept", "--metrics-host", "127.0.0.1"]) == 1
    told = capsys.readouterr()
    assert told.out == "client 42: Redis has 7\nclient 42: Redis has 8\n"
    assert told.err.splitlines() == [
        "http://127.0.0.1:1234/metrics tells what the audit finds",
        "5 transactions of 2 clients read: counters and balances agree; not all clients were looked at yet",
        "5 transactions of 2 clients read: counters and balances agree",
        "5 transactions of 2 clients read: 1 finding",
        f"5 transactions of 2 clients read: 2 findings; {UNSETTLED}",
        "rater: stopped, 10 s apart, kept",
    ]


def test_an_audit_that_goes_on_ends_when_it_is_told(app: Put, capsys: Capture) -> None:
    """By SIGTERM, with what it holds closed: as a container's first process it would not be ended by that."""
    ended = list[str]()

    @asynccontextmanager
    async def audits(*_: object) -> AsyncIterator[tuple[int, AsyncIterator[Round]]]:
        async def rounds() -> AsyncIterator[Round]:
            yield _round()
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()

        try:
            yield 9465, rounds()
        finally:
            ended.append("closed")

    app(audits=audits)
    assert main(["audit", "--every", "10s"]) == 0
    assert ended == ["closed"]
    assert "5 transactions of 2 clients read" in capsys.readouterr().err


def test_a_file_that_is_none_of_this_audit(app: Put, capsys: Capture, tmp_path: Path) -> None:
    """Wrong input is a sentence: what is wrong with the file, and what to do; the file stays as it is."""

    @asynccontextmanager
    async def audits(
        _: Settings, __: int, file: str, ___: object
    ) -> AsyncIterator[tuple[int, AsyncIterator[Round]]]:
        AuditFile(file, {"journal": "here"}, 4, 1000).close()
        yield 1234, _stopped()

    async def _stopped() -> AsyncIterator[Round]:
        yield _round()
        raise Halt("it was taken")

    app(audits=audits)
    (tmp_path / "text").write_text("not a database" * 100)
    sqlite3.connect(tmp_path / "other").execute("CREATE TABLE mine (x)").connection.close()
    AuditFile(str(tmp_path / "elsewhere"), {"journal": "there"}, 4, 1000).close()
    AuditFile(str(tmp_path / "lanes"), {"journal": "here"}, 5, 1000).close()
    AuditFile(str(tmp_path / "good"), {"journal": "here"}, 4, 1000).close()
    used = AuditFile(str(tmp_path / "used"), {"journal": "here"}, 4, 1000)
    again = "name another file, or delete it: it is made again from the journal"
    for name, sentence in {
        "text": f"cannot be used (file is not a database); {again}",
        "other": "is not the file of an audit; name another file",
        "elsewhere": f"is of an audit with another journal (there; here it is here); {again}",
        "lanes": f"is of an audit with another lanes (5; here it is 4); {again}",
        "used": "is in use by another audit; end that one, or name another file",
        "no/such": f"cannot be used (unable to open database file); {again}",
    }.items():
        before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.name == name}
        assert main(["audit", "--every", "10s", "--file", str(tmp_path / name)]) == 2
        assert capsys.readouterr().err == f"rater: --file: {tmp_path / name} {sentence}\n"
        assert all(path.read_bytes() == raw for path, raw in before.items())
    used.close()
    assert main(["audit", "--every", "10s", "--file", str(tmp_path / "good")]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "rater: it was taken"
    assert main(["audit", "--file", str(tmp_path / "good")]) == 2
    assert "add --every 10s" in capsys.readouterr().err
