"""The HTTP server of `rater admin`: who asks is found out here, and faults become answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import msgspec
import structlog
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from rater.admin import openapi
from rater.admin.access import Notice, Session, User
from rater.admin.entrance import BY_ITSELF, STREAMS_BELOW, Entrance
from rater.admin.forms import body_of, check_form, check_origin, form_of, html, moved
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
from rater.errors import Halt
from rater.metrics import Metrics
from rater.readmodel.asked import WrongAskedError

log = structlog.get_logger()

BODY_BYTES_MAX = 1_000_000
LINE_BYTES_MAX = 65_536
"""Of a request's first line, and of a header: a place of the events has an offset for each partition. What is
longer does not come as far as to us."""
WORK_S = 120.0
"""So long a request may take: those that read the journal take longest."""
SHUTDOWN_S = 2.0
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
        self._entrance = Entrance(office, self._site)
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
        self._entrance.add_to(router)
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
        session = self._entrance.session(request)
        page = Shown("error.html", {"problem": problem.details}, problem.status)
        return html(self._site.page(page, session), problem.status, more)

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
                body = read_body(await body_of(request), request.content_type, route)
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
            session = self._entrance.session(request)
            if session is None:
                if request.method != "GET":
                    raise Problem(
                        401, "your session has ended, and nothing was changed: log in, go back, and try again"
                    )
                return moved(f"/login?next={quote(str(request.rel_url), safe='')}")
            if not session.user.may(page.role):
                raise not_for(session.user, page.role)
            form, upload = dict[str, str](), None
            if page.takes_file:
                check_origin(request)
                form, upload = await read_form(request, lambda given: check_form(given, session))
                check_form(form, session)
            elif request.method == "POST":
                form = await form_of(request, session)
            found = await page.handler(self._visit(request, session, form, upload))
            if isinstance(found, Moved):
                if found.notice is not None:
                    notice = found.notice if isinstance(found.notice, Notice) else Notice(found.notice)
                    session.notice.append(notice)
                return moved(found.url)
            by_itself = BY_ITSELF in request.headers
            return html(self._site.page(found, session, await self._age(), by_itself=by_itself), found.status)

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
            session = self._entrance.session(request)
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


def _file(raw: bytes, kind: str) -> Handler:
    async def answer(_request: web.Request) -> web.StreamResponse:
        headers = {"Cache-Control": "max-age=3600"} if kind != "application/json" else {}
        return web.Response(body=raw, content_type=kind, headers=headers)

    return answer
