"""Closed lists that need nothing else, so that a command line can show them at once."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

SideLabel = Literal["orig", "term", "none"]
"""A side as it is counted; none: of a record of which no side could be read."""

Stage = Literal["decode", "identify", "price", "match", "draw", "render", "commit"]
"""A step of the line as it is measured; poll waits for records, so its time says nothing."""


class SideOutcome(StrEnum):
    """How a side ended."""

    RATED = "rated"
    ZERO = "zero"
    REJECTED = "rejected"
    DUPLICATE = "duplicate"


class DuplicateKind(StrEnum):
    """Whether a side that was seen before came with the same content."""

    SAME = "same"
    DIFFERS = "differs"


class TransactionType(StrEnum):
    """What a money movement is for. Source: CONTRACTS.md, Transaction; the list is closed."""

    USAGE = "usage"
    ACTIVATION_FEE = "activation_fee"
    SUBSCRIPTION_FEE = "subscription_fee"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    REVERSAL = "reversal"


class RenewalOutcome(StrEnum):
    """What became of a renewal; archived: given up when `renew_for` was over."""

    RENEWED = "renewed"
    LATE = "late"
    PENDING = "pending"
    ARCHIVED = "archived"


class RerateOutcome(StrEnum):
    """How a call ended that was rated again; first: it was rejected before."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    REJECTED = "rejected"
    FIRST = "first"


class RerateState(StrEnum):
    """What became of a re-rating job at a client."""

    STARTED = "started"
    DONE = "done"
    GIVEN_UP = "given_up"


class ClientPackageStatus(StrEnum):
    """Where a client package stands: before its first period, in one, or neither (archive)."""

    PENDING = "pending"
    ACTIVE = "active"
    ARCHIVE = "archive"


class ClientPackageState(StrEnum):
    """What comes next for a client package (RULES.md section 6); runs: neither renewal nor end."""

    NEW = "new"
    RENEWS = "renews"
    ENDS = "ends"
    RUNS = "runs"
    WAITS_FOR_FUNDS = "waits for funds"
    WAITS = "waits"
    ARCHIVE = "archive"


class DidState(StrEnum):
    """Whether a number is held, and how (RULES.md section 4, DIDs)."""

    FREE = "free"
    IN_USE = "in use"
    ON_HOLD = "on hold"


class Do(StrEnum):
    """What a command asks for. Source: CONTRACTS.md, Command; the list is closed."""

    LOAD_CATALOG = "load_catalog"
    PUT_PACKAGE = "put_package"
    SET_PACKAGE_STATUS = "set_package_status"
    DELETE_PACKAGE = "delete_package"
    PUT_CLIENT = "put_client"
    ADJUST = "adjust"
    ASSIGN = "assign"
    EDIT_END_DATE = "edit_end_date"
    STOP_NOW = "stop_now"
    STOP_AT_PERIOD_END = "stop_at_period_end"
    CANCEL = "cancel"
    REMOVE = "remove"
    TICK = "tick"
    DID_ASSIGN = "did_assign"
    DID_RELEASE = "did_release"
    INVOICE_PENDING_CHARGE = "invoice_pending_charge"
    RERATE = "rerate"


class Result(StrEnum):
    """How a command ended."""

    DONE = "done"
    REFUSED = "refused"


class EventType(StrEnum):
    """What an event tells. Source: CONTRACTS.md, Events; the list is closed."""

    ASSIGNED = "assigned"
    ACTIVATED = "activated"
    RENEWED = "renewed"
    RENEWED_LATE = "renewed_late"
    CHARGE_PENDING = "charge_pending"
    PENDING_CHARGE_INVOICED = "pending_charge_invoiced"
    CHARGE_CLEARED = "charge_cleared"
    STOP_SCHEDULED = "stop_scheduled"
    STOPPED = "stopped"
    CANCELLED = "cancelled"
    ARCHIVED = "archived"
    REMOVED = "removed"
    END_DATE_CHANGED = "end_date_changed"
    PACKAGE_CHANGED = "package_changed"
    CLIENT_CHANGED = "client_changed"
    LIMIT_THRESHOLD = "limit_threshold"
    LIMIT_EXPIRING = "limit_expiring"
    LOW_BALANCE = "low_balance"
    BALANCE_RESTORED = "balance_restored"
    DID_ASSIGNED = "did_assigned"
    DID_ON_HOLD = "did_on_hold"
    DID_FREED = "did_freed"
    RERATE_NEEDED = "rerate_needed"
    RERATE_STARTED = "rerate_started"
    RERATE_DONE = "rerate_done"
    CATALOG_LOADED = "catalog_loaded"
    COMMAND_DONE = "command_done"
    COMMAND_REFUSED = "command_refused"
