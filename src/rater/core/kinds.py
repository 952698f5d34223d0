"""Closed lists that need nothing else, so that a command line can show them at once."""

from __future__ import annotations

from enum import StrEnum


class TransactionType(StrEnum):
    """What a money movement is for. Source: CONTRACTS.md, Transaction; the list is closed."""

    USAGE = "usage"
    ACTIVATION_FEE = "activation_fee"
    SUBSCRIPTION_FEE = "subscription_fee"
    REFUND = "refund"
    ADJUSTMENT = "adjustment"
    REVERSAL = "reversal"


class ClientPackageStatus(StrEnum):
    """Where a client package stands: before its first period, in one, or neither (archive)."""

    PENDING = "pending"
    ACTIVE = "active"
    ARCHIVE = "archive"
