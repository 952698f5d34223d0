"""What an import of a deck does, as people and programs are told: in rows, and in a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from rater.core.amounts import format_e10
from rater.core.catalog.codes import Row
from rater.core.decks.cells import letters
from rater.core.decks.difference import KINDS, SILENT, Change
from rater.core.decks.planning import Plan
from rater.core.decks.profile import Profile
from rater.core.instants import rfc3339

ACROSS = {
    "moved": "prices that move by more than {} percent",
    "doubtful": "the deck's status says something else than its price",
    "renamed": "codes whose name in the code deck changes",
}
"""What goes across the kinds."""
_REASON_CHARS_MAX = 1000
_FILE_CHARS_MAX = 100


def counts(plan: Plan) -> dict[str, int]:
    """Return kind → how many changes there are of it, those that there are; with those across the kinds."""
    found = {name: count for name, count in sorted(plan.difference.counts.items()) if count}
    return found | ({"renamed": len(plan.renamed)} if plan.renamed else {})


def meanings(profile: Profile) -> dict[str, str]:
    """Return kind → what it means, in the order in which they are told."""
    return KINDS | {name: text.format(profile.move_percent) for name, text in ACROSS.items()}


def listed(plan: Plan) -> Iterator[str]:
    """Yield the kinds whose changes are listed, those to look at first."""
    for kind in ("moved", "doubtful", *KINDS):
        if kind not in SILENT and plan.difference.counts[kind]:
            yield kind


def columns(plan: Plan) -> str:
    """Return which column of the deck was read as what."""
    header = plan.deck.header
    return ", ".join(
        f"{name} {letters(at)} {header.titles.get(at, '')!r}" for name, at in header.columns.items()
    )


def summary(plan: Plan, profile: Profile) -> dict[str, Any]:
    """Return what `--json` says of it all."""
    return {
        "table": plan.table.name + (" (new)" if plan.is_new else ""),
        "currency": plan.table.currency,
        "code_deck": plan.table.code_deck,
        "catalog": plan.version,
        "deck": profile.kind,
        "header_row": plan.deck.header.row,
        "columns": columns(plan),
        "codes": plan.codes,
        "counts": counts(plan),
    }


def rows(plan: Plan, changes: Iterable[Change]) -> Iterator[dict[str, Any]]:
    """Yield changes as programs are told of them (CONTRACTS.md, Decks)."""
    for change in changes:
        yield {
            "change": change.kind,
            "code": change.code,
            "name": plan.names.get(change.code, change.name),
            "from": None if change.from_ms is None else rfc3339(change.from_ms)[:19] + "Z",
            "before": None if change.before is None else format_e10(change.before.price_e10),
            "after": None if change.after is None else format_e10(change.after.price_e10),
            "terms": _terms(change.before, change.after),
            "moved": change.moved,
            "doubtful": change.doubt,
            "falls_to": change.falls_to,
            "place": plan.deck.place(change.row),
        }


def _terms(before: Row | None, after: Row | None) -> str | None:
    """Return fee and increment, `0.05 + 60/1`; of a change both."""
    told = [
        f"{format_e10(row.setup_fee_e10)} + {row.min_time}/{row.interval}" if row is not None else None
        for row in (before, after)
    ]
    if told[0] is not None and told[1] is not None and told[0] != told[1]:
        return f"{told[0]} → {told[1]}"
    return told[1] or told[0]


def reason(plan: Plan, file: str, asked: str = "") -> str:
    """Return the reason of the load, which the list of commands shows: the deck, its table, how many changes.

    asked: what was given as the reason.
    """
    told = ", ".join(f"{count} {kind}" for kind, count in counts(plan).items() if kind not in SILENT)
    text = f"deck {file[:_FILE_CHARS_MAX]} into rate table {plan.table.name}: {told or 'nothing new'}"
    return (f"{text}; {asked}" if asked else text)[:_REASON_CHARS_MAX]
