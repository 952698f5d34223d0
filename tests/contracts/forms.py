"""The records that the product writes without a type of their own, as types: what CONTRACTS.md says in words.

Transactions, events and headers are put together from pieces of JSON, so these types stand beside that code
and not in it. `test_published.py` holds what is really written against them, both ways: a member that is not
here is a fault, and so is one that lacks. Times are RFC 3339 in UTC, decimals are texts.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field

from rater.core.amounts import QUANTITY_MAX
from rater.core.cdr import CALLER_CHARS_MAX, ID_CHARS_MAX, SOURCE_CHARS_MAX, GivenRate
from rater.core.reasons import Reason, Side

Amount = Annotated[str, Meta(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]{1,6})?$")]
"""Money, in micros at the finest."""
Decimal = Annotated[str, Meta(pattern=r"^-?(0|[1-9][0-9]*)(\.[0-9]{1,10})?$")]
"""A price, a fee, a volume."""
Time = Annotated[str, Meta(pattern=r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}\.\d{3}Z$")]
Stamp = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""RFC 3339 with any offset."""
Count = Annotated[int, Meta(ge=0)]
Number = Annotated[int, Meta(ge=1)]
Name = Annotated[str, Meta(min_length=1)]
Digits = Annotated[str, Meta(pattern=r"^[0-9]+$")]


class Form(Struct, forbid_unknown_fields=True, kw_only=True):
    """A record, or a part of one. What may lack is `UNSET`."""


# ------------------------------------------------------------------------------------------------------- CDR
class CdrParty(Struct, kw_only=True):
    """Whose side it is: client and account, or what identification rules read."""

    client: str | None = None
    account: str | None = None
    gateway: str | None = None
    ip: str | None = None
    login: str | None = None
    rate: GivenRate | None = None


class CdrForm(Struct, kw_only=True):
    """A call detail record, as switches send it. Unknown members are ignored."""

    id: Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
    called: Annotated[str, Meta(min_length=1)]
    source: Annotated[str, Meta(min_length=1, max_length=SOURCE_CHARS_MAX, pattern=r"^[^/]+$")] = "default"
    service: Name = "calls"
    setup_at: Stamp | None = None
    answered_at: Stamp | None = None
    ended_at: Stamp | None = None
    duration_ms: Count | None = None
    volume: Count | None = None
    caller: str | None = None
    orig: CdrParty | None = None
    term: CdrParty | None = None


# ---------------------------------------------------------------------------------------------- transactions
class CdrName(Form, kw_only=True):
    """Which CDR it is of."""

    source: Annotated[str, Meta(max_length=SOURCE_CHARS_MAX)]
    id: Annotated[str, Meta(max_length=ID_CHARS_MAX)]


class Conversion(Form, kw_only=True):
    """A currency's rate that was used."""

    from_: Name = field(name="from")
    to: Name
    rate: Decimal


class RateForm(Form, kw_only=True):
    """What a side was rated at; `table` is null where the CDR brought it."""

    table: str | None
    currency: Name
    price: Decimal
    setup_fee: Decimal
    min_time: Count
    interval: Number
    grace_time: Count


class _Draw(Form, kw_only=True):
    client_package: Name
    package: Name
    package_name: Name
    limit: Name
    period: Number
    tag: str | None
    taken: Decimal
    left: Decimal


class VolumeDraw(_Draw, tag_field="kind", tag="volume", kw_only=True):
    """What a limit of volume gave."""

    rolled: Literal[True] | UnsetType = UNSET


class MoneyDraw(_Draw, tag_field="kind", tag="money", kw_only=True):
    """What a limit of money gave; `covered` is in the client's currency."""

    currency: Name
    covered: Amount


class _Transaction(Form, kw_only=True):
    id: Name
    revision: Number
    client: Name
    account: str | None
    at: Time
    amount: Amount
    currency: Name
    catalog: Number


class _Call(_Transaction, kw_only=True):
    side: Side
    service: Name
    cdr: CdrName
    outcome: Literal["rated", "zero"]
    why: Literal["unanswered", "grace"] | UnsetType = UNSET
    caller: Annotated[str, Meta(max_length=CALLER_CHARS_MAX)] | None
    called: Digits
    duration_ms: int | None
    volume: int | UnsetType = UNSET
    code: Digits | None
    code_name: str | None
    rate: RateForm | None
    billed: int
    draws: list[VolumeDraw | MoneyDraw]
    overage: int
    setup_fee: Decimal
    balance_sufficient: bool | UnsetType = UNSET
    fee_covered: bool | UnsetType = UNSET
    fx: list[Conversion] | UnsetType = UNSET
    job: Name | UnsetType = UNSET


class Usage(_Call, kw_only=True):
    """A side of a call."""

    type: Literal["usage"]
    duration_ms: Count | None
    volume: Count | UnsetType = UNSET
    billed: Count
    overage: Count


class CallReversal(_Call, kw_only=True):
    """A side of a call taken back: its numbers negated."""

    type: Literal["reversal"]
    reverses: Number
    job: Name


class FeeLine(Form, kw_only=True):
    """A row of a package's fees."""

    name: str
    note: str
    rate: Decimal


class DiscountLine(Form, kw_only=True):
    """The discount that applied."""

    discount: Decimal
    activation_count: Number


Lines = Annotated[
    list[Any],
    Meta(
        extra_json_schema={
            "items": {"anyOf": [{"$ref": "#/$defs/FeeLine"}, {"$ref": "#/$defs/DiscountLine"}]}
        }
    ),
]
"""Rows of fees, then the discount if there is one; msgspec has no union of types without a tag."""


class Proration(Form, kw_only=True):
    """Seconds of the period, of seconds of a whole one."""

    of: Count
    in_: Number = field(name="in")


class Tax(Form, kw_only=True):
    """A tax of the client's profile."""

    name: Name
    percent: Decimal
    amount: Amount


class _OfPackage(_Transaction, kw_only=True):
    client_package: Name
    package: Name
    package_name: Name
    period: Number
    period_start: Time
    period_stop: Time | None
    net: Amount
    taxes: list[Tax]


class _Fee(_OfPackage, kw_only=True):
    lines: Lines
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)]
    proration: Proration | None
    package_currency: Name
    fx: list[Conversion]


class ActivationFee(_Fee, kw_only=True):
    """What the first period of a client package costs once."""

    type: Literal["activation_fee"]


class SubscriptionFee(_Fee, kw_only=True):
    """What a period costs; `cdr` where a call brought it."""

    type: Literal["subscription_fee"]
    cdr: CdrName | UnsetType = UNSET
    job: Name | UnsetType = UNSET


class Refund(_OfPackage, kw_only=True):
    """What was charged for a period, given back."""

    type: Literal["refund"]
    of: Annotated[list[Name], Meta(min_length=1, max_length=2)]


class FeeReversal(_OfPackage, kw_only=True):
    """A fee or refund taken back: its numbers negated. What a call had brought has all that it had."""

    type: Literal["reversal"]
    reverses: Number
    lines: Lines | UnsetType = UNSET
    quantity: Number | UnsetType = UNSET
    proration: Proration | UnsetType | None = UNSET
    package_currency: Name | UnsetType = UNSET
    fx: list[Conversion] | UnsetType = UNSET
    cdr: CdrName | UnsetType = UNSET
    job: Name | UnsetType = UNSET


class Adjustment(_Transaction, kw_only=True):
    """A top-up, a correction, an opening balance."""

    type: Literal["adjustment"]
    actor: str
    reason: str
    key: Name


TRANSACTIONS = (Usage, ActivationFee, SubscriptionFee, Refund, Adjustment, CallReversal, FeeReversal)


# --------------------------------------------------------------------------------------------------- rejected
class RejectedHeaders(Form, kw_only=True):
    """The headers of a rejected record, whose value is the record as it came. All of them are texts."""

    reason: Reason
    detail: Annotated[Name, Meta(description="a sentence with the remedy")]
    value: Annotated[str, Meta(max_length=200, description="what is wrong")]
    side: Literal["orig", "term", ""]
    source_topic: Name
    source_partition: Digits
    source_offset: Digits
    catalog: Digits
    attempt: Annotated[str, Meta(pattern=r"^[1-9][0-9]*$")]
    columns: Annotated[str, Meta(description="the header row of its file, of CSV")] | UnsetType = UNSET
    job: Annotated[Name, Meta(description="the re-rating that has taken the side back")] | UnsetType = UNSET


# ----------------------------------------------------------------------------------------------------- events
class HeldForm(Form, kw_only=True):
    """A client package as `before` and `after` show it."""

    status: Literal["pending", "active", "archive"]
    period: Number | None
    period_start: Time | None
    period_stop: Time | None
    end_date: str | None
    waiting: Literal["funds", "package_disabled", "currency_unknown", "amount_out_of_range"] | None


class AssignedData(Form, kw_only=True):
    """Of `assigned`."""

    package: Name
    quantity: Number
    start: Time


class ChargeAmounts(Form, kw_only=True):
    """What a pending charge comes to."""

    activation: Amount
    subscription: Amount
    tax: Amount
    total: Amount


class ChargeData(Form, kw_only=True):
    """Of `charge_pending`."""

    kind: Literal["activation", "renewal"]
    reason: Literal["funds", "package_disabled", "currency_unknown", "amount_out_of_range"]
    amounts: ChargeAmounts
    missing: Amount
    currency: Name
    since: Time
    retry_until: Time | None
    invoiced: bool


class InvoicedData(Form, kw_only=True):
    """Of `pending_charge_invoiced`."""

    invoiced: Literal[True]


class StoppedData(Form, kw_only=True):
    """Of `stopped`."""

    refunded: Amount


class EndedData(Form, kw_only=True):
    """Of `cancelled` and `archived`."""

    why: Literal["cancelled", "expired", "unpaid"]


class PackageData(Form, kw_only=True):
    """Of `package_changed`."""

    package: Name


class ThresholdData(Form, kw_only=True):
    """Of `limit_threshold`."""

    limit: Name
    percent: Annotated[int, Meta(ge=1, le=100)]


class ExpiringLimit(Form, kw_only=True):
    """A limit of which volume expires."""

    limit: Name
    left: Decimal
    expires: Decimal


class ExpiringData(Form, kw_only=True):
    """Of `limit_expiring`."""

    stop: Time
    limits: Annotated[list[ExpiringLimit], Meta(min_length=1)]


class DidAssignedData(Form, kw_only=True):
    """Of `did_assigned`."""

    number: Digits
    back: Literal[True] | UnsetType = UNSET


class DidOnHoldData(Form, kw_only=True):
    """Of `did_on_hold`."""

    number: Digits
    hold_until: Time


class DidFreedData(Form, kw_only=True):
    """Of `did_freed`."""

    number: Digits
    why: Literal["released", "hold over", "no hold", "removed"]


class WindowData(Form, kw_only=True):
    """Of `rerate_needed`: the window of calls."""

    from_: Time = field(name="from")
    to: Time


class RerateStartedData(WindowData, kw_only=True):
    """Of `rerate_started`."""

    job: Name


class RerateDoneData(RerateStartedData, kw_only=True):
    """Of `rerate_done`."""

    given_up: bool
    calls: Count
    changed: Count


class CatalogLoadedData(Form, kw_only=True):
    """Of `catalog_loaded`."""

    version: Number
    lane: Count


class DoneData(Form, kw_only=True):
    """Of `command_done`: what a command did, or would do; nothing of a load's part or a tick."""

    dry_run: bool | UnsetType = UNSET
    repeated: bool | UnsetType = UNSET
    balance_before: Amount | UnsetType = UNSET
    balance_after: Amount | UnsetType = UNSET
    transactions: list[dict[str, Any]] | UnsetType = UNSET
    events: list[dict[str, Any]] | UnsetType = UNSET
    job: Name | UnsetType = UNSET
    version: Number | UnsetType = UNSET
    settled: bool | UnsetType = UNSET


class RefusedData(Form, kw_only=True):
    """Of `command_refused`."""

    reason: Name
    lane: Count


class EventForm(Form, kw_only=True):
    """What happened. What does not apply is null; what `data` has, the type says."""

    id: Name
    type: str
    at: Time
    client: str | None
    account: str | None
    client_package: str | None
    package_name: str | None
    period: Number | None
    cause: str | None
    actor: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    data: dict[str, Any] | None


DATA: dict[str, type[Form]] = {
    "assigned": AssignedData, "charge_pending": ChargeData, "pending_charge_invoiced": InvoicedData,
    "stopped": StoppedData, "cancelled": EndedData, "archived": EndedData, "package_changed": PackageData,
    "limit_threshold": ThresholdData, "limit_expiring": ExpiringData, "did_assigned": DidAssignedData,
    "did_on_hold": DidOnHoldData, "did_freed": DidFreedData, "rerate_needed": WindowData,
    "rerate_started": RerateStartedData, "rerate_done": RerateDoneData, "catalog_loaded": CatalogLoadedData,
    "command_done": DoneData, "command_refused": RefusedData,
}  # fmt: skip
"""Type of an event → its `data`; of others it is null."""

FREE = frozenset({"client_changed", "package_changed"})
"""Events whose `before` and `after` hold the fields that changed, whichever they are."""
