"""Of what events tell ahead: how far limits are used, that volume is about to expire."""

from __future__ import annotations

from typing import NamedTuple


class Notices(NamedTuple):
    """What the settings say of it.

    limit_percents: of a limit's use, ascending. expiring_ms: so long before a period's stop unused volume is
    told of, 0: it is not.
    """

    limit_percents: tuple[int, ...] = (50, 80, 100)
    expiring_ms: int = 0


NOTICES = Notices()
"""Those of settings that say nothing."""
