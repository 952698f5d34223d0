"""Records as switches send them and as they do not: both engines must take the same sides of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from native.shadow import SEEN, as_told, same, told
from rater.core.catalog.specs import BUILT_IN, Content
from rater.core.cdr import SIDES, Arrival, Cdr
from rater.core.cdr_decoding import decode
from rater.core.instants import DAY_MS
from rater.core.line.batch import Side
from rater.native import engine, feeding

LANE_MS = 1_790_000_000_000
WINDOW_MS = 7 * DAY_MS
SERVICES = frozenset(service.name for service in BUILT_IN)

TEXTS = (
    "",
    "a",
    "42",
    "sip-1001",
    "a/b",
    "cp",
    "adjust",
    "calls",
    "data",
    "messages",
    "sms",
    "default",
    "\u00e9t\u00e9",
    "\U0001f600",
    "x" * 64,
    "x" * 65,
    "x" * 200,
    "x" * 201,
    "\u00e9" * 200,
    "a\nb",
    '"',
    "\\",
    "\x00",
    "\x1f",
    "\x7f",
    " 42 ",
    "null",
)
NUMBERS = (
    "380441234567",
    "+380441234567",
    "++1",
    "+",
    "",
    "00 44 20 7946 0000",
    "+44 (0)20 7946 0000",
    "+39 (0)6 1234",
    "00 (0) 1",
    "(044) 123-45-67",
    "+(1) 2",
    "1" * 64,
    "1" * 65,
    "1 " * 64,
    "1" * 257,
    "\u0661\u0662\u0663",
    "\uff0b1\uff10",
    "1\u00a02\u20113",
    "\u200e+1\u200f",
    "12a",
    "anonymous",
    "sip:12@x",
    "1.2",
    "-1",
    "1-",
    "1)",
    "(1",
    "1((2",
    "\t12\n",
    "+ 1",
    "0044(0)20",
    "+44 ( 0 ) 20",
    "1000 44(0)5",
    "+225 (0)1",
    "\u2212 5",
    "5\u20e3",
    "\U0001d7ce\U0001d7cf",
    "\u3007",
    "123\n",
    "+1\u0660 (0) 2",
)
TIMES = (
    "2026-09-21T13:53:20Z",
    "2026-09-21T13:53:20.123Z",
    "2026-09-21t13:53:20z",
    "2026-09-21 13:53:20.5+00:00",
    "2026-09-21T16:53:20+03:00",
    "2026-09-21T13:53:20+0000",
    "2026-09-21T13:53:20-00:00",
    "2026-09-21T13:53:20+23:59",
    "2026-09-21T13:53:20+24:00",
    "2026-09-21T13:53:20",
    "2026-09-21T13:53Z",
    "2026-09-21T13:53:60Z",
    "2026-09-21T24:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-09-21T13:53:20.9995Z",
    "2026-09-21T13:53:20.9999999Z",
    "2026-09-21T13:53:20.1239995Z",
    "2026-09-21T13:53:20.1239994Z",
    "2026-09-21T13:53:20.1234564999Z",
    "2026-09-21T13:53:20.Z",
    "9999-12-31T23:59:59.9999999Z",
    "9999-12-31T23:59:59.9999994Z",
    "0001-01-01T00:00:00+23:59",
    "0000-01-01T00:00:00Z",
    "2026-09-14T12:26:40Z",
    "2026-09-14T12:26:39.999Z",
    "2026-09-21T14:26:40Z",
    "2026-09-21T14:26:40.001Z",
    "1969-12-31T23:59:59.9999Z",
    "2026-09-21T13:53:20+05:60",
    "2026-09-21T13:53:20+5:00",
    "20260921T135320Z",
    "",
    "now",
    "2026-09-21T13:53:20\u0000",
    "2026-9-21T13:53:20Z",
    "2026-09-21T13:53:20 Z",
    "\u0662026-09-21T13:53:20Z",
)
AMOUNTS = (
    "0",
    "-0",
    "1",
    "999",
    "1000",
    "65039",
    "3600000",
    "4294901759",
    "4294901760",
    "4294967295",
    "4294967296",
    "9007199254740991",
    "9007199254740992",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "-1",
    "1.0",
    "1e3",
    "0.5",
    "1e400",
    "-1e400",
    "01",
    "1.",
    ".5",
    "+1",
    "-",
    "1e",
    "1e+",
    "true",
    "false",
    "null",
    '"60"',
    "[]",
    "{}",
    "1" * 4300,
    "1" * 4301,
    "NaN",
    "Infinity",
    "tru",
    "nul",
)
DECIMALS = (
    "0",
    "0.10",
    "-0.5",
    "1",
    "00.1",
    "0.1234567891",
    "0.12345678910",
    "0.12345678911",
    "12345678901234567890",
    "123456789012345678901",
    "1e5",
    ".5",
    "5.",
    "",
    "-",
    "--1",
    "+1",
    " 1",
    "\u0661",
    "0.000000000000000000000",
    "0.00000000000000000000",
    "-0",
)
STRANGE = (
    "null",
    "1",
    "-1",
    "1.5",
    "1e400",
    "18446744073709551616",
    "true",
    '"x"',
    "[]",
    "[1,]",
    "[1 2]",
    "{}",
    '{"a":}',
    '{"a":1,}',
    '{"a" 1}',
    "{a:1}",
    '"\\ud83d\\ude00"',
    '"\\ud83d"',
    '"\\ude00"',
    '"\\ud83d\\u0041"',
    '"\\ud83d\\ue000"',
    '"\\u00e9"',
    '"\\u00zz"',
    '"\\x"',
    '"\x01"',
    '"\t"',
    '"' + "y" * 5000 + '"',
    "[" * 98 + "]" * 98,
    "[" * 99 + "]" * 99,
    "[" * 100 + "]" * 100,
    '{"a":' * 98 + "1" + "}" * 98,
    '"\\/\\b\\f\\n\\r\\t\\"\\\\"',
    "[" * 400 + "]" * 400,
    "1" * 4301,
    "[1e999]",
    '{"b":[1e999,{"c":2}]}',
    '{"x":18446744073709551616}',
    "-9223372036854775809",
)


def _choose(rng: Random, *lists: Sequence[str]) -> str:
    return rng.choice(rng.choice(lists))


def _quoted(rng: Random, text: str) -> str:
    """Return a text as JSON, in one of the ways to write it."""
    return json.dumps(text, ensure_ascii=rng.random() < 0.3)


def _given(rng: Random) -> str:
    fields: list[tuple[str, Callable[[], str]]] = [
        (
            "code",
            lambda: _quoted(
                rng, rng.choice(("38044", "1", "0" * 64, "0" * 65, "", "12a", "\u0661", "123\n", "1\u0660"))
            ),
        ),
        ("price", lambda: _quoted(rng, rng.choice(DECIMALS))),
        ("currency", lambda: _quoted(rng, rng.choice(("USD", "", "x" * 16, "x" * 17, "\u20ac" * 16)))),
        ("code_name", lambda: _quoted(rng, rng.choice(("Kiev", "", "\u00e9" * 1000, "x" * 1001)))),
        ("setup_fee", lambda: _quoted(rng, rng.choice(DECIMALS))),
        ("min_time", lambda: rng.choice(("0", "30", "2147483647", "2147483648", "-1", "1.0"))),
        ("interval", lambda: rng.choice(("1", "6", "0", "2147483647", "2147483648"))),
        ("grace_time", lambda: rng.choice(("0", "3", "2147483647", "2147483648"))),
        ("note", lambda: rng.choice(STRANGE)),
    ]
    usual = {"code": '"38044"', "price": '"0.10"', "currency": '"USD"'}
    return _object(rng, fields, usual)


def _party(rng: Random) -> str:
    fields: list[tuple[str, Callable[[], str]]] = [
        (name, lambda: _quoted(rng, rng.choice(TEXTS)))
        for name in ("client", "account", "gateway", "ip", "login")
    ]
    fields += [
        ("rate", lambda: _given(rng)),
        ("rate", lambda: rng.choice(STRANGE)),
        ("other", lambda: rng.choice(STRANGE)),
    ]
    return _object(rng, fields, {"client": '"42"'} if rng.random() < 0.5 else {})


def _object(rng: Random, fields: list[tuple[str, Callable[[], str]]], usual: dict[str, str]) -> str:
    """Return an object with the usual fields, and some of the others in place of them or beside."""
    found = list(usual.items())
    for _ in range(rng.choice((0, 0, 1, 1, 2, 3))):
        name, make = rng.choice(fields)
        value = make() if rng.random() < 0.8 else rng.choice(STRANGE)
        if rng.random() < 0.8:
            found = [one for one in found if one[0] != name]
        found.append((name, value))
    if found and rng.random() < 0.1:
        found.pop(rng.randrange(len(found)))
    if rng.random() < 0.3:
        rng.shuffle(found)
    blank = rng.choice(("", "", "", " ", "\n\t", "\r"))
    pairs = [f"{blank}{_name(rng, name)}{blank}:{blank}{value}" for name, value in found]
    return "{" + f"{blank},".join(pairs) + blank + "}"


def _name(rng: Random, name: str) -> str:
    if rng.random() < 0.02:
        return '"' + f"\\u{ord(name[0]):04x}" + name[1:] + '"'
    return f'"{name}"'


def record(rng: Random) -> bytes:
    """Return a record: right, or wrong in a place or two."""
    fields: list[tuple[str, Callable[[], str]]] = [
        ("id", lambda: _quoted(rng, rng.choice(TEXTS))),
        ("called", lambda: _quoted(rng, rng.choice(NUMBERS))),
        ("source", lambda: _quoted(rng, rng.choice(TEXTS))),
        ("service", lambda: _quoted(rng, rng.choice((*SERVICES, "sms", "")))),
        ("caller", lambda: _quoted(rng, _choose(rng, NUMBERS, TEXTS))),
        ("duration_ms", lambda: rng.choice(AMOUNTS)),
        ("volume", lambda: rng.choice(AMOUNTS)),
        ("setup_at", lambda: _quoted(rng, rng.choice(TIMES))),
        ("answered_at", lambda: _quoted(rng, rng.choice(TIMES))),
        ("ended_at", lambda: _quoted(rng, rng.choice(TIMES))),
        ("orig", lambda: _party(rng)),
        ("term", lambda: _party(rng)),
        ("other", lambda: rng.choice(STRANGE)),
    ]
    usual = {
        "id": '"a1"',
        "called": '"380441234567"',
        "answered_at": '"2026-09-21T13:00:00.000Z"',
        "duration_ms": "65039",
        "orig": _party(rng),
    }
    raw = _object(rng, fields, usual).encode("utf-8", "surrogatepass")
    if rng.random() < 0.05:
        at = rng.randrange(len(raw))
        raw = rng.choice(
            (
                raw[:at],
                raw[:at] + bytes([rng.randrange(256)]) + raw[at + 1 :],
                raw + b" x",
                b" " + raw,
                raw[:at] + raw[at + 1 :],
            )
        )
    return raw


class Readers:
    """Both engines, with the services that are always there."""

    def __init__(self) -> None:
        self.catalog = feeding.load(Content(), 1)
        self.cache = feeding.new_cache()

    def compare(self, raws: Sequence[bytes | None], lane_ms: int = LANE_MS) -> None:
        """Read records by both; raises Different."""
        arrival = Arrival(lane_ms, WINDOW_MS, SERVICES)
        expected: list[dict[str, Any]] = []
        rejected: list[int] = []
        for number, raw in enumerate(raws):
            found = decode(raw, arrival)
            if isinstance(found, Cdr):
                for index, name in enumerate(SIDES):
                    party = found.orig if name == "orig" else found.term
                    if party is not None:
                        expected.append(told(Side("t", None, index, found, party), number))
                if found.rejected:
                    rejected.append(number)
            else:
                rejected.append(number)
        native = engine.Batch(self.cache, 0, lane_ms, WINDOW_MS)
        stamps = [lane_ms] * len(raws)
        returned = native.decode(self.catalog, "t", list(raws), list(range(len(raws))), stamps)
        got = [as_told(one) for one in native.told()]
        if (expected, rejected) != (got, returned):
            self._which(raws, expected, rejected, got, returned)
        SEEN.sides += len(expected)
        SEEN.rejected += len(rejected)

    def _which(self, raws: Sequence[bytes | None], *found: Any) -> None:
        expected, rejected, got, returned = found
        for number, raw in enumerate(raws):
            of = [one for one in expected if one["place"][0] == number]
            other = [one for one in got if one["place"][0] == number]
            same("sides of a record", of, other, raw)
            same("record is returned", number in rejected, number in returned, raw)
