"""No function, class or file of src is longer than one reads at once, but those named here with a reason."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from structure import SOURCE

FUNCTION_MAX, CLASS_MAX, FILE_MAX = 50, 250, 450
"""Lines; a function's docstring is not counted."""

LONG: dict[str, str] = {}
"""Path, or path:name → why it is longer."""


def _sizes() -> Iterator[tuple[str, int, int]]:
    """Yield (path or path:name, lines, how many it may have) of all that is measured."""
    for path in sorted(SOURCE.rglob("*.py")):
        name, text = path.relative_to(SOURCE).as_posix(), path.read_text("utf-8")
        yield name, text.count("\n"), FILE_MAX
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                yield f"{name}:{node.name}", _lines(node), CLASS_MAX
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                told = _lines(node.body[0]) if ast.get_docstring(node) is not None else 0
                yield f"{name}:{node.name}", _lines(node) - told, FUNCTION_MAX


def _lines(node: ast.stmt) -> int:
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_nothing_is_longer_than_one_reads_at_once() -> None:
    """What grows is cut by subject, or is named in LONG with its reason; what shrank is named no more."""
    over = {what: lines for what, lines, most in _sizes() if lines > most}
    assert over.keys() == LONG.keys(), over
