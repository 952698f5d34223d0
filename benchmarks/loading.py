"""Loading many clients: by `rater load` while calls are rated, and the CPU seconds of its pure steps.

    python benchmarks/run.py load
    python benchmarks/loading.py [CLIENTS]     # reading, merging, planning, loading again, JSON and CSV

Every second client has payment terms, and every second client package an end date; one account each.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
import sys
from datetime import UTC, datetime
from time import monotonic, process_time
from typing import TYPE_CHECKING, Any

import msgspec
from lateness import STEP_S, Watch, within_ms
from processes import Process, rss_mb
from sizes import Sizes
from system import HERE, Servers, System
from world import World

from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog_files.merging import Existing, Merged, merge, read_files
from rater.core.clients.alike import Alike
from rater.core.clients.planning import Known
from rater.core.clients.state import read_state

if TYPE_CHECKING:
    from pathlib import Path


CALLS_S = 1_000.0
"""CDRs a second while it loads."""
NOW_MS = 1_793_500_000_000  # 1 November 2026

REST: dict[str, Any] = {
    "currencies": {"base": "USD"},
    "resellers": [{"id": "1", "name": "Main"}],
    "rate_tables": [{"name": "small", "currency": "USD", "rates": [{"code": "380", "price": "0.10"}]}],
    "tax_profiles": [{"name": "vat20", "taxes": [{"name": "VAT", "percent": "20"}]}],
    "packages": [{
        "id": "1", "name": "Kiev 100", "type": "customer", "currency": "USD", "period": "1 month",
        "limits": [{"id": "m1", "type": "volume", "service": "calls", "code": "38044*", "limit": 100}],
    }],
}  # fmt: skip


def client(n: int) -> dict[str, Any]:
    """Return one client."""
    terms = {"payment_terms": {"every": "1 month", "anchor": "2026-01-01"}} if n % 2 else {}
    return {
        "id": f"l{n}", "name": f"Client {n}", "reseller": "1", "currency": "USD", "tax_profile": "vat20",
        "time_zone": ("Europe/Kyiv", "Europe/Berlin", "UTC")[n % 3], "balance": f"{n % 100}.50",
        "credit_limit": "0", "low_balance": "5.00", "rate_tables": {"orig": {"calls": "small"}},
        "accounts": [{"id": f"line-{n}"}], **terms,
    }  # fmt: skip


def held(n: int) -> dict[str, Any]:
    """Return its client package."""
    return {
        "id": f"l{n}", "client": f"l{n}", "account": f"line-{n}", "package": "1", "activate_in_past": True,
        "start_date": "2026-10-01T00:00:00Z", "end_date": "2027-11-01" if n % 2 else None, "quantity": 1,
    }  # fmt: skip


def as_csv(rows: list[dict[str, Any]]) -> bytes:
    """Return rows as CSV, what is not text as JSON."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(dict.fromkeys(name for row in rows for name in row)))
    writer.writeheader()
    for row in rows:
        cells = {name: value for name, value in row.items() if value is not None}
        writer.writerow({k: v if isinstance(v, str) else json.dumps(v) for k, v in cells.items()})
    return out.getvalue().encode()


def rows(number: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return so many clients, and the client package of each."""
    return [client(n) for n in range(number)], [held(n) for n in range(number)]


def as_json(clients: list[dict[str, Any]], packages: list[dict[str, Any]]) -> bytes:
    """Return them with all they name."""
    return json.dumps({**REST, "clients": clients, "client_packages": packages}).encode()


async def loading(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Load 1,000,000 clients with a client package each while one worker, then two, rate others' calls.

    Where another build is named (sizes.against), one worker of it does the same before and after.
    """
    is_quick = sizes.cdrs < 100_000  # noqa: PLR2004 - the quick sizes
    number = 10_000 if is_quick else 1_000_000
    path = on.folder / "many.json"
    path.write_bytes(as_json(*rows(number)))
    turns = [("", 1), ("", 2)] if not sizes.against else [(sizes.against, 1), ("", 1), ("", 2)]
    runs = []
    for tree, workers in turns:
        found = await _load(on, path, workers, tree, calling=number // 2, is_quick=is_quick)
        runs.append(found)
        print(msgspec.json.encode(found).decode(), flush=True)
    return {"clients": number, "file_mb": path.stat().st_size / 1e6, "rate": CALLS_S, "runs": runs}


async def _load(
    on: Servers, path: Path, workers: int, tree: str, *, calling: int, is_quick: bool
) -> dict[str, Any]:
    """Load beside calls, then let so many of the loaded clients call."""
    world, more = World(clients=20_000), {"PYTHONPATH": str(HERE.parent / tree / "src")} if tree else None
    async with System(on, f"load-{workers}{'-before' if tree else ''}", more=more) as system:
        await system.load_by_program(world.catalog())
        await system.start(workers)
        watch = Watch(system)
        reading = asyncio.create_task(watch.run())
        try:
            await watch.warm_up(world, is_quick=is_quick)
            before = await watch.feed(world, CALLS_S, "before")
            meanwhile: list[float] = []
            log = on.folder / "many.log"
            with Process([sys.executable, "-m", "rater", "load", str(path)], log, system.environ) as process:
                ending = asyncio.create_task(asyncio.to_thread(_ended_s, process))
                while not ending.done():
                    meanwhile += await watch.feed(world, CALLS_S, f"t{len(meanwhile)}", STEP_S, 0.0)
                seconds = await ending
            system.must_run()
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        found = {
            "workers": workers, "is_before": bool(tree), "seconds": seconds,
            "before_ms": _spread_ms(before), "meanwhile_ms": _spread_ms(sorted(meanwhile)),
            "redis_mb": int((await system.info("memory"))["used_memory"]) / 1e6,
            "worker_mb": [rss_mb(worker.pid) for worker in system.workers.values()],
        }  # fmt: skip
        done = (await system.sample()).cdrs
        await system.until(done + await system.preload(map(_call, range(calling))))
        found["called_mb"] = [rss_mb(worker.pid) for worker in system.workers.values()]
        await system.forget()
        return found


def _call(n: int) -> bytes:
    moment = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return msgspec.json.encode({
        "id": f"m{n}", "called": f"38044{n % 10**7:07}", "answered_at": moment, "duration_ms": 60_000,
        "orig": {"client": f"l{n}", "account": f"line-{n}"},
    })  # fmt: skip


def _ended_s(process: Process) -> float:
    """Return after how many seconds it ended."""
    began = monotonic()
    process.finished()
    return monotonic() - began


def _spread_ms(late: list[float]) -> dict[str, float]:
    return {"p50": within_ms(late, 0.5), "p99": within_ms(late, 0.99), "max": within_ms(late, 1)}


def measure(form: str, files: list[tuple[str, bytes]]) -> None:
    """Print the CPU seconds of each step."""
    size = sum(len(raw) for _, raw in files) / 1e6
    began = process_time()
    file = read_files(files, lambda name: name.encode())
    assert not file.faults, file.faults[:3]
    read = process_time()
    merged = merge(None, file, NOW_MS, Existing({}, {}))
    assert isinstance(merged, Merged), merged[:3]
    first = process_time()
    catalog = compile_catalog(merged.content, 1)
    planning, alike = process_time(), Alike(catalog, NOW_MS, "")
    changes = [alike.load_change(entry, "load", Known()) for entry in merged.entries]
    planned = process_time()
    states = {one.write.client: read_state(one.write.state) for one in changes}
    owners = {account: state.id for state in states.values() for account in state.accounts}
    before = process_time()
    again = merge(merged.content, file, NOW_MS, Existing(states, owners))
    assert isinstance(again, Merged), again[:3]
    assert not again.changed
    steps = {
        "read": read - began, "merge": first - read, "plan": planned - planning,
        "merge again": process_time() - before,
    }  # fmt: skip
    told = ", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps.items())
    print(f"{form}, {size:.0f} MB, {len(merged.entries)} clients: {told} of CPU")


def main() -> None:
    """Measure both forms."""
    number = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    clients, packages = rows(number)
    whole = as_json(clients, packages)
    rest = ("rest.json", json.dumps(REST).encode())
    tables = [rest, ("clients.csv", as_csv(clients)), ("held.csv", as_csv(packages))]
    del clients, packages
    measure("JSON", [("whole.json", whole)])
    measure("CSV", tables)


if __name__ == "__main__":
    main()
