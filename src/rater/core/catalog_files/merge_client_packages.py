"""Client packages, merged: new ones fit their package and client, of others the end date alone changes."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

from msgspec.structs import replace

from rater.core.amounts import LIMIT
from rater.core.catalog.specs import ClientPackageSpec, PackageSpec
from rater.core.catalog_files.fields import what
from rater.core.catalog_files.merge_state import Merging
from rater.core.catalog_files.placed import Placed
from rater.core.clients.loading import first_start, same_package
from rater.core.clients.opening import IN_PAST_MAX
from rater.core.clients.state import ClientPackage
from rater.core.instants import rfc3339
from rater.core.periods import anchor_at, boundaries_passed, in_step, parse_span, when_ms

_ANEW = "assign the package anew under another id"


def merge_client_packages(merging: Merging) -> dict[str, list[ClientPackageSpec]]:
    """Return the client packages that change, by client."""
    out: dict[str, list[ClientPackageSpec]] = {}
    held: dict[str, dict[str, ClientPackage]] = {}
    for placed in merging.file.client_packages:
        spec = placed.value
        before = _held(merging, held, spec.client).get(spec.id)
        if before is not None and same_package(before, spec):
            continue
        if before is None:
            _assign(merging, placed)
        else:
            _edit(merging, placed, before)
        out.setdefault(spec.client, []).append(spec)
    return out


def _held(
    merging: Merging, held: dict[str, dict[str, ClientPackage]], client: str
) -> dict[str, ClientPackage]:
    """Return what the client has already, by id."""
    found = held.get(client)
    if found is None:
        state = merging.existing.clients.get(client)
        found = held[client] = {of.id: of for of in state.packages} if state is not None else {}
    return found


def _assign(merging: Merging, placed: Placed[ClientPackageSpec]) -> None:
    spec = placed.value
    merging.check_owner(placed, spec.client, spec.account)
    merging.check_new_id(placed, spec.id)
    owner, state = merging.holder(spec.id), merging.existing.clients.get(spec.client)
    if state is not None and spec.id in state.removed:
        merging.fault(placed, "id", spec.id, "was removed, and its id is not given again; choose another")
    elif owner not in {None, spec.client}:
        problem = f"is one of client {owner!r}; ids are unique in the system, choose another"
        merging.fault(placed, "id", spec.id, problem)
    history = merging.new.packages.get(spec.package)
    if history is None:
        merging.check_known(placed, "package", spec.package, merging.new.packages, "package")
        return
    if ("packages", spec.package) in merging.faulty:
        return
    if history.status != "active":
        remedy = "enable it first" if history.status == "disabled" else "assign another"
        status = "deleted" if history.deleted else history.status
        merging.fault(placed, "package", spec.package, f"{status}: it cannot be assigned; {remedy}")
    if not history.assigned:
        merging.new.packages[spec.package] = replace(history, assigned=True)
    if not (placed.good and merging.client_sure(spec.client)):
        _check_fit(merging, placed, history.latest)
        return
    # They come by the million, and differ in names: what these checks rest on is looked at once.
    kind = _kind(merging, spec)
    if kind not in merging.fitting:
        faults = len(merging.faults)
        _check_fit(merging, placed, history.latest)
        if len(merging.faults) == faults:
            merging.fitting.add(kind)


def _kind(merging: Merging, spec: ClientPackageSpec) -> tuple[Any, ...]:
    """Return all that `_check_fit` reads of an assignment and of its client."""
    client, state = merging.brought.get(spec.client), merging.existing.clients.get(spec.client)
    of: tuple[Any, ...] = ()
    if client is not None:
        of = client.time_zone, client.currency, client.payment_terms
    elif state is not None:
        of = state.zone, state.currency, state.terms
    return spec.package, spec.quantity, spec.start_date, spec.end_date, spec.activate_in_past, *of


def _check_fit(merging: Merging, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
    """Refuse an assignment that does not go with its package, or with its client."""
    _check_quantity(merging, placed, package)
    if not merging.client_sure(placed.value.client):
        return
    if placed.good:
        _check_runs(merging, placed, package)
        _check_fees(merging, placed, package)
    if package.align_to_payment_terms:
        _check_aligned(merging, placed, package)


def _check_quantity(merging: Merging, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
    largest = max((limit.limit for limit in package.limits), default=0)
    if largest * placed.value.quantity > LIMIT:
        problem = f"times the largest limit it is more than counters hold, {LIMIT}; make it smaller"
        merging.fault(placed, "quantity", placed.value.quantity, problem)


def _check_runs(merging: Merging, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
    """Refuse an assignment whose first period would begin at its end, or after it."""
    spec = placed.value
    if spec.end_date is None and package.end_date is None:
        return
    zone = _zone(merging, spec.client)
    package_start = None if package.start_date is None else when_ms(package.start_date, zone)
    start = first_start(spec, package_start, zone, merging.at_ms)
    if spec.end_date is not None and when_ms(spec.end_date, zone) <= start:
        problem = "not after the start of the first period, so it would never run; change the dates"
        merging.fault(placed, "end_date", spec.end_date, problem)
    elif package.end_date is not None and when_ms(package.end_date, zone) <= start:
        problem = f"ends on {package.end_date}, before the first period would start; change the dates"
        merging.fault(placed, "package", spec.package, problem)


def _check_fees(merging: Merging, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
    """Refuse what could not be activated: too many periods in the past, fees in a currency without a rate."""
    spec, zone = placed.value, _zone(merging, placed.value.client)
    package_start = None if package.start_date is None else when_ms(package.start_date, zone)
    start = first_start(spec, package_start, zone, merging.at_ms)
    ends = [when_ms(at, zone) for at in (spec.end_date, package.end_date) if at is not None]
    upto = min([merging.at_ms, *(end - 1 for end in ends)])
    if package.period is not None and start <= upto:
        passed = boundaries_passed(anchor_at(start, zone), parse_span(package.period), zone, upto)
        if passed >= IN_PAST_MAX:
            problem = f"more than {IN_PAST_MAX} periods would be opened in the past; begin later"
            merging.fault(placed, "start_date", spec.start_date, problem)
    client, state = merging.brought.get(spec.client), merging.existing.clients.get(spec.client)
    currency = client.currency if client is not None else state.currency if state is not None else ""
    if package.fees and package.currency != currency:
        for name in (package.currency, currency):
            rows = merging.new.currencies.get(name, [])
            if name != merging.new.base and not any((row.from_ms or 0) <= start for row in rows):
                problem = f"its fees need a rate of {name} at {rfc3339(start)}; load one that is dated before"
                merging.fault(placed, "package", spec.package, problem)


def _check_aligned(merging: Merging, placed: Placed[ClientPackageSpec], package: PackageSpec) -> None:
    """Refuse a package whose period does not go with the client's payment terms."""
    client = placed.value.client
    spec, state = merging.brought.get(client), merging.existing.clients.get(client)
    terms = spec.payment_terms if spec is not None else state.terms if state is not None else None
    if terms is None:
        problem = "aligned to payment terms, which the client has not; give the client payment_terms"
        merging.fault(placed, "package", package.id, problem)
    elif package.period and not in_step(parse_span(package.period), parse_span(terms.every)):
        problem = (
            f"its period ({package.period}) does not fit the client's payment terms ({terms.every}): "
            "neither is a multiple of the other; assign another, or change one of them"
        )
        merging.fault(placed, "package", package.id, problem)


def _zone(merging: Merging, client: str) -> ZoneInfo:
    spec, state = merging.brought.get(client), merging.existing.clients.get(client)
    if spec is not None:
        return merging.zones.at(spec.time_zone, merging.at_ms)
    return merging.zones.at("UTC" if state is None else state.zone, merging.at_ms)


def _edit(merging: Merging, placed: Placed[ClientPackageSpec], held: ClientPackage) -> None:
    """Check a changed row of what is assigned: the end date may change, and not to before now."""
    spec = placed.value
    for field in ("account", "package", "start_date", "activate_in_past", "quantity"):
        before, after = getattr(held, field), getattr(spec, field)
        if before != after:
            problem = f"it is {what(before)} and cannot change any more; {_ANEW}"
            merging.fault(placed, field, after, problem)
    if held.end_date == spec.end_date:
        return
    history = merging.new.packages.get(spec.package)
    if history is not None and history.status == "archived":
        merging.fault(placed, "package", spec.package, "archived, which is final; leave the row as it was")
    if not merging.client_sure(spec.client):
        return
    end_ms = None if spec.end_date is None else when_ms(spec.end_date, _zone(merging, spec.client))
    if held.end_ms is not None and held.end_ms <= merging.at_ms:
        problem = f"it ended on {held.end_date}, which is final; {_ANEW}"
        merging.fault(placed, "end_date", spec.end_date, problem)
    elif end_ms is not None and end_ms < merging.at_ms:
        merging.fault(placed, "end_date", spec.end_date, "before now; write now or later")
    elif end_ms is not None and end_ms <= held.start_ms:
        problem = "not after the start of the first period; write a later one"
        merging.fault(placed, "end_date", spec.end_date, problem)
