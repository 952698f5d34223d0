"""Commands that rate without servers: rate."""

from __future__ import annotations

import csv
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, nullcontext
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rater.cli.files import CUT_OFF, opened_map, records_of
from rater.cli.options import FAILED, READABLE, WrongInput, invocation, settings_options
from rater.cli.printing import Column, Row, column, is_terminal, plain_lines, print_rows, progress, say
from rater.cli.times import shown_time
from rater.cli.topics import TRANSACTION, as_text, draws_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rater.config import Settings
    from rater.core.offline import Rater
    from rater.core.sources.cutting import Record
    from rater.core.sources.source_map import SourceMap
    from rater.core.trial.arrival import Arrived
    from rater.core.trial.comparing import Comparison
    from rater.core.trial.sums import Sums
    from rater.core.trial.trial import Tried, Waiting

# Imports inside of functions: `rater --help` must not wait for what only this command needs.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

AT_ONCE = 2000
"""Records that are rated in one go; the first of them say when the first call was."""
BEHIND_MS = 24 * 3_600_000
"""A file with calls that ended so long before one above them is told of: it is in no order of time."""


_OF_FILES = ("--catalog", "--compare")


def _is_file(args: Sequence[str], place: int) -> bool:
    """Return whether an argument is no option, and no option's value."""
    before = args[place - 1] if place else ""
    alone = not before.startswith("-") or before == "--json" or "=" in before
    return alone and not args[place].startswith("-")


class _Files(click.Command):
    """A command whose options --catalog and --compare take the files that follow, as its argument does.

    Where files of calls stand before the first of them; else each option takes one file.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the option before each further file of its."""
        # --catalog=FILE, too: else a further file of it would be rated as calls
        named = [one.partition("=")[0] for one in args]
        first = next((place for place, one in enumerate(named) if one in _OF_FILES), len(args))
        if not any(_is_file(args, place) for place in range(first)):
            return super().parse_args(ctx, args)
        out, of = args[:first], ""
        for place in range(first, len(args)):
            one = args[place]
            if of and _is_file(args, place):
                out.append(of)
            elif one.startswith("-"):
                of = named[place] if named[place] in _OF_FILES else ""
            out.append(one)
        return super().parse_args(ctx, out)


@click.command(cls=_Files)
@click.argument("files", type=READABLE, nargs=-1, required=True)
@click.option(
    "--catalog",
    "catalogs",
    type=READABLE,
    multiple=True,
    required=True,
    metavar="FILE...",
    help="The catalog: files as `rater load` takes them.",
)
@click.option(
    "--map", "map_name", metavar="MAP", help="Reads the files: a shipped map's name, or a map's path."
)
@click.option(
    "--compare",
    "others",
    type=READABLE,
    multiple=True,
    metavar="FILE...",
    help="Another catalog: print what it changes.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(("jsonl", "csv", "table")),
    help="What is printed; a table unless --json is given.",
)
@settings_options(prints=True)
def rate(
    files: tuple[str, ...], catalogs: tuple[str, ...], map_name: str | None, others: tuple[str, ...],
    form: str | None,
) -> int:  # fmt: skip
    """Rate files of calls by a catalog, without Kafka and Redis: what would come out.

    The catalog is taken as if it had been loaded before anything in it begins. A call comes in when it ends;
    the calls of a file stay in its order, several files go together by time. Each client package is
    activated and renewed as it becomes due, up to the last call. Transactions and rejected sides are printed,
    then what they come to for each client and destination. Files are read as `rater ingest` does.

    With --compare the same calls are rated by both catalogs: printed is each transaction that has another
    amount, then each client and the totals, before and after.

    \b
    Examples:
      rater rate november.jsonl --catalog catalog.yaml
      rater rate Master.csv Master.csv.1.gz --map asterisk-csv --catalog catalog.yaml --format csv > rated.csv
      rater rate november.jsonl --catalog catalog.yaml --compare catalog-with-new-prices.yaml
    """
    settings, form = invocation().settings(), form or ("jsonl" if invocation().json else "table")
    reading = _Reading(settings, files, map_name)
    read = _catalogs([catalogs, others] if others else [catalogs])
    tried = reading.tried(read, quiet=is_terminal())
    if others:
        from rater.core.trial.comparing import Comparison

        comparison = Comparison()
        _print(_compared(tried, comparison), CHANGE, CHANGE_NAMES, form)
        _print_comparison(comparison, form)
    else:
        from rater.core.trial.sums import Sums

        sums = Sums()
        _print(_rated(tried, sums), RATED, RATED_NAMES, form)
        _print_sums(sums, reading.price_units, form)
    for sentence in reading.told():
        say(sentence)
    return FAILED if reading.lost else 0


def _catalogs(asked: Sequence[Iterable[str]]) -> list[Any]:
    """Return the rows of each catalog. Raises WrongInput with all faults of their files."""
    from rater.jobs.load import read_catalog, uncollected

    with uncollected():
        return [read_catalog([Path(name) for name in names]) for names in asked]


def _rater(settings: Settings) -> Rater:
    """Return what rates, natively where it can be. Raises Halt where it has to be and cannot."""
    from rater.app import native_engine
    from rater.core.offline import FOREVER_MS, Rater

    if isinstance(native_engine(settings), str):
        return Rater(FOREVER_MS)
    from rater.jobs.native_rating import NativeRater

    return NativeRater(FOREVER_MS)


class _Reading:
    """Reads files of calls, has them tried, and knows what there is to tell of it."""

    def __init__(self, settings: Settings, files: Sequence[str], map_name: str | None) -> None:
        self.lost: list[str] = []
        """A sentence for each piece that was not rated: it could not be read, or may be cut off."""
        self.price_units: dict[str, int] = {}
        self._files = files
        self._settings = settings
        source = None if map_name is None else settings.all_sources().get(map_name)
        self._map = None if map_name is None else opened_map(map_name, source)
        self._behind, self._ahead = Counter[str](), Counter[str]()
        self._told: list[str] = []

    def tried(self, catalogs: Sequence[Any], *, quiet: bool) -> Iterator[list[Tried]]:
        """Yield each record as every catalog has it, and in the end what is due up to the last call."""
        from rater.core.trial.arrival import arrivals, first_call_ms, together
        from rater.core.trial.trial import Trial

        now_ms = time.time_ns() // 1_000_000
        with ExitStack() as stack:
            streams = [stack.enter_context(open(name, "rb")) for name in self._files]  # noqa: PTH123
            passed = stack.enter_context(nullcontext(_ignore) if quiet else _bar(streams))
            calls = together(
                [
                    arrivals(self._pieces(name, stream, passed), name, self._map, now_ms)
                    for name, stream in zip(self._files, streams, strict=True)
                ]
            )
            chunk = list(islice(calls, AT_ONCE))
            trials = [Trial(_rater(self._settings), self._map) for _ in catalogs]
            first_ms = first_call_ms(chunk, now_ms)
            _loaded([trial.load(file, first_ms) for trial, file in zip(trials, catalogs, strict=True)])
            self.price_units = trials[0].price_units()
            while chunk:
                self._note(chunk, now_ms)
                yield from map(list, zip(*[trial.rate(chunk) for trial in trials], strict=True))
                chunk = list(islice(calls, AT_ONCE))
        yield [trial.finish() for trial in trials]
        self._tell_waiting([trial.waiting() for trial in trials])

    def _pieces(self, name: str, stream: Any, passed: Callable[[float], None]) -> Iterator[Record]:
        behind = 0
        for piece in records_of(stream, self._map, name, _form(stream, self._map), self.lost):
            if piece.ended:
                yield piece
            else:
                self.lost.append(f"{name}: line {piece.line} {CUT_OFF.format('rated', 'give')}")
            if stream.seekable():
                passed(stream.tell() - behind)
                behind = stream.tell()

    def _note(self, chunk: Iterable[Arrived], now_ms: int) -> None:
        for one in chunk:
            self._behind[one.file] += one.behind_ms > BEHIND_MS
            self._ahead[one.file] += one.at_ms is not None and one.at_ms > now_ms + BEHIND_MS

    def _tell_waiting(self, waiting: Sequence[Sequence[Waiting]]) -> None:
        from rater.core.instants import rfc3339

        for place, found in enumerate(waiting):
            if found:
                first = min(found, key=lambda one: one.since_ms)
                since = shown_time(rfc3339(first.since_ms))
                of = " of --compare" if place else ""
                self._told.append(
                    f"{len(found)} client packages{of} wait in the end, the first since "
                    f"{since} ({first.client_package} of client {first.client}, {first.reason}): fees "
                    "are charged from the start dates on, against `balance`"
                )

    def told(self) -> list[str]:
        """Return what there is to tell in the end, in sentences."""
        disorder = [
            f"{name}: {number} calls ended more than a day before one above them; they were rated in the "
            "file's order: sort the file where calls are to draw in order of time"
            for name, number in self._behind.items()
            if number
        ]
        ahead = [
            f"{name}: {number} calls are made later than tomorrow: client packages were renewed up to then"
            for name, number in self._ahead.items()
            if number
        ]
        return [*self.lost, *disorder, *ahead, *self._told]


def _ignore(_: float) -> None:
    """Show no progress."""


def _bar(streams: Sequence[Any]) -> Any:
    sizes = [os.fstat(stream.fileno()).st_size for stream in streams]
    return progress("rating", sum(sizes) if all(sizes) else None)


def _form(stream: Any, source_map: SourceMap | None) -> str | None:
    """Return the format of a mobile network's file, which its map is named for; None: it is text."""
    from rater.core.file_forms import PACKING_FAULTS, unpacked
    from rater.mobile.reading import FORMS, looks_like

    stem = None if source_map is None else Path(source_map.name).stem
    if stem not in FORMS:
        return None
    try:
        begin = unpacked(stream).peek(2)[:2]
    except PACKING_FAULTS:
        begin = b""
    if stream.seekable():
        stream.seek(0)
    return stem if looks_like(begin) else None


def _loaded(faults: Sequence[Sequence[object]]) -> None:
    found = [str(fault) for each in faults for fault in each]
    if found:
        counted = f"{len(found)} {'fault' if len(found) == 1 else 'faults'}: nothing was rated"
        raise WrongInput(*found, counted)


# ------------------------------------------------------------------------------------------- what is printed
def _rated(tried: Iterable[list[Tried]], sums: Sums) -> Iterator[bytes]:
    """Yield transactions and rejected sides as JSON, and sum them up."""
    import msgspec

    from rater.core.offline import Transaction
    from rater.core.reasons import Rejection

    for (one,) in tried:
        sums.add(one)
        yield from one.changes
        for ended in one.ended:
            if isinstance(ended, Transaction):
                yield ended.value
            elif isinstance(ended, Rejection):
                yield msgspec.json.encode(_rejected(one.arrived, ended))


def _rejected(arrived: Any, ended: Any) -> Row:
    return {
        "type": "rejected", "side": ended.side, "reason": ended.reason.value, "detail": ended.detail,
        "value": ended.value, "file": arrived.file, "line": arrived.line, **as_text(arrived.record.value),
    }  # fmt: skip


def _compared(tried: Iterable[list[Tried]], comparison: Comparison) -> Iterator[bytes]:
    import msgspec

    for before, after in tried:
        yield from map(msgspec.json.encode, comparison.add(before, after))
    yield from map(msgspec.json.encode, comparison.rest())


def _print(rows: Iterable[bytes], columns: Sequence[Column], names: Sequence[str], form: str) -> None:
    """Print rows, JSON each. columns: of a table; names: the members that CSV has."""
    import orjson

    if form == "jsonl":
        for row in rows:
            click.echo(row)
    elif form == "csv":
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        for row in map(orjson.loads, rows):
            shown = row if "draws" not in row else {**row, "draws": draws_of(row)}
            writer.writerow([shown.get(name) for name in names])
    else:
        print_rows(map(orjson.loads, rows), columns, as_json=False, nothing="there is nothing to show")


def _print_sums(sums: Sums, price_units: dict[str, int], form: str) -> None:
    # What is counted in other units than minutes names its service beside it.
    unit = "minutes" if {service for _, _, service, _ in sums.destinations} <= {"calls"} else "volume"
    for rows, columns in (
        (sums.client_rows(price_units), CLIENT),
        (sums.destination_rows(price_units), DESTINATION),
    ):
        _print_table(
            rows, [one._replace(title=unit) if one.title == "volume" else one for one in columns], form
        )
    rejected = ", ".join(f"{number} {reason}" for reason, number in sorted(sums.rejected.items()))
    totals = ", ".join(f"{amount} {currency}" for currency, amount in sums.totals().items())
    say(
        f"{sums.records} records: {sum(one.calls for one in sums.clients.values())} sides rated"
        + (f", rejected: {rejected}" if rejected else "")
        + (f", {sums.duplicates} duplicates" if sums.duplicates else "")
        + (f", {sums.skipped} no calls" if sums.skipped else "")
        + (f"; all together {totals}" if totals else "")
    )


def _print_comparison(comparison: Comparison, form: str) -> None:
    rows, total = comparison.client_rows(), comparison.total()
    if form == "jsonl":
        import msgspec

        for row in [*rows, total]:
            click.echo(msgspec.json.encode(row))
    else:
        _print_table([row for row in rows if row["changed"]], CHANGED_CLIENT, form)
    currencies = dict.fromkeys([*total["amount_before"], *total["amount_after"]])
    sums = [
        f"{total['amount_before'].get(name, '0')} becomes {total['amount_after'].get(name, '0')} {name}"
        for name in currencies
    ]
    say(
        f"{total['changed']} transactions change, of {total['clients']} clients with {total['calls']} sides "
        f"of calls; " + (", ".join(sums) or "there is no money in them")
    )
    for name, told in (("rejected", "rejected_before"), ("rejected by --compare", "rejected_after")):
        if total[told]:
            say(f"{name}: " + ", ".join(f"{number} {reason}" for reason, number in total[told].items()))


def _print_table(rows: Sequence[Row], columns: Sequence[Column], form: str) -> None:
    """Print a table behind the rows where they are one; else tell it, for data goes to standard output."""
    if not rows:
        return
    if form == "table":
        click.echo()
        print_rows(rows, columns, as_json=False)
        return
    for line in plain_lines(rows, columns):
        say(line)


RATED = [
    *TRANSACTION,
    Column("place", lambda row: f"{row['file']}:{row['line']}" if "file" in row else ""),
    column("detail"),
]
RATED_NAMES = (
    "type", "id", "client", "account", "side", "service", "at", "caller", "called", "code", "code_name",
    "duration_ms", "volume", "billed", "overage", "setup_fee", "draws", "amount", "currency", "reason",
    "detail", "value", "file", "line",
)  # fmt: skip
CHANGE_NAMES = (
    "transaction", "client", "type", "at", "called", "code", "amount_before", "amount_after", "currency",
)  # fmt: skip
CHANGE = [
    Column("at", lambda row: shown_time(row.get("at"))),
    column("client"),
    column("transaction"),
    column("called"),
    column("code"),
    column("before", "amount_before", right=True),
    column("after", "amount_after", right=True),
    column("currency"),
]
CLIENT = [
    column("client"),
    column("calls", right=True),
    column("volume", right=True),
    column("usage", right=True),
    column("fees", right=True),
    column("amount", right=True),
    column("currency"),
]
DESTINATION = [
    column("destination"),
    column("side"),
    column("service"),
    column("calls", right=True),
    column("volume", right=True),
    column("amount", right=True),
    column("currency"),
]
CHANGED_CLIENT = [
    column("client"),
    column("calls", right=True),
    column("changed", right=True),
    column("before", "amount_before", right=True),
    column("after", "amount_after", right=True),
    column("difference", right=True),
    column("currency"),
]
