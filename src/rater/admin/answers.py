"""What the API answers: instants in RFC 3339, money and prices as decimal text (CONTRACTS.md)."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from rater.admin.figures import Sums
from rater.core.catalog.specs import Status, Tables
from rater.core.kinds import ClientPackageState, ClientPackageStatus


class LimitRow(Struct, kw_only=True):
    """A limit in a period; size, used, left: of money in `unit`, of volume in counting units, named by it."""

    limit: str
    kind: Literal["volume", "money"]
    service: str
    code: str | None
    code_name: str | None
    unit: str
    size: str
    used: str
    left: str


class ChargeRow(Struct, kw_only=True):
    """A pending charge (CONTRACTS.md, Events)."""

    id: str
    client: str
    client_package: str
    package: str
    period: int
    kind: str
    reason: str
    amounts: dict[str, str]
    missing: str
    currency: str
    since: str
    retry_until: str | None
    invoiced: bool


class ClientPackageRow(Struct, kw_only=True):
    """A client package as lists show it. start, end: of itself; period_start, period_stop: of the period."""

    id: str
    client: str
    account: str | None
    package: str
    package_name: str | None
    package_status: Status | None
    status: ClientPackageStatus
    state: ClientPackageState
    why_pending: str | None
    quantity: int
    version: int
    period: int | None
    period_start: str | None
    period_stop: str | None
    start: str
    end: str | None
    next_renewal: str | None
    limits: list[LimitRow]


class DidRow(Struct, kw_only=True):
    """A DID that a client package gives."""

    number: str
    account: str
    hold_until: str | None


class PeriodRow(Struct, kw_only=True):
    """A period of a client package, with what of its limits was used."""

    period: int
    start: str
    stop: str | None
    voided: bool
    limits: list[LimitRow]
    fees: list[FeeRow]


class FeeRow(Struct):
    """A fee as it was charged: signed, in the client's currency."""

    type: str
    amount: str


class ClientPackageDetails(Struct, kw_only=True):
    """A client package with its system information (RULES.md section 4), and its periods, newest first."""

    client_package: ClientPackageRow
    charge_on_event: bool
    charged: bool
    reactivations: int
    align_to_payment_terms: bool
    recalculate_to_period: bool
    pending_charge: ChargeRow | None
    dids: list[DidRow]
    periods: list[PeriodRow]


class TermsRow(Struct):
    """Payment terms."""

    every: str
    anchor: str


class ClientRow(Struct, kw_only=True):
    """A client. Money in its currency."""

    id: str
    name: str
    reseller: str | None
    currency: str
    balance: str
    credit_limit: str
    low_balance: str | None
    time_zone: str
    payment_terms: TermsRow | None
    tax_profile: str | None
    accounts: list[str]
    rate_tables: Tables
    client_packages: int
    pending_charges: int
    version: int


class ClientDetails(Struct, kw_only=True):
    """A client with its client packages, the archive included."""

    client: ClientRow
    client_packages: list[ClientPackageRow]


class PackageRow(Struct, kw_only=True):
    """A package as lists show it. Fees are in its currency; assigned: to how many client packages now."""

    id: str
    status: Status
    name: str
    type: str
    currency: str
    activation_fee: str
    subscription_fee: str
    period: str | None
    reseller: str | None
    dynamic_tag: str | None
    assigned: int


class StatusSince(Struct):
    """A status that a package had; since: null: from the beginning."""

    since: str | None
    status: Status


class PackageDetails(Struct, kw_only=True):
    """A package as a catalog file says it, with the history of its status."""

    package: dict[str, Any]
    statuses: list[StatusSince]
    versions: int


class TransactionRow(Struct, kw_only=True):
    """A transaction as lists show it; the whole lies at partition and offset of `rater.transactions`.

    what: a usage's code name or code, a fee's package, an adjustment's reason. drawn: packages that a usage
    drew from. stands: it is no reversal and was not reversed.
    """

    published: str
    partition: int
    offset: int
    client: str
    account: str | None
    id: str
    revision: int
    type: str
    at: str
    client_package: str | None
    called: str | None
    what: str
    drawn: str
    billed: int | None
    amount: str
    currency: str
    stands: bool


class RejectedRow(Struct, kw_only=True):
    """A rejected side or record. topic, source_partition, source_offset: where it came from.

    again: it was sent again. job: the re-rating that took the side back.
    """

    at: str
    partition: int
    offset: int
    reason: str
    side: str | None
    detail: str
    value: str
    source: str | None
    topic: str | None
    source_partition: int | None
    source_offset: int | None
    attempt: int | None
    job: str | None
    again: bool


class CommandRow(Struct, kw_only=True):
    """A command: who asked for what. result: done, refused, null: not answered yet; detail: why refused."""

    id: str
    key: str
    do: str
    at: str
    actor: str
    reason: str
    client: str | None
    client_package: str | None
    dry_run: bool
    system: bool
    result: str | None
    detail: str | None


class EventRow(Struct, kw_only=True):
    """An event (CONTRACTS.md, Events) as lists show it; the whole lies at partition and offset of its topic.

    told: when it was published; at: when it happened. cause: the call or command that brought it.
    """

    told: str
    partition: int
    offset: int
    id: str
    type: str
    at: str
    client: str | None
    client_package: str | None
    package_name: str | None
    cause: str | None
    actor: str | None


class WorkerRow(Struct, kw_only=True):
    """A worker of `admin.workers`. since: when it began to answer, or not to; why: why it does not.

    What it says of itself is null where it does not answer; longest_wait_s: of its records.
    """

    address: str
    answers: bool
    since: str
    why: str | None
    ready: bool | None
    version: str | None
    engine: str | None
    records: int | None
    waiting: int | None
    longest_wait_s: float | None


class LiveRow(Struct, kw_only=True):
    """What the workers say, all asked at the same time. at: when; null: they were not asked yet.

    sums: of those that answer. records_per_second, latency_p50_s, latency_p99_s: of the last seconds, null
    where there is nothing to tell them by.
    """

    at: str | None
    workers: list[WorkerRow]
    sums: Sums
    records_per_second: float | None
    latency_p50_s: float | None
    latency_p99_s: float | None


class Counted(Struct, kw_only=True):
    """Of a page: keys of its neighbours, null: there are none; total: how many match, null: above 10,000."""

    next: str | None
    previous: str | None
    total: int | None


class PackageList(Counted, kw_only=True):
    """A page of packages."""

    rows: list[PackageRow]


class ClientPackageList(Counted, kw_only=True):
    """A page of client packages."""

    rows: list[ClientPackageRow]


class ClientList(Counted, kw_only=True):
    """A page of clients."""

    rows: list[ClientRow]


class TransactionList(Counted, kw_only=True):
    """A page of transactions."""

    rows: list[TransactionRow]


class ChargeList(Counted, kw_only=True):
    """A page of pending charges."""

    rows: list[ChargeRow]


class RejectedList(Counted, kw_only=True):
    """A page of rejected records."""

    rows: list[RejectedRow]


class NumberRow(Struct, kw_only=True):
    """A DID of the catalog; client, account, client_package: who holds it, null: it is free."""

    number: str
    tags: list[str]
    state: str
    client: str | None
    account: str | None
    client_package: str | None
    hold_until: str | None


class DidList(Counted, kw_only=True):
    """A page of numbers."""

    rows: list[NumberRow]


class CommandList(Counted, kw_only=True):
    """A page of commands."""

    rows: list[CommandRow]


class EventList(Counted, kw_only=True):
    """A page of events."""

    rows: list[EventRow]


class RecycleDone(Struct, kw_only=True):
    """What was sent again, by reason. too_old, known, taken_back: what was not, and why."""

    sent: dict[str, int]
    dry_run: bool
    too_old: int
    known: int
    taken_back: int
    topics_without_source: dict[str, int]


class ExplainedRows(Struct):
    """Each side, or transaction, explained (CONTRACTS.md, Programs: `rater explain`)."""

    explained: list[dict[str, Any]]


class HealthRow(Struct):
    """Whether this process can do its work, and why not."""

    ready: bool
    reasons: list[str]
