"""A client's calls rated again by the native engine; where it cannot tell the same, the twin rates them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from rater.core.bucket.messages import Outcome
from rater.core.catalog.compiled import Catalog
from rater.core.cdr import SIDES
from rater.core.clients.state import ClientState, write_state
from rater.core.rating.transaction import refused
from rater.core.reasons import Rejection
from rater.core.rerating.bounds import Bounds
from rater.core.rerating.calls import Fee, PastSide, unpack
from rater.core.rerating.client import Again, Sums, Twin
from rater.core.rerating.rating import ClientRating, NewFee, Rated, Unchanged

if TYPE_CHECKING:
    from rater.native import engine
    from rater.native.holding import Native

log = structlog.get_logger()


class Unlike(Exception):  # noqa: N818 - no fault of anybody's
    """The native engine cannot rate this client: the twin does."""


def ways(
    native: Native | None, catalog: Catalog, state: ClientState, sums: Sums, raw: bytes | None = None
) -> Iterator[Again]:
    """Yield what rates a client's calls again: natively, and by the twin, where the first raises Unlike.

    state: with all of its periods. raw: the same as bytes, where they are at hand.
    """
    by = None if native is None else native.catalog(catalog.version)
    if native is not None and by is not None:
        reference = partial(ClientRating, state, catalog, {}, 0)
        yield NativeAgain(native, by, reference, raw or write_state(state), sums, state.id)
    yield Twin(state, catalog, sums)


class NativeAgain:
    """`Again` by the native engine, which makes no objects of calls that end as they did. Raises Unlike."""

    def __init__(
        self, native: Native, by: engine.Catalog, reference: Callable[[], ClientRating], state: bytes,
        sums: Sums, client: str,
    ) -> None:  # fmt: skip
        """Rate by this catalog. reference: makes what says why a call cannot be rated."""
        self._native, self._by, self._reference = native, by, reference
        self._state, self._sums, self._client = state, sums, client
        self._again: engine.Again

    @property
    def bounds(self) -> Bounds:
        """See `Again`."""
        found = Bounds()
        found.fields, found.balance = self._again.bounds()
        return found

    def take_back(self, calls: Iterable[bytes], fees: Mapping[str, Fee]) -> frozenset[str]:
        """See `Again`."""
        with self._watching():
            self._again = self._native.again(
                self._by, self._state, self._sums.balance, self._sums.counters, _brought(fees)
            )
            for part in calls:
                self._again.take_back(part)
            brought = frozenset(self._again.brought())
            for name in brought:
                for field, units in fees[name].told().takes():
                    self._again.add(field, -units)
        return brought

    def rate(self, calls: Iterable[bytes]) -> Iterator[Rated | Unchanged]:
        """See `Again`."""
        for part in calls:  # of as many as the twin rates at once
            with self._watching():
                same, rows = self._again.rate(part)
            if same[0]:
                yield Unchanged(*same)
            for raw, value, amount, takes, fee, is_out_of_range in rows:
                call = unpack(raw)
                assert isinstance(call, PastSide)  # noqa: S101 - fees are kept apart
                if value is not None:
                    brought = None if fee is None else NewFee(*fee)
                    yield Rated(call, call.told(), value, amount, takes, brought)
                else:
                    yield Rated(call, call.told(), rejection=self._rejection(call, is_out_of_range))

    def _rejection(self, call: PastSide, is_out_of_range: bool) -> Rejection:  # noqa: FBT001 - as it is told
        if is_out_of_range:
            return refused(Outcome.OUT_OF_RANGE, call.id, SIDES[call.side])
        found = self._reference().rejection(call)
        if found is None:
            log.error("the native engine returned calls that Python rates", calls=1, first=[call.name])
            raise Unlike(call.name)
        return found

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Raise Unlike where Python is to rate the client. Nothing of it is published by then."""
        try:
            yield
        except self._native.panic as panic:
            raise self._unlike(panic) from panic
        except (ValueError, OverflowError) as error:
            raise self._unlike(error) from error

    def _unlike(self, why: BaseException) -> Unlike:
        client = self._client
        if isinstance(why, self._native.panic):
            log.error("the native engine panicked", client=client, panic=str(why))
        else:
            log.warning("Python rates a client again", client=client, problem=str(why))
        return Unlike(client)


def _brought(fees: Mapping[str, Fee]) -> list[tuple[str, str, str, str, int]]:
    """Return of fees that stand CDR, id, client package and period."""
    told = [(fee.id, fee.told()) for fee in fees.values() if fee.stands]
    return [
        (of.cdr.source, of.cdr.id, name, of.client_package or "", of.period or 0)
        for name, of in told
        if of.cdr is not None
    ]
