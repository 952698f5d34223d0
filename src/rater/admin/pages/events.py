"""Events: the list of those that were, one in full, and up to where somebody has them."""

from __future__ import annotations

import re

import msgspec

from rater.admin.office import Shown, Visit
from rater.admin.pages.listing import Pager, place_of
from rater.admin.problems import Problem, wrong
from rater.admin.shown import query
from rater.core.commands.records import read_event
from rater.core.kinds import EventType
from rater.queries import listed
from rater.readmodel import asked

_TYPES = tuple(of.value for of in EventType)
_FILTERS = ("client", "type", "since", "until", "answers")
_PLACES = re.compile(r"[0-9]{1,18}(-[0-9]{1,18})*")


def wanted(visit: Visit) -> asked.Events:
    """Return what events the URL asks for. Raises Problem."""
    return _wanted(Pager(visit, "/events", _FILTERS))


def _wanted(pager: Pager) -> asked.Events:
    kind = pager.choice("type", _TYPES)
    return asked.Events(
        client=pager.text("client"), type=None if kind is None else EventType(kind),
        answers=pager.text("answers") is not None, since_ms=pager.moment("since"),
        until_ms=pager.moment("until"),
    )  # fmt: skip


async def events(visit: Visit) -> Shown:
    """Events, the newest first; the first page goes on as they happen."""
    model, pager = visit.office.model, Pager(visit, "/events", _FILTERS)
    upto = await model.events_upto()  # before the rows are read: what comes meanwhile is told once more
    wished = _wanted(pager)
    page = pager.page()
    found = await model.events(wished, page)
    moves = wished.until_ms is None and not page.skip and page.after is None and page.before is None
    chosen = {name: pager.filters[name] for name in ("client", "type", "answers")}
    stream = "/streams/events" + query(chosen, after=write_places(upto)) if moves else None
    return Shown(
        "events.html", {"found": found, "pager": pager.told(found), "types": _TYPES, "stream": stream}
    )


async def event(visit: Visit) -> Shown:
    """Show an event in full, as it lies in its topic."""
    at = visit.office.at
    place = place_of(visit, at.topics.partitions)
    seen = None if place is None else await listed.text(at, at.topics.events, *place)
    value = None if seen is None else seen.value
    found = None if value is None else read_event(value)
    if value is None or found is None:
        raise Problem(
            404, f"there is no event at {at.topics.events}[{visit.path['partition']}] {visit.path['offset']}"
        )
    return Shown("event.html", {"one": found, "whole": msgspec.json.format(value, indent=2).decode()})


def write_places(upto: list[int]) -> str:
    """Return as text up to which offset of each partition somebody has the events."""
    return "-".join(map(str, upto))


def read_places(text: str | None, now: list[int]) -> list[int]:
    """Return the places in a text; without one, those of now. Raises Problem for what is none.

    now: of each partition, up to where events are in the rows. Partitions that are new begin at 0.
    """
    if text is None:
        return list(now)
    if not _PLACES.fullmatch(text) or text.count("-") >= len(now):
        raise wrong("after", f"{text[:40]} says no place of the events; take that of a page, or a message")
    given = list(map(int, text.split("-")))
    return given + [0] * (len(now) - len(given))
