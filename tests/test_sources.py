"""Source maps are found by name or by path, and what is wrong is said with the nearest name."""

from __future__ import annotations

from pathlib import Path

import pytest

from rater.core.sources.source_map import MapFault, SourceMap
from rater.source_maps import open_map, shipped


def _fault(name: str) -> MapFault:
    found = open_map(name)
    assert isinstance(found, list)
    assert len(found) == 1
    return found[0]


def test_shipped_maps_compile() -> None:
    """Every shipped map is found by its name and has no fault."""
    assert list(shipped()) == [
        "asterisk",
        "asterisk-csv",
        "cisco-cucm",
        "freeswitch",
        "freeswitch-esl",
        "kamailio",
        "opensips",
        "tap3",
        "ts32298",
    ]
    for name in shipped():
        found = open_map(name, {"source": "pbx1"})
        assert isinstance(found, SourceMap), found
        assert found.name == name


def test_map_by_path(tmp_path: Path) -> None:
    """A name with a slash or .toml is a file, and may be a changed copy of a shipped map."""
    path = tmp_path / "own.toml"
    path.write_text(shipped()["asterisk"].read_text("utf-8"), "utf-8")
    found = open_map(str(path))
    shipped_map = open_map("asterisk")
    assert isinstance(found, SourceMap)
    assert isinstance(shipped_map, SourceMap)
    assert found.version == shipped_map.version


def test_map_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside the caller is found by its name with .toml."""
    (tmp_path / "own.toml").write_text('format = "json"', "utf-8")
    monkeypatch.chdir(tmp_path)
    found = open_map("own.toml")
    assert isinstance(found, list)
    assert {fault.file for fault in found} == {"own.toml"}


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("asterix", "did you mean asterisk?"),
        ("free-switch", "did you mean freeswitch?"),
        ("cucm", "did you mean cisco-cucm?"),
        ("sbc", "there are asterisk, asterisk-csv, cisco-cucm"),
        ("", "there are asterisk, asterisk-csv, cisco-cucm"),
    ],
)
def test_unknown_name(name: str, hint: str) -> None:
    """An unknown name is refused with the nearest one, or with all of them."""
    problem = _fault(name).problem
    assert hint in problem
    assert problem.endswith("or give a file's path")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a folder, a file that is no UTF-8 and a name that is none are told in a sentence."""
    (tmp_path / "latin.toml").write_bytes(b'description = "\xe9"')
    assert "No such file" in _fault(str(tmp_path / "none.toml")).problem
    assert "Is a directory" in _fault(f"{tmp_path}/").problem
    assert _fault(str(tmp_path / "latin.toml")).problem == "is not UTF-8; save it as UTF-8"
    assert "is no file's name" in _fault("a\0.toml").problem
