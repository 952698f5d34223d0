"""Rows of the read model, as lists give them: money in micros, volumes in counting units, instants in ms UTC.

Each names where its full text lies, or where it was read: partition and offset of its topic.
"""

from __future__ import annotations

from msgspec import Struct


class TransactionRow(Struct, frozen=True, kw_only=True, gc=False):
    """A record of `rater.transactions`. published_ms: the broker's time of it; at_ms: the movement's own.

    client_package: of fees and refunds. what: a usage's code name, code or why it is zero; a fee's package;
    an adjustment's reason. drawn: names of the packages that a usage drew from, as they were then. stands:
    it is no reversal and was not reversed.
    """

    published_ms: int
    partition: int
    offset: int
    client: str
    account: str | None
    id: str
    revision: int
    type: str
    at_ms: int
    client_package: str | None
    called: str | None
    what: str
    drawn: str
    billed: int | None
    amount: int
    currency: str
    stands: bool


class ClientPackageRow(Struct, frozen=True, kw_only=True, gc=False):
    """A client package as it stands now (`core.clients.standing`). partition, offset: of its client's change.

    account: None: all of the client's. period: number of the present one, None: there is none.
    """

    client: str
    id: str
    account: str | None
    package: str
    status: str
    state: str
    quantity: int
    version: int
    period: int | None
    period_start_ms: int | None
    period_stop_ms: int | None
    start_ms: int
    end_ms: int | None
    renewal_ms: int | None
    partition: int
    offset: int


class PendingChargeRow(Struct, frozen=True, kw_only=True, gc=False):
    """What a client package waits for. id: CLIENT_PACKAGE/PERIOD. Micros of `currency`, positive: to pay."""

    id: str
    client: str
    client_package: str
    package: str
    period: int
    kind: str
    reason: str
    activation: int
    subscription: int
    tax: int
    total: int
    currency: str
    since_ms: int
    retry_until_ms: int | None
    invoiced: bool


class ClientRow(Struct, frozen=True, kw_only=True, gc=False):
    """A client, without its balance. accounts, client_packages, pending_charges: how many it has."""

    id: str
    name: str
    reseller: str | None
    currency: str
    credit_limit: int
    accounts: int
    client_packages: int
    pending_charges: int
    version: int
    partition: int
    offset: int


class PackageRow(Struct, frozen=True, kw_only=True, gc=False):
    """A package of the catalog in force. Fees are decimals in its currency: sums of its rows of that type.

    assigned: how many client packages of it are not in the archive.
    """

    id: str
    status: str
    name: str
    type: str
    currency: str
    activation_fee: str
    subscription_fee: str
    period: str | None
    reseller: str | None
    dynamic_tag: str | None
    assigned: int


class RejectedRow(Struct, frozen=True, kw_only=True, gc=False):
    """A record of `rater.rejected`. rejected_ms: the broker's time of it. side: None: none could be read.

    topic, source_partition, source_offset: where it came from. again: it was sent again (`rater recycle`).
    job: the re-rating that took the side back.
    """

    rejected_ms: int
    partition: int
    offset: int
    reason: str
    side: str | None
    detail: str
    value: str
    topic: str | None
    source_partition: int | None
    source_offset: int | None
    attempt: int | None
    job: str | None
    again: bool


class DidRow(Struct, frozen=True, kw_only=True, gc=False):
    """A number of the catalog in force. client, account, client_package: who holds it; None: it is free."""

    number: str
    tags: tuple[str, ...]
    state: str
    client: str | None
    account: str | None
    client_package: str | None
    hold_until_ms: int | None


class EventRow(Struct, frozen=True, kw_only=True, gc=False):
    """A record of `rater.events`. told_ms: the broker's time of it; at_ms: when it happened."""

    told_ms: int
    partition: int
    offset: int
    id: str
    type: str
    at_ms: int
    client: str | None
    client_package: str | None
    package_name: str | None
    cause: str | None
    actor: str | None


class CommandRow(Struct, frozen=True, kw_only=True, gc=False):
    """A command: who asked for what. sent_ms: its record's time; at_ms: its own `at`.

    result: done, refused, None: not answered yet. detail: why it was refused. system: we wrote it ourselves
    (ticks, parts of re-rating jobs, DIDs that are given back). Of a load, which is many records, there is
    one row.
    """

    sent_ms: int
    partition: int
    offset: int
    id: str
    key: str
    do: str
    at_ms: int
    actor: str
    reason: str
    client: str | None
    client_package: str | None
    dry_run: bool
    system: bool
    result: str | None
    detail: str | None


class JobRow(Struct, frozen=True, kw_only=True, gc=False):
    """A re-rating job, over all its clients. from_ms, to_ms: of calls. clients: at which it has begun.

    done, given_up: at how many clients. calls, changed: of those that are done. last_ms: when something was
    told of it last.
    """

    job: str
    from_ms: int
    to_ms: int
    started_ms: int
    last_ms: int
    clients: int
    done: int
    given_up: int
    calls: int
    changed: int
