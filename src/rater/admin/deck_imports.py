"""Importing carriers' decks: what one would change, loading it, and decks that wait to be looked at."""

from __future__ import annotations

import asyncio
import secrets
import tempfile
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import IO, NamedTuple

import msgspec
import structlog
from msgspec import Struct

from rater import app
from rater.admin.orders import Writing, check_loaded
from rater.admin.problems import FieldProblem, Problem, wrong
from rater.admin.uploads import Upload
from rater.config import Settings
from rater.core.catalog_files.fields import Fault
from rater.core.decks import telling
from rater.core.decks.difference import named
from rater.core.decks.planning import Plan
from rater.core.decks.profile import Profile, chosen, columns_of, effective_ms
from rater.errors import Halt
from rater.jobs.decks import Import, planned
from rater.jobs.load import Loaded

log = structlog.get_logger()

ROWS_SHOWN = 20
"""Changes of a kind that are told; the command line tells all."""
FAULTS_SHOWN = 100
_TRIES = 3
_KEPT_MAX = 8
_KEPT_S = 3600


class DeckAsked(NamedTuple):
    """A deck that is to be imported. profile, columns, effective: as of `rater decks import`; "": none."""

    upload: Upload
    table: str
    profile: str = ""
    columns: str = ""
    effective: str = ""


class DeckChange(Struct, kw_only=True):
    """What becomes of one code from an instant on, null: always (CONTRACTS.md, Decks)."""

    change: str
    code: str
    name: str | None
    from_: str | None = msgspec.field(name="from")
    before: str | None
    after: str | None
    terms: str | None
    moved: bool
    doubtful: bool
    falls_to: str | None
    place: str


class DeckKind(Struct, kw_only=True):
    """A kind of change: what it means, how many there are, and the first of them."""

    kind: str
    meaning: str
    count: int
    first: list[DeckChange]


class DeckDone(Struct, kw_only=True):
    """What an import did, or (dry_run) would do to a rate table.

    catalog: the version that says so now, or was looked at. seen: of rate table and code deck as they were;
    to be given when it is loaded. changed: whether anything did, or would. columns: of the deck, as they were
    read.
    """

    table: str
    currency: str
    code_deck: str | None
    new_table: bool
    catalog: int
    seen: str
    dry_run: bool
    changed: bool
    codes: int
    columns: str
    kinds: list[DeckKind]
    notes: list[str]


@dataclass
class _Kept:
    user: str
    asked: DeckAsked  # without its bytes
    file: IO[bytes]
    at_s: float


@dataclass
class DeckImports:
    """Decks that were sent to be looked at, of each user, for an hour; and who imports, one after the other.

    Their bytes lie in files without a name, which go with the process.
    """

    _kept: OrderedDict[str, _Kept] = field(default_factory=OrderedDict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def keep(self, user: str, asked: DeckAsked, now_s: float) -> str:
        """Keep a deck; returns the id to find it by. Where there are too many the oldest goes."""
        file = tempfile.TemporaryFile()  # noqa: SIM115 - it is closed when the deck is let go of
        file.write(asked.upload.raw)
        kept_id = secrets.token_urlsafe(12)
        self._kept[kept_id] = _Kept(user, asked._replace(upload=Upload(asked.upload.name, b"")), file, now_s)
        while len(self._kept) > _KEPT_MAX:
            self._forget(next(iter(self._kept)))
        return kept_id

    def find(self, user: str, kept_id: str, now_s: float) -> DeckAsked:
        """Return a deck of a user. Raises Problem where it is not kept any more."""
        for old in [name for name, one in self._kept.items() if now_s - one.at_s > _KEPT_S]:
            self._forget(old)
        found = self._kept.get(kept_id)
        if found is None or found.user != user:
            raise Problem(404, "this deck is not kept any more: choose the file again; nothing was changed")
        found.file.seek(0)
        return found.asked._replace(upload=Upload(found.asked.upload.name, found.file.read()))

    def done(self, kept_id: str) -> None:
        """Let go of a deck."""
        if kept_id in self._kept:
            self._forget(kept_id)

    def _forget(self, kept_id: str) -> None:
        self._kept.pop(kept_id).file.close()


async def import_deck(
    settings: Settings, imports: DeckImports, asked: DeckAsked, writing: Writing, seen: str = ""
) -> DeckDone:
    """Tell what a deck changes, and load it unless that is a dry run.

    seen: of the difference that was looked at; where table or code deck are others by now nothing is loaded.
    Raises Problem with each fault of the deck.
    """
    profile, job = _import(settings, asked)
    own = app.loader(settings, _said, actor=writing.user.name, key=writing.key)
    async with imports.turn, own as loader:
        for tries_left in reversed(range(_TRIES)):
            plan = await planned(loader, job)
            if isinstance(plan, list):
                raise of_deck_faults(plan)
            done = _told(plan, profile, writing)
            if writing.dry_run or not plan.is_changed:
                return done
            if plan.seen != seen:
                raise Problem(
                    409,
                    f"rate table {plan.table.name} was changed by somebody else since you looked at the "
                    "difference; nothing was loaded: look at what this deck changes now, and load it then",
                )
            loader.reason = telling.reason(plan, asked.upload.name, writing.reason)
            try:
                loaded = await loader.load_rows(plan.rows(), expected=plan.version)
            except Halt:  # another load came in between, maybe of something else
                if not tries_left or (await loader.present()).version == plan.version:
                    raise
                continue
            return _loaded(done, loaded)
    raise AssertionError("the last try returns or raises")


def _import(settings: Settings, asked: DeckAsked) -> tuple[Profile, Import]:
    if not asked.table:
        raise wrong("table", "is empty; name the rate table that takes the rates")
    if not asked.upload.raw:
        raise wrong("file", "is empty; choose the carrier's deck")
    try:
        columns = columns_of(asked.columns)
    except ValueError as error:
        raise wrong("columns", str(error)) from error
    try:
        profile = chosen(settings.decks, asked.profile or None, columns)
    except ValueError as error:
        raise wrong("profile", str(error)) from error
    try:
        since = effective_ms(asked.effective or None, profile)
    except ValueError as error:
        raise wrong("effective", f"{asked.effective}: {error}") from error
    return profile, Import(asked.upload.name, asked.table, profile, since, asked.upload.raw)


def _told(plan: Plan, profile: Profile, writing: Writing) -> DeckDone:
    counts, firsts = telling.counts(plan), set(telling.listed(plan))
    kinds = [
        DeckKind(
            kind=kind, meaning=meaning, count=counts[kind],
            first=_first(plan, kind) if kind in firsts else [],
        )
        for kind, meaning in telling.meanings(profile).items()
        if counts.get(kind)
    ]  # fmt: skip
    return DeckDone(
        table=plan.table.name, currency=plan.table.currency, code_deck=plan.table.code_deck,
        new_table=plan.is_new, catalog=plan.version, seen=plan.seen, dry_run=writing.dry_run,
        changed=plan.is_changed, codes=plan.codes, columns=telling.columns(plan), kinds=kinds,
        notes=[*plan.notes, *plan.load_notes],
    )  # fmt: skip


def _first(plan: Plan, kind: str) -> list[DeckChange]:
    changes = list(named(plan.difference.changes, kind))[:ROWS_SHOWN]
    return [msgspec.convert(row, DeckChange) for row in telling.rows(plan, changes)]


def _loaded(done: DeckDone, loaded: Loaded | list[Fault]) -> DeckDone:
    if isinstance(loaded, list):
        raise of_deck_faults(loaded)
    check_loaded(loaded)
    done.catalog = loaded.version
    return done


def of_deck_faults(faults: list[Fault]) -> Problem:
    """Return the problem that a deck is at fault: each place, the first hundred of them."""
    errors = [
        FieldProblem(
            fault.path.removeprefix("--") or "file",
            ": ".join(part for part in (fault.value, fault.problem) if part),
        )
        for fault in faults[:FAULTS_SHOWN]
    ]
    more = f"; and {len(faults) - 1} more" if len(faults) > 1 else ""
    return Problem(422, f"{faults[0]}{more}", errors)


def now_s() -> float:
    """Return now, in seconds that never go back."""
    return time.monotonic()


def _said(text: str) -> None:
    log.info("importing", step=text)
