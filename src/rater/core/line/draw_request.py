"""One draw request in the making: the sides of a batch that fall into one bucket."""

from __future__ import annotations

import msgspec

from rater.core.bucket.messages import (
    ANY_RISE,
    ClientWrite,
    DrawItem,
    DrawRequest,
    Due,
    FeeAsk,
    ItemCandidate,
    Use,
)
from rater.core.catalog.codes import NO_RATE, RateText
from rater.core.catalog.offers import Candidate, LimitText
from rater.core.cdr import CALLS, SIDES, Cdr
from rater.core.clients.changes import Change
from rater.core.clients.views import ClientView, PeriodText
from rater.core.instants import stamp_of
from rater.core.journal.outcomes import (
    NOTHING_OPEN,
    HeadRow,
    KeptChange,
    OutcomeRow,
    Upon,
    kept_change,
    pack_changes,
    pack_rows,
)
from rater.core.journal.outcomes import Record as KafkaRecord
from rater.core.line.batch import Record, Side, Standing
from rater.core.rating.duplicates import content_of, keys_of
from rater.core.rating.event_fees import EventFee
from rater.core.rating.pricing import Priced
from rater.core.rating.transaction import TransactionHead, head_of, names_of


class RequestBuilder:
    """Sides become items of a draw request, and rows that are kept with its outcome.

    What several rows share is kept once, and numbered: topics, heads of transactions, rates, limits.
    """

    def __init__(self) -> None:
        self.sides: list[Side] = []
        self.uses: list[Use] = []
        self.items: list[DrawItem] = []
        self.accounts: list[tuple[str, str]] = []
        self.changes: list[KeptChange] = []
        self.due: list[Due] = []
        """What the bucket answered as due, when the request was made last."""
        self._writes: list[ClientWrite] = []
        self._rows: list[OutcomeRow] = []
        self._clients: dict[str, tuple[int, dict[str, int]]] = {}
        """Client → its place among the uses, and the numbers of its counters' fields there."""
        self._topics: dict[str, int] = {}
        self._heads: dict[
            tuple[str, str | None, int, str, str | None, bytes], tuple[int, TransactionHead, HeadRow]
        ] = {}
        self._rates: dict[str, tuple[int, RateText]] = {}
        self._limits: dict[tuple[Candidate, ...], tuple[int, tuple[LimitText, ...], list[msgspec.Raw]]] = {}
        self._last: Record | None = None
        self._last_use = -1

    def add(self, side: Side, cdr: Cdr, view: ClientView, priced: Priced, catalog: int) -> None:
        """Add a side that was matched by this version of the catalog; the others are what it stands on."""
        record, opened, candidates = side.record, side.opened, side.candidates
        packages = () if opened is None else opened.packages
        use, fields = client = self._clients.get(view.id) or (len(self.uses), {})
        if use == len(self.uses):
            self._clients[view.id] = client
            wake = view.wake if view.wake is None or view.catalog == catalog else ANY_RISE
            self.uses.append(Use(view.id, view.version, view.credit_limit, [], wake, view.mark))
        # The fields are those of this side's own periods: another call of the client may be in others.
        asked = tuple([
            ItemCandidate(
                fields.setdefault(packages[one.group].field + one.text.field, len(fields)), one.size,
                one.group, one.money, one.waive, one.allow, one.cap, one.to_package, one.to_client,
            )
            for one in candidates
        ])  # fmt: skip
        fees = tuple([_asked(one, fields) for one in side.fees]) if side.fees else ()
        same_record = record is self._last and use == self._last_use
        self._last, self._last_use = record, use
        key, older = keys_of(cdr, side.index, view.crc)
        content = content_of(cdr, view.id, side.account, None if side.party is None else side.party.rate)
        self.items.append(
            DrawItem(use, key, content, priced.billed, priced.cost, same_record, asked, side.cut, older, fees)
        )
        limits = self._limits.get(candidates)
        if limits is None:
            texts = tuple([one.text for one in candidates])
            limits = self._limits[candidates] = len(self._limits), texts, [one.packed for one in candidates]
        head = self._head(side, cdr, view, packages, catalog)
        rate_text = NO_RATE if side.rate is None else side.rate.text()
        rate = self._rates.setdefault(rate_text.fragment, (len(self._rates), rate_text))
        side.head, side.rate_text, side.limits = head[1], rate[1], limits[1]
        source, name, caller = (cdr.source, cdr.id, cdr.caller) if cdr.plain else names_of(cdr)
        side.row = OutcomeRow(
            side.index, source, name, cdr.at_ms, caller, cdr.called,
            cdr.duration_ms if cdr.service == CALLS else cdr.volume,  # type: ignore[arg-type]
            priced.billed, priced.why, priced.fx,
            self._topics.setdefault(side.topic, len(self._topics)), record.offset,
            stamp_of(record.timestamp), key, content, head[0], rate[0], limits[0],
            tuple([one.text for one in side.fees]) if side.fees else (),
        )  # fmt: skip
        self._rows.append(side.row)
        self.sides.append(side)

    def _head(
        self, side: Side, cdr: Cdr, view: ClientView, packages: tuple[PeriodText, ...], catalog: int
    ) -> tuple[int, TransactionHead, HeadRow]:
        """Return what the side's transaction shares with others of its client, and its number."""
        # By what is open, not by the object that says so, which may be one of several that were remembered.
        open_now = b"" if side.opened is None else side.opened.written
        key = view.id, side.account, side.index, cdr.service, side.job, open_now
        found = self._heads.get(key)
        if found is None:
            name = SIDES[side.index]
            text = head_of(view, side.account, name, cdr.service, packages, catalog, side.job)
            packed = NOTHING_OPEN if side.opened is None else side.opened.packed
            row = text.client, text.ids, text.amount, text.end, packed
            found = self._heads[key] = len(self._heads), text, row
        return found

    def change(self, change: Change, topic: str, record: KafkaRecord, index: int) -> None:
        """Add a change that a record asks for: it is carried out before the sides."""
        self._writes.append(change.write)
        self.changes.append(kept_change(change, topic, record, index))

    def carry(self, client: str, upon: list[Upon]) -> None:
        """Keep with a client's change those of other lanes that it goes on from."""
        for write, kept in zip(self._writes, self.changes, strict=True):
            if write.client == client:
                write.carries, kept.upon = True, upon

    def request(self, standing: Standing, token: int, number: int, trim: int, floor: int) -> DrawRequest:
        """Return the request as the store takes it. number: that which the bucket expects."""
        for use, (_, fields) in zip(self.uses, self._clients.values(), strict=True):
            use.fields = list(fields)
        lane_ms, context = standing.lane_ms, b""
        if self._rows:
            context = pack_rows(
                list(self._topics), [row for _, _, row in self._heads.values()],
                [text for _, text in self._rates.values()], [row for _, _, row in self._limits.values()],
                self._rows,
            )  # fmt: skip
        if self.changes:
            context = pack_changes(self.changes, context)
        return DrawRequest(
            lane=standing.lane, token=token, number=number, lane_ms=lane_ms,
            generation=lane_ms // standing.generation_ms, trim=trim, floor=floor,
            changes=self._writes, accounts=self.accounts, uses=self.uses, items=self.items,
            context=context, contextless=not context,
        )  # fmt: skip


def _asked(fee: EventFee, fields: dict[str, int]) -> FeeAsk:
    """Return a fee as the bucket is asked for it; its counters stand beside each other."""
    charged, net, amount = [fields.setdefault(name, len(fields)) for name in fee.fields]
    assert (net, amount) == (charged + 1, charged + 2)  # noqa: S101 - they are named together alone
    return FeeAsk(fee.text.group, charged, fee.text.net, fee.amount, fee.deny)
