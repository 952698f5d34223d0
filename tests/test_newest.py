"""Which other Python the pure tests run on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import newest
from newest import Python, asked, others


def test_the_newest_other_one_comes_first() -> None:
    """Ours, and those that rater does not support, are none; versions are compared as numbers."""
    found = [Python((3, minor, 1), f"python3.{minor}") for minor in (9, 10, 11, 12, 13)]
    assert [python.version[1] for python in others(found, (3, 12, 7))] == [13, 11]
    assert others(found[:3], (3, 11, 7)) == []


def test_what_does_not_run_is_none(tmp_path: Path) -> None:
    """A name on the search path may lead nowhere (a shim of a version that is not chosen)."""
    ours = asked(Path(sys.executable))
    assert ours is not None
    assert ours.version == sys.version_info[:3]
    (shim := tmp_path / "python3.99").write_text("#!/bin/sh\nexit 127\n", "utf-8")
    shim.chmod(0o700)
    assert asked(shim) is None
    assert asked(tmp_path / "missing") is None


def test_none_is_no_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where there is no other Python that is said, with code 0."""
    monkeypatch.setattr(newest, "candidates", lambda: iter([Path(sys.executable)]))
    assert newest.main() == 0
    assert "no other Python is installed here" in capsys.readouterr().out


def test_a_lock_that_cannot_be_installed_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the network, say: it is told which Python was left out, with code 0."""
    monkeypatch.setattr(newest, "candidates", lambda: iter([Path("any")]))
    monkeypatch.setattr(newest, "asked", lambda _: Python((3, 99, 0), "python3.99"))
    monkeypatch.setattr(newest, "made", lambda _: False)
    assert newest.main() == 0
    assert "cannot be installed for Python 3.99.0" in capsys.readouterr().out
