"""Growth: what a CDR costs as clients, packages, codes, partitions, workers, a hot one, duplicates grow."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import plots
from sizes import Sizes
from system import Servers, System
from world import World

if TYPE_CHECKING:
    from pathlib import Path


class Point(NamedTuple):
    """One measurement of a line."""

    x: float
    world: World
    partitions: int = 4
    workers: int = 1


class Line(NamedTuple):
    """What is varied. warm: calls of each worker before the measured ones, the same for each point."""

    title: str
    points: tuple[Point, ...]
    warm: int = 40_000


BASE = World(clients=20_000)
LINES: dict[str, Line] = {
    "packages": Line(
        "packages of a client",
        tuple(Point(n, World(clients=2_000, packages=n, every=True)) for n in (1, 5, 20, 50)),
    ),
    # Twice as many calls as the largest has codes, and clients: a worker sees each for the first time once.
    "codes": Line(
        "codes of the deck",
        tuple(Point(n, World(clients=20_000, codes=n)) for n in (100, 3_000, 36_235, 300_000)),
        warm=600_000,
    ),
    "workers": Line("workers", (Point(1, BASE), Point(2, BASE, workers=2))),
    "clients": Line(
        "clients",
        tuple(Point(n, World(clients=n, plenty=True)) for n in (1_000, 10_000, 100_000, 1_000_000)),
        warm=2_000_000,
    ),
    "partitions": Line("partitions", tuple(Point(n, BASE, partitions=n) for n in (1, 4, 16, 64))),
    "hot": Line(
        "share of one client, %",
        tuple(Point(share * 100, World(clients=20_000, hot=share)) for share in (0.0, 0.5, 0.9)),
    ),
    "usual": Line(
        "calls to the caller's twenty usual numbers, %",
        tuple(Point(share * 100, World(clients=20_000, usual=share)) for share in (0.0, 0.9)),
    ),
    "duplicates": Line(
        "duplicates, %",
        tuple(Point(share * 100, World(clients=20_000, duplicates=share)) for share in (0.0, 0.25, 0.5)),
    ),
}
LOGARITHMIC = ("clients", "packages", "codes", "partitions")
AGAIN = ("packages", "workers")
"""Lines with a target whose points take seconds: measured there and back, and there and back again."""
LARGE = 1_000_000
"""A point of so many clients takes minutes, and is measured once."""


async def growth(on: Servers, sizes: Sizes) -> dict[str, Any]:
    """Measure every line, or those asked for, and draw it."""
    is_quick = sizes.cdrs < 100_000  # noqa: PLR2004 - the quick sizes
    kept = on.results / "growth.json"
    found: dict[str, Any] = msgspec.json.decode(kept.read_bytes()) if sizes.lines and kept.exists() else {}
    for name in sizes.lines or LINES:
        line = LINES[name]
        points = line.points[: 1 if is_quick else None]
        rounds: dict[float, list[dict[str, Any]]] = {point.x: [] for point in points}
        # The best of several counts: a neighbour on the machine only ever makes it slower.
        for turn in range(1 if is_quick else 4 if name in AGAIN else 2):
            for point in points[:: -1 if turn % 2 else 1]:
                if point.world.clients >= LARGE and rounds[point.x]:
                    continue
                warm = sizes.warm if is_quick else line.warm
                # A quarter of the main measurement's calls: there are two dozen points.
                measured = await _point(on, f"{name}-{point.x:.0f}-{turn}", point, warm, sizes.cdrs // 4)
                rounds[point.x].append({"x": point.x, **measured})
                print(
                    f"{name} {point.x:g}: worker {measured['worker_us']:.1f}, "
                    f"Redis {measured['redis_us']:.1f} µs"
                )
        found[name] = {
            "title": line.title, "date": time.strftime("%Y-%m-%d %H:00"),
            "points": [_best(both) for both in rounds.values()],
        }  # fmt: skip
        draw(on.results, name, found[name])
        # It takes most of an hour: what there is is kept.
        kept.write_bytes(msgspec.json.encode(found))
    return found


def _best(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    best = min(rounds, key=lambda measured: measured["worker_us"])
    return {**best, "redis_us": min(measured["redis_us"] for measured in rounds), "rounds": len(rounds)}


def draw(results: Path, name: str, line: dict[str, Any]) -> None:
    """Draw one line."""
    series = {
        label: [(point["x"], point[f"{of}_us"]) for point in line["points"]]
        for label, of in (("worker", "worker"), ("Redis", "redis"))
    }
    plots.lines(
        results / f"growth-{name}.svg", f"CPU of a CDR by {line['title']}", line["title"],
        "µs of CPU per CDR", series, log_x=name in LOGARITHMIC,
    )  # fmt: skip


async def _point(on: Servers, name: str, point: Point, warm: int, cdrs: int) -> dict[str, Any]:
    # Each of two workers gets as many calls before: of two that share the calls each knows fewer clients.
    async with System(on, name, partitions=point.partitions) as system:
        await system.start(point.workers)
        load_s = await system.load(point.world.catalog())
        await system.stop()
        measured = await system.measure(point.world, "g", warm * point.workers, cdrs, point.workers)
        await system.forget()
        return {**msgspec.to_builtins(measured), "load_s": load_s, "warm": warm}
