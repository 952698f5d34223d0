"""The clients that `rater rerate` names: those that there are not; and a job is given up at them."""

from __future__ import annotations

from collections.abc import Collection

from rater.core.clients.state import read_state
from rater.core.commands.records import RerateEndArgs
from rater.core.reasons import shown
from rater.jobs.audit_looks import CLIENTS_AT_ONCE, batched
from rater.jobs.rerate_reading import Sources
from rater.jobs.rerate_sending import JobCommands, Refused


async def unknown(sources: Sources, clients: Collection[str] | None) -> list[str]:
    """Return those of the clients that there are not, sorted. clients None: all, so none."""
    names = sorted(clients or ())
    found = await sources.store.states(names)
    return [name for name in names if name not in found]


async def give_up(
    sources: Sources, clients: Collection[str] | None, job: str, commands: JobCommands
) -> tuple[list[str], list[str]]:
    """End a job at all clients where it has begun, without going on. clients None: of all.

    Returns these clients; and those at which it was refused, for they have changed meanwhile, each with a
    sentence.
    """
    ended, left = list[str](), list[str]()
    names = [of async for of in sources.store.scan_clients()] if clients is None else sorted(clients)
    for some in batched(names, CLIENTS_AT_ONCE):
        for client, raw in (await sources.store.states(some)).items():
            now = read_state(raw).rerating
            if now is None or now.job != job:
                continue
            try:
                await commands.ask(client, RerateEndArgs(job, False))  # noqa: FBT003
            except Refused as refused:
                left.append(f"client {shown(client)!r}: {refused}")
            else:
                ended.append(client)
    return ended, left
