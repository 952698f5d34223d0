"""Commands that read topics, the newest record first: transactions, rejected."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rater.cli.options import find_source, invocation, limit_option, pulled, run, settings_options
from rater.cli.printing import ROWS_AT_ONCE, Column, Row, column, is_terminal, print_rows, progress, say
from rater.cli.times import MOMENT, shown_time
from rater.core.instants import rfc3339
from rater.core.kinds import TransactionType

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.reasons import Reason
    from rater.queries.rejected import Rejected
    from rater.queries.transactions import Published

# Imports inside of functions: `rater --help` must not wait for Kafka's client library.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

_T = TypeVar("_T")

_TYPES = [of.value for of in TransactionType]

SINCE = click.option(
    "--since", type=MOMENT, help="Not older than this: RFC 3339, a date (UTC), or 30m, 2h, 7d ago."
)
UNTIL = click.option("--until", type=MOMENT, help="Older than this, in the same forms.")


@click.command()
@click.option("--client", metavar="ID", help="Of this client only.")
@click.option("--type", "kind", type=click.Choice(_TYPES), help="Of this type only.")
@SINCE
@UNTIL
@limit_option(20)
@settings_options(prints=True)
def transactions(
    client: str | None, kind: str | None, since: int | None, until: int | None, limit: int
) -> None:
    """List money movements, the newest first. Times of --since and --until are those of rating.

    Amounts are seen from the client's balance: what is paid for a call is negative. What was reversed is left
    out, and so are reversals, which come to 0 together; --type reversal lists these.

    \b
    Examples:
      rater transactions
      rater transactions --client 42 --limit 10
      rater transactions --type usage --since 2h --limit 0 --json
    """
    from rater.app import kafka_client, topics_of
    from rater.queries import transactions as queries

    settings = invocation().settings()

    def ask(passed: Callable[[int], None]) -> AsyncIterator[Published]:
        return queries.transactions(
            kafka_client(settings), topics_of(settings), client=client,
            of_type=None if kind is None else TransactionType(kind),
            reversals=kind == TransactionType.REVERSAL,
            since_ms=since, until_ms=until, limit=limit, passed=passed,
        )  # fmt: skip

    found = _found(settings, settings.topic("transactions"), ask, limit)
    count = print_rows(
        map(transaction_row, found), TRANSACTION, as_json=invocation().json,
        nothing="there is no such transaction",
    )  # fmt: skip
    if not 0 < limit <= count:  # all there is was looked through
        begins_ms = run(queries.begins_ms(kafka_client(settings), topics_of(settings)), settings)
        if begins_ms is not None and (since is None or since < begins_ms):
            say(f"the journal begins at {rfc3339(begins_ms)}: what was published before is gone by retention")


def transaction_row(one: Published) -> Row:
    """Return a transaction as it was published; what is none, as text."""
    if one.transaction is None:
        return {"unreadable": one.raw.decode("utf-8", "replace")}
    return one.transaction


def _what(row: Row) -> str:
    if row.get("type") == TransactionType.USAGE:
        return str(row.get("code_name") or row.get("code") or row.get("why") or "")
    return str(row.get("package_name") or row.get("reason") or row.get("id") or "")


def draws_of(row: Row) -> str:
    """Return what a transaction took from packages, as text."""
    draws = row.get("draws")
    return ", ".join(map(_draw, draws)) if isinstance(draws, list) else ""


def _draw(draw: Any) -> str:
    if not isinstance(draw, dict):  # whoever wrote this record, it is shown
        return str(draw)
    unit = f" {draw['currency']}" if draw.get("currency") else ""
    return f"{draw.get('taken')}{unit} of {draw.get('package_name')} ({draw.get('left')} left)"


def _colour(row: Row) -> str:
    return "green" if not str(row.get("amount", "")).startswith("-") else ""


TRANSACTION = [
    Column("at", lambda row: shown_time(row.get("at"))),
    column("client"),
    column("account"),
    column("type"),
    column("side"),
    column("called"),
    Column("what", _what),
    column("billed", right=True),
    Column("from packages", draws_of),
    Column("amount", lambda row: str(row.get("amount", "")), right=True, style=_colour),
    column("currency"),
]


@click.group()
def rejected() -> None:
    """Records that could not be rated."""


@rejected.command("list")
@click.option("--reason", metavar="REASON", help="Of this reason only, for example client_unknown.")
@click.option("--source", "name", metavar="NAME", help="Of this source of the settings only, or `default`.")
@SINCE
@UNTIL
@limit_option(20)
@settings_options(prints=True)
def rejected_list(
    reason: str | None, name: str | None, since: int | None, until: int | None, limit: int
) -> None:
    """List rejected sides and records, the newest first: why, where they came from, and the value to blame.

    \b
    Examples:
      rater rejected list
      rater rejected list --reason rate_missing --since 7d --limit 0
      rater rejected list --source pbx1 --json
    """
    from rater.app import kafka_client, topics_of
    from rater.queries import rejected as queries

    settings = invocation().settings()
    wanted = reason_of(reason)
    topic = find_source(settings, name).topic if name is not None else None
    sources = {source.topic: known for known, source in settings.all_sources().items()}

    def ask(passed: Callable[[int], None]) -> AsyncIterator[Rejected]:
        return queries.rejected(
            kafka_client(settings), topics_of(settings), sources,
            reason=wanted, source_topic=topic,
            since_ms=since, until_ms=until, limit=limit, passed=passed,
        )  # fmt: skip

    found = _found(settings, settings.topic("rejected"), ask, limit)
    print_rows(map(rejected_row, found), REJECTED, as_json=invocation().json, nothing="nothing was rejected")


def reason_of(text: str | None) -> Reason | None:
    """Return the reason that was asked for, None: none was. Raises BadParameter for what is none."""
    from rater.core.reasons import Reason

    if text is not None and text not in set(Reason):
        raise click.BadParameter(f"{text} is no reason; there are {', '.join(Reason)}", param_hint="--reason")
    return None if text is None else Reason(text)


REJECTED = [
    Column("at", lambda row: shown_time(row["at"])),
    column("reason"),
    column("side"),
    Column("source", lambda row: str(row["source"] or row["topic"] or "")),
    Column("where", lambda row: f"{row['partition']}@{row['offset']}", right=True),
    column("value"),
    column("detail"),
]


def rejected_row(one: Rejected) -> Row:
    """Return a rejected record as it is shown: the original bytes as text where they are, else in base64."""
    from rater.core.sources.values import TIME_MS_MAX

    return {
        "at": rfc3339(one.at_ms) if 0 <= one.at_ms <= TIME_MS_MAX else None,
        "reason": one.reason,
        "side": one.side,
        "detail": one.detail,
        "value": one.value,
        "source": one.source,
        "topic": one.topic,
        "partition": one.partition,
        "offset": one.offset,
        "catalog": one.catalog,
        "attempt": one.attempt,
        **as_text(one.record),
    }


def as_text(raw: bytes | None) -> dict[str, str | None]:
    """Return a record as members of a row: the bytes as text where they are, else in base64."""
    if raw is None:
        return {"record": None}
    try:
        return {"record": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"record_base64": base64.b64encode(raw).decode("ascii")}


def _found(
    settings: Settings,
    topic: str,
    ask: Callable[[Callable[[int], None]], AsyncIterator[_T]],
    limit: int,
) -> Iterator[_T]:
    """Yield what is found in a topic, as it is found, and show how much was looked through."""
    # Not where rows come out while it goes on: the two would write over each other.
    quiet = is_terminal() and (invocation().json or not 0 < limit <= ROWS_AT_ONCE)
    with nullcontext(lambda _: None) if quiet else progress(f"reading {topic}", None) as passed:
        yield from pulled(settings, ask(passed))
