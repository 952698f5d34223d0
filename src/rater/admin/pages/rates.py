"""Rate tables: which there are, their rates, and importing a deck, whose difference is shown first."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from rater.admin.deck_imports import DeckAsked, DeckDone, import_deck, now_s
from rater.admin.office import FRESH_S, Moved, Shown, Visit, now_ms
from rater.admin.orders import Writing, new_key
from rater.admin.pages.listing import Pager
from rater.admin.problems import Problem, wrong
from rater.admin.shown import part
from rater.core.catalog.compiled import Catalog
from rater.queries import catalog as catalog_queries
from rater.queries import rate_tables as queries

_FIELDS = ("table", "profile", "columns", "effective")
_DIGITS_MAX = 64


async def tables(visit: Visit) -> Shown:
    """Rate tables, with how many codes and rates each has."""
    pager = Pager(visit, "/rate-tables", ("text",))
    found = queries.tables(await _catalog(visit), pager.text("text"), pager.page())
    return Shown("rate_tables.html", {"found": found, "pager": pager.told(found)})


async def table(visit: Visit) -> Shown:
    """The rates of a table, by code; and what a number is rated by now."""
    name, catalog = visit.path["id"], await _catalog(visit)
    pager = Pager(visit, f"/rate-tables/{part(name)}", ("code",))
    code = pager.text("code")
    if code is not None and not (code.isascii() and code.isdigit() and len(code) <= _DIGITS_MAX):
        raise wrong("code", f"{code[:80]}: write digits, those that codes begin with or a number has")
    of, found = queries.rates(catalog, name, code, pager.page(), now_ms())
    by = None if code is None else queries.rated_by(catalog, name, code, now_ms())
    if by is not None and not found.total:  # a number, which is longer than the codes
        found = replace(found, rows=[by], total=1)
    return Shown("rate_table.html", {"table": of, "found": found, "pager": pager.told(found), "by": by})


async def _catalog(visit: Visit) -> Catalog | None:
    at = visit.office.at
    return await catalog_queries.newest(at.kafka, at.topics, at.catalogs)


async def form(visit: Visit) -> Shown:
    """Show the form that takes a deck."""
    values = {name: visit.query.get(name, "").strip() for name in _FIELDS}
    return await _form_page(visit, values)


async def send(visit: Visit) -> Shown | Moved:
    """Take a deck, keep it, and go to what it would change."""
    values = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    if visit.upload is None:
        return await _form_page(visit, values, wrong("file", "is missing; choose the carrier's deck"))
    asked = DeckAsked(visit.upload, **values)
    kept = visit.office.imports.keep(visit.user.name, asked, now_s())
    return Moved(f"/import-deck/{kept}")


async def look(visit: Visit) -> Shown:
    """Show what a deck that was sent changes; nothing is changed."""
    asked = visit.office.imports.find(visit.user.name, visit.path["id"], now_s())
    try:
        done = await _carry_out(visit, asked, Writing(visit.user, new_key(), dry_run=True))
    except Problem as problem:
        return _deck_page(asked, None, problem)
    return _deck_page(asked, done)


async def load(visit: Visit) -> Shown | Moved:
    """Load a deck whose difference was looked at."""
    office, of_id, given = visit.office, visit.path["id"], visit.form
    asked = office.imports.find(visit.user.name, of_id, now_s())
    why = given.get("reason", "").strip()
    writing = Writing(visit.user, given.get("key") or new_key(), why)
    try:
        done = await _carry_out(visit, asked, writing, given.get("seen", ""))
    except Problem as problem:
        if problem.status != 409:  # noqa: PLR2004 - somebody else changed it: what it is now is shown
            return _deck_page(asked, None, problem, why)
        now = await _carry_out(visit, asked, Writing(visit.user, new_key(), dry_run=True))
        return _deck_page(asked, now, problem, why)
    office.imports.done(of_id)
    await office.model.wait_until_now(FRESH_S)
    told = f"is loaded; catalog {done.catalog} is in use" if done.changed else "says what the table says"
    return Moved(f"/rate-tables/{part(done.table)}", f"The deck {asked.upload.name} {told}")


async def _carry_out(visit: Visit, asked: DeckAsked, writing: Writing, seen: str = "") -> DeckDone:
    return await import_deck(visit.office.settings, visit.office.imports, asked, writing, seen)


async def _form_page(visit: Visit, values: dict[str, str], problem: Problem | None = None) -> Shown:
    catalog = await _catalog(visit)
    told: dict[str, Any] = {
        "values": values, "tables": [] if catalog is None else sorted(catalog.tables),
        "profiles": list(visit.office.settings.decks),
        "problem": None if problem is None else problem.details,
    }  # fmt: skip
    return Shown("deck_form.html", told, 200 if problem is None else problem.status)


def _deck_page(
    asked: DeckAsked, done: DeckDone | None, problem: Problem | None = None, reason: str = ""
) -> Shown:
    told = {
        "asked": asked, "again": {name: getattr(asked, name) for name in _FIELDS}, "done": done,
        "problem": None if problem is None else problem.details, "key": new_key(), "reason": reason,
    }  # fmt: skip
    return Shown("deck.html", told, 200 if problem is None else problem.status)
