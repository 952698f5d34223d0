"""Pages become HTML: templates, what they may call, and the files beside them; what is shown is escaped."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from rater.admin import shown
from rater.admin.access import Notice, Session
from rater.admin.office import Shown, now_ms

_KINDS = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class Site:
    """The templates, compiled."""

    def __init__(self) -> None:
        """Compile them when they are first shown."""
        self._templates = Environment(
            loader=PackageLoader("rater.admin"), autoescape=True, undefined=StrictUndefined,
            trim_blocks=True, lstrip_blocks=True,
        )  # fmt: skip
        self._templates.filters.update(shown.FILTERS)

    def page(
        self, page: Shown, session: Session | None, state: Any = None, *, by_itself: bool = False
    ) -> str:
        """Return a page for who is logged in (None: nobody). state: of the read model.

        by_itself: a page that moves asks for itself again, and nobody reads notices there.
        """
        notices: list[Notice] = []
        if session is not None and not by_itself:
            notices, session.notice = session.notice, []
        template = self._templates.get_template(page.template)
        return template.render(
            **page.told, session=session, notices=notices, state=state, now_ms=now_ms(),
        )  # fmt: skip

    def part(self, template: str, told: Mapping[str, Any]) -> str:
        """Return a part of a page."""
        return self._templates.get_template(template).render(**told)


def static_files() -> dict[str, tuple[bytes, str]]:
    """Return name → (content, media type) of the files that pages name."""
    return {
        one.name: (one.read_bytes(), _KINDS["." + one.name.rpartition(".")[2]])
        for one in (files("rater.admin") / "static").iterdir()
    }
