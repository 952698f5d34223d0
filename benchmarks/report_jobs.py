"""Sections of README.md about jobs: re-rating, rating without servers, rebuilding."""

from __future__ import annotations

from typing import Any

from prose import RERATED
from tables import judged, latencies, table

_RUNS = {
    "ordered": "calls as they came: brought into call order (`--apply`)",
    "unchanged": "nothing changes",
    "changed": "one price in ten has changed, a preview",
    "beside": "the same beside live calls",
}


def rerating(found: dict[str, Any]) -> str:
    """Return the section about re-rating."""
    runs, worker_us = found["runs"], found["worker_us"]
    rows = []
    for name, what in _RUNS.items():
        times = worker_us / runs[name]["us"]
        rows.append((
            f"{what}: {runs[name]['told']['changed']:,} of {runs[name]['told']['calls']:,} sides",
            f"{runs[name]['us']:.1f} µs, {times:.2f} x", "≥ 1 x", judged(times, 1, least=True),
        ))  # fmt: skip
    p99 = found["meanwhile_ms"]["p99"] / found["before_ms"]["p99"]
    least_mb = runs["none"]["peak_mb"]
    if least_mb is not None:  # None: it was not measured
        above = max(run["peak_mb"] for run in runs.values()) - least_mb
        rows.append(
            ("memory above that of a run over no calls", f"{above:.0f} MB", "≤ 300 MB", judged(above, 300))
        )
    rows += [
        ("p99 of the live calls meanwhile, in times of before", f"{p99:.2f}", "≤ 1.5", judged(p99, 1.5)),
    ]
    besides = [
        ("the worker, CPU of a CDR, Redis apart", f"{worker_us:.1f} µs"),
        ("a run over no calls: start, catalog, reading the journal", f"{runs['none']['us']:.1f} µs of a CDR"),
        ("its memory", "not measured" if least_mb is None else f"{least_mb:.0f} MB"),
        (
            "seconds of the runs, in their order",
            ", ".join(f"{run['seconds']:.0f}" for run in runs.values()),
        ),
        (f"live calls before ({found['rate']:,.0f} CDR/s), p50 / p99 / most", latencies(found["before_ms"])),
        ("live calls meanwhile", latencies(found["meanwhile_ms"])),
    ]
    return f"""\
## Re-rating

A window of {found["cdrs"]:,} CDRs of {found["clients"]:,} clients, by `rater rerate --all` with the native
engine: CPU of a CDR, all of the process, and CDRs of its core-second in times of the live worker's.

{table(("figure", "result", "target", "met"), rows)}
{table(("besides", "result"), besides)}
{RERATED}"""


def offline(found: dict[str, Any]) -> str:
    """Return the section about rating without servers."""
    worker_us, us = found["worker_us"], found["us"]
    times = worker_us / us["natively"]
    rows = [
        ("`rater rate`, CDRs of a core-second, in times of the worker's",
         f"{times:.2f} ({us['natively']:.1f} to {worker_us:.1f} µs)", "≥ 0.7",
         judged(times, 0.7, least=True)),
        ("both engines publish the same", "yes" if found["same"] else "no", "yes",
         "yes" if found["same"] else "**no**"),
    ]  # fmt: skip
    return f"""\
## Rating without servers

{found["calls"]:,} calls of {found["clients"]:,} clients, in memory (`offline.py`).

{table(("figure", "result", "target", "met"), rows)}
{table(("rated", "CPU of a CDR"), ((name, f"{one:.1f} µs") for name, one in us.items()))}"""


def rebuilding(found: dict[str, Any]) -> str:
    """Return the section about rebuilding Redis."""
    rows = []
    for name, run in found["runs"].items():
        pace = run["records"] / run["cpu_s"]
        rows.append((
            name, f"{run['seconds']:.0f} s", f"{run['cpu_s']:.1f} s, Redis {run['redis_s']:.1f} s",
            f"{run['records']:,}", f"{pace:,.0f}", "yes" if run["same"] else "**no**",
        ))  # fmt: skip
    head = ("by", "took", "CPU", "offsets of the journal", "of a core-second", "digest as before")
    return f"""\
## Rebuilding

Redis is emptied after {found["cdrs"]:,} calls of {found["clients"]:,} clients, and `rater rebuild` brings it
back; start and catalog are in the CPU.

{table(head, rows)}"""
