"""The console of the real program, as one without JavaScript sees it."""

from __future__ import annotations

import io
import json
import re
import time
from html.parser import HTMLParser

import pytest

from admin.conftest import BOLD, TOKENS, Api, Console, Visitor, visiting

pytestmark = pytest.mark.kafka

PAGES = (
    "/packages", "/packages?status=active&status=disabled", "/packages/1", "/packages/2", "/packages/1/edit",
    "/packages/1/disable", "/new-package", "/new-package?copy=1", "/client-packages",
    "/client-packages?client=42&status=archive", "/client-packages/cp42", "/client-packages/cp43",
    "/client-packages/cp42/stop-now", "/client-packages/cp42/cancel", "/client-packages/cp42/end-date",
    "/assign", "/assign?client=42&package=1&preview=1", "/clients", "/clients?text=ro",
    "/clients/42", "/clients/43",
    "/clients/42/adjust", "/clients/42/adjust?amount=5", "/transactions",
    "/transactions?client=42&type=usage",
    "/pending-charges", "/rejected", "/rejected/recycle", "/rejected/recycle?preview=1",
    "/dids", "/dids?state=free", "/assign-did", "/assign-did?client=42", "/rate-tables",
    "/rate-tables/retail", "/rate-tables/retail?code=38", "/import-deck?table=retail", "/rerate",
    "/rerate-jobs", "/rerate-jobs?open=yes", "/explain",
    "/explain?id=default/call-0", "/commands", "/commands?actor=anna",
    "/events", "/events?client=42&type=activated", "/events?since=2026-01-01&until=2027-01-01", "/live",
)  # fmt: skip


class Checked(HTMLParser):
    """Reads a page: each element is closed, each field has a label, no script or style is in it."""

    VOID = frozenset(("meta", "link", "input", "br"))

    def __init__(self) -> None:
        """Nothing was read yet."""
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note what is open, and where links lead."""
        given = dict(attrs)
        assert tag not in {"style", "b", "iframe"}, tag
        if tag == "script":  # what names bring is not run: it would lie in the page
            assert given == {"src": "/static/moving.js", "defer": None}
        assert not any(name.startswith("on") or name == "style" for name in given), given
        if tag not in self.VOID:
            self.open.append(tag)
        if given.get("id"):
            self.ids.append(str(given["id"]))
        if tag == "a":
            self.links.add(str(given["href"]))
        labelled = "label" in self.open or given.get("id") or given.get("aria-label")
        if tag in {"select", "textarea"} or (tag == "input" and given.get("type") != "hidden"):
            assert labelled, (tag, given)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element that closes itself."""
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        """Note what is closed."""
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, tag


def checked(page: str) -> Checked:
    """Return a page that was read, and is whole."""
    found = Checked()
    found.feed(page)
    assert found.open == []
    assert len(set(found.ids)) == len(found.ids), sorted(found.ids)
    return found


async def test_every_page_is_whole_and_every_link_leads_somewhere(visitor: Visitor) -> None:
    """Each page answers, is well-formed, and has no dead link, HTML of names or script in it."""
    seen, links = set[str](), set[str]()
    for path in PAGES:
        page = await visitor.get(path)
        assert visitor.status == 200, (path, visitor.text)
        found = checked(page).links
        if path.startswith(("/commands", "/events")):  # what was removed, or never was, is named there
            found = set(sorted(link for link in found if link.startswith("/events/"))[:2])
        links |= found
        seen.add(path)
        assert "<b>Bold" not in page
    for link in sorted(links - seen):
        if link.startswith("/"):
            await visitor.get(link)
            assert visitor.status == 200, (link, visitor.text)
            checked(visitor.page)


async def test_names_are_escaped(visitor: Visitor) -> None:
    """A name that is HTML is shown as it is written."""
    for path in ("/packages", "/packages/2", "/clients/43", "/client-packages?client=43"):
        await visitor.get(path)
        assert BOLD in visitor.text, path


async def test_the_list_has_the_guides_columns(visitor: Visitor) -> None:
    """Limits as bars, periods, dates and states; a filter stands in the URL; a reset leads to all."""
    await visitor.get("/client-packages?client=42")
    for text in ("38044*", "/ 100 min", "/ 2.00 USD", "All Accounts", "Kiev 100", "renews", "Page 1 of 1"):
        assert text in visitor.text, text
    assert 'href="/client-packages">Reset' in visitor.page
    await visitor.get("/client-packages?client=nobody")
    assert "There are none." in visitor.text


# ------------------------------------------------------------------------------------------------ access
async def test_who_is_not_logged_in_logs_in_and_goes_on(console: Console) -> None:
    """Every page leads to the login, and from there to where one wanted to go; not to other sites."""
    async with visiting(console, None) as one:
        await one.get("/clients/42")
        assert one.url.startswith("/login?next=")
        await one.send("/login", {"token": TOKENS["view"]})
        assert one.url == "/clients/42"
        assert "Adjust" not in one.text
        await one.get("/clients/42/adjust")
        assert one.status == 403
        await one.send("/logout", {})
        assert one.url == "/login?left=1"
        await one.get("/clients/42")
        assert one.url.startswith("/login")
        for next_url in ("//evil.example/", "https://evil.example/", "/\\evil.example"):
            await one.send("/login", {"token": TOKENS["view"], "next": next_url}, allow_redirects=False)
            assert one.status == 303
        async with one.http.get("/", allow_redirects=False) as answer:
            assert "evil" not in answer.headers.get("Location", "")


async def test_forged_forms_are_refused(console: Console, api: Api) -> None:
    """Without the session's own mark, or from another site, nothing is done."""
    async with visiting(console, "operate") as one:
        page = await one.get("/clients/c5/adjust?amount=5")
        csrf = re.findall(r'name="csrf" value="([^"]+)"', page)[0]
        fields = {"amount": "5", "reason": "", "key": "forged"}
        for forged, headers in (
            ({**fields}, {}),
            ({**fields, "csrf": "x" * 43}, {}),
            ({**fields, "csrf": csrf}, {"Origin": "https://evil.example"}),
            ({**fields, "csrf": csrf}, {"Sec-Fetch-Site": "cross-site"}),
        ):
            await one.send("/clients/c5/adjust", forged, csrf=False, headers=headers)
            assert one.status == 403, (forged, headers)
        async with one.http.post("/clients/c5/adjust", json={**fields, "csrf": csrf}) as answer:
            assert answer.status == 415
        huge = io.BytesIO(f"csrf={csrf}&amount={'1' * 2_000_000}".encode())
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        async with one.http.post("/clients/c5/adjust", data=huge, headers=headers) as answer:
            assert answer.status == 413
    _, found = await api.ask("GET", "/clients/c5")
    assert found["client"]["balance"] == "100"


async def test_headers_that_browsers_go_by(visitor: Visitor) -> None:
    """No script, no frame, no sniffing, nothing kept; the session's cookie is not for scripts."""
    async with visitor.http.get("/clients") as answer:
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "script-src 'self';" in policy
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert answer.headers["Cache-Control"] == "no-store"
    async with visitor.http.post("/login", data={"token": TOKENS["view"]}, allow_redirects=False) as answer:
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Lax" in cookie


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/clients?page=100000", 422), ("/clients?page=0", 422), ("/clients?page=x", 422),
        ("/clients?page=99999999999999999999999", 422), ("/clients?rows=7", 422), ("/clients?page=150", 200),
        ("/clients?after=%00", 422), ("/transactions?type=none", 422), ("/transactions?since=soon", 422),
        ("/clients/nobody", 404), ("/packages/none", 404), ("/client-packages/none", 404),
        ("/client-packages/cp42/dance", 404), ("/packages/1/dance", 404), ("/transactions/9/9", 404),
        ("/transactions/0/999999999", 404), ("/nothing", 404), ("/explain?id=default/none", 404),
        ("/events?type=none", 422), ("/events?since=soon", 422), ("/events/0/999999999", 404),
        ("/events/9/9", 404), ("/events/x/9", 404), ("/events/0/\u0661", 404),
        ("/streams/events?after=x", 422), ("/streams/events?after=1-2-3", 422),
        ("/streams/events?type=none", 422), ("/streams/nothing", 404),
    ],
)  # fmt: skip
async def test_what_is_not_there_says_so(visitor: Visitor, path: str, status: int) -> None:
    """A page that says what is wrong, and how to go on."""
    await visitor.get(path)
    assert visitor.status == status, visitor.text
    checked(visitor.page)


# ---------------------------------------------------------------------------------------------- changing
async def test_a_package_is_assigned_and_stopped_by_hand(visitor: Visitor) -> None:
    """Preview, assignment, its page, the consequences of stopping, and stopping; the list knows at once."""
    await visitor.get("/assign?client=c6&package=1&quantity=2&preview=1")
    assert "100.00 USD → 86.00 USD" in visitor.text
    await visitor.send("/assign", {})
    assert visitor.url == "/client-packages/c6-1"
    assert "assigned; the balance went from 100 to 86" in visitor.text
    await visitor.get("/client-packages?client=c6")
    assert "c6-1" in visitor.text
    await visitor.get("/client-packages/c6-1/stop-now")
    assert "86.00 USD → 100.00 USD" in visitor.text
    await visitor.send("/client-packages/c6-1/stop-now", {"reason": "ticket 9"})
    assert visitor.url == "/client-packages/c6-1"
    assert "done" in visitor.text
    await visitor.get("/client-packages?client=c6")
    assert "c6-1" not in visitor.text
    await visitor.get("/commands?client=c6")
    assert "ticket 9" in visitor.text


async def test_a_form_that_is_sent_twice_is_done_once(visitor: Visitor, api: Api) -> None:
    """Each form has a key of its own."""
    await visitor.get("/clients/c7/adjust?amount=7")
    form = visitor.page
    await visitor.send("/clients/c7/adjust", {})
    visitor.page = form
    await visitor.send("/clients/c7/adjust", {})
    assert "nothing was done now" in visitor.text
    _, found = await api.ask("GET", "/clients/c7")
    assert found["client"]["balance"] == "107"


async def test_two_edit_the_same_client_package(console: Console, visitor: Visitor) -> None:
    """The second is told that it was changed meanwhile; nothing is lost."""
    await visitor.get("/assign?client=c8&package=1&preview=1")
    await visitor.send("/assign", {})
    path = "/client-packages/c8-1/end-date"
    async with visiting(console, "operate") as other:
        await visitor.get(path + "?end_date=2098-01-01")
        await other.get(path + "?end_date=2099-01-01")
        await other.send(path, {})
        assert other.status == 200
        await visitor.send(path, {})
        assert visitor.status == 409
        assert "was changed meanwhile" in visitor.text
        await visitor.get("/client-packages/c8-1")
        assert "2099-01-01" in visitor.text


async def test_a_package_is_made_with_rows_and_a_preview(
    console: Console, visitor: Visitor, api: Api
) -> None:
    """Rows are added without JavaScript; the preview shows six periods, what is caught, and warnings."""
    await visitor.get("/new-package")
    fields = {
        "id": "page-1", "name": "By hand", "type": "customer", "currency": "USD", "setup_fee": "charge",
        "client_balance": "deny", "renewal_charge": "on_period", "priority": "0", "period_count": "1",
        "period_unit": "month", "fees.0.type": "subscription", "fees.0.name": "Monthly",
        "fees.0.rate": "4.00",
        "limits.0.type": "volume", "limits.0.service": "calls", "limits.0.code": "380",
        "limits.0.limit": "10",
        "did_limits.0.quantity": "1", "did_limits.0.on_hold_days": "5", "renew_for_count": "9",
        "renew_for_unit": "day",
    }  # fmt: skip
    await visitor.send("/new-package", {**fields, "more": "limits"})
    assert 'name="limits.1.code"' in visitor.page
    await visitor.send("/new-package", {**fields, "preview": "1"})
    assert visitor.status == 200, visitor.text
    assert visitor.page.count("subscription fee<br>") == 6
    assert "without a star it catches exactly one code, 380, and not the 1 longer ones" in visitor.text
    assert "on_hold_days of packages" in visitor.text
    await visitor.send("/new-package", {**fields, "fees.0.rate": "four", "save": "1"})
    assert (visitor.status, "fees[0].rate" in visitor.text, 'value="four"' in visitor.page) == (
        422,
        True,
        True,
    )
    await visitor.send("/new-package", {**fields, "save": "1"})
    assert visitor.url == "/packages/page-1"
    assert "is created" in visitor.text
    # The next call of a client who has it is rated by it, and the bar moves.
    await visitor.get("/assign?client=c11&package=page-1&preview=1")
    await visitor.send("/assign", {})
    assert "0 / 10 min" in visitor.text
    call = {
        "id": "of-c11", "called": "380501234567", "duration_ms": 60_000, "orig": {"client": "c11"},
        "answered_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }  # fmt: skip
    (console.folder / "one.jsonl").write_text(json.dumps(call) + "\n")
    console.rater("ingest", str(console.folder / "one.jsonl"), "--source", "default")
    path = "/client-packages/c11-1"
    await api.until(path, lambda found: found["client_package"]["limits"][0]["used"] == "60")
    await visitor.get(path)
    assert "1 / 10 min" in visitor.text


async def test_two_edit_the_same_package(console: Console, visitor: Visitor) -> None:
    """The second sees what it is now beside what was written, and saves again or not."""
    row = {"name": "Shared", "type": "customer", "currency": "USD", "setup_fee": "charge",
           "client_balance": "deny", "renewal_charge": "on_period", "priority": "0"}  # fmt: skip
    await visitor.get("/new-package")
    await visitor.send("/new-package", {**row, "id": "page-2", "save": "1"})
    async with visiting(console, "administer") as other:
        await visitor.get("/packages/page-2/edit")
        await other.get("/packages/page-2/edit")
        await other.send("/packages/page-2/edit", {**row, "priority": "5", "save": "1"})
        assert other.url == "/packages/page-2"
        await visitor.send("/packages/page-2/edit", {**row, "dynamic_tag": "mine", "save": "1"})
        assert visitor.status == 409
        assert "priority 5 0" in visitor.text
        await visitor.send(
            "/packages/page-2/edit", {**row, "priority": "5", "dynamic_tag": "mine", "save": "1"}
        )
        assert visitor.url == "/packages/page-2"
        assert "mine" in visitor.text


async def test_renaming_an_assigned_package_is_warned_against(visitor: Visitor) -> None:
    """The preview says that earlier transactions keep the old name."""
    await visitor.get("/packages/1/edit")
    fields = dict(re.findall(r'name="([\w.]+)" type="\w+" value="([^"]*)"', visitor.page))
    await visitor.send(
        "/packages/1/edit",
        {**fields, "type": "customer", "currency": "USD", "name": "Renamed", "preview": "1"},
    )
    assert "earlier transactions keep the old name" in visitor.text


async def test_archiving_tells_how_many_are_cancelled(visitor: Visitor) -> None:
    """Before it is done; and what was never assigned is deleted."""
    await visitor.get("/packages/1/archive")
    assert "client packages of it are pending or active, and will be cancelled" in visitor.text
    await visitor.get("/packages/1/delete")
    assert visitor.status in {409, 422}
    await visitor.get("/packages/old/delete")
    assert visitor.status == 200


async def test_rejected_records_are_sent_again(visitor: Visitor, api: Api) -> None:
    """What would be sent is shown first; sent again they are marked."""
    await api.until("/rejected?reason=rate_missing", lambda found: found["rows"])
    await visitor.get("/rejected/recycle?reason=rate_missing&preview=1")
    assert "rate missing 1" in visitor.text
    await visitor.send("/rejected/recycle", {})
    assert "1 record was sent again" in visitor.text
    found = await api.until("/rejected?reason=rate_missing", lambda found: len(found["rows"]) == 2)
    assert sorted(one["again"] for one in found["rows"]) == [False, True]


async def test_a_call_is_explained_in_words(visitor: Visitor) -> None:
    """One that was rated, and one that might be."""
    await visitor.get("/explain?id=default/call-0/orig")
    assert "38044*" in visitor.text or "m1" in visitor.text
    await visitor.get("/explain")
    call = {
        "id": "x", "called": "1", "duration_ms": 1000, "answered_at": "2026-12-30T10:00:00Z",
        "orig": {"client": "42"},
    }  # fmt: skip
    await visitor.send(
        "/explain",
        {"call": json.dumps(call)},
    )
    assert "rate_missing" in visitor.text or "rate missing" in visitor.text
    await visitor.send("/explain", {"call": "no json"})
    assert visitor.status == 200
