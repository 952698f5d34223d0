"""Where a re-rating job stands, by its folder: whatever process began it, however it ended."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from rater.admin.rerate_files import Asked, Folder, Found, Progress, Run, State, write

ASKED = Asked(job="j", by="anna", at_ms=5, clients=("1", "2"), from_ms=0, to_ms=9)


def begun(folder: Folder, run: Run) -> Path:
    """Make the folder of a run; returns it."""
    of = folder.run(run).path
    of.mkdir(parents=True)
    (of / "lock").touch()
    return of


@pytest.mark.parametrize(
    ("run", "goes_on", "ended"),
    [
        ("preview", "previewing", "previewed"),
        ("apply", "applying", "done"),
        ("give_up", "giving up", "given up"),
    ],
)
def test_a_run_goes_on_while_its_lock_is_held(tmp_path: Path, run: Run, goes_on: State, ended: State) -> None:
    """Nobody holds it: it was stopped. With what it found it has ended, well or not."""
    folder = Folder(tmp_path, "j")
    assert folder.asked() is None
    folder.begin(ASKED)
    assert (folder.asked(), folder.state()) == (ASKED, "stopped")
    of = begun(folder, run)
    lock = os.open(of / "lock", os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    (of / "pid").write_text("77\n")
    assert (folder.state(), folder.last().pid()) == (goes_on, 77)
    os.close(lock)
    assert (folder.state(), folder.last().pid()) == ("stopped", None)
    write(of / "progress.json", Progress(read=3, of=4))
    assert folder.last().progress() == Progress(read=3, of=4)
    for found, state in (
        (Found(), ended),
        (Found(left=["1"]), "not all done"),
        (Found(failed="x"), "failed"),
    ):
        write(of / "found.json", found)
        assert (folder.state(), folder.last().found()) == (state, found)


def test_the_last_run_counts(tmp_path: Path) -> None:
    """A job that is applied is no preview any more; what was torn is not read; its last word is told."""
    folder = Folder(tmp_path, "j")
    write(begun(folder, "preview") / "found.json", Found(changed=2))
    assert folder.state() == "previewed"
    applied = begun(folder, "apply")
    assert folder.state() == "stopped"
    (applied / "found.json").write_bytes(b'{"chan')
    assert (folder.state(), folder.last().found(), folder.last().said()) == ("stopped", None, "")
    (applied / "log").write_text("reading\nno worker has answered for 35 s\n\n")
    assert folder.last().said() == "no worker has answered for 35 s"
    assert folder.last().rows("clients", 0, 5) == []
    (applied / "clients.jsonl").write_text('{"client": "1"}\n{"client": "2"}\n{"client": "3"}\n')
    assert folder.last().rows("clients", 1, 1) == [{"client": "2"}]


def test_who_shares_a_client() -> None:
    """All clients are shared with anybody."""
    everyone = Asked(job="k", by="otto", at_ms=5, clients=None, from_ms=0, to_ms=9)
    others = Asked(job="l", by="otto", at_ms=5, clients=("3",), from_ms=0, to_ms=9)
    assert ASKED.shares(everyone)
    assert everyone.shares(ASKED)
    assert ASKED.shares(ASKED)
    assert not ASKED.shares(others)


@pytest.mark.parametrize("job", ["", "..", "a/b", "-x", "x" * 65, "a\n"])
def test_what_is_no_id_names_no_folder(tmp_path: Path, job: str) -> None:
    """Nothing outside of the folder of jobs is ever read or written."""
    with pytest.raises(ValueError, match="no id"):
        Folder(tmp_path, job)
