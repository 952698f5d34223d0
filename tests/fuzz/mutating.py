"""A mutator that knows structure: values (what JSON and msgpack hold), lines, and bytes.

All randomness comes from the `Random` that it is made with, so that an input can be made again from the name
of its target, the seed of the run and its number.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from random import Random
from typing import Any

import msgspec

LONG = 70_000  # more than the 64 KiB of a CDR
DEEP = 3_000  # more than Python's stack takes
PLACES_MAX = 10_000  # a value that is larger grows no further


class Token:
    """Text that stands in JSON as it is: NaN, 1e999, numbers that no float holds."""

    def __init__(self, text: str) -> None:
        self.text = text


class Twice(dict[str, Any]):
    """An object one of whose members comes twice; `again` is the second, which stands at the end."""

    again: tuple[str, Any] = ("", None)


NUMBERS: tuple[Any, ...] = (
    0, -0.0, 1, -1, 59, 60, 2**31 - 1, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64, -(2**63),
    -(2**63) - 1, 10**30, 10**400, 0.1, 1.5, 1e300, 5e-324, True, False,
)  # fmt: skip
TOKENS = tuple(
    Token(text)
    for text in (
        "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "-0", "1E400", "01", "+1", ".5", "9" * 5000,
    )
)  # fmt: skip
TEXTS = (
    "", " ", "\0", "\x1b[31m", "null", "true", "0", "-1", "1e3", "٣٨٠", "²", "ﬃ", "é", "e\u0301",
    "\u202e", "\ufeff", "\u2028", "😀", "\ud800", "\udfff x", "\uffff", "../../etc/passwd", "a/b",
    "a\nb", "a\r\nb: c", "%00", "%ff%fe", "%", "{}", "[]", '"', "'", "\\", "$.x", "*", "380*", "4" * 65,
    "9" * 400, "9999-12-31T23:59:59.999Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    "2026-02-30T00:00:00Z", "2026-11-05T10:00:00", "2026-11-05T24:00:00Z", "2026-11-05T10:00:60Z",
    "2026-11-05", "99999 years", "0 days", "1 month", "Europe", "Europe/Kyiv", "UTC", "USD", "EUR",
    "0.10", "-0.10", "0.0000000001", "0.00000000001", "9007199254.740992", "9007199254.740993", "1e5",
    "1_000", "0x10", "203.0.113.0/24", "203.0.113.7/24", "::1", "1.2.3.4:5060",
    "<sip:+380-44@pbx;a=b>;tag=7", "sip:", "tel:+", "-1139627840", "4294967296", "x" * 65, "x" * 201,
    "y" * 1001, "0044201234567#", "380441234567,,123", "!0132", "+380\u00a044\u20111234567", "\u200b380",
    "38,04,41,23", "3,8E5", "+39 (0)6 1",
    "+44 (0)20", "00" * 60, "00:08:10", "08:10", "1:0:0.5", "11/03/2026 12:00:00\u202fAM", "5120000", "0.5",
)  # fmt: skip
NAMES = (
    "id", "called", "caller", "service", "source", "orig", "term", "client", "account", "rate", "price",
    "code", "duration_ms", "volume", "answered_at", "setup_at", "ended_at", "part", "version", "offset",
    "bucket", "entries", "packages", "limits", "limit", "exclude", "draws", "amount", "taken", "", "\0",
    "a.b", "constructor", "__class__", "<<",
)  # fmt: skip
FRAGMENTS = (
    b"", b"\0", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\n", b"\r", b"\r\n", b"\t", b'"',
    b"'", b"\\", b",", b";", b":", b": ", b"- ", b"{", b"}", b"[", b"]", b"[[", b"]]", b"#", b"%", b"*",
    b"&a ", b"*a", b"<<: *a\n", b"!!bool x", b"!!int x", b"!!int [1]", b"!!float ", b"!!binary x",
    b"!!set ", b"!!omap ", b"!!str ", b"!!timestamp x", b"!x ", b"? ", b"| ", b">-\n", b"---\n",
    b"...\n", b"%YAML 9.9\n", b"~", b"=", b"\\ud800", b"\\u0000", b"null", b"1e999", b"(?L)", b"(",
    b"(?P<x>", b"[[a]]", b"{1,99999999999}", b"\\d", b"1979-05-27", b"2026-13-45", b'"""', b"'''",
    b"a.b.c = 1\n", b"[a]\n", b"[[a]]\n", b"\x01", b"\x1f", b"\xe9", b"\\q", b"\\u12", b"(0)", b",,1", b"!0",
    b"sum = ", b"scale = ", b'"1/1024"', b'"1/0"', b'unit = "h:m:s"', b'from = "answered_at"', b"%I", b"%p",
)  # fmt: skip


class Mutator:
    """Changes what it is given into something near it."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def steps(self) -> int:
        """Return how many changes to make: mostly one, so that the rest of the input is still good."""
        return self.random.choice((1, 1, 1, 2, 2, 3, 5, 9))

    # ------------------------------------------------------------------ values
    def value(self, value: Any) -> Any:
        """Return a copy of a value (dicts, lists, texts, numbers, bytes) with some changes."""
        copy = _copied(value)
        for _ in range(self.steps()):
            copy = self._changed(copy)
        return copy

    def _changed(self, root: Any) -> Any:
        places = list(_places(root))
        if not places:
            return self._odd(root)
        if len(places) > PLACES_MAX:
            return root
        holder, key = self.random.choice(places)
        old = holder[key]
        match self.random.randrange(9):
            case 0:
                del holder[key]
            case 1 if isinstance(holder, dict):
                self._again(holder, key)
            case 1:
                holder.insert(self.random.randrange(len(holder) + 1), _copied(old))
            case 2:
                holder[key] = self._nested(old)
            case 3:  # what stands elsewhere in it
                other, at = self.random.choice(places)
                holder[key] = _copied(other[at]) if at in _keys(other) else None
            case 4 if isinstance(holder, dict):  # another name
                name = self.random.choice((*NAMES, f"{key}x", str(key)[:-1], str(key).upper()))
                holder[name] = holder.pop(key)
            case 5 if isinstance(holder, dict):
                holder[self.random.choice(NAMES)] = self._odd(old)
            case _:
                holder[key] = self._odd(old)
        return root

    def _again(self, holder: dict[str, Any], key: str) -> None:
        if isinstance(holder, Twice):
            holder.again = (key, self._odd(holder[key]))

    def _nested(self, value: Any) -> Any:
        depth = self.random.choice((1, 1, 2, 5, 900, DEEP))
        is_list = self.random.random() < 0.5
        for _ in range(depth):
            value = [value] if is_list else {"a": value}
        return value

    def _odd(self, old: Any) -> Any:
        """Return something else in the place of a value: of any type, near it, or large."""
        makers = (self._near, self._near, self._any, self._any, self._any, self._large)
        return self.random.choice(makers)(old)

    def _any(self, old: Any) -> Any:
        choose = self.random.choice
        some: tuple[Any, ...] = (
            [],
            {},
            [None],
            [[]],
            {"": None},
            [1, "a", {}],
            [_copied(old), _copied(old)],
            None,
            None,
            b"",
        )
        return choose((choose(NUMBERS), choose(TOKENS), choose(TEXTS), choose(TEXTS), choose(some)))

    def _near(self, old: Any) -> Any:
        text = self.random.choice(TEXTS)
        if isinstance(old, str):
            number = int(old) if old.isdecimal() and len(old) < 400 else [old]
            return self.random.choice(
                (old + text, text + old, old[:-1], old[1:], old * 2, old.upper(), number)
            )
        if isinstance(old, bytes):
            return self.cut(old)
        if isinstance(old, int) and abs(old) < 10**300:
            close = (old + 1, old - 1, -old, old * 10, old * 1000, str(old), float(old))
            return self.random.choice(close)
        return self._any(old)

    def _large(self, _: Any) -> Any:
        return self.random.choice(("x" * 300, "9" * 300, "x" * LONG, bytes(LONG), b"\x90", b"\xff" * 8))

    # ------------------------------------------------------------------ bytes
    def cut(self, raw: bytes, others: Sequence[bytes] = (b"",)) -> bytes:
        """Return bytes with some changes: flipped, cut, repeated, spliced with others, fragments put in."""
        for _ in range(self.steps()):
            at = self.random.randrange(len(raw) + 1)
            to = min(len(raw), at + self.random.choice((1, 1, 2, 8, 40)))
            match self.random.randrange(8):
                case 0 if at < len(raw):
                    raw = raw[:at] + bytes([raw[at] ^ 1 << self.random.randrange(8)]) + raw[at + 1 :]
                case 1:
                    raw = raw[:at]
                case 2:
                    raw = raw[:at] + raw[to:]
                case 3:
                    raw = raw[:to] + raw[at:]
                case 4:
                    other = self.random.choice(others)
                    raw = raw[:at] + other[self.random.randrange(len(other) + 1) :]
                case 5:
                    raw = raw[:at] + bytes([self.random.randrange(256)]) + raw[to:]
                case _:
                    raw = (
                        raw[:at]
                        + self.random.choice(FRAGMENTS)
                        + raw[to if self.random.random() < 0.5 else at :]
                    )
        return raw

    def lines(self, raw: bytes) -> bytes:
        """Return text with lines left out, repeated, swapped, indented, or with other values."""
        lines = raw.split(b"\n")
        for _ in range(self.steps()):
            at, other = self.random.randrange(len(lines)), self.random.randrange(len(lines))
            match self.random.randrange(6):
                case 0 if len(lines) > 1:
                    del lines[at]
                case 1:
                    lines.insert(other, lines[at])
                case 2:
                    lines[at], lines[other] = lines[other], lines[at]
                case 3:
                    lines[at] = b"  " + lines[at]
                case 4:
                    lines[at] = self.cut(lines[at])
                case _:
                    mark = self.random.choice((b"=", b":", b","))
                    head, found, _ = lines[at].partition(mark)
                    odd = (
                        dumped(self._odd("x"))[:LONG]
                        if self.random.random() < 0.6
                        else self.random.choice(FRAGMENTS)
                    )
                    lines[at] = head + found + b" " + odd
        return b"\n".join(lines)


def _keys(holder: Any) -> Any:
    return holder if isinstance(holder, dict) else range(len(holder))


def _places(value: Any) -> Any:
    """Yield (holder, key) of everything inside a value."""
    stack = [value]
    while stack:
        holder = stack.pop()
        if isinstance(holder, dict | list):
            for key in _keys(holder):
                yield holder, key
                stack.append(holder[key])


def _copied(value: Any, depth: int = 200) -> Any:
    if depth and isinstance(value, dict):
        copy = Twice((name, _copied(of, depth - 1)) for name, of in value.items())
        copy.again = getattr(value, "again", ("", None))
        return copy
    if depth and isinstance(value, list | tuple):
        return [_copied(of, depth - 1) for of in value]
    return (
        None if isinstance(value, dict | list) else value
    )  # deeper is cut: what is shared could become a circle


# ------------------------------------------------------------------ writing
def dumped(value: Any) -> bytes:
    """Return a value as JSON, with what JSON cannot say: members that come twice, tokens, half characters."""
    out: list[str] = []
    stack: list[Any] = [value]
    while stack:  # no recursion: values are nested deeper than the stack
        one = stack.pop()
        if isinstance(one, _Plain):
            out.append(one)
        elif isinstance(one, dict):
            members = list(one.items())
            again = getattr(one, "again", ("", None))
            if again != ("", None):
                members.append(again)
            stack.append(_Plain("}"))
            for number, (name, of) in reversed(list(enumerate(members))):
                stack += [of, _Plain(f"{',' if number else ''}{json.dumps(str(name))}:")]
            stack.append(_Plain("{"))
        elif isinstance(one, list | tuple):
            stack.append(_Plain("]"))
            for number, of in reversed(list(enumerate(one))):
                stack += [of, _Plain("," if number else "")]
            stack.append(_Plain("["))
        else:
            out.append(_scalar(one))
    return "".join(out).encode("utf-8", "surrogatepass")


class _Plain(str):
    __slots__ = ()


def _scalar(one: Any) -> str:
    if isinstance(one, Token):
        return one.text
    if isinstance(one, bytes):
        return json.dumps(one.decode("latin-1"))
    if isinstance(one, int) and not isinstance(one, bool):
        return f"{one:d}" if abs(one) < 10**300 else "1" + "0" * 400
    return json.dumps(one, ensure_ascii=not (isinstance(one, str) and one.isprintable()))


def packed(value: Any) -> bytes:
    """Return a value as msgpack; what it cannot say becomes a text."""
    return msgspec.msgpack.encode(_packable(value, 150))


def _packable(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return (
            {_packable(name, 0): _packable(of, depth - 1) for name, of in value.items()} if depth > 0 else 0
        )
    if isinstance(value, list | tuple):
        return [_packable(of, depth - 1) for of in value] if depth > 0 else 0
    if isinstance(value, Token):
        return value.text
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(2**70)
    return value
