"""What a draw tells beside its transaction: limits used to a percent, a balance at its client's mark.

Source of the rules: RULES.md section 4 (Thresholds). All that goes into these events was kept with the
outcome, so a replay tells the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rater.core.bucket.messages import DrawResult
from rater.core.catalog.offers import LimitText
from rater.core.clients.changes import ChangeEvent
from rater.core.kinds import EventType


def crosses(marks: Sequence[tuple[int, int]], taken: int, left: int) -> bool:
    """Return whether a take crosses a percent of its limit: seldom, but asked of each."""
    for _, rest in marks:
        if left > rest:
            return False  # nor those behind it, for which less is left
        if rest < left + taken:
            return True
    return False


def draw_events(
    transaction: bytes, limits: Sequence[LimitText], result: DrawResult, cause: str
) -> list[ChangeEvent]:
    """Return the events of a side that was rated. transaction: as it is published. cause: its record's place.

    Each percent is told by the take that crosses it, so by one of all those of a period.
    """
    of = msgspec.json.decode(transaction)
    out = []
    for (index, taken, left, _), draw in zip(result.takes, of["draws"], strict=True):
        out += [
            _event(
                of, cause, EventType.LIMIT_THRESHOLD, f"/{draw['limit']}/{percent}", draw,
                {"limit": draw["limit"], "percent": percent},
            )
            for percent, rest in limits[index].marks
            if left <= rest < left + taken
        ]  # fmt: skip
    if result.low is not None:
        out.append(_event(of, cause, EventType.LOW_BALANCE if result.low else EventType.BALANCE_RESTORED))
    return out


def _event(
    of: dict[str, Any], cause: str, kind: EventType, about: str = "", draw: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
) -> ChangeEvent:  # fmt: skip
    drawn = draw or {}
    value = {
        "id": f"{of['id']}/{of['revision']}/{kind}{about}", "type": kind, "at": of["at"],
        "client": of["client"], "account": of["account"], "client_package": drawn.get("client_package"),
        "package_name": drawn.get("package_name"), "period": drawn.get("period"), "cause": cause,
        "actor": None, "before": None, "after": None, "data": data,
    }  # fmt: skip
    return ChangeEvent(kind, of["client"].encode(), msgspec.json.encode(value))
