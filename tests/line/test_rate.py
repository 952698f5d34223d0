"""On real servers: `rater rate` prints what the line published, and `rater explain` agrees with it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from golden.explained import agrees
from rater import app
from rater.core.catalog_files.merging import read_files
from rater.core.instants import rfc3339
from rater.core.sources.cutting import Record as Piece
from rater.core.trial.arrival import arrivals, first_call_ms
from rater.core.trial.trial import begin_ms
from rater.queries.explained import explained, find, what_if

pytestmark = pytest.mark.kafka

HOUR_MS = 3_600_000
PARTIES = ({"client": "41"}, {"account": "a42"}, {"gateway": "gw"}, {"client": "none"})
NUMBERS = ("380441234567", "380501234567", "12125550100", "999")


def catalog(begin_ms: int) -> dict[str, Any]:
    """Return a catalog whose packages began then, and are renewed hour by hour."""
    start = rfc3339(begin_ms).replace(".000Z", "Z")
    limits = [
        {"id": "v", "type": "volume", "service": "calls", "code": "38044*", "limit": 4},
        {"id": "m", "type": "money", "service": "calls", "code": "*", "limit": "0.30"},
    ]
    fee = [{"type": "subscription", "name": "Hourly", "rate": "0.10"}]
    hourly = {"type": "customer", "currency": "USD", "period": "1 hour", "fees": fee, "limits": limits}
    return {
        "currencies": {"base": "USD"},
        "code_decks": [{"name": "d", "codes": {"38044": "Kiev", "380": "Ukraine", "1": "USA"}}],
        "rate_tables": [
            {
                "name": "t", "currency": "USD", "code_deck": "d",
                "rates": [
                    {"code": "38044", "price": "0.06"},
                    {"code": "380", "price": "0.10", "setup_fee": "0.05", "min_time": 60, "interval": 60},
                    {"code": "1", "price": "0.0333"},
                ],
            }
        ],
        "tax_profiles": [{"name": "vat", "taxes": [{"name": "VAT", "percent": "20"}]}],
        "packages": [
            {**hourly, "id": "1", "name": "Hours"},
            {**hourly, "id": "2", "name": "First", "priority": -1, "charge_on_event": True},
        ],
        "clients": [
            {
                "id": of, "name": of, "currency": "USD", "time_zone": "UTC", "balance": "100",
                "tax_profile": "vat", "rate_tables": {side: {"calls": "t"} for side in ("orig", "term")},
                "accounts": [{"id": f"a{of}"}],
            }
            for of in ("41", "42", "43")
        ],
        "identification": [{"side": "orig", "gateway": "gw", "client": "42", "account": "a42"}],
        "client_packages": [
            {"id": f"{of}-{package}", "client": of, "package": package, "start_date": start}
            for of in ("41", "42") for package in ("1", "2")
        ],
    }  # fmt: skip


def calls(begin_ms: int, number: int) -> list[bytes]:
    """Return calls of the two hours behind an instant, in order of their ends, some twice."""
    rng = Random(7)  # noqa: S311 - the same again
    rows = []
    for n in range(number):
        seconds = rng.choice((0, 5, 59, 60, 61, 170))
        cdr: dict[str, Any] = {
            "id": f"c{n}", "source": "pbx", "called": rng.choice(NUMBERS), "duration_ms": seconds * 1000,
            "answered_at": rfc3339(begin_ms + rng.randrange(2 * HOUR_MS - 200_000)),
        }  # fmt: skip
        cdr["orig"] = rng.choice(
            ({"client": "41"}, {"account": "a42"}, {"gateway": "gw"}, {"client": "none"})
        )
        if rng.random() < 0.3:
            cdr["term"] = {"client": rng.choice(("41", "43"))}
        rows.append(cdr)
    rows.sort(key=lambda cdr: (cdr["answered_at"], cdr["duration_ms"]))
    return [json.dumps(cdr).encode() for cdr in [*rows, rows[-1]]]


async def rater(system: Any, *arguments: str) -> list[dict[str, Any]]:
    """Return the lines that a command prints as JSON."""
    environ = {**os.environ, **system.environ}

    def done() -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(  # noqa: S603 - ours
            [sys.executable, "-m", "rater", *arguments, "--json"],
            env=environ,
            capture_output=True,
            check=False,
        )

    found = await asyncio.to_thread(done)
    assert found.returncode == 0, found.stderr.decode()
    return [json.loads(line) for line in found.stdout.splitlines()]


async def test_offline_and_explained_as_published(
    system_of: Callable[..., Awaitable[Any]], tmp_path: Path
) -> None:
    """The same calls offline and through Kafka and Redis; then each sort of transaction is explained."""
    begin = (int(time.time()) - 3 * 3600) * 1000
    file, raw = json.dumps(catalog(begin)).encode(), calls(begin, 60)
    (tmp_path / "c.json").write_bytes(file)
    (tmp_path / "calls.jsonl").write_bytes(b"".join(one + b"\n" for one in raw))
    arrived = list(arrivals([Piece(1, one) for one in raw], "calls.jsonl", None, int(time.time()) * 1000))
    at_ms = begin_ms(read_files([("c.json", file)], lambda _: b""), first_call_ms(arrived, 0))
    system = await system_of(partitions=2)
    async with system.worker():
        await system.load(file, at_ms, name="c.json")
        await system.send([(one.record.value, one.record.timestamp) for one in arrived])
        await system.settled()
    last = rfc3339(max(one.at_ms or 0 for one in arrived))
    published = {
        one["id"]: one
        for one in await system.transactions()
        if one["type"] != "adjustment" and one["at"] <= last
    }
    offline = await rater(
        system, "rate", str(tmp_path / "calls.jsonl"), "--catalog", str(tmp_path / "c.json")
    )
    assert {one["id"]: one for one in offline if one["type"] != "rejected"} == published
    assert len(published) > 50
    rejected = [one for one in offline if one["type"] == "rejected"]
    assert len(rejected) == len(await system.rejected())
    await explanations(system, published)


async def explanations(system: Any, published: dict[str, dict[str, Any]]) -> None:
    """Explain one of each sort, and what a call would come to now."""
    usage = [one for one in published.values() if one["type"] == "usage"]
    both = next(one for one in usage if one["side"] == "term" and one["id"][:-4] + "orig" in published)
    money = next(one for one in usage if any(draw["kind"] == "money" for draw in one["draws"]))
    fee = next(one for one in published.values() if "cdr" in one and one["type"] == "subscription_fee")
    brought = f"{fee['cdr']['source']}/{fee['cdr']['id']}"
    asked = [both["id"][: -len("/term")], money["id"], usage[-1]["id"], fee["id"], brought]
    async with app.connections(system.settings) as at:
        rows: list[dict[str, Any]] = []
        for name in asked:
            found = await find(at, name, lambda _: None)
            rows = await explained(at, found, {}, lambda _: None)
            assert [row["transaction"] for row in rows] == sorted(
                of for of in published if of == name or of in (f"{name}/orig", f"{name}/term")
            )
            for row in rows:
                one = published[row["transaction"]]
                assert agrees(row, one) == []
                if one["type"] == "usage":
                    assert row["identified"]["by"] in ("client", "account", "rule")
        assert fee["id"] in [row.get("brings") for row in rows]
        now = json.dumps({
            "id": "new", "called": NUMBERS[0], "duration_ms": 90_000,
            "answered_at": rfc3339(int(time.time()) * 1000), "orig": {"gateway": "gw"},
            "term": {"account": "nobody"},
        }).encode()  # fmt: skip
        orig, term = await what_if(at, now)
        assert orig["identified"] == {"by": "rule", "client": "42", "account": "a42"}
        assert orig["candidates"][0]["taken"] is not None
        assert term["rejected"]["reason"] == "account_unknown"
    (system.folder / "new.json").write_bytes(now)
    told = await rater(system, "explain", "--file", str(system.folder / "new.json"))
    assert [row["transaction"] for row in told] == ["default/new/orig", None]
    (row,) = await rater(system, "explain", money["id"])
    assert agrees(row, money) == []
