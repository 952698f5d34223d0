"""Runs with loads in the middle of the calls that they change, and backlogs of hundreds of records.

Packages take each other's place, and whatever else a load may change changes. Draws are on their way for 50
to 200 ms while another lane carries out the load, and lanes are behind in their commands: so lanes, caches
and buckets know of a load at different times. What must be true: `checking.check_any`.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from simulation.checking import check_any
from simulation.clockwork import EPOCH_S
from simulation.scenario import DRAIN_S, Profile, Scenario
from simulation.world import World

Row = dict[str, Any]
NUMBERS = ("380441234567", "380501234567", "12025550100")
CODES = ("380*", "*", "38044", "1*")
ZONES = ("UTC", "Europe/Kyiv", "America/New_York", "Asia/Kolkata")
TABLES = {"retail": "USD", "dear": "USD", "euro": "EUR", "pound": "GBP", "carrier": "USD"}
DAY_S = 86_400
UNBROKEN = Profile(name="loads", buckets=(1, 1, 2, 4), workers=(1, 2), faults=(0, 0))
BROKEN = Profile(
    name="broken loads", buckets=(1, 1, 2, 4), workers=(1, 2), faults=(1, 5),
    weights={"crash": 5, "freeze": 3, "cut_kafka": 1, "cut_store": 1, "restart": 1, "join": 1, "leave": 2},
)  # fmt: skip
"""Nothing that the store loses: so it is known of each side by which draw it was decided. Nor anything that
has a loader begin anew: its file's end dates would lie before now."""


def moment(at_s: float) -> str:
    """Return an instant of the loop's time as text."""
    return (
        datetime.fromtimestamp(round(EPOCH_S + at_s, 3), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )


class Shop:
    """The catalog as it was loaded last, and what a load may change of it."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.file: Row = {}
        self.packages: dict[str, Row] = {}
        self.clients: dict[str, Row] = {}
        self.held: dict[str, Row] = {}
        self.numbers = 0
        self.touched: list[str] = []
        """Clients that the last load changed something for."""

    def first(self) -> bytes:
        """Return the first file."""
        rng = self.rng
        # Before its first rate nothing is converted from or to pounds: a rejection that a load can mend.
        pound = rng.choice(("1.27", [{"rate": "1.27", "from": "2026-12-01"}]))
        self.file = {"currencies": {"base": "USD", "rates": {"EUR": "1.08", "GBP": pound}}}
        for name in TABLES:
            self.table(name)
        for _ in range(rng.randrange(3, 6)):
            self.package()
        self.package(type="vendor")
        for _ in range(rng.randrange(2, 6)):
            self.client()
        # All of its calls are rejected, so no draw finds out whoever has it as it was before a load.
        self.client(rate_tables={"orig": {"calls": "pound"}})
        return self.taken()

    def change(self, now_s: float) -> bytes:
        """Return a file that changes something. now_s: when it is loaded, the loop's time."""
        rng, self.touched = self.rng, []
        at_s = int(now_s) + rng.choice((1, 1, 1, 2, 5))  # an end date is no earlier than its load
        kinds: list[Callable[[], object]] = [
            *[partial(self.swap, at_s)] * 4, *[self.edit_package] * 2, self.edit_client, self.edit_client,
            self.client, self.edit_table, self.edit_currency, self.take, self.mend, self.mend,
        ]  # fmt: skip
        for kind in rng.sample(kinds, rng.randrange(1, 5)):
            kind()
        if not self.touched:
            self.swap(at_s)
        return self.taken()

    def taken(self) -> bytes:
        """Return the file that was made, and begin another."""
        file, self.file = self.file, {}
        return json.dumps(file).encode()

    def put(self, section: str, row: Row) -> Row:
        """Put a row into the file, in place of an earlier one of it."""
        key = "name" if section == "rate_tables" else "id"
        rows = self.file.setdefault(section, [])
        rows[:] = [one for one in rows if one[key] != row[key]]
        rows.append(row)
        return row

    def fresh(self, section: str, identity: str) -> bool:
        """Tell if the file has this row."""
        return any(row["id"] == identity for row in self.file.get(section, ()))

    def number(self) -> int:
        """Return another number."""
        self.numbers += 1
        return self.numbers

    # ------------------------------------------------------------------ rows
    def table(self, name: str) -> None:
        """Put a rate table."""
        rng = self.rng
        rates: list[Row] = [
            {"code": code, "price": rng.choice(("0.60", "1", "0.0333333333", "2.5"))}
            for code in ("380", "38044", "1")
        ]
        if rng.random() < 0.3:
            rates[rng.randrange(3)] |= {"setup_fee": "0.05", "interval": 6, "min_time": 30}
        currency = TABLES[name] if rng.random() < 0.85 else rng.choice(("USD", "EUR"))
        self.put("rate_tables", {"name": name, "currency": currency, "rates": rates[rng.random() < 0.15 :]})

    def limit(self, number: int) -> Row:
        """Return a limit."""
        rng = self.rng
        row: Row = {"id": f"m{number}", "service": "calls", "code": rng.choice(CODES)}
        if rng.random() < 0.7:
            return row | {"type": "volume", "limit": rng.choice((1, 2, 10, 60))}
        return row | {"type": "money", "limit": rng.choice(("0.10", "1.50", "20"))}

    def package(self, **fixed: Any) -> Row:
        """Put a new package."""
        rng, identity = self.rng, f"p{self.number()}"
        row: Row = {
            "id": identity, "name": f"Package {identity}", "type": "customer",
            "currency": rng.choice(("USD", "USD", "EUR", "GBP")),
            "period": rng.choice((None, "1 hour", "1 day", "1 month")),
            "limits": [self.limit(number) for number in range(rng.choice((1, 1, 2, 3)))],
        }  # fmt: skip
        self.settings(row)
        row.update(fixed)
        self.packages[identity] = row
        return self.put("packages", row)

    def settings(self, row: Row) -> None:
        """Draw what each call reads as it is now."""
        rng = self.rng
        row["priority"] = rng.choice((0, 0, 1, 2))
        row["dynamic_tag"] = rng.choice((None, None, "promo"))
        row["setup_fee"] = rng.choice(("charge", "dont_charge"))
        row["client_balance"] = rng.choice(("deny", "deny", "allow"))

    def client(self, **fixed: Any) -> None:
        """Put a new client, with what it has."""
        rng, identity = self.rng, f"c{self.number()}"
        row: Row = {
            "id": identity, "currency": rng.choice(("USD", "USD", "EUR")), "time_zone": rng.choice(ZONES),
            "balance": rng.choice(("0", "5.00", "0.50")), "credit_limit": rng.choice(("0", "1")),
            "rate_tables": self.own_tables(), "accounts": [self.account() for _ in range(rng.randrange(3))],
        }  # fmt: skip
        row.update(fixed)
        self.clients[identity] = self.put("clients", row)
        self.touched.append(identity)
        for _ in range(rng.choice((0, 1, 1, 2))):
            self.hold(identity)
        if rng.random() < 0.4:
            vendors = [one["id"] for one in self.packages.values() if one["type"] == "vendor"]
            self.hold(identity, package=rng.choice(vendors))

    def own_tables(self) -> Row:
        """Return which tables a client has."""
        rng = self.rng
        tables: Row = {"orig": {"calls": rng.choice(tuple(TABLES))}}
        if rng.random() < 0.85:
            tables["term"] = {"calls": rng.choice(("carrier", "euro"))}
        return tables

    def account(self) -> Row:
        """Return an account."""
        row: Row = {"id": f"a{self.number()}"}
        if self.rng.random() < 0.3:
            row["rate_tables"] = {"orig": {"calls": self.rng.choice(tuple(TABLES))}}
        return row

    def hold(self, client: str, **fixed: Any) -> None:
        """Give a client a package, mostly from before its calls on."""
        rng = self.rng
        row: Row = {
            "id": f"h{self.number()}", "client": client, "package": rng.choice(list(self.packages)),
            "quantity": rng.choice((1, 1, 2)),
        }  # fmt: skip
        if rng.random() < 0.8:
            row |= {
                "start_date": rng.choice(("2026-09-10", "2026-09-20T10:00:00Z")),  # at most 400 hours ago
                "activate_in_past": True,
            }
        accounts = self.clients[client]["accounts"]
        if accounts and rng.random() < 0.2:
            row["account"] = rng.choice(accounts)["id"]
        row.update(fixed)
        self.held[row["id"]] = self.put("client_packages", row)

    # ------------------------------------------------------------------ what a load changes
    def swap(self, at_s: int) -> None:
        """End a client package, and begin another in its place."""
        rng = self.rng
        now = moment(at_s)
        rows = [
            row
            for row in self.held.values()
            if "end_date" not in row
            and not self.fresh("client_packages", row["id"])
            and "2026" < row.get("start_date", "") < now
        ]
        if not rows:
            self.take()
            return
        row = rng.choice(rows)
        old = self.packages[row["package"]]
        self.held[row["id"]] = self.put("client_packages", {**row, "end_date": now})
        if rng.random() < 0.7:
            new = self.package(type=old["type"], currency=old["currency"], limits=old["limits"])["id"]
        else:
            new = rng.choice(list(self.packages))
        self.hold(
            row["client"], package=new, start_date=now, activate_in_past=rng.random() < 0.5, **self.whose(row)
        )
        self.touched.append(row["client"])

    @staticmethod
    def whose(row: Row) -> Row:
        """Return the account of a client package."""
        return {name: row[name] for name in ("account",) if name in row}

    def take(self) -> None:
        """Give a client a package more."""
        client = self.rng.choice(list(self.clients))
        self.hold(client)
        self.touched.append(client)

    def edit_package(self) -> None:
        """Change a package."""
        rng = self.rng
        row = json.loads(json.dumps(rng.choice(list(self.packages.values()))))
        if self.fresh("packages", row["id"]):
            return
        kind = rng.randrange(4)
        if kind == 0:
            self.settings(row)
        elif kind == 1:
            row["name"] += "'"
        elif kind == 2:
            row["limits"].append(self.limit(self.number()))
        else:
            one = rng.choice(row["limits"])
            one["limit"] = rng.choice(("0.07", "3")) if one["type"] == "money" else rng.choice((1, 3, 40))
        self.packages[row["id"]] = self.put("packages", row)
        self.touched += [one["client"] for one in self.held.values() if one["package"] == row["id"]]

    def edit_client(self) -> None:
        """Change a client's tables, zone, credit or accounts."""
        rng = self.rng
        row = json.loads(json.dumps(rng.choice(list(self.clients.values()))))
        kind = rng.randrange(5)
        if kind < 2:
            row["rate_tables"] = self.own_tables()
        elif kind == 2:
            row["time_zone"] = rng.choice(ZONES)
        elif kind == 3:
            row["credit_limit"] = rng.choice(("0", "3", "0.01"))
        else:
            row["accounts"].append(self.account())
        self.clients[row["id"]] = self.put("clients", row)
        self.touched.append(row["id"])

    def mend(self) -> None:
        """Give a client whose calls are rejected a table by which they are rated."""
        for row in self.clients.values():
            if row["rate_tables"] == {"orig": {"calls": "pound"}} and not self.fresh("clients", row["id"]):
                mended = {**row, "rate_tables": {"orig": {"calls": "retail"}}}
                self.clients[row["id"]] = self.put("clients", mended)
                self.touched.append(row["id"])
                return

    def edit_table(self) -> None:
        """Load a rate table anew, maybe in another currency."""
        self.table(self.rng.choice(tuple(TABLES)))

    def edit_currency(self) -> None:
        """Change a currency's rate."""
        self.file["currencies"] = {
            "rates": self.rng.choice(({"EUR": "1.11"}, {"GBP": "1.3"}, {"GBP": "1.25"}))
        }


class Loads(Scenario):
    """One seed's run."""

    def __init__(self, seed: int, profile: Profile | None = None) -> None:
        profile = profile or (UNBROKEN if seed % 2 else BROKEN)
        self.profile = profile
        self.rng = rng = random.Random(f"{seed} {profile.name}")  # noqa: S311 - a simulation
        self.shop = Shop(rng)
        self.world = World(
            rng.getrandbits(32), lanes=rng.choice((2, 2, 2, 3, 4)), buckets=rng.choice(profile.buckets),
            batch_max=rng.choice((1, 3, 4000, 4000)),
        )  # fmt: skip
        self.world.broker.fetch_max = rng.choice((0, 0, 0, 3))
        self.made: list[Row] = []

    async def _live(self, world: World) -> None:
        rng, profile = self.rng, self.profile
        for _ in range(rng.choice(profile.workers)):
            world.add_worker()
        await world.begin_load(self.shop.first(), applied=True)
        await world.shared()
        for client in self.shop.clients:  # so that every lane knows them as they are before the loads
            for lane in range(world.lanes):
                world.send(lane, self._cdr(len(self.made), client))
        await world.drained(DRAIN_S)
        world.server.late = rng.choice((0.1, 0.3, 0.3, 0.6))
        loading = asyncio.create_task(self._loads())
        breaking = asyncio.create_task(self._breaks())
        while not loading.done():
            self._send()
            await asyncio.sleep(
                rng.random() * rng.choice((0.01, 0.05, 0.4) if len(self.made) < 200 else (0.5, 2))
            )
        await asyncio.gather(loading, breaking)
        world.heal()
        await self._settle()
        for client in self.shop.clients:  # by now all agree
            for lane in range(world.lanes):
                world.send(lane, self._cdr(len(self.made), client))
        await self._settle()
        await world.stop_workers()
        await asyncio.sleep(0.1)
        if not world.faults and rng.random() < 0.1:
            # Two clients with one id are two calls, of which the audit tells.
            world.faults += [one for one in await world.audited() if "of another client before" not in one]
        world.faults += world.halts + check_any(world)

    async def _loads(self) -> None:
        """Load again and again, each in a second of its own."""
        rng, world = self.rng, self.world
        for _ in range(rng.randrange(1, 4)):
            await asyncio.sleep(1 - world.loop.now % 1 + rng.random() * 0.9)
            load = world.begin_load(self.shop.change(world.loop.now))
            for lane in range(world.lanes):
                if rng.random() < 0.3:
                    world.broker.hold((world.topics.commands, lane), rng.uniform(0.05, 1.0))
            await load
            # What a load says is checked against what the loads before it have made.
            await world.until(lambda: not any("commands" in left for left in world.behind()), DRAIN_S)
        await asyncio.sleep(rng.random())

    async def _breaks(self) -> None:
        rng, profile = self.rng, self.profile
        kinds, weights = list(profile.weights), list(profile.weights.values())
        for _ in range(rng.randint(*profile.faults)):
            await asyncio.sleep(rng.random())
            getattr(self, f"_{rng.choices(kinds, weights)[0]}")()()

    def _send(self) -> None:
        rng, world, made = self.rng, self.world, self.made
        lane = rng.randrange(world.lanes)
        if made and rng.random() < 0.1:
            cdr = rng.choice(made[-12:])
            if rng.random() < 0.3:
                cdr = {**cdr, "duration_ms": cdr["duration_ms"] + 1000}
            elif rng.random() < 0.2:  # the same id at another client is another call
                cdr = {**cdr, "orig": {"client": rng.choice(list(self.shop.clients))}}
        else:
            touched = self.shop.touched
            cdr = self._cdr(len(made), rng.choice(touched) if touched and rng.random() < 0.6 else None)
        world.send(lane, cdr)

    def _cdr(self, number: int, client: str | None = None) -> Row:
        rng, now_s = self.rng, self.world.loop.now
        duration = rng.choice((6, 30, 60, 61, 300)) * 1000
        # Around now, for loads change what is from now on; or on some day before.
        # None is ahead of its record: whether it finds a period that begins meanwhile is a matter of chance.
        back_s = rng.uniform(0, 6) if rng.random() < 0.7 else rng.uniform(0, 5 * DAY_S)
        cdr: Row = {
            "id": f"n{number}", "called": rng.choice(NUMBERS), "answered_at": moment(now_s - back_s),
            "duration_ms": 0 if rng.random() < 0.03 else duration,
        }  # fmt: skip
        draw = rng.random()
        if draw < 0.85:
            cdr["orig"] = self._party(client)
        if draw > 0.7:
            cdr["term"] = self._party(client if rng.random() < 0.5 else None)
        self.made.append(cdr)
        return cdr

    def _party(self, client: str | None) -> Row:
        rng, shop = self.rng, self.shop
        client = client or rng.choice(list(shop.clients))
        accounts = [one["id"] for one in shop.clients[client]["accounts"]]
        if accounts and rng.random() < 0.4:
            account = rng.choice(accounts)
            return {"account": account} if rng.random() < 0.7 else {"client": client, "account": account}
        return {"client": client}


# ------------------------------------------------------------------ backlogs
BACKLOG = Profile(
    name="backlog", lanes=(1, 1, 2, 3), buckets=(1, 1, 2, 3), workers=(1, 1, 2), faults=(0, 3),
    weights={"crash": 5, "freeze": 2, "join": 1, "leave": 1, "roll_back": 1, "flush": 1, "restart": 1},
)  # fmt: skip


class Backlog(Scenario):
    """A run in which all lies there before a worker starts: hundreds of records in a batch.

    They mix what a backlog mixes: days of one client, its many accounts, more limits than are asked for at
    first, repeats; in runs of calls that are alike, and one by one.
    """

    def __init__(self, seed: int, profile: Profile = BACKLOG) -> None:
        self.profile = profile
        self.rng = rng = random.Random(f"{seed} {profile.name}")  # noqa: S311 - a simulation
        self.world = World(
            rng.getrandbits(32), lanes=rng.choice(profile.lanes), buckets=rng.choice(profile.buckets),
            batch_max=rng.choice((4000, 4000, 4000, 100)),
        )  # fmt: skip
        self.clients = [f"c{number}" for number in range(rng.randrange(1, 5))]
        self.accounts = {name: [f"{name}-a{no}" for no in range(rng.choice((1, 3)))] for name in self.clients}
        self.accounts["c0"] = [f"c0-a{number}" for number in range(rng.choice((2, 65, 80, 110)))]
        self.keyed = rng.random() < 0.6
        self.made: list[Row] = []

    async def _live(self, world: World) -> None:
        rng, profile = self.rng, self.profile
        await world.begin_load(self._catalog())
        for _ in range(rng.randrange(200, 600)):
            if len(self.made) < 600:
                self._some()
        if rng.random() < 0.3:
            await world.begin_load(json.dumps({"packages": [self._package("day", "1 day")]}).encode())
        world.server.late = rng.choice((0, 0.3))
        if rng.random() < 0.6:
            self._aim(rng.randrange(1, 4))
        for _ in range(rng.choice(profile.workers)):
            world.add_worker()
        kinds, weights = list(profile.weights), list(profile.weights.values())
        for _ in range(rng.randint(*profile.faults)):
            await asyncio.sleep(rng.random() * rng.choice((0.1, 0.5)))
            getattr(self, f"_{rng.choices(kinds, weights)[0]}")()()
        await asyncio.sleep(rng.choice((1, 5)))
        world.heal()
        await self._settle()
        await world.stop_workers()
        await asyncio.sleep(0.1)
        if not world.faults and rng.random() < 0.1:
            world.faults += await world.audited()
        world.faults += world.halts + check_any(world)

    def _aim(self, number: int) -> None:
        """Kill a worker as soon as so many draws are done, before any of it is published."""
        world, seen = self.world, 0

        def count(who: str, what: str) -> None:
            nonlocal seen
            seen += what == "draw"
            if what == "draw" and seen == number:
                for slot in world.slots:
                    if slot.process is not None and slot.process.name == who:
                        world.crash(slot)

        world.server.done = count

    # ------------------------------------------------------------------ catalog and calls
    def _package(self, name: str, period: str | None) -> Row:
        rng = self.rng
        count = rng.choice((1, 2, 5, 5, 9, 18, 70)) if name == "day" else rng.choice((1, 3))
        limits: list[Row] = [
            {
                "id": f"m{number}",
                "service": "calls",
                "type": "volume",
                "code": "380*",
                "limit": rng.choice((1, 1, 2, 10)),
            }
            for number in range(count)
        ]
        if rng.random() < 0.4:
            limits.append({"id": "money", "service": "calls", "type": "money", "code": "*", "limit": "1.50"})
        return {
            "id": name, "name": name, "type": "customer", "currency": "EUR" if name == "month" else "USD",
            "period": period, "limits": limits, "priority": rng.choice((0, 1)),
        }  # fmt: skip

    def _catalog(self) -> bytes:
        rng = self.rng
        packages = [
            self._package("day", "1 day"),
            self._package("hours", "6 hours"),
            self._package("month", "1 month"),
        ]
        clients = [
            {
                "id": name, "currency": "USD", "time_zone": rng.choice(ZONES), "balance": "5.00",
                "rate_tables": {"orig": {"calls": "retail"}, "term": {"calls": "retail"}},
                "accounts": [{"id": account} for account in accounts],
            }
            for name, accounts in self.accounts.items()
        ]  # fmt: skip
        held = [
            {
                "id": f"{name}-{package}",
                "client": name,
                "package": package,
                "start_date": "2026-09-13",
                "activate_in_past": True,
            }
            for name in self.clients
            for package in ("day", "hours", "month")
            if (name == "c0" and package == "day") or rng.random() < 0.4
        ]
        rates = [{"code": "380", "price": "0.60"}, {"code": "1", "price": "1", "interval": 6}]
        return json.dumps({
            "currencies": {"base": "USD", "rates": {"EUR": "1.08"}},
            "rate_tables": [{"name": "retail", "currency": "USD", "rates": rates}],
            "packages": packages, "clients": clients, "client_packages": held,
        }).encode()  # fmt: skip

    def _some(self) -> None:
        """Send one call, or a run of calls that are alike: of day after day, by account after account."""
        rng = self.rng
        if rng.random() < 0.8:
            self._call(rng.choice(self.clients), rng.randrange(6), rng.choice((6, 30, 60, 120, 300)))
            return
        client, seconds, accounts = (
            rng.choice(("c0", rng.choice(self.clients))),
            rng.choice((60, 300)),
            [None],
        )
        if rng.random() < 0.5:
            accounts = list(self.accounts[client])  # type: ignore[arg-type]
        days = rng.choice((range(6), range(5, -1, -1), [rng.randrange(6)] * 6))
        for at in range(max(len(accounts), rng.randrange(3, 12))):
            self._call(client, days[at % 6], seconds, account=accounts[at % len(accounts)], number=NUMBERS[0])

    def _call(
        self, client: str, days: int, seconds: int, *, account: str | None = None, number: str | None = None
    ) -> None:
        rng, world, made = self.rng, self.world, self.made
        if made and rng.random() < 0.05:
            cdr = rng.choice(made[-50:])
        else:
            back_s = days * DAY_S + rng.uniform(seconds, DAY_S / 2)
            side = {"account": account} if account is not None else {"client": client}
            cdr = {
                "id": f"n{len(made)}", "called": number or rng.choice(NUMBERS),
                "answered_at": moment(world.loop.now - back_s), "duration_ms": seconds * 1000,
                rng.choice(("orig",) * 9 + ("term",)): side,
            }  # fmt: skip
        made.append(cdr)
        lane = int(client[1:]) % world.lanes if self.keyed else rng.randrange(world.lanes)
        world.send(lane, cdr)
