"""What a lane and a bucket say to each other: the calls of functions.lua and their replies.

Units: money in micros of the client's currency (a limit's own currency where it says so), volumes in counting
units, instants in milliseconds. Source of the rules: RULES.md 2.1, 2.2; PROTOCOL.md 3.
"""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple
from zlib import crc32

from msgspec import Struct, msgpack

from rater.core.amounts import LIMIT, Form
from rater.core.bucket.added import AddedSums

EXPIRE_GENERATIONS_MAX = 16
"""Generations dropped by one call of expire: the keys of a call are named before it is made."""
DUE_HINTS_MAX = 5000
"""Hints brought by one reply of `due`: some 150 kB."""
DUE_HOURS_MAX = 1000
"""Hours that one call of the due index names: the keys of a call are named before it is made."""
HOUR_MS = 3_600_000
"""Length of an hour of the due index, ms."""


ANY_RISE = -(2**54)
"""In place of a balance that a client waits for: every rise is to be told."""


def wakes(before: int, after: int, wake: int) -> bool:
    """Return whether a balance has risen to what its client waits for."""
    return before < after >= wake and (before < wake or wake == ANY_RISE)


def crossing(before: int, after: int, mark: int | None) -> bool | None:
    """Return what a balance did at a mark: True: it fell below, False: it rose to it again, None: neither."""
    if mark is None or (before < mark) == (after < mark):
        return None
    return after < mark


def bucket_of(name: str, buckets: int) -> int:
    """Return the bucket of a client, or of an account's index entry: CRC-32 of the id, modulo buckets."""
    return crc32(name.encode()) % buckets


class Status(IntEnum):
    """What became of a call, in order of precedence; everything but OK means that nothing was changed."""

    OK = 0
    FENCED = 1  # a newer owner has taken the lane: drop it
    CLOSED = 2  # the server lost history and not every lane has reconciled yet: wait
    REGRESSED = 3  # the server's idea of this lane is not ours: take the lane again
    LOST = 4  # a client that we hold a view of is gone: take the lane again
    STALE = 5  # a client's view is older than the server's: use the fresh ones, identify again, repeat
    UNSETTLED = 8
    """A change goes on from one of another lane that may not be published: take that along, repeat."""
    DUE = 7  # something of a client is due before this can be done: plan it with these numbers, repeat
    MORE = 6  # the first limits of an item did not do: name all of them, repeat


class Outcome(IntEnum):
    """What became of one item of a call."""

    RATED = 0
    DUPLICATE = 1
    DIFFERS = 2  # the same key with other content
    OUT_OF_RANGE = 3  # the amount or the new balance is beyond +-2^53 micros; nothing was drawn


class ItemCandidate(NamedTuple):
    """One limit that an item may draw from; candidates of an item are in order of RULES.md 2.1.

    So volume limits come before money limits, those of one group agree in `allow`, and each has a counter of
    its own.
    """

    field: int  # index in the use's fields
    size: int  # counting units, or micros of the package's currency; quantity included
    group: int  # ordinal of its client package in the call: limits of one group are drawn together
    money: bool
    waive: bool  # when this volume limit gives something, the setup fee is not charged
    allow: bool  # passed over while balance + credit limit < 0
    cap: int  # most that one call may draw, 0 = no cap; below 0: with the candidate before it together
    to_package: Form | None  # client's currency -> package's; None: the same currency
    to_client: Form | None  # package's currency -> client's; None: the same currency


class Use(Struct):
    """A client as the items of a call use it: the view's version and the counters that are asked for.

    A call has one of a client. Names of counters hold a '.': Redis keeps them beside the version and the
    balance.
    """

    client: str
    version: int
    credit_limit: int
    fields: list[str]
    wake: int | None = None
    """The balance, in micros, at which something of the client becomes due; None: at none; ANY_RISE: at any
    that is higher than before."""
    mark: int | None = None
    """The client's `low_balance`, in micros: results tell which item crossed it. None: there is none."""


class FeeAsk(NamedTuple):
    """The fee of a period that its first draw brings (charge on event; RULES.md section 4).

    It is charged with the first take from a limit of its group while the counter `charged` is 0: 1, `net` and
    `amount` are added to the three counters, `amount` to the balance, in the same step as the draw. With
    `deny` its group is passed over, as if it had nothing left, while `amount` is below 0 and balance + credit
    limit + amount < 0; the balance is the one at this side, after earlier items of the call.
    """

    group: int  # as the candidates' one; an item has one FeeAsk of a group
    field: int  # index in the use's fields of `charged`; the next two are `net` and `amount`
    net: int  # signed micros, as counted
    amount: int  # signed micros added to the balance, nearly always <= 0
    deny: bool  # what the period's rule of the client balance says


class DrawItem(Struct, gc=False):
    """One side of a CDR (or any other charge) to be drawn and charged."""

    use: int  # index in the call's uses
    key: bytes  # 8 bytes: duplicates are found by it
    content: bytes  # 4 bytes: the same key with other content DIFFERS
    billed: int
    cost: Form
    """Signed micros as a function of the overage; |cost at billed| <= 2^53 is the caller's to check."""
    same_record: bool
    """The second side of the record before it: `allow` is judged on the balance before the first."""
    candidates: tuple[ItemCandidate, ...]
    cut: bool = False
    """There are more candidates, which matter only if these leave volume or money over: then MORE."""
    older: bytes = b""
    """The key without the client, as versions before 2026-12 made it: what they rated is found by it."""
    fees: tuple[FeeAsk, ...] = ()
    """Of the candidates' groups those whose first draw brings a fee, charged already or not.

    An item with fees is never `cut`: what is told of them rests on all candidates.
    """


class FeeResult(NamedTuple):
    """What became of the fees that an item asked for."""

    charged: int | None
    """Index of the FeeAsk that was charged with it."""
    covered: bool | None
    """Whether funds sufficed for the fees under `deny` that were not charged yet and whose group was gone
    through, the chosen one included: had something left when its turn came. None: there was none such."""
    amount: int = 0
    """Signed micros that were charged so, beside those of the result."""


class DrawResult(NamedTuple):
    """What an item got. amount: signed micros. takes: (candidate index, taken, left, covered), what gave."""

    outcome: int
    amount: int
    balance_sufficient: bool | None
    takes: tuple[tuple[int, int, int, int], ...]
    fee: FeeResult | None = None
    """None: nothing was charged, and nothing is told."""
    low: bool | None = None
    """True: with its fee it took the balance below the client's mark; False: to it again; None: neither."""


class CounterChange(NamedTuple):
    """What a change asks of a counter, and what it adds: it must lie in [least, most].

    delta 0: it is only asked. Numbers are within +-2^53.
    """

    field: str
    least: int
    most: int
    delta: int


class ClientWrite(Struct):
    """A client's new state, and the conditions under which it was decided.

    Done only if the client's version is the expected one (0: it does not exist yet), its balance in [least,
    most], and each counter in its interval; the sums must stay within +-2^53 besides, as all numbers here
    are. A field comes once.
    """

    client: str
    expected: int
    version: int
    state: bytes
    least: int = -LIMIT
    most: int = LIMIT
    delta: int = 0  # added to the balance
    counters: list[CounterChange] = []
    hints: list[tuple[int, bytes]] = []
    """(hour since 1970, element): added to the due index where the client's due moment comes forward."""
    members: list[str] = []
    """Packages to whose members the client is added."""
    history: list[tuple[str, bytes]] = []
    """(CLIENT_PACKAGE.PERIOD, row): periods that leave the state."""
    carries: bool = False
    """Changes of other lanes that it goes on from are kept with it, where they may be unpublished."""


class Due(NamedTuple):
    """What has to be done of a client before its items; balance: there, counters: field -> value."""

    client: str
    item: int | None
    """The item of the call that the change has to stand before; None: a change's conditions do not hold."""
    balance: int
    counters: dict[str, int]


class DrawRequest(Struct):
    """One call of one lane at one bucket: changes first, then items, in order; all or nothing."""

    lane: int
    token: int
    number: int  # must be the number that the bucket expects
    lane_ms: int
    generation: int  # lane_ms // length of a generation; new keys go here, its two neighbours are asked too
    trim: int  # outcomes of calls up to this one are committed and are dropped
    floor: int  # journal offset below which every effect is in the bucket and trimmed
    changes: list[ClientWrite]  # one of a client
    accounts: list[tuple[str, str]]  # account index: account -> client; client "" removes the entry
    uses: list[Use]  # versions are those that hold after the changes of this call
    items: list[DrawItem]
    context: bytes  # kept with the outcome, opaque here (reconciling.CallContext)
    contextless: bool = False  # keep no outcome: for calls that nobody will replay


class PackedDraw(NamedTuple):
    """A DrawRequest of sides alone, as an engine has packed it (`core/line/engine.py`).

    payload, digests, context: arguments of rater_v4_draw; behind: what rater_v4_change has besides, None: it
    is no call of that.
    """

    lane: int
    token: int
    number: int
    generation: int
    clients: list[str]
    payload: bytes
    digests: bytes
    context: bytes
    behind: bytes | None


def clients_of(request: DrawRequest) -> list[str]:
    """Return the clients that a call names: those of its uses, then those of its changes alone."""
    return list(
        dict.fromkeys([*(use.client for use in request.uses), *(of.client for of in request.changes)])
    )


class DrawReply(Struct):
    """The answer to a DrawRequest; results, woken and packed are empty unless the status is OK."""

    status: Status
    number: int  # the number that the next call must carry
    results: list[DrawResult] = []
    woken: list[int] = []  # items that took a balance to what their client waits for, each the client's last
    stale: list[tuple[str, bytes]] = []  # status STALE: the fresh states
    packed: bytes = b""  # results and woken as they were kept with the outcome
    more: list[int] = []  # status MORE: the items
    due: list[Due] = []  # status DUE
    unsettled: list[tuple[str, int]] = []  # status UNSETTLED: clients, and whose change each goes on from


class FenceReply(Struct):
    """What the bucket keeps of a lane; outcomes: (call number, context, packed results), in that order."""

    status: Status
    number: int
    floor: int
    outcomes: list[tuple[int, bytes, bytes]]
    lane_ms: int
    base: int = 0  # journal offset from which kept outcomes may be found in the journal; <= floor
    token: int = -1  # of the owner before this one, as far as the bucket knows


class Reconcile(Struct):
    """Corrections that make a bucket agree with the journal.

    Sums are added; states win by their version; what is forgotten goes before what is remembered.
    """

    lane: int
    token: int
    number: int
    floor: int
    lane_ms: int = 0
    drop_calls: list[int] = []
    balances: list[tuple[str, int]] = []
    counters: list[tuple[str, str, int]] = []
    duplicates: list[tuple[int, bytes, bytes]] = []  # (generation, key, content)
    states: list[tuple[str, int, bytes]] = []
    """(client, version, state): set unless a higher version is there."""
    accounts: list[tuple[str, str]] = []
    pending: list[tuple[int, bytes, bytes]] = []
    """(call number, context, packed results): outcomes put in place of old ones."""
    forget: list[tuple[int, bytes]] = []  # (generation, key) of what is undone
    hints: list[tuple[int, bytes]] = []  # (hour, element); one that is there already is there twice
    members: list[tuple[str, str]] = []  # (package, client); the same
    history: list[tuple[str, int, str, bytes]] = []
    """(client, version, CLIENT_PACKAGE.PERIOD, row): set unless one of a higher version is there."""
    unsettled: list[str] = []
    """Clients whose changes are among `pending`."""
    copies: list[tuple[int, str, bytes]] = []
    """(lane, identity and version, copy): changes of other lanes that those of this one went on from."""
    final: bool = True  # False: more is to follow, kept outcomes are still searched for from `base` on
    added: AddedSums | None = None
    """Sums and duplicates besides."""


class ViewsReply(Struct):
    """Registers and account index entries as they are; what does not exist is absent from the mappings."""

    status: Status
    states: dict[str, bytes]
    accounts: dict[str, str]
    balances: dict[str, int] = {}
    """Micros, of the clients whose state is there."""


class CopiesReply(Struct):
    """Changes of a lane that others went on from; it may have published them long ago."""

    status: Status
    changes: list[bytes] = []


class DueReply(Struct):
    """Hints of the due index, hour by hour from the lowest on: those behind what the caller had read."""

    status: Status
    hints: list[tuple[int, list[bytes]]] = []  # (hour, elements); at most DUE_HINTS_MAX elements
    total: int = 0  # hints that are there up to the asked hour, read before or not


class DropReply(NamedTuple):
    """Whether the hints of an hour were dropped. number: that the next call must carry."""

    status: Status
    number: int
    dropped: bool


class MembersReply(Struct):
    """A piece of the clients that were ever given a package; one may be among them twice."""

    status: Status
    clients: list[str] = []


def hint_of(due_ms: int, client: str) -> tuple[int, bytes]:
    """Return (hour, element) of a client's due moment. The element: second of the hour, 2 bytes; the id."""
    hour, rest = divmod(due_ms, HOUR_MS)
    return hour, (rest // 1000).to_bytes(2, "big") + client.encode()


def read_hint(hour: int, element: bytes) -> tuple[int, str]:
    """Return what `hint_of` was given: the due moment, down to the second, and the client."""
    return hour * HOUR_MS + int.from_bytes(element[:2], "big") * 1000, element[2:].decode()


def pack_results(woken: list[int], results: list[DrawResult]) -> bytes:
    """Return woken and results as the store keeps them: one flat msgpack list of ints.

    [number of woken, each, then per item: code, and if it was rated: amount, (index, taken, left, covered)*];
    code = outcome + 4 * (balance_sufficient: 0 None, 1 False, 2 True) + 16 * number of takes. What is told
    besides are takes in front: of the client's mark (-2, low, 0, 0), then of fees (-1, index of the one that
    was charged + 1 | 0, its amount, covered); low and covered as balance_sufficient.
    """
    flat = [len(woken), *woken]
    for outcome, amount, sufficient, takes, fee, low in results:
        all_takes = takes
        if fee is not None:
            charged = 0 if fee.charged is None else fee.charged + 1
            all_takes = ((_FEE, charged, fee.amount, _JUDGED.index(fee.covered)), *all_takes)
        if low is not None:
            all_takes = ((_MARK, _JUDGED.index(low), 0, 0), *all_takes)
        flat.append(outcome + 4 * _JUDGED.index(sufficient) + 16 * len(all_takes))
        if outcome == Outcome.RATED:
            flat.append(amount)
            for take in all_takes:
                flat += take
    return msgpack.encode(flat)


_JUDGED = (None, False, True)
_FEE, _MARK = -1, -2
"""In the place of a candidate's index: no take, but what is told of fees, or of the client's mark."""
_ONE_TAKE, _TWO_TAKES = 16, 32  # codes from which on there are so many
_flat_decoder = msgpack.Decoder(list[int])
_new = tuple.__new__  # a third of the time of DrawResult(...): this runs for every side


def unpack_results(packed: bytes) -> tuple[list[int], list[DrawResult]]:
    """Return (woken, results) of what `pack_results` or the store packed.

    Of a call that a version before 2026-12 made, woken has 1 or 0 for each of its applies: done, or not.
    """
    flat = _flat_decoder.decode(packed)
    at = flat[0] + 1
    woken = flat[1:at]
    results: list[DrawResult] = []
    end = len(flat)
    while at < end:
        code = flat[at]
        outcome = code & 3  # RATED is 0
        if outcome:
            results.append(DrawResult(outcome, 0, None, ()))
            at += 1
        elif code < _ONE_TAKE:
            results.append(_new(DrawResult, (0, flat[at + 1], _JUDGED[code >> 2], (), None, None)))
            at += 2
        elif code < _TWO_TAKES and flat[at + 2] >= 0:
            take = tuple(flat[at + 2 : at + 6])
            results.append(_new(DrawResult, (0, flat[at + 1], _JUDGED[code >> 2 & 3], (take,), None, None)))
            at += 6
        else:
            stop = at + 2 + (code >> 4) * 4
            rest = iter(flat[at + 2 : stop])
            takes = tuple(zip(rest, rest, rest, rest, strict=True))
            fee = low = None
            if takes[0][0] == _MARK:
                low = _JUDGED[takes[0][1]]
                takes = takes[1:]
            if takes and takes[0][0] == _FEE:
                _, charged, fee_amount, covered = takes[0]
                fee = FeeResult(charged - 1 if charged else None, _JUDGED[covered], fee_amount)
                takes = takes[1:]
            results.append(_new(DrawResult, (0, flat[at + 1], _JUDGED[code >> 2 & 3], takes, fee, low)))
            at = stop
    return woken, results
