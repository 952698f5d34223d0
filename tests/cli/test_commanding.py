"""Commands that change clients: what is sent, what is told, and when one is asked first."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from cli.conftest import JULY_MS, Capture, Store, register
from rater.cli import main
from rater.config import Settings
from rater.core.clients.state import client_package_name
from rater.core.commands.records import Command, client_args, read_command
from rater.jobs.commands import Answer

DONE = {
    "dry_run": False, "repeated": False, "balance_before": "50", "balance_after": "45",
    "transactions": [{"id": "cp/42-1/1/subscription_fee", "type": "subscription_fee", "amount": "-5",
                      "currency": "USD", "period_start": "2026-11-01T00:00:00.000Z"}],
    "events": [{"type": "activated", "client_package": "42-1"},
               {"type": "rerate_needed", "client_package": "42-1", "data": {"from": "a", "to": "b"}}],
}  # fmt: skip


class Lanes:
    """What is sent to the workers, and what they answer, command by command; the last answer stays."""

    def __init__(self) -> None:
        self.store: Store
        self.sent: list[Command] = []
        self.names: list[str | None] = []
        self.answers = [Answer("42-1", DONE)]

    async def send(self, command_id: str, client: str, value: bytes, name: str | None = None) -> Answer:
        """Take a command that a worker would take."""
        self.names.append(name)
        command = read_command(value)
        assert isinstance(command, Command)
        assert not isinstance(client_args(command), str)
        assert (command.id, command.client) == (command_id, client)
        self.sent.append(command)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@pytest.fixture
def lanes(store_of: Callable[..., Store]) -> Lanes:
    """Put workers behind the command line; client 42 has client package `held`, which the index knows."""
    made = Lanes()

    @asynccontextmanager
    async def sender(_: Settings, __: Callable[[str], None]) -> AsyncIterator[Lanes]:
        yield made

    made.store = store_of(register(held=(JULY_MS, None)), sender=sender)
    made.store.index.append(client_package_name("held"))
    return made


def sent(lanes: Lanes) -> dict[str, Any]:
    """Return the command that was sent, without its id and moment."""
    (command,) = lanes.sent
    found = {
        name: getattr(command, name)
        for name in ("do", "key", "actor", "reason", "client", "client_package", "expect_version", "dry_run")
        if getattr(command, name) not in (None, "", False)
    }
    return {
        **found,
        "args": {name: value for name, value in json.loads(bytes(command.args)).items() if value},
    }


K = ["--key", "k", "--actor", "bob", "--reason", "ticket 512"]
BOB = {"key": "k", "actor": "bob", "reason": "ticket 512", "client": "42"}


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (
            ["client-packages", "assign", "--client", "42", "--package", "1"],
            {"do": "assign", "args": {"package": "1", "quantity": 1}},
        ),
        (
            ["client-packages", "assign", "--client", "42", "--package", "1", "--account", "sip-1001",
             "--start-date", "2026-11-01", "--end-date", "2026-12-01T02:00:00+02:00", "--quantity", "3",
             "--activate-in-past"],
            {"do": "assign", "args": {
                "package": "1", "account": "sip-1001", "start_date": "2026-11-01",
                "end_date": "2026-12-01T00:00:00Z", "quantity": 3, "activate_in_past": True,
            }},
        ),
        (["client-packages", "stop", "held", "--yes"], {"do": "stop_now", "args": {}}),
        (
            ["client-packages", "stop", "held", "--at-period-end", "--yes"],
            {"do": "stop_at_period_end", "args": {}},
        ),
        (["client-packages", "cancel", "held", "--yes"], {"do": "cancel", "args": {}}),
        (["client-packages", "remove", "held", "--yes"], {"do": "remove", "args": {}}),
        (
            ["client-packages", "edit", "held", "--end-date", "2026-12-31", "--expect-version", "7"],
            {"do": "edit_end_date", "expect_version": 7, "args": {"end_date": "2026-12-31"}},
        ),
        (["client-packages", "edit", "held", "--end-date", "none"], {"do": "edit_end_date", "args": {}}),
        (["clients", "adjust", "42", "--amount", "-5.00"], {"do": "adjust", "args": {"amount": "-5.00"}}),
    ],
)  # fmt: skip
def test_what_is_sent(arguments: list[str], command: dict[str, Any], lanes: Lanes) -> None:
    """Each option has its place in the command; a client package brings its client."""
    assert main([*arguments, *K]) == 0
    held = {} if command["do"] in {"assign", "adjust"} else {"client_package": "held"}
    assert sent(lanes) == {**BOB, **held, **command}


def test_key_and_actor_are_made(lanes: Lanes) -> None:
    """Without them: a key of its own each time, and the user's name."""
    for _ in range(2):
        assert main(["clients", "adjust", "42", "--amount", "1"]) == 0
    first, second = lanes.sent
    assert (len(first.key), first.actor, first.key != second.key) == (32, "anna", True)


def test_assigning_prints_the_id(lanes: Lanes, capsys: Capture) -> None:
    """The id alone is data; what it cost is talk."""
    assert main(["client-packages", "assign", "--client", "42", "--package", "1"]) == 0
    told = capsys.readouterr()
    assert told.out == "42-1\n"
    assert told.err.splitlines() == [
        "subscription_fee -5 USD  (cp/42-1/1/subscription_fee, period from 2026-11-01T00:00:00.000Z)",
        "42-1 activated",
        "42-1 rerate_needed: from a, to b",
        "balance of client 42: 50 → 45",
        "calls of this time can be rated again: rater rerate --client 42 --from a --to b",
    ]
    assert main(["client-packages", "assign", "--client", "42", "--package", "1", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert (row["client_package"], row["balance_after"], len(row["events"])) == ("42-1", "45", 2)
    assert len(lanes.sent) == 2


def test_a_dry_run_says_so(lanes: Lanes, capsys: Capture) -> None:
    """Nothing is changed, and what would be is told; no id is given."""
    lanes.answers = [Answer(None, {**DONE, "dry_run": True, "transactions": [], "events": []})]
    assert main(["client-packages", "assign", "--client", "42", "--package", "1", "--dry-run"]) == 0
    assert sent(lanes)["dry_run"] is True
    assert capsys.readouterr().out.startswith("nothing was changed; this is what it would do:\n")


def test_a_repeat_says_so(lanes: Lanes, capsys: Capture) -> None:
    """The same key again does nothing, and tells the first result."""
    lanes.answers = [Answer("42-1", {**DONE, "repeated": True})]
    assert main(["clients", "adjust", "42", "--amount", "1", "--key", "k"]) == 0
    done = "done before, with the key k; nothing was done now\n"
    assert capsys.readouterr().out.startswith(done)
    lanes.answers = [Answer("42-1", {**DONE, "repeated": True, "dry_run": True})]
    assert main(["clients", "adjust", "42", "--amount", "1", "--key", "k", "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith(done)


def test_a_refusal_is_its_reason(lanes: Lanes, capsys: Capture) -> None:
    """Exit code 1, and nothing as data."""
    lanes.answers = [Answer(refused="package 1 is disabled; enable it first")]
    assert main(["client-packages", "assign", "--client", "42", "--package", "1"]) == 1
    told = capsys.readouterr()
    assert (told.out, told.err) == ("", "rater: refused: package 1 is disabled; enable it first\n")


def test_no_answer_tells_how_to_ask_again(lanes: Lanes, capsys: Capture) -> None:
    """The command stays queued, and the key tells what became of it."""
    lanes.answers = [Answer()]
    assert main(["clients", "adjust", "42", "--amount", "1", "--key", "k"]) == 1
    assert "the command stays queued" in (said := capsys.readouterr().err)
    assert "--key k tells what became of it, and does nothing twice" in said
    assert main(["clients", "adjust", "42", "--amount", "1", "--dry-run"]) == 1
    assert "no worker answered; nothing was changed" in capsys.readouterr().err


# ----------------------------------------------------------------------------------------------------- asking
TAKING = [
    ["client-packages", "stop", "held"],
    ["client-packages", "stop", "held", "--at-period-end"],
    ["client-packages", "cancel", "held"],
    ["client-packages", "remove", "held"],
    ["packages", "archive", "1"],
    ["packages", "delete", "1"],
]


@pytest.mark.parametrize("arguments", TAKING)
def test_what_takes_something_away_wants_yes_without_terminal(
    arguments: list[str], lanes: Lanes, capsys: Capture
) -> None:
    """Exit code 2, with the sentence; nothing is sent."""
    assert main(arguments) == 2
    assert "there is no terminal to ask on: add --yes, or --dry-run" in capsys.readouterr().err
    assert lanes.sent == []


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("said", "code", "count"), [("y\n", 0, 2), ("n\n", 1, 1), ("\n", 1, 1)])
def test_a_terminal_is_asked(
    said: str, code: int, count: int, lanes: Lanes, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it would do is shown, then one is asked; only yes does it."""
    monkeypatch.setattr("sys.stdin", _Terminal(said))
    lanes.answers = [Answer("held", {**DONE, "dry_run": True}), Answer("held", DONE)]
    assert main(["client-packages", "stop", "held"]) == code
    told = capsys.readouterr()
    assert [command.dry_run for command in lanes.sent] == [True, False][:count]
    assert len({command.key for command in lanes.sent}) == 1
    assert "this is what it would do:\nsubscription_fee -5 USD" in told.err
    assert told.err.count("go on?") == 1
    assert ("nothing was changed\n" in told.err.partition("go on?")[2]) is (code == 1)
    assert bool(told.out) is (code == 0)


def test_a_dry_run_that_is_refused_asks_nothing(
    lanes: Lanes, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason is told at once."""
    monkeypatch.setattr("sys.stdin", _Terminal("y\n"))
    lanes.answers = [Answer(refused="it is not in the archive")]
    assert main(["client-packages", "remove", "held"]) == 1
    assert capsys.readouterr().err == "rater: refused: it is not in the archive\n"


# ------------------------------------------------------------------------------------------------ wrong input
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["clients", "adjust", "42", "--amount", "ten"], "args of adjust: 'ten' is not a decimal number"),
        (["clients", "adjust", "42", "--amount", "0.0"], "amount 0 changes nothing"),
        (["clients", "adjust", "42", "--amount", "1", "--key", "opening"], "opening balances have this one"),
        (["clients", "adjust", "42", "--amount", "1", "--key", ""], "key '': write 1 to 200 characters"),
        (["clients", "adjust", "7", "--amount", "1"], "there is no client 7; `rater clients list`"),
        (["clients", "adjust", "", "--amount", "1"], "the id is empty; the `list` command shows"),
        (["client-packages", "cancel", "", "--yes"], "the id is empty"),
        (["clients", "adjust", "42", "--amount", "1", "--actor", "x" * 1001], "<= 1000 - at `$.actor`"),
        (["client-packages", "assign", "--client", "7", "--package", "1"], "there is no client 7"),
        (["client-packages", "assign", "--client", "42", "--package", "9"], "there is no package 9"),
        (
            ["client-packages", "assign", "--client", "42", "--package", "1", "--account", "x"],
            "there is no account x; `rater clients show ID`",
        ),
        (
            ["client-packages", "assign", "--client", "42", "--package", "1", "--quantity", "0"],
            "'--quantity': 0 is not in the range 1<=x<=1000000",
        ),
        (
            ["client-packages", "assign", "--client", "42", "--package", "1", "--start-date", "soon"],
            "'soon': not a date or time",
        ),
        (
            ["client-packages", "assign", "--client", "42", "--package", "1", "--start-date",
             "2026-12-01", "--end-date", "2026-11-01"],
            "end_date 2026-11-01 is not after start_date",
        ),
        (["client-packages", "edit", "held", "--end-date", "never"], "--end-date 'never': not a date"),
        (["client-packages", "edit", "held"], "missing option '--end-date'"),
        (["client-packages", "edit", "x", "--end-date", "none"], "there is no client package x"),
        (["client-packages", "stop", "x", "--yes"], "there is no client package x; `rater client-packages"),
        (["client-packages", "show", "x"], "there is no client package x"),
        (["client-packages", "history", "x"], "there is no client package x"),
        (["pending-charges", "invoice", "held"], "there is no pending charge held"),
        (["pending-charges", "list", "--client", "7"], "there is no client 7"),
        (["packages", "show", "9"], "there is no package 9; `rater packages list --status all`"),
        (["client-packages", "list", "--page", "0"], "0 is not in the range"),
    ],
)  # fmt: skip
def test_wrong_input_is_told_before_anything_is_sent(
    arguments: list[str], said: str, lanes: Lanes, capsys: Capture
) -> None:
    """Exit code 2 and a sentence."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert said in told.err
    assert (told.out, lanes.sent) == ("", [])


def test_what_was_removed_is_still_commanded(
    store_of: Callable[..., Store], lanes: Lanes, capsys: Capture
) -> None:
    """Its lane knows a command that comes again, and refuses others."""
    gone = msgspec.structs.replace(register(), removed=("held",))
    store_of(gone, sender=sys.modules["rater.app"].sender).index.append(client_package_name("held"))
    lanes.answers = [Answer("held", {**DONE, "repeated": True})]
    assert main(["client-packages", "remove", "held", "--yes", "--key", "k"]) == 0
    assert sent(lanes)["client"] == "42"
    assert "done before" in capsys.readouterr().out
