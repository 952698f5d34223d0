"""Pages that move, of the real program: the live page, events as they happen, a client's bars."""

from __future__ import annotations

import asyncio
import html
import json
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from admin.conftest import BOLD, DEADLINE_S, Api, Console, Visitor, visiting
from admin.test_figures import sums_of

pytestmark = pytest.mark.kafka

SOON_S = 20.0
ANSWERED = '<td data-of="What">command done</td>'


class Stream:
    """A stream as a browser reads it. last: the id that a browser that comes again says."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        """Read what comes."""
        self.answer, self.last = answer, ""

    async def next(self, wanted: str) -> str:
        """Return the data of the next event of a name; what else comes is passed over."""
        async with asyncio.timeout(SOON_S):
            while True:
                block = (await self.answer.content.readuntil(b"\n\n")).decode()
                fields = [line.partition(": ")[::2] for line in block.strip("\n").split("\n")]
                self.last = next((value for name, value in fields if name == "id"), self.last)
                if ("event", wanted) in fields:
                    return "\n".join(value for name, value in fields if name == "data")


@asynccontextmanager
async def stream(visitor: Visitor, path: str, last: str | None = None) -> AsyncIterator[Stream]:
    """Open a stream."""
    headers = {} if last is None else {"Last-Event-ID": last}
    timeout = aiohttp.ClientTimeout(total=None)
    async with visitor.http.get(path, headers=headers, timeout=timeout) as answer:
        assert answer.status == 200, await answer.text()
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        assert "script-src 'self'" in answer.headers["Content-Security-Policy"]
        yield Stream(answer)


def stream_of(page: str) -> str:
    """Return where a page listens."""
    return html.unescape(str(re.findall(r'data-stream="([^"]+)"', page)[0]))


# ------------------------------------------------------------------------------------------------- live
async def said_by_all(console: Console, visitor: Visitor) -> dict[str, Any]:
    """Return the sums of what the workers say now."""
    texts = []
    for address in console.workers:
        async with visitor.http.get(f"http://{address}/metrics") as answer:
            texts.append(await answer.text())
    return sums_of(texts)


async def test_the_live_pages_figures_are_the_sums_of_the_workers_metrics(
    console: Console, visitor: Visitor, api: Api
) -> None:
    """Of the same scrape: two workers say the same before and after it; page and API show their sum."""
    end = time.monotonic() + DEADLINE_S
    async with stream(visitor, "/streams/live") as scrapes:
        while True:
            before = await said_by_all(console, visitor)
            await scrapes.next("changed")
            page, (status, told) = await visitor.get("/live"), await api.ask("GET", "/live", role="view")
            if before == await said_by_all(console, visitor) and before["sides"].get("rated", 0) >= 2:
                break
            assert time.monotonic() < end, (before, told)
    assert status == 200
    assert told["sums"] == before
    assert visitor.status == 200, page
    shown = dict(re.findall(r'<th scope="row">([^<]+)</th><td class="num">([\d,]+)</td>', page))
    for words, number in (("records read", before["records"]), ("records that wait", before["waiting"])):
        assert shown[words] == f"{number:,}"
    for kind in ("sides", "rejected", "transactions", "duplicates"):
        for name, number in before[kind].items():
            assert shown[name.replace("_", " ")] == f"{number:,}"
    assert sum(one["records"] for one in told["workers"][:2]) == before["records"]
    assert {one["ready"] for one in told["workers"][:2]} == {True}


async def test_a_worker_that_does_not_answer_is_shown_as_such(
    console: Console, visitor: Visitor, api: Api
) -> None:
    """With why, and since when; the sums are of the others."""
    told = await api.until("/live", lambda found: found["at"] is not None, role="view")
    gone = told["workers"][2]
    assert (gone["address"], gone["answers"], gone["records"]) == (console.nobody, False, None)
    assert gone["since"] < told["at"] or gone["since"] == told["at"]
    await visitor.get("/live")
    assert "2 of 3 workers answer" in visitor.text
    assert f"{console.nobody} no answer it cannot be reached (connection refused)" in visitor.text


# ------------------------------------------------------------------------------------------------- events
async def adjust(api: Api, client: str) -> None:
    """Have something happen at a client."""
    status, found = await api.ask("POST", f"/clients/{client}/adjust", {"amount": "0.01", "reason": BOLD})
    assert status == 200, found


async def test_events_are_listed_and_told_without_a_gap(visitor: Visitor, api: Api) -> None:
    """A page, the stream that it opens, and one that goes on behind what was last seen: each event once."""
    page = await visitor.get("/events?client=c13&answers=1")
    path = stream_of(page)
    before = {row["id"] for row in (await api.ask("GET", "/events?client=c13", role="view"))[1]["rows"]}
    told = []
    await adjust(api, "c13")  # after the page was shown, before it listens
    async with stream(visitor, path) as first:
        told.append(await first.next("told"))
        await adjust(api, "c13")
        told.append(await first.next("told"))
        last = first.last
    await adjust(api, "c13")  # while nobody listens
    await adjust(api, "c14")  # of another client
    async with stream(visitor, path, last) as again:
        told.append(await again.next("told"))
        await adjust(api, "c13")
        told.append(await again.next("told"))
    rows = (await api.ask("GET", "/events?client=c13", role="view"))[1]["rows"]
    new = [row for row in reversed(rows) if row["id"] not in before]
    assert [f'id="e-{row["partition"]}-{row["offset"]}"' in text for row, text in zip(new, told, strict=True)]
    assert len(new) == 4
    assert all(ANSWERED in text for text in told)
    await visitor.get("/events?client=c13&answers=1")
    assert visitor.page.count(ANSWERED) == sum(row["type"] == "command_done" for row in rows)


async def test_filters_of_events_hold(visitor: Visitor, api: Api) -> None:
    """By client and by kind; pages follow each other by keys; one event is shown in full."""
    status, found = await api.ask("GET", "/events?client=42&type=activated", role="view")
    assert status == 200
    assert {(row["client"], row["type"]) for row in found["rows"]} == {("42", "activated")}
    (row,) = found["rows"]
    await visitor.get("/events?client=42&type=activated")
    assert "cp42" in visitor.text
    page = await visitor.get(f"/events/{row['partition']}/{row['offset']}")
    assert f"&#34;id&#34;: &#34;{row['id']}&#34;" in page
    seen, key = [], ""
    while True:
        _, part = await api.ask("GET", f"/events?rows=3{key}", role="view")
        seen += [row["id"] for row in part["rows"]]
        if part["next"] is None:
            break
        key = f"&after={part['next']}"
    assert len(seen) == len(set(seen)) == part["total"]
    await visitor.get("/events?client=c13")  # what commands were answered is seen by who asks for it
    assert ANSWERED not in visitor.page
    page = await visitor.get("/events?rows=25&page=2")
    assert "data-stream" not in page  # what comes, comes on the first page


async def test_events_of_one_kind_are_told_alone(visitor: Visitor, api: Api) -> None:
    """The stream has the page's filters; what they leave out is behind it all the same."""
    page = await visitor.get("/events?type=command_refused")
    async with stream(visitor, stream_of(page)) as one:
        await adjust(api, "c14")
        status, _ = await api.ask("POST", "/client-packages/cp43/cancel", {"expect_version": 99999})
        assert status == 409
        assert "command refused" in await one.next("told")
        assert sum(map(int, one.last.split("-"))) > 0


# ------------------------------------------------------------------------------------------------- bars
async def test_the_page_of_a_client_package_is_told_of_its_calls(console: Console, visitor: Visitor) -> None:
    """A call draws from it; the page hears of it, and shows another bar when it asks for itself again."""
    await visitor.get("/assign?client=c13&package=1&preview=1")
    await visitor.send("/assign", {})
    path = visitor.url
    assert "0 / 100 min" in visitor.text
    async with stream(visitor, stream_of(visitor.page)) as one:
        await one.next("changed")  # at once: something may have changed since the page was shown
        await asyncio.to_thread(call_of, console, "c13", "moves-1")
        while True:
            await one.next("changed")
            await visitor.get(path, headers={"X-By-Itself": "1"})
            if "1:30 / 100 min" in visitor.text:
                break


def call_of(console: Console, client: str, of_id: str) -> None:
    """Send a call of 90 seconds to a code of the package."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1))  # not before the period
    file = console.folder / f"{of_id}.jsonl"
    call = {
        "id": of_id, "called": "380441234567", "duration_ms": 90_000, "answered_at": at,
        "orig": {"client": client},
    }  # fmt: skip
    file.write_text(json.dumps(call) + "\n")
    console.rater("ingest", str(file), "--source", "default")


async def test_a_page_that_asks_for_itself_takes_no_notice(visitor: Visitor) -> None:
    """What is told once is told to who looks, not to a page that moves in the background."""
    await visitor.get("/clients/c14/adjust?amount=1")
    async with visitor.http.post(
        "/clients/c14/adjust", data=hidden(visitor.page) | {"amount": "1"}, allow_redirects=False
    ) as answer:
        assert answer.status == 303
    await visitor.get("/clients/c14", headers={"X-By-Itself": "1"})
    assert "Adjusted by 1" not in visitor.text
    await visitor.get("/clients/c14")
    assert "Adjusted by 1" in visitor.text


def hidden(page: str) -> dict[str, str]:
    """Return the hidden fields of a page's forms."""
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))


async def test_streams_are_for_who_is_logged_in(console: Console) -> None:
    """Others get no stream, and no way to one but the login."""
    async with visiting(console, None) as one:
        for path in ("/streams/live", "/streams/events", "/streams/clients/42"):
            await one.get(path)
            assert one.status == 401
            async with one.http.head(path) as answer:
                assert answer.status in {401, 405}
