"""Moments and spans on the command line: RFC 3339, a date, 2h; shown to the second."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

import click

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Moment(click.ParamType[int]):
    """Milliseconds since the epoch, from text."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the moment; fails with a sentence."""
        if isinstance(value, int):
            return value
        text = str(value).strip()
        if ago := _SPAN.fullmatch(text):
            return time.time_ns() // 1_000_000 - int(ago[1]) * _SECONDS[ago[2]] * 1000
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            self.fail(
                f"{text!r} is no time: write 2026-11-03T10:00:00Z, 2026-11-03, or 30m, 2h, 7d (ago)",
                param,
                ctx,
            )
        if at.tzinfo is None:
            if len(text) > len("2026-11-03"):
                self.fail(f"{text!r} has no offset: add Z for UTC, or +02:00", param, ctx)
            at = at.replace(tzinfo=UTC)
        return int(at.timestamp()) * 1000 + at.microsecond // 1000


MOMENT = Moment()


class When(click.ParamType[str]):
    """A date, which is 00:00 at the client, or an instant in whole seconds, as catalog files spell them."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return the date or instant in its one spelling; fails with a sentence."""
        from rater.core.periods import canonical_when  # noqa: PLC0415 - `rater --help` needs none of it

        text = str(value).strip()
        if _SPAN.fullmatch(text):
            at_s = MOMENT.convert(text, param, ctx) // 1000
            return datetime.fromtimestamp(at_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        try:
            return canonical_when(text)
        except ValueError as error:
            self.fail(f"{text!r}: {error}, or 30m, 2h, 7d (ago)", param, ctx)


WHEN = When()


class Span(click.ParamType[int]):
    """Seconds, from text such as 30s, 10m, 1h, 1d."""

    name = "span"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the seconds; fails with a sentence."""
        if isinstance(value, int):
            return value
        span = _SPAN.fullmatch(str(value).strip())
        if span is None or not int(span[1]):
            self.fail(f"{str(value)!r} is no span of time: write 30s, 10m, 1h or 1d", param, ctx)
        return int(span[1]) * _SECONDS[span[2]]


SPAN = Span()


def shown_time(text: object) -> str:
    """Return an RFC 3339 time in UTC as people read it: to the second, with a blank between date and time."""
    return str(text or "")[:19].replace("T", " ")
