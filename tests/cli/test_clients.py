"""`rater clients`."""

from __future__ import annotations

import json

import pytest

from cli.conftest import Capture
from rater.cli import main


@pytest.mark.usefixtures("store")
def test_clients_are_listed_with_their_balances(capsys: Capture) -> None:
    """A client is a line with its balance; one that was removed meanwhile is left out."""
    assert main(["clients", "list"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["id", "name", "reseller", "balance"]
    assert line.split() == ["42", "Rose", "1", "49.994", "0", "USD", "1", "3"]
    assert main(["clients", "list", "--json", "--reseller", "2"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("store")
def test_a_client_is_shown_with_all_its_packages(capsys: Capture) -> None:
    """One client: balance, accounts, tables and client packages, the archive included."""
    assert main(["clients", "show", "42"]) == 0
    out = capsys.readouterr().out
    for text in ("49.994 USD", "sip-1001", "calls: retail", "active", "pending", "archive", "Kiev 100"):
        assert text in out
    assert main(["clients", "show", "42", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert [held["id"] for held in row["client_packages"]] == ["active", "coming", "ended"]
    assert main(["clients", "show", "7"]) == 2
    assert "there is no client 7; `rater clients list` shows" in capsys.readouterr().err
