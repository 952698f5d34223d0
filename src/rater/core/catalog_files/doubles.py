"""What is named twice in files that are loaded together, though it may be there once."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any

from rater.core.catalog.specs import ClientSpec, IdentificationRule
from rater.core.catalog_files.fields import Fault, what
from rater.core.catalog_files.placed import KEYS, CatalogFile, Placed


def refuse_doubles(out: CatalogFile) -> None:
    """Refuse what is named twice in what is loaded together."""
    for section, field in KEYS.items():
        _once(out, section, attrgetter(field), f".{field}")
    _once(out, "currencies", attrgetter("name"), "")
    _once(out, "identification", IdentificationRule.conditions, "")
    _accounts_once(out)


def _once(out: CatalogFile, section: str, key: Callable[[Any], Any], field: str) -> None:
    first: dict[Any, Placed[Any]] = {}
    for placed in getattr(out, section):
        if section == "identification" and not placed.good:
            continue  # what it asks for is not known
        name = key(placed.value)
        other = first.setdefault(name, placed)
        if other is not placed and name:
            value = what(name) if field or section == "currencies" else placed.value.client
            problem = f"{other.file}: {other.path} is the same; leave one out"
            if section == "identification":
                problem = f"{other.file}: {other.path} asks for the same, so this never holds; leave one out"
            out.faults.append(Fault(placed.file, placed.path + field, value, problem))


def _accounts_once(out: CatalogFile) -> None:
    owners: dict[str, tuple[Placed[ClientSpec], int]] = {}
    for placed in out.clients:
        for position, account in enumerate(placed.value.accounts):
            other = owners.get(account.id)
            if other is not None and account.id:
                path = f"{other[0].file}: {other[0].path}.accounts[{other[1]}].id"
                problem = f"{path} is the same; account ids are unique in the system, change one"
                path = f"{placed.path}.accounts[{position}].id"
                out.faults.append(Fault(placed.file, path, account.id, problem))
            owners[account.id] = placed, position
