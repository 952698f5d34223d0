"""Calls and fees of the journal in order: keys that sort as bytes do, and what was published last of each.

Entries are bytes from the journal to the rating: most calls end as they did, and no object is made of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
from msgspec import Struct

from rater.core.cdr import SIDES
from rater.core.kinds import TransactionType
from rater.core.rerating.calls import NOWHERE, Fee, PastSide, Place, Told, call_of, pack, unpack

Sorted = tuple[bytes, bytes]
"""What is sorted: a key (`key`), and what is kept under it (`calls.pack`); b"" of a reversal."""
FEE, CALL = 0, 1
"""Fees of a client stand before its calls."""

_END = b"\0\0"
"""Behind a text of a key: none has two zeros behind each other, and what is longer sorts behind."""
_REVISION = 9
"""Bytes at a key's end: the revision, and whether it was reversed."""
_SIGN = 1 << 63
_NONE = _SIGN.to_bytes(8, "big")
"""Revision 0 as it stands in a key: of a call that was never rated."""


def key(
    client: str, kind: int, at_ms: int, id_: str, source: str, side: int, revision: int, turn: int
) -> bytes:
    """Return what sorts: client, fees before calls, call time, CDR id, source, side, revision, reversals.

    engine.Gathering writes the same (native/src/told.rs).
    """
    texts = [_text(of) for of in (client, id_, source)]
    return b"".join((
        texts[0], bytes((kind,)), _int(at_ms), texts[1], texts[2], bytes((side,)), _int(revision),
        bytes((turn,)),
    ))  # fmt: skip


def _text(text: str) -> bytes:
    return text.encode().replace(b"\0", b"\0\xff") + _END


def _int(number: int) -> bytes:
    return (number + _SIGN).to_bytes(8, "big")


def client_of(of: bytes) -> tuple[str, bytes]:
    """Return the client of a key, and what all keys of this client begin with."""
    end = of.index(_END)
    return of[:end].replace(b"\0\xff", b"\0").decode(), of[: end + len(_END)]


def sorted_as(told: Told, value: bytes, place: Place) -> Sorted:
    """Return a transaction of a call as it is sorted. Raises OverflowError for numbers beyond 64 bits."""
    assert told.cdr is not None  # noqa: S101 - `is_of_call`
    turn = int(told.type == TransactionType.REVERSAL)
    if told.client_package is not None:
        of = key(told.client, FEE, 0, told.id, "", 0, told.revision, turn)
        return of, b"" if turn else pack(Fee(told.client, told.id, value, told.revision))
    side = SIDES.index(told.side or "orig")
    of = key(told.client, CALL, told.at_ms, told.cdr.id, told.cdr.source, side, told.revision, turn)
    return of, b"" if turn else pack(call_of(told, value, place))


def sorted_unrated(call: PastSide) -> Sorted:
    """Return the same of a side that was rejected: any transaction of it stands behind."""
    return key(call.client, CALL, call.at_ms, call.id, call.source, call.side, 0, 0), pack(call)


def sorted_again(one: PastSide | Fee) -> Sorted:
    """Return what was published last as it is sorted: what came since stands behind."""
    if isinstance(one, Fee):
        return key(one.client, FEE, 0, one.id, "", 0, one.revision, 0), pack(one)
    of = key(one.client, CALL, one.at_ms, one.id, one.source, one.side, one.revision, 0)
    return of, pack(one)


Last = tuple[bool, bool, bytes]
"""What was published last of a side or a fee: whether it is a fee, whether it has a transaction, packed."""


def latest(published: Iterable[Sorted], code: str = "") -> Iterator[Last]:
    """Yield of each fee and each side what was published last. published: `Sorted`, in order.

    code: what the code of a side's last transaction begins with. Only all revisions together tell which one
    that is, so sides of another code are left out here and not before.
    """
    begin, place = b"\0\1", 0  # of no client
    for of, raw in _last_of_each(published):
        if not of.startswith(begin):
            begin = client_of(of)[1]
            place = len(begin)
        is_fee, was_rated = of[place] == FEE, of[-_REVISION:-1] > _NONE
        if code and was_rated and not is_fee:
            one = unpack(raw)
            if isinstance(one, PastSide) and not has_code(one, code):
                continue
        yield is_fee, was_rated, raw


def _last_of_each(published: Iterable[Sorted]) -> Iterator[Sorted]:
    """Yield the key and the last packed form of each side and fee."""
    name, first, others = b"", None, list[Sorted]()
    for entry in published:
        if entry[0][:-_REVISION] == name and first is not None:
            others.append(entry)
            continue
        if others and first is not None:
            yield from _folded([first, *others])
            others = []
        elif first is not None and first[1]:  # nearly always
            yield first
        name, first = entry[0][:-_REVISION], entry
    if first is not None:
        yield from _folded([first, *others])


def _folded(some: list[Sorted]) -> Iterator[Sorted]:
    """Yield the last revision of one side or fee, with whether it stands; nothing of reversals alone."""
    if len(some) == 1 and some[0][1]:
        yield some[0]
        return
    found: bytes | None = None
    one: PastSide | Fee | None = None
    for of, raw in some:
        if raw:
            newer = unpack(raw)
            if isinstance(newer, PastSide) and isinstance(one, PastSide) and newer.place == NOWHERE:
                newer.place = one.place  # a successor came in with no record of its own
            found, one = of, newer
        elif one is not None and found is not None and found[-_REVISION:-1] == of[-_REVISION:-1]:
            one.stands = False
    if one is not None and found is not None:
        yield found, pack(one)


class _Code(Struct):
    code: str | None = None


_code = msgspec.json.Decoder(_Code)


def has_code(call: PastSide, code: str) -> bool:
    """Return whether the code of a call's last transaction begins so."""
    return (_code.decode(call.value).code or "").startswith(code)
