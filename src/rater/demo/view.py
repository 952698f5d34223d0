"""The tally as a picture for the terminal (100 columns, 30 lines), and as lines where there is no terminal.

Calm on purpose: the same place for the same thing, a limit keeps its line until it has run out, numbers
change and nothing jumps. Colours underline what the text says already.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rater.core.commands.records import Event
from rater.core.kinds import EventType
from rater.demo.tally import Bar, Seen, Tally, missing_of, shown

WIDTH: Final = 100
HEIGHT: Final = 30
REFRESH_S: Final = 0.25
LINE_EVERY_S: Final = 2.0
"""Between two lines where there is no terminal."""

_FIXED_LINES = 17  # all but the bars, the events, the calls and the addresses
_HEIGHT_MAX = 50
_BAR_CELLS = 34
_KEEP_SPENT_S = 6.0  # a limit that has run out stays to be seen, then makes room
_REASONS = 5
_SPARK_CELLS = 24
_SPARKS = "▁▂▃▄▅▆▇█"
_WARN, _SPENT = 0.75, 0.999


class Started(NamedTuple):
    """Something that was started."""

    what: str
    where: str


class View:
    """Draws the tally; keeps only what is needed for calm: which limit stands in which line."""

    def __init__(self, started: Sequence[Started], names: Mapping[str, str]) -> None:
        """Show these servers and processes; names: client id → name."""
        self.started = list(started)
        self.message = ""
        self._names = names
        self._slots: list[tuple[str, int, str] | None] = []
        self._spent_at: dict[tuple[str, int, str], float] = {}

    def picture(self, tally: Tally, now: float, elapsed_s: float, height: int = HEIGHT) -> RenderableType:
        """Return the picture; `now` is of a steady clock, in seconds."""
        free = max(height - _FIXED_LINES - len(self.started), 3)
        bars = events = free // 3
        return Group(
            self._head(elapsed_s),
            Text(),
            _servers(self.started),
            Text(),
            _numbers(tally),
            Text(),
            _heading("Limits", "a call draws from the packages of its client until they have run out"),
            self._bars(tally, now, bars),
            Text(),
            _heading("Latest calls", "client, destination, package that paid, length, what is charged"),
            self._calls(tally, free - bars - events),
            Text(),
            _heading("Life of packages", "activated, renewed, waiting for funds, topped up, stopped"),
            self._events(tally, events),
            Text(),
            Text(self.message or "Ctrl-C ends everything and leaves nothing behind", style="dim"),
        )

    def _head(self, elapsed_s: float) -> RenderableType:
        line = _grid(("left", 1), ("right", 1))
        minutes, seconds = divmod(int(elapsed_s), 60)
        line.add_row(
            Text.assemble(("rater", "bold cyan"), ("  a carrier's calls, rated as they end", "dim")),
            Text(f"{minutes}:{seconds:02d}", style="dim"),
        )
        return line

    # ------------------------------------------------------------------ limits
    def _bars(self, tally: Tally, now: float, lines: int) -> RenderableType:
        table = _grid(("left", 24), ("left", 17), ("left", _BAR_CELLS), ("right", 23))
        for key in self.chosen(tally, now, lines):
            if key is None:
                table.add_row("", "", "", "")
                continue
            bar = tally.bars[key]
            table.add_row(
                Text(self._names.get(bar.client, bar.client)),
                Text(bar.package, style="dim"),
                _bar(bar),
                _left(bar),
            )
        return table

    def chosen(self, tally: Tally, now: float, lines: int) -> list[tuple[str, int, str] | None]:
        """Return the limit of each line: the same as before, but where one has been spent for a while."""
        slots = [*self._slots, *[None] * lines][:lines]
        for index, key in enumerate(slots):
            if key is None or tally.bars[key].left > 0:
                continue
            if now - self._spent_at.setdefault(key, now) > _KEEP_SPENT_S:
                slots[index] = None
        if None in slots:
            fresh = self._next(tally, set(slots))
            slots = [next(fresh, None) if key is None else key for key in slots]
        self._slots = slots
        return slots

    def _next(self, tally: Tally, taken: set[tuple[str, int, str] | None]) -> Iterator[tuple[str, int, str]]:
        """Yield limits that are running out, the busiest of them first."""
        candidates = [
            (bar.used > 0.9, -bar.used * min(bar.draws, 8), key)  # noqa: PLR2004 - nearly spent ones would flash by
            for key, bar in tally.bars.items()
            if bar.left > 0 and key not in taken
        ]
        return (key for _, _, key in sorted(candidates))

    # ------------------------------------------------------------------ calls
    def _calls(self, tally: Tally, lines: int) -> RenderableType:
        table = _grid(("left", 9), ("left", 22), ("left", 24), ("left", 18), ("right", 7), ("right", 14))
        latest = list(tally.latest)[:lines]
        for seen in latest:
            table.add_row(*self._call(seen))
        for _ in range(lines - len(latest)):
            table.add_row(*[""] * 6)
        return table

    def _call(self, seen: Seen) -> tuple[Text, ...]:
        taken = ", ".join(dict.fromkeys(draw.package_name for draw in seen.draws))
        name = self._names.get(seen.client, seen.client)
        return (
            Text(seen.at[11:19], style="dim"),
            Text(name),
            Text(seen.code_name or seen.service, style="dim"),
            Text(taken, style="cyan"),
            Text(_amount_of_use(seen), style="dim"),
            _money(seen),
        )

    # ------------------------------------------------------------------ events
    def _events(self, tally: Tally, lines: int) -> RenderableType:
        table = _grid(("left", 9), ("left", 22), ("left", 24), ("left", 1))
        latest = list(tally.latest_events)[:lines]
        for event in latest:
            table.add_row(
                Text(event.at[11:19], style="dim"),
                Text(_name_of(event, self._names)),
                Text(event.package_name or "", style="cyan"),
                Text(_told(event), style=_EVENT_STYLES.get(event.type, "")),
            )
        for _ in range(lines - len(latest)):
            table.add_row(*[""] * 4)
        return table


_EVENT_STYLES: Final = {
    EventType.CHARGE_PENDING.value: "yellow", EventType.CHARGE_CLEARED.value: "green",
    EventType.STOPPED.value: "red",
}  # fmt: skip


def event_line(event: Event, names: Mapping[str, str]) -> str:
    """Return an event of `SHOWN` as one line."""
    return f"{event.at[11:19]} {_name_of(event, names)}, {event.package_name}: {_told(event)}"


def _name_of(event: Event, names: Mapping[str, str]) -> str:
    client = event.client or ""
    return names.get(client, client)


def _told(event: Event) -> str:
    """Return what an event says, in a few words."""
    words = event.type.replace("_", " ")
    data = event.data if isinstance(event.data, dict) else {}
    if event.type == EventType.CHARGE_PENDING:
        lacks = f", {data.get('missing')} {data.get('currency')} missing" if missing_of(event) else ""
        return f"waits for {str(data.get('reason')).replace('_', ' ')}{lacks}"
    if event.type == EventType.STOPPED and "refunded" in data:
        return f"{words}, {data['refunded']} given back"
    return f"{words}, period {event.period}" if event.period else words


def _amount_of_use(seen: Seen) -> str:
    if seen.service == "calls":
        minutes, seconds = divmod(seen.billed, 60)
        return f"{minutes}:{seconds:02d}"
    return f"{seen.billed} msg" if seen.service == "messages" else f"{seen.billed:,} K"


def _money(seen: Seen) -> Text:
    style = "dim" if seen.amount == "0" else "green" if not seen.amount.startswith("-") else ""
    return Text(f"{seen.amount} {seen.currency}", style=style)


# ------------------------------------------------------------------------------------------- the other parts
def _grid(*columns: tuple[str, int]) -> Table:
    """Return a table without lines; columns: (justify, width, or a ratio where it is 1)."""
    grid = Table.grid(padding=(0, 1, 0, 0), expand=True)
    for justify, width in columns:
        ratio = width == 1
        grid.add_column(
            justify=justify,  # type: ignore[arg-type]  # "left" or "right"
            width=None if ratio else width,
            ratio=1 if ratio else None,
            no_wrap=True,
            overflow="ellipsis",
        )
    return grid


def _heading(title: str, more: str) -> RenderableType:
    return Text.assemble((title, "bold"), (f"  {more}", "dim"), no_wrap=True, overflow="ellipsis")


def _servers(started: Sequence[Started]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    for one in started:
        table.add_row(one.what, one.where)
    return table


def _numbers(tally: Tally) -> RenderableType:
    """Return three blocks side by side, each of a heading and five lines."""
    line = Table.grid(padding=(0, 3, 0, 0), expand=True)
    for _ in range(3):
        line.add_column(ratio=1, no_wrap=True)
    line.add_row(_flow(tally), _outcomes(tally), _reasons(tally))
    return line


def _flow(tally: Tally) -> RenderableType:
    rows = _block()
    rows.add_row("sides per second", Text(f"{tally.rate():,.0f}", style="bold cyan"))
    rows.add_row(Text(_spark(tally.rates()[-_SPARK_CELLS:]), style="cyan", no_wrap=True), "")
    rows.add_row("records sent", shown(tally.fed_records))
    rows.add_row("sides sent", shown(tally.fed_sides))
    rows.add_row("waiting in Kafka", _lag(tally))
    return Group(Text("Flow", style="bold"), rows)


def _lag(tally: Tally) -> Text:
    late = f" ({tally.lag_seconds:.1f} s)" if tally.lag_seconds >= 0.1 else ""  # noqa: PLR2004 - less is none
    return Text(f"{shown(tally.lag_records)}{late}")


def _outcomes(tally: Tally) -> RenderableType:
    rows = _block()
    total = max(tally.done, 1)
    numbers = (
        ("rated", tally.outcomes["rated"], "green"),
        ("zero", tally.outcomes["zero"], ""),
        ("seen before", tally.duplicates, "yellow"),
        ("rejected", tally.rejected.total(), "red"),
    )
    for name, number, style in numbers:
        rows.add_row(
            name, Text(f"{shown(number)} {100 * number / total:5.1f} %", style=style if number else "dim")
        )
    rows.add_row("accounted for", Text(shown(tally.done), style="bold"))
    return Group(Text("How sides ended", style="bold"), rows)


def _reasons(tally: Tally) -> RenderableType:
    rows = _block()
    found = sorted(tally.rejected.items(), key=lambda pair: (-pair[1], pair[0]))
    shown_ones = found[:_REASONS] if len(found) <= _REASONS else found[: _REASONS - 1]
    for reason, number in shown_ones:
        rows.add_row(Text(reason), shown(number))
    if len(found) > len(shown_ones):
        rest = found[len(shown_ones) :]
        rows.add_row(f"{len(rest)} other reasons", shown(sum(number for _, number in rest)))
    for _ in range(_REASONS - rows.row_count):
        rows.add_row("", "")
    return Group(Text("Why sides were rejected", style="bold"), rows)


def _block() -> Table:
    rows = Table.grid(padding=(0, 1, 0, 0), expand=True)
    rows.add_column(ratio=1, style="dim", no_wrap=True, overflow="ellipsis")
    rows.add_column(justify="right", no_wrap=True)
    return rows


def _spark(rates: Sequence[float]) -> str:
    top = max(rates, default=0.0)
    if not top:
        return ""
    return "".join(_SPARKS[min(int(rate / top * len(_SPARKS)), len(_SPARKS) - 1)] for rate in rates)


def _bar(bar: Bar) -> Text:
    """Return what is left as a bar that grows shorter; eighths of a cell make it glide."""
    part = min(max(1 - bar.used, 0.0), 1.0)
    eighths = round(part * _BAR_CELLS * 8)
    if part and not eighths:
        eighths = 1
    full, rest = divmod(eighths, 8)
    text = "█" * full + ("▏▎▍▌▋▊▉"[rest - 1] if rest else "")
    return Text.assemble((text, _colour(bar)), ("·" * (_BAR_CELLS - len(text)), "dim"))


def _colour(bar: Bar) -> str:
    if bar.used >= _SPENT:
        return "red"
    return "yellow" if bar.used >= _WARN else "green"


def _left(bar: Bar) -> Text:
    return Text("used up", style="red") if bar.left <= 0 else Text(bar.text())


# ------------------------------------------------------------------------------------------------- showing it
class Screen:
    """Shows it as it goes: on a terminal the picture, else a line now and then."""

    def __init__(
        self, view: View, tally: Tally, say: Callable[[str], None], console: Console | None = None
    ) -> None:
        """Show `tally` by `view`; `say` takes the lines where there is no terminal."""
        self._view, self._tally, self._say = view, tally, say
        self._console = console or Console(stderr=True)
        self._live: Live | None = None
        self._said_at = 0.0
        self._began: float | None = None

    @property
    def is_live(self) -> bool:
        """Tell whether there is a terminal that can show the picture."""
        return self._console.is_terminal and not self._console.is_dumb_terminal

    def show(self, now: float) -> None:
        """Show how it stands at `now`, in seconds of a steady clock."""
        if self._began is None:
            self._began = now
        elapsed = now - self._began
        if self.is_live:
            if self._live is None:
                self._live = Live(console=self._console, auto_refresh=False, screen=True)
                self._live.start()
            picture = self._view.picture(self._tally, now, elapsed, min(self._console.height, _HEIGHT_MAX))
            self._live.update(picture, refresh=True)
        elif now - self._said_at >= LINE_EVERY_S:
            self._said_at = now
            self._say(line(self._tally, elapsed))

    def tell(self, text: str) -> None:
        """Tell what the picture shows anyway, where there is none."""
        if not self.is_live:
            self._say(text)

    def close(self) -> None:
        """Give the terminal back."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def line(tally: Tally, elapsed_s: float) -> str:
    """Return how it stands as one line."""
    used_up = sum(bar.left <= 0 for bar in tally.bars.values())
    return (
        f"{elapsed_s:4.0f} s: {shown(tally.fed_records)} records sent, {tally.rate():,.0f} sides/s; "
        f"{shown(tally.outcomes['rated'])} rated, {shown(tally.outcomes['zero'])} zero, "
        f"{shown(tally.duplicates)} seen before, {shown(tally.rejected.total())} rejected; "
        f"{shown(used_up)} of {shown(len(tally.bars))} limits used up; "
        f"{shown(tally.lag_records)} waiting"
    )
