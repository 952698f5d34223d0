"""Commands that read topics, the newest record first: transactions, rejected."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click

from rater.cli.asking import invocation, limit_option, pulled, settings_options
from rater.cli.moments import MOMENT, shown_time
from rater.cli.telling import ROWS_AT_ONCE, Column, Row, column, is_terminal, print_rows, progress

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.stream.browsing import Seen

# Imports inside of functions: `rater --help` must not wait for Kafka's client library.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301

TYPES = ("usage", "activation_fee", "subscription_fee", "refund", "adjustment", "reversal")

_DIGITS_MAX = 18
_DEPTH_MAX = 50

_SINCE = click.option(
    "--since", type=MOMENT, help="Not older than this: RFC 3339, a date (UTC), or 30m, 2h, 7d ago."
)
_UNTIL = click.option("--until", type=MOMENT, help="Older than this, in the same forms.")


@click.command()
@click.option("--client", metavar="ID", help="Of this client only.")
@click.option("--type", "kind", type=click.Choice(TYPES), help="Of this type only.")
@_SINCE
@_UNTIL
@limit_option(20)
@settings_options(prints=True)
def transactions(
    client: str | None, kind: str | None, since: int | None, until: int | None, limit: int
) -> None:
    """List money movements, the newest first. Times of --since and --until are those of rating.

    Amounts are seen from the client's balance: what is paid for a call is negative.

    \b
    Examples:
      rater transactions
      rater transactions --client 42 --limit 10
      rater transactions --type usage --since 2h --limit 0 --json
    """
    settings = invocation().settings()

    def take(seen: Seen) -> Row | None:
        if seen.value is None or (client is not None and seen.key != client.encode()):
            return None
        row = _object(seen.value)
        return row if kind is None or row.get("type") == kind else None

    found = _found(settings, settings.topic("transactions"), take, since, until, limit)
    print_rows(found, _TRANSACTION, as_json=invocation().json, nothing="there is no such transaction")


def _what(row: Row) -> str:
    if row.get("type") == "usage":
        return str(row.get("code_name") or row.get("code") or row.get("why") or "")
    return str(row.get("package_name") or row.get("reason") or row.get("id") or "")


def _draws(row: Row) -> str:
    draws = row.get("draws")
    return ", ".join(map(_draw, draws)) if isinstance(draws, list) else ""


def _draw(draw: Any) -> str:
    if not isinstance(draw, dict):  # whoever wrote this record, it is shown
        return str(draw)
    unit = f" {draw['currency']}" if draw.get("currency") else ""
    return f"{draw.get('taken')}{unit} of {draw.get('package_name')} ({draw.get('left')} left)"


def _colour(row: Row) -> str:
    return "green" if not str(row.get("amount", "")).startswith("-") else ""


_TRANSACTION = [
    Column("at", lambda row: shown_time(row.get("at"))),
    column("client"),
    column("account"),
    column("type"),
    column("side"),
    column("called"),
    Column("what", _what),
    column("billed", right=True),
    Column("from packages", _draws),
    Column("amount", lambda row: str(row.get("amount", "")), right=True, style=_colour),
    column("currency"),
]


@click.group()
def rejected() -> None:
    """Records that could not be rated."""


@rejected.command("list")
@click.option("--reason", metavar="REASON", help="Of this reason only, for example client_unknown.")
@click.option("--source", "name", metavar="NAME", help="Of this source of the settings only, or `default`.")
@_SINCE
@_UNTIL
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
    from rater.cli.files import find_source
    from rater.core.reasons import Reason

    settings = invocation().settings()
    if reason is not None and reason not in set(Reason):
        raise click.BadParameter(
            f"{reason} is no reason; there are {', '.join(Reason)}", param_hint="--reason"
        )
    topic = find_source(settings, name).topic if name is not None else None
    sources = {source.topic: known for known, source in settings.all_sources().items()}

    def take(seen: Seen) -> Row | None:
        row = _rejected(seen, sources)
        if reason not in (None, row["reason"]) or topic not in (None, row["topic"]):
            return None
        return row

    found = _found(settings, settings.topic("rejected"), take, since, until, limit)
    print_rows(found, _REJECTED, as_json=invocation().json, nothing="nothing was rejected")


_REJECTED = [
    Column("at", lambda row: shown_time(row["at"])),
    column("reason"),
    column("side"),
    Column("source", lambda row: str(row["source"] or row["topic"] or "")),
    Column("where", lambda row: f"{row['partition']}@{row['offset']}", right=True),
    column("value"),
    column("detail"),
]


def _rejected(seen: Seen, sources: dict[str, str]) -> Row:
    from rater.core.instants import rfc3339
    from rater.core.sources.values import TIME_MS_MAX

    headers = {name: (raw or b"").decode("utf-8", "replace") for name, raw in seen.headers}
    topic = headers.get("source_topic")
    return {
        "at": rfc3339(seen.at_ms) if 0 <= seen.at_ms <= TIME_MS_MAX else None,
        "reason": headers.get("reason", ""),
        "side": headers.get("side") or None,
        "detail": headers.get("detail", ""),
        "value": headers.get("value", ""),
        "source": sources.get(topic or ""),
        "topic": topic,
        "partition": _whole(headers.get("source_partition")),
        "offset": _whole(headers.get("source_offset")),
        "catalog": _whole(headers.get("catalog")),
        "attempt": _whole(headers.get("attempt")),
        **_record(seen.value),
    }


def _record(raw: bytes | None) -> dict[str, str | None]:
    """Return the original bytes: as text where they are, else in base64."""
    if raw is None:
        return {"record": None}
    try:
        return {"record": raw.decode("utf-8")}
    except UnicodeDecodeError:
        return {"record_base64": base64.b64encode(raw).decode("ascii")}


def _whole(text: str | None) -> int | str | None:
    return int(text) if text and text.isdecimal() and len(text) <= _DIGITS_MAX else text or None


def _object(raw: bytes) -> dict[str, Any]:
    import orjson

    try:
        found = orjson.loads(raw)
    except orjson.JSONDecodeError:
        found = None
    if not isinstance(found, dict) or _is_deep(found):
        return {"unreadable": raw.decode("utf-8", "replace")}
    return found


def _is_deep(value: Any) -> bool:
    """Return whether a value is nested deeper than anything of ours, and maybe than can be printed."""
    level = [value]
    for _ in range(_DEPTH_MAX):
        level = [
            of
            for one in level
            for of in (one.values() if isinstance(one, dict) else one)
            if isinstance(of, dict | list)
        ]
        if not level:
            return False
    return True


def _found(
    settings: Settings,
    topic: str,
    take: Callable[[Seen], Row | None],
    since: int | None,
    until: int | None,
    limit: int,
) -> Iterator[Row]:
    """Yield what `take` makes of records, the newest first; as they are found, for all may be millions."""
    from rater.app import kafka_client
    from rater.stream.browsing import newest

    partitions = range(settings.topics.partitions)

    async def rows(passed: Callable[[int], None]) -> AsyncIterator[Row]:
        count = 0
        seen_all = newest(
            kafka_client(settings), topic, partitions, since_ms=since, until_ms=until, passed=passed
        )
        async for seen in seen_all:
            row = take(seen)
            if row is not None:
                yield row
                count += 1
                if count == limit:
                    return

    # Not where rows come out while it goes on: the two would write over each other.
    quiet = is_terminal() and (invocation().json or not 0 < limit <= ROWS_AT_ONCE)
    with nullcontext(lambda _: None) if quiet else progress(f"reading {topic}", None) as passed:
        yield from pulled(settings, rows(passed))
