"""One draw request in the making: the changes and the sides of a batch that fall into one bucket."""

from __future__ import annotations

from typing import Any

import msgspec

from rater.core.bucket.messages import ClientWrite, DrawItem, DrawRequest, Due, Use
from rater.core.catalog.codes import RateText
from rater.core.cdr import CALLS
from rater.core.clients.changes import Change
from rater.core.clients.views import ClientView
from rater.core.journal.outcomes import Kept, KeptChange, Tables, kept_change, pack_changes, pack_rows
from rater.core.line.batch import Record, Side, Standing
from rater.core.rating import duplicates, pricing
from rater.core.rating import transaction as transaction_module
from rater.core.rating.matching import Matched, Terms, fields_of


class _Numbered:
    """A client of a call: its place among the uses, and its counter fields as the call numbers them."""

    __slots__ = ("fields", "use")

    def __init__(self, use: int) -> None:
        self.use = use
        self.fields: dict[str, int] = {}


class Call:
    """One draw call in the making: the sides of a batch that fall into one bucket."""

    def __init__(self) -> None:
        self.sides: list[Side] = []
        self.uses: list[Use] = []
        self.items: list[Any] = []
        self.accounts: list[tuple[str, str]] = []
        self.changes: list[KeptChange] = []
        self.due: list[Due] = []
        """What the bucket answered as due, when the call was made last."""
        self._writes: list[ClientWrite] = []
        self._tables = Tables()
        self._rows: list[Kept] = []
        """What is kept of the sides."""
        self._of: dict[str, _Numbered] = {}
        self._last: Record | None = None
        self._last_use = -1

    def add(
        self, side: Side, client: ClientView, priced: pricing.Priced, matched: Matched,
        terms_of: tuple[Terms, msgspec.Raw], rate: RateText, key: bytes, content: bytes,
    ) -> None:  # fmt: skip
        """Add a side: what it may draw from and what it costs."""
        terms, packed = terms_of
        record, cdr = side.record, side.cdr
        assert cdr is not None  # noqa: S101 - decoded before it came here
        of, tables = self._of.get(client.id), self._tables
        if of is None:
            of = self._of[client.id] = _Numbered(len(self.uses))
            self.uses.append(Use(client.id, client.version, client.credit_limit, []))
        use = of.use
        # The fields are those of this side's own periods: another call of the client may be in others.
        asked = transaction_module.asked_of(matched, fields_of(matched.parts, terms.packages), of.fields)
        same_record = record is self._last and use == self._last_use
        self._last, self._last_use = record, use
        keyed = duplicates.key_of(key, client.crc)
        self.items.append(
            DrawItem(
                use, keyed, content, priced.billed, priced.cost, same_record, asked, matched.cut, older=key
            )
        )
        source, name, caller = (cdr.source, cdr.id, cdr.caller) if cdr.plain else transaction_module.said(cdr)
        side.terms, side.rate, side.parts = terms, rate, matched.parts
        row = side.kept = Kept(
            side.index, source, name, cdr.at_ms, caller, cdr.called,
            cdr.duration_ms if cdr.service == CALLS else cdr.volume,  # type: ignore[arg-type]
            priced.billed, priced.why, priced.fx,
            tables.topic(side.topic), record.offset, record.timestamp, keyed, content,
            tables.number(packed, tables.terms), tables.number(rate, tables.rates),
            tables.number(matched.packed, tables.parts),
        )  # fmt: skip
        self._rows.append(row)
        self.sides.append(side)

    def change(self, change: Change, topic: str, record: Record, index: int) -> None:
        """Add a change that a record asks for: it is carried out before the sides."""
        self._writes.append(change.write)
        self.changes.append(kept_change(change, topic, record, index))

    def request(self, standing: Standing, token: int, call: int, trim: int, floor: int) -> DrawRequest:
        """Return the call as the store takes it."""
        for use, of in zip(self.uses, self._of.values(), strict=True):
            use.fields = list(of.fields)
        context = pack_rows(self._tables, self._rows) if self._rows else b""
        if self.changes:
            context = pack_changes(self.changes, context)
        return DrawRequest(
            lane=standing.lane, token=token, call=call, lane_ms=standing.lane_ms,
            generation=standing.lane_ms // standing.generation_ms, trim=trim, floor=floor,
            changes=self._writes, accounts=self.accounts, uses=self.uses, items=self.items,
            context=context, contextless=not context,
        )  # fmt: skip


Calls = dict[int, Call]
"""Bucket → call."""
