"""Records of switches, as they are, through their shipped maps, Kafka and Redis to transactions."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from rater.core.sources.cutting import records
from rater.core.sources.source_map import SourceMap
from rater.source_maps import open_map

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]
DATA = Path(__file__).parents[1] / "data" / "sources"
LOADED_MS = 1_793_664_000_000  # 2026-11-03T00:00:00Z
SENT_MS = 1_793_703_600_000  # 2026-11-03T11:00:00Z, soon after the calls of the files
FILES: dict[str, tuple[str, ...]] = {
    "asterisk": ("asterisk.jsonl",),
    "asterisk-csv": ("asterisk.csv",),
    "cisco-cucm": ("cisco-cucm.csv",),
    "freeswitch": ("freeswitch.jsonl",),
    "freeswitch-esl": ("freeswitch-esl.txt",),
    "kamailio": ("kamailio.jsonl",),
    "opensips": ("opensips.txt", "opensips.jsonl"),  # the same events as text: their JSON adds nothing
    "tap3": ("tap3.jsonl",),
    "ts32298": ("ts32298.jsonl",),
}
ENDS = {
    "asterisk": {"rated": 6, "zero": 4, "bad_duration": 2, "bad_time": 2, "client_unknown": 1, "malformed": 3,
                 "missing_field": 3, "number_invalid": 1},
    "asterisk-csv": {"rated": 7, "zero": 2, "bad_duration": 2, "bad_time": 2, "malformed": 1,
                     "number_invalid": 1},
    "cisco-cucm": {"rated": 3, "zero": 1, "bad_duration": 2, "bad_time": 2, "client_unknown": 3,
                   "malformed": 1, "missing_field": 4},
    "freeswitch": {"rated": 2, "zero": 1, "bad_duration": 1, "bad_time": 1, "client_unknown": 1,
                   "number_invalid": 1},
    "freeswitch-esl": {"rated": 2, "zero": 1, "bad_duration": 1, "bad_time": 1, "client_unknown": 1,
                       "number_invalid": 1},
    "kamailio": {"rated": 8, "zero": 10, "missing_field": 1},
    "opensips": {"rated": 2, "zero": 1, "bad_duration": 2, "bad_time": 2, "missing_field": 3,
                 "number_invalid": 2},
    "tap3": {"rated": 4, "zero": 1, "bad_time": 1, "malformed": 1, "missing_field": 1},
    "ts32298": {"rated": 4, "zero": 2, "bad_time": 1, "malformed": 1, "missing_field": 2},
}  # fmt: skip
LARGE = 2**20
"""Bytes that a source takes unless it says otherwise."""
RATES = {"rates": [{"code": str(digit), "price": "0.10"} for digit in range(10)]}
CATALOG = json.dumps({
    "currencies": {"base": "USD"},
    "code_decks": [{"name": "all", "codes": {str(digit): f"Zone {digit}" for digit in range(10)}}],
    "rate_tables": [{"name": "all", "currency": "USD", "code_deck": "all", **RATES}],
    "clients": [
        {"id": "office", "name": "Office", "currency": "USD", "time_zone": "UTC", "balance": "0",
         "rate_tables": {"orig": {"calls": "all"}, "term": {"calls": "all"}},
         "accounts": [{"id": "sip-101"}, {"id": "sip-1001"}]},
        {"id": "mobile", "name": "Mobile", "currency": "USD", "time_zone": "UTC", "balance": "0",
         "rate_tables": {"orig": {"calls": "all", "messages": "all", "data": "all"},
                         "term": {"calls": "all"}},
         "accounts": [{"id": "001010123456789"}]},
        {"id": "carrier", "name": "Carrier", "currency": "USD", "time_zone": "UTC", "balance": "0",
         "rate_tables": {"orig": {"calls": "all"}, "term": {"calls": "all"}}},
    ],
    "identification": [
        {"side": "orig", "ip": "192.0.2.0/24", "client": "office"},
        {"side": "term", "gateway": "gw-kiev", "client": "carrier"},
    ],
}).encode()  # fmt: skip


def pieces(name: str) -> list[bytes]:
    """Return the records of a map's files as the switch would have sent them."""
    opened = open_map(name, {"source": name})
    assert isinstance(opened, SourceMap)
    found: list[bytes] = []
    for one in FILES[name]:
        with (DATA / one).open("rb") as file:
            found += [record.raw for record in records(file, opened)]
    return found


async def test_every_map_through_the_line(system_of: SystemOf, prefix: str) -> None:
    """Every record of every file ends rated, zero, rejected or skipped; sent again it adds no transaction."""
    sources = {
        key: value
        for name in FILES
        for key, value in (
            (f"RATER_SOURCES__{name.upper().replace('-', '_')}__MAP", name),
            (f"RATER_SOURCES__{name.upper().replace('-', '_')}__TOPIC", f"{prefix}-{name}"),
        )
    }
    system = await system_of(environ=sources)
    async with system.worker():
        await system.load(CATALOG, at_ms=LOADED_MS)
        for name in FILES:
            await system.send([(raw, SENT_MS) for raw in pieces(name)], topic=f"{prefix}-{name}")
        await system.settled()
        first = await system.transactions()
        for name in FILES:
            await system.send([(raw, SENT_MS) for raw in pieces(name)], topic=f"{prefix}-{name}")
        await system.settled()
    again = await system.transactions()
    assert again == first
    ends = Counter(
        (one["id"].split("/")[0].replace("_", "-"), "rated" if one["billed"] else "zero")
        for one in first
        if "cdr" in one
    )
    for record in await system.rejected():
        headers = dict(record.headers)
        ends[headers["source_topic"].decode().removeprefix(f"{prefix}-"), headers["reason"].decode()] += 1
    found: dict[str, dict[str, int]] = {name: {} for name in FILES}
    for (name, end), number in ends.items():
        found[name][end] = number if end in {"rated", "zero"} else number // 2  # those come with each sending
    assert found == ENDS


ROWS = [
    row for row in csv.reader(io.StringIO((DATA / "cisco-cucm.csv").read_text("utf-8"), newline="")) if row
]


def file_of(*calls: dict[str, str]) -> bytes:
    """Return a CUCM file of answered calls, whose caller and called numbers have exchanged columns."""
    names, types, call = map(list, ROWS[:3])
    rows = [names, types]
    rows += [[one.get(name, cell) for name, cell in zip(names, call, strict=True)] for one in calls]
    caller, called = names.index("callingPartyNumber"), names.index("finalCalledPartyNumber")
    for row in rows:
        row[caller], row[called] = row[called], row[caller]
    out = io.StringIO()
    csv.writer(out).writerows(rows)
    return out.getvalue().encode()


async def test_a_file_is_read_by_its_header_row(system_of: SystemOf, prefix: str, tmp_path: Path) -> None:
    """Sent by `rater ingest`, each row stands alone: rated, known again, or rejected as a whole."""
    topic = f"{prefix}-cucm"
    sources = {"RATER_SOURCES__C__MAP": "cisco-cucm", "RATER_SOURCES__C__TOPIC": topic}
    system = await system_of(environ=sources)
    now = int(time.time()) - 600
    times = {
        "dateTimeOrigination": str(now),
        "dateTimeConnect": str(now),
        "dateTimeDisconnect": str(now + 65),
    }
    inside = {**times, "destDeviceName": "SEP00000000A002"}
    raw = file_of({**inside, "pkid": "a"}, {**inside, "pkid": "b", "origIpAddr": "124846283"}) + b"1,2,3\r\n"
    file = tmp_path / "cdr_1.csv"
    header = raw.splitlines()[0]
    async with system.worker():
        await system.load(CATALOG)
        for count, cut in ((5, b"1,2"), (10, b"")):  # a last row without a line break is not sent
            file.write_bytes(raw + cut)
            asked = ("-m", "rater", "ingest", str(file), "--source", "c")
            environ = {**os.environ, **system.environ}
            ingest = await asyncio.create_subprocess_exec(sys.executable, *asked, env=environ)
            assert await ingest.wait() == (1 if cut else 0)
            system.sent[topic, 0] = count
            await system.settled()
            (one,) = [one for one in await system.transactions() if "cdr" in one]
            assert (one["caller"], one["called"], one["duration_ms"]) == ("2001", "380441234567", 65000)
        await system.send([(header, None)], topic=topic)
        await system.settled()
        rejected = [dict(record.headers) for record in await system.rejected()]
        assert [one["reason"] for one in rejected] == [b"client_unknown", b"malformed"] * 2 + [b"malformed"]
        assert [one.get("columns") for one in rejected] == [header] * 4 + [None]
        assert b"the row has 3 cells and needs 61" in rejected[1]["detail"]
        assert b"rater ingest" in rejected[4]["detail"]
        mended = json.loads(CATALOG)
        mended["identification"].append({"side": "orig", "ip": "203.0.113.0/24", "client": "office"})
        await system.load(json.dumps(mended).encode(), name="mended.json")
        await system.send_whole(topic, (await system.rejected())[0])
        system.sent[topic, 0] += 1
        await system.settled()
    usage = [one for one in await system.transactions() if "cdr" in one]
    assert [(one["cdr"]["id"], one["caller"], one["called"]) for one in usage] == [
        ("a", "2001", "380441234567"),
        ("b", "2001", "380441234567"),
    ]
    assert len(await system.rejected()) == 5


async def test_large_and_damaged_documents(system_of: SystemOf, prefix: str) -> None:
    """Documents of 80 kB and of 1 MiB are rated, also with bad bytes; what is larger is rejected whole."""
    topic = f"{prefix}-fs-large"
    system = await system_of(
        environ={"RATER_SOURCES__FS__MAP": "freeswitch", "RATER_SOURCES__FS__TOPIC": topic}
    )
    leg = json.loads((DATA / FILES["freeswitch"][0]).read_bytes().splitlines()[0])
    sent = []
    for number, size in enumerate((80_000, LARGE, LARGE, LARGE + 1)):
        leg["variables"]["uuid"] = f"leg-{number}"
        raw = json.dumps({**leg, "app_log": "~"}).encode()
        noise = random.Random(number).randbytes(size // 2).hex().encode()  # noqa: S311 - no secret
        sent.append(raw.replace(b"~", noise[: size - len(raw) + 1]))
        assert len(sent[-1]) == size
    sent[2] = sent[2].replace(b'"default"', b'"def\x01ult"').replace(b'"XML"', b'"X\xe9L"')
    async with system.worker():
        await system.load(CATALOG, at_ms=LOADED_MS)
        await system.send([(raw, SENT_MS) for raw in sent], topic=topic)
        await system.settled()
    usage = [one for one in await system.transactions() if "cdr" in one]
    assert sorted(one["cdr"]["id"] for one in usage) == ["leg-0", "leg-1", "leg-2"]
    assert {one["billed"] for one in usage} == {66}
    (rejected,) = await system.rejected()
    assert dict(rejected.headers)["reason"] == b"too_large"
    assert rejected.value == sent[3]
