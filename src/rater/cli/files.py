"""Commands about files of CDRs and the maps that read them: ingest, sources."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import click

from rater.cli.options import (
    FAILED,
    READABLE,
    WrongInput,
    find_source,
    invocation,
    run,
    settings_options,
)
from rater.cli.printing import Column, column, print_json, print_pairs, print_rows, progress, say, told_known

if TYPE_CHECKING:
    from rater.config import Settings, Source
    from rater.core.cdr import Arrival
    from rater.core.reasons import Rejection
    from rater.core.sources.cutting import Record
    from rater.core.sources.source_map import Mapped, Skipped, SourceMap
    from rater.stream.ingest import Ingest
    from rater.stream.topics import Topics

# Imports inside of functions: `rater --help` must not wait for Kafka's client library.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


_format_option = click.option(
    "--format", "form", type=click.Choice(("tap3", "ts32298")),
    help="Files of mobile networks: TAP 3, or records of 3GPP TS 32.298. Needs rater[asn1].",
)  # fmt: skip


@click.command()
@click.argument("files", type=READABLE, nargs=-1, required=True)
@click.option(
    "--source", "name", metavar="NAME", required=True, help="A source of the settings, or `default`."
)
@_format_option
@click.option(
    "--late", is_flag=True,
    help="Calls older than the duplicate window, too: ids are looked up in the journal first.",
)  # fmt: skip
@settings_options(prints=True)
def ingest(files: tuple[str, ...], name: str, form: str | None, *, late: bool) -> int:
    """Send the records of files to a source's topic, with progress.

    A file holds CDRs (JSON lines, a JSON list, or CSV with a header row) for a source without a map, else the
    records that its map reads. Records go as they are, rows of CSV with the header row above them, by which
    they are read; the worker rates or rejects them. Again is harmless: within `worker.duplicate_window_days`
    the ids are known. A last row of CSV without a line break, which may be cut off, is not sent: exit code 1.
    Records of a --format go as JSON; what cannot be read goes too, to be rejected by name: exit code 1.
    Packed files (gzip) are unpacked. With --late what the journal has is not sent, and nothing of the rest is
    too old.

    \b
    Examples:
      rater ingest cdrs.jsonl --source default
      rater --config rater.toml ingest Master.csv Master.csv.1.gz --source pbx1
      rater --config rater.toml ingest CDDEUD1UKRKS00001 --source roaming --format tap3
      rater ingest last-quarter.jsonl --source default --late
    """
    settings = invocation().settings()
    source = find_source(settings, name)
    source_map = opened_map(name, source) if source.map is not None else None
    if form is None:
        _check(files, source_map)
    sent, known, refused = run(_send(settings, source.topic, source_map, files, form, late=late), settings)
    if invocation().json:
        for file, number in sent.items():
            print_json({"file": file, "source": name, "topic": source.topic, "records": number})
    else:
        for file, number in sent.items():
            click.echo(f"{file}: {number} records sent to {source.topic}")
    if known:
        say(told_known(known))
    for told in refused:
        say(told)
    return FAILED if refused else 0


def _check(files: tuple[str, ...], source_map: SourceMap | None) -> None:
    """Read files of CSV once before anything is sent: a wrong header row half-way stops all of them."""
    if source_map is not None and source_map.format != "csv":
        return
    for file in files:
        with open(file, "rb") as stream:  # noqa: PTH123 - a stream of bytes
            if not stream.seekable():  # a pipe cannot be read twice
                continue
            for _ in records_of(stream, source_map, file, None, []):
                pass


CUT_OFF = (
    "has no line break and may be cut off, so it was not {}; {} the file again when it is whole, or end the "
    "line"
)
_TOO_LARGE = (
    "has {} bytes, more than {} takes, so it was not sent; raise the topic's max.message.bytes and send the "
    "file again"
)


async def _send(
    settings: Settings, topic: str, source_map: SourceMap | None, files: tuple[str, ...], form: str | None,
    *, late: bool,
) -> tuple[dict[str, int], int, list[str]]:  # fmt: skip
    """Return file → records sent, sides that the journal has, and a sentence for each that was not sent.

    Or that could not be read.
    """
    from rater.app import kafka_client, topics_of
    from rater.stream.ingest import Ingest

    refused: list[str] = []
    async with Ingest(kafka_client(settings), topic) as out:
        sending = _Sending(out, topic, source_map, form, topics_of(settings) if late else None)
        for file in files:
            sending.sent[file] = 0
            with open(file, "rb") as stream, progress(file, os.fstat(stream.fileno()).st_size) as passed:  # noqa: ASYNC230, PTH123
                behind = 0
                for record in records_of(stream, source_map, file, form, refused):
                    if not record.ended:
                        refused.append(f"{file}: line {record.line} {CUT_OFF.format('sent', 'send')}")
                    else:
                        await sending.take(file, record)
                    at = stream.tell() if stream.seekable() else behind + len(record.raw) + 1
                    passed(at - behind)
                    behind = at
            await sending.flush()
    return sending.sent, sending.known, refused + sending.refused


class _Sending:
    """Records on their way to a topic; with `journal` they wait there until they were looked up in it."""

    def __init__(
        self, out: Ingest, topic: str, source_map: SourceMap | None, form: str | None, journal: Topics | None
    ) -> None:
        self.sent: dict[str, int] = {}
        self.known = 0
        self.refused: list[str] = []
        self._out, self._topic, self._map, self._form, self._journal = out, topic, source_map, form, journal
        self._waiting: list[tuple[str, Record]] = []
        self._bytes = 0

    async def take(self, file: str, record: Record) -> None:
        """Send a record of a file, sooner or later."""
        from rater.jobs.late import BYTES_MAX, RECORDS_MAX

        if self._journal is None:
            await self._put(file, record, [])
            return
        self._waiting.append((file, record))
        self._bytes += len(record.raw)
        if len(self._waiting) >= RECORDS_MAX or self._bytes >= BYTES_MAX:
            await self.flush()

    async def flush(self) -> None:
        """Send what waits, and wait until all is there."""
        from rater.jobs.late import call_of, look_up_calls

        waiting, self._waiting, self._bytes = self._waiting, [], 0
        if waiting and self._journal is not None:
            now_ms = time.time_ns() // 1_000_000
            calls = [call_of(_Read(record.raw, _columns(record)), self._map, now_ms) for _, record in waiting]
            for (file, record), about in zip(
                waiting, await look_up_calls(self._out.client, self._journal, calls), strict=True
            ):
                self.known += about.known
                if about.rateable:
                    await self._put(file, record, about.headers)
        await self._out.flush()

    async def _put(self, file: str, record: Record, headers: list[tuple[str, bytes]]) -> None:
        if await self._out.send(record.raw, key_of(record, self._map), [*_columns(record), *headers]):
            self.sent[file] += 1
        else:
            place = f"{file}: {_unit(self._form)} {record.line}"
            self.refused.append(f"{place} {_TOO_LARGE.format(len(record.raw), self._topic)}")


class _Read(NamedTuple):
    value: bytes
    headers: list[tuple[str, bytes]]


def _columns(record: Record) -> list[tuple[str, bytes]]:
    """Return the header that a row of CSV brings its header row in."""
    from rater.core.sources.csv_reading import COLUMNS

    return [] if record.columns is None else [(COLUMNS, record.columns)]


def _unit(form: str | None) -> str:
    """Return what the places of records are counted in."""
    return "line" if form is None else "record"


def key_of(record: Record, source_map: SourceMap | None) -> bytes | None:
    """Return the Kafka key of a record: the client that it names, else the account; so their order is kept.

    None: it names neither; any lane will do.
    """
    import orjson

    try:
        cdr = orjson.loads(record.raw) if source_map is None else source_map.apply(record.raw, record.columns)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(cdr, dict):
        return None
    for side in ("orig", "term"):
        party = cdr.get(side)
        if not isinstance(party, dict):
            continue
        for name in ("client", "account"):
            if isinstance(found := party.get(name), str) and found:
                return found.encode("utf-8", "backslashreplace")
    return None


@click.group()
def sources() -> None:
    """Maps from a switch's own records to CDRs."""


@sources.command("list")
@settings_options(prints=True)
def sources_list() -> None:
    """List the shipped maps and the sources of the settings that use them.

    \b
    Examples:
      rater sources list
      rater --config rater.toml sources list --json
    """
    settings = invocation().settings()
    print_rows(
        _map_rows(settings),
        [
            column("map"),
            column("format"),
            Column(
                "used by",
                lambda row: ", ".join(f"{name} ({topic})" for name, topic in row["sources"].items()),
            ),
            column("description"),
        ],
        as_json=invocation().json,
    )


def _map_rows(settings: Settings) -> Iterator[dict[str, Any]]:
    import tomllib

    from rater.source_maps import shipped

    users: dict[str | None, dict[str, str]] = {}
    for name, source in settings.all_sources().items():
        users.setdefault(source.map, {})[name] = source.topic
    prose = "CDRs as they are, without a map"
    yield {"map": None, "format": "cdr", "sources": users.pop(None, {}), "description": prose}
    maps = shipped()
    for name in [*maps, *(used for used in users if used is not None and used not in maps)]:
        table: dict[str, Any] = {}
        try:
            table = tomllib.loads((maps.get(name) or Path(name)).read_text("utf-8"))
        except (OSError, ValueError) as fault:
            table = {"description": f"cannot be read: {fault}"}
        yield {
            "map": name,
            "format": table.get("format"),
            "sources": users.get(name, {}),
            "description": table.get("description"),
        }


@sources.command("show")
@click.argument("name", metavar="MAP")
@settings_options()
def sources_show(name: str) -> None:
    """Print a map: to read what it does, or to make your own of it.

    MAP is the name of a shipped map, or the path of a map's file.

    \b
    Example:
      rater sources show asterisk > my-switch.toml
    """
    from rater.source_maps import map_text

    text = map_text(name)
    if not isinstance(text, str):
        raise WrongInput(str(text))
    click.echo(text, nl=False)


@sources.command("test")
@click.argument("name", metavar="MAP")
@click.argument("file", type=READABLE)
@_format_option
@settings_options(prints=True)
def sources_test(name: str, file: str, form: str | None) -> int:
    """Show what becomes of a file, record by record. Exit code 1 where one is refused.

    MAP is the name of a shipped map, the path of a map's file, or a source of the settings (then with its
    defaults; `default`: CDRs without a map). What only a worker knows is not judged: the age of calls, the
    clients, and the services of the catalog.

    \b
    Examples:
      rater sources test asterisk-csv Master.csv
      rater sources test ./my-switch.toml records.json --json
      rater --config rater.toml sources test pbx1 records.json
      rater sources test tap3 CDDEUD1UKRUM00001 --format tap3
    """
    settings = invocation().settings()
    source = settings.all_sources().get(name)
    source_map = opened_map(name, source)
    outcomes: Counter[str] = Counter()
    sentences: list[str] = []
    with open(file, "rb") as stream:  # noqa: PTH123 - a stream of bytes
        for record in records_of(stream, source_map, file, form, sentences):
            result = _result(record, source_map)
            outcomes[_outcome(result)] += 1
            _show(_unit(form), record, result)
    told = ", ".join(f"{number} {outcome}" for outcome, number in outcomes.items())
    say(f"{file}: {sum(outcomes.values())} records" + (f": {told}" if told else ""))
    for sentence in sentences:
        say(sentence)
    return FAILED if outcomes["rejected"] or sentences else 0


def opened_map(name: str, source: Source | None) -> SourceMap | None:
    """Return the map of a source of the settings (None: it has none), or of this name or path."""
    from rater.source_maps import open_map, open_source

    if source is not None:
        if source.map is None:
            return None
        found = open_source(name, source, source.map)
    else:
        found = open_map(name)
    if isinstance(found, list):
        raise WrongInput(*(str(fault) for fault in found))
    return found


def records_of(
    stream: BufferedReader, source_map: SourceMap | None, file: str, form: str | None, told: list[str]
) -> Iterator[Record]:
    """Yield a file's records; told: gets a sentence for each fault that did not end the reading.

    Raises WrongInput where the file as a whole is none.
    """
    from rater.core.file_forms import HEAD_BYTES, PACKING_FAULTS, foreign, unpacked
    from rater.core.sources.cutting import records
    from rater.mobile import reading

    whole = unpacked(stream)
    is_text = source_map is None or source_map.format == "json"
    try:
        if form is not None:
            if source_map is None or not source_map.takes_faults:
                raise WrongInput(f"--format {form}: the source needs a map with `fault`, such as {form}")
            yield from reading.records(whole, form, lambda sentence: told.append(f"{file}: {sentence}"))
            return
        if is_text and reading.looks_like(whole.peek(2)):
            raise WrongInput(
                f"{file}: is no text but BER; say of which format it is: tap3 or ts32298, by --format "
                "(rater rate: by --map)"
            )
        if (what := foreign(whole.peek(HEAD_BYTES)[:HEAD_BYTES])) is not None:
            raise WrongInput(f"{file}: is {what}; give the records as text in UTF-8")
        yield from records(cast("BinaryIO", whole), source_map)
    except reading.Missing as fault:
        raise WrongInput(str(fault)) from fault
    except PACKING_FAULTS as fault:
        raise WrongInput(f"{file}: the packed file is damaged ({fault}); send it again as it was") from fault
    except ValueError as fault:
        raise WrongInput(f"{file}: {fault}") from fault


def _result(record: Record, source_map: SourceMap | None) -> Mapped | Skipped | tuple[Rejection, ...]:
    """Return what becomes of a record: the rules of the map, then those of CDRs."""
    import orjson

    from rater.core.cdr_decoding import check, decode

    if source_map is None:
        judged = decode(record.raw, _arrival())
        return judged if isinstance(judged, tuple) else {**orjson.loads(record.raw), "called": judged.called}
    mapped = source_map.apply(record.raw, record.columns)
    if isinstance(mapped, dict):
        judged = check(mapped, _arrival())
        return source_map.named(judged) if isinstance(judged, tuple) else mapped
    return mapped


def _arrival() -> Arrival:
    from rater.core.cdr import Arrival, EveryService

    now_ms = time.time_ns() // 1_000_000
    return Arrival(lane_ms=now_ms, window_ms=now_ms, services=EveryService())


def _outcome(result: Mapped | Skipped | tuple[Rejection, ...]) -> str:
    from rater.core.sources.source_map import Skipped, unanswered

    if isinstance(result, Skipped):
        return "skipped"
    if isinstance(result, tuple):
        return "rejected"
    return "unanswered" if unanswered(result) else "call"


def _show(unit: str, record: Record, result: Mapped | Skipped | tuple[Rejection, ...]) -> None:
    from rater.core.sources.source_map import Skipped, as_json, describe

    if not invocation().json:
        print_pairs([(unit, str(record.line)), *describe(record.raw, result)])
        click.echo()
        return
    told: dict[str, Any] = {unit: record.line, "outcome": _outcome(result)}
    if isinstance(result, Skipped):
        told["reason"] = result.reason
    elif isinstance(result, tuple):
        told["rejections"] = [
            {"reason": str(one.reason), "side": one.side, "detail": one.detail, "value": one.value}
            for one in result
        ]
    else:
        told["cdr"] = as_json(result)
    print_json(told)
