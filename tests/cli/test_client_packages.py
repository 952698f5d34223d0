"""`rater client-packages list`."""

from __future__ import annotations

import json

import pytest

from cli.conftest import CATALOG, JULY_MS, NOVEMBER_MS, Capture, register
from rater.cli import main
from rater.cli.client_package_rows import package_row
from rater.core.catalog.offers import counter_field
from rater.queries.client_packages import use_of
from rater.queries.clients import Held


def test_what_is_left_of_a_client_package() -> None:
    """Size is limit times quantity, used is the counter of the present period, left is the difference."""
    held = register(cp=(JULY_MS, None))
    counters = {counter_field("cp", 5, "m1"): 1_500, counter_field("cp", 4, "m1"): 9_999}
    row = package_row(use_of(Held(held, counters, 0), held.packages[0], CATALOG, NOVEMBER_MS))
    assert (row["status"], row["period"]) == ("active", 5)
    assert (row["period_start"], row["period_stop"]) == (
        "2026-11-01T00:00:00.000Z",
        "2026-12-01T00:00:00.000Z",
    )
    volume, money = row["limits"]
    assert (volume["size"], volume["used"], volume["left"], volume["unit"]) == (
        "12000",
        "1500",
        "10500",
        "second",
    )
    assert (money["size"], money["used"], money["left"], money["unit"]) == ("4", "0", "4", "USD")


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "status"),
    [(NOVEMBER_MS + 1, None, "pending"), (JULY_MS, None, "active"), (JULY_MS, NOVEMBER_MS, "archive")],
)
def test_the_status_of_a_client_package(start_ms: int, end_ms: int | None, status: str) -> None:
    """Pending before its first period, active in one, archive after the last."""
    held = register(cp=(start_ms, end_ms))
    row = package_row(use_of(Held(held, {}, 0), held.packages[0], CATALOG, NOVEMBER_MS))
    assert row["status"] == status
    assert bool(row["limits"]) is (status == "active")


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], ["active", "coming"]),
        (["--status", "archive"], ["ended"]),
        (["--status", "all"], ["active", "coming", "ended"]),
        (["--status", "all", "--id", "coming"], ["coming"]),
        (["--client", "42", "--package", "1", "--limit", "1"], ["active"]),
        (["--rows", "1", "--page", "2"], ["coming"]),
        (["--rows", "0"], ["active", "coming"]),
        (["--package", "2"], []),
        (["--account", "sip-1001"], ["active", "coming"]),
    ],
)
def test_client_packages_are_filtered(arguments: list[str], ids: list[str], capsys: Capture) -> None:
    """Pending and active ones unless asked otherwise; by client, account, package, status and id."""
    assert main(["client-packages", "list", "--json", *arguments]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ids


@pytest.mark.usefixtures("store")
def test_client_packages_show_what_is_used_as_bars(capsys: Capture) -> None:
    """A line for each limit: its code, a bar, and the numbers."""
    assert main(["client-packages", "list", "--id", "active"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("38044*  ░░░░░░░░░░░░  0 / 12000 second")
    assert lines[2].endswith("380*    ░░░░░░░░░░░░         0 / 4 USD")
    assert main(["client-packages", "list", "--account", "nobody"]) == 2
    assert "there is no account nobody" in capsys.readouterr().err
