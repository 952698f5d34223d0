"""Clients that live the life of packages while one looks on, and what they must have in the end.

Nobody else calls for them, so what they have in the end is known beforehand, to the last millionth. Nothing
of it depends on how long things take: commands go by their own times, and calls lie in the past.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, NamedTuple

from rater.core.amounts import format_micros
from rater.core.commands.records import AdjustArgs, AssignArgs, ClientArgs, NoArgs
from rater.core.instants import HOUR_MS, rfc3339
from rater.core.kinds import Do, EventType, TransactionType
from rater.demo.tally import SHOWN, Tally

Json = dict[str, Any]

RENEWS, WAITS, STOPS, CALLS = "301", "302", "303", "304"
_NAMES: Final = {
    RENEWS: "Aster Notary", WAITS: "Bramble Bikes", STOPS: "Crocus Dance", CALLS: "Daisy Diner",
}  # fmt: skip
_HOUR, _OFFICE, _EVENT = "21", "22", "23"
_TABLE: Final = "counter"

RENEWAL_MS: Final = 5_000
"""So long after its assignment the first period of RENEWS ends."""
_MINUTE_MS: Final = 60_000
_LOOK_S: Final = 0.1
_TOP_UP_MICROS: Final = 10_000_000


class Life(NamedTuple):
    """What a client must have in the end. balance: micros; the rest: how many of each type."""

    balance: int
    transactions: Mapping[TransactionType, int]
    events: Mapping[EventType, int]


_T, _E = TransactionType, EventType
LIVES: Final[Mapping[str, Life]] = {
    # 20.00 - 1.00 activation - 2.00 for each of two periods; both calls are free.
    RENEWS: Life(
        15_000_000,
        {_T.ADJUSTMENT: 1, _T.ACTIVATION_FEE: 1, _T.SUBSCRIPTION_FEE: 2, _T.USAGE: 2},
        {_E.ASSIGNED: 1, _E.ACTIVATED: 1, _E.RENEWED: 1},
    ),
    # 3.00 do not do for (2.00 + 8.00) and 20 % tax; topped up by 10.00; its call is free.
    WAITS: Life(
        1_000_000,
        {_T.ADJUSTMENT: 2, _T.ACTIVATION_FEE: 1, _T.SUBSCRIPTION_FEE: 1, _T.USAGE: 1},
        {_E.ASSIGNED: 1, _E.CHARGE_PENDING: 1, _E.CHARGE_CLEARED: 1, _E.ACTIVATED: 1},
    ),
    # 25.00 - 2.00 - 8.00, both given back; a free call, then one of 3 minutes at 0.10 after the stop.
    STOPS: Life(
        24_700_000,
        {_T.ADJUSTMENT: 1, _T.ACTIVATION_FEE: 1, _T.SUBSCRIPTION_FEE: 1, _T.REFUND: 1, _T.USAGE: 2},
        {_E.ASSIGNED: 1, _E.ACTIVATED: 1, _E.STOPPED: 1},
    ),
    # 9.00 - 3.50, which the first of two calls brings; both are free.
    CALLS: Life(
        5_500_000,
        {_T.ADJUSTMENT: 1, _T.SUBSCRIPTION_FEE: 1, _T.USAGE: 2},
        {_E.ASSIGNED: 1, _E.ACTIVATED: 1},
    ),
}


# ------------------------------------------------------------------------------------- in the example catalog
def rate_table() -> Json:
    """Return what their calls cost: one price, so that it can be reckoned in one's head."""
    row = {"code": "380", "price": "0.10", "min_time": 60, "interval": 60}
    return {"name": _TABLE, "currency": "USD", "rates": [row]}


def packages() -> list[Json]:
    """Return what they buy."""

    def fee(kind: str, name: str, rate: str) -> Json:
        return {"type": kind, "name": name, "rate": rate}

    def package(of: str, name: str, period: str, fees: list[Json], minutes: int, **more: Any) -> Json:
        limit = {"id": "m", "type": "volume", "service": "calls", "code": "380*", "limit": minutes}
        fixed = {"type": "customer", "currency": "USD", "period": period, "fees": fees, "limits": [limit]}
        return {"id": of, "name": name, **fixed, **more}

    activation = fee("activation", "Set-up", "2.00"), fee("subscription", "Monthly", "8.00")
    return [
        package(_HOUR, "Hour 10", "1 hour",
                [fee("activation", "Set-up", "1.00"), fee("subscription", "Hour", "2.00")], 10),
        package(_OFFICE, "Office 60", "1 month", list(activation), 60),
        package(_EVENT, "Only when I call", "1 month", [fee("subscription", "Monthly", "3.50")], 30,
                charge_on_event=True),
    ]  # fmt: skip


def clients() -> list[Json]:
    """Return the clients."""
    balances = {RENEWS: "20.00", WAITS: "3.00", STOPS: "25.00", CALLS: "9.00"}
    return [
        {
            "id": client, "name": _NAMES[client], "reseller": "1", "currency": "USD", "balance": balance,
            "rate_tables": {"orig": {"calls": _TABLE}},
            **({"tax_profile": "vat20"} if client == WAITS else {}),
        }
        for client, balance in balances.items()
    ]  # fmt: skip


def client_packages(made_ms: int) -> list[Json]:
    """Return what they have from the beginning; the others are assigned theirs before one's eyes."""
    ago = rfc3339(_second(made_ms) - HOUR_MS)
    return [
        {
            "id": f"{client}-a", "client": client, "package": package, "start_date": ago,
            "activate_in_past": True,
        }
        for client, package in ((WAITS, _OFFICE), (CALLS, _EVENT))
    ]  # fmt: skip


def _second(at_ms: int) -> int:
    return at_ms // 1000 * 1000


# ----------------------------------------------------------------------------------------------- what they do
class Order(NamedTuple):
    """A command about a client, or about one of its client packages. name: its id and key."""

    name: str
    do: Do
    client: str
    args: ClientArgs
    client_package: str | None = None


class Doing(NamedTuple):
    """How the script acts.

    call: sends a record. order: sends a command and waits for its answer. sleep: waits so many seconds.
    now_ms: the clock. pause_s: between two scenes, so that one can follow.
    """

    call: Callable[[Json], Awaitable[None]]
    order: Callable[[Order], Awaitable[None]]
    sleep: Callable[[float], Awaitable[None]]
    now_ms: Callable[[], int]
    pause_s: float = 0.0


class Script:
    """What the clients do, and what is done to them. made_ms: as of `client_packages`."""

    def __init__(self, made_ms: int, tally: Tally, doing: Doing) -> None:
        """Act by `doing`; what has come of it is seen in `tally`."""
        self._made_ms, self._tally, self._doing = made_ms, tally, doing

    async def run(self) -> None:
        """Play it; returns when all has happened that must."""
        renewal_ms = _second(self._doing.now_ms()) + RENEWAL_MS
        await self._assign(RENEWS, _HOUR, renewal_ms - HOUR_MS)
        await self._call(RENEWS, "first", renewal_ms - 20 * _MINUTE_MS, 240)
        await self._call(CALLS, "first", self._ago(30), 90)
        await self._assign(STOPS, _OFFICE, self._ago(60))
        await self._call(STOPS, "before", self._ago(20), 180)
        await self._pause()
        await self._order(WAITS, Do.ADJUST, AdjustArgs(format_micros(_TOP_UP_MICROS)))
        await self._call(WAITS, "after", self._ago(20), 120)
        await self._pause()
        # Only calls that were rated before the stop draw from what it takes back.
        await self._until(lambda: self._tally.of_clients[STOPS, _T.USAGE] >= 1)
        await self._order(STOPS, Do.STOP_NOW, NoArgs(), f"{STOPS}-1")
        await self._call(STOPS, "after", self._ago(5), 150)
        await self._call(CALLS, "second", self._ago(5), 30)
        seconds = 2
        await self._until(lambda: self._doing.now_ms() >= renewal_ms + seconds * 1000)
        await self._call(RENEWS, "second", renewal_ms, seconds)
        await self._until(lambda: all(has_lived(self._tally, client) for client in LIVES))

    async def top_up(self) -> None:
        """Top up, one after the other and without end, clients that wait for funds."""
        count = 0
        while True:
            await self._pause()
            name, (client, missing) = next(iter(self._tally.waiting.items()), ("", ("", 0)))
            if not name:
                continue
            del self._tally.waiting[name]  # it comes again where this does not do
            count += 1
            args = AdjustArgs(format_micros(missing + _TOP_UP_MICROS))
            await self._doing.order(Order(f"demo-top-up-{count}", Do.ADJUST, client, args))

    def _ago(self, minutes: int) -> int:
        return self._made_ms - minutes * _MINUTE_MS

    async def _call(self, client: str, name: str, answered_ms: int, seconds: int) -> None:
        record = {
            "id": f"{self._made_ms:x}-{client}-{name}", "source": "fs1", "called": "380441234567",
            "answered_at": rfc3339(answered_ms), "ended_at": rfc3339(answered_ms + seconds * 1000),
            "duration_ms": seconds * 1000, "orig": {"client": client},
        }  # fmt: skip
        await self._doing.call(record)

    async def _assign(self, client: str, package: str, start_ms: int) -> None:
        start = rfc3339(_second(start_ms))
        await self._order(client, Do.ASSIGN, AssignArgs(package, start_date=start, activate_in_past=True))

    async def _order(self, client: str, do: Do, args: ClientArgs, client_package: str | None = None) -> None:
        await self._doing.order(Order(f"demo-{client}-{do}", do, client, args, client_package))

    async def _pause(self) -> None:
        await self._doing.sleep(self._doing.pause_s)

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._doing.sleep(_LOOK_S)


# -------------------------------------------------------------------------------------------- what came of it
def has_lived(tally: Tally, client: str) -> bool:
    """Tell whether all has been seen of a client that must happen, or more."""
    life = LIVES[client]
    seen = tally.of_clients
    return all(
        seen[client, kind] >= number for kind, number in (*life.transactions.items(), *life.events.items())
    )


def differences(tally: Tally, balances: Mapping[str, int]) -> list[str]:
    """Return sentences on what a client has otherwise than it must. balances: as Redis holds them, micros."""
    differs = [f"the command {text}" for text in tally.refused]
    for client, life in LIVES.items():
        held = balances.get(client, 0)
        if held != life.balance:
            differs.append(
                f"client {client} has {format_micros(held)}, and must have {format_micros(life.balance)}"
            )
        expected = Counter({kind.value: n for kind, n in (*life.transactions.items(), *life.events.items())})
        seen = {
            kind: number for (of, kind), number in tally.of_clients.items()
            if of == client and (kind in expected or kind in set(TransactionType) or kind in SHOWN)
        }  # fmt: skip
        differs += [
            f"client {client} has {seen.get(kind, 0)} of {kind}, and must have {expected[kind]}"
            for kind in sorted(expected.keys() | seen.keys())
            if expected[kind] != seen.get(kind, 0)
        ]
    return differs
