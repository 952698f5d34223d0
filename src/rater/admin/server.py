"""The HTTP server of `rater admin`: who asks is found out here, and faults become answers."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from rater.admin import openapi
from rater.admin.access import LOGIN_S, SESSION_S, Login, Notice, Session, User
from rater.admin.office import Call, Moved, Office, PageHandler, Shown, StreamHandler, Visit
from rater.admin.orders import check_key, new_key
from rater.admin.pages import PAGES, STREAMS
from rater.admin.problems import Problem, not_for, of_error, wrong
from rater.admin.reading import of_page
from rater.admin.rendering import Site, static_files
from rater.admin.routes import Route, read_body, read_query
from rater.admin.streams import Streams
from rater.admin.table import ROUTES
from rater.admin.uploads import Upload, read_file, read_form
from rater.config.oidc import CALLBACK
from rater.errors import Halt
from rater.metrics import Metrics
from rater.readmodel.asked import WrongAskedError

log = structlog.get_logger()

BODY_BYTES_MAX = 1_000_000
LINE_BYTES_MAX = 65_536
"""Of a request's first line, and of a header: a place of the events has an offset for each partition. What is
longer does not come as far as to us."""
READ_S = 20.0
"""So long the body of a request may take to come."""
WORK_S = 120.0
"""So long a request may take: those that read the journal take longest."""
SHUTDOWN_S = 2.0
COOKIE = "rater_session"
LOGIN_COOKIE = "rater_login"
"""Of a login at the issuer that has begun: it comes back to the browser that began it."""
STREAMS_BELOW = "/streams/"
"""Whoever asks below goes on without end."""

BY_ITSELF = "X-By-Itself"
"""What a page that moves says when it asks for itself again."""

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
    "connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves the API, the console, and what an orchestrator asks."""

    def __init__(self, office: Office, metrics: Metrics) -> None:
        """Serve what this office knows."""
        self._office, self._metrics = office, metrics
        self._site = Site()
        self._openapi = openapi.written().encode()
        self._streams = Streams(office.sessions, _HEADERS)
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (a free one for 0). Halt when it cannot be had."""
        application = web.Application(middlewares=[self._guarded], client_max_size=BODY_BYTES_MAX)
        router = application.router
        for route in ROUTES:
            router.add_route(route.method, route.path, self._api(route))
        for page in PAGES:
            router.add_route(page.method, page.path, self._page(page))
        for stream in STREAMS:
            router.add_route("GET", stream.path, self._stream(stream))
        for name, (raw, kind) in static_files().items():
            router.add_get(f"/static/{name}", _file(raw, kind))
        router.add_get("/login", self._login_form)
        router.add_post("/login", self._login)
        router.add_post("/logout", self._logout)
        router.add_get("/login/issuer", self._issuer_login)
        router.add_get(CALLBACK, self._issuer_answer)
        router.add_get("/openapi.json", _file(self._openapi, "application/json"))
        router.add_get("/livez", self._live)
        router.add_get("/readyz", self._ready)
        router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=SHUTDOWN_S, max_line_size=LINE_BYTES_MAX,
            max_field_size=LINE_BYTES_MAX,
        )  # fmt: skip
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self.stop()
            raise Halt(
                f"cannot listen on {host}:{port} ({error.strerror or error}): give admin.host and admin.port "
                "an address of this machine and a port that is free (0 takes one)"
            ) from error
        return int(self._runner.addresses[0][1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    # ----------------------------------------------------------------------------------------- every answer
    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer in time, with the headers that browsers go by; a fault becomes a problem, or its page."""
        try:
            async with asyncio.timeout(None if request.path.startswith(STREAMS_BELOW) else WORK_S):
                answer = await handler(request)
        except TimeoutError:
            answer = self._told(
                request, Problem(503, f"it took longer than {WORK_S:.0f} s, and was given up")
            )
        except web.HTTPException as error:
            answer = self._told(request, _of_http(request, error))
            if "Allow" in error.headers:
                answer.headers["Allow"] = error.headers["Allow"]
        except Exception as error:
            problem = of_page(error) if isinstance(error, WrongAskedError) else of_error(error)
            if problem is None:
                log.exception("a request failed", path=request.path)
                problem = Problem(500, "a defect of rater; its log has what happened")
            answer = self._told(request, problem)
        for name, value in _HEADERS.items():
            answer.headers.setdefault(name, value)
        return answer

    def _told(self, request: web.Request, problem: Problem) -> web.Response:
        more = {} if problem.retry_s is None else {"Retry-After": str(problem.retry_s)}
        if _is_api(request):
            if problem.status == 401:  # noqa: PLR2004 - RFC 9110 asks for it
                more["WWW-Authenticate"] = "Bearer"
            raw = msgspec.json.encode(problem.details)
            return web.Response(
                body=raw, status=problem.status, content_type="application/problem+json", headers=more
            )
        session = self._session(request)
        page = Shown("error.html", {"problem": problem.details}, problem.status)
        return _html(self._site.page(page, session), problem.status, more)

    # ---------------------------------------------------------------------------------------------- the API
    def _api(self, route: Route) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            user = await self._bearer(request)
            if not user.may(route.role):
                raise not_for(user, route.role)
            query = read_query({name: request.query.getall(name) for name in request.query}, route.query)
            if route.file:
                body: Any = await read_file(request)
            else:
                body = read_body(await _body(request), request.content_type, route)
            call = Call(self._office, user, request.match_info, query, body, _key(request, route, query))
            return _json(await route.handler(call))

        return answer

    async def _bearer(self, request: web.Request) -> User:
        """Return whose token a request bears. Raises Problem."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and (user := await self._office.bearer(token.strip())) is not None:
            return user
        address, now_s = request.remote or "", time.monotonic()
        if wait_s := self._office.attempts.wait_s(address, now_s):
            raise Problem(429, f"too many wrong tokens came from {address}", retry_s=wait_s)
        if scheme:
            self._office.attempts.failed(address, now_s)
        raise Problem(401, "give a token of the settings: Authorization: Bearer TOKEN")

    # ------------------------------------------------------------------------------------------- the console
    def _page(self, page: PageHandler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            session = self._session(request)
            if session is None:
                if request.method != "GET":
                    raise Problem(
                        401, "your session has ended, and nothing was changed: log in, go back, and try again"
                    )
                return _moved(f"/login?next={quote(str(request.rel_url), safe='')}")
            if not session.user.may(page.role):
                raise not_for(session.user, page.role)
            form, upload = dict[str, str](), None
            if page.takes_file:
                _check_origin(request)
                form, upload = await read_form(request, lambda given: _check_form(given, session))
                _check_form(form, session)
            elif request.method == "POST":
                form = await self._form(request, session)
            found = await page.handler(self._visit(request, session, form, upload))
            if isinstance(found, Moved):
                if found.notice is not None:
                    notice = found.notice if isinstance(found.notice, Notice) else Notice(found.notice)
                    session.notice.append(notice)
                return _moved(found.url)
            by_itself = BY_ITSELF in request.headers
            return _html(
                self._site.page(found, session, await self._age(), by_itself=by_itself), found.status
            )

        return answer

    def _visit(
        self, request: web.Request, session: Session, form: dict[str, str], upload: Upload | None = None
    ) -> Visit:
        every = {name: request.query.getall(name) for name in request.query}
        first = {name: values[0] for name, values in every.items()}
        url, path = str(request.rel_url), request.match_info
        return Visit(self._office, session, path, first, form, every, url, upload)

    def _stream(self, stream: StreamHandler) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            session = self._session(request)
            if session is None:
                raise Problem(401, "your session has ended: log in again")
            if not session.user.may(stream.role):
                raise not_for(session.user, stream.role)
            visit = self._visit(request, session, {})
            if (last := request.headers.get("Last-Event-ID")) is not None:
                visit = visit._replace(query={**visit.query, "after": last})
            return await self._streams.serve(request, session, stream.handler(visit, self._site.part))

        return answer

    async def _age(self) -> Any:
        return await self._office.model.state()

    async def _form(self, request: web.Request, session: Session) -> dict[str, str]:
        """Return what a form of ours says. Raises Problem for one that is not of ours."""
        _check_origin(request)
        given = await _post(request)
        _check_form(given, session)
        return given

    def _session(self, request: web.Request) -> Session | None:
        by_itself = BY_ITSELF in request.headers or request.path.startswith(STREAMS_BELOW)
        return self._office.sessions.find(request.cookies.get(COOKIE), time.monotonic(), by_itself=by_itself)

    async def _login_form(self, request: web.Request) -> web.StreamResponse:
        if self._session(request) is not None:
            return _moved(_inside(request.query.get("next")))
        left_at = None
        if self._office.issuer is not None and "left" in request.query:
            left_at = await self._office.issuer.left_at()
        return _html(self._site.page(self._login_page(request.query.get("next"), left_at=left_at), None))

    def _login_page(
        self, next_url: str | None, wrong: str | None = None, left_at: str | None = None
    ) -> Shown:  # fmt: skip
        told = {
            "next": _inside(next_url), "wrong": wrong, "left_at": left_at,
            "has_tokens": bool(self._office.tokens), "has_issuer": self._office.issuer is not None,
        }  # fmt: skip
        return Shown("login.html", told)

    async def _login(self, request: web.Request) -> web.StreamResponse:
        _check_origin(request)
        address, now_s, office = request.remote or "", time.monotonic(), self._office
        if wait_s := office.attempts.wait_s(address, now_s):
            raise Problem(429, f"too many wrong tokens: wait {wait_s} s, and try again", retry_s=wait_s)
        given = await _post(request)
        user = office.tokens.user_of(given.get("token", "").strip())
        if user is None:
            office.attempts.failed(address, now_s)
            page = self._login_page(given.get("next"), "This is no token of the settings.")
            return _html(self._site.page(page, None), 403)
        return self._begun(request, user, given.get("next"))

    def _begun(
        self, request: web.Request, user: User, next_url: str | None, until_s: float | None = None
    ) -> web.Response:  # fmt: skip
        """Let a session begin, and go on."""
        now_s, office = time.monotonic(), self._office
        session = Session(secrets.token_urlsafe(32), user, secrets.token_urlsafe(32), now_s, until_s=until_s)
        office.sessions.begin(session)
        log.info("logged in", user=user.name, role=user.role, address=request.remote or "")
        answer = _moved(_inside(next_url))
        self._set_cookie(answer, COOKIE, session.id, SESSION_S)
        return answer

    def _set_cookie(self, answer: web.Response, name: str, value: str, age_s: int) -> None:
        answer.set_cookie(
            name, value, httponly=True, samesite="Lax", path="/", max_age=age_s,
            secure=self._office.settings.admin.secure_cookies,
        )  # fmt: skip

    async def _issuer_login(self, request: web.Request) -> web.StreamResponse:
        ids = [secrets.token_urlsafe(32) for _ in range(4)]
        login = Login(ids[0], ids[1], ids[2], ids[3], _inside(request.query.get("next")), time.monotonic())
        answer = _moved(await self._office.known_issuer.begins_at(login))
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
        session = self._session(request)
        if session is not None:
            await self._form(request, session)
            self._office.sessions.end(session.id)
        answer = _moved("/login" if self._office.issuer is None else "/login?left=1")
        answer.del_cookie(COOKIE, path="/")
        return answer

    # -------------------------------------------------------------------------------------------- its health
    async def _live(self, _request: web.Request) -> web.StreamResponse:
        return _json({"live": True})

    async def _ready(self, _request: web.Request) -> web.StreamResponse:
        reasons = self._office.not_ready()
        return _json({"ready": not reasons, "reasons": reasons}, 503 if reasons else 200)

    async def _scrape(self, _request: web.Request) -> web.StreamResponse:
        self._metrics.ready(is_ready=not self._office.not_ready())
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _is_api(request: web.Request) -> bool:
    return request.path.startswith("/api/")


def _key(request: web.Request, route: Route, query: Any) -> str:
    """Return what a writing request is known by. Raises Problem where it has to say, and does not."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        if route.writes and not query.dry_run:
            raise wrong(
                "Idempotency-Key",
                "this header is missing; give a text of your own, the same when the request is sent again: "
                "then it does nothing twice",
            )
        return new_key()
    if route.writes:
        check_key(key)
    return key


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(READ_S):
            return await request.read()
    except TimeoutError:
        raise Problem(400, f"the body did not come within {READ_S:.0f} s") from None


async def _post(request: web.Request) -> dict[str, str]:
    """Return the fields of a form, the first of each name. Raises Problem where it is none."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "this takes forms of its own pages alone")
    await _body(request)
    given: dict[str, str] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, str):
            given.setdefault(name, value)
    return given


def _check_form(given: dict[str, str], session: Session) -> None:
    """Refuse what is not of a page of this session."""
    if not secrets.compare_digest(given.get("csrf", "").encode(), session.csrf.encode()):
        raise Problem(403, "this form is not of your session: open the page again, and send it from there")


def _check_origin(request: web.Request) -> None:
    """Refuse what another site had a browser send."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if site not in {"same-origin", "none"} or foreign:
        raise Problem(403, "this form was sent from another site; nothing was done")


def _inside(url: str | None) -> str:
    """Return where to go on after a login: a path of ours, else the first page."""
    is_ours = (
        url is not None and url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable()
    )
    return url if is_ours and url is not None else "/"


def _of_http(request: web.Request, error: web.HTTPException) -> Problem:
    match error.status:
        case 404:
            return Problem(404, f"there is nothing at {request.path}")
        case 405:
            return Problem(405, f"{request.method} is not for {request.path}")
        case 413:
            return Problem(413, f"more than {BODY_BYTES_MAX} bytes are not taken; send less")
    return Problem(400, error.reason)


def _json(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")


def _html(text: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def _moved(url: str) -> web.Response:
    return web.Response(status=303, headers={"Location": url})


def _file(raw: bytes, kind: str) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": "max-age=3600"} if kind != "application/json" else {}
        return web.Response(body=raw, content_type=kind, headers=headers)

    return answer
