"""What a re-rating job found, as people and programs are told of it: rows, and sentences beside the sums."""

from __future__ import annotations

from typing import Any

from rater.core.amounts import format_micros
from rater.core.instants import rfc3339
from rater.core.rerating.client import Window
from rater.core.rerating.difference import Row
from rater.jobs.rerate import ClientRow, Summary


def client_row(row: ClientRow) -> dict[str, Any]:
    """Return what is told of a client (CONTRACTS.md, Programs)."""
    wider = row.wider
    return {
        "client": row.client, "calls": row.calls, "changed": row.changed,
        "volume_before": row.volume_before, "volume_after": row.volume_after,
        "amount_before": format_micros(row.amount_before), "amount_after": format_micros(row.amount_after),
        "currency": row.currency,
        "wider": None if wider is None else {"from": rfc3339(wider.from_ms), "to": rfc3339(wider.to_ms)},
    }  # fmt: skip


def transaction_row(row: Row) -> dict[str, Any]:
    """Return what is told of a transaction that changes."""
    return {
        "transaction": row.transaction, "revision": row.revision,
        "amount_before": None if row.before is None else format_micros(row.before),
        "amount_after": None if row.after is None else format_micros(row.after),
    }  # fmt: skip


def notes(summary: Summary, window: Window) -> list[str]:
    """Return sentences on what one may not expect of the sums; what could not be done is `summary.left`."""
    out = []
    if summary.again:
        out.append(
            f"calls came in meanwhile: clients were worked out anew {summary.again} times, so this is not "
            "what a preview before has shown"
        )
    if summary.left_out:
        out.append(
            f"{summary.left_out} rejected records are too large for this; send them by `rater recycle`"
        )
    begins = summary.journal_from_ms
    if begins is not None and begins > window.from_ms:
        out.append(
            f"the journal begins at {rfc3339(begins)}: what was published before is gone by retention, and "
            "these calls stand with what they drew"
        )
    if summary.unsure:
        out.append(
            f"{summary.unsure} rejected records are of calls of before: they may have been rated then, and "
            "are left as they are"
        )
    oldest = summary.rejected_from_ms
    if oldest is not None and oldest > window.from_ms:
        out.append(
            f"rejected records from before {rfc3339(oldest)} are gone: calls that were rejected then stay so"
        )
    return out
