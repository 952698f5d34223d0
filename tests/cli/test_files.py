"""`rater sources`, and the keys that `rater ingest` gives."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import pytest

import mobile_files as made
from cli.conftest import Capture
from rater import shipped
from rater.cli import main
from rater.cli.files import key_of
from rater.core.sources.cutting import Record

DATA = Path(__file__).parents[1] / "data" / "sources"
NOW = {
    "id": "1",
    "called": "380441234567",
    "duration_ms": 61_000,
    "answered_at": "2026-11-03T10:00:00Z",
    "orig": {"client": "42"},
}


def cdrs(folder: Path, *rows: dict[str, Any] | str) -> str:
    """Write a file of CDRs."""
    file = folder / "cdrs.jsonl"
    file.write_text(
        "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), "utf-8"
    )
    return str(file)


@pytest.mark.parametrize(
    ("encode", "said"),
    [
        (lambda raw: gzip.compress(raw.decode().encode("utf-16")), "is UTF-16 text"),
        (lambda raw: gzip.compress(gzip.compress(raw)), "is packed with gzip"),
        (lambda raw: raw.decode().encode("utf-16"), "is UTF-16 text"),
        (lambda raw: b"PK\x03\x04\x14\0" + raw, "is a ZIP archive"),
    ],
)
def test_a_file_that_is_no_text_is_one_sentence(
    encode: Callable[[bytes], bytes], said: str, tmp_path: Path, capsys: Capture
) -> None:
    """An archive, or in UTF-16: one sentence with the remedy, not a rejection for each record."""
    file = Path(cdrs(tmp_path, NOW, NOW))
    file.write_bytes(encode(file.read_bytes()))
    for name in ("default", "asterisk", "asterisk-csv"):
        assert main(["sources", "test", name, str(file)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err == f"rater: {file}: {said}; give the records as text in UTF-8\n"


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


def test_sources_test_shows_record_by_record(tmp_path: Path, capsys: Capture) -> None:
    """Each record is shown with what becomes of it; an old one is not blamed for its age."""
    file = cdrs(
        tmp_path,
        {**NOW, "answered_at": "2011-01-01T00:00:00Z"},
        {**NOW, "id": "2", "duration_ms": 0, "answered_at": None, "setup_at": NOW["answered_at"]},
        {**NOW, "id": "3", "duration_ms": 0},
    )
    assert main(["sources", "test", "default", file]) == 0
    told = capsys.readouterr()
    assert "outcome      a call" in told.out
    assert "outcome      unanswered" in told.out
    assert "orig         client 42" in told.out
    assert told.err == f"{file}: 3 records: 2 call, 1 unanswered\n"


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


CALL = {
    "id": "1", "from": "2001", "to": "380441234567", "at": "1700000000", "s": "5",
}  # fmt: skip
MAP = """
description = "x"
format = "csv"
columns = ["id", "from", "to", "at", "s"]
[fields]
id = "id"
caller = "from"
called = "to"
answered_at = {path = "at", format = "epoch"}
duration = {path = "s", unit = "s"}
[orig]
account = "from"
"""


def of_csv(folder: Path, *lines: str) -> tuple[str, str]:
    """Write a map and a file of CSV; returns their paths."""
    (folder / "own.toml").write_text(MAP, "utf-8")
    (folder / "calls.csv").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return str(folder / "own.toml"), str(folder / "calls.csv")


def test_sources_test_reads_by_the_header_row(tmp_path: Path, capsys: Capture) -> None:
    """In whatever order its columns stand, each call has the numbers that its header row names."""
    names = ["to", "s", "from", "id", "at"]
    paths = of_csv(tmp_path, ",".join(names), ",".join(CALL[name] for name in names), "1,2")
    assert main(["sources", "test", *paths, "--json"]) == 1
    header, call, cut = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert header == {"line": 1, "outcome": "skipped", "reason": "header row"}
    assert (call["cdr"]["caller"], call["cdr"]["called"]) == ("2001", "380441234567")
    assert "the row has 2 cells and needs 5" in cut["rejections"][0]["detail"]


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,to,at,s", "the header row names no from, which the map reads"),
        ("id,from,to,at,s,to", "names to twice"),
        ("id;from;to;at;s", "has ';' between columns, and the map ','"),
    ],
)
def test_a_header_row_that_is_wrong_stops_a_file(
    header: str, said: str, tmp_path: Path, capsys: Capture
) -> None:
    """Before anything is sent, of any file: Kafka is not asked for; file and line are told, the code is 2."""
    own, file = of_csv(tmp_path, ",".join(CALL.values()), header)
    (tmp_path / "good.csv").write_text(",".join(CALL.values()), "utf-8")
    source = ["--set", "sources.own.topic=t", "--set", f"sources.own.map={own}"]
    source += ["--set", "kafka.bootstrap_servers=127.0.0.1:1"]
    assert main([*source, "ingest", str(tmp_path / "good.csv"), file, "--source", "own"]) == 2
    told = capsys.readouterr().err
    assert f"rater: {file}: line 2: the header row" in told
    assert said in told
    assert main(["sources", "test", own, file]) == 2


def test_sources_test_knows_how_large_a_record_may_be(tmp_path: Path, capsys: Capture) -> None:
    """A document of 80 kB is read, and refused where the source has a limit below."""
    leg = json.loads((DATA / "freeswitch.jsonl").read_bytes().splitlines()[0])
    leg["app_log"]["applications"] *= 1_400
    (tmp_path / "legs.jsonl").write_text(json.dumps(leg) + "\n", "utf-8")
    assert 80_000 < (tmp_path / "legs.jsonl").stat().st_size < 100_000
    (tmp_path / "rater.toml").write_text(
        '[sources.small]\ntopic = "t"\nmap = "freeswitch"\nrecord_bytes_max = 65536\n'
        '[sources.fs]\ntopic = "u"\nmap = "freeswitch"\n', "utf-8"
    )  # fmt: skip
    test = ["-c", str(tmp_path / "rater.toml"), "sources", "test", "--json"]
    for name, code in (("fs", 0), ("freeswitch", 0), ("small", 1)):
        assert main([*test, name, str(tmp_path / "legs.jsonl")]) == code
    *read, refused = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["cdr"]["duration_ms"] for row in read] == [65_039, 65_039]
    assert refused["rejections"][0]["reason"] == "too_large"
    assert (
        "at most 65536 are taken: raise its source's record_bytes_max" in refused["rejections"][0]["detail"]
    )


def test_ingest_tells_what_a_topic_does_not_take(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are sent; file and line, size, topic and remedy are told; the exit code is 1."""

    class Topic:
        """Takes records of up to 500 bytes."""

        def __init__(self, _: object, topic: str) -> None:
            assert topic == "t"

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            return

        async def send(self, value: bytes, _: bytes | None, __: object) -> bool:
            return len(value) <= 500

        async def flush(self) -> None:
            return

    monkeypatch.setattr("rater.stream.ingest.Ingest", Topic)
    file = cdrs(tmp_path, NOW, {**NOW, "x": "x" * 500}, NOW)
    source = ["--set", "sources.a.topic=t", "ingest", file, "--source", "a"]
    assert main(source) == 1
    told = capsys.readouterr()
    assert told.out == f"{file}: 2 records sent to t\n"
    size = len(json.dumps({**NOW, "x": "x" * 500}))
    assert told.err.startswith(
        f"{file}: line 2 has {size} bytes, more than t takes, so it was not sent; raise "
    )


def test_sources_test_shows_what_cannot_be_seen(tmp_path: Path, capsys: Capture) -> None:
    """On the terminal, too: what has no width, odd blanks, what would command it."""
    file = cdrs(tmp_path, {**NOW, "called": "38\u200b0\x1b[2J"}, {**NOW, "called": "\u202a+380 44\u202c"})
    assert main(["sources", "test", "default", file]) == 1
    told = capsys.readouterr().out
    assert r"38\u200b0\x1b[2J" in told
    assert "called       38044\n" in told
    assert "\u200b" not in told


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
    assert key_of(Record(1, raw), None) == key


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
    assert out == (Path(__file__).parents[2] / "config" / file).read_text("utf-8")


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


def _mobile(folder: Path, data: bytes) -> str:
    file = folder / "file"
    file.write_bytes(data)
    return str(file)


def test_sources_test_reads_files_of_mobile_networks(tmp_path: Path, capsys: Capture) -> None:
    """Each record is shown by the shipped map, packed or not; one that cannot be read makes the code 1."""
    call = made.mo_call()
    for data in (made.tap_file([call]), gzip.compress(made.tap_file([call]))):
        assert main(["sources", "test", "tap3", _mobile(tmp_path, data), "--format", "tap3", "--json"]) == 0
        told = capsys.readouterr()
        row = json.loads(told.out)
        assert (row["outcome"], row["cdr"]["duration_ms"]) == ("call", 65_000)
    file = _mobile(tmp_path, made.mo_record() + made.mt_record()[:-5])
    assert main(["sources", "test", "ts32298", file, "--format", "ts32298"]) == 1
    told = capsys.readouterr()
    assert "octets cannot be read" in told.out
    assert f"{file}: 2 records: 1 call, 1 rejected" in told.err
    at = len(made.mo_record())
    assert f"{file}: octet {at}: {len(made.mt_record()) - 5} octets cannot be read" in told.err


@pytest.mark.parametrize(
    ("data", "arguments", "sentence"),
    [
        (b"id,called\n", ["tap3", "--format", "tap3"], "begins with 0x69; a TAP 3 file begins with"),
        (made.tap_file([]), ["tap3"], "is no text but BER"),
        (made.tap_file([]), ["default"], "is no text but BER"),
        (gzip.compress(made.mo_record(), mtime=0), ["ts32298"], "is no text but BER"),
        (made.tap_file([]), ["asterisk", "--format", "tap3"], "the source needs a map with `fault`"),
        (made.tap_file([]), ["asterisk-csv", "--format", "tap3"], "the source needs a map with `fault`"),
        (made.tap_file([]), ["default", "--format", "tap3"], "the source needs a map with `fault`"),
        (gzip.compress(b'{"id": 1}\n' * 9000, mtime=0)[:60], ["default"], "the packed file is damaged"),
    ],
)
def test_a_file_that_is_of_another_format_is_refused(
    data: bytes, arguments: list[str], sentence: str, tmp_path: Path, capsys: Capture
) -> None:
    """One sentence and code 2, no rejection for each line of what is no line."""
    name, *options = arguments
    assert main(["sources", "test", name, _mobile(tmp_path, data), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_a_file_of_mobile_networks_without_the_extra(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to install."""
    monkeypatch.setitem(sys.modules, "pycrate_asn1dir.TAP3", None)
    file = _mobile(tmp_path, made.tap_file([]))
    assert main(["sources", "test", "tap3", file, "--format", "tap3"]) == 2
    assert "pip install 'rater[asn1]'" in capsys.readouterr().err
