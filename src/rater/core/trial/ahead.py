"""What a package would come to before anybody has it: periods, their charges, and the codes it catches."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from rater.core.amounts import LIMIT
from rater.core.catalog.codes import WILDCARD, Deck
from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.specs import ClientSpec, Content, LimitSpec, PackageHistory, PackageSpec, TermsSpec
from rater.core.catalog_files.placed import CatalogFile, Placed
from rater.core.clients.moments import due_ms
from rater.core.clients.state import Charged, HeldPeriod
from rater.core.commands.records import AssignArgs, read_event, write_command
from rater.core.instants import instant
from rater.core.kinds import Do, EventType
from rater.core.offline import Rater

PERIODS = 6
_CLIENT = "preview"
_STEPS = 4 * PERIODS
"""Moments that are looked at: each period has a renewal, and maybe an end."""


class PeriodAhead(Struct, frozen=True):
    """A period that would be opened. Instants in ms UTC; stop_ms None: without end.

    fees: signed micros of the package's currency. share: of a whole one, as (of, whole) seconds.
    """

    number: int
    start_ms: int
    stop_ms: int | None
    fees: tuple[Charged, ...]
    share: tuple[int, int] | None


class Ahead(Struct, frozen=True):
    """The periods of a package that is assigned at an instant. refused: why it cannot be, a sentence.

    by_event: its subscription fee comes with the first call that draws, and is not among the fees.
    terms: the payment terms that were taken, for a package that is aligned to them.
    """

    periods: list[PeriodAhead]
    refused: str | None = None
    by_event: bool = False
    terms: str | None = None


def periods_ahead(content: Content, spec: PackageSpec, at_ms: int, zone: str = "UTC") -> Ahead:
    """Return the first periods of a package, assigned at an instant to a client that can pay all of them.

    They are opened and charged as workers do it (`core/offline.py`); the client has no tax profile.
    """
    shared = replace(
        content, packages={spec.id: PackageHistory([(0, replace(spec, status="active"))], [(0, "active")])},
        identification=[], dids={}, decks={}, rate_tables={},
    )  # fmt: skip
    rater = Rater()
    rater.content, rater.catalog = shared, compile_catalog(shared, 1, rater.catalog.notices)
    terms = _terms(spec, at_ms)
    rows = CatalogFile()
    client = ClientSpec(_CLIENT, spec.currency, time_zone=zone, credit_limit=LIMIT // 2, payment_terms=terms)
    rows.clients.append(Placed("", "client", client))
    faults = rater.merge(rows, at_ms)
    if faults:
        return Ahead([], str(faults[0]))
    args = AssignArgs(spec.id)
    rater.command(write_command("preview", Do.ASSIGN, at_ms, args, client=_CLIENT), at_ms)
    state = rater.states[_CLIENT]
    if not state.packages:
        return Ahead([], _refused(rater))
    periods = _opened(rater)
    told = None if terms is None else f"{terms.every} from {terms.anchor}"
    return Ahead(list(map(_ahead, periods)), None, spec.charge_on_event, told)


def _terms(spec: PackageSpec, at_ms: int) -> TermsSpec | None:
    """Return payment terms that fit an aligned package: of its period, counted from the first of a month."""
    if not spec.align_to_payment_terms or spec.period is None:
        return None
    return TermsSpec(spec.period, instant(at_ms).date().replace(day=1).isoformat())


def _opened(rater: Rater) -> list[HeldPeriod]:
    found: dict[int, HeldPeriod] = {}
    for _ in range(_STEPS):
        held = rater.states[_CLIENT].packages[0]
        for period in held.life.periods if held.life is not None else ():
            found.setdefault(period.number, period)
        next_ms = due_ms(rater.states[_CLIENT], rater.catalog)
        if len(found) >= PERIODS or next_ms is None:
            break
        rater.tick(next_ms)
    return [found[number] for number in sorted(found)[:PERIODS]]


def _ahead(period: HeldPeriod) -> PeriodAhead:
    return PeriodAhead(period.number, period.start_ms, period.stop_ms, period.charged, period.share)


def _refused(rater: Rater) -> str:
    """Return why the assignment was refused, as its event tells."""
    _, events = rater.take()
    told = [event for event in map(read_event, events) if event is not None]
    reasons = [event.data["reason"] for event in told if event.type == EventType.COMMAND_REFUSED]
    return str(reasons[-1])


class Caught(Struct, frozen=True):
    """What a limit catches. codes: how many codes of the rate tables; examples: the first of them.

    warning: a sentence, where it is not what one would expect; None: it is.
    """

    limit: str
    pattern: str
    codes: int
    examples: list[str]
    warning: str | None


_EXAMPLES = 5
_UNNAMED = "no rate bears this name, so only calls that bring a rate of their own draw from it"


def caught(content: Content, limits: Iterable[LimitSpec]) -> list[Caught]:
    """Return what each limit catches of the codes that calls are identified by (RULES.md 3.1)."""
    known = sorted({row.code for table in content.rate_tables.values() for row in table.rates})
    return [_caught(content, known, limit) for limit in limits]


def _caught(content: Content, known: list[str], limit: LimitSpec) -> Caught:
    if limit.code_name is not None:
        spec = content.decks.get(limit.code_deck or "")
        named = frozenset() if spec is None else Deck(spec.name, spec.codes).codes_named(limit.code_name)
        found = [code for code in known if code in named]
        warning = None if found or not known else _UNNAMED
        return Caught(limit.id, limit.code_name, len(found), found[:_EXAMPLES], warning)
    pattern = limit.code or ""
    prefix = pattern.removesuffix(WILDCARD)
    at = bisect_left(known, prefix)
    longer = []
    for code in known[at:]:
        if not code.startswith(prefix):
            break
        longer.append(code)
    found = longer if pattern.endswith(WILDCARD) else [code for code in longer if code == prefix]
    return Caught(limit.id, pattern, len(found), found[:_EXAMPLES], _warning(pattern, known, found, longer))


def _warning(pattern: str, known: list[str], found: list[str], longer: list[str]) -> str | None:
    """Return what is unusual about a code: it catches exactly one, or is finer than any rate."""
    if not known:
        return None
    bare = pattern.removesuffix(WILDCARD)
    if not pattern.endswith(WILDCARD) and found:
        more = len(longer) - 1
        behind = f", and not the {more} longer ones that begin with it" if more else ""
        return f"without a star it catches exactly one code, {bare}{behind}; {bare}{WILDCARD} catches all"
    if found:
        return None
    shorter = [bare[:length] for length in range(len(bare) - 1, 0, -1) if bare[:length] in set(known)]
    if shorter:
        return f"it is finer than any rate: calls there are rated by {shorter[0]}, which it does not catch"
    return "no rate table has such a code, so only calls that bring a rate of their own draw from it"
