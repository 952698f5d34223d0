"""Whatever goes wrong is a sentence and an exit code."""

from __future__ import annotations

from typing import Any

import pytest

from cli.conftest import Capture, Put
from rater.cli import main
from rater.errors import Fenced, Halt, StreamDown


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["worker", "--nope"], "no such option"),
        (["load"], "missing argument 'FILES...'"),
        (["load", "/nowhere.yaml"], "'/nowhere.yaml' does not exist"),
        (["--config", "/nowhere.toml", "worker"], "'/nowhere.toml' does not exist"),
        (["worker", "--set", "kafka"], "write SECTION.KEY=VALUE"),
        (
            ["worker", "--metrics-port", "x"],
            "the flag --metrics-port: metrics.port = 'x': give a whole number",
        ),
        (["--redis-url", "localhost", "clients", "list"], "the flag --redis-url: redis.url"),
        (["demo", "--exit"], "--exit needs --calls N"),
        (["transactions", "--since", "yesterday"], "'yesterday' is no time"),
        (["transactions", "--type", "gift"], "'gift' is not one of"),
        (["rejected", "list", "--reason", "boredom"], "boredom is no reason; there are malformed"),
        (["rejected", "list", "--source", "defalt"], "there is no such source; did you mean default?"),
        (["sources", "test", "asteriks", __file__], "did you mean asterisk"),
        (["ingest", __file__, "--source", "pbx"], "add [sources.pbx] to the settings"),
    ],
)
def test_wrong_input_is_a_sentence_and_code_2(arguments: list[str], said: str, capsys: Capture) -> None:
    """Wrong input is told on standard error in a sentence, never in a traceback.

    Nothing is printed as data.
    """
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert said in told.err
    assert told.err.startswith("rater: ")
    assert "Traceback" not in told.err


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        (Halt("the topic is wrong; mend it"), 1, "rater: the topic is wrong; mend it\n"),
        (Halt("one\ntwo"), 1, "rater: one\nrater: two\n"),
        (
            StreamDown("Kafka is not reachable"),
            1,
            "rater: Kafka is not reachable; this may pass: try again in a while\n",
        ),
        (Fenced("a rival"), 1, "rater: a rival; this may pass: try again in a while\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "rater: /x: permission denied\n"),
        (KeyboardInterrupt(), 1, "\nrater: stopped\n"),
        (BrokenPipeError(), 1, ""),
        (SystemExit(0), 0, ""),
    ],
)
def test_each_fault_has_its_sentence(
    fault: BaseException, code: int, said: str, app: Put, capfd: Any
) -> None:
    """Whatever stops a command is told in a sentence, with code 1."""

    async def fail(*_: object) -> int:
        raise fault

    app(load=fail)
    assert main(["load", __file__]) == code
    assert capfd.readouterr().err == said


def test_a_defect_is_a_sentence_until_one_looks_closer(
    app: Put, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What nobody foresaw is told in a sentence too; the traceback comes when it is asked for."""

    async def fail(*_: object) -> int:
        raise ZeroDivisionError("by 0")

    app(load=fail)
    assert main(["load", __file__]) == 1
    assert (
        "a defect of rater: ZeroDivisionError: by 0; run it again with RATER_LOGS__LEVEL=debug"
        in capsys.readouterr().err
    )
    monkeypatch.setenv("RATER_LOGS__LEVEL", "debug")
    with pytest.raises(ZeroDivisionError):
        main(["load", __file__])
