"""The CDR: one call detail record as a switch emitted it, checked, and the bounds of what it may hold.

Source of the rules: CONTRACTS.md "CDR"; RULES.md 2, step 5. The bound of each number, with its reason:
core/README.md.
"""

from __future__ import annotations

from typing import Annotated, Final

from msgspec import Meta, Struct

from rater.core.amounts import COUNT_MAX, parse_e10
from rater.core.instants import HOUR_MS
from rater.core.reasons import Rejection, Side

MAX_BYTES = 65_536  # CONTRACTS.md: at most 64 KiB
DEPTH_MAX = 100
"""Lists and objects in each other at most, the record included:
a bound of our own, for Python's depends on its stack.
"""
MAPPED_BYTES = 2**20
"""The largest record of a switch's own form that a source takes, unless it says otherwise."""
MAPPED_BYTES_MAX = 8 * 2**20
"""What it may say: below what an input topic may take (10 MiB), and a rejected record comes whole."""
FUTURE_MS_MAX = HOUR_MS  # RULES.md 2, step 5: one more than an hour ahead is refused
CALENDAR_MS_MAX = 253_370_764_799_999
"""The end of the year 9998: later local times may be none in UTC. Bounds calls where no lane time is."""
WRAPPED_MIN, WRAPPED_END = 2**32 - 2**16, 2**32
"""Amounts that are a count below zero, kept in 32 bits without sign: -6 is 4294967290."""
CALLS = "calls"  # the one service whose volume is a duration
ID_CHARS_MAX = 200  # a SIP Call-ID is far shorter; the id goes into transaction ids and Kafka headers
SOURCE_CHARS_MAX = 64
RESERVED_SOURCES: Final = frozenset({"cp", "adjust"})
"""So begin the ids of fees and of adjustments: a call's would be taken for one of those."""
DIGITS_MAX = 64  # E.164 has 15, technical prefixes some more; bounds the memo of code look-ups
CALLER_CHARS_MAX = 64  # kept for the transaction only, so it is cut and not refused
SIDES: Final[tuple[Side, Side]] = ("orig", "term")
# As in the catalog; a count below zero in 32 bits without sign is above it.
_RateCount = Annotated[int, Meta(ge=0, le=COUNT_MAX)]


class GivenRate(Struct, frozen=True):
    """A rate that the switch has identified already; used as given (RULES.md 2, step 4).

    price and setup_fee are decimals of the currency, as text and checked; the rest is in counting units, at
    most `COUNT_MAX`.
    """

    code: Annotated[str, Meta(pattern=r"^[0-9]{1,64}\Z")]
    price: str
    currency: Annotated[str, Meta(min_length=1, max_length=16)]
    code_name: Annotated[str, Meta(max_length=1000)] | None = None  # memos keep given rates
    setup_fee: str = "0"
    min_time: _RateCount = 0
    interval: Annotated[int, Meta(ge=1, le=COUNT_MAX)] = 1
    grace_time: _RateCount = 0

    def __post_init__(self) -> None:
        """Refuse what is no decimal; msgspec turns the ValueError into its own with the place."""
        parse_e10(self.price)
        parse_e10(self.setup_fee)

    @property
    def price_e10(self) -> int:
        """Price of one price unit in 10^-10 of the currency."""
        return parse_e10(self.price)

    @property
    def setup_fee_e10(self) -> int:
        """Setup fee in 10^-10 of the currency."""
        return parse_e10(self.setup_fee)


class Party(Struct, frozen=True, gc=False):
    """One side as the CDR names it: client and account, or what identification rules read.

    Empty texts name nothing.
    """

    client: str | None = None
    account: str | None = None
    gateway: str | None = None
    ip: str | None = None
    login: str | None = None
    rate: GivenRate | None = None


class Cdr(Struct, frozen=True, gc=False):
    """A checked CDR. Instants are ms since 1970 UTC; `called` is digits alone, its leading `+` stripped.

    at_ms is the call's time: answered, else set up, else ended. used False: the volume is 0, so every side
    is a zero transaction, answered (answered_ms) or not. A side that could not be read is None here and
    stands in `rejected`; the other one goes on.
    """

    source: str
    id: str
    service: str
    setup_ms: int | None
    answered_ms: int | None
    ended_ms: int | None
    at_ms: int
    duration_ms: int | None
    volume: int | None
    used: bool
    caller: str | None
    called: str
    orig: Party | None
    term: Party | None
    rejected: tuple[Rejection, ...] = ()
    plain: bool = False
    """No text of it has anything that JSON escapes: it is written as it is, between quotes."""

    def sides(self) -> tuple[tuple[Side, Party], ...]:
        """Return the sides to rate, orig first."""
        if self.orig is None:
            return (("term", self.term),) if self.term is not None else ()
        if self.term is None:
            return (("orig", self.orig),)
        return (("orig", self.orig), ("term", self.term))


class EveryService(frozenset[str]):
    """All services: which there are, the catalog says."""

    __slots__ = ()

    def __contains__(self, _: object) -> bool:
        """Return True, whatever its name."""
        return True


class Arrival:
    """What arrival adds to a record: the lane's time (ms, never running backwards), the window, services.

    lane_ms 0: none is known, for no record so far had a timestamp. Then nothing is judged by it, and the
    calendar alone bounds calls.
    """

    __slots__ = ("first_ms", "lane_ms", "last_ms", "services", "window_ms")

    def __init__(self, lane_ms: int, window_ms: int, services: frozenset[str]) -> None:
        """Know the first instant that a call may be of, and the last that it may be of and end at, too."""
        self.lane_ms = lane_ms
        self.window_ms = window_ms
        self.services = services
        self.first_ms = lane_ms - window_ms
        self.last_ms = lane_ms + FUTURE_MS_MAX if lane_ms > 0 else CALENDAR_MS_MAX
