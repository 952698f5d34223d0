"""Poison that is large or deep, or comes again and again, takes bounded memory and time."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

import traffic
from fuzz import targets, world
from fuzz.mutating import DEEP
from rater.core.cdr import MAX_BYTES
from rater.core.journal.auditing import PROBLEMS_MAX, Ledger
from rater.core.offline import Rater
from rater.core.reasons import Rejection, shown
from rater.source_maps import shipped

MB = 1 << 20
BIG = 10 * MB
SECONDS_MAX = 20.0
"""Of the processor, traced."""


@contextmanager
def bounded(bytes_max: int) -> Iterator[None]:
    """Check what is allocated at most meanwhile, and the time."""
    tracemalloc.start()
    began = time.process_time()
    try:
        yield
        took = time.process_time() - began
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak <= bytes_max, f"{peak >> 10} KiB at most"
    assert took <= SECONDS_MAX, f"{took:.1f} s"


POISON: dict[str, Callable[[], bytes]] = {
    "10 MB of text": lambda: b'{"id": "' + b"x" * BIG + b'"}',
    "100,000 nested lists": lambda: b"[" * 100_000 + b"]" * 100_000,
    "a million fields": lambda: b"{" + b",".join(b'"f%d": %d' % (n, n) for n in range(1_000_000)) + b"}",
    "nested as deep as the size allows": lambda: b'{"id": ' + b"[" * 32_000 + b"]" * 32_000 + b"}",
    "as many fields as the size allows": lambda: b"{" + b",".join(b'"%d":0' % n for n in range(7_000)) + b"}",
    "a number of 60,000 digits": lambda: b'{"id": "a", "duration_ms": ' + b"9" * 60_000 + b"}",
}


@pytest.mark.parametrize("name", POISON)
def test_a_record(name: str) -> None:
    """A poisoned record, as a CDR and as each switch's, takes little more than its own size allows."""
    raw = POISON[name]()
    made, at_ms = targets.rater("09-vendor-package")
    maps = [targets.source_map(name) for name in shipped()]
    with bounded(32 * MAX_BYTES):
        ended = made.rate(raw, at_ms)
        mapped = [one.apply(raw) for one in maps]
    assert all(isinstance(one, Rejection) for one in ended)
    for refused in (ended, *(one for one in mapped if isinstance(one, tuple))):
        for one in refused:
            assert isinstance(one, Rejection)
            targets.check_rejection(one)


SIZE = MB // 4
DAMAGED: dict[str, Callable[[], bytes]] = {
    "control characters alone": lambda: b'{"a":"' + b"\x01" * (SIZE - 8) + b'"}',
    "bytes of no text": lambda: b'{"a":"' + b"\xe9" * (SIZE - 8) + b'"}',
    "backslashes of nothing": lambda: b'{"a":"' + b"\\q" * (SIZE // 2 - 8) + b'"}',
    "empty texts and a bad one": lambda: b'{"a":[' + b'"",' * (SIZE // 3 - 8) + b'"\x01"]}',
    "a text that does not end": lambda: b'{"a":"' + b'\\"' * (SIZE // 2 - 8),
    "quotes": lambda: b'"' * SIZE,
    "zeros that may be a number": lambda: b'{"dst":"\x01","src":"' + b"00" * (SIZE // 2 - 20) + b'(x"}',
    "pauses": lambda: b'{"dst":"' + b"1,p" * (SIZE // 3 - 20) + b'"}',
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record(name: str) -> None:
    """Mending a record costs time and memory that are linear in its size."""
    raw = DAMAGED[name]()
    assert len(raw) <= SIZE
    for name_of_map in ("freeswitch", "asterisk-csv", "freeswitch-esl"):
        made = targets.source_map(name_of_map)
        with bounded(48 * SIZE):
            began = time.process_time()
            made.apply(raw)
            targets.quick(began, 2 * targets.RECORD_S_MAX)


def test_many_different_records_are_not_kept() -> None:
    """What records name (gateways, logins, addresses, rates) is remembered for speed, but not 64 KiB each."""
    made = Rater()
    rule = {"side": "orig", "gateway": "g", "ip": "203.0.113.0/24", "client": "c1"}
    text = {**json.loads(traffic.catalog(4, 1)), "identification": [rule]}
    assert not made.load([("catalog.json", json.dumps(text).encode())], world.LOADED_MS)
    call = {
        "id": "a", "called": "380501234567", "answered_at": "2026-09-15T00:00:00Z", "duration_ms": 60_000,
    }  # fmt: skip
    rate = {"code": "380", "price": "0.1", "currency": "USD"}
    sides: list[Callable[[str], dict[str, object]]] = [
        lambda long: {"gateway": long}, lambda long: {"ip": long}, lambda long: {"login": long},
        lambda long: {"client": "c1", "rate": {**rate, "code_name": long}},
        lambda long: {"client": long}, lambda long: {"account": long},
    ]  # fmt: skip
    with bounded(8 * MB):
        for number in range(200):
            for side in sides:
                long = f"{number}" + "x" * 60_000
                for one in made.rate(json.dumps({**call, "orig": side(long)}).encode(), world.LOADED_MS):
                    targets.check_ended(one)


BOMB = b"a: &a [x, x, x, x, x, x, x, x, x, x]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b", ".join([b"*%c" % (name - 1)] * 10)) for name in range(98, 106)
)
CATALOGS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "10 MB of text": ("json", lambda: b'{"clients": [{"id": "' + b"x" * BIG + b'"}]}'),
    "10 MB of text in YAML": ("yaml", lambda: b'clients: [{id: "' + b"x" * BIG + b'"}]'),
    "100,000 nested lists": ("json", lambda: b'{"clients": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    "100,000 nested lists in YAML": ("yaml", lambda: b"clients: " + b"[" * 100_000),
    "100,000 nested lists in a cell": ("csv", lambda: b"id,currency,accounts\n1,USD," + b"[" * 100_000),
    "aliases that unfold to a billion": ("yaml", lambda: BOMB + b"clients: *i\n"),
    "an alias to itself": ("yaml", lambda: b"clients: &a [{rate_tables: &t {orig: *t}, accounts: *a}]"),
    "100,000 unknown fields": ("json", lambda: _fields(100_000)),
    "100,000 codes, one twice": ("json", lambda: b'{"code_decks": [{"codes": ' + _fields(100_000) + b"}]}"),
    "a number of a million digits": ("yaml", lambda: b"clients: " + b"9" * MB),
    "a number of a million digits in JSON": ("json", lambda: b'{"clients": ' + b"9" * MB + b"}"),
}  # fmt: skip


def _fields(count: int) -> bytes:
    """Return an object with so many fields, one of them twice."""
    return b"{" + b",".join(b'"%d": "x"' % number for number in range(count)) + b', "1": "y"}'


@pytest.mark.parametrize("name", CATALOGS)
def test_a_catalog(name: str) -> None:
    """A poisoned catalog is refused, with a fault for each thing, in a time and memory linear in its size."""
    kind, make = CATALOGS[name]
    raw = make()
    made = Rater()
    with bounded(128 * MB):
        faults = made.load([(f"poison.{kind}", raw)], world.LOADED_MS)
    assert faults
    assert made.catalog.version == 0


def test_findings_of_a_journal_of_poison() -> None:
    """An audit of a journal full of something else keeps a bounded list of bounded findings."""
    ledger = Ledger()
    long = "x" * 100_000
    value = json.dumps({"id": long, "revision": 1, "type": long, "client": "c", "amount": "1"}).encode()
    with bounded(4 * MB):
        for offset in range(2 * PROBLEMS_MAX):
            ledger.add(0, offset, value, None)
            ledger.add(1, offset, b"[" + value, None)
    assert len(ledger.findings) == PROBLEMS_MAX
    assert ledger.findings_total > 5 * PROBLEMS_MAX


def test_what_is_shown_of_a_value() -> None:
    """A value is shown by its beginning, as Python writes it, however much of it there is."""
    assert shown([1, "a", {"b": [None, True]}, (2,)]) == "[1, 'a', {'b': [None, True]}, (2,)]"
    assert shown({}) == "{}"
    deep: list[object] = []
    for _ in range(DEEP):
        deep = [deep]
    wide: list[object] = ["x"]
    for _ in range(60):
        wide = [wide, wide]
    with bounded(MB):
        assert shown(deep) == "[[[[...]]]]"
        assert shown(wide) == "[[[[...], [...]], [[...], [...]]], [[[...], [...]], [[...], [...]]]]"
        assert shown(10**5000) == "<int>"
        assert shown(list(range(1000))) == "[0, 1, 2, 3, 4, 5, 6, 7, ...]"
        assert shown(dict.fromkeys(range(1000), 0)) == (
            "{0: 0, 1: 0, 2: 0, 3: 0, 4: 0, 5: 0, 6: 0, 7: 0, ...}"
        )
        assert shown(["x" * 1000]).startswith("['xxx")
