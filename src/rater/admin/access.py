"""Who asks, and what for: tokens with roles, sessions of the console, and how often a token may be guessed.

What time it is, and what nobody can guess, is handed in.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Role = Literal["view", "operate", "administer"]
ROLES: tuple[Role, ...] = ("view", "operate", "administer")
"""From the weakest: each may do what those before it may."""

TOKEN_CHARS_MIN = 20
SESSION_S = 8 * 3600
"""A session ends when nothing was asked in it for so long."""
SESSIONS_MAX = 10_000
LOGIN_S = 600
"""So long a login at an issuer may take."""
LOGINS_MAX = 10_000
ATTEMPTS_MAX = 5
ATTEMPTS_S = 60.0
"""So many wrong tokens from one address in so many seconds, and it has to wait."""
ADDRESSES_MAX = 10_000


class User(NamedTuple):
    """Who asks. name: of the token; commands carry it as their actor."""

    name: str
    role: Role

    def may(self, role: Role) -> bool:
        """Return whether this user may do what needs a role."""
        return ROLES.index(self.role) >= ROLES.index(role)


class Tokens:
    """The tokens that are known, by their digests."""

    def __init__(self, known: Iterable[tuple[User, str]]) -> None:
        """Know these tokens. Raises ValueError with a sentence where one cannot be taken."""
        self._users: dict[bytes, User] = {}
        names = set[str]()
        for user, token in known:
            if len(token) < TOKEN_CHARS_MIN or not token.isascii() or not token.isprintable() or " " in token:
                raise ValueError(
                    f"the token of {user.name} is not {TOKEN_CHARS_MIN} or more visible ASCII characters on "
                    "one line; make one with: openssl rand -hex 24"
                )
            if user.name in names:
                raise ValueError(f"two tokens are named {user.name}; name each after who has it")
            if _digest(token) in self._users:
                raise ValueError(
                    f"{self._users[_digest(token)].name} and {user.name} have the same token; make another"
                )
            names.add(user.name)
            self._users[_digest(token)] = user

    def __bool__(self) -> bool:
        return bool(self._users)

    def has(self, name: str) -> bool:
        """Return whether a token is named so."""
        return any(user.name == name for user in self._users.values())

    def user_of(self, token: str) -> User | None:
        """Return whose token it is; None: nobody's. What is compared are digests, so time tells nothing."""
        return self._users.get(_digest(token))


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Attempts:
    """How many wrong tokens came from each address of late."""

    def __init__(self) -> None:
        """Nobody has tried yet."""
        self._failed: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, address: str, now_s: float) -> None:
        """Note a wrong token."""
        times = self._failed.setdefault(address, deque(maxlen=ATTEMPTS_MAX))
        times.append(now_s)
        self._failed.move_to_end(address)
        while len(self._failed) > ADDRESSES_MAX:
            self._failed.popitem(last=False)

    def wait_s(self, address: str, now_s: float) -> int:
        """Return how many seconds an address has to wait; 0: it may try."""
        times = self._failed.get(address)
        if times is None or len(times) < ATTEMPTS_MAX or now_s - times[0] >= ATTEMPTS_S:
            return 0
        return int(ATTEMPTS_S - (now_s - times[0])) + 1


class Notice(NamedTuple):
    """What the next page tells, once. url, link: where one may go on, and what is said of it."""

    text: str
    url: str | None = None
    link: str = ""


@dataclass
class Session:
    """A login of the console. csrf: stands in each of its forms. notice: told by the next page, once.

    until_s: it ends then, whatever is asked in it; None: only by silence.
    """

    id: str
    user: User
    csrf: str
    seen_s: float
    notice: list[Notice] = field(default_factory=list)
    until_s: float | None = None


class Sessions:
    """Who is logged in, in this process: a restart ends all sessions."""

    def __init__(self) -> None:
        """Nobody is yet."""
        self._known: OrderedDict[str, Session] = OrderedDict()

    def begin(self, session: Session) -> None:
        """Let a session begin; the one that was seen longest ago ends where there are too many."""
        self._known[session.id] = session
        while len(self._known) > SESSIONS_MAX:
            self._known.popitem(last=False)

    def find(self, session_id: str | None, now_s: float, *, by_itself: bool = False) -> Session | None:
        """Return a session that goes on; None: there is none, or it has ended.

        by_itself: nobody asked but a page that moves by itself, which lets no session go on.
        """
        found = self._known.get(session_id or "")
        if found is None:
            return None
        if now_s - found.seen_s > SESSION_S or (found.until_s is not None and now_s >= found.until_s):
            self.end(found.id)
            return None
        if not by_itself:
            found.seen_s = now_s
            self._known.move_to_end(found.id)
        return found

    def end(self, session_id: str) -> None:
        """Let a session end."""
        self._known.pop(session_id, None)


class Login(NamedTuple):
    """A login at an issuer that has begun. id: in the browser's cookie. begun_s: when.

    state, nonce, verifier: of OpenID Connect and of PKCE (RFC 7636). next: where to go on.
    """

    id: str
    state: str
    nonce: str
    verifier: str
    next: str
    begun_s: float


class Logins:
    """Logins at an issuer that have begun, and have not come back yet."""

    def __init__(self) -> None:
        """None has begun."""
        self._known: OrderedDict[str, Login] = OrderedDict()

    def begin(self, login: Login) -> None:
        """Note one; the oldest is forgotten where there are too many."""
        self._known[login.id] = login
        while len(self._known) > LOGINS_MAX:
            self._known.popitem(last=False)

    def take(self, login_id: str | None, state: str | None, now_s: float) -> Login | None:
        """Return the login of this browser and state, once; None: there is none, or it took too long."""
        found = self._known.pop(login_id or "", None)
        if found is None or not hmac.compare_digest(found.state.encode(), (state or "").encode()):
            return None
        return None if now_s - found.begun_s > LOGIN_S else found
