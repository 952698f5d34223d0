"""One word, one meaning: words that had several in the code, and what they were replaced by."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "src" / "rater"
NAMES = {
    "Call": "DrawRequest, RequestBuilder: a call is a phone call",
    "Calls": "the same",
    "DrawCall": "the same",
    "ClientRegister": "ClientState: a lane registers at a gate",
    "registers": "states",
    "Terms": "TransactionHead, or PaymentTerms",
    "Part": "LimitText",
    "Parts": "Shared",
    "Taken": "Lane",
    "Said": "CallText",
    "Kept": "OutcomeRow",
    "obey": "carry_out",
}
"""Class or function → what to say instead."""


def defined(path: Path) -> Iterator[str]:
    """Give the names of classes and functions of a module."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name


def test_old_names_do_not_come_back() -> None:
    """No class or function bears a word that has another meaning in the glossary of core/README.md."""
    found = {
        f"{path.relative_to(SOURCE)}: {name}; say {NAMES[name]}"
        for folder in ("core", "store", "worker")
        for path in (SOURCE / folder).rglob("*.py")
        for name in defined(path)
        if name in NAMES
    }
    assert found == set()


def test_the_glossary_has_each_word_once() -> None:
    """A word stands in one row of the glossary."""
    text = (SOURCE / "core" / "README.md").read_text("utf-8")
    glossary = text.partition("## Words")[2].partition("## ")[0]
    words = re.findall(r"^\| ([a-z' ]+) \|", glossary, re.MULTILINE)
    assert "rate" in words
    assert len(words) == len(set(words))
