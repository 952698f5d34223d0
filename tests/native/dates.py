"""Clients made by hand about loads made by hand: what is open to their calls, and when something is due.

Thousands of lives in place of the few that a world has: a package each, of some versions, opened, waiting or
stopped at moments about which those were loaded. Asked is as `lives.questions` says; nothing is drawn.
"""

from __future__ import annotations

from functools import cache
from random import Random
from types import SimpleNamespace

from msgspec.structs import replace

from native.lives import FAR_MS, moved, questions, touched
from native.shadow import Shadow, shadowing
from native.world import BUCKETS, World
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import Content
from rater.core.clients.state import ClientPackage, ClientState, HeldPeriod, Life, read_state, write_state
from rater.core.clients.views import Views
from rater.core.instants import DAY_MS, HOUR_MS
from rater.core.line import batch as batches
from rater.core.line import steps
from rater.core.line.batch import LanePosition, Standing

CLIENTS, WORLDS = 12, 8
SPANS_MS = (HOUR_MS, DAY_MS, 30 * DAY_MS)


@cache
def _worlds(seed: int) -> tuple[Content, tuple[ClientState, ...], int, World]:
    """Return what the lives are put into: packages as they were first, and clients."""
    with shadowing(beside=False):
        world = World(seed)
    content = world.content
    for history in content.packages.values():
        history.versions[:] = [(0, replace(history.versions[0][1], start_date=None, end_date=None))]
        history.statuses[:] = [(0, "active")]
    states = [read_state(raw) for _, raw in sorted(world.states.items())]
    return content, tuple(states), world.now_ms // 1000 * 1000, world


def compare(seed: int) -> None:
    """Compare the engines over lives; raises Different."""
    rng = Random(f"dates {seed}")  # noqa: S311 - the same again
    content, clients, now_ms, world = _worlds(seed % WORLDS)
    if not content.packages:
        return
    with shadowing() as shadow:
        states = [_client(rng.choice(clients), content, rng, now_ms, n) for n in range(CLIENTS)]
        content = moved(content, states, rng, now_ms)
        catalog = compile_catalog(content, 2, world.notices)
        for state in states:
            known = touched(state, catalog, rng, now_ms) if rng.random() < 0.5 else state
            for calls in questions(known, catalog, rng, now_ms):
                _ask(shadow, calls, known, catalog, now_ms + FAR_MS)


def _client(proto: ClientState, content: Content, rng: Random, now_ms: int, number: int) -> ClientState:
    package = rng.choice(sorted(content.packages))
    begin = (
        now_ms - rng.choice((0, HOUR_MS, DAY_MS, 3 * DAY_MS, 31 * DAY_MS)) + rng.choice((-1000, 0, 0, 1000))
    )
    assigned_ms = begin - rng.choice((0, 0, 1000, DAY_MS))
    life = _life(rng, begin, assigned_ms)
    held = ClientPackage(f"cp{number}", package, None, 1, assigned_ms, begin, None, life=life)
    if not life.periods and rng.random() < 0.6:
        start_ms = assigned_ms - rng.choice((0, 1000, DAY_MS))
        end_ms = rng.choice((None, None, assigned_ms, start_ms + 500, start_ms))
        held = replace(held, activate_in_past=True, start_ms=start_ms, end_ms=end_ms)
    return replace(
        proto, id=f"d{number}", accounts={}, packages=[held], zones=[], catalog=1, due_ms=None, calls_ms=None
    )


def _life(rng: Random, begin: int, assigned_ms: int) -> Life:
    """Return a life with none to three periods in a row, the last one without end now and then."""
    span, periods = rng.choice(SPANS_MS), list[HeldPeriod]()
    for number in range(rng.choice((0, 1, 1, 2, 2, 3))):
        start = begin + number * span
        by_ms = max(assigned_ms, start - rng.choice((0, 1, 1, 1000, span // 2, span // 2)))
        periods.append(HeldPeriod(number + 1, start, start + span, by_ms, number + 1, rolled={}))
    if periods and rng.random() < 0.15:
        periods[-1] = replace(periods[-1], stop_ms=None)
    if len(periods) > 1 and rng.random() < 0.2:
        periods[-1] = replace(periods[-1], rolled=None)
    return Life(numbered=len(periods), count=len(periods), periods=tuple(periods))


def _ask(shadow: Shadow, calls: list[bytes], client: ClientState, catalog: Catalog, now_ms: int) -> None:
    """Compare a batch of a client's calls up to the requests."""
    standing = Standing(2, "commands", 3 * FAR_MS, 8 * FAR_MS, LanePosition(lane_ms=now_ms))
    records = [
        SimpleNamespace(offset=n, timestamp=now_ms, key=None, value=raw, headers=())
        for n, raw in enumerate(calls)
    ]
    views = Views()
    for batch in batches.slices(standing, [("t.cdrs", records)], len(records)):
        sides = steps.decode(batch, standing, {}, catalog.service_names)
        shadow.decoded(batch, standing, now_ms, set(), sides, catalog)
        while (
            steps.identify(sides, catalog, views)
            or steps.price(sides, catalog, views)
            or steps.match(sides, catalog, views, BUCKETS)[1]
        ):
            views.learn({client.id}, set(), {client.id: write_state(client)}, {}, {})
        shadow.matched(batch, standing, sides, catalog, views, BUCKETS, set(), set())
        del shadow.beside[id(batch)]
