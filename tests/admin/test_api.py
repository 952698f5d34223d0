"""The API of the real program, on real servers: what it answers, what it refuses, and who may ask."""

from __future__ import annotations

import asyncio
import io
import json
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from admin.conftest import BOLD, CATALOG, TOKENS, Api, Console

pytestmark = pytest.mark.kafka

HUGE = b'{"amount": "' + b"1" * 10_000_000 + b'"}'


def fields(answer: Any) -> set[str]:
    """Return the fields that a problem names."""
    return {one["field"] for one in answer["errors"]}


# ----------------------------------------------------------------------------------------------- looking
async def test_lists_are_pages_with_keys(api: Api) -> None:
    """Clients in their order, a page at a time, forth and back."""
    everyone = await api.until(
        "/clients?rows=1000", lambda found: len(found["rows"]) == len(CATALOG["clients"])
    )
    ids = [row["id"] for row in everyone["rows"]]
    assert ids[:2] == ["42", "43"]
    assert everyone["total"] == len(ids)
    _, first = await api.ask("GET", "/clients?rows=5")
    _, second = await api.ask("GET", "/clients", params={"rows": 5, "after": first["next"]})
    _, back = await api.ask("GET", "/clients", params={"rows": 5, "before": second["previous"]})
    assert [row["id"] for row in (*first["rows"], *second["rows"])] == ids[:10]
    assert back["rows"] == first["rows"]
    assert first["previous"] is None


async def test_a_client_package_tells_what_is_left(api: Api) -> None:
    """What the calls took of its limits, its fees, and its system information."""
    found = await api.until(
        "/client-packages/cp42", lambda one: one["client_package"]["limits"][0]["used"] == "90"
    )
    row = found["client_package"]
    assert (row["status"], row["package_name"], row["state"]) == ("active", "Kiev 100", "renews")
    assert [(limit["code"], limit["size"], limit["used"]) for limit in row["limits"]] == [
        ("38044*", "6000", "90"), ("380*", "2", "0.15"),
    ]  # fmt: skip
    assert found["reactivations"] == 1
    assert found["charged"] is True
    assert [fee["amount"] for fee in found["periods"][0]["fees"]] == ["-2", "-5"]
    _, waiting = await api.ask("GET", "/client-packages?client=43")
    assert [(one["id"], one["state"]) for one in waiting["rows"]] == [("cp43", "waits for funds")]


async def test_transactions_charges_and_rejects(api: Api) -> None:
    """What was published is listed, the newest first; what waits; what could not be rated."""
    moved = await api.until("/transactions?client=42", lambda found: len(found["rows"]) == 5)
    assert {row["type"] for row in moved["rows"]} == {
        "usage", "activation_fee", "subscription_fee", "adjustment",
    }  # fmt: skip
    usage = [row for row in moved["rows"] if row["type"] == "usage"]
    assert {(row["called"], row["amount"], row["drawn"]) for row in usage} == {
        ("380441234567", "0", "Kiev 100"), ("380501234567", "0", "Kiev 100"),
    }  # fmt: skip
    charges = await api.until("/pending-charges", lambda found: found["rows"])
    assert [(one["client"], one["amounts"]["total"], one["missing"]) for one in charges["rows"]] == [
        ("43", "7", "6")
    ]
    rejected = await api.until("/rejected?reason=rate_missing", lambda found: found["rows"])
    assert [(one["side"], one["value"], one["source"]) for one in rejected["rows"]] == [
        ("orig", "4915112345678", "default")
    ]


async def test_a_call_is_explained(api: Api) -> None:
    """Why it cost what it cost, and what another one would cost."""
    status, found = await api.ask("GET", "/explain?id=default/call-0")
    assert status == 200
    (side,) = found["explained"]
    assert [one["taken"] for one in side["candidates"]] == ["90", None]
    call = {
        "id": "x", "called": "380441234567", "duration_ms": 60_000, "answered_at": "2026-12-30T10:00:00Z",
        "orig": {"client": "42"},
    }  # fmt: skip
    status, found = await api.ask("POST", "/explain", call)
    assert status == 200
    assert [one["amount"] for one in found["explained"]] == ["0"]
    status, found = await api.ask("GET", "/explain?id=default/none")
    assert (status, found["title"]) == (404, "Not there")


async def test_health_and_openapi_ask_for_nothing(api: Api) -> None:
    """An orchestrator has no token."""
    for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
        async with api.http.get(path) as answer:
            assert answer.status == 200, path
            assert answer.headers["X-Content-Type-Options"] == "nosniff"


# ---------------------------------------------------------------------------------------------- changing
async def test_a_package_is_assigned_edited_and_stopped(api: Api) -> None:
    """Each first as a dry run, which tells the money and changes nothing; each is known by its key."""
    body = {"client": "c1", "package": "1", "reason": "ticket 1"}
    status, would = await api.ask("POST", "/client-packages?dry_run=true", body, key=None)
    assert status == 200, would
    assert [one["amount"] for one in would["transactions"]] == ["-2", "-5"]
    assert (would["balance_before"], would["balance_after"], would["dry_run"]) == ("100", "93", True)
    key = uuid4().hex
    status, done = await api.ask("POST", "/client-packages", body, key=key)
    assert (status, done["client_package"], done["repeated"]) == (200, "c1-1", False)
    status, again = await api.ask("POST", "/client-packages", body, key=key)
    assert (status, again["client_package"], again["repeated"]) == (200, "c1-1", True)
    status, refused = await api.ask("POST", "/client-packages", {**body, "quantity": 2}, key=key)
    assert status == 409
    assert "used for something else" in refused["detail"]
    _, found = await api.ask("GET", "/client-packages/c1-1")
    version = found["client_package"]["version"]
    path = "/client-packages/c1-1/end-date"
    body = {"end_date": "2099-01-01", "expect_version": version}
    status, done = await api.ask("POST", path, body)
    assert status == 200, done
    status, refused = await api.ask("POST", path, {**body, "end_date": None})
    assert status == 409
    assert f"is at version {version + 1}, not {version}" in refused["detail"]
    status, done = await api.ask("POST", "/client-packages/c1-1/stop-now", {})
    assert (status, done["balance_after"]) == (200, "100")
    status, done = await api.ask("POST", "/client-packages/c1-1/remove", {})
    assert status == 200, done
    status, _ = await api.ask("GET", "/client-packages/c1-1")
    assert status == 404
    commands = await api.until("/commands?client=c1", lambda found: len(found["rows"]) >= 4)
    assert {(one["do"], one["actor"], one["result"]) for one in commands["rows"]} >= {
        ("assign", "anna", "done"), ("remove", "anna", "done"), ("edit_end_date", "anna", "refused"),
    }  # fmt: skip


async def test_a_balance_is_adjusted_once(api: Api) -> None:
    """The same request twice at once is one adjustment."""
    body, key = {"amount": "12.345678", "reason": "payment"}, uuid4().hex
    both = await asyncio.gather(*[api.ask("POST", "/clients/c2/adjust", body, key=key) for _ in range(2)])
    assert [status for status, _ in both] == [200, 200]
    _, found = await api.ask("GET", "/clients/c2")
    assert found["client"]["balance"] == "112.345678"


async def test_what_waits_is_paid_and_marked(api: Api) -> None:
    """A charge is marked for the invoice; money that comes clears it."""
    await api.ask("POST", "/clients/c3/adjust", {"amount": "-99"})
    _, done = await api.ask("POST", "/client-packages", {"client": "c3", "package": "1"})
    assert "charge_pending" in {one["type"] for one in done["events"]}
    status, done = await api.ask("POST", "/pending-charges/c3-1/invoice", {})
    assert status == 200, done
    assert [one["type"] for one in done["events"]] == ["pending_charge_invoiced"]
    status, done = await api.ask("POST", "/clients/c3/adjust", {"amount": "10"})
    assert {"charge_cleared", "activated"} <= {one["type"] for one in done["events"]}
    status, refused = await api.ask("POST", "/pending-charges/c3-1/invoice", {})
    assert status == 404, refused


async def test_a_package_is_created_edited_disabled_and_deleted(api: Api) -> None:
    """As in a catalog file; the same once more changes nothing."""
    row = {"id": "api-1", "name": "New", "type": "customer", "currency": "USD", "period": "1 month",
           "fees": [{"type": "subscription", "name": "Monthly", "rate": "3.00"}]}  # fmt: skip
    status, would = await api.ask("POST", "/packages?dry_run=true", row)
    assert (status, would["before"], would["after"]) == (200, None, "active")
    status, done = await api.ask("POST", "/packages", row)
    assert status == 200, done
    status, again = await api.ask("POST", "/packages", row)
    assert (status, again["catalog"]) == (200, done["catalog"])
    status, refused = await api.ask("POST", "/packages", {**row, "name": "Other"})
    assert (status, fields(refused)) == (422, {"id"})
    status, done = await api.ask("PUT", "/packages/api-1", {**row, "priority": 3})
    assert [(one["field"], one["before"], one["after"]) for one in done["fields"]] == [("priority", 0, 3)]
    status, done = await api.ask("POST", "/packages/api-1/status", {"status": "disabled"})
    assert (status, done["before"], done["after"]) == (200, "active", "disabled")
    _, found = await api.ask("GET", "/packages/api-1")
    assert [one["status"] for one in found["statuses"]] == ["active", "disabled"]
    status, done = await api.ask("DELETE", "/packages/api-1")
    assert (status, done["after"]) == (200, None)
    assert (await api.ask("GET", "/packages/api-1"))[0] == 404


async def test_rejected_records_are_recycled(api: Api) -> None:
    """A dry run tells what would be sent; nothing is."""
    await api.until("/rejected?reason=rate_missing", lambda found: found["rows"])
    status, would = await api.ask("POST", "/rejected/recycle?dry_run=true", {"reason": "rate_missing"})
    assert (status, would["sent"], would["dry_run"]) == (200, {"rate_missing": 1}, True)
    status, refused = await api.ask("POST", "/rejected/recycle", {"reason": "too_old"})
    assert (status, fields(refused)) == (422, {"late"})


# ---------------------------------------------------------------------------------------------- refusing
@pytest.mark.parametrize(
    ("method", "path", "body", "status", "named"),
    [
        ("GET", "/clients?rows=0", None, 400, {"rows"}),
        ("GET", "/clients?rows=many", None, 400, {"rows"}),
        ("GET", "/clients?colour=red", None, 400, {"colour"}),
        ("GET", "/clients?rows=1&rows=2", None, 400, {"rows"}),
        ("GET", "/clients?after=x", None, 422, {"after"}),
        ("GET", "/client-packages?status=gone", None, 400, {"status[0]"}),
        ("GET", "/transactions?type=null", None, 400, {"type"}),
        ("GET", "/rerate-jobs?open=null", None, 400, {"open"}),
        ("GET", "/transactions?since=yesterday", None, 422, {"since"}),
        ("GET", "/rejected?source=none", None, 422, {"source"}),
        ("POST", "/clients/c4/adjust", {"amount": 5}, 400, {"amount"}),
        ("POST", "/clients/c4/adjust", {"amount": "1e3"}, 400, {"amount"}),
        ("POST", "/clients/c4/adjust", {"amount": "NaN"}, 400, {"amount"}),
        ("POST", "/clients/c4/adjust", {"amount": "1", "colour": "red"}, 400, {"colour"}),
        ("POST", "/clients/c4/adjust", {}, 400, {"amount"}),
        ("POST", "/clients/c4/adjust", {"amount": "0"}, 422, set()),
        ("POST", "/clients/none/adjust", {"amount": "1"}, 404, set()),
        ("POST", "/client-packages", {"client": "c4", "package": "none"}, 404, set()),
        ("POST", "/client-packages", {"client": "c4", "package": "1", "quantity": 1.0}, 400, {"quantity"}),
        ("POST", "/client-packages", {"client": "c4", "package": "old"}, 409, set()),
        ("POST", "/client-packages", {"client": "c4", "package": "1", "start_date": "soon"}, 422, set()),
        ("POST", "/client-packages/none/cancel", {}, 404, set()),
        ("POST", "/packages", {"id": "9"}, 422, {"name", "type", "currency"}),
        ("POST", "/packages", {"id": "9", "name": "N", "type": "customer", "currency": "USD", "priority": "1",
                               "fees": [{"type": "subscription", "name": "M", "rate": 3}]}, 422,
         {"priority", "fees[0].rate"}),
        ("PUT", "/packages/1", {"id": "2"}, 422, {"id"}),
        ("POST", "/packages/none/status", {"status": "active"}, 404, set()),
        ("GET", "/nothing", None, 404, set()),
        ("PATCH", "/clients", None, 405, set()),
        ("GET", "/clients", {"a": 1}, 400, set()),
    ],
)  # fmt: skip
async def test_wrong_input_names_the_field(
    api: Api, method: str, path: str, body: Any, status: int, named: set[str]
) -> None:
    """A problem (RFC 9457) with the field that is meant, and nothing is changed."""
    found, answer = await api.ask(method, path, body)
    assert (found, fields(answer)) == (status, named), answer
    assert answer["status"] == status
    assert answer["detail"]


async def test_other_methods_and_what_is_no_json(console: Console, api: Api) -> None:
    """A method that is not there is told which are (RFC 9110); what is no JSON explains nothing."""
    async with api.http.request("TRACE", f"{console.url}/api/v1/clients") as answer:
        assert (answer.status, answer.headers["Allow"]) == (405, "GET")
    status, told = await api.ask("POST", "/explain", b"\xff{")
    assert (status, told["title"]) == (400, "Not understood")


async def test_what_nobody_has_is_not_searched_for(console: Console, api: Api) -> None:
    """An id that is made up costs no walk through all clients."""
    for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/stop-now")):
        status, _ = await api.ask(method, f"/client-packages/none{path}", None if method == "GET" else {})
        assert status == 404
    assert (await api.ask("POST", "/pending-charges/none/invoice", {}))[0] == 404
    assert "all clients are searched" not in (console.folder / "admin.log").read_text()


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b'{"amount": "1"', {}, 400),
        (b"", {}, 400),
        (b"\xff", {}, 400),
        (b"[" * 100_000, {}, 400),
        (b'{"amount": "1"}', {"Content-Type": "text/plain"}, 415),
        (b"amount=1", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        (io.BytesIO(HUGE), {}, 413),
    ],
    ids=["cut", "empty", "no-utf8", "deep", "text", "form", "huge"],
)
async def test_bodies_that_are_none(
    api: Api, body: bytes | io.BytesIO, headers: dict[str, str], status: int
) -> None:
    """Broken, foreign and endless bodies are refused, and leave nothing behind."""
    found, answer = await api.ask("POST", "/clients/c4/adjust", body, headers=headers)
    assert found == status, answer


async def test_writes_want_a_key(api: Api) -> None:
    """Without one a request that is sent again would be done twice."""
    status, answer = await api.ask("POST", "/clients/c4/adjust", {"amount": "1"}, key=None)
    assert status == 422
    assert "Idempotency-Key" in answer["detail"]
    for key in ("a/b", "opening", "x" * 300):
        status, answer = await api.ask("POST", "/clients/c4/adjust", {"amount": "1"}, key=key)
        assert (status, "Idempotency-Key" in answer["detail"]) == (422, True)
    _, found = await api.ask("GET", "/clients/c4")
    assert found["client"]["balance"] == "100"


@pytest.mark.parametrize(
    ("role", "method", "path", "body", "status"),
    [
        (None, "GET", "/clients", None, 401),
        ("view", "GET", "/clients", None, 200),
        ("view", "POST", "/clients/c4/adjust?dry_run=true", {"amount": "1"}, 403),
        ("view", "POST", "/client-packages", {"client": "c4", "package": "1"}, 403),
        ("operate", "POST", "/clients/c4/adjust?dry_run=true", {"amount": "1"}, 200),
        ("operate", "POST", "/packages", {"id": "9"}, 403),
        ("operate", "POST", "/client-packages/cp42/remove", {}, 403),
        ("operate", "DELETE", "/packages/old", None, 403),
    ],
)
async def test_roles(api: Api, role: str | None, method: str, path: str, body: Any, status: int) -> None:
    """Who views looks, who operates changes clients, who administers packages too; nobody without a token."""
    found, answer = await api.ask(method, path, body, role=role)
    assert found == status, answer


async def test_a_wrong_token_is_told_and_slowed_down(console: Console, api: Api) -> None:
    """After some guesses the address waits, for a login too; who has a token is served all the same."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))  # others of these tests are not to wait
    async with aiohttp.ClientSession(console.url, connector=connector) as guessing:
        statuses, waits, details = list[int](), list[str | None](), list[str]()
        for guess in range(7):
            headers = {"Authorization": f"Bearer guess-{guess}"}
            async with guessing.get("/api/v1/clients", headers=headers) as answer:
                statuses.append(answer.status)
                waits.append(answer.headers.get("Retry-After"))
                details.append((await answer.json(content_type=None))["detail"])
        assert statuses == [401] * 5 + [429] * 2
        assert int(waits[-1] or 0) > 0
        assert "too many" in details[-1]
        async with guessing.post("/login", data={"token": TOKENS["view"]}) as answer:
            assert answer.status == 429
        assert (await Api(guessing).ask("GET", "/clients"))[0] == 200
    assert (await api.ask("GET", "/clients"))[0] == 200


async def test_names_come_as_they_are(api: Api) -> None:
    """What looks like HTML is a text like any other."""
    _, found = await api.ask("GET", "/clients/43")
    assert found["client"]["name"] == BOLD
    assert json.loads(json.dumps(found)) == found
