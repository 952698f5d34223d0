"""Input that cannot be rated ends in `rater.rejected`, whole and with a reason; its neighbours are rated."""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from traffic import catalog

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
GROWTH_BYTES_MAX = 200 << 20
TIME = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def cdr(number: int, **change: Any) -> bytes:
    """Return a good CDR with changes; None takes a field out."""
    whole = {
        "id": f"poison-{number}", "called": "380441234567", "answered_at": TIME, "duration_ms": 60_000,
        "orig": {"client": "c1"}, **change,
    }  # fmt: skip
    return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()


GIVEN = {"client": "c1", "rate": {"code": "380\n", "price": "1", "currency": "USD"}}
POISON: list[tuple[str, bytes | None, str]] = [
    ("broken JSON", b'{"id": "1", "called"', "malformed"),
    ("100,000 nested lists", b"[" * 100_000 + b"]" * 100_000, "too_large"),
    ("nested lists below the size limit", b'{"id": ' + b"[" * 30_000 + b"]" * 30_000 + b"}", "malformed"),
    ("10 MB", b'{"id": "' + b"x" * 10_000_000 + b'"}', "too_large"),
    ("a list", b"[1, 2]", "malformed"),
    ("a number for the client", cdr(1, orig={"client": 7}), "malformed"),
    ("a text for the sides", cdr(2, orig="c1"), "malformed"),
    ("NaN", cdr(3).replace(b"60000", b"NaN"), "malformed"),
    ("2^63 ms", cdr(4, duration_ms=2**63), "bad_duration"),
    ("a lone surrogate", cdr(5).replace(b"380441234567", b"38044\\ud800"), "malformed"),
    ("bytes that are no UTF-8", cdr(6).replace(b"380441234567", b"\xff\xfe"), "malformed"),
    ("no sides", cdr(7, orig=None), "missing_field"),
    ("an unknown client", cdr(8, orig={"client": "nobody"}), "client_unknown"),
    ("an unknown code", cdr(9, called="999123"), "rate_missing"),
    ("a time without offset", cdr(10, answered_at="2026-11-26T10:00:00"), "bad_time"),
    ("a negative duration", cdr(11, duration_ms=-1), "bad_duration"),
    ("a control character that nobody reads", cdr(12, x="~").replace(b"~", b"\x01"), "malformed"),
    ("a control character in the number", cdr(13, called="38044\x01234567"), "number_invalid"),
    ("a minus of typography", cdr(14, called="\u2212380441234567"), "number_invalid"),
    ("digits behind a comma", cdr(15, called="380441234567,,123"), "number_invalid"),
    ("a line break in a given code", cdr(16, orig=GIVEN), "malformed"),
    ("lists 101 deep", cdr(17, x="~").replace(b'"~"', b"[" * 100 + b"]" * 100), "malformed"),
    ("a number of 50,000 digits", cdr(18).replace(b"60000", b"9" * 50_000), "bad_duration"),
    ("a fraction of 50,000 digits", cdr(19).replace(b"60000", b"0." + b"9" * 50_000), "bad_duration"),
    ("a power that no number has", cdr(20).replace(b"60000", b"1e999999999"), "bad_duration"),
    ("an empty value", b"", "malformed"),
    ("no value", None, "malformed"),
]  # fmt: skip


async def test_poison_is_rejected_and_its_neighbours_are_rated(system_of: SystemOf) -> None:
    """Each poisoned record keeps its bytes and gets its reason; those between are rated; memory stays."""
    system = await system_of()
    await system.configure([system.topics.cdrs], {"max.message.bytes": str(10 << 20)})
    process = system.start_worker()
    await system.load(catalog(4, 1))
    await system.send([(cdr(1000), None)])
    await system.settled()
    before = psutil.Process(process.pid).memory_info().rss
    for round_ in range(5):
        await system.send(
            record
            for n, (_, raw, _) in enumerate(POISON)
            for record in ((raw, None), (cdr(2000 + 100 * round_ + n), None))
        )
    await system.settled()
    grown = psutil.Process(process.pid).memory_info().rss - before
    rejected = await system.rejected()
    names = {raw: name for name, raw, _ in POISON}
    found = [(names.get(record.value), dict(record.headers)["reason"].decode()) for record in rejected]
    assert found == [(name, reason) for name, _, reason in POISON] * 5
    assert all(dict(record.headers)["detail"] for record in rejected)
    usage = [one for one in await system.transactions() if one["type"] == "usage"]
    assert len({one["id"] for one in usage}) == len(usage) == 1 + 5 * len(POISON)
    assert grown < GROWTH_BYTES_MAX


async def test_large_headers_change_nothing(system_of: SystemOf) -> None:
    """Headers of others are not read: a call with many of them is rated, one that is rejected comes whole."""
    system = await system_of()
    headers = [(f"h{number}", b"x" * 1000) for number in range(900)] + [("attempt", b"9" * 5000)]
    async with system.worker():
        await system.load(catalog(4, 1))
        for raw in (cdr(1), cdr(2, orig=None)):
            await system.send_whole(
                system.topics.cdrs, SimpleNamespace(value=raw, key=b"k" * 1000, headers=headers, partition=0)
            )
        await system.send([(cdr(3), None)])
        await system.settled()
    usage = [one for one in await system.transactions() if one["type"] == "usage"]
    assert [one["id"] for one in usage] == ["default/poison-1/orig", "default/poison-3/orig"]
    [rejected] = await system.rejected()
    assert rejected.value == cdr(2, orig=None)
    assert dict(rejected.headers)["reason"] == b"missing_field"
