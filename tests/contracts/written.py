"""The contracts as files: deploy/contracts, which `make contracts` writes anew.

PYTHONPATH=src:tests python -m contracts.written
"""

from __future__ import annotations

from pathlib import Path

from contracts import asyncapi, references, schemas

FOLDER = Path(__file__).parents[2] / "deploy" / "contracts"


def files() -> dict[str, str]:
    """Return path below the folder → text, of all that is generated."""
    return {
        **{f"schemas/{name}.json": schemas.text(of) for name, of in schemas.published().items()},
        "asyncapi.yaml": asyncapi.text(),
        "commands.md": references.commands(),
        "metrics.md": references.metrics(),
        "reasons.md": references.reasons(),
    }


def kept() -> dict[str, str]:
    """Return the same as it lies in the folder."""
    return {
        path.relative_to(FOLDER).as_posix(): path.read_text("utf-8")
        for path in FOLDER.rglob("*")
        if path.is_file()
    }


if __name__ == "__main__":
    new = files()
    for gone in kept().keys() - new.keys():
        (FOLDER / gone).unlink()
    for name, text in new.items():
        path = FOLDER / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
