"""`rater packages create`, `edit`, `enable` …: packages are changed by a load that is about them alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rater.core.catalog.specs import Content, Status
from rater.core.catalog_files.fields import Fault
from rater.core.catalog_files.merging import CatalogFile
from rater.core.catalog_files.package_changes import PackageChange, changes
from rater.core.catalog_files.placed import Placed, StatusRow
from rater.core.catalog_files.rows import read_packages
from rater.core.kinds import Do
from rater.jobs.load import Loader, notes_of


class Edit(NamedTuple):
    """What is asked of packages. do: what the load's manifests say."""

    do: Do
    rows: CatalogFile


class Planned(NamedTuple):
    """What an edit would do to the catalog of this version; none: nothing. notes: as a load tells them."""

    edit: Edit
    version: int
    changes: list[PackageChange]
    notes: Sequence[str]


def status_edit(of: str, status: Status) -> Edit:
    """Return what gives a package another status."""
    rows = CatalogFile()
    rows.statuses.append(Placed("package", "", StatusRow(of, status)))
    return Edit(Do.SET_PACKAGE_STATUS, rows)


def deletion(of: str) -> Edit:
    """Return what deletes a package."""
    rows = CatalogFile()
    rows.deletions.append(Placed("package", "", of))
    return Edit(Do.DELETE_PACKAGE, rows)


def put(path: Path, content: Content | None, *, new: bool) -> Edit:
    """Return what brings packages to what a file says; as `put_rows`."""
    return put_rows(str(path), path.read_bytes(), content, new=new)


def put_rows(name: str, raw: bytes, content: Content | None, *, new: bool) -> Edit:
    """Return what brings packages to what rows say; name: of their file, which tells their form.

    new: none of them may be there, else all of them have to be. A package whose row gives no status keeps the
    one that it has.
    """
    known = {} if content is None else content.packages
    rows = read_packages(name, raw, {of: history.status for of, history in known.items() if not new})
    for placed in rows.packages:
        of = placed.value.id
        if new and of in known and not known[of].deleted:
            problem = "is there already; `rater packages edit` changes it, or choose another id"
            rows.faults.append(Fault(placed.file, f"{placed.path}.id", of, problem))
        elif not new and of and of not in known:
            problem = "no such package; `rater packages list` shows which there are, `create` makes one"
            rows.faults.append(Fault(placed.file, f"{placed.path}.id", of, problem))
    return Edit(Do.PUT_PACKAGE, rows)


async def planned(loader: Loader, edit: Edit) -> Planned | list[Fault]:
    """Return what an edit would do; nothing is changed."""
    present, merged = await loader.preview(edit.rows)
    if isinstance(merged, list):
        return merged
    notes = notes_of(edit.rows, present, merged)
    return Planned(edit, present.version, changes(present.content, merged.content), notes)
