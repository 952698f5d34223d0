"""Rejected records and old calls, and what became of them when they came again."""

from __future__ import annotations

import json
import time
from collections import Counter
from typing import Any

from rater import app
from rater.core.line.recycling import Choice, note_of
from rater.jobs.recycle import Report

KYIV, ROME = "380501234567", "39061234567"


def catalog(*codes: str, clients: int = 2) -> bytes:
    """Return a catalog with rates for these codes, and clients c0, c1 and so on."""
    tables = {"orig": {"calls": "retail"}, "term": {"calls": "retail"}}
    named = [{"id": f"c{n}", "name": f"c{n}", "currency": "USD", "time_zone": "UTC", "balance": "10.00",
              "rate_tables": tables} for n in range(clients)]  # fmt: skip
    rates = [{"code": code, "price": "0.10"} for code in codes]
    return json.dumps({
        "currencies": {"base": "USD"},
        "code_decks": [{"name": "a-z", "codes": dict.fromkeys(codes, "there")}],
        "rate_tables": [{"name": "retail", "currency": "USD", "code_deck": "a-z", "rates": rates}],
        "clients": named,
    }).encode()  # fmt: skip


def cdr(name: str, called: str = KYIV, days: int = 0, **sides: str) -> bytes:
    """Return a call of so many days ago, by c0 unless sides name others."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - days * 86_400 - 60))
    parties = {side: {"client": client} for side, client in (sides or {"orig": "c0"}).items()}
    return json.dumps(
        {"id": name, "called": called, "answered_at": at, "duration_ms": 60_000, **parties}
    ).encode()


async def recycled(system: Any, late: bool = False, dry_run: bool = False, **choice: Any) -> Report:  # noqa: FBT001, FBT002
    """Recycle what is chosen, and wait until the worker has read it."""
    before = await records(system)
    report = await app.recycle(
        system.settings, Choice(**choice), lambda *_: None, lambda *_: None, late=late, dry_run=dry_run
    )
    assert await records(system) - before == (0 if dry_run else report.sent.total())
    await system.settled()
    return report


async def records(system: Any) -> int:
    """Return how many records the topics of sources have, and note that the worker has to read them."""
    number = 0
    for source in system.settings.all_sources().values():
        for record in await system.read(source.topic):
            system.sent[source.topic, record.partition] = record.offset + 1
            number += 1
    return number


async def usage_of(system: Any) -> Counter[str]:
    """Return how many transactions of calls there are, by id."""
    return Counter(one["id"] for one in await system.transactions() if one["type"] == "usage")


async def rejections(system: Any) -> list[tuple[str, str, str, str]]:
    """Return id of the call, side, reason and attempt of each rejected record, in their order."""
    found = []
    for record in await system.rejected():
        said = {name: value.decode("utf-8", "replace") for name, value in record.headers}
        if note_of(record.headers) is None:
            name = json.loads(record.value)["id"] if record.value[:1] == b"{" else record.value.decode()
            found.append((name, said["side"], said["reason"], said["attempt"]))
    return found
