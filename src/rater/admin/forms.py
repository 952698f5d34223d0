"""What browsers send to the console, and how they are answered: forms of our own pages, where to go on."""

from __future__ import annotations

import asyncio
import secrets
from urllib.parse import urlsplit

from aiohttp import web

from rater.admin.access import Session
from rater.admin.problems import Problem

READ_S = 20.0
"""So long the body of a request may take to come."""


async def body_of(request: web.Request) -> bytes:
    """Return the body of a request. Raises Problem where it does not come in time."""
    try:
        async with asyncio.timeout(READ_S):
            return await request.read()
    except TimeoutError:
        raise Problem(400, f"the body did not come within {READ_S:.0f} s") from None


async def post(request: web.Request) -> dict[str, str]:
    """Return the fields of a form, the first of each name. Raises Problem where it is none."""
    if request.content_type != "application/x-www-form-urlencoded":
        raise Problem(415, "this takes forms of its own pages alone")
    await body_of(request)
    given: dict[str, str] = {}
    for name, value in (await request.post()).items():
        if isinstance(value, str):
            given.setdefault(name, value)
    return given


def check_form(given: dict[str, str], session: Session) -> None:
    """Refuse what is not of a page of this session."""
    if not secrets.compare_digest(given.get("csrf", "").encode(), session.csrf.encode()):
        raise Problem(403, "this form is not of your session: open the page again, and send it from there")


def check_origin(request: web.Request) -> None:
    """Refuse what another site had a browser send."""
    site = request.headers.get("Sec-Fetch-Site", "same-origin")
    origin = request.headers.get("Origin")
    foreign = origin is not None and urlsplit(origin).netloc != request.host
    if site not in {"same-origin", "none"} or foreign:
        raise Problem(403, "this form was sent from another site; nothing was done")


async def form_of(request: web.Request, session: Session) -> dict[str, str]:
    """Return what a form of ours says. Raises Problem for one that is not of ours."""
    check_origin(request)
    given = await post(request)
    check_form(given, session)
    return given


def inside(url: str | None) -> str:
    """Return where to go on after a login: a path of ours, else the first page."""
    is_ours = (
        url is not None and url.startswith("/") and not url.startswith(("//", "/\\")) and url.isprintable()
    )
    return url if is_ours and url is not None else "/"


def html(text: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    """Return a page as an answer."""
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)


def moved(url: str) -> web.Response:
    """Return the answer that sends a browser on."""
    return web.Response(status=303, headers={"Location": url})
