"""`rater check`, `rater topics create`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.conftest import Capture, Put
from rater.cli import main
from rater.core.catalog.codes import Row
from rater.core.catalog.specs import Content, RateTableSpec
from rater.core.zones import INSTALLED, Release, installed
from rater.errors import NoCatalog, StreamDown


def test_check_is_silent_on_standard_output_when_all_is_well(world: Put, capsys: Capture) -> None:
    """Nothing to mend: code 0, a word on standard error."""
    world()
    assert main(["check"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        f"time zones: tzdata {INSTALLED} is installed here; the first load brings it",
        "engine: python (there is none)",
        "all is well: settings, sources, Kafka, topics, Redis",
    ]


def test_an_engine_that_is_wanted_and_not_there_is_a_problem(
    world: Put, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a fault of the settings then; else which engine rates is told."""
    world()
    monkeypatch.setenv("RATER_WORKER__ENGINE", "native")
    assert main(["check"]) == 1
    assert capsys.readouterr().out == "settings: worker.engine is native, but there is none\n"


def test_check_tells_which_time_zones_are_in_force(world: Put, capsys: Capture) -> None:
    """The catalog's release and the installed one are told; a catalog without any, or none, is a problem."""
    old = Release(0, "2001a", "2001.1", {"UTC": b""})
    world(loaded=(7, Content(zones=[old])))
    assert main(["check"]) == 0
    in_force = "tzdata 2001a is in force (catalog 7)"
    assert capsys.readouterr().err.startswith(
        f"time zones: {in_force}, {INSTALLED} is installed here; the next load from here brings it\n"
    )
    world(loaded=(7, Content(zones=[installed()])))
    assert main(["check"]) == 0
    assert capsys.readouterr().err.startswith(
        f"time zones: tzdata {INSTALLED} is in force (catalog 7), {INSTALLED} is installed here\n"
    )
    for loaded, problem in (
        ((7, Content()), "catalog: catalog 7 has no time zones"),
        (NoCatalog("catalog 7 cannot be read"), "catalog: catalog 7 cannot be read"),
    ):
        world(loaded=loaded)
        assert main(["check"]) == 1
        assert capsys.readouterr().out.startswith(problem)


WARNED = Content(
    rate_tables={"retail": RateTableSpec("retail", "USD", None, [Row("0044", 1), Row("380", 1)])},
    zones=[installed()],
)


def test_a_warning_is_told_and_fails_nothing(world: Put, capsys: Capture) -> None:
    """Records without a time, and what is odd in the catalog in force: told on lines, code 0."""
    world(stamps=["rater.cdrs: no Kafka timestamp; set it"], loaded=(7, WARNED))
    assert main(["check"]) == 0
    told = capsys.readouterr()
    first, second = told.out.splitlines()
    assert first == "topics: warning: rater.cdrs: no Kafka timestamp; set it"
    assert second.startswith("catalog: warning: rate table retail: no number begins with 00")
    assert told.err.splitlines()[-1] == "no problems, 2 warnings"
    assert main(["check", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {"where": "topics", "warning": "rater.cdrs: no Kafka timestamp; set it"}
    world(stamps=["rater.cdrs: no Kafka timestamp; set it"], store=["redis: evicts; set it"])
    assert main(["check"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "rater: 1 problem"


def test_what_is_set_up_dangerously_is_a_warning(world: Put, capsys: Capture) -> None:
    """It is told beside Redis' own faults; where topics are missing there is nothing to look at."""
    danger = [("topics", "rater.cdrs: one copy; have three"), ("redis", "Redis has appendonly no; set it")]
    world(dangers=danger)
    assert main(["check"]) == 0
    told = capsys.readouterr()
    assert told.out.splitlines() == [f"{where}: warning: {text}" for where, text in danger]
    assert told.err.splitlines()[-1] == "no problems, 2 warnings"
    world(dangers=danger, topics=["rater.cdrs: is missing; make it"], store=["redis: evicts; set it"])
    assert main(["check"]) == 1
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == ["topics", "redis"]


def test_rights_that_are_missing_are_told_first(world: Put, capsys: Capture) -> None:
    """Without them nothing else of the topics can be seen."""
    world(rights=["rater.cdrs: our user may not Read; grant it"], topics=["rater.cdrs: refused"])
    assert main(["check"]) == 1
    assert capsys.readouterr().out == "topics: rater.cdrs: our user may not Read; grant it\n"


def test_a_catalog_file_is_looked_at_beside_what_is_in_force(
    world: Put, capsys: Capture, tmp_path: Path
) -> None:
    """A limit of a file may be for a code that was loaded before; without servers the file counts alone."""
    limits = [
        {"id": code, "type": "volume", "service": "calls", "code": code, "limit": 1}
        for code in ("380", "38044")
    ]
    rows = [{"id": "1", "name": "P", "type": "customer", "currency": "USD", "limits": limits}]
    file = tmp_path / "catalog.json"
    file.write_text(json.dumps({"packages": rows}), "utf-8")
    for loaded, told in (((7, WARNED), ["38044"]), (None, [])):
        world(loaded=loaded)
        assert main(["check", "--catalog", str(file)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.partition(", limit ")[2].partition(":")[0] for line in lines] == told


def test_check_tells_each_problem_on_a_line(world: Put, capsys: Capture, tmp_path: Path) -> None:
    """All problems at once, each with where it is, and code 1; a server that is down hides no other."""
    world(
        topics=["rater.cdrs: the topic is missing; create it"],
        store=StreamDown("Redis is not reachable"),
    )
    file = tmp_path / "rater.toml"
    file.write_text('[sources.a]\ntopic = "t"\nmap = "asteriks"\n', "utf-8")
    assert main(["check", "-c", str(file)]) == 1
    told = capsys.readouterr()
    lines = told.out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["sources", "topics", "redis"]
    assert "did you mean asterisk" in lines[0]
    assert told.err.splitlines()[-1] == "rater: 3 problems"
    main(["check", "-c", str(file), "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[1] == {"where": "topics", "problem": "rater.cdrs: the topic is missing; create it"}


def test_check_tells_wrong_settings_too(capsys: Capture) -> None:
    """With wrong settings nothing can be reached; the settings are the problem that is told."""
    assert main(["check", "--set", "topics.partitions=0", "--set", "kafka.nope=1"]) == 1
    assert [line.partition(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "settings",
        "settings",
    ]


def test_topics_create_tells_what_it_did(world: Put, capsys: Capture) -> None:
    """Each topic is a line; what is wrong with those that were there is told, with code 1."""
    world()
    assert main(["topics", "create", "--replication-factor", "1"]) == 0
    assert capsys.readouterr().out == "rater.cdrs: created with 4 partitions and 1 copies\n"
    world(topics=["rater.events: has 3 partitions; set it"])
    assert main(["topics", "create", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {"topic": "rater.cdrs", "result": "created with 4 partitions and 3 copies"}
    assert told.err == "rater: rater.events: has 3 partitions; set it\n"
