"""Remarks on what can match nothing: codes that no number begins with, limits of no rate, rules never asked.

They are told and nothing is changed: a call may bring its own rate, and rates may come with a later load.
Source of the rules: RULES.md 2, steps 1, 2 and 4, and 3.1.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from rater.core.catalog.codes import WILDCARD, Deck
from rater.core.catalog.rules import Rules
from rater.core.catalog.specs import Content, IdentificationRule, LimitSpec, PackageSpec
from rater.core.catalog_files.fields import what
from rater.core.catalog_files.placed import CatalogFile
from rater.core.catalog_files.remarks import few, some

_INTERNATIONAL = "00"
"""How a call abroad is dialled in most countries; a map takes it off, and no country's code begins so."""


_NONE = "matches no code of any rate table"


class _Said(Struct):
    """What is looked at: all that is in force, or what a file brings."""

    decks: Mapping[str, Iterable[str]]
    """Name → codes."""
    tables: Mapping[str, Iterable[str]]
    packages: list[PackageSpec]
    rules: list[IdentificationRule]


def unmatched(content: Content, file: CatalogFile | None = None) -> list[str]:
    """Return sentences on what can match nothing.

    content: what is in force, with all that the file says. file: only of what it brings is told, of limits
    too where it changes rates; None: of all.
    """
    said = _in_force(content) if file is None else _brought(content, file)
    return [
        *few(_abroad(said), "codes"),
        *few(list(_limits(said.packages, content)), "limits"),
        *few(_behind(said.rules, content.identification), "rules"),
    ]


def overlaid(content: Content, file: CatalogFile) -> Content:
    """Return what is in force with the rows of a file in place of those of the same name, unchecked."""
    rules = {rule.conditions(): rule for rule in content.identification}
    rules |= {placed.value.conditions(): placed.value for placed in file.identification}
    return replace(
        content,
        decks=content.decks | {placed.value.name: placed.value for placed in file.code_decks},
        rate_tables=content.rate_tables | {placed.value.name: placed.value for placed in file.rate_tables},
        identification=list(rules.values()),
    )


def _in_force(content: Content) -> _Said:
    return _Said(
        {name: deck.codes for name, deck in content.decks.items()},
        {name: [row.code for row in table.rates] for name, table in content.rate_tables.items()},
        [history.latest for history in content.packages.values()],
        content.identification,
    )


def _brought(content: Content, file: CatalogFile) -> _Said:
    packages = {placed.value.id: placed.value for placed in file.packages}
    if file.rate_tables:  # their codes are other ones now
        packages = {history.latest.id: history.latest for history in content.packages.values()} | packages
    return _Said(
        {placed.value.name: placed.value.codes for placed in file.code_decks},
        {placed.value.name: [row.code for row in placed.value.rates] for placed in file.rate_tables},
        list(packages.values()),
        [placed.value for placed in file.identification],
    )


def _abroad(said: _Said) -> list[str]:
    """Return sentences on codes and prefixes that begin with 00."""
    found: list[tuple[str, list[str]]] = [
        *((f"code deck {what(name)}", _written_so(codes)) for name, codes in said.decks.items()),
        *((f"rate table {what(name)}", _written_so(codes)) for name, codes in said.tables.items()),
        *(
            (_place(spec, limit), _written_so([limit.code or "", *limit.exclude]))
            for spec in said.packages
            for limit in spec.limits
        ),
    ]
    prefixes = _written_so(rule.caller_prefix or "" for rule in said.rules)
    found.append(("caller_prefix of identification rules", prefixes))
    return [
        f"{place}: no number begins with 00, an international prefix, once its source's map has read it; "
        f"write {some([code.lstrip('0') for code in codes])} in place of {some(codes)}"
        for place, codes in found
        if codes
    ]


def _place(spec: PackageSpec, limit: LimitSpec) -> str:
    return f"package {what(spec.id)}, limit {what(limit.id)}"


def _written_so(codes: Iterable[str]) -> list[str]:
    """Return those that begin with 00 and go on."""
    begun = (code for code in codes if code.startswith(_INTERNATIONAL) and code.strip("0*"))
    return list(dict.fromkeys(begun))


class _Codes:
    """The codes of all rate tables, which are those that calls are identified by."""

    def __init__(self, content: Content) -> None:
        self._known = {row.code for table in content.rate_tables.values() for row in table.rates}
        self._sorted = sorted(self._known)
        self._decks: dict[str, Deck] = {name: Deck(name, deck.codes) for name, deck in content.decks.items()}

    def __bool__(self) -> bool:
        return bool(self._known)

    def matched(self, pattern: str) -> bool:
        """Return whether a code or wildcard matches any of them."""
        if not pattern.endswith(WILDCARD):
            return pattern in self._known
        prefix = pattern[:-1]
        at = bisect_left(self._sorted, prefix)
        return at < len(self._sorted) and self._sorted[at].startswith(prefix)

    def named(self, deck: str | None, name: str) -> bool:
        """Return whether one of them bears a code name in a deck."""
        found = self._decks.get(deck or "")
        return found is None or not self._known.isdisjoint(found.codes_named(name))

    def remedy(self, pattern: str) -> str:
        """Return what to write in place of a pattern that matches none."""
        code = pattern.rstrip(WILDCARD)
        if self.matched(code + WILDCARD):
            return f"write {code}{WILDCARD}, or add a rate for {code}"
        for length in range(len(code) - 1, 0, -1):
            if code[:length] in self._known:
                return f"calls there are rated by {code[:length]}: write that, or add a rate for {code}"
        return f"add a rate for {code}, or correct the code"


def _limits(packages: Iterable[PackageSpec], content: Content) -> Iterable[str]:
    """Yield sentences on limits, and their excludes, that match no code of any rate table."""
    codes = _Codes(content)
    for spec in packages if codes else ():
        if spec.status == "archived":
            continue
        for limit in spec.limits:
            place = _place(spec, limit)
            if problem := _idle(limit, codes):
                yield f"{place}: {problem}"
            for pattern in limit.exclude:
                if not (codes.matched(pattern) or _written_so([pattern])):
                    yield (
                        f"{place}: {pattern} is excluded and {_NONE}, so nothing is excluded by it; "
                        f"{codes.remedy(pattern)}"
                    )


def _idle(limit: LimitSpec, codes: _Codes) -> str:
    """Return what is wrong with a limit that matches no code; "": it matches one."""
    effect = f"{_NONE}, so only calls that bring their own rate can draw from it"
    code, name = limit.code or "", limit.code_name
    if name is not None:
        known = codes.named(limit.code_deck, name)
        return "" if known else f"{what(name)} {effect}; add a rate, or correct the name"
    if codes.matched(code) or _written_so([code]):  # that is told already
        return ""
    return f"{code} {effect}; {codes.remedy(code)}"


def _behind(told: Iterable[IdentificationRule], rules: list[IdentificationRule]) -> list[str]:
    """Return sentences on rules of these that an earlier one always comes before. rules: all, in order."""
    wanted = set(told)
    return [
        f"identification rule {_shown(rules[position])} never holds: {_shown(rules[first])} comes before it "
        "and holds wherever it does; put it first, or leave it out"
        for position, first in Rules(rules).behind(rules)
        if rules[position] in wanted
    ]


def _shown(rule: IdentificationRule) -> str:
    names = ("side", "gateway", "ip", "login", "caller_prefix")
    conditions = zip(names, rule.conditions(), strict=True)
    return "{" + ", ".join(f"{name}: {what(value)}" for name, value in conditions if value is not None) + "}"
