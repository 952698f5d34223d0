"""The file of an audit: as the whole journal in memory, wherever it is cut, and whoever is killed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.journal.auditing import Ledger
from rater.core.journal.comparing import compare
from rater.core.journal.records import ChangeRecord, Effect
from rater.errors import Halt
from rater.jobs.audit_file import AuditFile, WrongFileError

GENERATION_MS = 1000
JOURNAL = {"journal": "j"}


def opened(path: Path) -> AuditFile:
    """Open the file of an audit of two lanes."""
    return AuditFile(str(path), JOURNAL, 2, GENERATION_MS)


def usage(name: int, client: str, micros: int, offset: int, lane_ms: int = 0) -> tuple[bytes, Effect]:
    """Return a call's transaction and its header."""
    value = {
        "id": f"s/{name}/orig", "revision": 1, "type": "usage", "client": client,
        "amount": f"{micros / 10**6:.6f}",
        "draws": [{"client_package": "1", "limit": "m", "kind": "volume", "period": 1, "taken": "1"}],
    }  # fmt: skip
    effect = Effect("cdrs", 0, offset, 0, 0, lane_ms, b"12345678", b"1234", client, micros, [("1.1.m", 1)])
    return json.dumps(value).encode(), effect


def fee(name: int, client: str, micros: int) -> tuple[bytes, Effect]:
    """Return a fee as a share of a change, and its header."""
    value = {
        "id": f"cp/{name}/1/subscription_fee", "revision": 1, "type": "subscription_fee", "client": client,
        "amount": f"{micros / 10**6:.6f}", "net": f"{micros / 10**6:.6f}", "taxes": [],
    }  # fmt: skip
    return json.dumps(value).encode(), Effect("commands", 0, 1, 2, 0, 0, b"", b"", client, micros, [])


def change(client: str, version: int, delta: int) -> ChangeRecord:
    """Return a change by record 1 of the commands."""
    return ChangeRecord("commands", 1, 2, 0, 0, client, version, b"%d" % version, delta, [("1.1.n", 2)])


Step = tuple[Any, ...]
clients = st.sampled_from("abc")
small = st.integers(-5, 5)
steps = st.one_of(
    st.tuples(st.just(usage), st.integers(0, 5), clients, small),
    st.tuples(st.just(fee), st.integers(0, 2), clients, small),
    st.tuples(st.just(change), clients, st.integers(1, 4), small),
    st.just((None,)),
)


def take(ledger: Ledger, offset: int, step: Step) -> None:
    """Take one record of lane 0 or 1 into a ledger."""
    lane = offset % 2
    if step[0] is usage:
        ledger.add(lane, offset, *usage(*step[1:], offset))
    elif step[0] is fee:
        ledger.add(lane, offset, *fee(*step[1:]))
    else:
        ledger.control(lane, offset, change(*step[1:]) if step[0] is change else None)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(steps, st.booleans(), st.booleans()), max_size=30))
def test_cut_anywhere(
    tmp_path_factory: pytest.TempPathFactory, journal: Sequence[tuple[Step, bool, bool]]
) -> None:
    """Sums, registers, movements, findings: as if the journal had been read at once.

    The file is merged, and also opened anew, where the booleans say so.
    """
    whole, path = Ledger(), tmp_path_factory.mktemp("audit") / "file"
    file = opened(path)
    part = file.ledger()
    for offset, (step, merged, anew) in enumerate(journal):
        take(whole, offset, step)
        take(part, offset, step)
        if merged or offset == len(journal) - 1:
            file.merge(part, {offset % 2: offset + 1})
            if anew:
                file.close()
                file = opened(path)
            part = file.ledger()
    assert file.count("transactions") == whole.transactions
    assert file.count("findings") == whole.findings_total
    # Of three the third is told to come after the first or the second, as the journal is cut.
    assert sorted(one.where for one in file.findings()) == sorted(one.where for one in whole.findings)
    assert set(file.clients("", 9)) == set(whole.clients())
    for name in whole.clients():
        mine, theirs = file.book(name), whole.book(name)
        assert {field: used for field, used in mine.counters.items() if used} == {
            field: used for field, used in theirs.counters.items() if used
        }
        assert mine.moved()[0] == theirs.moved()[0]
        assert (mine.changes, mine.lowest, mine.highest) == (theirs.changes, theirs.lowest, theirs.highest)
        assert {(one.id, one.amount) for one in mine.moves} <= {(one.id, one.amount) for one in theirs.moves}
    file.close()


def test_what_was_seen_is_kept_as_long_as_duplicates(tmp_path: Path) -> None:
    """A call by the lanes' time, a fee for ever; behind the slowest lane nothing is forgotten."""
    file = opened(tmp_path / "file")

    def found(lane: int, lane_ms: int, *records: tuple[bytes, Effect]) -> int:
        before, ledger = file.count("findings"), file.ledger()
        ledger.lane_ms[lane] = lane_ms
        for at, (value, effect) in enumerate(records):
            ledger.add(lane, at + lane_ms, value, effect)
        file.merge(ledger, {lane: lane_ms})
        return file.count("findings") - before

    assert found(0, 0, usage(1, "a", -3, 0), fee(1, "a", -5)) == 0
    assert file.usage("s/1/orig revision 1 usage") == -3
    assert file.usage("s/2/orig revision 1 usage") is None
    assert found(0, 1500, usage(1, "a", -3, 1, 1500)) == 1  # in the next generation
    assert found(0, 2500) == found(1, 900) == 0
    assert file.usage("s/1/orig revision 1 usage") == -3
    assert found(0, 3500, usage(2, "a", -3, 1, 3500)) == found(1, 3500) == 0
    assert file.usage("s/1/orig revision 1 usage") is None
    assert found(1, 9000, fee(1, "a", -5)) == 1
    file.close()


def reversal(name: int, micros: int, at: str) -> tuple[bytes, Effect]:
    """Return the reversal of a call's first revision, as a re-rate publishes it, and its header."""
    value = {
        "id": f"s/{name}/orig", "revision": 1, "reverses": 1, "type": "reversal", "client": "a", "at": at,
        "side": "orig", "amount": f"{micros / 10**6:.6f}",
    }  # fmt: skip
    return json.dumps(value).encode(), Effect("commands", 0, 1, 2, 0, 0, b"", b"", "a", micros, [])


def test_calls_of_long_ago_are_taken_back(tmp_path: Path) -> None:
    """What a reversal takes back is known as long as it; one of an older call is believed."""
    file, offset = opened(tmp_path / "file"), 0

    def read(lane: int, lane_ms: int, *records: tuple[bytes, Effect]) -> list[str]:
        nonlocal offset
        ledger = file.ledger()
        ledger.lane_ms[lane] = lane_ms
        for value, effect in records:
            offset += 1
            ledger.add(lane, offset, value, effect)
        ledger.lane_ms[lane] = lane_ms
        file.merge(ledger, {lane: offset + 1})
        return [
            one.problem for one in compare("a", file.book("a"), None, file.usage) if one.kind == "reversal"
        ]

    young, old = "1970-01-01T00:00:08.000Z", "1970-01-01T00:00:00.500Z"
    assert read(0, 500, reversal(2, 4, old)) == [
        "the reversal of s/2/orig revision 1 takes back what was not published"
    ]
    assert read(1, 500, *(usage(n, "a", -3, n) for n in range(3))) == [
        wrong := "the reversal of s/2/orig revision 1 moves 4 micros, and what it takes back -3"
    ]
    assert read(0, 600, reversal(0, 3, old)) == [wrong]
    read(0, 9000)
    assert read(1, 9000) == [wrong]  # the calls are forgotten
    assert file.usage("s/1/orig revision 1 usage") is None
    assert read(1, 9000, reversal(1, 3, old)) == [wrong]
    assert len(read(1, 9000, reversal(7, 3, young))) == 2
    file.close()


def test_what_was_not_merged_is_forgotten(tmp_path: Path) -> None:
    """Reading fails between a change and its transactions, or behind them; it begins there again."""
    file = opened(tmp_path / "file")
    ledger = file.ledger()
    ledger.control(0, 0, change("a", 1, -5))
    file.merge(ledger, {0: 1})
    file.ledger().add(0, 1, *fee(1, "a", -5))
    for _ in range(2):
        file.close()
        file = opened(tmp_path / "file")
        ledger = file.ledger()
        ledger.add(0, 1, *fee(1, "a", -5))
        ledger.control(0, 2, None)
        assert ledger.findings == []
    file.close()


KILLED = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from test_audit_file import opened, usage
file = opened(Path(sys.argv[1]))
at = file.positions[0]
print("begun", flush=True)
while True:
    ledger = file.ledger()
    for _ in range(5):
        ledger.add(0, at, *usage(at, "a", 1, at))
        at += 1
    file.merge(ledger, {0: at})
"""


def test_killed_in_the_middle(tmp_path: Path) -> None:
    """Whenever it dies, what was added and the position behind it agree, and it goes on from there."""
    path, last = tmp_path / "file", 0
    for n in range(3):
        command = [sys.executable, "-c", KILLED, str(path), *sys.path]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own program
            assert process.stdout is not None
            assert process.stdout.readline() == b"begun\n"
            time.sleep(0.05 + n / 50)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        file = opened(path)
        book, at = file.book("a"), file.positions[0]
        assert (book.balance, book.counters["1.1.m"], file.count("transactions")) == (at, at, at)
        assert (file.count("findings"), file.number()) == (0, 1)
        assert at > last
        last = at
        file.close()


def test_a_damaged_file_is_told(tmp_path: Path) -> None:
    """A page that another hand wrote stops the audit with a sentence, whenever it is met."""
    path = tmp_path / "file"
    file = opened(path)
    ledger = file.ledger()
    for at in range(3000):
        ledger.add(0, at, *usage(at, f"client {at}", 1, at))
    file.merge(ledger, {0: 3000})
    file.close()
    raw = bytearray(path.read_bytes())
    raw[8192:] = b"\xff" * (len(raw) - 8192)
    path.write_bytes(bytes(raw))
    with pytest.raises((Halt, WrongFileError), match=r"cannot be used .*: it is made again from the journal"):
        opened(path).clients("", 9)
