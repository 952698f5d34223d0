"""Faults, sorted by what to do about them: wait and repeat, take the lane again, drop the lane, or stop.

Outcomes that the business expects (a duplicate, a missing rate) are values, never exceptions.
"""

from __future__ import annotations


class Wait(Exception):  # noqa: N818 - named for what the caller does
    """A temporary fault outside this process: nothing was decided, try again later."""


class Halt(Exception):  # noqa: N818 - named for what the caller does
    """A fault that time does not heal: stop and show the sentence, which says what to do."""


class NoCatalog(Halt):
    """What a manifest points at is not there or is no catalog: nothing to rate by, no command to do."""


class StoreDown(Wait):
    """Redis did not do what was asked, and did nothing: not reachable, loading, read-only, out of memory."""


class StoreUnknown(Wait):
    """Redis may or may not have done what was asked: the reply was lost. Never repeat the call.

    Take the lane again.
    """


class StreamDown(Wait):
    """Kafka is not reachable or has no leader for a partition."""


class Fenced(Exception):  # noqa: N818 - named for what happened
    """A rival owns the lane: drop it, and take it again only while the group still assigns it to us."""


class Retake(Exception):  # noqa: N818 - named for what the caller does
    """What we remember of the lane no longer holds: take the lane again, from the journal."""
