"""The command that looks at everything and changes nothing: check."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from rater.cli.options import FAILED, READABLE, invocation, run, settings_options
from rater.cli.printing import print_json, say
from rater.errors import Fenced, Halt, NoCatalog, Retake, Wait

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.catalog.specs import Content
    from rater.core.catalog_files.placed import CatalogFile

# Imports inside of functions: `rater --help` must not wait for Kafka's and Redis's client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


class Problem(NamedTuple):
    """What `check` found. where: settings, catalog, kafka, topics, redis or sources.

    is_warning: it works so, but hardly as it is meant.
    """

    where: str
    text: str
    is_warning: bool = False


@click.command()
@click.option("--catalog", "catalogs", type=READABLE, multiple=True, help="Check this catalog file too.")
@settings_options(prints=True)
def check(catalogs: tuple[str, ...]) -> int:
    """Check settings, source maps, catalog files, Kafka with its topics, and Redis; change nothing.

    Each problem is a line that says what, where and the remedy; exit code 1 if there is one. So is each
    warning: what topics, brokers or Redis are set to that may cost records or time later, clocks that
    differ, records without a time, codes and rules that match nothing, what a managed Redis does not let us
    see; the exit code is 0 with them. Which
    release of the time zones is in force, and which is installed here, is told on standard error.

    \b
    Examples:
      rater --config rater.toml check
      rater --config rater.toml check --catalog catalog.yaml
    """
    asked = invocation()
    settings, file = asked.read(), _read_files(catalogs)
    found = [Problem("catalog", str(fault)) for fault in file.faults] if file is not None else []
    if isinstance(settings, list):
        found[:0] = [Problem("settings", text) for text in settings]
    else:
        found += [Problem("sources", text) for text in _map_faults(settings)]
        found += run(_servers(settings, file), settings)
        found += [Problem("settings", text) for text in _tell_engine(settings)]
    for problem in found:
        if asked.json:
            kind = "warning" if problem.is_warning else "problem"
            print_json({"where": problem.where, kind: problem.text})
        else:
            click.echo(f"{problem.where}: {'warning: ' if problem.is_warning else ''}{problem.text}")
    return _told(found, with_catalog=bool(catalogs))


def _told(found: list[Problem], *, with_catalog: bool) -> int:
    """Say how it ends; returns the exit code."""
    warnings = sum(problem.is_warning for problem in found)
    problems = len(found) - warnings
    if problems:
        say(f"rater: {problems} {'problem' if problems == 1 else 'problems'}")
        return FAILED
    if warnings:
        say(f"no problems, {warnings} {'warning' if warnings == 1 else 'warnings'}")
    else:
        say("all is well: settings, sources, Kafka, topics, Redis" + (", catalog" if with_catalog else ""))
    return 0


def _tell_engine(settings: Settings) -> list[str]:
    """Tell by which engine a worker rates here; return what is wrong with that."""
    from rater.app import native_engine

    try:
        found = native_engine(settings)
    except Halt as fault:
        return [str(fault)]
    say("engine: " + (f"python ({found})" if isinstance(found, str) else "native"))
    return []


def _read_files(files: Iterable[str]) -> CatalogFile | None:
    from rater.jobs.load import read_catalog

    paths = [Path(file) for file in files]
    return read_catalog(paths) if paths else None


def _map_faults(settings: Settings) -> list[str]:
    from rater.source_maps import open_maps

    _, faults = open_maps(settings.sources)
    return faults


async def _servers(settings: Settings, file: CatalogFile | None) -> list[Problem]:
    """Return what is wrong with the servers, and what is odd in the catalog in force or the file."""
    found, in_force = await _kafka(settings)
    has_topics = not any(problem.where in {"kafka", "topics"} for problem in found if not problem.is_warning)
    try:
        found += await _redis(settings, with_dangers=has_topics)
    except (Wait, Halt, OSError) as fault:
        found.append(Problem("redis", str(fault)))
    return [*found, *(Problem("catalog", text, is_warning=True) for text in _idle(in_force, file))]


async def _kafka(settings: Settings) -> tuple[list[Problem], Content | None]:
    """Return what is found in Kafka, and the catalog in force, None where there is none to be had."""
    from rater.app import kafka_client, topics_of
    from rater.stream import rights, stamps

    client, topics = kafka_client(settings), topics_of(settings)
    found, in_force = list[Problem](), None
    try:
        lacking = await rights.lacking(client, topics, settings.kafka.group_id)
        found += [Problem("topics", text) for text in lacking or await topics.check(client)]
        if not found:
            problems, in_force = await _catalog(settings)
            found += [Problem("catalog", text) for text in problems]
            told = await stamps.remarks(client, topics)
            found += [Problem("topics", text, is_warning=True) for text in told]
            found += await _snapshots(settings)
    except (Wait, Halt, Fenced, Retake, OSError) as fault:
        found.append(Problem("kafka", str(fault)))
    return found, in_force


async def _snapshots(settings: Settings) -> list[Problem]:
    """Return what a rebuild of Redis would lack."""
    from rater.app import kafka_client, topics_of
    from rater.stream import coverage

    client, topics, buckets = kafka_client(settings), topics_of(settings), settings.redis.buckets
    now_ms, every_s = time.time_ns() // 1_000_000, settings.worker.snapshots_every_s
    found = [Problem("topics", text) for text in await coverage.uncovered(client, topics, buckets)]
    told = await coverage.remarks(client, topics, buckets, every_s, now_ms)
    return found + [Problem("topics", text, is_warning=True) for text in told]


async def _catalog(settings: Settings) -> tuple[list[str], Content | None]:
    """Tell which time zones are in force; return what is wrong with them, and the catalog that has them."""
    from rater.app import catalogs_of, kafka_client, topics_of
    from rater.catalogs import without_zones
    from rater.queries import catalog

    try:
        found = await catalog.in_force(kafka_client(settings), topics_of(settings), catalogs_of(settings))
    except NoCatalog as fault:
        return [str(fault)], None
    zones = catalog.time_zones(found)
    if zones.catalog is None:
        say(f"time zones: tzdata {zones.installed} is installed here; the first load brings it")
        return [], None
    content = found[1] if found is not None else None
    if zones.in_force is None:
        return [without_zones(zones.catalog)], content
    newer = "; the next load from here brings it" if zones.load_brings else ""
    in_force = f"tzdata {zones.in_force} is in force (catalog {zones.catalog})"
    say(f"time zones: {in_force}, {zones.installed} is installed here{newer}")
    return [], content


async def _redis(settings: Settings, *, with_dangers: bool) -> list[Problem]:
    """Return what is wrong with Redis; with_dangers: and what is dangerous there, and in Kafka."""
    from rater.app import dangers, opened_store

    async with opened_store(settings) as store:
        found = [Problem("redis", text) for text in await store.check()]
        found += [Problem("redis", text, is_warning=True) for text in await store.unseen()]
        if with_dangers:
            told = await dangers(settings, store, asks_settings=True)
            found += [Problem(where, text, is_warning=True) for where, text in told]
        return found


def _idle(in_force: Content | None, file: CatalogFile | None) -> Iterator[str]:
    """Yield what can match nothing: in the catalog in force, or in what a file would make of it."""
    from rater.core.catalog.specs import Content
    from rater.core.catalog_files.unmatched import overlaid, unmatched

    if file is not None and not file.faults:
        yield from unmatched(overlaid(in_force or Content(), file), file)
    elif file is None and in_force is not None:
        yield from unmatched(in_force)
