"""Calls as FCALL arguments, and replies back: the formats stated in functions.lua.

Packing a draw is the worker's dearest step per CDR after decoding, so it makes one flat list and no objects.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple

from msgspec import Raw, msgpack

from rater.core.amounts import Form, wire
from rater.core.bucket.messages import (
    ClientWrite,
    DrawItem,
    DrawRequest,
    Due,
    FenceReply,
    PackedDraw,
    Reconcile,
    Status,
    clients_of,
)
from rater.core.bucket.restoring import Restore
from rater.store.keys import Keys

_pack = msgpack.Encoder().encode
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
    """Return the arguments of rater_v4_draw; of rater_v4_change where `changes` says so."""
    clients = clients_of(request)
    generation = request.generation
    names = _keys_before_clients(request.lane, generation, keys)
    names += [keys.client + client for client in clients]
    names += [keys.client_state + change.client for change in request.changes]
    names += [keys.accounts(account) for account, _ in request.accounts]
    asking: list[int] = []
    flat: list[Any] = [request.lane_ms, generation, request.trim, request.floor, int(not request.contextless)]
    flat += (len(clients), len(request.uses), len(request.changes), len(request.accounts), len(request.items))
    for use in request.uses:
        flat += (use.version, use.credit_limit, len(use.fields))
        flat += use.fields
    for account, client in request.accounts:
        flat += (account, client)
    digests: list[bytes] = []
    for number, item in enumerate(request.items):
        if item.fees:
            asking.append(number)
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
        request.lane, request.token, request.number, msgpack.encode(flat), b"".join(digests), request.context,
    ]  # fmt: skip
    if asking or request.changes or any(use.wake is not None or use.mark is not None for use in request.uses):
        argv += _pack_changes(request, asking, clients, keys, names)
    names += _keys_at_the_end(keys)
    return Args(names, argv)


def pack_sides(request: DrawRequest) -> tuple[list[str], bytes, bytes, bytes, bytes | None]:
    """Return what a call of sides alone has, whichever bucket's it is (`core.line.engine.Packed`)."""
    args = pack_draw(request, Keys("", 0, 1))
    payload, digests, context = args.argv[3:_CHANGES]
    return clients_of(request), payload, digests, context, args.argv[_CHANGES] if changes(args) else None


def with_keys(packed: PackedDraw, keys: Keys) -> Args:
    """Return the arguments of a call of sides that an engine has packed."""
    names = _keys_before_clients(packed.lane, packed.generation, keys)
    names += [keys.client + client for client in packed.clients]
    names += _keys_at_the_end(keys)
    argv = [packed.lane, packed.token, packed.number, packed.payload, packed.digests, packed.context]
    if packed.behind is not None:
        argv.append(packed.behind)
    return Args(names, argv)


def _keys_before_clients(lane: int, generation: int, keys: Keys) -> list[str]:
    """Return the keys that each draw begins with."""
    near = generation, generation - 1, generation + 1
    gate = keys.gate, keys.lane(lane), keys.outcomes(lane)
    return [*gate, *map(keys.generation, near), *map(keys.cells, near)]


def _keys_at_the_end(keys: Keys) -> tuple[str, str]:
    """Return the keys that each draw ends with: Lua knows the last one by its place."""
    return keys.nothing, keys.unsettled


def changes(args: Args) -> bool:
    """Return whether a call is one of rater_v4_change: it changes clients, or has waits, marks or fees."""
    return len(args.argv) > _CHANGES


_CHANGES = 6
"""Arguments of rater_v4_draw, behind which those of rater_v4_change stand."""


class _Named:
    """Keys and bytes of a call, as its payload points at them: Lua's msgpack does not know bytes."""

    def __init__(self, names: list[str], arguments: int) -> None:
        """Add keys to these names. arguments: how many stand before the bytes."""
        self.blobs: list[bytes] = []
        self._names = names
        self._known: dict[str, int] = {}
        self._arguments = arguments

    def key(self, name: str) -> int:
        """Return where Lua finds this key in KEYS."""
        found = self._known.get(name)
        if found is None:
            self._names.append(name)
            found = self._known[name] = len(self._names)
        return found

    def blob(self, content: bytes) -> int:
        """Return where Lua finds these bytes in ARGV."""
        self.blobs.append(content)
        return self._arguments + len(self.blobs)


def _pack_changes(
    request: DrawRequest, asking: Sequence[int], clients: Sequence[str], keys: Keys, names: list[str]
) -> list[bytes]:
    """Return the arguments that rater_v4_change has besides; adds to the names of keys."""
    index = {client: number for number, client in enumerate(clients, 1)}
    flat: list[Any] = [0]
    for of in request.changes:
        flat += (index[of.client], of.expected, of.version, of.least, of.most, of.delta, len(of.counters))
        for counter in of.counters:
            flat += counter
    flat[0] = len(flat) + 1
    flat += [_OUT_OF_RANGE if use.wake is None else use.wake for use in request.uses]
    states = [change.state for change in request.changes]
    named = _Named(names, _CHANGES + 1 + len(states))
    hints = _pack_hints([hint for of in request.changes for hint in of.hints], keys, named)
    members = _pack_members(
        [(package, of.client) for of in request.changes for package in of.members], keys, named
    )
    rows: list[Any] = []
    for of in request.changes:
        for field, row in of.history:
            rows += (named.key(keys.history(of.client)), field, named.blob(b"%d:%b" % (of.version, row)))
    fees = [number for at in asking for number in _pack_fees(at + 1, request.items[at])]
    flat += (len(hints) - 1, *hints)  # the last is no hint
    marks = [
        number
        for place, use in enumerate(request.uses, 1)
        if use.mark is not None
        for number in (place, use.mark)
    ]
    carried = [index[of.client] for of in request.changes if of.carries]
    for some in (members, rows, fees, marks, carried):
        flat += (len(some), *some)
    return [msgpack.encode(flat), *states, *named.blobs]


def _pack_fees(place: int, item: DrawItem) -> list[int]:
    """Return what an item asks of fees. place: its own, from 1."""
    flat = [place, item.use + 1, len(item.fees)]
    for group, field, net, amount, deny in item.fees:
        flat += (_GROUP * group, field + _FIRST_FIELD, net, amount, int(deny))
    return flat


def _pack_hints(hints: Sequence[tuple[int, bytes]], keys: Keys, named: _Named) -> list[Any]:
    """Return key and bytes of each, and the lowest hour."""
    flat: list[Any] = []
    for hour, element in hints:
        flat += (named.key(keys.due(hour)), named.blob(element))
    return [*flat, min((hour for hour, _ in hints), default=False)]


def _pack_members(members: Sequence[tuple[str, str]], keys: Keys, named: _Named) -> list[Any]:
    """Return key and client of each."""
    flat: list[Any] = []
    for package, client in members:
        flat += (named.key(keys.members(package)), client)
    return flat


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


RECONCILE_KEYS, RECONCILE_ARGUMENTS = 3, 4
"""Keys and arguments of rater_v4_reconcile before those that its payload points at."""


def pack_reconcile(what: Reconcile, keys: Keys) -> Args:
    """Return the arguments of rater_v4_reconcile."""
    names = [keys.gate, keys.lane(what.lane), keys.outcomes(what.lane)]
    named = _Named(names, RECONCILE_ARGUMENTS)
    added = what.added
    if added is not None:
        names += [keys.client + client for client in added.clients]
        for generation in added.generations:
            names += (keys.generation(generation), keys.cells(generation))
        named.blobs += added.blobs
    sums: list[Any] = []  # deltas as text: a sum of many may leave the range of doubles
    for client, delta in what.balances:
        sums += (named.key(keys.client + client), "b", str(delta))
    for client, field, delta in what.counters:
        sums += (named.key(keys.client + client), field, str(delta))
    states: list[Any] = []
    for client, version, state in what.states:
        of, register = named.key(keys.client + client), named.key(keys.client_state + client)
        states += (of, register, version, named.blob(state))
    accounts: list[Any] = []
    for account, client in what.accounts:
        accounts += (named.key(keys.accounts(account)), account, client)
    forget, duplicates, lowest = _pack_duplicates(what, keys, named)
    if added is not None:
        sums, duplicates = _with(sums, *added.sums), _with(duplicates, *added.duplicates)
        lowest = min([*added.generations, *([lowest] if what.duplicates else [])], default=False)
    lists = [
        what.floor, int(what.final), what.lane_ms, [str(number) for number in what.drop_calls],
        sums, states, forget, duplicates, lowest, accounts, *_pack_kept(what, keys, named),
    ]  # fmt: skip
    names.append(keys.nothing)
    return Args(names, [what.lane, what.token, what.number, msgpack.encode(lists), *named.blobs])


def _with(values: list[Any], count: int, packed: bytes) -> Any:
    """Return a list with values behind it that are msgpack already, as such."""
    return Raw(b"\xdd%b%b%b" % ((len(values) + count).to_bytes(4), b"".join(map(_pack, values)), packed))


def _pack_duplicates(what: Reconcile, keys: Keys, named: _Named) -> tuple[list[int], list[int], int | bool]:
    """Return the lists of keys to forget and to remember, and the lowest generation of the latter."""
    forget: list[int] = []
    for generation, key in what.forget:
        forget += (named.key(keys.generation(generation)), named.key(keys.cells(generation)), named.blob(key))
    duplicates: list[int] = []
    for generation, some in groupby(what.duplicates, key=itemgetter(0)):
        of = named.key(keys.generation(generation)), named.key(keys.cells(generation))
        for _, key, content in some:
            at = named.blob(key)
            duplicates += (*of, at, named.blob(content))
    return forget, duplicates, min((generation for generation, _, _ in what.duplicates), default=False)


def _pack_kept(what: Reconcile, keys: Keys, named: _Named) -> tuple[Any, ...]:
    """Return the lists of outcomes, of hints with their lowest hour, and all that stand behind them."""
    pending: list[Any] = []
    for number, context, packed in what.pending:
        pending += (str(number), named.blob(context), named.blob(packed))
    *hints, lowest = _pack_hints(what.hints, keys, named)
    members = _pack_members(what.members, keys, named)
    history: list[Any] = []
    for client, version, field, row in what.history:
        key, text = named.key(keys.history(client)), named.blob(b"%d:%b" % (version, row))
        history += (key, version, field, text)
    copies: list[Any] = []
    for lane, identity, change in what.copies:
        copies += (named.key(keys.copies(lane)), identity, named.blob(change))
    return pending, hints, lowest, members, history, copies, [named.key(keys.unsettled), *what.unsettled]


_RESTORED = 5
"""Arguments of rater_v4_restore before the bytes that its payload points at."""


def pack_restore(what: Restore, keys: Keys, lanes: int) -> Args:
    """Return the arguments of rater_v4_restore."""
    names = [keys.gate, keys.lane(what.lane), *map(keys.lane, range(lanes))]
    named = _Named(names, _RESTORED)
    clients: list[Any] = []
    for row in what.clients:
        clients += [named.key(of + row.client) for of in (keys.client, keys.client_state, keys.history(""))]
        clients.append(named.blob(row.state))
        sums = [("v", row.version), ("b", row.balance), *row.counters.items()]
        clients.append(2 * len(sums))
        for field, value in sums:
            clients += (field, str(value))
        clients.append(2 * len(row.history))
        for field, version, text in row.history:
            clients += (field, named.blob(b"%d:%b" % (version, text)))
    accounts: list[Any] = []
    for account, client in what.accounts:
        accounts += (named.key(keys.accounts(account)), account, client)
    members = _pack_members(what.members, keys, named)
    *hints, lowest = _pack_hints(what.hints, keys, named)
    floors: Any = False if what.floors is None else what.floors
    payload = b""
    if clients or accounts or members or what.floors is not None:
        payload = msgpack.encode([clients, accounts, members, hints, lowest, floors, what.upto])
    names.append(keys.nothing)
    return Args(names, [what.lane, what.token, what.number, lanes, payload, *named.blobs])


def unpack_due(
    rows: list[list[Any]], clients: Sequence[str], changes: Sequence[ClientWrite] = ()
) -> list[Due]:
    """Return what rater_v4_change answered as due. Sums beyond what doubles hold come as text."""
    fields = {change.client: [of.field for of in change.counters] for change in changes}
    due = []
    for index, item, balance, *values in rows:
        client = clients[index]
        counters = {} if item >= 0 else dict(zip(fields[client], map(int, values), strict=True))
        due.append(Due(client, None if item < 0 else item, int(balance), counters))
    return due


def unpack_fence(reply: list[Any]) -> FenceReply:
    """Return what rater_v4_fence answered."""
    if reply[0] != Status.OK:
        return FenceReply(Status(reply[0]), reply[1], 0, [], 0)
    _, call, floor, base, lane_ms, fields, token = reply
    return FenceReply(Status.OK, call, floor, unpack_outcomes(fields), lane_ms, base, token)


def unpack_outcomes(fields: list[bytes]) -> list[tuple[int, bytes, bytes]]:
    """Return what HGETALL answered of a lane's outcomes: (call number, context, packed results), in order."""
    found: dict[bytes, bytes] = dict(zip(fields[::2], fields[1::2], strict=True))
    numbers = sorted(int(field[:-1]) for field in found if field.endswith(b"c"))
    return [(number, found[b"%dc" % number], found[b"%dr" % number]) for number in numbers]
