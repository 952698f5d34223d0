"""Packages, merged: what is fixed since they were assigned, their limits' references, their history."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from rater.core.amounts import E10, LIMIT, format_e10
from rater.core.catalog.specs import Content, LimitSpec, PackageHistory, PackageSpec, ServiceSpec
from rater.core.catalog_files.merge_state import Merging, changed
from rater.core.catalog_files.placed import CatalogFile, Placed, StatusRow


def merge_packages(merging: Merging) -> None:
    """Merge packages, and check that those which are not in the files keep their code names."""
    for placed in merging.file.packages:
        _package(merging, placed)
    for row in merging.file.statuses:
        _set_status(merging, row)
    for deletion in merging.file.deletions:
        _delete(merging, deletion)
    _names_still_known(merging)


def _package(merging: Merging, placed: Placed[PackageSpec]) -> None:
    spec = placed.value
    old, faults = merging.old.packages.get(spec.id), len(merging.faults)
    if old is not None and old.deleted:
        merging.fault(placed, "id", spec.id, _DELETED)
        return
    if old is not None and _is_assigned(merging, spec.id, old):
        _check_fixed(merging, placed, old.latest, spec)
    merging.check_currency(placed, spec.currency)
    merging.check_known(placed, "reseller", spec.reseller, merging.new.resellers, "reseller")
    spec = replace(spec, limits=[_limit(merging, placed, n, limit) for n, limit in enumerate(spec.limits)])
    if old is not None and old.status == "archived":
        del merging.faults[faults:]  # its code names may have gone since: it is final, and stays as it is
        if spec != old.latest and placed.good:
            problem = "archived, which is final; make a new one, or keep all as it was"
            merging.fault(placed, "", spec.id, problem)
        return
    merging.new.packages[spec.id] = _history(old, spec, merging.at_ms)


_DELETED = "was deleted, and its id is not given again; choose another"


def _is_assigned(merging: Merging, of: str, history: PackageHistory) -> bool:
    return history.assigned or of in merging.existing.assigned


def doubted(content: Content, file: CatalogFile) -> set[str]:
    """Return the packages of which `merge` needs to know whether a command ever assigned them."""
    found = {placed.value for placed in file.deletions}
    for spec in (placed.value for placed in file.packages):
        old = content.packages.get(spec.id)
        if old is not None and any(getattr(old.latest, name) != getattr(spec, name) for name in _FIXED):
            found.add(spec.id)
    return {of for of in found if of in content.packages and not content.packages[of].assigned}


def _set_status(merging: Merging, placed: Placed[StatusRow]) -> None:
    of, status = placed.value
    old = _known(merging, placed, of)
    if old is None or old.status == status:
        return
    if old.status == "archived":
        merging.fault(placed, "", of, "archived, which is final; make a new package")
        return
    merging.new.packages[of] = _history(old, replace(old.latest, status=status), merging.at_ms)


def _delete(merging: Merging, placed: Placed[str]) -> None:
    """Leave of a package its last version, archived: what it was is still found by who is late."""
    of = placed.value
    old = _known(merging, placed, of)
    if old is None:
        return
    if _is_assigned(merging, of, old):
        problem = "some client has it or had it, so it cannot be deleted; archive it"
        merging.fault(placed, "", of, problem)
        return
    kept = _history(old, replace(old.latest, status="archived"), merging.at_ms)
    merging.new.packages[of] = replace(kept, versions=kept.versions[-1:], deleted=True)


def _known(merging: Merging, placed: Placed[Any], of: str) -> PackageHistory | None:
    """Return the package that is changed; None with a fault: there is none."""
    old = merging.new.packages.get(of)
    if old is None or old.deleted:
        problem = "no such package" if old is None else "was deleted"
        merging.fault(placed, "", of, f"{problem}; `rater packages list` shows which there are")
        return None
    return old


def _limit(merging: Merging, placed: Placed[PackageSpec], position: int, limit: LimitSpec) -> LimitSpec:
    """Return the limit in counting units, its references checked."""
    here = Placed(placed.file, f"{placed.path}.limits[{position}]", limit)
    limit = changed(
        limit,
        service=merging.named(here, "service", limit.service, merging.services, "service"),
        code_deck=merging.named(here, "code_deck", limit.code_deck, merging.new.decks, "code deck"),
    )
    deck = limit.code_deck or ""
    if limit.code_name is not None and merging.sure("code_decks", deck, merging.new.decks):
        kind = f"code name in code deck {deck!r}"
        meant = merging.code_names(deck).meant(limit.code_name)
        if not meant:
            merging.check_known(here, "code_name", limit.code_name, (), kind)
        elif meant[0] != limit.code_name:
            merging.read(here, "code_name", limit.code_name, meant[0], "code name")
    if not merging.sure("services", limit.service, merging.services):
        return replace(limit, limit=0)  # cannot be counted
    if limit.type != "volume":
        return limit
    service = merging.services[limit.service]
    return replace(
        limit,
        limit=_counted(merging, here, "limit", limit.limit, service),
        rollover=_counted(merging, here, "rollover", limit.rollover, service),
    )


def _counted(merging: Merging, here: Placed[LimitSpec], field: str, e10: int, service: ServiceSpec) -> int:
    """Return a volume in counting units, from 10^-10 price units."""
    count, rest = divmod(e10 * service.price_unit, E10)
    if rest:
        unit = f"{service.unit}s, of which {service.price_unit} are one price unit"
        merging.fault(here, field, format_e10(e10), f"not a whole number of {unit}; round it")
    if count > LIMIT:
        merging.fault(here, field, format_e10(e10), f"more than {LIMIT} {service.unit}s; make it smaller")
    return count


_FIXED = ("currency", "type")


def _check_fixed(merging: Merging, placed: Placed[PackageSpec], old: PackageSpec, spec: PackageSpec) -> None:
    """Refuse what may not change since the package was assigned."""
    for field in _FIXED:
        before, after = getattr(old, field), getattr(spec, field)
        if before != after:
            problem = f"it is {before}, and fixed since the package was assigned; keep it"
            merging.fault(placed, field, after, problem)


def _names_still_known(merging: Merging) -> None:
    """Refuse a deck without a code name that a package which is not in the file goes by."""
    replaced = {name: placed for name, placed in merging.rows["code deck"].items() if placed.good}
    if not replaced:
        return
    brought = {placed.value.id for placed in merging.file.packages}
    for of, history in merging.new.packages.items():
        if of in brought or history.status == "archived":
            continue
        for limit in history.latest.limits:
            deck = limit.code_deck or ""
            if deck in replaced and limit.code_name and not merging.code_names(deck).alike(limit.code_name):
                problem = f"lacks this code name, which limit {limit.id!r} of package {of!r} is for; keep it"
                merging.fault(replaced[deck], "codes", limit.code_name, problem)


def _history(old: PackageHistory | None, spec: PackageSpec, at_ms: int) -> PackageHistory:
    """Return the package's history with what a load says; the same object when that changes nothing."""
    if old is None:
        return PackageHistory([(at_ms, spec)], [(at_ms, spec.status)])
    if spec == old.latest:
        return old
    versions, statuses = list(old.versions), list(old.statuses)
    since, latest = versions[-1]
    if replace(spec, status=latest.status) == latest:  # the status has a history of its own
        versions[-1] = (since, spec)
    else:
        versions.append((_later(since, at_ms), spec))
    if spec.status != old.status:
        statuses.append((_later(statuses[-1][0], at_ms), spec.status))
    return replace(old, versions=versions, statuses=statuses)


def _later(since: int, at_ms: int) -> int:
    """Return when a change holds from: its load, and after the one before even when a clock was put back."""
    return max(at_ms, since + 1000)
