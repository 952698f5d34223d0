"""Why a transaction is what it is, and what would come of a call."""

from __future__ import annotations

from typing import Any

from rater.admin.office import Shown, Visit
from rater.admin.problems import Problem
from rater.admin.reading import explained_rows
from rater.core.explaining.telling import in_words
from rater.errors import Halt, Wait
from rater.queries.explained import what_if as what_would

_EXAMPLE = """{"id": "what-if", "called": "380441234567", "duration_ms": 65000,
 "answered_at": "2026-12-01T10:00:00Z", "orig": {"client": "42"}}"""


async def form(visit: Visit) -> Shown:
    """Show the form; with an id, also what is told of it."""
    asked = visit.query.get("id", "").strip()
    if not asked:
        return _page(asked)
    try:
        rows = await explained_rows(visit.office, asked)
    except (Problem, Halt, Wait) as error:
        return _page(asked, problem=str(error), status=getattr(error, "status", 503))
    return _page(asked, rows)


async def what_if(visit: Visit) -> Shown:
    """Show what would come of a call; nothing is changed."""
    call = visit.form.get("call", "").strip()
    try:
        rows = await what_would(visit.office.at, call.encode())
    except (Halt, Wait) as error:
        return _page("", call=call, problem=str(error), status=503)
    return _page("", rows, call=call)


def _page(
    asked: str, rows: list[dict[str, Any]] | None = None, *, call: str = "", problem: str | None = None,
    status: int = 200,
) -> Shown:  # fmt: skip
    told = None if rows is None else [(row, list(in_words(row))) for row in rows]
    return Shown(
        "explain.html",
        {"asked": asked, "told": told, "call": call or _EXAMPLE, "problem": problem, "is_call": bool(call)},
        status,
    )
