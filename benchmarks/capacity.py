"""The figures that `rater plan` reckons with, taken from results/*.json into src/rater/measured.json.

    python benchmarks/capacity.py

`run.py` does the same whenever it has measured.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import msgspec

from rater.core.capacity import Figures

HERE = Path(__file__).parent
KEPT = HERE.parent / "src" / "rater" / "measured.json"


def figures(results: Path) -> Figures:
    """Return them."""
    main, growth, memory, batches = (_read(results, name) for name in ("main", "growth", "memory", "batches"))
    workers = [one["worker"] for one in main["rounds"]]
    of_clients = growth["clients"]["points"]
    few, many = of_clients[-2], of_clients[-1]
    each = (many["rss_mb"] - few["rss_mb"]) / (many["x"] - few["x"])
    resident = max(one["rss_mb"] for one in workers)
    return Figures(
        measured={
            "cpu": main["about"]["date"], "batches and disk": batches["date"],
            "memory of a worker": growth["clients"]["date"][:10], "memory of Redis": memory["date"],
        },
        machine=main["about"]["cpu"],
        sides=round(sum(one["sides"] for one in workers) / sum(one["cdrs"] for one in workers), 3),
        worker_us=_median(workers, "worker_us"),
        redis_us=_median(workers, "redis_us"),
        kafka_us=_median(workers, "kafka_us"),
        batch_ms=round(batches["batch_ms"], 2),
        kafka_batch_ms=round(batches["kafka_batch_ms"], 2),
        worker_bytes=round((resident - each * main["world"]["clients"]) * 1e6),
        worker_client_bytes=round(each * 1e6),
        client_bytes=round(memory["client"], 1),
        client_package_bytes=round(memory["package_whole"], 1),
        redis_share=round(memory["explained"], 3),
        cdr_bytes=round(batches["bytes"]["cdrs"], 1),
        published_bytes=round(batches["bytes"]["transactions"] + batches["bytes"]["events"], 1),
        batch_bytes=round(batches["batch_bytes"], 1),
    )  # fmt: skip


def _read(results: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode((results / f"{name}.json").read_bytes())
    return found


def _median(measured: list[dict[str, Any]], name: str) -> float:
    values: list[float] = [one[name] for one in measured]
    return round(statistics.median(values), 2)


def text(results: Path) -> str:
    """Return them as the file has them."""
    return msgspec.json.format(msgspec.json.encode(figures(results))).decode() + "\n"


if __name__ == "__main__":
    KEPT.write_text(text(HERE / "results"), "utf-8")
