"""A client's calls as a re-rate goes through them: what was published last of each, in files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from rater.core.rerating.calls import TOGETHER, Fee, PastSide, apart, together, unpack
from rater.core.rerating.sorting import Sorted, latest, sorted_again
from rater.jobs.spooling import Spool, merged


class Calls:
    """A client's calls, packed and sorted, in parts (`calls.together`); and the fees that calls brought."""

    def __init__(self, code: str, has: Callable[[PastSide], bool]) -> None:
        """Begin empty. code: as `latest` takes it. has: says of a call whether it is among the selected."""
        self._code, self._has = code, has
        self.spool, self.fees = Spool(), list[Fee]()
        self._rest: list[bytes] = []
        """Calls that are not written yet: parts that were native are of another size without some."""

    def take(self, entries: Iterable[Sorted]) -> None:
        """Take what was published of them all, sorted."""
        for part in together(self._sides(entries)):
            self.spool.add(part)

    def _sides(self, entries: Iterable[Sorted]) -> Iterator[bytes]:
        for is_fee, was_rated, raw in latest(entries, self._code):
            if was_rated and not is_fee:  # nearly always
                yield raw
                continue
            one = unpack(raw)
            if isinstance(one, Fee):
                self.fees.append(one)
            elif self._has(one):
                yield raw

    def take_part(self, fees: list[Sorted], part: bytes, doubtful: list[int]) -> None:
        """Take some that the native engine gives, in order (`engine.Merged`); then `end`."""
        self.fees += [one for _, _, raw in latest(fees) if isinstance(one := unpack(raw), Fee)]
        if not doubtful and not self._rest:
            if part:
                self.spool.add(part)
            return
        asked = set(doubtful)
        self._rest += [raw for at, raw in enumerate(apart(part)) if at not in asked or self._is_among(raw)]
        self._write(len(self._rest) - len(self._rest) % TOGETHER)

    def end(self) -> None:
        """End what is taken in parts."""
        self._write(len(self._rest))

    def _write(self, count: int) -> None:
        for part in together(self._rest[:count]):
            self.spool.add(part)
        del self._rest[:count]

    def _is_among(self, raw: bytes) -> bool:
        one = unpack(raw)
        return isinstance(one, PastSide) and self._has(one)

    def __call__(self) -> Iterator[PastSide]:
        """Yield the calls in order."""
        for part in self.spool:
            for raw in apart(part):
                one = unpack(raw)
                assert isinstance(one, PastSide)  # noqa: S101 - fees are kept apart
                yield one

    def with_more(self, more: Iterable[Sorted]) -> Calls:
        """Return the calls with what was published of them since; this one is let go of."""
        made = Calls(self._code, self._has)
        made.take(merged(sorted(map(sorted_again, self.fees)), map(sorted_again, self()), more))
        self.spool.close()
        return made
