"""What a deck changes in a rate table: as it is in force, as it is scheduled, and as it will be.

Rows of a table are never rewritten before the day from which the deck says something else: what held until
then is closed on that day (CONTRACTS.md, Decks).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from rater.core.catalog.codes import Row
from rater.core.decks.profile import INCREMENT, Profile
from rater.core.decks.reading import DeckRow, RateDeck
from rater.core.instants import BEGINNING_MS

Kind = Literal[
    "new", "dearer", "cheaper", "changed", "unchanged", "closed", "blocked", "lost", "withdrawn", "stays",
    "absent", "older",
]  # fmt: skip
KINDS: dict[str, str] = {
    "new": "codes that the table does not have",
    "dearer": "prices that rise",
    "cheaper": "prices that fall",
    "changed": "prices that stay, with another fee, increment or date",
    "unchanged": "what the table says already",
    "closed": "codes that end",
    "blocked": "codes that are not served: they end",
    "lost": "codes that a full deck does not have: they end",
    "withdrawn": "rows for later that a full deck does not have: they are removed",
    "stays": "codes that a partial deck does not have: they stay",
    "absent": "codes that end, and that the table does not have",
    "older": "rows of a day before the ones that the table has: those go on",
}
"""What may become of a code, and how people are told."""
SILENT = frozenset({"unchanged", "stays"})
"""Are counted and not listed."""


class Change(Struct, gc=False):
    """What becomes of one code from an instant on (None: from the beginning).

    before, after: the rows that hold without and with the deck; None: none. row, name: of the deck; 0 and
    None: none. moved: the price moves by more than the profile's bound. falls_to: the shorter code by which
    calls are rated then, of a code that ends; None: none. doubt: the deck's status says something else than
    its price.
    """

    kind: Kind
    code: str
    from_ms: int | None
    before: Row | None
    after: Row | None
    row: int
    name: str | None
    moved: bool = False
    falls_to: str | None = None
    doubt: bool = False


class Difference(NamedTuple):
    """The table's rows as they will be, what changes, and how often each kind."""

    rows: list[Row]
    changes: list[Change]
    counts: Counter[str]
    without_increment: int
    """New codes of which neither deck nor profile says an increment: billed by the second."""


def difference(old: Sequence[Row] | None, deck: RateDeck, profile: Profile, now_ms: int) -> Difference:
    """Return what a deck changes in a table's rows at an instant; None: a table that is made now."""
    return _Comparing(old, deck, profile, now_ms).result()


class _Comparing:
    def __init__(self, old: Sequence[Row] | None, deck: RateDeck, profile: Profile, now_ms: int) -> None:
        self.is_new, self.deck, self.profile, self.now_ms = old is None, deck, profile, now_ms
        self.old = {code: list(rows) for code, rows in groupby(old or (), key=lambda row: row.code)}
        self.new = dict(self.old)
        self.changes: list[Change] = []
        self.counts: Counter[str] = Counter()
        self.without_increment = 0
        found = INCREMENT.fullmatch(profile.increment or "")
        self.increment = (int(found[1]), int(found[2])) if found is not None else None

    def result(self) -> Difference:
        """Compare all codes."""
        for code, rows in groupby(self.deck.rows, key=lambda row: row.code):
            self._code(code, list(rows))
        named = {row.code for row in self.deck.rows}
        if self.profile.kind == "full":
            begin_ms = self._deck_begins()
            for code, held in self.old.items():
                if code not in named:
                    self._lost(code, held, begin_ms)
        else:
            stay = sum(self._goes_on(rows) for code, rows in self.old.items() if code not in named)
            self.counts["stays"] += stay
        for change in self.changes:
            if change.kind in {"closed", "blocked", "lost"}:
                change.falls_to = self._shorter(change.code, change.from_ms)
        self.old = {}  # of large tables 50 MB
        out = [row for code in sorted(self.new) for row in self.new[code]]
        return Difference(out, self.changes, self.counts, self.without_increment)

    def _goes_on(self, rows: list[Row]) -> bool:
        """Return whether a code has a row now or later."""
        return rows[-1].to_ms is None or rows[-1].to_ms > self.now_ms

    def _deck_begins(self) -> int:
        """Return from when a full deck holds: its first day to come, else now.

        Rows that stay have days of long ago, which say nothing of when the deck begins.
        """
        days = map(self._since, self.deck.rows)
        return min((day for day in days if day > self.now_ms), default=self.now_ms)

    def _since(self, row: DeckRow) -> int:
        """Return the begin of a deck's row; one without date holds from now on, in a new table always."""
        if row.from_ms is not None:
            return row.from_ms
        return BEGINNING_MS if self.is_new else self.now_ms

    def _shorter(self, code: str, at_ms: int | None) -> str | None:
        since = self.now_ms if at_ms is None else at_ms
        for length in range(len(code) - 1, 0, -1):
            if _at(self.new.get(code[:length], ()), since) is not None:
                return code[:length]
        return None

    # ------------------------------------------------------------------------------------------ one code
    def _code(self, code: str, said: list[DeckRow]) -> None:
        said.sort(key=self._since)
        old = self.old.get(code, [])
        rows = old
        if old:
            past = [row for row in said if self._since(row) <= self.now_ms]
            said = [*past[-1:], *said[len(past) :]]  # what it says of before its last row is over
        if self.profile.kind == "full":
            days = {self._since(row) for row in said}
            rows = [row for row in old if row.begin_ms <= self.now_ms or row.begin_ms in days]
            for late in old:
                if late.begin_ms > self.now_ms and late.begin_ms not in days:
                    self._note("withdrawn", code, late.begin_ms, late, _at(rows, late.begin_ms), said[0])
        for row, after in zip(said, [*said[1:], None], strict=True):
            until = None if after is None else self._since(after)
            rows = self._row(code, row, until, old, rows)
        self.new[code] = rows
        if not rows:
            del self.new[code]

    def _row(self, code: str, said: DeckRow, until: int | None, old: list[Row], rows: list[Row]) -> list[Row]:
        """Return the code's rows with what the deck says of it; until: the begin of its next row."""
        since = self._since(said)
        is_older = self.profile.kind == "partial" and any(since < row.begin_ms <= self.now_ms for row in rows)
        at_ms = since if is_older else max(since, self.now_ms)
        present = _at(rows, at_ms)
        before = _at(old, at_ms) if old else present
        kept = [_cut(row, since) for row in rows if row.begin_ms < since]
        later = [row for row in rows if row.begin_ms > at_ms]
        if said.price_e10 is None:
            return self._end(code, said, before, rows, [*kept, *later] if is_older else kept)
        made = self._made(code, said, before or present or (old[-1] if old else None))
        if present is not None and present.terms == made.terms and _lasts(present, made, until, rows):
            self.counts["unchanged"] += 1
            return rows
        self.counts["later"] += bool(later) and self.profile.kind == "partial" and not is_older
        if is_older:
            self._note("older", code, since, before, made, said)
        elif _at([made], at_ms) is None:
            self._note("closed", code, since, before, None, said)
        else:
            self._note(_kind(before, made), code, since, before, made, said)
            if before is None and said.interval is None and self.increment is None:
                self.without_increment += 1
        return [*kept, made, *later]

    def _end(
        self, code: str, said: DeckRow, before: Row | None, rows: list[Row], kept: list[Row]
    ) -> list[Row]:
        """Return the rows of a code that ends: those that are kept."""
        since = self._since(said)
        after = [row for row in rows if row.begin_ms > since]
        if before is None and not after:
            if rows:  # ended before
                self.counts["unchanged"] += 1
            else:
                self._note("absent", code, since, None, None, said)
            return rows
        kind: Kind = "blocked" if said.status == "blocked" else "closed"
        if len(kept) > sum(row.begin_ms < since for row in rows):
            kind = "older"
        self._note(kind, code, since, before or after[0], None, said)
        return kept

    def _lost(self, code: str, rows: list[Row], begin_ms: int) -> None:
        kept = [_cut(row, begin_ms) for row in rows if row.begin_ms < begin_ms]
        if kept == rows:
            return
        before = _at(rows, begin_ms) or rows[-1]
        self._note("lost", code, begin_ms, before, None, None)
        self.new[code] = kept
        if not kept:
            del self.new[code]

    def _made(self, code: str, said: DeckRow, like: Row | None) -> Row:
        """Return the row; what the deck does not say is as it was, of a new code as the profile says."""
        first, interval = said.min_time, said.interval
        if like is not None:
            first = like.min_time if first is None else first
            interval = like.interval if interval is None else interval
        elif self.increment is not None:
            first = self.increment[0] if first is None else first
            interval = self.increment[1] if interval is None else interval
        fee = said.setup_fee_e10
        if fee is None:
            fee = 0 if like is None else like.setup_fee_e10
        since = self._since(said)
        return Row(
            code, said.price_e10 or 0, fee, first or 0, interval or 1, 0 if like is None else like.grace_time,
            None if since == BEGINNING_MS else since, said.to_ms,
        )  # fmt: skip

    def _note(
        self, kind: Kind, code: str, since: int, before: Row | None, after: Row | None, said: DeckRow | None
    ) -> None:
        self.counts[kind] += 1
        moved = before is not None and after is not None and self._moved(before.price_e10, after.price_e10)
        self.counts["moved"] += moved
        doubt = said is not None and not self.is_new and _doubtful(said.status, kind)
        self.counts["doubtful"] += doubt
        at = None if since == BEGINNING_MS else since
        row, name = (0, None) if said is None else (said.row, said.name)
        self.changes.append(Change(kind, code, at, before, after, row, name, moved=moved, doubt=doubt))

    def _moved(self, before: int, after: int) -> bool:
        return abs(after - before) * 100 > self.profile.move_percent * abs(before)


def _at(rows: Iterable[Row], at_ms: int) -> Row | None:
    """Return the row that holds at an instant (RULES.md 2, step 4); rows by their begin."""
    found = None
    for row in rows:
        if row.begin_ms <= at_ms:
            found = row
    return found if found is not None and (found.to_ms is None or at_ms < found.to_ms) else None


def _cut(row: Row, at_ms: int) -> Row:
    return row if row.to_ms is not None and row.to_ms <= at_ms else replace(row, to_ms=at_ms)


def _lasts(present: Row, made: Row, until: int | None, rows: Sequence[Row]) -> bool:
    """Return whether the row that holds ends when the deck's does, or goes over into the next.

    until: when the deck's next row of the code begins.
    """
    ends = [end for end in (made.to_ms, until) if end is not None]
    if present.to_ms in {made.to_ms, min(ends, default=None)}:
        return True
    return made.to_ms is None and any(row.begin_ms == present.to_ms for row in rows)


def _kind(before: Row | None, after: Row) -> Kind:
    if before is None:
        return "new"
    if after.price_e10 == before.price_e10:
        return "changed"
    return "dearer" if after.price_e10 > before.price_e10 else "cheaper"


_MEANS = {
    "new": {"new"},
    "increase": {"dearer"},
    "decrease": {"cheaper"},
    "unchanged": {"unchanged"},
}


def _doubtful(status: str | None, kind: str) -> bool:
    """Return whether the deck's word is another than its number."""
    return status in _MEANS and kind not in _MEANS[status] and kind != "withdrawn"


def named(changes: Sequence[Change], kind: str) -> Iterator[Change]:
    """Yield the changes of a kind; `moved` and `doubtful` go across the kinds."""
    for change in changes:
        if change.kind == kind or (kind == "moved" and change.moved) or (kind == "doubtful" and change.doubt):
            yield change
