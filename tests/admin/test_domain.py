"""Lists, forms, dialogs and actions of RULES.md sections 3, 4 and 6 in a real Chromium (README.md)."""

from __future__ import annotations

import json
import os
import re
import time
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from admin.browser import WIDTHS, browser
from admin.conftest import BOLD, DEADLINE_S, TOKENS, Console

pytestmark = [pytest.mark.kafka, pytest.mark.browser]

SPACE = "\u00a0"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A browser for these tests."""
    with browser() as one:
        yield one


@pytest.fixture
def page(chromium: Any, console: Console) -> Iterator[Any]:
    """A page of somebody who may do all, without JavaScript."""
    yield from opened(chromium, console, "administer")


@pytest.fixture
def other(chromium: Any, console: Console) -> Iterator[Any]:
    """A page of somebody else."""
    yield from opened(chromium, console, "operate")


def opened(chromium: Any, console: Console, role: str) -> Iterator[Any]:
    """Give a page that is logged in."""
    context = chromium.new_context(
        viewport={"width": 1280, "height": 900}, java_script_enabled=False, base_url=console.url
    )
    one = context.new_page()
    one.goto("/login")
    one.fill("#token", TOKENS[role])
    one.press("#token", "Enter")
    one.wait_for_url("**/client-packages")
    yield one
    context.close()


def said(page: Any) -> str:
    """Return what a page says, its blanks as one."""
    return " ".join(page.inner_text("main").replace(SPACE, " ").split())


def asked(console: Console, path: str) -> Any:
    """Return what the API answers."""
    request = urllib.request.Request(  # noqa: S310 - our own program
        f"{console.url}/api/v1{path}", headers={"Authorization": f"Bearer {TOKENS['view']}"}
    )
    with urllib.request.urlopen(request, timeout=DEADLINE_S) as answer:  # noqa: S310 - the same
        return json.loads(answer.read())


def assigned(page: Any, **values: str) -> str:
    """Assign a package by the dialog; returns the page's address."""
    page.goto(f"/assign?client={values.pop('client')}")
    page.select_option("select[name=package]", values.pop("package"))
    for name, value in values.items():
        if name == "account":
            page.select_option("select[name=account]", value)
        elif name == "activate_in_past":
            page.check("input[name=activate_in_past]")
        else:
            page.fill(f"input[name={name}]", value)
    page.click("text=What would it cost?")
    page.click("button:has-text('Assign it')")
    page.wait_for_url("**/client-packages/**")
    return str(page.url)


def facts(page: Any) -> dict[str, str]:
    """Return the system information: name → value."""
    box = page.locator("dl.facts").first
    names = [text.strip() for text in box.locator("dt").all_inner_texts()]
    values = [" ".join(text.split()) for text in box.locator("dd").all_inner_texts()]
    return dict(zip(names, values, strict=True))


# -------------------------------------------------------------------------------------- section 3: packages
EVERYTHING = {
    "id": "all", "name": "With all", "period_count": "1", "advance_renew_count": "2", "renew_for_count": "5",
    "priority": "-3", "dynamic_tag": "vip", "start_date": "2026-01-01", "end_date": "2099-01-01",
}  # fmt: skip
CHOICES = {
    "type": "customer", "reseller": "1", "period_unit": "month", "advance_renew_unit": "hour",
    "renew_for_unit": "day", "currency": "EUR", "setup_fee": "dont_charge", "client_balance": "allow",
    "renewal_charge": "before_period",
}  # fmt: skip
FLAGS = ("fees_include_taxes", "align_to_payment_terms", "full_charge", "charge_on_event")
ROWS = {
    "fees": [
        {"type": "activation", "name": "Set-up", "rate": "2.5", "note": "<b>once</b>"},
        {"type": "subscription", "name": "Monthly", "rate": "9.99", "note": ""},
    ],
    "limits": [
        {"type": "volume", "service": "calls", "code": "380*", "limit": "100", "id": "m", "exclude": "38066*",
         "min_call": "5", "per_call_max": "600", "rollover": "10"},
        {"type": "money", "service": "calls", "code_deck": "a-z", "code_name": "USA", "limit": "3.5",
         "id": "b"},
    ],
    "discounts": [{"activation_count": "3", "discount": "1"}],
    "did_limits": [{"quantity": "2", "allowed_tags": "kyiv, lviv", "on_hold_days": "5"}],
}  # fmt: skip
CHOSEN = {"type", "service", "code_deck"}


def each_cell() -> Iterator[tuple[str, str]]:
    """Yield (name, value) of each field of the rows."""
    for block, rows in ROWS.items():
        for number, row in enumerate(rows):
            yield from ((f"{block}.{number}.{name}", value) for name, value in row.items())


def fill_all(page: Any) -> None:
    """Fill in each field of each block."""
    for name, value in EVERYTHING.items():
        page.fill(f"[name={name}]", value)
    for name, value in CHOICES.items():
        page.select_option(f"[name={name}]", value)
    for name in FLAGS:
        page.check(f"[name={name}]")
    for more in ("Add a discount", "Add a DID limit"):
        page.click(f"text={more}")
    page.locator("summary", has_text="Options").first.click()
    for name, value in each_cell():
        field = f'[name="{name}"]'
        if name.rpartition(".")[2] in CHOSEN:
            page.select_option(field, value)
        else:
            page.fill(field, value)


def test_a_package_with_all_blocks(page: Any, console: Console) -> None:
    """Each field of each block is filled in, previewed, saved, and shown again by page, form and API."""
    page.goto("/packages")
    page.click("text=New package")
    fill_all(page)
    page.click(".stick button[name=preview]")
    assert "The next 6 periods" in page.inner_text("#preview"), said(page)
    page.click("button:has-text('Save')")
    page.wait_for_url("**/packages/all")
    assert "<b>once</b>" in said(page)
    assert page.locator("main b").count() == 0
    row = asked(console, "/packages/all")["package"]
    assert (row["period"], row["advance_renew"], row["renew_for"]) == ("1 month", "2 hours", "5 days")
    assert (row["priority"], row["dynamic_tag"], row["client_balance"]) == (-3, "vip", "allow")
    assert all(row[name] is True for name in FLAGS)
    assert [limit["id"] for limit in row["limits"]] == ["m", "b"]
    assert row["did_limits"][0]["allowed_tags"] == ["kyiv", "lviv"]
    page.goto("/packages/all/edit")
    for name, value in [*EVERYTHING.items(), *CHOICES.items(), *each_cell()]:
        if name != "id":
            assert page.input_value(f'[name="{name}"]') == value, name
    assert all(page.is_checked(f"[name={name}]") for name in FLAGS)


def test_what_a_form_warns_of(page: Any) -> None:
    """A bare code, a wildcard that no rate meets, one finer than any rate, days on hold, 75 hours."""
    page.goto("/new-package")
    page.fill("#id", "warned")
    page.fill("#name", "Warned")
    page.click("text=Add a limit")
    for number, code in enumerate(("380", "999*", "380441*")):
        page.fill(f'[name="limits.{number}.code"]', code)
        page.fill(f'[name="limits.{number}.limit"]', "10")
    page.fill("[name=renew_for_count]", "9")
    page.select_option("[name=renew_for_unit]", "day")
    page.click("text=Add a DID limit")
    page.fill('[name="did_limits.0.quantity"]', "1")
    page.fill('[name="did_limits.0.on_hold_days"]', "5")
    page.press("#name", "Enter")
    told = said(page)
    assert "without a star it catches exactly one code, 380" in told
    assert "no rate table has such a code" in told
    assert "it is finer than any rate: calls there are rated by 38044" in told
    assert "on_hold_days of packages" in told
    page.fill("[name=renew_for_count]", "75")
    page.select_option("[name=renew_for_unit]", "hour")
    page.press("#name", "Enter")
    assert "75" in page.inner_text(".note.bad")
    page.goto("/packages/warned")
    assert "Not there" in said(page)


def test_six_previewed_periods_are_those_that_are_charged(page: Any, console: Console) -> None:
    """What the form previews is what six elapsed periods of a worker came to."""
    page.goto("/new-package")
    for name, value in {"id": "six", "name": "Six", "period_count": "1"}.items():
        page.fill(f"[name={name}]", value)
    page.select_option("[name=period_unit]", "day")
    for number, (kind, rate) in enumerate((("activation", "2.00"), ("subscription", "5.00"))):
        page.select_option(f'[name="fees.{number}.type"]', kind)
        page.fill(f'[name="fees.{number}.name"]', kind)
        page.fill(f'[name="fees.{number}.rate"]', rate)
    page.click("text=Add a discount")
    page.fill('[name="discounts.0.activation_count"]', "3")
    page.fill('[name="discounts.0.discount"]', "1.25")
    page.press("#name", "Enter")
    rows = page.locator("#preview table", has_text="The next 6 periods").locator("tbody tr")
    previewed = []
    for number in range(rows.count()):
        cells = rows.nth(number).locator("td")
        kinds, amounts = (cells.nth(at).inner_text().replace(SPACE, " ").split("\n") for at in (3, 4))
        previewed += [
            (kind, amount.replace("\u2212", "-").removesuffix(" USD"))
            for kind, amount in zip(filter(str.strip, kinds), filter(str.strip, amounts), strict=True)
        ]
    assert len(previewed) == 7
    page.click("button:has-text('Save')")
    page.wait_for_url("**/packages/six")
    start = (datetime.now(UTC) - timedelta(days=5)).strftime("%Y-%m-%d")
    url = assigned(page, client="w1", package="six", start_date=start, activate_in_past="1")
    of_id = url.rpartition("/")[2]
    found = asked(console, f"/transactions?client=w1&client_package={of_id}&rows=100")["rows"]
    found.sort(key=lambda row: (row["at"], row["type"]))
    charged = [(row["type"].replace("_", " "), f"{float(row['amount']):.2f}") for row in found]
    assert charged == previewed
    # What is offered leads to the form, filled in.
    page.click("a[href^='/rerate?']")
    page.wait_for_url("**/rerate?**")
    assert page.input_value("[name=client]") == "w1"
    assert page.input_value("[name=from]").startswith(start)


def test_a_packages_status(page: Any, console: Console) -> None:
    """Disabled, enabled, archived; deleted while nobody had it; each is asked for twice."""
    for of_id in ("gone", "kept"):
        page.goto("/new-package")
        page.fill("#id", of_id)
        page.fill("#name", of_id)
        page.click("button:has-text('Save')")
        page.wait_for_url(f"**/packages/{of_id}")
    for action, status in (("Disable", "disabled"), ("Enable", "active"), ("Archive", "archived")):
        page.click(f".acts >> text={action}")
        page.click(f"button:has-text('{action}')")
        page.wait_for_url("**/packages/kept")
        assert asked(console, "/packages/kept")["statuses"][-1]["status"] == status
    page.goto("/packages/gone")
    page.click(".acts >> text=Delete")
    assert "Its id is not given again." in said(page)
    page.click("button:has-text('Delete')")
    page.wait_for_url("**/packages")
    assert "is deleted" in said(page)
    page.goto("/packages/1/edit")
    page.fill("#name", "Another")
    page.press("#name", "Enter")
    assert "earlier transactions keep the old name" in said(page)
    page.select_option("[name=currency]", "EUR")
    page.press("#name", "Enter")
    assert page.locator(".note.bad").count() == 1


# ------------------------------------------------------------------------------- section 4: client packages
def test_system_information_and_history(page: Any) -> None:
    """All fields of the guide; for each period its limits, used and size, start and stop."""
    page.goto(assigned(page, client="w2", package="1", account="sip-w2", quantity="2", end_date="2099-01-01"))
    told = facts(page)
    assert told["Client"].startswith("Seen 2")
    assert (told["Account"], told["Status"], told["Quantity"]) == ("sip-w2", "active", "2")
    assert (told["Charge on event"], told["Charged"], told["Reactivations"]) == ("no", "yes", "1")
    assert (told["Align to payment terms"], told["Recalculate to period"]) == ("no", "no")
    assert told["Package"].startswith(("Kiev 100", "Renamed"))
    assert told["End date"].startswith("2099-01-01")
    assert {"Start date", "Next renewal", "Version", "Id"} <= told.keys()
    history = page.locator("section", has_text="Limits history").locator("tbody tr")
    assert history.count() == 1
    assert "0 / 200 min" in history.first.inner_text().replace(SPACE, " ")
    page.click("text=all its packages")
    assert "status=archive" in page.url
    assert page.locator("tbody tr").count() == 1


def test_actions_tell_their_consequences(page: Any, console: Console) -> None:
    """End date, stop at the end, stop now with its refund, remove out of the archive."""
    url = assigned(page, client="w4", package="1")
    of_id = url.rpartition("/")[2]
    page.click(".acts >> text=Change the end date")
    page.fill("input[name=end_date]", "2098-01-01")
    page.click("text=What would it do?")
    assert "No money moves." in said(page)
    page.click("button:has-text('Change it')")
    page.wait_for_url(url)
    assert facts(page)["End date"].startswith("2098-01-01")
    page.click(".acts >> text=Stop at the period's end")
    page.click("button:has-text('Stop at the end')")
    page.wait_for_url(url)
    assert page.locator(".tag", has_text="ends").count() == 1
    page.click(".acts >> text=Stop now, with balance rollback")
    assert "93.00 USD → 100.00 USD" in said(page)
    page.click("button:has-text('Stop now')")
    page.wait_for_url(url)
    assert "archive" in said(page)
    assert page.locator(".tag", has_text="voided").count() == 1
    page.click(".acts >> text=Remove, with all transactions")
    page.fill("input[name=reason]", "ticket 8")
    page.click("button:has-text('Remove it')")
    page.wait_for_url("**/clients/w4")
    assert of_id not in {row["id"] for row in asked(console, "/clients/w4")["client_packages"]}
    page.goto(url)
    assert "Not there" in said(page)


def test_a_pending_charge_goes_to_the_invoice(page: Any) -> None:
    """Without funds it waits; what is missing is told; it is marked, paid, and activated."""
    url = assigned(page, client="w3", package="1")
    assert "To pay are 7.00 USD; 6.00 USD is missing." in said(page)
    assert page.locator(".acts a").all_inner_texts() == [
        "Cancel", "Change the end date", "Mark the pending charge for the invoice",
    ]  # fmt: skip
    page.goto("/pending-charges?client=w3")
    page.click("text=Mark it")
    page.click("button:has-text('Mark it')")
    page.wait_for_url(url)
    assert "It is marked for the invoice." in said(page)
    page.goto("/pending-charges?client=w3")
    assert page.locator(".tag", has_text="marked").count() == 1
    page.goto("/clients/w3/adjust")
    page.fill("input[name=amount]", "20")
    page.press("input[name=amount]", "Enter")
    assert "1.00 USD → 14.00 USD" in said(page)
    page.click("button:has-text('Adjust it')")
    page.wait_for_url("**/clients/w3")
    page.goto(url)
    assert facts(page)["Status"] == "active"


def test_two_edit_the_same_client_package(page: Any, other: Any) -> None:
    """The second is told that it was changed meanwhile; what the first did stands."""
    url = assigned(page, client="w5", package="2")
    for one, day in ((page, "2097-01-01"), (other, "2096-01-01")):
        one.goto(f"{url}/end-date?end_date={day}")
    other.click("button:has-text('Change it')")
    other.wait_for_url(url)
    page.click("button:has-text('Change it')")
    assert "was changed meanwhile" in page.inner_text(".note.bad")
    page.click("a:has-text('Look at it again')")
    page.wait_for_url(url)
    assert facts(page)["End date"].startswith("2096-01-01")


def test_numbers_are_given_and_taken_back(page: Any) -> None:
    """From the client package to the form; then in the list, by its filters."""
    url = assigned(page, client="w6", package="did")
    page.click("text=Give a number")
    page.fill("input[name=number]", "380441112206")
    page.select_option("select[name=account]", "sip-w6")
    page.click("text=What would it do?")
    page.click("button:has-text('Give it')")
    page.wait_for_url("**/dids?number=380441112206")
    page.goto("/dids")
    page.select_option("select[name=state]", "in use")
    page.fill("input[name=client]", "w6")
    page.press("input[name=client]", "Enter")
    assert page.locator("tbody tr").count() == 1
    page.goto(url)
    assert "380441112206" in facts(page)["DIDs"]
    page.goto("/dids?client=w6")
    page.click("text=Take back")
    page.click("button:has-text('Take it back')")
    assert "380441112206 is free" in said(page)


# ----------------------------------------------------------------------------------------- section 6: lists
def test_packages_are_filtered(page: Any) -> None:
    """Active ones at first; by reseller, tag, status; the columns of the guide; a reset."""
    page.goto("/packages")
    head = page.locator("thead th").all_inner_texts()
    assert head[:7] == [
        "Id", "Status", "Name", "Activation fee", "Subscription fee", "Period", "Reseller",
    ]  # fmt: skip
    assert page.locator("tbody a[href='/packages/old']").count() == 0
    assert BOLD in page.inner_text("main")
    page.check("input[value=disabled]")
    page.click("button:has-text('Filter')")
    assert page.locator("tbody a[href='/packages/old']").count() == 1
    page.fill("input[name=did_tag]", "kyiv")
    page.press("input[name=did_tag]", "Enter")
    assert page.locator("tbody tr", has_text="Numbers").count() == 1
    page.click("text=Reset")
    page.select_option("select[name=reseller]", "1")
    page.fill("input[name=dynamic_tag]", "promo")
    page.press("input[name=dynamic_tag]", "Enter")
    assert page.locator("tbody th").all_inner_texts() == ["1"]


def test_client_packages_are_filtered_and_paged(page: Any) -> None:
    """Pending and active ones; bars; each filter; rows of a page, page x of y; all of a client or account."""
    page.goto("/client-packages?package=1&rows=25")
    assert re.search(r"Page 1 of \d+", said(page))
    assert page.locator(".limit svg").count() > 0
    page.select_option("#rows-of-page", "100")
    page.click("button:has-text('Show')")
    assert "rows=100" in page.url
    assert "package=1" in page.url
    page.goto("/client-packages")
    page.fill("input[name=client]", "42")
    page.press("input[name=client]", "Enter")
    assert page.locator("tbody tr").count() >= 1
    page.click("text=all of 42")
    assert page.is_checked("input[value=archive]")
    page.goto("/client-packages?id=cp43")
    assert page.locator(".tag", has_text="waits for funds").count() == 1
    page.goto("/client-packages?account=sip-1001")
    assert page.locator("tbody tr").count() >= 1
    page.goto("/client-packages?page=100000")
    assert "is too far to jump to" in said(page)


def test_other_lists(page: Any, console: Console) -> None:
    """Transactions, pending charges, rejected records with recycle, jobs, numbers, rates, who did what."""
    page.goto("/transactions?client=42")
    page.select_option("select[name=type]", "usage")
    page.press("input[name=client]", "Enter")
    assert page.locator("tbody tr").count() == 2
    page.click("tbody a >> nth=0")
    page.click("text=Explain it")
    assert "38" in said(page)
    page.goto("/rejected?reason=rate_missing")
    assert page.locator("tbody tr").count() >= 1
    page.click(".acts >> text=Recycle")
    page.click("text=What would be sent?")
    assert "rate missing" in said(page)
    page.goto("/rate-tables")
    page.click("text=retail")
    page.fill("input[name=code]", "38044")
    page.press("input[name=code]", "Enter")
    assert page.locator("tbody tr").count() == 1
    page.goto("/commands?actor=anna")
    assert page.locator("tbody tr").count() >= 1
    page.goto("/clients")
    page.fill("input[name=text]", "rose")
    page.press("input[name=text]", "Enter")
    page.click("tbody a >> nth=0")
    page.wait_for_url("**/clients/42")
    assert asked(console, "/clients/42")["client"]["name"] == "Rose"


# --------------------------------------------------------------------------------------- decks and re-rating
def test_a_deck_and_the_re_rate_behind_it(page: Any, console: Console) -> None:
    """A deck from yesterday on is sent, looked at, loaded; then calls are rated again, and money moves."""
    console.calls("r5", 2)
    until(console, "/transactions?client=r5&type=usage", 2)
    page.goto("/rate-tables/carrier%2F5")
    page.click("text=Import a deck")
    yesterday = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%d")
    page.fill("input[name=effective]", yesterday)
    deck = {"name": "notice.csv", "mimeType": "text/csv", "buffer": b"code,price\n380,0.25\n"}
    page.set_input_files("input[name=file]", deck)
    page.click("text=What would it change?")
    page.wait_for_url("**/import-deck/*")
    assert "1 dearer" in said(page)
    pictured(page, "deck")
    page.click("button:has-text('Load it')")
    page.wait_for_url("**/rate-tables/carrier%2F5")
    assert "0.25 USD" in said(page)
    page.goto("/rerate?client=r5")
    page.fill("input[name=from]", f"{yesterday}T00:00")
    page.fill("input[name=to]", "2099-01-01T00:00")
    page.click("button:has-text('What would change?')")
    page.wait_for_url("**/rerate-jobs/*")
    page.wait_for_selector("text=2 would change", timeout=60_000)
    pictured(page, "rerate-job")
    page.click("button:has-text('Apply it')")
    page.wait_for_selector("text=What was published", timeout=60_000)
    assert asked(console, "/clients/r5")["client"]["balance"] == "99.5"
    page.goto("/rerate-jobs")
    assert page.locator(".tag", has_text="done").count() >= 1


def pictured(page: Any, name: str) -> None:
    """Write pictures of a page, wide and narrow, where RATER_PICTURES says a folder."""
    folder = os.environ.get("RATER_PICTURES")
    for of_width, width in WIDTHS.items() if folder else ():
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=f"{folder}/{name}-{of_width}.png", full_page=True)
    page.set_viewport_size({"width": WIDTHS["wide"], "height": 900})


def until(console: Console, path: str, rows: int) -> None:
    """Wait until a list has so many rows."""
    end = time.monotonic() + DEADLINE_S
    while len(asked(console, path)["rows"]) < rows:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_who_may_not_sees_no_button(other: Any) -> None:
    """Another role has neither button nor page."""
    for path, text in (
        ("/packages", "New package"), ("/rate-tables", "Import a deck"), ("/packages/1", "Archive"),
    ):  # fmt: skip
        other.goto(path)
        assert other.locator(".acts", has_text=text).count() == 0, path
    for path in ("/new-package", "/import-deck", "/packages/1/archive", "/client-packages/cp42/remove"):
        other.goto(path)
        assert "this needs the role administer" in said(other), path
