"""An upgrade without a stop: workers of the version before beside those of this one, under load."""

from __future__ import annotations

import asyncio
import io
import signal
import subprocess
import tarfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from faults.behind import USUAL, aborted
from faults.rig import Rig, started
from faults.test_times import replayed, shared

pytestmark = [pytest.mark.kafka, pytest.mark.long]

Start = Callable[..., Awaitable[Rig]]
Figure = Callable[[str], None]

ROOT = Path(__file__).parents[2]
BEFORE = "2d98efb"
"""The version before: it keeps the same in Kafka and Redis. Set it to the last release that may run beside
this one (decision 0142)."""


def version_before(folder: Path) -> dict[str, str]:
    """Unpack the sources of the version before; return the settings that workers of it need."""
    packed = subprocess.run(  # noqa: S603 - the same
        ["git", "-C", str(ROOT), "archive", BEFORE, "src"],  # noqa: S607 - git of whoever runs the tests
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    # Its native engine is not built: an engine is no part of what is kept.
    return {**USUAL, "PYTHONPATH": str(folder / "src"), "RATER_WORKER__ENGINE": "python"}


@pytest.mark.fault("F6", "F11")
@pytest.mark.parametrize("seed", [31, 32])
async def test_one_worker_after_the_other(start: Start, figure: Figure, tmp_path: Path, seed: int) -> None:
    """Three old workers become three new ones, one at a time; lanes go from old to new and back meanwhile.

    Nothing is lost or doubled, nothing is decided by one and published by another, nothing is aborted.
    """
    old = await asyncio.to_thread(version_before, tmp_path / "before")
    rig = await start(seed, workers=3, environ=old)
    for slot in rig.slots:
        await started(slot)
    await shared(rig, 3)
    await rig.progress(everywhere=True)
    rig.watched.late_ms.clear()
    before = replayed(rig)
    for slot in rig.slots:
        assert await rig.end(slot, signal.SIGTERM) == 0
        rig.launch(slot, environ=USUAL)
        await started(slot)
        await shared(rig, 3)
        await rig.progress(200, everywhere=True)
    # And back: an upgrade that is given up in its middle.
    back = rig.slots[0]
    assert await rig.end(back, signal.SIGTERM) == 0
    rig.launch(back, environ=old)
    await started(back)
    await shared(rig, 3)
    await rig.progress(200, everywhere=True)
    again = replayed(rig) - before
    told = rig.lateness()
    verdict = await rig.sound()
    undone = await aborted(rig)
    figure(
        f"upgrade from {BEFORE} of 3 workers at {rig.rate_per_s} CDR/s: {told}, decided by one and published "
        f"by another: {again}, records of aborted Kafka transactions: {undone}; {verdict}"
    )
    assert (again, undone) == (0, 0)
