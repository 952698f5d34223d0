"""dids list, assign, release: what is shown, what is sent, and to which lane."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cli.conftest import CONTENT, Capture, Store, register
from cli.test_commanding import Lanes, lanes
from rater.cli import main
from rater.core.catalog.specs import DidSpec
from rater.core.clients.state import (
    ClientState,
    HeldDid,
    HeldPeriod,
    Life,
    client_package_name,
    did_name,
)
from rater.core.commands.records import DidAssignArgs, DidReleaseArgs, client_args
from rater.core.instants import DAY_MS

__all__ = ["lanes"]

NOW = time.time_ns() // 1_000_000
UNTIL = 1_800_000_000_000
DIDS = {
    number: DidSpec(number, tags)
    for number, tags in (("380440", ["kyiv", "gold"]), ("380441", ["kyiv"]), ("380322", ["lviv"]))
}
LIFE = Life(
    periods=(HeldPeriod(1, NOW - DAY_MS, NOW + DAY_MS, NOW - DAY_MS, 1),),
    dids=(HeldDid("380440", "sip-1001"), HeldDid("380441", "sip-1001", UNTIL)),
)


def holding() -> ClientState:
    """Return client 42 with two numbers, one of them on hold."""
    state = register(cp=(NOW - DAY_MS, None))
    state.packages[0].life = LIFE
    return state


@pytest.fixture
def numbers(store_of: Callable[..., Store]) -> Store:
    """Put three numbers into the catalog; the index names client 42 of all, and one it does not hold."""
    store = store_of(holding(), content=msgspec.structs.replace(CONTENT, dids=DIDS))
    store.index += [did_name(number) for number in DIDS]
    return store


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ((), ["380322", "380440", "380441"]),
        (("--tag", "kyiv"), ["380440", "380441"]),
        (("--client", "42"), ["380440", "380441"]),
        (("--client", "7"), []),
        (("--state", "free"), ["380322"]),
        (("--state", "in-use"), ["380440"]),
        (("--state", "on-hold", "--tag", "kyiv"), ["380441"]),
    ],
)
@pytest.mark.usefixtures("numbers")
def test_which_are_listed(options: tuple[str, ...], found: list[str], capsys: Capture) -> None:
    """Each filter leaves what it is about; an entry of a client that holds the number no more is none."""
    assert main(["dids", "list", *options, "--json"]) == 0
    assert [json.loads(line)["number"] for line in capsys.readouterr().out.splitlines()] == found


@pytest.mark.usefixtures("numbers")
def test_what_is_shown(capsys: Capture) -> None:
    """Tags, state, who holds the number and until when."""
    assert main(["dids", "list", "--state", "on-hold", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "number": "380441", "tags": ["kyiv"], "state": "on hold", "client": "42", "account": "sip-1001",
        "client_package": "cp", "hold_until": "2027-01-15T08:00:00.000Z",
    }  # fmt: skip
    assert main(["dids", "list"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "380441" in line]
    assert line.split()[:4] == ["380441", "kyiv", "on", "hold"]


def test_a_client_package_shows_its_numbers(numbers: Store, capsys: Capture) -> None:
    """In its system information."""
    numbers.index.append(client_package_name("cp"))
    assert main(["client-packages", "show", "cp"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "DIDs 380440 (sip-1001), 380441 (sip-1001, on hold until 2027-01-15" in out
    assert main(["client-packages", "show", "cp", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dids"][1]["hold_until"] == "2027-01-15T08:00:00.000Z"


@pytest.mark.parametrize(
    ("arguments", "args"),
    [
        (("assign", "+380440", "--account", "sip-1001"), DidAssignArgs("380440", "sip-1001")),
        (("release", "380440"), DidReleaseArgs("380440")),
    ],
)
def test_what_is_sent(arguments: tuple[str, ...], args: Any, lanes: Lanes) -> None:
    """The command goes to the lane of the number, for the client of the account, or that holds it."""
    lanes.store.index.append(did_name("380440"))
    assert main(["dids", *arguments, "--key", "k", "--actor", "eve", "--reason", "r"]) == 0
    (sent,) = lanes.sent
    assert (sent.client, sent.key, sent.actor, sent.reason) == ("42", "k", "eve", "r")
    assert client_args(sent) == args
    assert lanes.names == [did_name("380440")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("assign", "38x", "--account", "sip-1001"), "number '38x': not digits alone"),
        (("assign", "380440", "--account", "nobody"), "there is no account nobody; `rater clients show"),
        (("release", "380449"), "there is no DID in use 380449; `rater dids list`"),
        (("release", ""), "args of did_release"),
        (("assign", "380440"), "missing option '--account'"),
        (("list", "--state", "held"), "is not one of 'free', 'in-use', 'on-hold'"),
    ],
)
def test_wrong_input(arguments: tuple[str, ...], sentence: str, lanes: Lanes, capsys: Capture) -> None:
    """A sentence and exit code 2; nothing is sent."""
    assert main(["dids", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert lanes.sent == []
