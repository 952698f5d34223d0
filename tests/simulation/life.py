"""Runs in which packages live: fees, short periods, little money, commands; and all that goes wrong.

Hours pass between rounds of some seconds. Client packages begin within seconds of each other and their
periods are hours or a day, so a round lies around due moments: calls come before, across and after them, late
ones too, and top-ups, assignments, stops and loads between. Numbers (DIDs) are assigned and released, go on
hold and back into use with their packages, and are freed. Ticks come from the lanes themselves.

What must be true:
`life_checking.check_life`, and in runs of one lane what the oracle of packages says, step by step.
"""

from __future__ import annotations

import asyncio
import json
import random
from functools import partial
from typing import Any

from rater.core.clients.state import read_state
from simulation.clockwork import EPOCH_S
from simulation.life_checking import check_life, waits
from simulation.loads import moment
from simulation.scenario import DRAIN_S, Profile, Scenario
from simulation.world import World

Row = dict[str, Any]
HOUR_S, DAY_S = 3600, 86_400
ROUND_S = 4.0
DUE_S = 120.0
"""So long what is due may take when all is healed: a tick whose Kafka transaction was forgotten is written
again after 30 s, and commands wait for one another."""
NUMBER = "12025550100"
DIDS = [f"1202555020{n}" for n in range(4)]
TAGS: tuple[list[str], ...] = (["a"], ["a", "b"], ["c"], [])
"""Tags of these."""

LIFE = Profile(
    name="life", lanes=(1, 1, 2, 3), buckets=(1, 1, 2), workers=(1, 1, 2), faults=(0, 4), second_load=0.3,
    weights={
        "crash": 6, "freeze": 2, "cut_kafka": 1, "cut_store": 1, "kafka_away": 1, "store_away": 1,
        "kafka_killed": 1, "restart": 1, "roll_back": 2, "flush": 2, "lose_bucket": 1, "join": 1, "leave": 2,
        "noise": 2,
    },
)  # fmt: skip
COMMANDS = {
    "adjust": 10, "assign": 5, "edit_end_date": 3, "stop_now": 3, "stop_at_period_end": 3, "cancel": 2,
    "remove": 4, "invoice_pending_charge": 1, "again": 3, "other content": 1, "tick": 1, "did_assign": 8,
    "did_release": 3,
}  # fmt: skip


class Market:
    """The catalog as it was loaded last: packages with fees and short periods, clients with little money."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.packages: dict[str, Row] = {}
        self.clients: dict[str, Row] = {}
        self.held: dict[str, list[str]] = {}
        """Client → ids of client packages that it has, may have, or had."""

    def first(self) -> bytes:
        """Return the first file."""
        rng = self.rng
        for number in range(rng.randrange(3, 6)):
            self.packages[f"p{number}"] = self.package(f"p{number}")
        for number in range(rng.randrange(1, 4)):
            self.clients[f"c{number}"] = self.client(f"c{number}")
        rows = [self.assigned(client) for client in self.clients for _ in range(rng.choice((0, 1, 2, 3)))]
        fits = {
            did: [row["client"] for row in rows if self.allows(row["package"], tags)]
            for did, tags in zip(DIDS, TAGS, strict=True)
        }
        return json.dumps({
            "currencies": {"base": "USD", "rates": {"EUR": "1.08"}},
            "tax_profiles": [{"name": "vat", "taxes": [{"name": "VAT", "percent": "20"}]}],
            "rate_tables": [
                {"name": "retail", "currency": "USD", "rates": [{"code": "1", "price": "0.60"}]},
                {"name": "carrier", "currency": "USD", "rates": [{"code": "1", "price": "0.30"}]},
            ],
            "packages": list(self.packages.values()), "clients": list(self.clients.values()),
            "client_packages": rows,
            "dids": [
                {"number": did, "tags": tags,
                 "account": f"sip-{rng.choice(fits[did])}" if fits[did] and rng.random() < 0.3 else None}
                for did, tags in zip(DIDS, TAGS, strict=True)
            ],
        }).encode()  # fmt: skip

    def allows(self, package: str, tags: list[str]) -> bool:
        """Return whether a package has a row for a number with these tags: else a load is refused."""
        rows = self.packages[package].get("did_limits", ())
        return any(not row["allowed_tags"] or {*row["allowed_tags"]} & {*tags} for row in rows)

    def package(self, identity: str) -> Row:
        """Return a package."""
        rng = self.rng
        period = rng.choice(("1 hour", "1 hour", "1 hour", "2 hours", "1 day", None))
        row: Row = {
            "id": identity, "name": identity, "type": "vendor" if rng.random() < 0.1 else "customer",
            "currency": "EUR" if rng.random() < 0.1 else "USD", "priority": rng.choice((0, 0, 1)),
            "fees": [
                {"type": "subscription", "name": f"s{at}", "rate": rng.choice(("0.50", "1.00", "2.00", "0"))}
                for at in range(rng.choice((0, 1, 1, 1, 2)))
            ],
            "client_balance": rng.choice(("deny", "deny", "deny", "allow")),
            "charge_on_event": rng.random() < 0.25,
            "limits": [self.limit(at) for at in range(rng.choice((1, 1, 2)))],
        }  # fmt: skip
        if rng.random() < 0.5:
            row["did_limits"] = [
                {"quantity": rng.choice((1, 1, 2)), "allowed_tags": rng.choice((["a"], ["b", "c"], [])),
                 "on_hold_days": rng.choice((0, 1, 1, 2))}
                for _ in range(rng.choice((1, 1, 2)))
            ]  # fmt: skip
        if rng.random() < 0.3:
            row["fees"].append({"type": "activation", "name": "a", "rate": "0.75"})
        if rng.random() < 0.05:
            row["fees"].append({"type": "subscription", "name": "gift", "rate": "-3.00"})
        if period is None:
            return row
        row |= {"period": period, "renewal_charge": rng.choice(("on_period", "on_period", "before_period"))}
        if period != "1 hour" and rng.random() < 0.4:
            row["advance_renew"] = "1 hour"
        if rng.random() < 0.5:
            row["renew_for"] = rng.choice(("1 hour", "2 hours"))
        if rng.random() < 0.2:
            row["discounts"] = [{"activation_count": 2, "discount": "0.25"}]
        return row

    def limit(self, number: int) -> Row:
        """Return a limit."""
        rng = self.rng
        row: Row = {"id": f"m{number}", "service": "calls", "code": rng.choice(("*", "1*"))}
        if rng.random() < 0.75:
            row |= {"type": "volume", "limit": rng.choice((1, 2, 5))}
            return row | ({"rollover": rng.choice((1, 2))} if rng.random() < 0.4 else {})
        return row | {"type": "money", "limit": rng.choice(("0.50", "1.50"))}

    def client(self, identity: str) -> Row:
        """Return a client."""
        rng = self.rng
        row: Row = {
            "id": identity, "name": identity, "currency": "USD", "time_zone": "UTC",
            "balance": rng.choice(("0", "0", "1.00", "3.00", "8.00")),
            "credit_limit": rng.choice(("0", "0", "1")),
            "rate_tables": {"orig": {"calls": "retail"}, "term": {"calls": "carrier"}},
            "accounts": [{"id": f"sip-{identity}"}],
        }  # fmt: skip
        if rng.random() < 0.4:
            row["low_balance"] = "1.00"
        if rng.random() < 0.3:
            row["tax_profile"] = "vat"
        self.held[identity] = []
        return row

    def assigned(self, client: str) -> Row:
        """Return a row of a client package: from the load on, or from some hours before."""
        rng, identity = self.rng, f"{client}h{len(self.held[client])}"
        self.held[client].append(identity)
        row: Row = {"id": identity, "client": client, "package": rng.choice(list(self.packages))}
        if rng.random() < 0.3:
            row |= {"start_date": moment(-rng.choice((1, 2, 5)) * HOUR_S), "activate_in_past": True}
        return row

    def change(self) -> bytes:
        """Return a file that changes packages and clients, or gives a number out."""
        rng, file = self.rng, dict[str, list[Row]]()
        if rng.random() < 0.15:  # refused where another client has it, or nothing allows it
            place, client = rng.randrange(len(DIDS)), rng.choice(list(self.clients))
            row = {"number": DIDS[place], "tags": TAGS[place], "account": f"sip-{client}"}
            return json.dumps({"dids": [row]}).encode()
        for name in rng.sample(list(self.packages), min(len(self.packages), rng.choice((1, 1, 2)))):
            row = json.loads(json.dumps(self.packages[name]))
            if row.get("status") == "archived":
                continue
            kind = rng.random()
            if kind < 0.5:
                row["status"] = "active" if row.get("status") == "disabled" else "disabled"
            elif kind < 0.6:
                row["status"] = "archived"
            elif "did_limits" in row and kind < 0.75:
                row["did_limits"][0] |= {"quantity": rng.choice((1, 3)), "on_hold_days": rng.choice((0, 1))}
            elif row["fees"]:
                row["fees"][0]["rate"] = rng.choice(("0.40", "1.20"))
            else:
                limit = row["limits"][0]
                limit["limit"] = rng.choice((3, 4)) if limit["type"] == "volume" else "0.75"
            self.packages[name] = row
            file.setdefault("packages", []).append(row)
        if not file or rng.random() < 0.5:
            name = rng.choice(list(self.clients))
            self.clients[name] = {
                **self.clients[name], "credit_limit": rng.choice(("0", "2", "5")),
                "name": f"{name}.{rng.randrange(10**6)}",
            }  # fmt: skip
            file["clients"] = [self.clients[name]]
        return json.dumps(file).encode()


class Life(Scenario):
    """One seed's run."""

    def __init__(self, seed: int, profile: Profile = LIFE) -> None:
        self.profile = profile
        self.rng = rng = random.Random(f"{seed} {profile.name}")  # noqa: S311 - a simulation
        self.market = Market(rng)
        self.world = World(
            rng.getrandbits(32), lanes=rng.choice(profile.lanes), buckets=rng.choice(profile.buckets),
            batch_max=rng.choice((1, 3, 4000, 4000)), window_days=1,
        )  # fmt: skip
        self.world.broker.batch_records_max = rng.choice((0, 0, 1, 3))
        self.world.broker.fetch_max = rng.choice((0, 0, 0, 5))
        self.made: list[Row] = []
        self.commands = 0
        self.began_s = 0.0
        self.loading: asyncio.Task[None] | None = None

    @property
    def wall_s(self) -> float:
        """The time on the wall, in seconds since the loop's began."""
        return self.world.loop.wall_s() - EPOCH_S

    async def _live(self, world: World) -> None:
        rng, profile = self.rng, self.profile
        world.calm = profile.faults == (0, 0)
        for _ in range(rng.choice(profile.workers)):
            world.add_worker()
        await world.begin_load(self.market.first(), applied=True)
        self.began_s = float(int(self.wall_s))
        rounds = rng.randrange(2, 6)
        for number in range(rounds):
            await self._round(rng.randint(*profile.faults) if number in {0, rounds // 2} else 0)
            await self._pass(world)
        world.heal()
        await self._settle()
        for client in self.market.clients:  # by now all that was due is done
            for lane in range(world.lanes):
                self._send(lane, self._cdr(client))
        await self._settle()
        await world.stop_workers()
        await asyncio.sleep(0.1)
        if not world.faults and rng.random() < 0.1:
            world.faults += await world.audited()
        world.faults += world.halts + check_life(world)

    async def _round(self, faults: int) -> None:
        """Let calls, commands, loads and faults come for some seconds."""
        rng, world = self.rng, self.world
        actions = [(rng.random() * ROUND_S, partial(self._call)) for _ in range(rng.randrange(4, 16))]
        actions += [(rng.random() * ROUND_S, partial(self._command)) for _ in range(rng.randrange(1, 7))]
        if rng.random() < self.profile.second_load:
            actions.append((rng.random() * ROUND_S, partial(self._load)))
        kinds, weights = list(self.profile.weights), list(self.profile.weights.values())
        for _ in range(faults):
            kind = rng.choices(kinds, weights)[0]
            actions.append((rng.random() * ROUND_S, getattr(self, f"_{kind}")()))
        began = world.loop.now
        for at, action in sorted(actions, key=lambda pair: pair[0]):
            await asyncio.sleep(max(0.0, began + at - world.loop.now))
            action()
        await asyncio.sleep(max(0.0, began + ROUND_S - world.loop.now) + rng.choice((0, 0, 1, 12)))

    async def _pass(self, world: World) -> None:
        """Let hours pass: mostly up to shortly before the moment at which the first periods stop."""
        rng = self.rng
        if self.loading is not None:
            await asyncio.wait([self.loading])
        hours = rng.choice((1, 1, 1, 2, 2, 3, 25, 49, 70))
        to_s = (self.wall_s // HOUR_S + hours) * HOUR_S + rng.uniform(-1.5, 1.0)
        world.skip(to_s - self.wall_s)

    async def _settle(self) -> None:
        world = self.world
        if world.loads:
            await asyncio.wait(world.loads)
        await world.drained(DRAIN_S)
        until = world.loop.now + DUE_S
        while late := [*self._overdue(), *waits(world)]:
            if world.loop.now > until:
                world.faults += [f"{one}; and it is not done within {DUE_S:g} s" for one in late]
                return
            await asyncio.sleep(0.5)
        await world.drained(DRAIN_S)

    def _overdue(self) -> list[str]:
        """Tell of whom something has been due for a second, by what the state says."""
        now_ms = int(self.world.loop.wall_s() * 1000) - 1000
        states = [read_state(raw) for bucket in self.world.server.buckets for raw in bucket.states.values()]
        return [
            f"D: something of {state.id} is due at {state.due_ms}"
            for state in states
            if state.due_ms is not None and state.due_ms <= now_ms
        ]

    # ------------------------------------------------------------------ what comes in
    def _load(self) -> None:
        if self.loading is None or self.loading.done():
            self.loading = self.world.begin_load(self.market.change())

    def _call(self) -> None:
        rng, made = self.rng, self.made
        lane = rng.randrange(self.world.lanes)
        if made and rng.random() < 0.1:
            cdr = rng.choice(made[-8:])
            if rng.random() < 0.2:
                cdr = {**cdr, "duration_ms": cdr["duration_ms"] + 1000}
        else:
            cdr = self._cdr(rng.choice(list(self.market.clients)))
        self._send(lane, cdr)

    def _send(self, lane: int, cdr: Row) -> None:
        self.world.send(lane, cdr)

    def _cdr(self, number: Any) -> Row:
        """Return a call of a client: of now, or a late one."""
        rng, client = self.rng, str(number)
        back_s = rng.uniform(0, 2) if rng.random() < 0.75 else rng.choice((1, 2, 8)) * rng.uniform(0, HOUR_S)
        cdr: Row = {
            "id": f"n{len(self.made)}", "called": NUMBER,
            "answered_at": moment(self.wall_s - back_s),
            "duration_ms": rng.choice((6, 30, 60, 90, 240)) * 1000,
        }  # fmt: skip
        draw = rng.random()
        if draw < 0.8:
            cdr["orig"] = {"client": client}
        if draw > 0.7:
            cdr["term"] = {"client": client if rng.random() < 0.5 else rng.choice(list(self.market.clients))}
        self.made.append(cdr)
        return cdr

    def _command(self) -> None:
        rng, world, market = self.rng, self.world, self.market
        do = rng.choices(list(COMMANDS), list(COMMANDS.values()))[0]
        earlier = [one.said for one in world.ordered if one.said["do"] != "tick"]
        if do in {"again", "other content"} and not earlier:
            do = "adjust"
        self.commands += 1
        at_s = max(self.began_s, self.wall_s - rng.choice((0, 0, 0.5, 3)))
        said: Row = {
            "id": f"k{self.commands}", "key": f"key{self.commands}", "actor": "sim", "reason": "",
            "at": moment(int(at_s) if world.lanes == 1 else at_s), "args": {},  # the oracle knows no parts
        }  # fmt: skip
        if do == "tick":
            world.order({**said, "do": do})
            return
        if do in {"again", "other content"}:
            first = rng.choice(earlier)
            said = {**first, "id": said["id"], "at": said["at"]}
            if do == "other content" and said["do"] == "adjust":
                said["args"] = {"amount": "7.77"}
            world.order(said)
            return
        client = rng.choice(list(market.clients))
        said |= {"do": do, "client": client}
        if rng.random() < 0.05:
            said["dry_run"] = True
        world.order({**said, **self._asked(do, client)})

    def _asked(self, do: str, client: str) -> Row:
        """Return what a command asks for."""
        rng, market, said = self.rng, self.market, Row()
        if do in {"did_assign", "did_release"}:
            said["args"] = {"number": rng.choice(DIDS)}
            if do == "did_assign":
                said["args"]["account"] = f"sip-{client}"
        elif do == "adjust":
            said["args"] = {"amount": rng.choice(("0.50", "1.00", "2.00", "5.00", "-1.00"))}
        elif do == "assign":
            said["args"] = self._assignment(client)
        else:
            said["client_package"] = (
                rng.choice(market.held[client]) if market.held[client] and rng.random() < 0.95 else "nothing"
            )
            if rng.random() < 0.1:
                said["expect_version"] = rng.randrange(1, 6)
            if do == "edit_end_date":
                end = self.wall_s + rng.choice((-5, 1, 600, HOUR_S, 3 * HOUR_S, 0))
                said["args"] = {"end_date": rng.choice((moment(int(end)), moment(int(end)), None))}
        return said

    def _assignment(self, client: str) -> Row:
        rng, market = self.rng, self.market
        held = market.held[client]
        args: Row = {"package": rng.choice(list(market.packages)), "quantity": rng.choice((1, 1, 2))}
        if rng.random() < 0.2:
            back_s = rng.choice((1, 3)) * HOUR_S
            args |= {"start_date": moment(int(self.wall_s) - back_s), "activate_in_past": True}
        elif rng.random() < 0.2:
            args["start_date"] = moment(int(self.wall_s) + 2)
        if rng.random() < 0.3:
            args["id"] = f"{client}x{len(held)}"
        # Its number is one more than that of the last that was assigned: which, is known to the bucket alone.
        held.append(args.get("id") or f"{client}-{rng.randrange(1, 4)}")
        return args
