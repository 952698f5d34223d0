"""`rater load`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.conftest import Capture, Put
from rater.cli import main
from rater.config import Settings
from rater.core.catalog_files.merging import Fault
from rater.jobs.load import Loaded

FAULT = Fault("catalog.yaml", "clients[0].currency", "XYZ", "no such currency")
SAME = "nothing to change: catalog 3 says the same"
QUEUED = (
    "catalog 3 stays queued: no worker answered. It is applied as soon as workers own every lane; start them "
    "with `rater worker`"
)


@pytest.mark.parametrize(
    ("loaded", "code", "said"),
    [
        ([FAULT], 2, [str(FAULT), "1 fault: nothing was changed"]),
        ([FAULT, FAULT], 2, [str(FAULT), str(FAULT), "2 faults: nothing was changed"]),
        (
            Loaded(3, changed=False, applied=True, refused=[]),
            0,
            ["nothing to change: catalog 3 says the same"],
        ),
        (Loaded(3, changed=True, applied=True, refused=[]), 0, ["catalog 3 is in use on all 7 lanes"]),
        (Loaded(3, changed=True, applied=True, refused=["a", "b"]), 1, ["refused: a", "refused: b"]),
        (Loaded(3, changed=True, applied=False, refused=["a"]), 1, ["refused: a", QUEUED]),
    ],
)
def test_what_became_of_a_load(
    loaded: Loaded | list[Fault], code: int, said: list[str], app: Put, capsys: Capture
) -> None:
    """Steps and result are talk; faults of a catalog are code 2, a load that stays queued is code 1."""

    async def load(_: Settings, files: list[Path], say: Callable[[str], None]) -> Loaded | list[Fault]:
        say(f"{len(files)} files")
        return loaded

    app(load=load)
    assert main(["load", __file__, __file__, "--partitions", "7"]) == code
    told = capsys.readouterr()
    assert (told.out, told.err.splitlines()) == ("", ["2 files", *said])
