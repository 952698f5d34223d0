"""New clients of a load that differ in names and balance alone: planned once, written for each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from operator import itemgetter
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from rater.core.amounts import LIMIT, format_micros
from rater.core.bucket.messages import ClientWrite, hint_of
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import AccountSpec, ClientEntry, ClientSpec
from rater.core.clients.changes import Change, ChangeEvent, ChangeTransaction
from rater.core.clients.earlier import whole_second
from rater.core.clients.loading import load_change, opening_text
from rater.core.clients.planning import Cause, Known
from rater.core.clients.state import ClientState, read_state, write_state
from rater.core.kinds import TransactionType

FORMS_MAX = 16
"""Plans kept of clients that are alike, one for each span of balances in which the same comes out; so many
tries in all."""
KINDS_MAX = 1000
"""Kinds of clients of which plans are kept; those that come later are planned one by one."""

_ID, _HELD, _ACCOUNT, _CAUSE, _NAME, _AMOUNT = [f"\x7f{number}\x7f" for number in range(6)]
"""Stand in a form for what differs. What is written with them is compared with a plan before it is used."""
_MARK = re.compile(rb"\x7f([0-5])\x7f")
_NAMES = 7
_NOTHING = 6
"""How many places stand before the pieces of a form, and the one that stays empty."""
_ACCOUNTS = [AccountSpec("\x7faccounts\x7f")]
_json = msgspec.json.Encoder().encode
_pack = msgspec.msgpack.Encoder().encode


class Alike:
    """Plans new clients of one load, by this catalog; actor: who sent it.

    Equal to `load_change` of each: what comes out of a plan rests on names nowhere, for a client of one
    client package or none, and on the balance by the interval that the plan tells (decisions/0118).
    """

    def __init__(self, catalog: Catalog, at_ms: int, actor: str) -> None:
        """Begin with nothing planned. at_ms: of the load."""
        self._by = catalog, whole_second(at_ms), actor
        self._forms: dict[bytes, list[_Form]] = {}
        self._tries = Counter[bytes]()

    def goes_by(self, catalog: Catalog, at_ms: int, actor: str) -> bool:
        """Return whether what was planned is of this load."""
        own, own_ms, own_actor = self._by
        return own is catalog and (own_ms, own_actor) == (whole_second(at_ms), actor)

    def load_change(self, entry: ClientEntry, cause: str, known: Known) -> Change:
        """Return what the load makes of a client that does not exist yet. cause: the command's id.

        Raises as `loading.load_change`.
        """
        spec = entry.client
        if spec is None or len(entry.packages) > 1 or known.counters:
            return self._planned(entry, cause, known)
        kind, balance = _kind(entry, spec), (known.balance or 0) + spec.balance
        for form in self._forms.get(kind, ()):
            if form.least <= balance <= form.most:
                return form.written(entry, spec, cause)
        change = self._planned(entry, cause, known)
        if self._tries[kind] < FORMS_MAX and len(self._tries) <= KINDS_MAX:
            self._tries[kind] += 1
            made = self._form(entry, spec, balance)
            if made is not None and made.written(entry, spec, cause) == change:
                self._forms.setdefault(kind, []).append(made)
        return change

    def _planned(self, entry: ClientEntry, cause: str, known: Known) -> Change:
        catalog, at_ms, actor = self._by
        change = load_change(None, entry, catalog, at_ms=at_ms, cause=Cause(cause, actor), known=known)
        assert change is not None  # noqa: S101 - of a new client there is one
        return change

    def _form(self, entry: ClientEntry, spec: ClientSpec, balance: int) -> _Form | None:
        """Return the plan of a client with marks for names, and with its opening balance as there before."""
        marked = ClientEntry(
            _ID,
            replace(spec, id=_ID, name=_NAME, balance=0, accounts=_ACCOUNTS),
            [
                replace(of, id=_HELD, client=_ID, account=None if of.account is None else _ACCOUNT)
                for of in entry.packages
            ],
        )
        change = self._planned(marked, _CAUSE, Known(balance))
        write, pieces = change.write, [b""] * _NAMES
        if write.counters or write.history:
            return None
        catalog, at_ms, actor = self._by
        state = read_state(write.state)
        opening = opening_text(state, _AMOUNT, actor, at_ms, catalog.version)
        return _Form(
            change, state, write.least, write.most, pieces, _text(opening, pieces),
            [(one.type, one.amount, _text(one.value, pieces)) for one in change.transactions],
            [(one.type, _text(one.value, pieces)) for one in change.events],
        )  # fmt: skip


def _kind(entry: ClientEntry, spec: ClientSpec) -> bytes:
    """Return all of an entry but names and the amount of its balance: what its plan rests on."""
    held = entry.packages[0] if entry.packages else None
    return _pack((
        spec.currency, spec.reseller, spec.time_zone, spec.balance != 0, spec.credit_limit, spec.low_balance,
        spec.payment_terms, spec.tax_profile, spec.rate_tables,
        None if held is None else (
            held.package, held.account is None, held.start_date, held.end_date, held.activate_in_past,
            held.quantity,
        ),
    ))  # fmt: skip


_Text = Callable[[list[bytes]], tuple[bytes, ...]]
"""Takes what a text is made of from the names and pieces of a form."""


def _text(value: bytes, pieces: list[bytes]) -> _Text:
    """Return a text with room for names; what stands between them is added to the pieces."""
    places = list[int]()
    for place, part in enumerate(_MARK.split(value)):
        if place % 2:
            places.append(int(part))
        else:
            places.append(len(pieces))
            pieces.append(part)
    return itemgetter(*places, _NOTHING)  # of one place alone it would not be a tuple


class _Form(NamedTuple):
    """A plan for clients that differ in names, their balance `least` to `most` with what they open with."""

    change: Change
    state: ClientState
    least: int
    most: int
    pieces: list[bytes]
    """Room for the names, then what stands between them in all texts."""
    opening: _Text
    transactions: list[tuple[str, int, _Text]]
    events: list[tuple[str, _Text]]

    def written(self, entry: ClientEntry, spec: ClientSpec, cause: str) -> Change:
        """Return the change of such a client."""
        client, opening, of = spec.id, spec.balance, self.change.write
        held, account, packages = "", None, self.state.packages
        if entry.packages:
            held, account = entry.packages[0].id, entry.packages[0].account
            packages = [replace(one, id=held, account=account) for one in packages]
        state = replace(
            self.state, id=client, name=spec.name, opening=opening, packages=packages,
            accounts={one.id: one.rate_tables for one in spec.accounts},
        )  # fmt: skip
        names = (client, held, account or "", cause, spec.name, format_micros(opening))
        pieces = [*[_json(name)[1:-1] for name in names], *self.pieces[_NOTHING:]]
        transactions = [
            ChangeTransaction(kind, amount, b"".join(text(pieces)))
            for kind, amount, text in self.transactions
        ]
        if opening:
            value = b"".join(self.opening(pieces))
            transactions.insert(0, ChangeTransaction(TransactionType.ADJUSTMENT, opening, value))
        key, due_ms = client.encode(), self.change.due_ms
        write = ClientWrite(
            client=client, expected=of.expected, version=of.version, state=write_state(state),
            least=max(-LIMIT, self.least - opening), most=min(LIMIT, self.most - opening),
            delta=of.delta + opening, hints=[] if due_ms is None else [hint_of(due_ms, client)],
            members=list(of.members),
        )  # fmt: skip
        events = [ChangeEvent(kind, key, b"".join(text(pieces))) for kind, text in self.events]
        return Change(write, tuple(transactions), tuple(events), due_ms)
