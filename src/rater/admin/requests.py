"""What the API is asked and told: queries and bodies; money as decimal text (CONTRACTS.md)."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta, Struct, field

from rater.core.amounts import QUANTITY_MAX
from rater.core.catalog.specs import (
    ClientBalance,
    FeeType,
    LimitType,
    PackageType,
    RenewalCharge,
    SetupFee,
    Status,
)
from rater.core.kinds import ClientPackageStatus, DidState, Do, EventType, TransactionType
from rater.core.reasons import Reason

TEXT_CHARS_MAX = 200
ROWS_MAX = 1000

Id = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
Amount = Annotated[
    str, Meta(pattern=r"^-?[0-9]{1,10}(\.[0-9]{1,6})?$", description="a decimal in the client's currency")
]
When = Annotated[
    str, Meta(min_length=1, max_length=40, description="a date, which is 00:00 at the client, or RFC 3339")
]
Instant = Annotated[str, Meta(max_length=40, description="RFC 3339 with offset, or a date (00:00 UTC)")]
ReasonText = Annotated[str, Meta(max_length=1000, description="why; a ticket's number, for example")]
Code = Annotated[str, Meta(pattern=r"^[0-9]{1,64}$", description="digits")]
Rows = Annotated[int, Meta(ge=1, le=ROWS_MAX, description="rows of a page")]
PageKey = Annotated[str, Meta(min_length=1, max_length=4000, description="`next` or `previous` of a page")]


class NoQuery(Struct, forbid_unknown_fields=True):
    """No parameters."""


class Dry(Struct, forbid_unknown_fields=True):
    """dry_run: tell what it would do, and do nothing."""

    dry_run: bool = False


class Paged(Struct, forbid_unknown_fields=True, kw_only=True):
    """A page: so many rows behind the key `after`, or before the key `before`; of neither, the first."""

    rows: Rows = 100
    after: PageKey | None = None
    before: PageKey | None = None


class PackagesQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which packages; without status: active. text: what the id or the name has."""

    reseller: Id | None = None
    status: list[Status] = []
    dynamic_tag: Id | None = None
    did_tag: Id | None = None
    text: Id | None = None


class ClientPackagesQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which client packages; without status: pending and active. account: those that it may use."""

    client: Id | None = None
    account: Id | None = None
    package: Id | None = None
    id: Id | None = None
    status: list[ClientPackageStatus] = []


class ClientsQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which clients. text: what the id or the name begins with, or an account."""

    text: Id | None = None
    reseller: Id | None = None


class TransactionsQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which transactions, the newest first. since, until: of the time of publishing, the latter excluded.

    id: of one, or SOURCE/CDR. reversals: also what was reversed, and its reversals.
    """

    client: Id | None = None
    account: Id | None = None
    type: TransactionType | None = None
    client_package: Id | None = None
    id: Annotated[str, Meta(min_length=1, max_length=1000)] | None = None
    since: Instant | None = None
    until: Instant | None = None
    reversals: bool = False


class PendingQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Whose pending charges; those that wait longest first."""

    client: Id | None = None


class RejectedQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which rejected records, the newest first. source: of the settings. again: whether sent again."""

    reason: Reason | None = None
    source: Id | None = None
    again: bool | None = None
    since: Instant | None = None
    until: Instant | None = None


class CommandsQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which commands, the newest first: who did what. system: also those that the workers wrote."""

    client: Id | None = None
    actor: Id | None = None
    do: Do | None = None
    since: Instant | None = None
    until: Instant | None = None
    system: bool = False


class EventsQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which events, the newest first. since, until: of the time of publishing, the latter excluded.

    answers: also those that say what became of a command, where no type is asked for.
    """

    client: Id | None = None
    type: EventType | None = None
    answers: bool = True
    since: Instant | None = None
    until: Instant | None = None


class DidsQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which numbers. number: what it begins with."""

    number: Id | None = None
    tag: Id | None = None
    client: Id | None = None
    state: DidState | None = None


class JobsQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which re-rating jobs, the newest first. open: whether they have begun somewhere and not ended."""

    open: bool | None = None


class RowsQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """How many of the first clients, and of the first transactions, are told."""

    rows: Rows = 100


class RerateBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which calls are rated again: of some clients or (all) every one; of codes that begin so."""

    clients: list[Id] = []
    all: bool = False
    from_: Instant = field(name="from")
    to: Instant
    code: Annotated[str, Meta(pattern=r"^[0-9]{0,64}$")] = ""
    reason: ReasonText = ""


class ExplainQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    """What to explain: a transaction's id, or SOURCE/CDR."""

    id: Annotated[str, Meta(min_length=1, max_length=1000)]


class RateTablesQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which rate tables. text: what the name has."""

    text: Id | None = None


class RatesQuery(Paged, forbid_unknown_fields=True, kw_only=True):
    """Which rates of a table; `rows` counts codes. code: what they begin with. number: what rates it."""

    code: Code | None = None
    number: Code | None = None


class DeckQuery(Dry, forbid_unknown_fields=True, kw_only=True):
    """How a deck is read (`rater decks import`). file: its name. seen: of the dry run, to load it."""

    file: Id = "deck"
    profile: Id | None = None
    columns: Annotated[str, Meta(max_length=2000, description="FIELD=COLUMN,…")] = ""
    effective: Annotated[str, Meta(max_length=40, description="from when rows hold that do not say it")] = ""
    seen: Annotated[str, Meta(max_length=64)] = ""
    reason: ReasonText = ""


class FeeBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """A fee; rate: a decimal in the package's currency."""

    type: FeeType
    name: Id
    rate: str
    note: str = ""


class DiscountBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """From this activation on the subscription fee is less by `discount`, a decimal."""

    activation_count: Annotated[int, Meta(ge=1)]
    discount: str


class DidLimitBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """How many DIDs with one of the tags the accounts may hold."""

    quantity: Annotated[int, Meta(ge=1)]
    allowed_tags: list[str] = []
    on_hold_days: Annotated[int, Meta(ge=0)] = 0


class LimitBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """An allowance: limit, rollover in price units or money; min_call, per_call_max in counting units.

    Exactly one of code and code_name. Without id it gets its position.
    """

    id: Id | None = None
    type: LimitType
    service: Id
    limit: int | str
    code_deck: str | None = None
    code: str | None = None
    code_name: str | None = None
    exclude: list[str] = []
    min_call: int = 0
    per_call_max: int | None = None
    rollover: int | str = 0


class PackageBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """A package as a catalog file says it (CONTRACTS.md, Catalog file)."""

    id: Id
    name: Id
    type: PackageType
    currency: str
    reseller: str | None = None
    status: Status | None = None
    period: str | None = None
    advance_renew: str | None = None
    renew_for: str | None = None
    fees_include_taxes: bool = False
    align_to_payment_terms: bool = False
    full_charge: bool = False
    charge_on_event: bool = False
    setup_fee: SetupFee = "charge"
    client_balance: ClientBalance = "deny"
    renewal_charge: RenewalCharge = "on_period"
    priority: int = 0
    dynamic_tag: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    fees: list[FeeBody] = []
    discounts: list[DiscountBody] = []
    did_limits: list[DidLimitBody] = []
    limits: list[LimitBody] = []


class StatusBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """The status that a package is to have."""

    status: Status
    reason: ReasonText = ""


class AssignBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """An assignment (RULES.md section 4, Assign)."""

    client: Id
    package: Id
    account: Id | None = None
    start_date: When | None = None
    end_date: When | None = None
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)] = 1
    activate_in_past: bool = False
    reason: ReasonText = ""


class ActionBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """What is asked of a client package. expect_version: refuse where it is not this one."""

    expect_version: Annotated[int, Meta(ge=1, lt=2**53)] | None = None
    reason: ReasonText = ""


class EndDateBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """The end date that a client package is to have; null: none."""

    end_date: When | None
    expect_version: Annotated[int, Meta(ge=1, lt=2**53)] | None = None
    reason: ReasonText = ""


class AdjustBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """An amount to add to a balance; negative to take away."""

    amount: Amount
    reason: ReasonText = ""


class ReasonBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Why."""

    reason: ReasonText = ""


class DidAssignBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Who is to hold a number."""

    account: Id
    reason: ReasonText = ""


class RecycleBody(Struct, forbid_unknown_fields=True, kw_only=True):
    """Which rejected records are sent again. late: also calls older than the duplicate window."""

    reason: Reason | None = None
    source: Id | None = None
    since: Instant | None = None
    until: Instant | None = None
    late: bool = False


class CallBody(Struct, kw_only=True):
    """A CDR (CONTRACTS.md, CDR): what would come of it, also where it would be rejected."""

    id: str | None = None
    called: str | None = None
    duration_ms: int | None = None
    volume: int | None = None
    source: str = "default"
    service: str = "calls"
    setup_at: str | None = None
    answered_at: str | None = None
    ended_at: str | None = None
    caller: str | None = None
    orig: dict[str, Any] | None = None
    term: dict[str, Any] | None = None
