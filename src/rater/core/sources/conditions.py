"""Conditions of a map: checked, and compiled to what holds for a record's slots or not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rater.core.sources.expressions import Expressions
from rater.core.sources.extractors import any_of, fits
from rater.core.sources.map_language import TEXT_KEYS, Condition, Extract
from rater.core.sources.pieces import Pieces

_OPERATORS = frozenset({"equals", "in", "not_in", "exists", "matches", "not_matches"})


class Conditions:
    """Compiles the conditions of one map."""

    def __init__(self, pieces: Pieces, expressions: Expressions) -> None:
        """Compile conditions on what these expressions give."""
        self._pieces = pieces
        self._expressions = expressions

    def wheres(self, table: dict[str, Any]) -> tuple[tuple[Condition, str], ...]:
        """Return the conditions of `where`, and why a record is skipped for which one does not hold."""
        found: list[tuple[Condition, str]] = []
        for index, one in enumerate(self._pieces.items(table, "where", "")):
            where = f"where[{index}]"
            if not isinstance(one, dict):
                self._pieces.fault(where, one, "is a table; write [[where]] and its keys below it")
                continue
            reason = self._pieces.text(one, "reason", f"{where}.")
            if not reason:
                self._pieces.fault(
                    f"{where}.reason", "", 'is missing; say why such a record is no call: reason = "…"'
                )
            found.append((self._condition({k: v for k, v in one.items() if k != "reason"}, where), reason))
        return tuple(found)

    def all_of(self, table: Mapping[str, Any], key: str, prefix: str = "") -> tuple[Condition, ...]:
        """Return the conditions of a list."""
        ones = self._pieces.items(table, key, prefix)
        return tuple(self._condition(one, f"{prefix}{key}[{index}]") for index, one in enumerate(ones))

    def _condition(self, one: object, where: str) -> Condition:
        if not isinstance(one, dict):
            self._pieces.fault(where, one, 'is a condition, a table: {path = "FIELD", equals = "TEXT"}')
            return bool
        if "any" in one:
            self._pieces.keys(one, {"any"}, where)
            options = self.all_of(one, "any", f"{where}.")
            if one["any"] == []:
                self._pieces.fault(f"{where}.any", "[]", "is empty; name at least one condition")
            return any_of(options)
        operators = _OPERATORS & one.keys()
        self._pieces.keys(one, TEXT_KEYS | _OPERATORS, where)
        if len(operators) != 1:
            names = ", ".join(sorted(operators)) or "no test"
            self._pieces.fault(
                where, names, f"a condition has one of {', '.join(sorted(_OPERATORS))}, or any = [...]"
            )
            return bool
        (operator,) = operators
        take = self._expressions.text({k: v for k, v in one.items() if k not in _OPERATORS}, where).take
        return self._test(operator, one, take, where)

    def _test(self, operator: str, one: dict[str, Any], take: Extract, where: str) -> Condition:
        if operator == "exists":
            if not isinstance(one["exists"], bool):
                self._pieces.fault(f"{where}.exists", one["exists"], "is true or false, without quotes")
            wanted = one["exists"] is True
            return lambda slots: (take(slots) is not None) is wanted
        if operator in ("matches", "not_matches"):
            pattern = self._pieces.pattern(one, operator, where)
            wanted = operator == "matches"
            return lambda slots: fits(pattern, take(slots)) is wanted
        if operator == "equals":
            texts = frozenset({self._pieces.text(one, "equals", f"{where}.")})
        else:
            texts = frozenset(self._pieces.texts(one, operator, f"{where}."))
        wanted = operator != "not_in"
        return lambda slots: (take(slots) in texts) is wanted
