"""`rater packages`."""

from __future__ import annotations

import io
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cli.conftest import CONTENT, JULY_MS, KIEV, NOVEMBER_MS, Capture, Store, register
from rater.cli import main
from rater.config import Settings
from rater.core.catalog.specs import Content, DidLimitSpec, PackageHistory
from rater.core.catalog_files.merging import CatalogFile, Existing, Fault, Merged, merge
from rater.core.kinds import Do
from rater.jobs.load import Loaded, Present

StoreOf = Callable[..., Store]


def package(of: str, status: Any = "active", *, assigned: bool = False, **more: Any) -> PackageHistory:
    """Return a package like Kiev 100."""
    spec = msgspec.structs.replace(KIEV, id=of, status=status, **more)
    return PackageHistory([(0, spec)], [(0, "active"), (JULY_MS, status)], assigned=assigned)


SOLD = msgspec.structs.replace(
    CONTENT,
    packages={
        "10": package("10", reseller="7"),
        "2": package("2", dynamic_tag="promo", did_limits=[DidLimitSpec(2, ["kyiv"])]),
        "1": package("1", assigned=True),
        "off": package("off", "disabled"),
        "old": package("old", "archived"),
        "gone": msgspec.structs.replace(package("gone", "archived"), deleted=True),
    },
    resellers={},
)


class Loading:
    """A loader of the content; keeps what it loads."""

    def __init__(self, content: Content) -> None:
        self.content = content
        self.loaded: list[tuple[Do, dict[str, Any]]] = []
        self.said: dict[str, Any] = {}

    async def present(self) -> Present:
        """The content, as version 7."""
        return Present(7, None, self.content)

    async def preview(self, rows: CatalogFile) -> tuple[Present, Merged | list[Fault]]:
        """What would become of it in November."""
        return await self.present(), merge(self.content, rows, NOVEMBER_MS, Existing({}, {}))

    async def load_rows(self, rows: CatalogFile, expected: int | None, do: Do) -> Loaded | list[Fault]:
        """Load it."""
        assert expected == 7
        _, merged = await self.preview(rows)
        if isinstance(merged, list):
            return merged
        self.loaded.append((do, self.said))
        self.content = merged.content
        return Loaded(8, changed=merged.changed, applied=True, refused=[])


@pytest.fixture
def loading(store_of: StoreOf) -> Loading:
    """Put the loader behind the command line."""
    made = Loading(SOLD)

    @asynccontextmanager
    async def loader(_: Settings, __: Callable[[str], None], **said: Any) -> AsyncIterator[Loading]:
        made.said = said
        yield made

    store_of(register(held=(JULY_MS, None), ended=(0, 1)), content=SOLD, loader=loader)
    return made


def listed(capsys: Capture, *arguments: str) -> list[dict[str, Any]]:
    """Return what a command prints as JSON."""
    assert main([*arguments, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.usefixtures("loading")
@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], ["1", "2", "10"]),
        (["--status", "disabled", "--status", "archived"], ["off", "old"]),
        (["--status", "all"], ["1", "2", "10", "off", "old"]),
        (["--reseller", "7"], ["10"]),
        (["--dynamic-tag", "promo"], ["2"]),
        (["--did-tag", "kyiv"], ["2"]),
        (["--did-tag", "lviv"], []),
        (["--rows", "2"], ["1", "2"]),
        (["--rows", "2", "--page", "2"], ["10"]),
        (["--rows", "2", "--page", "3"], []),
        (["--rows", "0"], ["1", "2", "10"]),
    ],
)
def test_packages_are_filtered(arguments: list[str], ids: list[str], capsys: Capture) -> None:
    """Active ones unless asked otherwise; numbers in their order; a deleted one nowhere."""
    assert [row["id"] for row in listed(capsys, "packages", "list", *arguments)] == ids


@pytest.mark.usefixtures("loading")
def test_a_list_tells_fees_and_its_page(capsys: Capture) -> None:
    """Fees are the sums of their rows; people are told which page they see."""
    assert main(["packages", "list", "--rows", "2"]) == 0
    told = capsys.readouterr()
    head, line, _ = told.out.splitlines()
    assert head.split() == ["id", "status", "name", "activation", "fee", "subscription", "fee", "currency",
                            "period", "reseller"]  # fmt: skip
    assert line.split() == ["1", "active", "Kiev", "100", "2", "5.5", "USD", "1", "month"]
    assert told.err == "page 1 of 2, 3 in all; --page N shows another, --rows 0 all\n"


@pytest.mark.usefixtures("loading")
def test_a_package_is_shown(capsys: Capture) -> None:
    """Its settings as in a catalog file, limits in units and money, and the history of its status."""
    (row,) = listed(capsys, "packages", "show", "off")
    assert (row["id"], row["status"], row["period"], row["versions"]) == ("off", "disabled", "1 month", 1)
    assert row["statuses"] == [
        {"since": None, "status": "active"}, {"since": "2026-07-01T00:00:00.000Z", "status": "disabled"},
    ]  # fmt: skip
    assert [limit["limit"] for limit in row["limits"]] == [6000, "2"]
    assert main(["packages", "show", "off"]) == 0
    assert "id m1; type volume; service calls; limit 6000; code 38044*" in capsys.readouterr().out
    assert main(["packages", "show", "gone"]) == 2
    assert "there is no package gone" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "do", "before", "after"),
    [
        (["disable", "1"], Do.SET_PACKAGE_STATUS, "active", "disabled"),
        (["enable", "off"], Do.SET_PACKAGE_STATUS, "disabled", "active"),
        (["archive", "1", "--yes"], Do.SET_PACKAGE_STATUS, "active", "archived"),
        (["delete", "2", "--yes"], Do.DELETE_PACKAGE, "active", None),
    ],
)
def test_a_status_is_a_load(
    arguments: list[str], do: Do, before: str, after: str | None, loading: Loading, capsys: Capture
) -> None:
    """Its manifests say what it was for, who asked, and why; a dry run loads nothing."""
    said = ["--key", "k", "--actor", "bob", "--reason", "ticket 512"]
    (row,) = listed(capsys, "packages", *arguments, "--dry-run")
    assert loading.loaded == []
    assert (row["before"], row["after"], row["dry_run"]) == (before, after, True)
    (row,) = listed(capsys, "packages", *arguments, *said)
    assert loading.loaded == [(do, {"actor": "bob", "reason": "ticket 512", "key": "k"})]
    assert (row["before"], row["after"], row["dry_run"]) == (before, after, False)


@pytest.mark.usefixtures("loading")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["delete", "1", "--yes"], "1: some client has it or had it, so it cannot be deleted; archive it"),
        (["enable", "old"], "old: archived, which is final"),
        (["enable", "gone"], "gone: was deleted; `rater packages list`"),
        (["disable", "9"], "9: no such package"),
    ],
)
def test_what_a_package_cannot(arguments: list[str], said: str, capsys: Capture) -> None:
    """Exit code 2, the fault, and that nothing was changed; a dry run says the same."""
    for more in ([], ["--dry-run"]):
        assert main(["packages", *arguments, *more]) == 2
        told = capsys.readouterr()
        assert (told.out, said in told.err) == ("", True)
        assert told.err.endswith("1 fault: nothing was changed\n")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("answer", ["y\n", "n\n"])
def test_archiving_tells_of_clients_before_it_asks(
    answer: str, loading: Loading, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How many client packages it cancels; then one is asked."""
    monkeypatch.setattr("sys.stdin", _Terminal(answer))
    assert main(["packages", "archive", "1"]) == (0 if answer == "y\n" else 1)
    said = capsys.readouterr().err
    shown, _, asked = said.partition("go on?")
    assert shown.startswith("package 1: would be: active → archived\n")
    assert "\nclient packages of it that are pending or active, and will be cancelled: 1\n" in shown
    assert ("nothing was changed" in asked) is (answer == "n\n")
    assert len(loading.loaded) == (1 if answer == "y\n" else 0)


# ------------------------------------------------------------------------------------------- create and edit
def written(folder: Path, text: str) -> str:
    """Return the path of a file with this text."""
    path = folder / "p.yaml"
    path.write_text(text)
    return str(path)


NEW = (
    "{id: NEW, name: Five, type: customer, currency: USD, fees: [{type: subscription, name: m, rate: RATE}]}"
)


def test_a_package_is_created(loading: Loading, tmp_path: Path, capsys: Capture) -> None:
    """From a file with one; a second time it is there already."""
    path = written(tmp_path, NEW.replace("RATE", '"5.00"'))
    (row,) = listed(capsys, "packages", "create", "--file", path)
    assert (row["package"], row["before"], row["after"]) == ("NEW", None, "active")
    assert [do for do, _ in loading.loaded] == [Do.PUT_PACKAGE]
    assert main(["packages", "create", "--file", path]) == 2
    assert "package.id: NEW: is there already; `rater packages edit` changes it" in capsys.readouterr().err


def test_a_package_is_edited(loading: Loading, tmp_path: Path, capsys: Capture) -> None:
    """What changes is told; the status stays where the file says none; what is not there is refused."""
    text = NEW.replace("RATE", '"7"').replace("NEW", '"off"')
    assert main(["packages", "edit", "--file", written(tmp_path, text), "--dry-run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("package off: would be: disabled\n  name: Kiev 100 → Five\n")
    (row,) = listed(capsys, "packages", "edit", "--file", written(tmp_path, text))
    assert (row["before"], row["after"], row["fields"]["name"]["after"]) == ("disabled", "disabled", "Five")
    assert main(["packages", "edit", "--file", written(tmp_path, text)]) == 0
    assert "nothing to change" in capsys.readouterr().err
    other = written(tmp_path, NEW.replace("RATE", '"7"'))
    assert main(["packages", "edit", "--file", other]) == 2
    assert "package.id: NEW: no such package" in capsys.readouterr().err
    assert len(loading.loaded) == 2


@pytest.mark.usefixtures("loading")
def test_faults_of_a_file_name_file_path_and_value(tmp_path: Path, capsys: Capture) -> None:
    """All of them, with exit code 2."""
    path = written(tmp_path, "[" + NEW.replace("RATE", "5.00") + ", {id: x}]")
    assert main(["packages", "create", "--file", path]) == 2
    said = capsys.readouterr().err
    assert f"{path}: packages[0].fees[0].rate: 5.00: not a decimal: without quotes" in said
    assert f"{path}: packages[1].name: null: missing" in said
    assert main(["packages", "create", "--file", "/nowhere.yaml"]) == 2
