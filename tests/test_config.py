"""Settings: what is taken from where, and what is said of what is wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rater.config import SECRETS, SECTIONS, Settings, load, masked_url
from rater.core.decks.profile import Profile

EXAMPLE = Path(__file__).parents[1] / "config" / "rater.toml"
SASL = '[kafka]\nsecurity_protocol = "SASL_SSL"'
OAUTH = f'{SASL}\nsasl_mechanism = "OAUTHBEARER"'


def good(*arguments: Any, **more: Any) -> Settings:
    """Return settings that have to be right."""
    found = load(*arguments, **more)
    assert isinstance(found, Settings), found
    return found


def problems(text: str, folder: Path, environ: dict[str, str] | None = None) -> list[str]:
    """Return what is wrong with a file."""
    file = folder / "rater.toml"
    file.write_text(text, "utf-8")
    found = load(str(file), environ)
    assert isinstance(found, list), found
    return found


def test_without_anything_all_settings_have_defaults() -> None:
    """The programs start without any settings."""
    settings = good()
    assert settings.kafka.bootstrap_servers == "localhost:9092"
    assert settings.topic("cdrs") == "rater.cdrs"
    assert list(settings.all_sources()) == ["default"]


def test_the_example_shows_every_setting_with_its_default() -> None:
    """config/rater.toml is the documentation: it names all settings, and what it sets is the default."""
    text = EXAMPLE.read_text("utf-8")
    assert good(str(EXAMPLE)) == good()
    table = tomllib.loads(text)
    assert set(table) == set(SECTIONS)
    for key in Profile.__struct_fields__:
        assert f"# {key} = " in text, f"decks.{key}"
    for section, struct in SECTIONS.items():
        for field in msgspec.structs.fields(struct):
            if field.default is None:  # not there by default: shown behind `#`
                forms = f"# {field.name} = ", f"# [{section}.{field.name}]"
                assert any(form in text for form in forms), f"{section}.{field.name}"
            else:
                value = table[section][field.name]
                assert (tuple(value) if isinstance(value, list) else value) == field.default, (
                    f"{section}.{field.name}"
                )


def test_environment_wins_over_file_and_flags_over_both(tmp_path: Path) -> None:
    """Of several values for one setting the later wins: file, environment, flags."""
    file = tmp_path / "rater.toml"
    file.write_text('[kafka]\ngroup_id = "file"\n[metrics]\nport = 1\n[redis]\nprefix = "file"\n', "utf-8")
    environ = {
        "RATER_KAFKA__GROUP_ID": "environment",
        "RATER_METRICS__PORT": "2",
        "RATER_CONFIG": "x",
        "HOME": "/",
    }
    settings = good(str(file), environ, {"metrics.port": "3"})
    assert (settings.redis.prefix, settings.kafka.group_id, settings.metrics.port) == (
        "file",
        "environment",
        3,
    )


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[kafka]\ngroup_di = "x"', ["kafka.group_di", "did you mean `group_id`"]),
        ("[metrics]\nport = 70000", ["metrics.port = 70000", "from 0 to 65535"]),
        ('[metrics]\nport = "9464"', ["metrics.port", "a whole number"]),
        ("[metrics]\nport = true", ["metrics.port", "a whole number"]),
        ("[kafak]\nx = 1", ["no section `kafak`", "did you mean `kafka`"]),
        ("kafka = 1", ["`kafka` is a section"]),
        ("[kafka.group_id]\nx = 1", ["kafka.group_id", "the consumer group"]),
        ('[redis]\nurl = "localhost"', ["redis.url", "redis://HOST:PORT/DB"]),
        ('[admin]\ndatabase = "mysql://x"', ["admin.database", "sqlite:///PATH or postgresql://"]),
        ('[admin]\nworkers = ["h"]', ["admin.workers", "HOST:PORT"]),
        ('[admin]\nworkers = "h:1"', ["admin.workers", "a list of texts", "HOST:PORT"]),
        ('[admin]\nworkers = ["http://h:1"]', ["admin.workers", "HOST:PORT"]),
        ('[admin]\nworkers = ["h:70000"]', ["admin.workers", "'h:70000'", "from 1 to 65535"]),
        ('[admin]\nworkers = ["h:1", "[::1]:2", "h:1"]', ["admin.workers", "'h:1' is named twice"]),
        ('[redis]\nurl = "redis://:secret@h:po"', ["redis.url", "'po'", "redis://HOST:PORT/DB"]),
        ('[kafka]\nsecurity_protocol = "TLS"', ["one of PLAINTEXT, SASL_PLAINTEXT"]),
        ('[kafka]\nsecurity_protocol = "SASL_SSL"', ["needs kafka.sasl_username"]),
        ('[kafka]\nsasl_username = "a"', ["are not used with"]),
        ('[kafka]\nssl_cafile = "/nowhere.pem"', ["SSL or SASL_SSL"]),
        (OAUTH, ["needs kafka.sasl_token_file"]),
        (
            f'{OAUTH}\nsasl_username = "a"\nsasl_token_file = "/nowhere"',
            ["the token names the user", "sasl_token_file = '/nowhere': cannot be read"],
        ),
        (
            f'{SASL}\nsasl_username = "a"\nsasl_password = "b"\nsasl_token_file = "/dev/null"',
            ["OAUTHBEARER' alone", "sasl_token_file = '/dev/null': is empty"],
        ),
        ('[kafka]\nsecurity_protocol = "SSL"\nssl_certfile = "/nowhere.pem"', ["no such file", "together"]),
        ('[kafka]\nsecurity_protocol = "SSL"\nssl_cafile = "/dev/null"', ["no such file"]),
        ('[redis]\nssl_cafile = "/nowhere.pem"', ["begin redis.url with rediss://"]),
        ("[redis]\nssl_check_hostname = false", ["begin redis.url with rediss://"]),
        ("[kafka]\nssl_check_hostname = false", ["SSL or SASL_SSL"]),
        ('[kafka]\nsasl_mechanism = "SCRAM-SHA-512"', ["sasl_mechanism", "SASL_SSL"]),
        (
            '[redis]\nurl = "rediss://h?ssl_ca_certs=a.pem"\nssl_cafile = "/nowhere.pem"',
            ["behind its `?`"],
        ),
        ('[redis]\nurl = "rediss://h"\nssl_keyfile = "/nowhere.pem"', ["no such file", "redis.ssl_certfile"]),
        ('[logs]\nnumber_key = "short"', ["logs.number_key", "16 characters or more"]),
        ("[topics]\npartitions = 0", ["topics.partitions = 0", "from 1 to 1024"]),
        ('[sources.a]\nmap = "asterisk"', ["sources.a", "has no topic"]),
        ("[sources.a]", ["sources.a", "has no topic"]),
        ('[sources.a]\ntopic = "t"\n[sources.b]\ntopic = "t"', ["one topic has one source"]),
        ('[sources.a]\ntopic = "rater.commands"', ["a topic of the system itself"]),
        ('[sources.default]\ntopic = "t"', ["choose another"]),
        (
            '[sources.a]\ntopic = "t"\nrecord_bytes_max = 70000',
            ["of sources with a map", "65536", "take it away"],
        ),
        (
            '[sources.a]\ntopic = "t"\nmap = "m"\nrecord_bytes_max = 9000000',
            ["record_bytes_max = 9000000", "from 1024 to 8388608", "too_large"],
        ),
        ('[sources.a]\ntopic = "t"\nmap = "m"\nrecord_bytes_max = "1 MB"', ["'1 MB'", "a whole number"]),
        ('[sources.cp]\ntopic = "t"', ["sources.cp", "ids of fees", "choose another name"]),
        ('[sources."a/b"]\ntopic = "t"', ["a source's name has"]),
        ("sources = 1", ["a source is a table"]),
        ("decks = 1", ["a profile of decks is a table"]),
        ('[decks.a]\nkinds = "full"', ["decks.a.kinds", "did you mean `kind`"]),
        ('[decks.a]\nkind = "whole"', ["decks.a.kind", "one of full, partial"]),
        ("[decks.a]\ncreate = true", ["decks.a.create", "needs a currency"]),
        ('[decks.a]\ncurrency = "US Dollar"', ["decks.a.currency", "1 to 16 letters"]),
        ('[decks.a]\nzone = "Kiev"', ["decks.a.zone", "Europe/Kyiv"]),
        ('[decks.a]\nincrement = "60"', ["decks.a.increment", "60/1"]),
        ('[decks.a]\nincrement = "60/0"', ["decks.a.increment", "60/1"]),
        ('[decks.a]\ndates = "dd.mm"', ["decks.a.dates", "one of dmy, mdy, ymd"]),
        ('[decks.a]\ndecimal = "\'"', ["decks.a.decimal", 'give "." or ","']),
        ('[decks.a]\ncolumns = {codes = "A"}', ["decks.a.columns.codes", "known are code, country_code"]),
        ('[decks.a]\nstatuses = {D = "deleted"}', ["decks.a.statuses.D", "closed"]),
        ("[decks.a]\nmove_percent = -1", ["decks.a.move_percent", "from 0 to"]),
        ("[events]\nlimit_percents = [50, 101]", ["events.limit_percents", "whole numbers from 1 to 100"]),
        ('[events]\nlimit_percents = "50"', ["events.limit_percents = '50'", "a list of whole numbers"]),
        ("[events]\nexpiring_notice_hours = 1.5", ["a whole number from 0 to 8760"]),
        ('[kafka]\ngroup_id = "rater\\n"', ["kafka.group_id"]),
        ("[kafka", ["is not TOML"]),
    ],
)
def test_what_is_wrong_is_a_sentence_with_place_and_remedy(
    text: str, parts: list[str], tmp_path: Path
) -> None:
    """A wrong setting is named with its file, key and value, and what to do."""
    found = "\n".join(problems(text, tmp_path))
    places = ("rater.toml", "admin.", "kafka.", "sources.", "redis.", "decks.", "events.", "logs.")
    assert any(place in found for place in places)
    assert "secret" not in found
    for part in parts:
        assert part in found


@pytest.mark.parametrize(
    ("value", "percents"), [("100, 50,50", (50, 100)), ("", ()), ("7", (7,)), ("50,x", None), ("0", None)]
)
def test_a_list_is_given_as_text_with_commas(value: str, percents: tuple[int, ...] | None) -> None:
    """Of a variable or flag; what is there twice counts once, in order."""
    found = load(None, {"RATER_EVENTS__LIMIT_PERCENTS": value})
    if percents is None:
        assert isinstance(found, list)
        assert "RATER_EVENTS__LIMIT_PERCENTS" in found[0]
        assert "a list of whole numbers" in found[0]
    else:
        assert not isinstance(found, list)
        assert found.events.notices == (percents, 0)


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    """Who has three things wrong need not run the program three times."""
    found = problems("[kafka]\nx = 1\n[metrics]\nport = -1\n", tmp_path, {"RATER_TOPICS__PARTITIONS": "many"})
    assert len(found) == 3
    assert any("the environment variable RATER_TOPICS__PARTITIONS" in problem for problem in found)


def test_the_flag_that_gave_a_wrong_value_is_named() -> None:
    """A message about a flag names the flag that was typed."""
    found = load(
        None, {}, {"metrics.port": "x", "redis.prefix": "?"}, flags={"metrics.port": "--metrics-port"}
    )
    assert isinstance(found, list)
    assert found[0].startswith("the flag --metrics-port: metrics.port = 'x':")
    assert found[1].startswith("the flag --set: redis.prefix")


def test_missing_files_are_sentences(tmp_path: Path) -> None:
    """A file that is not there, or is no text, is said to be so."""
    missing = load(str(tmp_path / "none.toml"))
    assert isinstance(missing, list)
    assert "cannot be read (no such file or directory)" in missing[0]
    (tmp_path / "latin.toml").write_bytes(b"# \xff")
    latin = load(str(tmp_path / "latin.toml"))
    assert isinstance(latin, list)
    assert "is not UTF-8" in latin[0]


def test_secrets_are_read_from_files_and_never_shown(tmp_path: Path) -> None:
    """A password comes from a file where one is named, and is in no repr and no sentence."""
    (tmp_path / "secret").write_text("s3cret\n", "utf-8")
    environ = {
        "RATER_REDIS__PASSWORD_FILE": str(tmp_path / "secret"),
        "RATER_REDIS__URL": "redis://u:pa55@h:1/0",
    }
    settings = good(None, environ)
    assert settings.redis.password == "s3cret"  # noqa: S105 - an example
    assert "s3cret" not in repr(settings)
    assert "pa55" not in repr(settings)
    both = load(None, {**environ, "RATER_REDIS__PASSWORD": "0ther"})
    assert isinstance(both, list)
    assert "both given" in both[0]
    assert "0ther" not in both[0]
    assert {"password", "sasl_password", "number_key"} == SECRETS


@pytest.mark.parametrize(
    "text",
    [
        '[redis]\npass = "s3cret"', '[kafka]\nsasl_pasword = "s3cret"', '[secrets]\nredis = "s3cret"',
        '[redis.password]\nvalue = "s3cret"', 'password = "s3cret"',
        '[sources.pbx]\ntopic = "t"\nkey = "s3cret"', '[[admin.tokens]]\nname = "a"\ntoken = "s3cret"',
        '[tracing]\nendpoint = "http://user:s3cret@collector/"',
        '[admin]\ndatabase = "mysql://user:s3cret@host/base"',
    ],
)  # fmt: skip
def test_a_secret_in_a_wrong_place_is_not_shown(text: str, tmp_path: Path) -> None:
    """What is no setting may be a misspelt one: the sentence has its name, and not its value."""
    (tmp_path / "rater.toml").write_text(text, "utf-8")
    problems = load(str(tmp_path / "rater.toml"), {"RATER_REDIS__PASSWRD": "s3cret"})
    assert isinstance(problems, list)
    assert len(problems) == 2
    assert "s3cret" not in "\n".join(problems)


def test_a_url_is_shown_without_its_password() -> None:
    """Of a URL everything but the password and the query may be shown."""
    assert masked_url("redis://user:pa55@h:6379/0?x=secret") == "redis://user:***@h:6379/0?***"
    assert masked_url("redis://h:6379/0") == "redis://h:6379/0"


def test_sources_come_from_variables_too(tmp_path: Path) -> None:
    """A variable reaches a source of the file whose name it can only spell roughly, and can add one."""
    file = tmp_path / "rater.toml"
    file.write_text(
        '[sources.PBX-1]\ntopic = "a"\nmap = "maps/x.toml"\nrecord_bytes_max = 2097152\n'
        '[sources.PBX-1.defaults]\nzone = "UTC"\n',
        "utf-8",
    )
    settings = good(
        str(file),
        {
            "RATER_SOURCES__PBX_1__TOPIC": "b", "RATER_SOURCES__PBX_1__DEFAULTS__CLIENT": "42",
            "RATER_SOURCES__NEW__TOPIC": "c",
        },
    )  # fmt: skip
    assert settings.sources["PBX-1"].topic == "b"
    assert settings.sources["PBX-1"].record_bytes_max == 2**21
    assert settings.sources["new"].record_bytes_max == 2**20
    assert settings.sources["PBX-1"].defaults == {"zone": "UTC", "client": "42"}
    assert settings.sources["PBX-1"].map == str(tmp_path / "maps/x.toml")
    assert settings.sources["new"].topic == "c"


DECK = """
[decks.acme]
kind = "full"
currency = "USD"
create = true
columns = {code = "A", price = "Rate per min"}
statuses = {D = "closed"}
[decks.plain]
"""


def test_profiles_of_decks(tmp_path: Path) -> None:
    """A profile is read with what its tables hold; an empty one has the defaults; flags win over the file."""
    file = tmp_path / "rater.toml"
    file.write_text(DECK, "utf-8")
    settings = good(str(file), {"RATER_DECKS__ACME__DATES": "dmy"}, {"decks.acme.move_percent": "20"})
    acme = settings.decks["acme"]
    assert (acme.kind, acme.currency, acme.create, acme.dates, acme.move_percent) == (
        "full", "USD", True, "dmy", 20,
    )  # fmt: skip
    assert acme.columns == {"code": "A", "price": "Rate per min"}
    assert acme.statuses == {"D": "closed"}
    assert settings.decks["plain"] == Profile()
