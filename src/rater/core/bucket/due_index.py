"""The due index of a bucket: when something of a client becomes due, as hints hour by hour.

A hint without due work is harmless, a client that is hinted twice as well: its state says what is due.
"""

from __future__ import annotations

from collections import defaultdict

from rater.core.bucket.messages import DUE_HINTS_MAX, DUE_HOURS_MAX


class DueIndex:
    """Hints as they were added: hour since 1970 → elements (`messages.hint_of`)."""

    def __init__(self) -> None:
        """Start without any."""
        self.hours: defaultdict[int, list[bytes]] = defaultdict(list)
        self.lowest: int | None = None
        """No hour below has hints; None: there never were any."""

    def add(self, hints: list[tuple[int, bytes]]) -> None:
        """Add (hour, element)."""
        for hour, element in hints:
            self.hours[hour].append(element)
            self.lowest = hour if self.lowest is None else min(hour, self.lowest)

    def read(self, upto: int, known: dict[int, int]) -> tuple[list[tuple[int, list[bytes]]], int]:
        """Return (hour, elements) behind so many that are known of each, and how many there are in all.

        upto: the last hour. At most DUE_HINTS_MAX elements, of the lowest hours.
        """
        found, total, room = [], 0, DUE_HINTS_MAX
        for hour in sorted(hour for hour in self.hours if hour <= upto):
            total += len(self.hours[hour])
            fresh = self.hours[hour][known.get(hour, 0) :][:room]
            if fresh:
                found.append((hour, fresh))
                room -= len(fresh)
        return found, total

    def drop(self, hour: int, length: int, upto: int) -> bool:
        """Drop an hour's hints if they are so many; returns whether they were.

        The lowest hour moves to the next that has any, or behind `upto`, by DUE_HOURS_MAX hours at most.
        """
        dropped = 0 < length == len(self.hours.get(hour, ()))
        if dropped:
            del self.hours[hour]
        if self.lowest is not None:
            stop = min(upto + 1, self.lowest + DUE_HOURS_MAX)
            while self.lowest < stop and not self.hours.get(self.lowest):
                self.lowest += 1
        return dropped
