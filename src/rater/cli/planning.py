"""The command that says what an installation needs: plan."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import click

from rater.cli.options import WrongInput, invocation, settings_options
from rater.cli.printing import print_json, print_pairs, say

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.capacity import Demand, Figures, Plan

# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301
# ruff: noqa: PLC0415 - `rater --help` needs none of it

CDRS_MAX = 10_000_000
CLIENTS_MAX = 1_000_000_000
MOST = 1024
"""Of partitions and of buckets, as the settings bound them."""


@click.command("plan")
@settings_options(prints=True)
@click.option(
    "--cdrs-per-second", type=click.IntRange(1, CDRS_MAX), required=True, metavar="N",
    help="CDRs of a second, in the busiest hour.",
)  # fmt: skip
@click.option(
    "--clients", type=click.IntRange(1, CLIENTS_MAX), required=True, metavar="N", help="Clients in all.",
)  # fmt: skip
@click.option(
    "--packages", type=click.IntRange(0, 1000), default=1, show_default=True, metavar="N",
    help="Client packages of each client.",
)  # fmt: skip
@click.option(
    "--cdrs-per-day", type=click.IntRange(1), metavar="N",
    help="CDRs of a day; without it as if all hours were the busiest.",
)  # fmt: skip
def plan(cdrs_per_second: int, clients: int, packages: int, cdrs_per_day: int | None) -> None:
    """Say what an installation needs: workers, partitions, Redis, Kafka's disk, processors.

    By a formula over figures that were measured; it prints of when they are, and the margins. The settings
    count too: worker.duplicate_window_days, worker.batch_age_ms, worker.engine, topics.replication_factor.

    \b
    Examples:
      rater plan --cdrs-per-second 2000 --clients 100000
      rater plan --cdrs-per-second 2000 --cdrs-per-day 60000000 --clients 100000 --packages 3 --json
    """
    from rater.core.capacity import DAY_S, Demand
    from rater.core.capacity import plan as reckoned

    settings = invocation().settings()
    if cdrs_per_day is not None and cdrs_per_day > cdrs_per_second * DAY_S:
        raise WrongInput(
            f"--cdrs-per-day {cdrs_per_day}: {cdrs_per_second} a second, all day long, are "
            f"{cdrs_per_second * DAY_S}; give fewer, or raise --cdrs-per-second to that of the busiest hour"
        )
    demand = Demand(
        cdrs_per_second, clients, packages, cdrs_per_day,
        window_days=settings.worker.duplicate_window_days, batch_age_ms=settings.worker.batch_age_ms,
        replication=settings.topics.replication_factor, native=settings.worker.engine != "python",
    )  # fmt: skip
    figures = measured()
    found = reckoned(figures, demand)
    if max(found.partitions, found.buckets) > MOST:
        raise WrongInput(
            f"--cdrs-per-second {cdrs_per_second}: that takes {found.partitions} partitions and "
            f"{found.buckets} buckets, and one installation has at most {MOST} of each; plan several, each "
            "with its own clients"
        )
    if invocation().json:
        print_json(_row(demand, found, figures))
        return
    print_pairs(_told(found, demand, settings))
    for sentence in _margins(figures):
        say(sentence)


def measured() -> Figures:
    """Return the figures that came with this version."""
    import msgspec

    from rater.core.capacity import Figures

    return msgspec.json.decode((resources.files("rater") / "measured.json").read_bytes(), type=Figures)


def _row(demand: Demand, found: Plan, figures: Figures) -> dict[str, Any]:
    import msgspec

    asked = {
        "cdrs_per_second": demand.cdrs_per_second, "cdrs_per_day": demand.day, "clients": demand.clients,
        "packages": demand.packages,
    }  # fmt: skip
    return {**asked, **msgspec.to_builtins(found), "measured": figures.measured, "machine": figures.machine}


def _told(found: Plan, demand: Demand, settings: Settings) -> list[tuple[str, str]]:
    disk, cpu = found.kafka_bytes_per_day, found.cpu
    duplicates = _size(found.redis_duplicates_bytes)
    kept_ms = settings.journal_min_ms
    days = "" if kept_ms is None else f", or {kept_ms / 86_400_000:.0f} days at least"
    return [
        ("workers", f"{found.workers}, {_size(found.worker_memory_bytes)} of memory each"),
        ("topics.partitions", str(found.partitions)),
        ("Redis primaries", f"{found.redis_primaries}, {_size(found.redis_memory_bytes)} of memory together"),
        (
            "",
            f"of it for duplicates {duplicates}, by a window of {demand.window_days} days",
        ),
        ("redis.buckets", str(found.buckets)),
        ("Kafka, disk of a day", f"inputs {_size(disk['cdrs'])}, kept 7 days"),
        ("", f"transactions {_size(disk['transactions'])}, kept for ever{days}"),
        ("", f"in {demand.replication} {'copy' if demand.replication == 1 else 'copies'} together"),
        ("processors, busy", f"workers {cpu.workers:g}, Redis {cpu.redis:g}, Kafka {cpu.kafka:g}"),
    ]


def _margins(figures: Figures) -> list[str]:
    dates = sorted(set(figures.measured.values()))
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"""\
by figures of {when}, on {figures.machine}, with calls as in the benchmarks: {figures.sides:.1f} sides and
{figures.cdr_bytes:.0f} bytes of each CDR
margins: workers and Redis primaries are busy for half of a core at most, so one of two may be lost;
memory and disk are as measured: give half as much again, and Redis twice as much where it forks to save
measure with your own calls before you buy machines""".splitlines()


def _size(count: int) -> str:
    """Return bytes as people say them: powers of ten, as disks are sold."""
    for unit, size in (("TB", 10**12), ("GB", 10**9)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{max(1, round(count / 10**6))} MB"
