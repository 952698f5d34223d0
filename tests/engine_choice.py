"""Which engine rates in tests, and what an engine has packed, for buckets in memory.

RATER_TEST_ENGINE: native, python, or auto, which is native where it can be used.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from msgspec import msgpack, structs

from rater.core.amounts import LIMB, Form
from rater.core.bucket.messages import (
    ANY_RISE,
    DrawItem,
    DrawReply,
    DrawRequest,
    FeeAsk,
    ItemCandidate,
    PackedDraw,
    Reconcile,
    Use,
)
from rater.core.offline import Rater
from rater.store.packing import RECONCILE_ARGUMENTS, RECONCILE_KEYS

_OUT_OF_RANGE = 2**54
_chosen = [os.environ.get("RATER_TEST_ENGINE", "python")]


def is_native_here() -> bool:
    """Return whether the native engine can be used."""
    try:
        import rater.native  # noqa: F401, PLC0415 - whether that can be is what is asked
    except ImportError:
        return False
    return True


def rates_offline(window_ms: int) -> list[Rater]:
    """Return what rates without servers: by the steps, and natively where that can be here."""
    raters = [Rater(window_ms)]
    if is_native_here():
        from rater.jobs.native_rating import NativeRater  # noqa: PLC0415 - where it can be

        raters.append(NativeRater(window_ms))
    return raters


def native_engine() -> Any:
    """Return a native engine for a process that is made by a test; None: Python rates."""
    if _chosen[-1] == "python":
        return None
    try:
        from rater.native.holding import Native  # noqa: PLC0415 - it may not be there
    except ImportError:
        if _chosen[-1] == "native":
            raise
        return None
    return Native()


@contextlib.contextmanager
def rating_by(engine: str) -> Iterator[None]:
    """Let processes that are made meanwhile rate by this engine."""
    _chosen.append(engine)
    try:
        yield
    finally:
        _chosen.pop()


class InMemory:
    """What a store in memory does with a request that an engine has packed: it reads it."""

    async def draw(self, bucket: int, request: DrawRequest) -> DrawReply:
        """See Buckets."""
        raise NotImplementedError

    async def draw_packed(self, bucket: int, packed: PackedDraw) -> DrawReply:
        """See Buckets."""
        return await self.draw(bucket, read_request(packed))


def unpacked(what: Reconcile) -> Reconcile:
    """Return corrections with what an engine has added up and packed as values."""
    added = what.added
    if added is None:
        return what
    count, raw = added.sums
    flat = msgpack.decode(b"\xdd%b%b" % (count.to_bytes(4), raw))
    sums = [
        (added.clients[key - 1 - RECONCILE_KEYS], field, int(delta))
        for key, field, delta in zip(flat[::3], flat[1::3], flat[2::3], strict=True)
    ]
    assert len({client for client, *_ in sums}) == len(added.clients)
    count, raw = added.duplicates
    flat = msgpack.decode(b"\xdd%b%b" % (count.to_bytes(4), raw))
    duplicates = []
    for u_key, f_key, key, content in zip(*(flat[place::4] for place in range(4)), strict=True):
        place, rest = divmod(u_key - 1 - RECONCILE_KEYS - len(added.clients), 2)
        assert (f_key, rest, content) == (u_key + 1, 0, key + 1)
        blobs = [added.blobs[at - 1 - RECONCILE_ARGUMENTS] for at in (key, content)]
        duplicates.append((added.generations[place], *blobs))
    return structs.replace(
        what,
        added=None,
        balances=what.balances + [(client, delta) for client, field, delta in sums if field == "b"],
        counters=what.counters + [one for one in sums if one[1] != "b"],
        duplicates=what.duplicates + duplicates,
    )


def read_request(packed: PackedDraw) -> DrawRequest:
    """Return what a packed call of sides asks."""
    digests, context = packed.digests, packed.context
    flat = iter(msgpack.decode(packed.payload))
    lane_ms, generation, trim, floor, kept, count, uses_count, _, _, items = [next(flat) for _ in range(10)]
    assert count == uses_count == len(packed.clients)
    assert generation == packed.generation
    uses = [_use(client, flat) for client in packed.clients]
    found = [_item(flat, digests[20 * place : 20 * place + 20]) for place in range(items)]
    assert next(flat, None) is None
    if packed.behind is not None:
        _read_changes(msgpack.decode(packed.behind), uses, found)
    return DrawRequest(
        lane=packed.lane, token=packed.token, number=packed.number, lane_ms=lane_ms, generation=generation,
        trim=trim, floor=floor, changes=[], accounts=[], uses=uses, items=found, context=context,
        contextless=not kept,
    )  # fmt: skip


def _use(client: str, flat: Iterator[Any]) -> Use:
    version, credit_limit, fields = next(flat), next(flat), next(flat)
    return Use(client, version, credit_limit, [next(flat) for _ in range(fields)])


def _number(value: int | list[int]) -> int:
    if isinstance(value, int):
        return value
    sign, *limbs = value
    total = sum(limb * int(LIMB**place) for place, limb in enumerate(limbs))
    return sign * total


def _item(flat: Iterator[Any], digests: bytes) -> DrawItem:
    place, head, billed = next(flat), next(flat), next(flat)
    cost = Form(*[_number(next(flat)) for _ in range(3)])
    rest = [next(flat) for _ in range(head // 4)]
    candidates, numbers = [], iter(rest)
    for field in numbers:
        size, code = next(numbers), next(numbers)
        cap = next(numbers) if code & 8 else 0
        to_package = to_client = None
        if code & 16:
            a, d, b, e = [_number(next(numbers)) for _ in range(4)]
            to_package, to_client = Form(a, 0, d), Form(b, 0, e)
        money, waive, allow = (bool(code & bit) for bit in (1, 2, 4))
        candidates.append(
            ItemCandidate(field - 3, size, code // 32, money, waive, allow, cap, to_package, to_client)
        )
    key, content, older = digests[:8], digests[8:12], digests[12:]
    use, same_record, asked = max(place, ~place), bool(head & 1), tuple(candidates)
    return DrawItem(use, key, content, billed, cost, same_record, asked, place < 0, older)


def _read_changes(flat: list[Any], uses: Sequence[Use], items: Sequence[DrawItem]) -> None:
    numbers = iter(flat)
    assert next(numbers) == 2
    for use in uses:
        wake = next(numbers)
        use.wake = None if wake == _OUT_OF_RANGE else wake
        assert use.wake is None or use.wake >= ANY_RISE
    assert [next(numbers) for _ in range(4)] == [0, False, 0, 0]
    fees = iter([next(numbers) for _ in range(next(numbers))])
    for place in fees:
        use, count = next(fees), next(fees)
        item = items[place - 1]
        assert item.use == use - 1
        asked = []
        for _ in range(count):
            code, field, net, amount, deny = [next(fees) for _ in range(5)]
            asked.append(FeeAsk(code // 32, field - 3, net, amount, bool(deny)))
        item.fees = tuple(asked)
    marks = iter([next(numbers) for _ in range(next(numbers))])
    for place in marks:
        uses[place - 1].mark = next(marks)
    assert list(numbers) == [0]  # no change carries another
