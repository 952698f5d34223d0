"""What went wrong, as HTTP tells it (RFC 9457): the status, a sentence, and the fields that are meant."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
from msgspec import Struct

from rater.admin.access import Role, User
from rater.core.catalog_files.fields import Fault
from rater.errors import Fenced, Halt, NoCatalog, Wait
from rater.queries.clients import NotThereError

TITLES = {
    400: "Not understood", 401: "Who are you?", 403: "Not allowed", 404: "Not there",
    405: "Not done here", 409: "Refused", 413: "Too large", 415: "Not JSON", 422: "Wrong input",
    429: "Too many attempts", 500: "A defect", 503: "Not available now", 504: "Not answered yet",
}  # fmt: skip
"""Status → title: all statuses of problems."""


class FieldProblem(Struct, frozen=True):
    """What is wrong with one field. field: its path, `limits[0].code`; "": the whole."""

    field: str
    message: str


class ProblemDetails(Struct, frozen=True, kw_only=True):
    """A problem (RFC 9457, `application/problem+json`)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    errors: Sequence[FieldProblem] = ()


class Problem(Exception):  # noqa: N818 - named as RFC 9457 does
    """What was asked cannot be done. status: one of TITLES. retry_s: ask again after so many seconds."""

    def __init__(
        self, status: int, detail: str, errors: Sequence[FieldProblem] = (), *, retry_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.detail, self.errors, self.retry_s = status, detail, tuple(errors), retry_s

    @property
    def details(self) -> ProblemDetails:
        """What the answer says."""
        return ProblemDetails(
            title=TITLES[self.status], status=self.status, detail=self.detail, errors=self.errors
        )


def not_for(user: User, role: Role) -> Problem:
    """Return the problem that a user may not do what needs a role."""
    return Problem(403, f"this needs the role {role}; {user.name} has {user.role}")


def wrong(field: str, message: str) -> Problem:
    """Return the problem that one field is wrong."""
    return Problem(422, f"{field}: {message}", [FieldProblem(field, message)])


_PLACE = re.compile(r" - at `\$\.?(.*)`$")
_NAMED = re.compile(r"(?:required field|unknown field) `([^`]+)`")


def of_shape(error: Exception, *, status: int = 400) -> Problem:
    """Return the problem of a value that msgspec refused; it names the field."""
    text = str(error)
    place = _PLACE.search(text)
    message = _PLACE.sub("", text)
    field = place[1] if place is not None else ""
    if (named := _NAMED.search(message)) is not None:
        field = f"{field}.{named[1]}" if field else named[1]
    message = message[:1].lower() + message[1:]
    return Problem(status, f"{field}: {message}" if field else message, [FieldProblem(field, message)])


def of_faults(faults: Sequence[Fault]) -> Problem:
    """Return the problem that rows of a catalog are at fault: each of them."""
    errors = [FieldProblem(_field(fault.path), _said(fault)) for fault in faults]
    told = "; ".join(f"{one.field}: {one.message}" if one.field else one.message for one in errors[:3])
    more = f"; and {len(errors) - 3} more" if len(errors) > 3 else ""  # noqa: PLR2004 - those told
    return Problem(422, told + more, errors)


def _field(path: str) -> str:
    return path.removeprefix("packages[0]").removeprefix("package").removeprefix(".")


def _said(fault: Fault) -> str:
    return f"{fault.value}: {fault.problem}" if fault.value else fault.problem


def of_error(error: Exception) -> Problem | None:
    """Return the problem of a fault that was foreseen; None: of none."""
    found: Problem | None = None
    match error:
        case Problem():
            found = error
        case NotThereError():
            found = Problem(404, str(error))
        case Wait() | Fenced():
            found = Problem(503, f"{error}; this may pass: try again in a while", retry_s=5)
        case NoCatalog():
            found = Problem(503, str(error))
        case Halt():
            found = Problem(409, str(error))
        case msgspec.ValidationError() | msgspec.DecodeError():
            found = of_shape(error)
    return found
