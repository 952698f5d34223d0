"""Files of mobile networks, by `rater ingest --format` through Kafka and Redis to transactions."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import mobile_files as made

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
TARIFF = {
    "made": [("380", "0.10", 60)],
    "taken": [(made.ZONE[:6], "-0.06", 1), ("1202", "0", 1)],
    "messages": [("380", "0.05", 1)],
    "data": [(made.ZONE, "1.00", 1), ("001", "0.50", 1)],
}
"""Rate table → code, price, interval. Who takes a call abroad pays for it; at home it is free."""
CATALOG = json.dumps({
    "currencies": {"base": "USD"},
    "code_decks": [
        {"name": name, "codes": {code: f"Zone {code}" for code, _, _ in rows}}
        for name, rows in TARIFF.items()
    ],
    "rate_tables": [
        {"name": name, "currency": "USD", "code_deck": name, "rates": [
            {"code": code, "price": price, "min_time": step, "interval": step} for code, price, step in rows
        ]}
        for name, rows in TARIFF.items()
    ],
    "clients": [
        {"id": "roamer", "name": "Roamer", "currency": "USD", "time_zone": "UTC", "balance": "50",
         "rate_tables": {"orig": {"calls": "made", "messages": "messages", "data": "data"},
                         "term": {"calls": "taken"}},
         "accounts": [{"id": made.IMSI}]},
    ],
}).encode()  # fmt: skip
# 65 s at 0.10 a minute, by whole minutes; 61 s at 0.06 a minute, by seconds; 2442 KiB, at a price for 1024.
AMOUNTS = {
    ("roaming", "orig", "calls"): "-0.2",
    ("roaming", "term", "calls"): "-0.061",
    ("roaming", "orig", "messages"): "-0.05",
    ("roaming", "orig", "data"): "-2.384766",
    ("network", "orig", "calls"): "-0.2",
    ("network", "term", "calls"): "0",
    ("network", "orig", "messages"): "-0.05",
    ("network", "orig", "data"): "-1.192383",
}


def _sources(prefix: str) -> dict[str, str]:
    return {
        f"RATER_SOURCES__{name.upper()}__{key}": value
        for name, form in (("roaming", "tap3"), ("network", "ts32298"))
        for key, value in (("MAP", form), ("TOPIC", f"{prefix}-{form}"))
    }


def _files(folder: Path) -> list[tuple[str, str, Path]]:
    """Write a file of each format, the one packed, the other cut off in its last record."""
    events = [made.mo_call(), made.mt_call(), made.mo_sms(), made.gprs(), made.supplementary()]
    cdrs = [
        made.mo_record(),
        made.mt_record(),
        made.sms_record(),
        made.session_record(),
        made.mo_record("0b"),
    ]
    tap, bare = folder / "CDTSTN1HOMEN00001.gz", folder / "cdr"
    tap.write_bytes(gzip.compress(made.tap_file(events)))
    bare.write_bytes(b"".join(cdrs)[:-7])
    return [("roaming", "tap3", tap), ("network", "ts32298", bare)]


def _ingest(system: Any, source: str, form: str, file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "rater", "ingest", str(file), "--source", source, "--format", form]
    return subprocess.run(  # noqa: S603
        command, env={**os.environ, **system.environ}, capture_output=True, text=True, check=False
    )


async def test_calls_a_message_and_a_session_of_each_format(
    system_of: SystemOf, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is rated once, however often its file is sent; what is broken is rejected by name."""
    monkeypatch.setattr(made, "DAY", time.strftime("%Y%m%d", time.gmtime(time.time() - 86_400)))
    files = _files(tmp_path)
    system = await system_of(environ=_sources(prefix))
    async with system.worker():
        await system.load(CATALOG)
        for _ in range(2):
            for source, form, file in files:
                done = _ingest(system, source, form, file)
                assert done.returncode == (form == "ts32298"), done.stderr
                assert f"{file}: 5 records sent to {prefix}-{form}" in done.stdout
                assert ("octets cannot be read" in done.stderr) == (form == "ts32298")
                for record in await system.read(f"{prefix}-{form}"):
                    system.sent[record.topic, record.partition] = record.offset + 1
            await system.settled()
            transactions = [one for one in await system.transactions() if "cdr" in one]
            amounts = {
                (one["cdr"]["source"], one["side"], one["service"]): one["amount"] for one in transactions
            }
            assert {key: Decimal(amount) for key, amount in amounts.items()} == {
                key: Decimal(amount) for key, amount in AMOUNTS.items()
            }
            assert len(transactions) == len(AMOUNTS)
    rejected = [{key: value.decode() for key, value in one.headers} for one in await system.rejected()]
    assert [(one["source_topic"], one["reason"]) for one in rejected] == [
        (f"{prefix}-ts32298", "malformed")
    ] * 2
    assert "octets cannot be read" in rejected[0]["detail"]
