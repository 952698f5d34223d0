"""The table of modules in src/rater/README.md, made of the first lines of their docstrings.

python tests/structure.py      writes the table anew
"""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "rater"
README = SOURCE / "README.md"
BEGIN, END = "<!-- modules: written by tests/structure.py -->\n", "<!-- end of modules -->\n"
TOP = "."


def said(path: Path) -> str:
    """Return the first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    if not text:
        message = f"{path.relative_to(SOURCE)} has no docstring; its first line goes into {README.name}"
        raise ValueError(message)
    return text.splitlines()[0]


def table() -> str:
    """Return the table: a part for each folder, with a line for each module but those that are empty."""
    folders = [SOURCE, *sorted({path.parent for path in SOURCE.rglob("*.py")} - {SOURCE})]
    parts = []
    for folder in folders:
        name = folder.relative_to(SOURCE).as_posix()
        about = "" if name == TOP else f"**`{name}/`** {said(folder / '__init__.py')}\n\n"
        rows = [
            f"| `{path.name}` | {said(path)} |"
            for path in sorted(folder.glob("*.py"))
            if path.name != "__init__.py"
        ]
        parts.append(about + "\n".join(["| module | what it holds |", "|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def written() -> str:
    """Return the README with the table as it is to be."""
    before, _, rest = README.read_text("utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


if __name__ == "__main__":
    README.write_text(written(), "utf-8")
