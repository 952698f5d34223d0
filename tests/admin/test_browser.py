"""The console in a real Chromium: with the keyboard, without JavaScript, on a narrow screen."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from admin.browser import PICTURES, WIDTHS, browser, faults, log_in, take_pictures
from admin.conftest import TOKENS, Console
from admin.test_moving import call_of

pytestmark = [pytest.mark.kafka, pytest.mark.browser]


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for these tests."""
    with browser() as one:
        yield one


@pytest.fixture(params=WIDTHS.values(), ids=list(WIDTHS))
def page(chromium: Any, console: Console, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page of a browser without JavaScript, logged in; a fault on it is a fault of the test."""
    context = chromium.new_context(
        viewport={"width": request.param, "height": 900}, java_script_enabled=False, base_url=console.url
    )
    one = context.new_page()
    told: list[str] = []
    one.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    one.goto("/login")
    one.fill("#token", TOKENS["administer"])
    one.press("#token", "Enter")
    one.wait_for_url("**/client-packages")
    yield one
    context.close()
    assert [text for text in told if "favicon" not in text] == []


def test_nothing_is_wider_than_the_screen(chromium: Any, console: Console) -> None:
    """On 390 pixels no page is scrolled sideways, but within its tables."""
    context = chromium.new_context(viewport={"width": 390, "height": 900}, base_url=console.url)
    one = context.new_page()
    one.goto("/login")
    one.fill("#token", TOKENS["administer"])
    one.press("#token", "Enter")
    for path in PICTURES.values():
        one.goto(path)
        assert one.evaluate("document.documentElement.scrollWidth") <= 390, path
    context.close()


def test_a_package_is_assigned_and_cancelled_with_the_keyboard(
    page: Any, request: pytest.FixtureRequest
) -> None:
    """From the list to the form, its preview, the confirmation, and back out again."""
    client = "c9" if "wide" in request.node.name else "c10"
    page.goto(f"/assign?client={client}")
    page.select_option("select[name=package]", "1")
    page.press("input[name=quantity]", "Enter")
    assert "What it would do" in page.inner_text("main")
    assert "100.00\u00a0USD → 93.00\u00a0USD" in page.inner_text("main")
    page.focus("text=Assign it")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/client-packages/{client}-1")
    page.click("text=Cancel")
    assert "No money moves." in page.inner_text("main")
    page.click("text=Cancel it")
    page.wait_for_url(f"**/client-packages/{client}-1")
    assert "archive" in page.inner_text("main")


def test_filters_stand_in_the_address(page: Any) -> None:
    """A filter is a form; its result has an address of its own, and a reset leads back."""
    page.goto("/client-packages")
    page.fill("input[name=client]", "42")
    page.press("input[name=client]", "Enter")
    assert "client=42" in page.url
    assert page.locator("tbody tr").count() >= 1
    page.click("text=Reset")
    assert page.url.endswith("/client-packages")


def test_a_package_is_made_with_rows(page: Any, request: pytest.FixtureRequest) -> None:
    """Rows come and go by buttons; Enter previews and does not save."""
    of_id = "b-" + ("wide" if "wide" in request.node.name else "narrow")
    page.goto("/new-package")
    page.fill("#id", of_id)
    page.fill("#name", "By browser")
    page.fill('[name="fees.0.name"]', "Monthly")
    page.fill('[name="fees.0.rate"]', "4.00")
    page.click("text=Add a limit")
    assert page.locator('[name="limits.2.code"]').count() == 1
    page.fill('[name="limits.0.code"]', "380*")
    page.fill('[name="limits.0.limit"]', "100")
    page.press("#name", "Enter")
    assert "The next 6 periods" in page.inner_text("#preview")
    page.click("text=Save")
    page.wait_for_url(f"**/packages/{of_id}")
    assert "is created" in page.inner_text("main")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=list(WIDTHS))
def test_nothing_keeps_anybody_out(chromium: Any, console: Console, width: int, scheme: str) -> None:
    """axe-core finds no serious and no critical fault on any main page, nor on the login."""
    context = chromium.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, base_url=console.url, bypass_csp=True
    )
    one = context.new_page()
    one.goto("/login")
    found = [f"/login: {fault}" for fault in faults(one)]
    log_in(one, TOKENS["administer"])
    for path in PICTURES.values():
        one.goto(path)
        found += [f"{path}: {fault}" for fault in faults(one)]
    context.close()
    assert not found, "\n".join(found)


# ------------------------------------------------------------------------------------------ what moves
@pytest.fixture
def moving(chromium: Any, console: Console) -> Iterator[Any]:
    """A page of a browser with JavaScript, logged in; a fault on it, or of its policy, is one of the test."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900}, base_url=console.url)
    one = context.new_page()
    told: list[str] = []
    one.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    one.on("pageerror", lambda error: told.append(str(error)))
    one.goto("/login")
    log_in(one, TOKENS["administer"])
    yield one
    context.close()
    assert told == []


def test_a_package_of_the_console_rates_the_next_call_and_its_bar_moves(
    moving: Any, console: Console
) -> None:
    """Made, assigned, called: the bar fills while somebody looks on, and the page is still the same."""
    moving.goto("/new-package")
    moving.fill("#id", "b-moves")
    moving.fill("#name", "Moves")
    moving.fill('[name="limits.0.code"]', "380*")
    moving.fill('[name="limits.0.limit"]', "100")
    moving.click("text=Save")
    moving.wait_for_url("**/packages/b-moves")
    moving.goto("/assign?client=c12&package=b-moves&preview=1")
    moving.click("text=Assign it")
    moving.wait_for_url("**/client-packages/c12-1")
    assert "0 / 100 min" in moving.inner_text("#limits")
    assert moving.locator("#limits rect").get_attribute("width") == "0"
    moving.evaluate("window.opened = true")
    moving.wait_for_selector("[data-state=on]")
    call_of(console, "c12", "b-moves-1")
    moving.wait_for_selector("#limits :text('1:30 / 100 min')")
    assert moving.locator("#limits rect").get_attribute("width") == "1"
    assert "1:30 / 100 min" in moving.inner_text("#history")
    assert moving.evaluate("window.opened")


def test_the_live_page_moves_and_can_be_paused(moving: Any) -> None:
    """It shows each scrape; paused it stands still, and goes on when it is told to."""
    moving.goto("/live")
    moving.wait_for_selector("[data-state=on]")
    asked = "document.querySelector('#live time').textContent"
    before = moving.evaluate(asked)
    moving.wait_for_function(f"before => {asked} !== before", arg=before)
    moving.click("text=Pause")
    assert moving.inner_text(".moving [role=status]") == "paused"
    moving.wait_for_timeout(500)  # what was asked for before comes still
    before = moving.evaluate(asked)
    moving.wait_for_timeout(5000)
    assert moving.evaluate(asked) == before
    moving.click("text=Go on")
    moving.wait_for_function(f"before => {asked} !== before", arg=before)


def test_events_come_as_they_happen(moving: Any, console: Console) -> None:
    """A row for each, the newest above, once; also those of a time in which nobody listened."""
    moving.goto("/events?client=c12&answers=1")
    moving.wait_for_selector("[data-state=on]")
    before = moving.locator("tbody tr").count()
    console.rater("clients", "adjust", "c12", "--amount", "0.01", "--actor", "first")
    moving.wait_for_selector("tbody tr:first-child :text('first')")
    moving.click("text=Pause")
    console.rater("clients", "adjust", "c12", "--amount", "0.01", "--actor", "second")
    moving.click("text=Go on")
    moving.wait_for_selector("tbody tr:first-child :text('second')")
    assert moving.locator("tbody tr").count() == before + 2


def test_pictures(chromium: Any, console: Console, tmp_path: Path) -> None:
    """Each main page is drawn, wide and narrow; RATER_PICTURES keeps them in a folder."""
    folder = Path(os.environ.get("RATER_PICTURES", tmp_path))
    written = take_pictures(chromium, console.url, TOKENS["administer"], folder)
    assert all(path.stat().st_size > 5000 for path in written)
