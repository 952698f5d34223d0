"""Remarks on what catalog files say that is unusual, or is kept without effect yet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from rater.core.catalog.specs import Content, DeckSpec, PackageSpec
from rater.core.catalog_files.fields import what
from rater.core.catalog_files.placed import CatalogFile
from rater.core.naming import Names, hidden, mixed, spelt
from rater.core.periods import Span


def warnings(file: CatalogFile, content: Content | None = None) -> list[str]:
    """Return sentences on what the file says that is unusual, or kept without effect yet.

    `content` is what was loaded before.
    """
    packages = [placed.value for placed in file.packages]
    out = [
        f"{subject} ({some(ids)}): {effect}"
        for subject, effect, has in _NOTES
        if (ids := [spec.id for spec in packages if has(spec)])
    ]
    if file.dids:
        out.append("dids: kept, but nothing is decided by them yet")
    if ids := [placed.value.id for placed in file.clients if placed.value.low_balance is not None]:
        out.append(f"low_balance of clients ({some(ids)}): kept, but calls that cross it are not told of yet")
    out += few([note for placed in file.code_decks for note in _code_names(placed.value)], "names")
    out += _hidden_ids(file)
    out += _lost_codes(file, content or Content())
    before = content.packages if content is not None else {}
    for spec in packages:
        old = before.get(spec.id)
        if old is not None and old.assigned and old.latest.name != spec.name:
            names = f"{old.latest.name!r} becomes {spec.name!r}"
            out.append(
                f"package {spec.id} is assigned and renamed, {names}: earlier transactions keep the old name"
            )
    return out


_NOTES: tuple[tuple[str, str, Callable[[PackageSpec], bool]], ...] = (
    ("DID limits of packages", "kept, but not enforced yet", lambda spec: bool(spec.did_limits)),
    (
        "on_hold_days of packages",
        "differ from renew_for, so DIDs are freed before or after the wait for funds ends",
        lambda spec: any(
            row.on_hold_days and spec.renew_for not in {None, str(Span(row.on_hold_days, "day"))}
            for row in spec.did_limits
        ),
    ),
)


def _code_names(deck: DeckSpec) -> Iterable[str]:
    """Yield sentences on code names that are one in several spellings, or look like another one."""
    counts = Counter(deck.codes.values())
    for alike in Names(counts).doubles():
        spellings = [f"{spelt(name)} ({_codes(counts[name])})" for name in alike]
        yield f"code deck {what(deck.name)}: {_and(spellings)} are one name"
    for name in counts:
        if (word := mixed(name)) is not None:
            yield (
                f"code deck {what(deck.name)}: {spelt(name)} ({_codes(counts[name])}) mixes letters of two "
                f"alphabets in {spelt(word)}: it is another name than one that looks the same ({word!a})"
            )


def _lost_codes(file: CatalogFile, content: Content) -> Iterable[str]:
    """Yield sentences on rate tables that lose codes, as a load replaces a table as a whole."""
    names = Names(content.rate_tables)
    for table in (placed.value for placed in file.rate_tables):
        kept = {row.code for row in table.rates}
        for name in names.meant(table.name)[:1]:
            lost = sorted({row.code for row in content.rate_tables[name].rates} - kept)
            if lost:
                yield f"rate table {what(name)} loses {_codes(len(lost))} ({some(lost)})"


def _codes(count: int) -> str:
    return "1 code" if count == 1 else f"{count} codes"


def _and(items: Sequence[str]) -> str:
    return f"{', '.join(items[:-1])} and {items[-1]}"


def _hidden_ids(file: CatalogFile) -> list[str]:
    """Return sentences on ids with what one does not see: ids are compared character by character."""
    found = {
        "resellers": [placed.value.id for placed in file.resellers],
        "packages": [placed.value.id for placed in file.packages],
        "clients": [placed.value.id for placed in file.clients],
        "accounts": [account.id for placed in file.clients for account in placed.value.accounts],
        "client packages": [placed.value.id for placed in file.client_packages],
    }
    return [
        f"ids of {section} ({some([spelt(of) for of in odd])}): a blank at an end and an invisible "
        "character are part of an id"
        for section, ids in found.items()
        if (odd := [of for of in ids if hidden(of)])
    ]


_NOTES_SHOWN = 20


def few(notes: list[str], kind: str) -> list[str]:
    """Return the first of the notes, and how many more there are: a deck may have them by the thousand."""
    more = len(notes) - _NOTES_SHOWN
    return notes if more <= 0 else [*notes[:_NOTES_SHOWN], f"and {more} more notes on {kind} like these"]


def some(ids: list[str]) -> str:
    """Return the first of the ids, and how many more there are."""
    shown = 5
    return ", ".join(ids[:shown]) + (f" and {len(ids) - shown} more" if len(ids) > shown else "")
