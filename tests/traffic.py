"""A generated catalog and traffic for it, and an independent fold over what comes out (no code of rater)."""

from __future__ import annotations

import json
import random
import time
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

CONTESTED = 40
OTHERS = 400


def catalog(clients: int = OTHERS, contested: int = CONTESTED) -> bytes:
    """Return a catalog: clients with plenty, and some whose limits are fought for."""
    rates = [{"code": "380", "price": "0.10", "setup_fee": "0.05", "min_time": 60, "interval": 60},
             {"code": "38044", "price": "0.06"}, {"code": "1", "price": "0.02", "interval": 6}]  # fmt: skip
    big = [{"type": "volume", "service": "calls", "code": "380*", "limit": 100_000},
           {"type": "money", "service": "calls", "code": "*", "limit": "5000.00"}]  # fmt: skip
    small = [{"type": "volume", "service": "calls", "code": "380*", "limit": 30},
             {"type": "money", "service": "calls", "code": "*", "limit": "20.00"}]  # fmt: skip
    common = {"type": "customer", "currency": "USD"}
    tables = {"orig": {"calls": "retail"}, "term": {"calls": "retail"}}
    names = [f"c{n}" for n in range(clients)] + [f"hot{n}" for n in range(contested)]
    return json.dumps({
        "currencies": {"base": "USD"},
        "code_decks": [{"name": "a-z", "codes": {"380": "Ukraine", "38044": "Ukraine Kiev", "1": "USA"}}],
        "rate_tables": [{"name": "retail", "currency": "USD", "code_deck": "a-z", "rates": rates}],
        "packages": [{"id": "big", "name": "Big", "limits": big, **common},
                     {"id": "small", "name": "Small", "limits": small, **common}],
        "clients": [{"id": name, "name": name, "currency": "USD", "time_zone": "UTC", "balance": "10.00",
                     "rate_tables": tables} for name in names],
        "client_packages": [
            {"id": f"p-{name}", "client": name, "package": "small" if name.startswith("hot") else "big",
             "start_date": "2026-01-01T00:00:00Z", "activate_in_past": True} for name in names],
    }).encode()  # fmt: skip


def calls(
    count: int,
    seed: int,
    now_ms: int,
    *,
    contested: float = 0.35,
    clients: int = OTHERS,
    contested_clients: int = CONTESTED,
) -> list[bytes]:
    """Return CDRs, 2 % of them repeated, a fifth with both sides."""
    rng = random.Random(seed)  # noqa: S311 - traffic
    found: list[bytes] = []
    for n in range(count):
        if found and rng.random() < 0.02:
            found.append(rng.choice(found[-2000:]))
            continue
        hot = rng.random() < contested
        client = f"hot{rng.randrange(contested_clients)}" if hot else f"c{rng.randrange(clients)}"
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime((now_ms - rng.randrange(3_600_000)) / 1000)) + "Z"
        cdr: dict[str, Any] = {
            "id": f"{seed}-{n}", "called": rng.choice(["380501234567", "380441234567", "12125550100"]),
            "answered_at": at, "duration_ms": rng.randrange(1, 300_000), "orig": {"client": client},
        }  # fmt: skip
        if rng.random() < 0.2:
            cdr["term"] = {"client": f"c{rng.randrange(clients)}"}
        found.append(json.dumps(cdr).encode())
    return found


def distinct_sides(cdrs: Iterable[bytes]) -> set[str]:
    """Return the transaction ids that must come out."""
    sides = set()
    for raw in cdrs:
        cdr = json.loads(raw)
        sides |= {f"default/{cdr['id']}/{side}" for side in ("orig", "term") if side in cdr}
    return sides


def fold(transactions: Iterable[dict[str, Any]]) -> tuple[dict[str, Decimal], dict[tuple[str, ...], Decimal]]:
    """Sum amounts by client and takes by counter, from the published values alone."""
    balances: dict[str, Decimal] = defaultdict(Decimal)
    counters: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for one in transactions:
        balances[one["client"]] += Decimal(one["amount"])
        for draw in one.get("draws", ()):
            key = (one["client"], f"{draw['client_package']}.{draw['period']}.{draw['limit']}", draw["kind"])
            counters[key] += Decimal(draw["taken"])
    return dict(balances), dict(counters)
