"""Packages that commands change, and ids that are given once (RULES.md section 3)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from rater.core.catalog.specs import Content, PackageHistory, Status, from_objects, objects
from rater.core.catalog_files.fields import Fault
from rater.core.catalog_files.merging import CatalogFile, Existing, Merged, doubted, merge, read_files, wanted
from rater.core.catalog_files.package_changes import changes
from rater.core.catalog_files.placed import Placed, StatusRow
from rater.core.catalog_files.rows import read_packages
from rater.core.clients.state import ClientState, client_package_name
from rater.core.commands.loads import parts_of
from rater.core.commands.records import AccountsArgs, ClientsArgs
from rater.core.offline import Rater

NOW, LATER = 1_794_312_000_000, 1_794_398_400_000
BASE = """
currencies: {base: USD, rates: {EUR: "1.08"}}
packages:
  - {id: "1", name: Kiev, type: customer, currency: USD, period: 1 month,
     limits: [{id: m, type: volume, service: calls, code: "*", limit: 100}]}
  - {id: "2", name: Free, type: customer, currency: USD, status: disabled}
clients: [{id: "42", currency: USD, accounts: [{id: sip}]}, {id: "43", currency: USD}]
client_packages: [{id: "3", client: "42", package: "1"}]
"""


def loaded() -> Rater:
    """Return what BASE is when it is loaded."""
    rater = Rater()
    assert rater.load([("c.yaml", BASE.encode())], NOW) == []
    return rater


def content() -> Content:
    """Return the content of BASE."""
    found = loaded().content
    assert found is not None
    return found


def statuses(*rows: tuple[str, Status]) -> CatalogFile:
    """Return what gives packages another status."""
    file = CatalogFile()
    file.statuses += [Placed("package", of, StatusRow(of, status)) for of, status in rows]
    return file


def deleting(*ids: str) -> CatalogFile:
    """Return what deletes packages."""
    file = CatalogFile()
    file.deletions += [Placed("package", of, of) for of in ids]
    return file


def merged(before: Content, file: CatalogFile, at_ms: int = LATER, assigned: Iterable[str] = ()) -> Content:
    """Return the content with what a file says, which has no faults."""
    found = merge(before, file, at_ms, Existing({}, {}, frozenset(assigned)))
    assert isinstance(found, Merged), [str(fault) for fault in found]
    return found.content


def refused(before: Content, file: CatalogFile, assigned: Iterable[str] = ()) -> str:
    """Return the one fault of what a file says."""
    found = merge(before, file, LATER, Existing({}, {}, frozenset(assigned)))
    assert isinstance(found, list)
    (fault,) = found
    return str(fault)


def read(text: str) -> CatalogFile:
    """Return a catalog file."""
    return read_files([("c.yaml", text.encode())], lambda _: b"")


# --------------------------------------------------------------------------------------------------- statuses
def test_a_status_has_its_history() -> None:
    """The status changes with its instant, and nothing else of the package does."""
    before = content()
    after = merged(before, statuses(("1", "disabled")))
    was, now = before.packages["1"], after.packages["1"]
    assert now.statuses == [*was.statuses, (LATER, "disabled")]
    assert (len(now.versions), now.assigned) == (1, True)
    assert now.latest == msgspec.structs.replace(was.latest, status="disabled")
    assert merged(after, statuses(("1", "active")), LATER + 5000).packages["1"].statuses[2:] == [
        (LATER + 5000, "active")
    ]


def test_the_status_that_a_package_has_changes_nothing() -> None:
    """A command that comes twice does nothing the second time."""
    found = merge(content(), statuses(("2", "disabled")), LATER, Existing({}, {}))
    assert isinstance(found, Merged)
    assert not found.changed


def test_the_archive_is_final() -> None:
    """An archived package has no other status any more; to archive it again does nothing."""
    after = merged(content(), statuses(("1", "archived")))
    assert "archived, which is final" in refused(after, statuses(("1", "active")))
    assert merged(after, statuses(("1", "archived"))) == after


def test_a_package_that_is_not_there_has_no_status() -> None:
    """The fault names it and where to look."""
    assert refused(content(), statuses(("9", "active"))).startswith("package: 9: 9: no such package; `rater")


# --------------------------------------------------------------------------------------------------- deleting
def test_a_deleted_package_leaves_a_tombstone() -> None:
    """It is archived for who is late, and its id is refused ever after; it outlives writing and reading."""
    after = merged(content(), deleting("2"))
    stone = from_objects(objects(after)).packages["2"]
    assert (stone.deleted, stone.status, len(stone.versions)) == (True, "archived", 1)
    again = read('packages: [{id: "2", name: New, type: customer, currency: USD}]')
    assert "was deleted, and its id is not given again" in refused(after, again)
    assert "was deleted; `rater packages list`" in refused(after, deleting("2"))
    assert "was deleted; `rater packages list`" in refused(after, statuses(("2", "active")))
    (change,) = changes(content(), after)
    assert (change.id, change.before, change.after) == ("2", "disabled", None)
    assert changes(after, after) == []


def test_a_deleted_package_is_not_assigned() -> None:
    """A row of a client package says so."""
    after = merged(content(), deleting("2"))
    row = read('clients: [{id: "9", currency: USD}]\nclient_packages: [{id: "5", client: "9", package: "2"}]')
    assert "deleted: it cannot be assigned; assign another" in refused(after, row)


@pytest.mark.parametrize(("of", "assigned"), [("1", ()), ("2", ("2",))])
def test_what_was_assigned_cannot_be_deleted(of: str, assigned: tuple[str, ...]) -> None:
    """By a load or by a command: it can be archived."""
    said = refused(content(), deleting(of), assigned)
    assert "some client has it or had it, so it cannot be deleted; archive it" in said


def test_content_of_builds_before_is_read() -> None:
    """A history that says nothing of deletion is that of a package that is there."""
    old = msgspec.msgpack.encode({"versions": [], "statuses": [], "assigned": True})
    assert not msgspec.msgpack.decode(old, type=PackageHistory).deleted


def test_what_was_assigned_by_a_command_is_fixed() -> None:
    """Currency and type: the catalog does not know of it, so it is asked where they change."""
    free = 'packages: [{id: "2", name: Free, type: customer, currency: CUR, status: disabled}]'
    same, other = read(free.replace("CUR", "USD")), read(free.replace("CUR", "EUR"))
    assert doubted(content(), same) == set()
    assert doubted(content(), other) == {"2"}
    assert doubted(content(), deleting("1", "2", "9")) == {"2"}
    assert "it is USD, and fixed since the package was assigned" in refused(content(), other, ("2",))
    assert merged(content(), other).packages["2"].latest.currency == "EUR"


# -------------------------------------------------------------------------------------------------------- ids
def test_a_client_package_finds_its_client_by_the_index() -> None:
    """`wanted` asks for it, a load writes it, and another client's is refused, whoever is in the file."""
    file = read('client_packages: [{id: "3", client: "43", package: "1"}]')
    assert wanted(file) == ({"43"}, {client_package_name("3")})
    rater = loaded()
    (fault,) = rater.load([("c.yaml", b'client_packages: [{id: "3", client: "43", package: "1"}]')], LATER)
    assert "is one of client '42'; ids are unique in the system" in str(fault)


def test_a_loads_parts_bring_the_index() -> None:
    """Accounts and client packages, each in the bucket of its name there, before the clients."""
    found = merge(None, read(BASE), NOW, Existing({}, {}))
    assert isinstance(found, Merged)
    parts = [args for _, args in parts_of(found.entries, 1, 1)]
    index, clients = parts
    assert isinstance(index, AccountsArgs)
    assert isinstance(clients, ClientsArgs)
    assert index.entries == [("sip", "42"), ("\x003", "42")]


def test_the_longest_id_fits_the_index() -> None:
    """An id of 200 characters has a name of 201 there."""
    raw = msgspec.json.encode(AccountsArgs(1, 0, [(client_package_name("x" * 200), "42")]))
    assert msgspec.json.decode(raw, type=AccountsArgs).entries[0][1] == "42"


@pytest.mark.parametrize(
    "row", ["clients: [{id: a/b, currency: USD}]", 'client_packages: [{id: a/b, client: "42", package: "1"}]']
)
def test_new_ids_have_no_slash(row: str) -> None:
    """Ids of transactions are parted by it; what an earlier build took stays."""
    (fault,) = loaded().load([("c.yaml", row.encode())], LATER)
    assert (fault.value, "which parts ids of transactions; write another" in fault.problem) == ("a/b", True)


def test_an_id_that_was_removed_is_not_given_again() -> None:
    """Neither by the file that brought it first."""
    rater = loaded()
    state = rater.states["42"]
    gone = msgspec.structs.replace(state, packages=[], removed=("3",))
    known: dict[str, ClientState | None] = {"42": gone, "43": rater.states["43"]}
    found = merge(rater.content, read(BASE), LATER, Existing(known, {client_package_name("3"): "42"}))
    assert isinstance(found, list)
    assert [(fault.path, fault.problem) for fault in found] == [
        ("client_packages[0].id", "was removed, and its id is not given again; choose another")
    ]


# ------------------------------------------------------------------------------------------ files of packages
ONE = '{id: "5", name: Five, type: customer, currency: USD}'


@pytest.mark.parametrize(
    ("name", "text", "path"),
    [
        ("p.yaml", ONE, "package"),
        ("p.yaml", f"[{ONE}]", "packages[0]"),
        ("p.yaml", f"packages: [{ONE}]", "packages[0]"),
        ("p.json", '{"id": "5", "name": "Five", "type": "customer", "currency": "USD"}', "package"),
    ],
)
def test_a_file_of_packages(name: str, text: str, path: str) -> None:
    """One as in a catalog file, a list, or a catalog's section alone."""
    found = read_packages(name, text.encode(), {"5": "disabled"})
    assert [(placed.path, placed.value.id) for placed in found.packages] == [(path, "5")]
    assert (found.faults, found.packages[0].value.status) == ([], "disabled")


def test_a_status_that_a_row_gives_counts() -> None:
    """What stands in the file wins over the status that the package has."""
    found = read_packages("p.yaml", ONE.replace("}", ", status: active}").encode(), {"5": "disabled"})
    assert found.packages[0].value.status == "active"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file is empty"),
        ("[]", "no package; write one"),
        ("packages: []", "no package; write one"),
        ("5", "no package; write one"),
        ("[5]", "packages[0]: 5: not a row"),
        ('{id: "5", name: x, type: customer}', "package.currency: null: missing"),
        (f"[{ONE}, {ONE}]", "packages[1].id: 5: p.yaml: packages[0] is the same"),
        (f"clients: []\npackages: [{ONE}]", "clients: []: unknown field"),
        ("{id: 5, name: x, type: customer, currency: USD}", "package.id: 5: not a text"),
        ("a;b\nc;d", "a;b c;d: no package; write one"),
        ("\x1f\x8b\x08", "gzip"),
    ],
)
def test_a_file_that_is_none_of_packages(text: str, said: str) -> None:
    """Each fault names file, path and value."""
    found = read_packages("p.yaml", text.encode("latin-1"), {})
    assert any(said in str(fault) for fault in found.faults), found.faults
    assert all(isinstance(fault, Fault) for fault in found.faults)


def test_what_changes_of_a_package_is_told() -> None:
    """Field by field, before and after."""
    text = BASE.replace("name: Kiev", "name: Kyiv").replace("limit: 100", "limit: 200")
    edited = read_packages("p.yaml", text.partition("packages:")[2].partition("clients:")[0].encode(), {})
    (change,) = changes(content(), merged(content(), edited))
    assert (change.id, change.before, change.after) == ("1", "active", "active")
    assert change.fields["name"] == ("Kiev", "Kyiv")
    assert sorted(change.fields) == ["limits", "name"]
