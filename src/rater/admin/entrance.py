"""Logging in to the console, by a token of the settings or at an issuer, and leaving it."""

from __future__ import annotations

import secrets
import time

import structlog
from aiohttp import web

from rater.admin.access import LOGIN_S, SESSION_S, Login, Session, User
from rater.admin.forms import check_origin, form_of, html, inside, moved, post
from rater.admin.office import Office, Shown
from rater.admin.problems import Problem
from rater.admin.rendering import Site
from rater.config.oidc import CALLBACK

log = structlog.get_logger()

COOKIE = "rater_session"
LOGIN_COOKIE = "rater_login"
"""Of a login at the issuer that has begun: it comes back to the browser that began it."""
STREAMS_BELOW = "/streams/"
"""Whoever asks below goes on without end."""

BY_ITSELF = "X-By-Itself"
"""What a page that moves says when it asks for itself again."""


class Entrance:
    """Where sessions begin and end."""

    def __init__(self, office: Office, site: Site) -> None:
        """Let in those whom this office knows."""
        self._office, self._site = office, site

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Serve its pages."""
        router.add_get("/login", self._login_form)
        router.add_post("/login", self._login)
        router.add_post("/logout", self._logout)
        router.add_get("/login/issuer", self._issuer_login)
        router.add_get(CALLBACK, self._issuer_answer)

    def session(self, request: web.Request) -> Session | None:
        """Return whose session a request is of."""
        by_itself = BY_ITSELF in request.headers or request.path.startswith(STREAMS_BELOW)
        return self._office.sessions.find(request.cookies.get(COOKIE), time.monotonic(), by_itself=by_itself)

    async def _login_form(self, request: web.Request) -> web.StreamResponse:
        if self.session(request) is not None:
            return moved(inside(request.query.get("next")))
        left_at = None
        if self._office.issuer is not None and "left" in request.query:
            left_at = await self._office.issuer.left_at()
        return html(self._site.page(self._login_page(request.query.get("next"), left_at=left_at), None))

    def _login_page(
        self, next_url: str | None, wrong: str | None = None, left_at: str | None = None
    ) -> Shown:  # fmt: skip
        told = {
            "next": inside(next_url), "wrong": wrong, "left_at": left_at,
            "has_tokens": bool(self._office.tokens), "has_issuer": self._office.issuer is not None,
        }  # fmt: skip
        return Shown("login.html", told)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        check_origin(request)
        address, now_s, office = request.remote or "", time.monotonic(), self._office
        if wait_s := office.attempts.wait_s(address, now_s):
            raise Problem(429, f"too many wrong tokens: wait {wait_s} s, and try again", retry_s=wait_s)
        given = await post(request)
        user = office.tokens.user_of(given.get("token", "").strip())
        if user is None:
            office.attempts.failed(address, now_s)
            page = self._login_page(given.get("next"), "This is no token of the settings.")
            return html(self._site.page(page, None), 403)
        return self._begun(request, user, given.get("next"))

    def _begun(
        self, request: web.Request, user: User, next_url: str | None, until_s: float | None = None
    ) -> web.Response:  # fmt: skip
        """Let a session begin, and go on."""
        now_s, office = time.monotonic(), self._office
        session = Session(secrets.token_urlsafe(32), user, secrets.token_urlsafe(32), now_s, until_s=until_s)
        office.sessions.begin(session)
        log.info("logged in", user=user.name, role=user.role, address=request.remote or "")
        answer = moved(inside(next_url))
        self._set_cookie(answer, COOKIE, session.id, SESSION_S)
        return answer

    def _set_cookie(self, answer: web.Response, name: str, value: str, age_s: int) -> None:
        answer.set_cookie(
            name, value, httponly=True, samesite="Lax", path="/", max_age=age_s,
            secure=self._office.settings.admin.secure_cookies,
        )  # fmt: skip

    async def _issuer_login(self, request: web.Request) -> web.StreamResponse:
        ids = [secrets.token_urlsafe(32) for _ in range(4)]
        login = Login(ids[0], ids[1], ids[2], ids[3], inside(request.query.get("next")), time.monotonic())
        answer = moved(await self._office.known_issuer.begins_at(login))
        self._office.logins.begin(login)
        self._set_cookie(answer, LOGIN_COOKIE, login.id, LOGIN_S)
        return answer

    async def _issuer_answer(self, request: web.Request) -> web.StreamResponse:
        office = self._office
        login = office.logins.take(
            request.cookies.get(LOGIN_COOKIE), request.query.get("state"), time.monotonic()
        )
        if login is None:
            raise Problem(
                403, "this login was not begun in this browser, or took longer than "
                f"{LOGIN_S // 60} minutes, or was used before: log in again",
            )  # fmt: skip
        user = await office.known_issuer.user(login, request.query)
        office.check_name(user)
        answer = self._begun(request, user, login.next, time.monotonic() + SESSION_S)
        answer.del_cookie(LOGIN_COOKIE, path="/")
        return answer

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        session = self.session(request)
        if session is not None:
            await form_of(request, session)
            self._office.sessions.end(session.id)
        answer = moved("/login" if self._office.issuer is None else "/login?left=1")
        answer.del_cookie(COOKIE, path="/")
        return answer
