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
from rater.admin.access import SESSION_S, Notice, Session, User
from rater.admin.office import Call, Moved, Office, PageHandler, Shown, Visit
from rater.admin.orders import check_key, new_key
from rater.admin.pages import PAGES
from rater.admin.problems import Problem, not_for, of_error
from rater.admin.reading import of_page
from rater.admin.rendering import Site, static_files
from rater.admin.routes import Route, read_body, read_query
from rater.admin.table import ROUTES
from rater.admin.uploads import read_file, read_form
from rater.errors import Halt
from rater.metrics import Metrics
from rater.readmodel.asked import WrongAskedError

log = structlog.get_logger()

BODY_BYTES_MAX = 1_000_000
READ_S = 20.0
"""So long the body of a request may take to come."""
WORK_S = 120.0
"""So long a request may take: those that read the journal take longest."""
SHUTDOWN_S = 2.0
COOKIE = "rater_session"

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
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
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port (a free one for 0). Halt when it cannot be had."""
        application = web.Application(middlewares=[self._guarded], client_max_size=BODY_BYTES_MAX)
        router = application.router
        for route in ROUTES:
            router.add_route(route.method, route.path, self._api(route))
        for page in PAGES:
            router.add_route(page.method, page.path, self._page(page))
        for name, (raw, kind) in static_files().items():
            router.add_get(f"/static/{name}", _file(raw, kind))
        router.add_get("/login", self._login_form)
        router.add_post("/login", self._login)
        router.add_post("/logout", self._logout)
        router.add_get("/openapi.json", _file(self._openapi, "application/json"))
        router.add_get("/livez", self._live)
        router.add_get("/readyz", self._ready)
        router.add_get("/metrics", self._scrape)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=SHUTDOWN_S)
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
            async with asyncio.timeout(WORK_S):
                answer = await handler(request)
        except TimeoutError:
            answer = self._told(
                request, Problem(503, f"it took longer than {WORK_S:.0f} s, and was given up")
            )
        except web.HTTPException as error:
            answer = self._told(request, _of_http(request, error))
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
            user = self._bearer(request)
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

    def _bearer(self, request: web.Request) -> User:
        """Return whose token a request bears. Raises Problem."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self._office.tokens.user_of(token.strip()) if scheme.lower() == "bearer" else None
        if user is not None:
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
            every = {name: request.query.getall(name) for name in request.query}
            first = {name: values[0] for name, values in every.items()}
            url, path = str(request.rel_url), request.match_info
            visit = Visit(self._office, session, path, first, form, every, url, upload)
            found = await page.handler(visit)
            if isinstance(found, Moved):
                if found.notice is not None:
                    notice = found.notice if isinstance(found.notice, Notice) else Notice(found.notice)
                    session.notice.append(notice)
                return _moved(found.url)
            return _html(self._site.page(found, session, await self._age()), found.status)

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
        return self._office.sessions.find(request.cookies.get(COOKIE), time.monotonic())

    async def _login_form(self, request: web.Request) -> web.StreamResponse:
        if self._session(request) is not None:
            return _moved(_inside(request.query.get("next")))
        page = Shown("login.html", {"next": _inside(request.query.get("next")), "wrong": None})
        return _html(self._site.page(page, None))

    async def _login(self, request: web.Request) -> web.StreamResponse:
        _check_origin(request)
        address, now_s, office = request.remote or "", time.monotonic(), self._office
        if wait_s := office.attempts.wait_s(address, now_s):
            raise Problem(429, f"too many wrong tokens: wait {wait_s} s, and try again", retry_s=wait_s)
        given = await _post(request)
        user = office.tokens.user_of(given.get("token", "").strip())
        if user is None:
            office.attempts.failed(address, now_s)
            told = {"next": _inside(given.get("next")), "wrong": "This is no token of the settings."}
            return _html(self._site.page(Shown("login.html", told), None), 403)
        session = Session(secrets.token_urlsafe(32), user, secrets.token_urlsafe(32), now_s)
        office.sessions.begin(session)
        log.info("logged in", user=user.name, role=user.role, address=address)
        answer = _moved(_inside(given.get("next")))
        answer.set_cookie(
            COOKIE, session.id, httponly=True, samesite="Lax", path="/", max_age=SESSION_S,
            secure=office.settings.admin.secure_cookies,
        )  # fmt: skip
        return answer

    async def _logout(self, request: web.Request) -> web.StreamResponse:
        session = self._session(request)
        if session is not None:
            await self._form(request, session)
            self._office.sessions.end(session.id)
        answer = _moved("/login")
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
            raise Problem(
                400, "Idempotency-Key: this header is missing; give a text of your own, the same when the "
                "request is sent again: then it does nothing twice",
            )  # fmt: skip
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
