"""What lists are asked: filters, and pages by keys. A filter that is None takes whatever there is."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Collection
from typing import Generic, TypeVar

import msgspec
from msgspec import Struct

from rater.core.kinds import ClientPackageStatus, DidState, Do, EventType, TransactionType
from rater.core.reasons import Reason

COUNT_MAX = 10_000
"""What matches is counted up to here where no count of it is kept."""
ROWS_MAX = 1000
"""Rows of one page at most."""
_KEY_CHARS_MAX = 4000

T = TypeVar("T")


class Transactions(Struct, frozen=True, kw_only=True):
    """Transactions. id: of one, or SOURCE/CDR: of all sides of the call. client_package: its fees, refunds.

    since_ms, until_ms: bounds of the time of publishing, the latter excluded. reversals: also what was
    reversed, and its reversals; these alone where `type` is reversal.
    """

    client: str | None = None
    account: str | None = None
    type: TransactionType | None = None
    client_package: str | None = None
    id: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    reversals: bool = False


class ClientPackages(Struct, frozen=True, kw_only=True):
    """Client packages. account: those that it may use, which are its own and those of all accounts."""

    client: str | None = None
    account: str | None = None
    package: str | None = None
    client_package: str | None = None
    statuses: Collection[ClientPackageStatus] = frozenset({
        ClientPackageStatus.PENDING, ClientPackageStatus.ACTIVE,
    })  # fmt: skip


class Clients(Struct, frozen=True, kw_only=True):
    """Clients. text: what the name begins with, in any case; or an id or an account, whole."""

    text: str | None = None
    reseller: str | None = None


class Packages(Struct, frozen=True, kw_only=True):
    """Packages. did_tag: allowed by one of its DID limits. text: what the id or the name has."""

    statuses: Collection[str] = ("active",)
    reseller: str | None = None
    dynamic_tag: str | None = None
    did_tag: str | None = None
    text: str | None = None


class PendingCharges(Struct, frozen=True, kw_only=True):
    """Pending charges, those that wait longest first."""

    client: str | None = None


class RejectedRecords(Struct, frozen=True, kw_only=True):
    """Rejected records. topic: that they came from. again: whether they were sent again."""

    reason: Reason | None = None
    topic: str | None = None
    again: bool | None = None
    since_ms: int | None = None
    until_ms: int | None = None


class Dids(Struct, frozen=True, kw_only=True):
    """Numbers. number: what it begins with."""

    number: str | None = None
    tag: str | None = None
    client: str | None = None
    state: DidState | None = None


class Events(Struct, frozen=True, kw_only=True):
    """Events. answers: also those that say what became of a command, where no type is asked for."""

    client: str | None = None
    type: EventType | None = None
    answers: bool = True
    since_ms: int | None = None
    until_ms: int | None = None


class Commands(Struct, frozen=True, kw_only=True):
    """Commands. system: also those that we wrote ourselves."""

    client: str | None = None
    actor: str | None = None
    do: Do | None = None
    since_ms: int | None = None
    until_ms: int | None = None
    system: bool = False


class Jobs(Struct, frozen=True, kw_only=True):
    """Re-rating jobs. open: whether they have begun at clients at which they have not ended."""

    open: bool | None = None


class Page(Struct, frozen=True, kw_only=True):
    """Which rows: so many behind the key `after`, or before the key `before`; of neither, the first.

    skip: so many more are passed over, at most `COUNT_MAX`: what it costs grows with it.
    """

    rows: int = 50
    after: str | None = None
    before: str | None = None
    skip: int = 0


class Listed(Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a list. next, previous: keys for `after` and `before`, None: there is nothing that way.

    total: how many match, None: more than `COUNT_MAX`.
    """

    rows: list[T]
    next: str | None
    previous: str | None
    total: int | None


class WrongAskedError(ValueError):
    """A page that cannot be given. field: of `Page`; the sentence says why, and what to do."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def checked(page: Page) -> Page:
    """Return the page. Raises WrongAskedError where its numbers are out of bounds."""
    if not 1 <= page.rows <= ROWS_MAX:
        raise WrongAskedError("rows", f"rows is {page.rows}; ask for 1 to {ROWS_MAX}")
    if not 0 <= page.skip <= COUNT_MAX:
        raise WrongAskedError("skip", f"skip is {page.skip}; at most {COUNT_MAX}: go on by `after` beyond")
    if page.after is not None and page.before is not None:
        raise WrongAskedError("before", "give one of `after` and `before`")
    return page


Key = tuple[int | str, ...]
"""Values of the columns that a list is sorted by."""


def write_key(key: Key) -> str:
    """Return a key as text that URLs take as it is."""
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(key)).rstrip(b"=").decode()


def read_key(text: str, like: Key, field: str) -> Key:
    """Return the key in a text. like: values of the types that it has. Raises WrongAskedError for others."""
    try:
        padded = text[:_KEY_CHARS_MAX] + "=" * (-len(text[:_KEY_CHARS_MAX]) % 4)
        raw = base64.b64decode(padded, altchars=b"-_", validate=True)
        found = msgspec.msgpack.decode(raw, type=list[int | str])
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise WrongAskedError(field, _no_key(field)) from error
    fits = [type(of) for of in found] == [type(of) for of in like]
    if not fits or any(isinstance(of, int) and not -(2**63) <= of < 2**63 for of in found):
        raise WrongAskedError(field, _no_key(field))
    return tuple(found)


def _no_key(field: str) -> str:
    return f"{field} is no key of this list; take `next` or `previous` of a page of it"
