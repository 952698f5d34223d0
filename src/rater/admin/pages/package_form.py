"""The form of a package: new ones and edits, rows that are added and taken away, the preview, saving."""

from __future__ import annotations

from typing import Any

import msgspec

from rater.admin.office import FRESH_S, Moved, Shown, Visit, now_ms
from rater.admin.orders import PackageDone, Writing, mark_of, new_key
from rater.admin.package_values import ROWS, Values, empty, filled, of_form, of_spec, to_row
from rater.admin.problems import Problem, ProblemDetails
from rater.admin.shown import part
from rater.core.amounts import E10
from rater.core.catalog.specs import Content, LimitSpec, PackageSpec
from rater.core.catalog_files.rows import read_packages
from rater.core.trial.ahead import Ahead, Caught, caught, periods_ahead
from rater.queries.clients import NotThereError

_FIRST_ROWS = {"fees": 2, "limits": 2, "discounts": 0, "did_limits": 0}
"""Empty rows that the form of a new package shows."""


class _Preview(msgspec.Struct):
    """What is shown before it is saved. done: what would change."""

    ahead: Ahead | None
    caught: list[Caught]
    done: PackageDone


async def new(visit: Visit) -> Shown:
    """Show the empty form, or that of a package which is to be copied."""
    content = await visit.office.orders.content()
    copied = content.packages.get(visit.query.get("copy", ""))
    values = empty()
    if copied is not None:
        values = of_spec(copied.latest, content.all_services())
        values.texts["id"] = ""
    elif content.base is not None:
        values.texts["currency"] = content.base
    for block, count in _FIRST_ROWS.items():
        values.rows[block] += [_blank(block) for _ in range(count - len(values.rows[block]))]
    return _page(visit, content, values)


async def edit(visit: Visit) -> Shown:
    """Show the form of a package."""
    content = await visit.office.orders.content()
    spec = _spec(content, visit.path["id"])
    return _page(visit, content, of_spec(spec, content.all_services()), seen=mark_of(spec))


async def send_new(visit: Visit) -> Shown | Moved:
    """Take the form of a new package."""
    return await _sent(visit, None)


async def send_edit(visit: Visit) -> Shown | Moved:
    """Take the form of a package."""
    return await _sent(visit, visit.path["id"])


async def _sent(visit: Visit, of_id: str | None) -> Shown | Moved:
    """Do what the button says that was pressed: rows more or less, preview, save."""
    form, content = visit.form, await visit.office.orders.content()
    values, seen, key = of_form(form), form.get("seen", ""), form.get("key") or new_key()
    if of_id is not None:
        values.texts["id"] = of_id
    if _rows_changed(values, form):
        return _page(visit, content, values, seen=seen, key=key)
    for block in ROWS:  # empty rows go, so that faults name the rows that are shown
        values.rows[block] = filled(block, values.rows[block])
    row = msgspec.json.encode(to_row(values))
    orders, is_new = visit.office.orders, of_id is None
    writing = Writing(visit.user, key, form.get("reason", "").strip(), dry_run="save" not in form)
    try:
        done = await orders.put_package(row, writing, new=is_new, seen=seen)
    except Problem as problem:
        present = content.packages.get(of_id or "")
        if problem.status == 409 and present is not None:  # noqa: PLR2004 - somebody else changed it
            # What it is now is shown; saving once more is then meant.
            now = of_spec(present.latest, content.all_services())
            return _page(
                visit, content, values, seen=mark_of(present.latest), key=key, problem=problem.details,
                changed=_differences(now, values),
            )  # fmt: skip
        return _page(visit, content, values, seen=seen, key=key, problem=problem.details)
    if not writing.dry_run:
        await visit.office.model.wait_until_now(FRESH_S)
        told = (
            "created" if done.before is None else "saved" if done.fields else "as it was: nothing to change"
        )
        return Moved(f"/packages/{part(done.package)}", f"Package {done.package} is {told}")
    return _page(visit, content, values, seen=seen, key=key, preview=_preview(content, row, done))


def _preview(content: Content, row: bytes, done: PackageDone) -> _Preview:
    """Return the next periods and what limits catch, of a row that was checked."""
    spec = _counted(content, read_packages("package.json", row, {}).packages[0].value)
    return _Preview(periods_ahead(content, spec, now_ms() // 1000 * 1000), caught(content, spec.limits), done)


def _counted(content: Content, spec: PackageSpec) -> PackageSpec:
    """Return a package with its volumes in counting units, as a load makes them of price units."""
    services = content.all_services()
    limits = [
        limit if limit.type == "money" else _units(limit, services[limit.service].price_unit)
        for limit in spec.limits
    ]
    return msgspec.structs.replace(spec, limits=limits)


def _units(limit: LimitSpec, price_unit: int) -> LimitSpec:
    return msgspec.structs.replace(
        limit, limit=limit.limit * price_unit // E10, rollover=limit.rollover * price_unit // E10
    )


def _rows_changed(values: Values, form: Any) -> bool:
    """Add or take away the row that a button names; returns whether one was pressed."""
    block, _, number = form.get("less", "").partition(".")
    if block in ROWS and number.isdigit() and int(number[:6]) < len(values.rows[block]):
        del values.rows[block][int(number[:6])]
        return True
    block = form.get("more", "")
    if block in ROWS:
        values.rows[block].append(_blank(block))
        return True
    return False


def _blank(block: str) -> dict[str, str]:
    row = dict.fromkeys(ROWS[block], "")
    if block == "fees":
        row["type"] = "subscription"
    if block == "limits":
        row |= {"type": "volume", "service": "calls"}
    return row


def _differences(now: Values, wanted: Values) -> list[tuple[str, str, str]]:
    """Return (field, what it is now, what the form says) of each that differs."""
    found = [
        (name, now.texts[name], wanted.texts[name])
        for name in now.texts
        if now.texts[name] != wanted.texts[name]
    ]
    return found + [
        (block, _listed(now.rows[block]), _listed(filled(block, wanted.rows[block])))
        for block in ROWS
        if now.rows[block] != filled(block, wanted.rows[block])
    ]


def _listed(rows: list[dict[str, str]]) -> str:
    return "; ".join(" ".join(filter(None, row.values())) for row in rows)


def _spec(content: Content, of_id: str) -> PackageSpec:
    history = content.packages.get(of_id)
    if history is None or history.deleted:
        raise NotThereError("package", of_id)
    return history.latest


def _page(
    visit: Visit, content: Content, values: Values, *, seen: str = "", key: str | None = None,
    problem: ProblemDetails | None = None, preview: _Preview | None = None,
    changed: list[tuple[str, str, str]] | None = None,
) -> Shown:  # fmt: skip
    history = content.packages.get(visit.path.get("id", ""))
    faults = {one.field: one.message for one in problem.errors} if problem is not None else {}
    told = {
        "values": values, "seen": seen, "key": key or new_key(), "problem": problem, "preview": preview,
        "of_id": visit.path.get("id"), "assigned": history is not None and history.assigned,
        "faults": faults, "changed": changed or [], "services": content.all_services(),
        "resellers": content.resellers, "decks": sorted(content.decks),
        "currencies": sorted({*content.currencies, *filter(None, [content.base])}),
        "reason": visit.form.get("reason", ""),
    }  # fmt: skip
    return Shown("package_form.html", told, 200 if problem is None else problem.status)
