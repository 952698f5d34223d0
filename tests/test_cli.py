"""The command line: what is asked, what is told where, and the exit code. Nothing here needs a server."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

import rater as package
from rater import shipped
from rater.cli import main
from rater.cli import rater as group
from rater.cli.moments import MOMENT, SPAN
from rater.cli.states import package_row
from rater.cli.telling import bar, column, print_rows
from rater.config import Settings
from rater.core.catalog.compiled import Catalog, compile_catalog
from rater.core.catalog.specs import Content, LimitSpec, PackageHistory, PackageSpec
from rater.core.clients.state import ClientPackage, ClientState, write_state
from rater.core.clients.views import ClientView
from rater.core.rating.matching import counter_field
from rater.core.zones import INSTALLED, Release, installed
from rater.errors import Fenced, Halt, NoCatalog, StreamDown
from rater.stream.browsing import Seen

Capture = pytest.CaptureFixture[str]
Stub = Callable[..., None]

NOW = {
    "id": "1",
    "called": "380441234567",
    "duration_ms": 61_000,
    "answered_at": "2026-11-03T10:00:00Z",
    "orig": {"client": "42"},
}


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of the machine that the tests run on."""
    for name in [name for name in os.environ if name.startswith("RATER_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Put a stand-in in the place of `rater.app`."""

    def put(**functions: Any) -> None:
        stub = SimpleNamespace(**functions)
        monkeypatch.setitem(sys.modules, "rater.app", stub)
        monkeypatch.setattr(package, "app", stub, raising=False)

    return put


def cdrs(folder: Path, *rows: dict[str, Any] | str) -> str:
    """Write a file of CDRs."""
    file = folder / "cdrs.jsonl"
    file.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8"
    )
    return str(file)


def commands(of: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each command."""
    yield path
    if isinstance(of, click.Group):
        for name, command in of.commands.items():
            yield from commands(command, (*path, name))


# ------------------------------------------------------------------------------------------- help
@pytest.mark.parametrize("path", list(commands(group)), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...], capsys: Capture) -> None:
    """--help says what the command does on standard output, with code 0.

    Commands show how they are called.
    """
    assert main([*path, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: rater" in out
    if path and "Commands:" not in out:
        assert "Example" in out
        assert f"rater {' '.join(path)}" in out or path[0] in out


def test_the_commands_of_the_contract_are_there() -> None:
    """Scripts rely on the names."""
    found = {" ".join(path) for path in commands(group)}
    assert found >= {
        "demo",
        "worker",
        "topics create",
        "load",
        "check",
        "ingest",
        "config example",
        "config settings",
        "config acl",
        "sources list",
        "sources show",
        "sources test",
        "transactions",
        "clients list",
        "clients show",
        "client-packages list",
        "rejected list",
        "audit",
    }


def test_help_is_there_at_once() -> None:
    """The client libraries of Kafka and Redis, which are slow to import, are not imported for help."""
    slow = ("aiokafka", "redis", "rich", "yaml", "aiohttp", "structlog", "msgspec")
    script = (
        "import sys; from rater.cli import main; main(['--help']); "
        f"print([name for name in {slow!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stderr.strip() == "[]"


def test_it_runs_as_a_module() -> None:
    """`python -m rater` is `rater`, and ends with its code."""
    done = subprocess.run(
        [sys.executable, "-m", "rater", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "rater: no such command 'nonsense'; see rater --help\n"


# ------------------------------------------------------------------------------------------- faults
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
    fault: BaseException, code: int, said: str, app: Stub, capfd: Any
) -> None:
    """Whatever stops a command is told in a sentence, with code 1."""

    async def fail(*_: object) -> int:
        raise fault

    app(load=fail)
    assert main(["load", __file__]) == code
    assert capfd.readouterr().err == said


def test_a_defect_is_a_sentence_until_one_looks_closer(
    app: Stub, capsys: Capture, monkeypatch: pytest.MonkeyPatch
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


# ------------------------------------------------------------------------------------------- settings
def test_flags_stand_before_or_after_the_command(app: Stub, tmp_path: Path) -> None:
    """File, environment, flags before and flags after the command's name: the later wins."""
    seen: list[Settings] = []

    async def run_worker(settings: Settings) -> None:
        seen.append(settings)

    app(run_worker=run_worker)
    file = tmp_path / "rater.toml"
    file.write_text('[kafka]\ngroup_id = "file"\n[topics]\npartitions = 7\n', "utf-8")
    arguments = ["--group-id", "before", "--metrics-port", "1", "worker", "--config", str(file), "--id", "w1"]
    assert main([*arguments, "--metrics-port", "2", "--set", "worker.batch_age_ms=9"]) == 0
    (settings,) = seen
    assert settings.kafka.group_id == "before"
    assert settings.topics.partitions == 7
    assert (settings.metrics.port, settings.worker.id, settings.worker.batch_age_ms) == (2, "w1", 9)


def test_the_file_of_settings_may_come_from_the_environment(
    app: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RATER_CONFIG names it for all commands of a container; --config wins."""
    seen: list[str] = []

    async def run_worker(settings: Settings) -> None:
        seen.append(settings.kafka.group_id)

    app(run_worker=run_worker)
    for name in ("a", "b"):
        (tmp_path / name).write_text(f'[kafka]\ngroup_id = "{name}"\n', "utf-8")
    monkeypatch.setenv("RATER_CONFIG", str(tmp_path / "a"))
    main(["worker"])
    main(["--config", str(tmp_path / "b"), "worker"])
    main(["worker", "--config", str(tmp_path / "b")])
    assert seen == ["a", "b", "b"]


def test_a_load_returns_the_code_of_the_app(app: Stub, capsys: Capture) -> None:
    """Faults of a catalog are code 2, a load that stays queued is code 1: `app.load` says which."""

    async def load(_: Settings, files: list[Path], say: Callable[[str], None]) -> int:
        say(f"{len(files)} files")
        return 2

    app(load=load)
    assert main(["load", __file__, __file__]) == 2
    assert capsys.readouterr() == ("", "2 files\n")


# ------------------------------------------------------------------------------------------- check and topics
class _Topics:
    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    async def check(self, _: object) -> list[str]:
        return self.problems

    async def create(self, _: object, replication: int) -> list[str]:
        return [f"rater.cdrs: created with 4 partitions and {replication} copies"]


def _world(
    app: Stub,
    *,
    topics: list[str] | None = None,
    store: list[str] | Exception | None = None,
    loaded: tuple[int, Content] | Exception | None = None,
) -> None:
    async def connect_store(_: Settings) -> Any:
        if isinstance(store, Exception):
            raise store

        async def check() -> list[str]:
            return store or []

        async def close() -> None:
            pass

        return SimpleNamespace(check=check, close=close)

    async def content_in_force(_: Settings) -> tuple[int, Content] | None:
        if isinstance(loaded, Exception):
            raise loaded
        return loaded

    app(
        kafka_client=lambda _: {}, topics_of=lambda _: _Topics(topics or []), connect_store=connect_store,
        content_in_force=content_in_force,
    )  # fmt: skip


def test_check_is_silent_on_standard_output_when_all_is_well(app: Stub, capsys: Capture) -> None:
    """Nothing to mend: code 0, a word on standard error."""
    _world(app)
    assert main(["check"]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [
        f"time zones: tzdata {INSTALLED} is installed here; the first load brings it",
        "all is well: settings, sources, Kafka, topics, Redis",
    ]


def test_check_tells_which_time_zones_are_in_force(app: Stub, capsys: Capture) -> None:
    """The catalog's release and the installed one are told; a catalog without any, or none, is a problem."""
    old = Release(0, "2001a", "2001.1", {"UTC": b""})
    _world(app, loaded=(7, Content(zones=[old])))
    assert main(["check"]) == 0
    in_force = "tzdata 2001a is in force (catalog 7)"
    assert capsys.readouterr().err.startswith(
        f"time zones: {in_force}, {INSTALLED} is installed here; the next load from here brings it\n"
    )
    _world(app, loaded=(7, Content(zones=[installed()])))
    assert main(["check"]) == 0
    assert capsys.readouterr().err.startswith(
        f"time zones: tzdata {INSTALLED} is in force (catalog 7), {INSTALLED} is installed here\n"
    )
    for loaded, problem in (
        ((7, Content()), "catalog: catalog 7 has no time zones"),
        (NoCatalog("catalog 7 cannot be read"), "catalog: catalog 7 cannot be read"),
    ):
        _world(app, loaded=loaded)
        assert main(["check"]) == 1
        assert capsys.readouterr().out.startswith(problem)


def test_check_tells_each_problem_on_a_line(app: Stub, capsys: Capture, tmp_path: Path) -> None:
    """All problems at once, each with where it is, and code 1; a server that is down hides no other."""
    _world(
        app,
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
    assert told.err == "rater: 3 problems\n"
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


def test_topics_create_tells_what_it_did(app: Stub, capsys: Capture) -> None:
    """Each topic is a line; what is wrong with those that were there is told, with code 1."""
    _world(app)
    assert main(["topics", "create", "--replication-factor", "1"]) == 0
    assert capsys.readouterr().out == "rater.cdrs: created with 4 partitions and 1 copies\n"
    _world(app, topics=["rater.events: has 3 partitions; set it"])
    assert main(["topics", "create", "--json"]) == 1
    told = capsys.readouterr()
    assert json.loads(told.out) == {"topic": "rater.cdrs", "result": "created with 4 partitions and 3 copies"}
    assert told.err == "rater: rater.events: has 3 partitions; set it\n"


# ------------------------------------------------------------------------------------------- sources
def test_sources_list_shows_maps_and_who_uses_them(capsys: Capture) -> None:
    """Each shipped map is a line, with the sources of the settings that use it."""
    arguments = ["--set", "sources.pbx1.topic=t1", "--set", "sources.pbx1.map=asterisk", "sources", "list"]
    assert main(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["map", "format", "used", "by", "description"]
    assert any(line.startswith("asterisk ") and "pbx1 (t1)" in line for line in lines)
    assert main([*arguments, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["map"] for row in rows} >= {
        None,
        "freeswitch",
        "asterisk",
        "opensips",
        "kamailio",
        "cisco-cucm",
    }
    assert next(row for row in rows if row["map"] is None)["sources"] == {"default": "rater.cdrs"}


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        (["config", "example"], "example.yaml"),
        (["config", "settings"], "rater.toml"),
        (["config", "acl"], "redis-worker.acl"),
        (["sources", "show", "asterisk"], "sources/asterisk.toml"),
    ],
)
def test_files_to_begin_with_are_printed_as_they_are(
    arguments: list[str], file: str, capsys: Capture
) -> None:
    """In a checkout they are those of config/, whatever the settings say."""
    assert main([*arguments, "--set", "kafka.nonsense=1"]) == 0
    out = capsys.readouterr().out
    assert out == (Path(__file__).parents[1] / "config" / file).read_text("utf-8")


def test_a_file_that_an_installation_lacks_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Capture
) -> None:
    """A damaged installation is named as one, with the remedy."""
    monkeypatch.setattr(shipped, "config", lambda: tmp_path)
    assert main(["config", "acl"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("rater: redis-worker.acl is missing from this installation")
    assert "install rater again" in told


def test_a_map_that_is_not_there_is_not_shown(capsys: Capture) -> None:
    """The nearest one is named, as everywhere."""
    assert main(["sources", "show", "asterix"]) == 2
    assert "did you mean asterisk?" in capsys.readouterr().err


def test_sources_test_shows_record_by_record(tmp_path: Path, capsys: Capture) -> None:
    """Each record is shown with what becomes of it; an old one is not blamed for its age."""
    file = cdrs(
        tmp_path, {**NOW, "answered_at": "2011-01-01T00:00:00Z"}, {**NOW, "id": "2", "duration_ms": 0}
    )
    assert main(["sources", "test", "default", file]) == 0
    told = capsys.readouterr()
    assert "outcome      a call" in told.out
    assert "outcome      unanswered" in told.out
    assert "orig         client 42" in told.out
    assert told.err == f"{file}: 2 records: 1 call, 1 unanswered\n"


def test_sources_test_fails_where_a_record_is_refused(tmp_path: Path, capsys: Capture) -> None:
    """A record that would be rejected is shown with reason and line, and the code is 1."""
    file = cdrs(tmp_path, NOW, "{", {**NOW, "called": "abc"})
    assert main(["sources", "test", "default", file, "--json"]) == 1
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(row["line"], row["outcome"]) for row in rows] == [(1, "call"), (2, "rejected"), (3, "rejected")]
    assert rows[2]["rejections"][0]["reason"] == "number_invalid"
    assert rows[0]["cdr"]["orig"] == {"client": "42"}


def test_sources_test_uses_the_defaults_of_a_source(tmp_path: Path, capsys: Capture) -> None:
    """The name of a source of the settings stands for its map with its defaults."""
    (tmp_path / "rater.toml").write_text(
        '[sources.pbx]\ntopic = "t"\nmap = "map.toml"\n[sources.pbx.defaults]\nclient = "7"\n', "utf-8"
    )
    (tmp_path / "map.toml").write_text(
        'description = "x"\nformat = "csv"\ncolumns = ["id", "to", "at", "s"]\n[fields]\nid = "id"\n'
        'called = "to"\nanswered_at = {path = "at", format = "epoch"}\nduration = {path = "s", unit = "s"}\n'
        '[orig]\nlogin = "id"\n',
        "utf-8",
    )
    (tmp_path / "calls.csv").write_text("1,380441234567,1700000000,5\n", "utf-8")
    arguments = [
        "-c",
        str(tmp_path / "rater.toml"),
        "sources",
        "test",
        "pbx",
        str(tmp_path / "calls.csv"),
        "--json",
    ]
    assert main(arguments) == 0
    (row,) = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert row["cdr"]["source"] == "pbx"
    assert row["cdr"]["orig"]["client"] == "7"


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        (b'{"orig": {"client": "42", "account": "a"}, "term": {"client": "7"}}', b"42"),
        (b'{"orig": {"gateway": "g"}, "term": {"account": "a"}}', b"a"),
        (b'{"orig": {"client": 42}}', None),
        (b'{"orig": "x"}', None),
        (b"[]", None),
        (b"{", None),
        (b"\xff", None),
    ],
)
def test_the_key_is_the_client_where_the_record_names_one(raw: bytes, key: bytes | None) -> None:
    """Order is kept for a client whose records name it; what cannot be read goes anywhere."""
    from rater.cli.files import key_of  # noqa: PLC0415 - only here

    assert key_of(raw, None) == key


# ------------------------------------------------------------------------------------------- lists
ROWS = [
    {"name": "b\x1b[31m\nc", "number": 7, "none": None},
    {"name": "längere", "number": 1234, "none": None},
]
COLUMNS = [column("name"), column("number", right=True), column("none")]


def test_plain_lists_are_aligned_text(capsys: Capture) -> None:
    """Without a terminal.

    A head, columns aligned, a record on a line, and nothing that commands a terminal.
    """
    assert print_rows(ROWS, COLUMNS, as_json=False) == 2
    assert capsys.readouterr().out == ("name      number  none\nb [31m c       7\nlängere     1234\n")


def test_json_lists_are_an_object_on_each_line(capsys: Capture) -> None:
    """--json gives the values as they are."""
    print_rows(iter(ROWS), COLUMNS, as_json=True)
    assert [json.loads(line) for line in capsys.readouterr().out.splitlines()] == ROWS


def test_an_empty_list_prints_nothing(capsys: Capture) -> None:
    """That there is nothing is talk, not data."""
    assert print_rows([], COLUMNS, as_json=False, nothing="nobody here") == 0
    assert capsys.readouterr() == ("", "nobody here\n")


# ------------------------------------------------------------------------------------------- what topics hold
USAGE = {
    "id": "fs1/1/orig",
    "revision": 1,
    "type": "usage",
    "client": "42",
    "account": "sip-1001",
    "side": "orig",
    "at": "2026-11-03T10:00:00.000Z",
    "called": "380441234567",
    "code": "38044",
    "code_name": "Ukraine Kiev",
    "billed": 66,
    "amount": "-0.006",
    "currency": "USD",
    "draws": [{"package_name": "Kiev 100", "taken": "60", "left": "0", "kind": "volume"}],
}


def _topic(monkeypatch: pytest.MonkeyPatch, app: Stub, *records: Seen) -> list[dict[str, Any]]:
    """Let the records be what a topic holds, the newest first; gives what was asked of it."""
    asked: list[dict[str, Any]] = []

    async def newest(_: object, topic: str, partitions: range, **more: Any) -> AsyncIterator[Seen]:
        asked.append({"topic": topic, "partitions": list(partitions), **more})
        for record in records:
            yield record

    app(kafka_client=lambda _: {})
    monkeypatch.setattr("rater.stream.browsing.newest", newest)
    return asked


def _seen(raw: bytes | None, key: bytes = b"42", **headers: str) -> Seen:
    return Seen(0, 5, 1_793_692_800_000, key, raw, [(name, text.encode()) for name, text in headers.items()])


def test_transactions_are_listed_for_people_and_for_machines(
    monkeypatch: pytest.MonkeyPatch, app: Stub, capsys: Capture
) -> None:
    """A line says when, who, what, from which package, and how much; --json gives it as it is."""
    asked = _topic(monkeypatch, app, _seen(None), _seen(json.dumps(USAGE).encode()), _seen(b"{", b"7"))
    assert main(["transactions", "--client", "42", "--partitions", "3", "--since", "2026-11-03"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["at", "client", "account"]
    for text in ("2026-11-03 10:00:00", "Ukraine Kiev", "60 of Kiev 100 (0 left)", "-0.006  USD"):
        assert text in line
    assert asked[0]["topic"] == "rater.transactions"
    assert asked[0]["partitions"] == [0, 1, 2]
    assert asked[0]["since_ms"] == 1_793_664_000_000
    assert main(["transactions", "--type", "usage", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == USAGE
    assert main(["transactions", "--type", "refund"]) == 0
    assert capsys.readouterr() == ("", "there is no such transaction\n")


def test_no_more_than_asked_for(monkeypatch: pytest.MonkeyPatch, app: Stub, capsys: Capture) -> None:
    """--limit counts what is shown; 0 shows all."""
    _topic(monkeypatch, app, *[_seen(json.dumps({**USAGE, "id": str(n)}).encode()) for n in range(30)])
    for limit, rows in (("3", 3), ("0", 30), ("20", 20)):
        main(["transactions", "--json", "--limit", limit])
        assert len(capsys.readouterr().out.splitlines()) == rows


def test_rejected_records_tell_why_and_where(
    monkeypatch: pytest.MonkeyPatch, app: Stub, capsys: Capture
) -> None:
    """A rejected record shows its reason, sentence, value, side and place, and in JSON its bytes."""
    first = _seen(
        b"a,b",
        reason="rate_missing",
        detail="no rate; load one",
        value="380",
        side="orig",
        source_topic="pbx",
        source_partition="1",
        source_offset="17",
        catalog="3",
        attempt="1",
    )
    second = _seen(b"\xff", reason="malformed", detail="not JSON", source_topic="rater.cdrs")
    _topic(monkeypatch, app, first, second)
    source = ["--set", "sources.pbx1.topic=pbx"]
    assert main(["rejected", "list", "--source", "pbx1", *source]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    for text in ("rate_missing", "orig", "pbx1", "1@17", "380", "no rate; load one"):
        assert text in line
    assert main(["rejected", "list", "--json", *source]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {
        "at": rows[0]["at"],
        "reason": "rate_missing",
        "side": "orig",
        "detail": "no rate; load one",
        "value": "380",
        "source": "pbx1",
        "topic": "pbx",
        "partition": 1,
        "offset": 17,
        "catalog": 3,
        "attempt": 1,
        "record": "a,b",
    }
    assert (rows[1]["source"], rows[1]["record_base64"]) == ("default", "/w==")
    main(["rejected", "list", "--json", "--reason", "malformed"])
    assert len(capsys.readouterr().out.splitlines()) == 1


# ------------------------------------------------------------------------------------------- what Redis holds
JULY_MS, NOVEMBER_MS = 1_782_864_000_000, 1_793_491_200_000
CATALOG = compile_catalog(
    Content(
        packages={
            "1": PackageHistory(
                [
                    (
                        0,
                        PackageSpec(
                            "1",
                            "Kiev 100",
                            "customer",
                            "USD",
                            period="1 month",
                            limits=[
                                LimitSpec("m1", "volume", "calls", 6_000, code="38044*"),
                                LimitSpec("b1", "money", "calls", 2_000_000, code="380*"),
                            ],
                        ),
                    )
                ],
                [(0, "active")],
                assigned=True,
            )
        }
    ),
    7,
)


def _register(**packages: tuple[int, int | None]) -> ClientState:
    held = [
        ClientPackage(of, "1", None, 2, JULY_MS, start_ms, end_ms)
        for of, (start_ms, end_ms) in packages.items()
    ]
    return ClientState(
        id="42",
        version=3,
        catalog=7,
        name="Rose",
        reseller="1",
        currency="USD",
        zone="UTC",
        credit_limit=0,
        low_balance=5_000_000,
        terms=None,
        tax_profile=None,
        rate_tables={"orig": {"calls": "retail"}},
        accounts={"sip-1001": {}},
        packages=held,
        opening=0,
    )


def test_what_is_left_of_a_client_package() -> None:
    """Size is limit times quantity, used is the counter of the present period, left is the difference."""
    register = _register(cp=(JULY_MS, None))
    counters = {counter_field("cp", 5, "m1"): 1_500, counter_field("cp", 4, "m1"): 9_999}
    row = package_row(ClientView(register), register.packages[0], counters, CATALOG, NOVEMBER_MS)
    assert (row["status"], row["period"]) == ("active", 5)
    assert (row["period_start"], row["period_stop"]) == (
        "2026-11-01T00:00:00.000Z",
        "2026-12-01T00:00:00.000Z",
    )
    volume, money = row["limits"]
    assert (volume["size"], volume["used"], volume["left"], volume["unit"]) == (
        "12000",
        "1500",
        "10500",
        "second",
    )
    assert (money["size"], money["used"], money["left"], money["unit"]) == ("4", "0", "4", "USD")


@pytest.mark.parametrize(
    ("start_ms", "end_ms", "status"),
    [(NOVEMBER_MS + 1, None, "pending"), (JULY_MS, None, "active"), (JULY_MS, NOVEMBER_MS, "archive")],
)
def test_the_status_of_a_client_package(start_ms: int, end_ms: int | None, status: str) -> None:
    """Pending before its first period, active in one, archive after the last."""
    register = _register(cp=(start_ms, end_ms))
    row = package_row(ClientView(register), register.packages[0], {}, CATALOG, NOVEMBER_MS)
    assert row["status"] == status
    assert bool(row["limits"]) is (status == "active")


class _Store:
    """A store with one client."""

    def __init__(self, register: ClientState, counters: dict[str, int]) -> None:
        self.found = (write_state(register), 49_994_000, counters)

    async def client(self, client: str) -> tuple[bytes, int, dict[str, int]] | None:
        return self.found if client == "42" else None

    async def accounts(self, accounts: list[str]) -> dict[str, str]:
        return {account: "42" for account in accounts if account == "sip-1001"}

    async def scan_clients(self) -> AsyncIterator[str]:
        yield "42"
        yield "gone"

    async def close(self) -> None:
        pass


@pytest.fixture
def store(app: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Redis with one client that has an active, a coming and an ended client package."""
    far_ms = time.time_ns() // 1_000_000 + 10**9
    register = _register(active=(JULY_MS - 10**11, None), coming=(far_ms, None), ended=(0, 1))

    async def connect_store(_: Settings) -> _Store:
        return _Store(register, {})

    async def catalog(_: Settings) -> Catalog:
        return CATALOG

    app(connect_store=connect_store, kafka_client=lambda _: {})
    monkeypatch.setattr("rater.cli.states._catalog", catalog)


@pytest.mark.usefixtures("store")
def test_clients_are_listed_with_their_balances(capsys: Capture) -> None:
    """A client is a line with its balance; one that was removed meanwhile is left out."""
    assert main(["clients", "list"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split()[:4] == ["id", "name", "reseller", "balance"]
    assert line.split() == ["42", "Rose", "1", "49.994", "0", "USD", "1", "3"]
    assert main(["clients", "list", "--json", "--reseller", "2"]) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.usefixtures("store")
def test_a_client_is_shown_with_all_its_packages(capsys: Capture) -> None:
    """One client: balance, accounts, tables and client packages, the archive included."""
    assert main(["clients", "show", "42"]) == 0
    out = capsys.readouterr().out
    for text in ("49.994 USD", "sip-1001", "calls: retail", "active", "pending", "archive", "Kiev 100"):
        assert text in out
    assert main(["clients", "show", "42", "--json"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert [held["id"] for held in row["client_packages"]] == ["active", "coming", "ended"]
    assert main(["clients", "show", "7"]) == 2
    assert "there is no client 7; `rater clients list` shows" in capsys.readouterr().err


@pytest.mark.usefixtures("store")
@pytest.mark.parametrize(
    ("arguments", "ids"),
    [
        ([], ["active", "coming"]),
        (["--status", "archive"], ["ended"]),
        (["--status", "all"], ["active", "coming", "ended"]),
        (["--status", "all", "--id", "coming"], ["coming"]),
        (["--client", "42", "--package", "1", "--limit", "1"], ["active"]),
        (["--package", "2"], []),
        (["--account", "sip-1001"], ["active", "coming"]),
    ],
)
def test_client_packages_are_filtered(arguments: list[str], ids: list[str], capsys: Capture) -> None:
    """Pending and active ones unless asked otherwise; by client, account, package, status and id."""
    assert main(["client-packages", "list", "--json", *arguments]) == 0
    assert [json.loads(line)["id"] for line in capsys.readouterr().out.splitlines()] == ids


@pytest.mark.usefixtures("store")
def test_client_packages_show_what_is_left_as_bars(capsys: Capture) -> None:
    """A line for each limit: its code, a bar, and the numbers."""
    assert main(["client-packages", "list", "--id", "active"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert lines[1].endswith("38044*  ████████████  12000 of 12000 second")
    assert lines[2].endswith("380*    ████████████             4 of 4 USD")
    assert main(["client-packages", "list", "--account", "nobody"]) == 2
    assert "there is no account nobody" in capsys.readouterr().err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", ["", "1"])
def test_colours_only_where_they_are_wanted(no_color: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal lists are tables with colours; NO_COLOR takes these away."""
    monkeypatch.setenv("NO_COLOR", no_color)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    styled = column("number", right=True)._replace(style=lambda _: "red")
    print_rows([{"name": "[bold]x", "number": 7}], [column("name"), styled], as_json=False)
    assert "[bold]x" in terminal.getvalue()
    assert ("\x1b[31m" in terminal.getvalue()) is (not no_color)


@pytest.mark.parametrize(
    ("left", "size", "shown"),
    [
        (100, 100, "████████████"),
        (50, 100, "██████░░░░░░"),
        (1, 1000, "█░░░░░░░░░░░"),
        (0, 5, "░░░░░░░░░░░░"),
        (-5, 5, "░" * 12),
    ],
)
def test_a_bar_is_full_of_what_is_left(left: int, size: int, shown: str) -> None:
    """A little that is left is seen; nothing is seen as nothing."""
    assert bar(left, size) == shown


def test_moments() -> None:
    """A time with offset, a date in UTC, or a span ago."""
    assert MOMENT.convert("2026-11-03T10:00:00.5+02:00", None, None) == 1_793_692_800_500
    assert MOMENT.convert("2026-11-03", None, None) == 1_793_664_000_000
    assert abs(MOMENT.convert("2h", None, None) - (time.time() - 7200) * 1000) < 5_000
    for wrong in ("2026-11-03T10:00:00", "2026-13-01", "2w", "", "h"):
        with pytest.raises(click.BadParameter):
            MOMENT.convert(wrong, None, None)


def test_spans() -> None:
    """A number with a unit, and never nothing."""
    assert [SPAN.convert(text, None, None) for text in ("30s", "10m", "1h", "1d")] == [30, 600, 3600, 86_400]
    for wrong in ("0s", "1", "1w", "", "-1h"):
        with pytest.raises(click.BadParameter):
            SPAN.convert(wrong, None, None)
