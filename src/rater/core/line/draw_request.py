"""One draw request in the making: the sides of a batch that fall into one bucket."""

from __future__ import annotations

import msgspec

from rater.core.bucket.messages import Apply, DrawItem, DrawRequest, ItemCandidate, Use
from rater.core.catalog.codes import NO_RATE, RateText
from rater.core.catalog.offers import LimitText
from rater.core.cdr import CALLS
from rater.core.clients.views import Opened
from rater.core.journal.outcomes import OutcomeEntry, OutcomeRow, pack_entries, pack_rows
from rater.core.journal.records import ApplyContext
from rater.core.line.batch import SIDE_NAME, Record, Side, Standing
from rater.core.rating.duplicates import content_of, key_of, older_key
from rater.core.rating.transaction import TransactionHead, head_of, names_of

_pack = msgspec.msgpack.Encoder().encode


class RequestBuilder:
    """Sides become items of a draw request, and rows that are kept with its outcome.

    What several rows share is kept once, and numbered: topics, heads of transactions, rates, limits.
    """

    def __init__(self) -> None:
        self.sides: list[Side] = []
        self.uses: list[Use] = []
        self.items: list[DrawItem] = []
        self.applies: list[Apply] = []
        self.accounts: list[tuple[str, str]] = []
        self.entries: list[OutcomeEntry] = []
        """What is kept of the applies."""
        self._rows: list[OutcomeRow] = []
        self._fields: dict[str, tuple[int, dict[str, int]]] = {}
        """Client → its place among the uses, and the numbers of its counters' fields there."""
        self._topics: dict[str, int] = {}
        self._heads: dict[tuple[str, str | None, int, str, Opened | None], int] = {}
        self._head_texts: list[TransactionHead] = []
        self._rates: dict[str, int] = {}
        self._rate_texts: list[RateText] = []
        self._limits: dict[tuple[LimitText, ...], int] = {}
        self._last: tuple[Record | None, int] = None, -1

    def add(self, side: Side, catalog: int) -> None:
        """Add a side that was identified, priced and matched by this version of the catalog."""
        record, cdr, party, view, priced = side.record, side.cdr, side.party, side.view, side.priced
        assert cdr is not None  # noqa: S101 - decoded before it came here
        assert party is not None  # noqa: S101 - the same
        assert view is not None  # noqa: S101 - identified before it came here
        assert priced is not None  # noqa: S101 - priced before it came here
        use, fields = self._use(side)
        packages = () if side.opened is None else side.opened.packages
        # The fields are those of this side's own periods: another call of the client may be in others.
        candidates = tuple([
            ItemCandidate(
                fields.setdefault(packages[one.group].field + one.text.field, len(fields)), one.size,
                one.group, one.money, one.waive, one.allow, one.cap, one.to_package, one.to_client,
            )
            for one in side.candidates
        ])  # fmt: skip
        same_record, self._last = self._last == (record, use), (record, use)
        older = older_key(cdr, side.index)
        key = key_of(older, view.crc)
        content = content_of(cdr, view.id, side.account, party.rate)
        self.items.append(
            DrawItem(
                use, key, content, priced.billed, priced.cost, same_record, candidates, side.cut, older=older
            )
        )
        side.limits = tuple([one.text for one in side.candidates])
        head, rate = self._head(side, catalog), self._rate(side)
        source, name, caller = names_of(cdr)
        side.row = OutcomeRow(
            side.index, source, name, cdr.at_ms, caller, cdr.called,
            cdr.duration_ms if cdr.service == CALLS else cdr.volume,  # type: ignore[arg-type]
            priced.billed, priced.why, priced.fx,
            self._topics.setdefault(side.topic, len(self._topics)), record.offset, record.timestamp, key,
            content, head, rate, self._limits.setdefault(side.limits, len(self._limits)),
        )  # fmt: skip
        side.head, side.rate_text = self._head_texts[head], self._rate_texts[rate]
        self._rows.append(side.row)
        self.sides.append(side)

    def _use(self, side: Side) -> tuple[int, dict[str, int]]:
        """Return the place of a side's client among the uses, and its counters' fields."""
        view = side.view
        assert view is not None  # noqa: S101 - identified before it came here
        found = self._fields.get(view.id)
        if found is None:
            found = self._fields[view.id] = len(self.uses), {}
            self.uses.append(Use(view.id, view.version, view.credit_limit, []))
        return found

    def _head(self, side: Side, catalog: int) -> int:
        """Return the number of what the side's transaction shares with others."""
        cdr, view = side.cdr, side.view
        assert cdr is not None  # noqa: S101 - decoded before it came here
        assert view is not None  # noqa: S101 - identified before it came here
        key = view.id, side.account, side.index, cdr.service, side.opened
        found = self._heads.get(key)
        if found is None:
            found = self._heads[key] = len(self._heads)
            name = SIDE_NAME[side.index]
            packages = () if side.opened is None else side.opened.packages
            head = head_of(view.id, view.currency, side.account, name, cdr.service, packages, catalog)
            self._head_texts.append(head)
        return found

    def _rate(self, side: Side) -> int:
        """Return the number of the side's rate."""
        rate = NO_RATE if side.rate is None else side.rate.text()
        found = self._rates.get(rate.fragment)
        if found is None:
            found = self._rates[rate.fragment] = len(self._rates)
            self._rate_texts.append(rate)
        return found

    def apply(self, side: Side, apply: Apply, context: ApplyContext) -> None:
        """Add a client's new state, which an item of a command asks for; a call of applies has no sides."""
        self.applies.append(apply)
        side.applied = apply.client, context
        self.entries.append(
            OutcomeEntry(
                side.topic, side.offset, side.index, side.record.timestamp, b"", b"", apply.client,
                _pack(context),
            )
        )  # fmt: skip
        self.sides.append(side)

    def request(self, standing: Standing, token: int, number: int, trim: int, floor: int) -> DrawRequest:
        """Return the request as the store takes it. number: that which the bucket expects."""
        for use, (_, fields) in zip(self.uses, self._fields.values(), strict=True):
            use.fields = list(fields)
        context = pack_entries(self.entries)
        if self._rows:
            context = pack_rows(
                list(self._topics), self._head_texts, self._rate_texts, list(self._limits), self._rows
            )
        return DrawRequest(
            lane=standing.lane, token=token, call=number, lane_ms=standing.lane_ms,
            generation=standing.lane_ms // standing.generation_ms, trim=trim, floor=floor,
            applies=self.applies, accounts=self.accounts, uses=self.uses, items=self.items,
            context=context, contextless=not self.sides,
        )  # fmt: skip
