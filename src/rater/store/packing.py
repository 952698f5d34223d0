"""Calls as FCALL arguments, and replies back: the formats stated in functions.lua.

Packing a draw is the worker's dearest step per CDR after decoding, so it makes one flat list and no objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec import msgpack

from rater.core.amounts import Form, wire
from rater.core.bucket.messages import DrawItem, DrawRequest, Due, FenceReply, Reconcile, Status, clients_of
from rater.store.keys import Keys

_PLAIN_MAX = 2**52  # as in amounts.wire
_OUT_OF_RANGE = 2**54
"""What no balance reaches: of a client that waits for none."""
_FIRST_FIELD = 3  # Lua counts from 1, and a client's version and balance come before its counters

_MONEY, _WAIVE, _ALLOW, _CAP, _CONVERSION, _GROUP = 1, 2, 4, 8, 16, 32
_JUDGED, _LENGTH = 2, 4


class Args(NamedTuple):
    """Keys and further arguments of an FCALL."""

    keys: list[str]
    argv: list[Any]


def pack_draw(request: DrawRequest, keys: Keys) -> Args:
    """Return the arguments of rater_v2_draw; of rater_v2_change where `changes` says so."""
    clients = clients_of(request)
    generation = request.generation
    names = [keys.gate, keys.lane(request.lane), keys.outcomes(request.lane)]
    names += map(keys.generation, (generation, generation - 1, generation + 1))
    names += [keys.client + client for client in clients]
    names += [keys.client_state + change.client for change in request.changes]
    names += [keys.accounts(account) for account, _ in request.accounts]
    flat: list[Any] = [request.lane_ms, generation, request.trim, request.floor, int(not request.contextless)]
    flat += (len(clients), len(request.uses), len(request.changes), len(request.accounts), len(request.items))
    for use in request.uses:
        flat += (use.version, use.credit_limit, len(use.fields))
        flat += use.fields
    for account, client in request.accounts:
        flat += (account, client)
    digests: list[bytes] = []
    for item in request.items:
        digests += (item.key, item.content, item.older or item.key)
        billed, (a, s, d) = item.billed, item.cost
        place = ~item.use if item.cut else item.use
        if d >= _PLAIN_MAX or abs(a) * (billed or 1) + abs(s) >= _PLAIN_MAX:
            _pack_wide(flat, place, item)
            continue
        head, packed = _packed(item)
        flat += (place, head + 1 if item.same_record else head, billed, a, s, d)
        flat += packed
    argv = [
        request.lane,
        request.token,
        request.number,
        msgpack.encode(flat),
        b"".join(digests),
        request.context,
    ]
    if changes(request):
        argv.append(_pack_changes(request, clients))
        argv += [change.state for change in request.changes]
    return Args(names, argv)


def changes(request: DrawRequest) -> bool:
    """Return whether the call is one of rater_v2_change: it changes clients, or some of them wait."""
    return bool(request.changes) or any(use.wake is not None for use in request.uses)


def _pack_changes(request: DrawRequest, clients: Sequence[str]) -> bytes:
    index = {client: number for number, client in enumerate(clients, 1)}
    flat: list[Any] = []
    for of in request.changes:
        flat += (index[of.client], of.expected, of.version, of.least, of.most, of.delta, len(of.counters))
        for counter in of.counters:
            flat += counter
    flat += [_OUT_OF_RANGE if use.wake is None else use.wake for use in request.uses]
    return msgpack.encode(flat)


def _packed(item: DrawItem) -> tuple[int, list[Any]]:
    """Return head and candidates of an item, but for the bit of the same record."""
    head = 0
    packed: list[Any] = []
    for field, size, group, money, waive, allow, cap, to_package, to_client in item.candidates:
        code = _GROUP * group
        if money:
            code += _MONEY
        if waive:
            code += _WAIVE
        if allow:
            code += _ALLOW
            head |= _JUDGED
        converts = money and (to_package is not None or to_client is not None)
        if cap:
            code += _CAP
        if converts:
            code += _CONVERSION
        packed += (field + _FIRST_FIELD, size, code, cap) if cap else (field + _FIRST_FIELD, size, code)
        if converts:
            packed += _conversions(item, size, to_package, to_client)
    return head + _LENGTH * len(packed), packed


def _pack_wide(flat: list[Any], place: int, item: DrawItem) -> None:
    """Add an item whose cost is beyond what doubles hold; place: of its use, as the payload has it."""
    x_max = item.billed or 1  # so that `a` itself is within the range, too
    head, packed = _packed(item)
    flat += (place, head + int(item.same_record), item.billed, *wire(item.cost, x_max))
    flat += packed


_SAME = Form(1, 0, 1)


def _conversions(item: DrawItem, size: int, to_package: Form | None, to_client: Form | None) -> list[Any]:
    """Return a, d of both conversions, for the greatest amounts that they can be asked for."""
    cost_max = max(abs(item.cost.at(item.billed)), abs(item.cost.at(0)), 1)  # linear: greatest at an end
    a_package, _, d_package = wire(to_package or _SAME, cost_max)
    a_client, _, d_client = wire(to_client or _SAME, max(size, 1))
    return [a_package, d_package, a_client, d_client]


_BLOBS = 4
"""Arguments of rater_v2_reconcile before the bytes that its payload points at."""


def pack_reconcile(what: Reconcile, keys: Keys) -> Args:  # noqa: C901 - one short loop for each list
    """Return the arguments of rater_v2_reconcile."""
    index: dict[str, int] = {}
    names = [keys.gate, keys.lane(what.lane), keys.outcomes(what.lane)]

    def at(key: str) -> int:
        """Where Lua finds this key in KEYS."""
        found = index.get(key)
        if found is None:
            names.append(key)
            found = index[key] = len(names)
        return found

    blobs: list[bytes] = []

    def blob(content: bytes) -> int:
        """Where Lua finds these bytes in ARGV: its msgpack does not know the type."""
        blobs.append(content)
        return _BLOBS + len(blobs)

    sums: list[Any] = []  # deltas as text: a sum of many may leave the range of doubles
    for client, delta in what.balances:
        sums += (at(keys.client + client), "b", str(delta))
    for client, field, delta in what.counters:
        sums += (at(keys.client + client), field, str(delta))
    states: list[Any] = []
    for client, version, state in what.states:
        states += (at(keys.client + client), at(keys.client_state + client), version, blob(state))
    forget: list[Any] = []
    for generation, key in what.forget:
        forget += (at(keys.generation(generation)), blob(key))
    duplicates: list[Any] = []
    for generation, key, content in what.duplicates:
        duplicates += (at(keys.generation(generation)), blob(key), blob(content))
    lowest = min((generation for generation, _, _ in what.duplicates), default=False)
    accounts: list[Any] = []
    for account, client in what.accounts:
        accounts += (at(keys.accounts(account)), account, client)
    pending: list[Any] = []
    for number, context, packed in what.pending:
        pending += (str(number), blob(context), blob(packed))
    lists = [
        what.floor, int(what.final), what.lane_ms, [str(number) for number in what.drop_calls],
        sums, states, forget, duplicates, lowest, accounts, pending,
    ]  # fmt: skip
    return Args(names, [what.lane, what.token, what.number, msgpack.encode(lists), *blobs])


def unpack_due(rows: list[list[Any]], request: DrawRequest) -> list[Due]:
    """Return what rater_v2_change answered as due. Sums beyond what doubles hold come as text."""
    named = clients_of(request)
    fields = {change.client: [of.field for of in change.counters] for change in request.changes}
    due = []
    for index, item, balance, *values in rows:
        client = named[index]
        counters = {} if item >= 0 else dict(zip(fields[client], map(int, values), strict=True))
        due.append(Due(client, None if item < 0 else item, int(balance), counters))
    return due


def unpack_fence(reply: list[Any]) -> FenceReply:
    """Return what rater_v2_fence answered."""
    if reply[0] != Status.OK:
        return FenceReply(Status(reply[0]), reply[1], 0, [], 0)
    _, call, floor, base, lane_ms, fields, token = reply
    found: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=True))
    numbers = sorted(int(field[:-1]) for field in found if field.endswith(b"c"))
    outcomes = [(number, found[b"%dc" % number], found[b"%dr" % number]) for number in numbers]
    return FenceReply(Status.OK, call, floor, outcomes, lane_ms, base, token)
