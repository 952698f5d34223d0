"""What a load changes of packages: shown before it is carried out."""

from __future__ import annotations

from msgspec import Struct

from rater.core.catalog.specs import Content, PackageHistory, PackageSpec, Status
from rater.core.clients.state import id_order


class PackageChange(Struct, frozen=True):
    """What becomes of a package. before: its status, None of a new one; after: None of a deleted one.

    fields: name → (before, after), as catalog files write them but for limits: those are in counting units
    and micros.
    """

    id: str
    before: Status | None
    after: Status | None
    fields: dict[str, tuple[object, object]]


def changes(before: Content | None, after: Content) -> list[PackageChange]:
    """Return the packages that differ, by id."""
    old = {} if before is None else before.packages
    found = [
        _change(of, old.get(of), history)
        for of, history in after.packages.items()
        if history != old.get(of) and not (of in old and old[of].deleted)
    ]
    return sorted(found, key=lambda one: id_order(one.id))


def _change(of: str, old: PackageHistory | None, new: PackageHistory) -> PackageChange:
    after = None if new.deleted else new.status
    if old is None:
        return PackageChange(of, None, after, {})
    fields = {
        name: (getattr(old.latest, name), getattr(new.latest, name))
        for name in PackageSpec.__struct_fields__
        if name != "status" and getattr(old.latest, name) != getattr(new.latest, name)
    }
    return PackageChange(of, old.status, after, fields)
