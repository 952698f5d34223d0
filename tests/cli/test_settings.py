"""Settings from a file, the environment and flags."""

from __future__ import annotations

from pathlib import Path

import pytest

from rater.cli import main
from rater.config import Settings
from rater.pseudonyms import Pseudonyms


def test_flags_stand_before_or_after_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """File, environment, flags before and flags after the command's name: the later wins."""
    seen: list[Settings] = []

    async def run_worker(settings: Settings) -> None:
        seen.append(settings)

    monkeypatch.setattr("rater.program.run_worker", run_worker)
    file = tmp_path / "rater.toml"
    file.write_text('[kafka]\ngroup_id = "file"\n[topics]\npartitions = 7\n', "utf-8")
    arguments = ["--group-id", "before", "--metrics-port", "1", "worker", "--config", str(file), "--id", "w1"]
    assert main([*arguments, "--metrics-port", "2", "--set", "worker.batch_age_ms=9"]) == 0
    (settings,) = seen
    assert settings.kafka.group_id == "before"
    assert settings.topics.partitions == 7
    assert (settings.metrics.port, settings.worker.id, settings.worker.batch_age_ms) == (2, "w1", 9)


def test_the_file_of_settings_may_come_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RATER_CONFIG names it for all commands of a container; --config wins."""
    seen: list[str] = []

    async def run_worker(settings: Settings) -> None:
        seen.append(settings.kafka.group_id)

    monkeypatch.setattr("rater.program.run_worker", run_worker)
    for name in ("a", "b"):
        (tmp_path / name).write_text(f'[kafka]\ngroup_id = "{name}"\n', "utf-8")
    monkeypatch.setenv("RATER_CONFIG", str(tmp_path / "a"))
    main(["worker"])
    main(["--config", str(tmp_path / "b"), "worker"])
    main(["worker", "--config", str(tmp_path / "b")])
    assert seen == ["a", "b", "b"]


def test_the_pseudonym_of_a_number(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What to look for in logs: by the key of the settings, plain where logs are, none without a key."""
    monkeypatch.setenv("RATER_LOGS__NUMBER_KEY", "a key of this installation")
    assert main(["config", "pseudonym", "+380 44 123-45-67"]) == 0
    assert capsys.readouterr().out == Pseudonyms("a key of this installation").of("380441234567") + "\n"
    assert main(["config", "pseudonym", "380441234567", "--set", "logs.numbers=plain"]) == 0
    assert capsys.readouterr().out == "380441234567\n"
    monkeypatch.delenv("RATER_LOGS__NUMBER_KEY")
    assert main(["config", "pseudonym", "380441234567"]) == 2
    assert "there is no logs.number_key" in capsys.readouterr().err
