"""Rate tables and decks, by the API and by the console of the real program."""

from __future__ import annotations

import asyncio
import html
import io
import re
from typing import Any

import aiohttp
import pytest

from admin.conftest import Api, Console, Visitor, visiting
from rater.admin.uploads import FILE_BYTES_MAX

pytestmark = pytest.mark.kafka

DEARER = b"code,price\n380,0.12\n38044,0.06\n"
NEW = b"code,price\n49,0.02\n38044,0.05\n"
FILE = {"Content-Type": "application/octet-stream"}


async def sent(visitor: Visitor, table: str, raw: bytes, name: str = "notice.csv", **more: str) -> None:
    """Send a deck by the form, and look at what it would change."""
    page = await visitor.get(f"/import-deck?table={table}")
    form = aiohttp.FormData()
    for field, value in re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page):
        form.add_field(field, html.unescape(value))
    for field, value in {"table": table, "profile": "", "columns": "", "effective": "", **more}.items():
        form.add_field(field, value)
    form.add_field("file", io.BytesIO(raw), filename=name, content_type="text/csv")
    async with visitor.http.post("/import-deck", data=form) as answer:
        await visitor._read(answer)  # noqa: SLF001 - as its own


async def prices(api: Api, table: str) -> dict[str, str]:
    """Return code → price that is in force."""
    _, found = await api.ask("GET", f"/rate-tables/{table.replace('/', '%2F')}/rates")
    return {row["code"]: row["price"] for row in found["rows"] if row["state"] == "in force"}


async def test_rates_are_listed_and_found(visitor: Visitor, api: Api) -> None:
    """Tables with their counts; codes that begin so; what a number is rated by; pages of codes."""
    await visitor.get("/rate-tables?text=RETAIL")
    assert "retail USD a-z 2 2" in visitor.text
    await visitor.get("/rate-tables/retail?code=380441234567")
    assert "is rated now by code 38044 (Ukraine Kiev), 0.06 USD" in visitor.text
    assert "38044 Ukraine Kiev 0.06 USD" in visitor.text
    await visitor.get("/rate-tables/retail?code=4")
    assert "by none of this table" in visitor.text
    await visitor.get("/rate-tables/carrier%2F8?code=38")
    assert "0.10 USD" in visitor.text
    _, first = await api.ask("GET", "/rate-tables/retail/rates?rows=1")
    assert ([row["code"] for row in first["rows"]], first["total"]) == (["380"], 2)
    _, second = await api.ask("GET", "/rate-tables/retail/rates", params={"rows": 1, "after": first["next"]})
    assert [row["code"] for row in second["rows"]] == ["38044"]
    assert second["next"] is None
    _, back = await api.ask(
        "GET", "/rate-tables/retail/rates", params={"rows": 1, "before": second["previous"]}
    )
    assert back["rows"] == first["rows"]
    assert (await api.ask("GET", "/rate-tables/none/rates"))[0] == 404
    assert (await visitor.get("/rate-tables/retail?code=3a"), visitor.status)[1] == 422


async def test_a_deck_is_looked_at_and_loaded(visitor: Visitor, api: Api) -> None:
    """The difference first, then the load, which the audit trail tells with its reason."""
    await sent(visitor, "carrier/1", DEARER)
    assert visitor.status == 200, visitor.text
    assert "1 dearer prices that rise" in visitor.text
    assert "1 unchanged" in visitor.text
    assert "380 " in visitor.text
    assert await prices(api, "carrier/1") == {"380": "0.1", "38044": "0.06"}
    await visitor.send(visitor.url, {"reason": "ticket 5"})
    assert visitor.url == "/rate-tables/carrier%2F1"
    assert "is loaded; catalog" in visitor.text
    assert await prices(api, "carrier/1") == {"380": "0.12", "38044": "0.06"}
    await visitor.get("/commands?do=load_catalog&actor=anna")
    assert "deck notice.csv into rate table carrier/1: 1 dearer; ticket 5" in visitor.text
    await sent(visitor, "carrier/1", DEARER)
    assert "there is nothing to load" in visitor.text


async def test_two_import_at_once(console: Console, visitor: Visitor, api: Api) -> None:
    """The second is told, sees what the deck changes now, and loads that: both are in the table."""
    async with visiting(console, "administer") as other:
        await sent(other, "carrier/2", NEW)
        await sent(visitor, "carrier/2", DEARER)
        await other.send(other.url, {})
        assert other.status == 200, other.text
        path = visitor.url
        await visitor.send(path, {"reason": "mine"})
        assert visitor.status == 409
        assert "was changed by somebody else" in visitor.text
        assert "2 dearer" in visitor.text
        assert 'value="mine"' in visitor.page
        await visitor.send(path, {})
    assert visitor.url == "/rate-tables/carrier%2F2", visitor.text
    assert await prices(api, "carrier/2") == {"380": "0.12", "38044": "0.06", "49": "0.02"}


async def test_a_load_of_something_else_is_no_change(visitor: Visitor, api: Api) -> None:
    """What was looked at is the table and its names; a package that was saved meanwhile is no other deck."""
    await sent(visitor, "carrier/3", DEARER)
    path, page = visitor.url, visitor.page
    row = {"id": "between", "name": "Between", "type": "customer", "currency": "USD"}
    assert (await api.ask("POST", "/packages", row))[0] == 200
    visitor.page = page
    await visitor.send(path, {})
    assert visitor.url == "/rate-tables/carrier%2F3", visitor.text


async def test_a_deck_by_the_api(api: Api) -> None:
    """A dry run tells the difference and what it was made of; with that it is loaded, and once."""
    path = "/rate-tables/carrier%2F4/import"
    ask: dict[str, Any] = {"headers": FILE}
    status, would = await api.ask("POST", f"{path}?dry_run=true&file=n.csv", NEW, key=None, **ask)
    assert status == 200, would
    assert {one["kind"]: one["count"] for one in would["kinds"]} == {"new": 1, "cheaper": 1, "stays": 1}
    cheaper = next(one["first"][0] for one in would["kinds"] if one["kind"] == "cheaper")
    assert (cheaper["code"], cheaper["before"], cheaper["after"]) == ("38044", "0.06", "0.05")
    status, refused = await api.ask("POST", path, NEW, **ask)
    assert (status, refused["errors"][0]["field"]) == (422, "seen")
    both = await asyncio.gather(
        *(api.ask("POST", f"{path}?seen={would['seen']}", deck, **ask) for deck in (NEW, DEARER))
    )
    assert sorted(status for status, _ in both) == [200, 409]
    status, done = both[0] if both[0][0] == 200 else both[1]
    assert done["changed"] is True
    deck = NEW if both[0][0] == 200 else DEARER
    status, again = await api.ask("POST", f"{path}?seen={would['seen']}", deck, **ask)
    assert (status, again["changed"], again["catalog"] >= done["catalog"]) == (200, False, True)


@pytest.mark.parametrize(
    ("query", "raw", "status", "told"),
    [
        ("", b"code,price\n380,abc\n38044,0.06\n", 422, "line 2"),
        ("", b"hello\n", 422, ""),
        ("", b"\x00\x01\x02", 422, ""),
        ("", b"PK\x03\x04broken", 422, ""),
        ("", b"", 422, "file"),
        ("&profile=none", NEW, 422, "no such profile"),
        ("&columns=colour=A", NEW, 422, "FIELD=COLUMN"),
        ("&effective=soon", NEW, 422, "effective"),
    ],
)
async def test_faults_name_their_place(api: Api, query: str, raw: bytes, status: int, told: str) -> None:
    """File, line, column, value and remedy; nothing is changed."""
    path = f"/rate-tables/carrier%2F5/import?dry_run=true&file=bad.csv{query}"
    found, answer = await api.ask("POST", path, raw, headers=FILE)
    assert (found, told in str(answer)) == (status, True), answer
    assert answer["errors"]


async def test_a_fault_is_shown_with_its_place(visitor: Visitor, api: Api) -> None:
    """The page names line, column and value; a table that is not there is one, too."""
    await sent(visitor, "carrier/5", b"code,price\n380,abc\n38o,0.06\n", "<b>bad</b>.csv")
    assert visitor.status == 422
    assert "abc" in visitor.text
    assert "<b>bad" not in visitor.page
    assert "Load it" not in visitor.text
    await sent(visitor, "nowhere", NEW)
    assert "no such rate table" in visitor.text
    await visitor.get("/import-deck/never")
    assert visitor.status == 404
    assert await prices(api, "carrier/5") == {"380": "0.1", "38044": "0.06"}


async def test_files_are_bounded_and_forms_are_ours(console: Console, visitor: Visitor, api: Api) -> None:
    """Too large, of another role, without the session's mark, or no form at all: nothing is kept."""
    huge = b"1" * (FILE_BYTES_MAX + 1)
    path = "/rate-tables/carrier%2F6/import?dry_run=true"
    status, answer = await api.ask("POST", path, io.BytesIO(huge), headers=FILE)
    assert (status, "32 MiB" in answer["detail"]) == (413, True)
    assert (await api.ask("POST", path, NEW))[0] == 415
    assert (await api.ask("POST", path, NEW, headers=FILE, role="operate"))[0] == 403
    await sent(visitor, "carrier/6", huge)
    assert visitor.status == 413
    async with visiting(console, "operate") as other:
        await other.get("/import-deck")
        assert other.status == 403
    for fields, headers, status in (
        ({"csrf": "x" * 43, "table": "carrier/6"}, {}, 403),
        ({"table": "carrier/6"}, {}, 403),
        ({"table": "carrier/6"}, {"Origin": "https://evil.example"}, 403),
    ):
        form = aiohttp.FormData()
        for name, value in fields.items():
            form.add_field(name, value)
        form.add_field("file", NEW, filename="n.csv")
        async with visitor.http.post("/import-deck", data=form, headers=headers) as refused:
            assert refused.status == status
    for raw, kind, status in (
        (b"--b\r\nbroken", "multipart/form-data; boundary=b", 400),
        (b"table=1", "application/x-www-form-urlencoded", 415),
        (b"", "multipart/form-data", 400),
        (b"", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b\r\nContent-Type: multipart/mixed\r\n\r\n", "multipart/form-data; boundary=b", 400),
        (b"--b\r\n" + b"a" * 20_000, "multipart/form-data; boundary=b", 400),
    ):
        headers = {"Content-Type": kind}
        async with visitor.http.post("/import-deck", data=raw, headers=headers) as refused:
            assert refused.status in {status, 403}, await refused.text()
