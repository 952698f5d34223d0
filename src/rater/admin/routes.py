"""What a route of the API is, and how a request to it is read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, get_origin, get_type_hints

import msgspec

from rater.admin.access import Role
from rater.admin.office import Call
from rater.admin.problems import FieldProblem, Problem, of_shape
from rater.admin.requests import NoQuery

Handler = Callable[[Call], Awaitable[Any]]


class Route(NamedTuple):
    """A route. query, body: what is asked; body None: there is none. result: what is answered.

    raw: the handler reads the body's bytes itself, and tells of each fault; `body` says what it takes. file:
    the body is a file.
    """

    method: str
    path: str
    role: Role
    handler: Handler
    summary: str
    result: type
    query: type = NoQuery
    body: type | None = None
    raw: bool = False
    file: bool = False

    @property
    def name(self) -> str:
        """The name of the operation."""
        return self.handler.__name__

    @property
    def writes(self) -> bool:
        """Whether it changes something, and so wants a key."""
        return "dry_run" in self.query.__struct_fields__  # type: ignore[attr-defined]


def read_query(given: Mapping[str, list[str]], form: type) -> Any:
    """Return the query of a URL. given: name → its values. Raises Problem, which names the field."""
    hints = get_type_hints(form)
    values: dict[str, Any] = {}
    for name, texts in given.items():
        if name not in hints:
            known = ", ".join(hints) or "none"
            raise Problem(
                400, f"{name}: there is no such parameter; known are: {known}",
                [FieldProblem(name, f"there is no such parameter; known are: {known}")],
            )  # fmt: skip
        if get_origin(hints[name]) is list:
            values[name] = texts
        elif len(texts) > 1:
            raise Problem(400, f"{name}: is given twice", [FieldProblem(name, "is given twice")])
        else:
            values[name] = texts[0]
    try:
        found: Any = msgspec.convert(values, form, strict=False)
    except msgspec.ValidationError as error:
        raise of_shape(error) from error
    for name in values:  # msgspec takes the text null for none, and a filter would be no filter
        if getattr(found, name) is None:
            problem = "null is no value; leave it out"
            raise Problem(400, f"{name}: {problem}", [FieldProblem(name, problem)])
    return found


def read_body(raw: bytes, content_type: str, route: Route) -> Any:
    """Return the body of a request. Raises Problem, which names the field."""
    if route.body is None:
        if raw:
            raise Problem(400, "this takes no body; leave it out")
        return None
    if content_type != "application/json":
        raise Problem(415, "send the body as JSON, with Content-Type: application/json")
    if route.raw:
        return raw
    try:
        return msgspec.json.decode(raw, type=route.body)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise of_shape(error) from error
