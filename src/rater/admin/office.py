"""What handlers of requests work with: connections, the read model, what sends commands, who may ask."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rater.admin.access import Attempts, Logins, Notice, Role, Session, Sessions, Tokens, User
from rater.admin.deck_imports import DeckImports
from rater.admin.oidc import Issuer
from rater.admin.orders import Orders
from rater.admin.problems import Problem
from rater.admin.rerates import Rerates
from rater.admin.scraping import Scraping
from rater.admin.uploads import Upload
from rater.config import Settings
from rater.core.periods import canonical_when, when_ms, zone_of
from rater.core.sources.source_map import SourceMap
from rater.errors import Halt
from rater.queries.connections import Connections
from rater.readmodel.asking import ReadModel

FRESH_S = 3.0
"""So long a page after a write waits for the read model; it says how old it is besides."""


@dataclass(frozen=True)
class Office:
    """Everything that a request may need. sources: topic → name of the setting.

    issuer: where people may log in besides, None: nowhere.
    """

    settings: Settings
    at: Connections
    model: ReadModel
    orders: Orders
    rerates: Rerates
    maps: Mapping[str, SourceMap]
    tokens: Tokens
    sources: Mapping[str, str]
    scraping: Scraping
    issuer: Issuer | None = None
    sessions: Sessions = field(default_factory=Sessions)
    logins: Logins = field(default_factory=Logins)
    attempts: Attempts = field(default_factory=Attempts)
    imports: DeckImports = field(default_factory=DeckImports)

    @property
    def known_issuer(self) -> Issuer:
        """The issuer where people log in. Raises Problem where there is none."""
        if self.issuer is None:
            raise Problem(404, "nobody logs in by an issuer here: the settings have no [admin.oidc]")
        return self.issuer

    async def bearer(self, token: str) -> User | None:
        """Return whose token it is, of the settings or of the issuer; None: nobody's.

        Raises Problem where the issuer does not answer.
        """
        user = self.tokens.user_of(token)
        if user is None and self.issuer is not None:
            user = await self.issuer.bearer(token)
            if user is not None:
                self.check_name(user)
        return user

    def check_name(self, user: User) -> None:
        """Refuse who is named like a token: who did what would not be known. Raises Problem."""
        if self.tokens.has(user.name):
            raise Problem(
                403, f"the issuer names you {user.name}, and so is a token of admin.tokens named: "
                "give the token another name",
            )  # fmt: skip

    def not_ready(self) -> list[str]:
        """Return why this process does not do its work, nothing when it does."""
        reason = self.model.failed()
        return [] if reason is None else [reason]


class Call(NamedTuple):
    """A request to the API. query, body: as its route says; a file is bytes. key: of `Idempotency-Key`."""

    office: Office
    user: User
    path: Mapping[str, str]
    query: Any
    body: Any
    key: str


class Visit(NamedTuple):
    """A request for a page. query, form: the first value of each name; every: all values of the query.

    upload: the file of a form that takes one; None: none was chosen.
    """

    office: Office
    session: Session
    path: Mapping[str, str]
    query: Mapping[str, str]
    form: Mapping[str, str]
    every: Mapping[str, list[str]]
    url: str
    upload: Upload | None = None

    @property
    def user(self) -> User:
        """Who looks."""
        return self.session.user


class Shown(NamedTuple):
    """A page: its template, and what that shows."""

    template: str
    told: Mapping[str, Any]
    status: int = 200


class Moved(NamedTuple):
    """Where to go on. notice: told there, maybe with a link."""

    url: str
    notice: str | Notice | None = None


class PageHandler(NamedTuple):
    """A page of the console, or a form that is sent to it. takes_file: the form has one."""

    method: str
    path: str
    role: Role
    handler: Callable[[Visit], Awaitable[Shown | Moved]]
    takes_file: bool = False


class StreamHandler(NamedTuple):
    """What pages that move listen to. handler: is given what renders a part of a page, by its template."""

    path: str
    role: Role
    handler: Callable[[Visit, Callable[[str, Mapping[str, Any]], str]], AsyncGenerator[bytes, None]]


def now_ms() -> int:
    """Return now, in ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


def moment_ms(text: str | None) -> int | None:
    """Return the instant in a text; a date is 00:00 UTC. Raises ValueError with a sentence."""
    return None if not text else when_ms(canonical_when(text), zone_of("UTC"))


def read_tokens(settings: Settings) -> Tokens:
    """Return the tokens of the settings. Raises Halt where nobody could ask, or one is wrong."""
    rows = settings.admin.tokens or ()
    if not rows and settings.admin.oidc is None:
        raise Halt(
            "admin.tokens is empty, and nobody could ask anything: write a token into a file (openssl rand "
            "-hex 24), and name it in the settings: [[admin.tokens]] with name, role and token_file; or name "
            "an issuer of OpenID Connect: [admin.oidc]"
        )
    known = []
    for row in rows:
        try:
            text = Path(row.token_file).read_text("utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not UTF-8"
            raise Halt(
                f"admin.tokens: token_file {row.token_file!r} of {row.name} cannot be read ({why}); give a "
                "file that can"
            ) from error
        known.append((User(row.name, row.role), text))
    try:
        return Tokens(known)
    except ValueError as error:
        raise Halt(f"admin.tokens: {error}") from error
