"""Records of switches, as they are, through their shipped maps, Kafka and Redis to transactions."""

from __future__ import annotations

import json
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
FILES = {
    "asterisk": "asterisk.jsonl",
    "asterisk-csv": "asterisk.csv",
    "cisco-cucm": "cisco-cucm.csv",
    "freeswitch": "freeswitch.jsonl",
    "freeswitch-esl": "freeswitch-esl.txt",
    "kamailio": "kamailio.jsonl",
    "opensips": "opensips.jsonl",
}
ENDS = {
    "asterisk": {"rated": 5, "zero": 4, "bad_duration": 2, "bad_time": 2, "client_unknown": 1, "malformed": 3,
                 "missing_field": 2, "number_invalid": 1},
    "asterisk-csv": {"rated": 6, "zero": 2, "bad_duration": 2, "bad_time": 2, "malformed": 1,
                     "number_invalid": 1},
    "cisco-cucm": {"rated": 3, "zero": 1, "bad_duration": 2, "bad_time": 2, "client_unknown": 3,
                   "malformed": 1},
    "freeswitch": {"rated": 2, "zero": 1, "bad_duration": 1, "bad_time": 1, "client_unknown": 1,
                   "number_invalid": 1},
    "freeswitch-esl": {"rated": 2, "zero": 1, "bad_duration": 1, "bad_time": 1, "client_unknown": 1,
                       "number_invalid": 1},
    "kamailio": {"rated": 6, "zero": 4, "bad_duration": 4, "bad_time": 2, "missing_field": 2,
                 "number_invalid": 2},
    "opensips": {"rated": 2, "zero": 1, "bad_duration": 2, "bad_time": 2, "missing_field": 1,
                 "number_invalid": 2},
}  # fmt: skip
RATES = {"rates": [{"code": str(digit), "price": "0.10"} for digit in range(10)]}
CATALOG = json.dumps({
    "currencies": {"base": "USD"},
    "code_decks": [{"name": "all", "codes": {str(digit): f"Zone {digit}" for digit in range(10)}}],
    "rate_tables": [{"name": "all", "currency": "USD", "code_deck": "all", **RATES}],
    "clients": [
        {"id": "office", "name": "Office", "currency": "USD", "time_zone": "UTC", "balance": "0",
         "rate_tables": {"orig": {"calls": "all"}, "term": {"calls": "all"}},
         "accounts": [{"id": "sip-101"}, {"id": "sip-1001"}]},
        {"id": "carrier", "name": "Carrier", "currency": "USD", "time_zone": "UTC", "balance": "0",
         "rate_tables": {"orig": {"calls": "all"}, "term": {"calls": "all"}}},
    ],
    "identification": [
        {"side": "orig", "ip": "192.0.2.0/24", "client": "office"},
        {"side": "term", "gateway": "gw-kiev", "client": "carrier"},
    ],
}).encode()  # fmt: skip


def pieces(name: str) -> list[bytes]:
    """Return the records of a file as the switch would have sent them."""
    opened = open_map(name, {"source": name})
    assert isinstance(opened, SourceMap)
    with (DATA / FILES[name]).open("rb") as file:
        return [record.raw for record in records(file, opened)]


async def test_every_map_through_the_line(system_of: SystemOf) -> None:
    """Every record of every file ends rated, zero, rejected or skipped; sent again it adds no transaction."""
    sources = {
        key: value
        for name in FILES
        for key, value in (
            (f"RATER_SOURCES__{name.upper().replace('-', '_')}__MAP", name),
            (f"RATER_SOURCES__{name.upper().replace('-', '_')}__TOPIC", f"switch-{name}"),
        )
    }
    system = await system_of(environ=sources)
    async with system.worker():
        await system.load(CATALOG, at_ms=LOADED_MS)
        for name in FILES:
            await system.send([(raw, SENT_MS) for raw in pieces(name)], topic=f"switch-{name}")
        await system.settled()
        first = await system.transactions()
        for name in FILES:
            await system.send([(raw, SENT_MS) for raw in pieces(name)], topic=f"switch-{name}")
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
        ends[headers["source_topic"].decode().removeprefix("switch-"), headers["reason"].decode()] += 1
    found: dict[str, dict[str, int]] = {name: {} for name in FILES}
    for (name, end), number in ends.items():
        found[name][end] = number if end in {"rated", "zero"} else number // 2  # those come with each sending
    assert found == ENDS
