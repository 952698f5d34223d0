"""The tally, the picture and the sums: what is shown is what was seen."""

from __future__ import annotations

import io
from typing import Any

import orjson
from rich.console import Console

from rater.demo.lives import LIVES
from rater.demo.summary import Check, checks, lines
from rater.demo.tally import Tally
from rater.demo.view import HEIGHT, WIDTH, Screen, Started, View, event_line, line


def transaction(number: int, **more: Any) -> bytes:
    """Return a transaction, with what is different about it."""
    one = {
        "id": f"fs1/{number}/orig", "revision": 1, "type": "usage", "client": "1", "side": "orig",
        "service": "calls", "at": "2026-11-25T06:00:00.000Z", "outcome": "rated", "called": "380441234567",
        "code_name": "Ukraine Kyiv", "billed": 66, "draws": [], "amount": "-0.006", "currency": "USD",
    }  # fmt: skip
    return orjson.dumps(one | more)


def draw(taken: int, left: int) -> dict[str, Any]:
    """Return a draw of seconds from one limit."""
    return {
        "client_package": "3", "package": "1", "package_name": "Kyiv 100", "limit": "m1", "kind": "volume",
        "period": 4, "taken": str(taken), "left": str(left),
    }  # fmt: skip


def event(kind: str, version: int = 1, **more: Any) -> bytes:
    """Return an event of client 1's package."""
    one = {
        "id": f"1/{version}/{kind}/3/4", "type": kind, "at": "2026-11-25T06:00:01.000Z", "client": "1",
        "client_package": "3", "package_name": "Kyiv 100", "period": 4, "data": None,
    }  # fmt: skip
    return orjson.dumps(one | more)


def some_tally() -> Tally:
    """Return a tally of a few sides, one of each outcome, whose sums agree."""
    tally = Tally(keep_ids=True)
    for number in range(3):
        tally.fed(1)
        tally.transaction(transaction(number, draws=[draw(60, 5940 - 60 * number)]))
    tally.fed(2)
    tally.transaction(transaction(9, outcome="zero", amount="0", billed=0, client="2"))
    tally.reject("client_unknown")
    tally.second(1.0)
    return tally


def drawn(tally: Tally, height: int = HEIGHT) -> list[str]:
    """Return the lines of the picture."""
    console = Console(width=WIDTH, file=io.StringIO(), force_terminal=False, color_system=None)
    view = View([Started("Kafka", "127.0.0.1:1"), Started("Valkey", "127.0.0.1:2")], {"1": "Rose Bakery"})
    with console.capture() as captured:
        console.print(view.picture(tally, 10.0, 75.0, height))
    return captured.get().splitlines()


def test_sums_are_those_of_the_journal() -> None:
    """Amounts are summed for each client, draws for each counter, and sides by how they ended."""
    tally = some_tally()
    assert tally.balances["1"] == -18_000
    assert tally.counters["1", "3.4.m1"] == 180
    assert tally.done == tally.fed_sides == 5
    assert tally.is_complete()
    (bar,) = tally.bars.values()
    assert (bar.size, bar.left) == (6000, 5820)


def test_the_picture_fills_the_screen_and_no_more() -> None:
    """The picture has as many lines as the terminal, none wider, and names client, package and reason."""
    for height in (24, HEIGHT, 44):
        picture = drawn(some_tally(), height)
        assert len(picture) == height
        assert max(map(len, picture)) <= WIDTH
    text = "\n".join(drawn(some_tally()))
    for shown in ("Rose Bakery", "Kyiv 100", "97.0 of 100.0 min", "client_unknown", "Ukraine Kyiv", "1:15"):
        assert shown in text
    assert "380441234567" not in text


FUNDS = {"kind": "renewal", "reason": "funds", "missing": "3.5", "currency": "USD"}


def test_events_are_shown_as_they_happen() -> None:
    """The latest is the first; what says nothing to people is not shown, and what is none is counted."""
    tally = some_tally()
    assert tally.event(event("assigned")) is None
    assert tally.event(b"{") is None
    assert tally.event(event("charge_pending", 1, data=FUNDS)) is not None
    tally.event(event("stopped", 2, data={"refunded": "10"}))
    text = "\n".join(drawn(tally, 44))
    assert text.index("stopped, 10 given back") < text.index("waits for funds, 3.5 USD missing")
    assert tally.unreadable == 1
    assert tally.events == {"assigned": 1, "charge_pending": 1, "stopped": 1}
    renewed = tally.event(event("renewed", 3))
    assert renewed is not None
    assert event_line(renewed, {"1": "Rose Bakery"}) == "06:00:01 Rose Bakery, Kyiv 100: renewed, period 4"


def test_who_waits_for_funds_is_known() -> None:
    """Until the charge is cleared; who waits for something else needs no money."""
    tally = some_tally()
    tally.event(event("charge_pending", 1, data=FUNDS))
    assert tally.waiting == {"3": ("1", 3_500_000)}
    tally.event(event("charge_pending", 2, data={**FUNDS, "reason": "package_disabled", "missing": "0"}))
    assert tally.waiting == {}
    tally.event(event("charge_pending", 3, data=FUNDS))
    tally.event(event("charge_cleared", 4))
    assert tally.waiting == {}


def test_a_limit_keeps_its_line() -> None:
    """A limit stays in its line while others come, until it has been used up for a while."""
    tally = some_tally()
    view = View([], {})
    first = view.chosen(tally, 0.0, 2)
    other = {**draw(60, 0), "client_package": "1"}
    tally.transaction(transaction(20, draws=[{**other, "left": "10"}]))
    second = view.chosen(tally, 1.0, 2)
    assert second[0] == first[0]
    assert second[1] == ("1", 4, "m1")
    tally.transaction(transaction(21, draws=[other]))
    assert view.chosen(tally, 2.0, 2) == second
    assert view.chosen(tally, 60.0, 2) == [first[0], None]


def test_without_a_terminal_there_are_lines() -> None:
    """Where there is no terminal, a line is told now and then instead of the picture."""
    said: list[str] = []
    tally = some_tally()
    screen = Screen(View([], {}), tally, said.append, Console(file=io.StringIO(), force_terminal=False))
    for now in (10.0, 10.5, 13.0):
        screen.show(now)
    screen.close()
    assert len(said) == 2
    assert said[0] == line(tally, 0.0)
    assert "3 rated, 1 zero, 0 seen before, 1 rejected" in said[0]


def of_calls(results: list[Check]) -> list[Check]:
    """Return the checks but that of the clients with lives of their own, who are not there."""
    *most, lives = results
    assert lives.name == "lives"
    return most


def test_sums_that_agree() -> None:
    """Nothing differs where Redis holds what the journal says; keys and fees of calls are no limits."""
    tally = some_tally()
    stored = {"3.4.m1": 180, "key.0123": 7, "3.4.fee.charged": 1}
    results = of_calls(checks(tally, {"1": (-18_000, stored), "2": (0, {})}))
    assert not [one for one in results if one.differs]
    assert lines(results)[-1] == "all sums agree"


def test_each_difference_is_told() -> None:
    """A missing side, something that came twice, a balance, a counter and a life are each named."""
    tally = some_tally()
    tally.fed(2)
    tally.transaction(transaction(0))
    tally.event(event("renewed"))
    tally.event(event("renewed"))
    results = {
        one.name: one.differs for one in checks(tally, {"1": (-18_000, {"3.4.m1": 181}), "2": (5, {})})
    }
    assert results["sides"] == "1 missing"
    assert results["transactions"] == "fs1/0/orig 1 usage came twice; event 1/1/renewed/3/4 came twice"
    assert "client 1: amounts sum to -0.024, Redis has -0.018" in results["balances"]
    assert "client 2: amounts sum to 0, Redis has 0.000005" in results["balances"]
    assert results["counters"] == "client 1 counter 3.4.m1: draws sum to 180, Redis has 181"
    assert f"client {min(LIVES)} has 0, and must have 15" in results["lives"]
