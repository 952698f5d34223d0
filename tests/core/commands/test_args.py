"""What the arguments of commands have to be (CONTRACTS.md, Command)."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.core.commands.records import (
    ARGS,
    LOADS,
    ON_CLIENT_PACKAGE,
    AdjustArgs,
    AssignArgs,
    Command,
    EndDateArgs,
    ManifestArgs,
    NoArgs,
    TickArgs,
    client_args,
    key_of,
    manifest_of,
    read_command,
    write_command,
)
from rater.core.kinds import Do

NOW = 1_795_651_200_000


def command(do: str, args: object, **more: Any) -> Command:
    """Return a command as its record would hold it."""
    value = {"id": "c1", "do": do, "at": "2026-11-30T00:00:00Z", "client": "42", "args": args, **more}
    found = read_command(json.dumps(value).encode())
    assert isinstance(found, Command), found
    return found


def told(do: str, args: object, **more: Any) -> str:
    """Return why the arguments of a command are refused."""
    found = client_args(command(do, args, **more))
    assert isinstance(found, str), found
    return found


@pytest.mark.parametrize(
    ("do", "args", "more", "read"),
    [
        ("adjust", {"amount": "-0.000001"}, {}, AdjustArgs("-0.000001")),
        ("assign", {"package": "1"}, {}, AssignArgs("1")),
        (
            "assign",
            {
                "package": "1", "account": "sip", "start_date": "2026-11-01T02:00:00+02:00",
                "end_date": "2026-12-01", "quantity": 3, "activate_in_past": True, "id": "x",
            },
            {},
            AssignArgs("1", "sip", "2026-11-01T00:00:00Z", "2026-12-01", 3, activate_in_past=True, id="x"),
        ),
        ("edit_end_date", {"end_date": None}, {"client_package": "3"}, EndDateArgs(None)),
        ("edit_end_date", {"end_date": "2026-12-01"}, {"client_package": "3"}, EndDateArgs("2026-12-01")),
        ("stop_now", {}, {"client_package": "3"}, NoArgs()),
        ("tick", {}, {"client": None}, TickArgs()),
        ("tick", {"bucket": 3, "clients": ["42"]}, {"client": None}, TickArgs(3, ["42"])),
    ],
)  # fmt: skip
def test_what_is_taken(do: str, args: object, more: dict[str, Any], read: object) -> None:
    """Dates come back in their one spelling, defaults are filled in."""
    assert client_args(command(do, args, **more)) == read


def test_an_amount_is_micros() -> None:
    """The decimal of an adjustment is exact."""
    args = client_args(command("adjust", {"amount": "10.10"}))
    assert isinstance(args, AdjustArgs)
    assert args.micros == 10_100_000


@pytest.mark.parametrize(
    ("do", "args", "more", "why"),
    [
        ("adjust", {"amount": "ten"}, {}, "'ten' is not a decimal number"),
        ("adjust", {"amount": 10}, {}, "Expected `str`, got `int`"),
        ("adjust", {"amount": "0.0000001"}, {}, "more than 6 decimals"),
        ("adjust", {"amount": "9007199255"}, {}, "out of range"),
        ("adjust", {"amount": "-0.00"}, {}, "amount 0 changes nothing"),
        ("adjust", {}, {}, "missing required field `amount`"),
        ("adjust", {"amount": "1", "currency": "USD"}, {}, "unknown field `currency`"),
        ("adjust", {"amount": "1"}, {"client": None}, "it names no client; give `client`"),
        ("adjust", {"amount": "1"}, {"client_package": "3"}, "leave `client_package` out"),
        ("adjust", {"amount": "1"}, {"key": "opening"}, "opening balances have this one"),
        ("adjust", {"amount": "1"}, {"key": "a/b"}, "without `/`"),
        ("adjust", {"amount": "1"}, {"key": "a\n"}, "control characters"),
        ("adjust", {"amount": "1"}, {"key": "k" * 201}, "1 to 200 characters"),
        ("adjust", {"amount": "1"}, {"id": "a/b"}, "without `/`"),
        ("assign", {"package": ""}, {}, "length >= 1"),
        ("assign", {"package": "p" * 201}, {}, "length <= 200"),
        ("assign", {"package": "1", "quantity": 0}, {}, ">= 1"),
        ("assign", {"package": "1", "quantity": 1_000_001}, {}, "<= 1000000"),
        ("assign", {"package": "1", "quantity": 1.5}, {}, "Expected `int`, got `float`"),
        ("assign", {"package": "1", "start_date": "soon"}, {}, "start_date 'soon': not a date or time"),
        ("assign", {"package": "1", "end_date": "2026-02-30"}, {}, "end_date '2026-02-30': no such date"),
        (
            "assign", {"package": "1", "start_date": "2026-12-01", "end_date": "2026-11-01"}, {},
            "end_date 2026-11-01 is not after start_date 2026-12-01",
        ),
        ("assign", {"package": "1", "id": "a/b"}, {}, "has `/` or control characters"),
        ("edit_end_date", {}, {"client_package": "3"}, "missing required field `end_date`"),
        ("edit_end_date", {"end_date": "2026-12-01T00:00"}, {"client_package": "3"}, "a time without offset"),
        ("stop_now", {}, {}, "it names no client package; give `client_package`"),
        ("stop_now", {"at": 1}, {"client_package": "3"}, "unknown field `at`"),
        ("tick", {"bucket": 3}, {}, "give both of bucket and clients, or neither"),
        ("tick", {"bucket": 3, "clients": ["1"] * 101}, {}, "length <= 100"),
        ("did_assign", {"number": "380441112233"}, {}, "missing required field `account`"),
        ("rerate", {}, {}, "missing required field `part`"),
        ("put_package", {}, {}, "this version does not know the command 'put_package'"),
    ],
)  # fmt: skip
def test_what_is_refused(do: str, args: object, more: dict[str, Any], why: str) -> None:
    """A sentence says which command, and what of it."""
    said = told(do, args, **more)
    assert why in said
    assert do in said


def test_each_command_is_known_once() -> None:
    """Of the closed list each is a part of loads, or has arguments."""
    assert LOADS.isdisjoint(ARGS)
    assert ARGS.keys() >= ON_CLIENT_PACKAGE
    assert set(Do) - LOADS == ARGS.keys()


def test_a_command_is_known_by_its_key() -> None:
    """Without a key it is known by its id."""
    args = {"amount": "1"}
    assert key_of(command("adjust", args, key="k")) == "k"
    assert key_of(command("adjust", args)) == "c1"


@given(st.sampled_from(sorted(ARGS)), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda of: st.lists(of, max_size=3) | st.dictionaries(
        st.sampled_from(["amount", "package", "end_date", "clients", "bucket", "x"]), of, max_size=3
    ),
))  # fmt: skip
def test_whatever_comes_is_read_or_told(do: str, args: Any) -> None:
    """No arguments raise."""
    found = client_args(command(do, args, client_package="3" if do in ON_CLIENT_PACKAGE else None))
    assert isinstance(found, str | msgspec.Struct)


def test_what_is_written_is_read() -> None:
    """A command that is written is the one that is read, its client and version included."""
    raw = write_command(
        "c1", Do.EDIT_END_DATE, NOW, EndDateArgs("2026-12-01"), actor="anna", reason="ticket 512", key="k",
        client="42", client_package="3", expect_version=7, dry_run=True,
    )  # fmt: skip
    found = read_command(raw)
    assert isinstance(found, Command)
    assert (found.client, found.client_package, found.expect_version, found.dry_run) == ("42", "3", 7, True)
    assert client_args(found) == EndDateArgs("2026-12-01")


@pytest.mark.parametrize("do", sorted(LOADS))
def test_manifests_of_all_loads_are_found(do: Do) -> None:
    """Whoever looks for the newest catalog finds it, whatever the load was for."""
    args = ManifestArgs(3, 17, 0)
    assert manifest_of(write_command("l/catalog", do, NOW, args, key="k")) == args
    assert manifest_of(write_command("l/catalog", Do.ADJUST, NOW, args)) is None
