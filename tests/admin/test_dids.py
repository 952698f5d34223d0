"""Numbers, by the API and by the console of the real program: given to an account, and taken back."""

from __future__ import annotations

from uuid import uuid4

import pytest

from admin.conftest import Api, Visitor

pytestmark = pytest.mark.kafka

FIRST, SECOND, THIRD = (f"38044111220{n}" for n in range(3))


async def test_a_number_is_given_and_taken_back(api: Api) -> None:
    """First as a dry run; the same key again does nothing twice; who holds it stands in the list."""
    path, body, key = f"/dids/{FIRST}/assign", {"account": "sip-r1", "reason": "ticket 3"}, uuid4().hex
    status, would = await api.ask("POST", f"{path}?dry_run=true", body, key=None)
    assert (status, would["client_package"], would["dry_run"]) == (200, "did1", True)
    assert would["balance_before"] == would["balance_after"]
    for repeated in (False, True):
        status, done = await api.ask("POST", path, body, key=key)
        assert (status, done["repeated"]) == (200, repeated), done
    status, refused = await api.ask("POST", path, {"account": "sip-r2"})
    assert status == 409, refused
    assert "did1" in refused["detail"] or "held" in refused["detail"]
    found = await api.until(f"/dids?number={FIRST}", lambda found: found["rows"][0]["client"])
    assert [(row["state"], row["account"]) for row in found["rows"]] == [("in use", "sip-r1")]
    status, done = await api.ask("POST", f"/dids/{FIRST}/release", {"reason": "moved"})
    assert status == 200, done
    await api.until("/dids?state=free", lambda found: FIRST in {row["number"] for row in found["rows"]})
    found = await api.until("/commands?client=r1", lambda found: len(found["rows"]) >= 4)
    assert {(row["do"], row["result"]) for row in found["rows"]} >= {
        ("did_assign", "done"), ("did_release", "done"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"/dids/{SECOND}/assign", {"account": "nobody"}, 404),
        (f"/dids/{SECOND}/assign", {"account": "sip-r3"}, 409),
        (f"/dids/{SECOND}/assign", {}, 400),
        ("/dids/999/assign", {"account": "sip-r1"}, 409),
        ("/dids/x/assign", {"account": "sip-r1"}, 422),
        (f"/dids/{SECOND}/release", {}, 404),
    ],
)
async def test_what_cannot_be_is_refused(api: Api, path: str, body: dict[str, str], status: int) -> None:
    """No such account, no package that allows it, no such number, nobody who holds it."""
    found, answer = await api.ask("POST", path, body)
    assert found == status, answer
    found, _ = await api.ask("POST", path, body, role="view")
    assert found in {400, 403}


async def test_a_number_is_given_by_hand(visitor: Visitor, api: Api) -> None:
    """From the list to the form, what it would do, and doing it; then back."""
    await visitor.get(f"/assign-did?number={THIRD}&account=sip-r2&preview=1")
    assert "would be held by sip-r2" in visitor.text
    assert "No money moves." in visitor.text
    await visitor.send("/assign-did", {})
    assert f"{THIRD} is held by sip-r2" in visitor.text
    await visitor.get("/client-packages/did2")
    assert THIRD in visitor.text
    await visitor.get("/assign-did?client=r2&number=1&account=sip-r2&preview=1")
    assert visitor.status == 409, visitor.text
    await visitor.get(f"/dids/{THIRD}/release")
    assert "Take it back" in visitor.text
    await visitor.send(f"/dids/{THIRD}/release", {"reason": "ticket 4"})
    assert f"{THIRD} is free" in visitor.text
    _, found = await api.ask("GET", f"/dids?number={THIRD}")
    assert found["rows"][0]["state"] == "free"
    await visitor.get(f"/dids/{THIRD}/release")
    assert visitor.status == 404
