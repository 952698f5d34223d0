"""Reading of settings: the file (TOML), then variables `RATER_SECTION__KEY`, then flags; the later wins.

What is wrong becomes one sentence for each thing: which file, variable or flag, which key, what value, what
to do. No sentence shows a secret.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct

from rater.config.oidc import oidc_faults
from rater.config.redis_urls import each_node
from rater.config.settings import (
    DEFAULT_SOURCE,
    NUMBER_KEY_CHARS,
    OWN_TOPICS,
    SECRETS,
    SECTIONS,
    Kafka,
    Redis,
    Settings,
    Source,
    redacted,
)
from rater.config.worker_addresses import address_faults
from rater.core.cdr import MAX_BYTES, RESERVED_SOURCES
from rater.core.decks.profile import Profile, profile_faults
from rater.logins import read_secret, tls_faults

ENVIRONMENT_PREFIX = "RATER_"
NAMED = ("sources", "decks")
"""Sections of tables that have names of the user's: [sources.NAME], [decks.NAME]."""


class _Given(NamedTuple):
    """One value as somebody gave it."""

    origin: str  # "rater.toml", "the environment variable RATER_KAFKA__GROUP_ID", "the flag --group-id"
    path: tuple[str, ...]  # ("kafka", "group_id"), ("sources", "pbx1", "topic")
    value: Any
    text: bool  # given as text: numbers and booleans are read from it

    def problem(self, what: str) -> str:
        """Return the sentence. The value of what is no setting is not shown: a password may be misspelt."""
        is_shown = _is_setting(self.path) and not isinstance(self.value, dict)
        shown = f" = {_shown(self.path[-1], self.value)}" if is_shown else ""
        return f"{self.origin}: {'.'.join(self.path)}{shown}: {what}"


def load(
    path: str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, str] | None = None,
    *,
    flags: Mapping[str, str] | None = None,
) -> Settings | list[str]:
    """Return the settings, or a sentence for each problem.

    path: the TOML file or None; environ: the environment; overrides: "section.key" → text, from flags;
    flags: "section.key" → the flag that gave it, `--set` where not named.
    """
    problems: list[str] = []
    given = [*_from_file(path, problems)]
    for variable, value in sorted((environ or {}).items()):
        if one := _from_variable(variable, value, given):
            given.append(one)
    given += [
        _Given(f"the flag {(flags or {}).get(key, '--set')}", tuple(key.split(".")), value, text=True)
        for key, value in (overrides or {}).items()
    ]
    settings = _build(given, Path(path).parent if path else Path(), problems)
    problems += _across(settings)
    return problems or settings


def _from_file(path: str | None, problems: list[str]) -> Iterator[_Given]:
    if path is None:
        return
    try:
        table = tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        problems.append(f"{path}: cannot be read ({_why(error)}); give --config an existing file")
    except UnicodeDecodeError:
        problems.append(f"{path}: is not UTF-8; save it as UTF-8")
    except tomllib.TOMLDecodeError as error:
        problems.append(f"{path}: is not TOML: {error}; `rater config settings` prints an example")
    else:
        yield from _leaves(path, (), table)


def _leaves(origin: str, path: tuple[str, ...], table: dict[str, Any]) -> Iterator[_Given]:
    """Yield every value of a file. Sections, sources and decks are tables, deeper ones are values."""
    for key, value in table.items():
        below = (*path, key)
        depth = 3 if below[0] in NAMED else 2
        if isinstance(value, dict) and len(below) < depth:
            yield from _leaves(origin, below, value)
            if not value and below[0] in NAMED and len(below) == depth - 1:
                yield _Given(origin, below, value, text=False)
        else:
            yield _Given(origin, below, value, text=False)


def _from_variable(variable: str, value: str, given: list[_Given]) -> _Given | None:
    """Return what a variable sets.

    None for one that is none of ours (RATER_TEST_KAFKA has no double underscore).
    """
    if not variable.startswith(ENVIRONMENT_PREFIX) or "__" not in variable:
        return None
    path = tuple(variable.removeprefix(ENVIRONMENT_PREFIX).lower().split("__"))
    if path[0] in NAMED and len(path) > 1:
        # Variables cannot spell every name: PBX_1 also means the file's `pbx-1` or `Pbx_1`.
        names = {one.path[1] for one in given if one.path[0] == path[0] and len(one.path) > 1}
        path = (
            path[0],
            next((name for name in sorted(names) if _plain(name) == _plain(path[1])), path[1]),
            *path[2:],
        )
    return _Given(f"the environment variable {variable}", path, value, text=True)


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "_", name.lower())


def _build(given: list[_Given], folder: Path, problems: list[str]) -> Settings:
    """Return settings of all that is right; problems gets the rest."""
    values: dict[str, dict[str, Any]] = {name: {} for name in SECTIONS}
    sources: dict[str, dict[str, Any]] = {}
    decks: dict[str, dict[str, Any]] = {}
    for one in given:
        section = one.path[0]
        if section in SECTIONS and len(one.path) == 2:  # noqa: PLR2004 - section and key
            _take(one, SECTIONS[section], values[section], problems)
        elif section == "sources" and (len(one.path) > 2 or one.value == {}):  # noqa: PLR2004 - sources, name, key
            _take_source(one, sources.setdefault(one.path[1], {}), folder, problems)
        elif section == "decks" and (len(one.path) == 3 or one.value == {}):  # noqa: PLR2004 - decks, name, key
            table = decks.setdefault(one.path[1], {})
            if len(one.path) > 2:  # noqa: PLR2004 - the same; else an empty table: all defaults
                _take(one, Profile, table, problems)
        else:
            problems.append(_misplaced(one))
    _read_secrets(values, problems)
    return Settings(
        sources=_sources(sources, problems),
        decks={name: Profile(**table) for name, table in decks.items()},
        **{name: struct(**values[name]) for name, struct in SECTIONS.items()},  # type: ignore[arg-type]
    )


def _misplaced(one: _Given) -> str:
    section = one.path[0]
    known = [*SECTIONS, *NAMED]
    if section not in known:
        return one.problem(f"there is no section `{section}`; {_nearest(section, known)}")
    if section == "sources":
        return one.problem("a source is a table: write [sources.NAME] with topic = and map = below it")
    if section == "decks":
        return one.problem("a profile of decks is a table: write [decks.NAME] and its keys below it")
    if len(one.path) == 1:
        return one.problem(f"`{section}` is a section: write [{section}] and its keys below it")
    return one.problem(
        f"{'.'.join(one.path[:2])} is a value, not a table; {_nearest(one.path[1], _keys(SECTIONS[section]))}"
    )


def _take(one: _Given, struct: type[Struct], into: dict[str, Any], problems: list[str]) -> None:
    key = one.path[-1]
    keys = _keys(struct)
    if key not in keys:
        problems.append(one.problem(f"there is no such setting; {_nearest(key, keys)}"))
        return
    kind = _kinds(struct)[key]
    value = one.value
    if one.text and isinstance(_plain_type(kind), msgspec.inspect.VarTupleType):
        value = [part for part in map(str.strip, value.split(",")) if part]
    try:
        into[key] = msgspec.convert(value, kind, strict=not one.text)
    except msgspec.ValidationError:
        problems.append(one.problem(_expected(kind)))


def _take_source(one: _Given, into: dict[str, Any], folder: Path, problems: list[str]) -> None:
    match one.path[2:]:
        case ():
            return
        case ("defaults", field):  # only variables and flags arrive so
            into["defaults"] = {**into.get("defaults", {}), field: one.value}
        case (_,):
            before = into.get("map")
            _take(one, Source, into, problems)
            chosen = into.get("map")
            if chosen != before and chosen and ("/" in chosen or chosen.endswith(".toml")):
                into["map"] = str((Path() if one.text else folder) / chosen)
        case _:
            problems.append(one.problem(f"there is no such setting; {_nearest(one.path[2], _keys(Source))}"))


def _sources(tables: dict[str, dict[str, Any]], problems: list[str]) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for name, table in tables.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", name):
            problems.append(
                f"sources.{name}: a source's name has 1 to 64 letters, digits, dots, dashes or underscores"
            )
        elif "topic" not in table:
            if not any(f"sources.{name}.topic" in problem for problem in problems):
                problems.append(
                    f'sources.{name}: has no topic; add topic = "NAME" of the Kafka topic it reads'
                )
        elif "record_bytes_max" in table and not table.get("map"):
            problems.append(
                f"sources.{name}.record_bytes_max = {table['record_bytes_max']}: is of sources with a map, "
                f"and a CDR has at most {MAX_BYTES} bytes; take it away"
            )
        else:
            sources[name] = Source(**table)
    return sources


def _read_secrets(values: dict[str, dict[str, Any]], problems: list[str]) -> None:
    for section, table in values.items():
        for key in SECRETS & set(_keys(SECTIONS[section])):
            file = table.get(f"{key}_file")
            if not file:
                continue
            if table.get(key):
                problems.append(f"{section}.{key} and {section}.{key}_file are both given; keep one of them")
                continue
            try:
                table[key] = read_secret(file)
            except (OSError, UnicodeDecodeError) as error:
                problems.append(
                    f"{section}.{key}_file = {file!r}: cannot be read ({_why(error)}); give a file that can"
                )


def _redis_faults(url: str) -> Iterator[str]:
    """Yield what is wrong with the nodes that are named."""
    nodes = each_node(url)
    for node in nodes:
        try:
            parts = urlsplit(node)
            port = parts.port
        except ValueError as error:
            yield f"redis.url = {_shown('url', url)}: {error}; give redis://HOST:PORT/DB"
            continue
        if len(nodes) > 1 and (not parts.hostname or port is None):
            yield (
                f"redis.url = {_shown('url', url)}: of several nodes each needs host and port; give "
                "redis://HOST:PORT,HOST:PORT"
            )
            return


def _across(settings: Settings) -> Iterator[str]:
    """Yield what is wrong between settings that are right each by itself."""
    yield from _security(settings.kafka)
    yield from _redis_faults(settings.redis.url)
    yield from _redis_security(settings.redis)
    if settings.admin.oidc is not None:
        yield from oidc_faults(settings.admin.oidc)
    yield from address_faults(settings.admin.workers)
    if settings.logs.number_key is not None and len(settings.logs.number_key) < NUMBER_KEY_CHARS:
        yield f"logs.number_key: is too short; give {NUMBER_KEY_CHARS} characters or more that nobody knows"
    for name, profile in settings.decks.items():
        for key, value, problem in profile_faults(profile):
            yield f"decks.{name}.{key} = {_shown(key, value)}: {problem}"
    own = {settings.topic(name) for name in OWN_TOPICS}
    topics: dict[str, str] = {}
    for name, source in settings.sources.items():
        if name == DEFAULT_SOURCE:
            yield f"sources.{name}: this name is taken by {settings.topic('cdrs')} itself; choose another"
        if name in RESERVED_SOURCES:
            yield f"sources.{name}: so begin the ids of fees or adjustments; choose another name"
        if source.topic in own:
            yield f"sources.{name}.topic = {source.topic!r}: is a topic of the system itself; choose another"
        if source.topic in topics:
            yield (
                f"sources.{name}.topic = {source.topic!r}: is the topic of sources.{topics[source.topic]} "
                f"already; "
                "one topic has one source"
            )
        topics.setdefault(source.topic, name)


def _security(kafka: Kafka) -> Iterator[str]:
    protocol = kafka.security_protocol
    needed = "set it to SASL_SSL or SASL_PLAINTEXT, or take"
    if protocol.startswith("SASL"):
        yield from _logging_in(kafka)
    elif kafka.sasl_username or kafka.sasl_password or kafka.sasl_token_file:
        yield (
            f"kafka.sasl_username and kafka.sasl_password are not used with kafka.security_protocol = "
            f"{protocol!r}, nor is kafka.sasl_token_file; {needed} them away"
        )
    elif kafka.sasl_mechanism != "PLAIN":
        yield (
            f"kafka.sasl_mechanism = {kafka.sasl_mechanism!r} is not used with kafka.security_protocol = "
            f"{protocol!r}; {needed} the mechanism away"
        )
    if kafka.sasl_token_file:
        yield from _unreadable(kafka.sasl_token_file)
    if "SSL" in protocol.split("_"):
        yield from _tls_files("kafka", kafka)
    elif _is_of_tls(kafka):
        yield f"kafka.ssl_… settings need kafka.security_protocol SSL or SASL_SSL, not {protocol!r}"


def _logging_in(kafka: Kafka) -> Iterator[str]:
    is_oauth = kafka.sasl_mechanism == "OAUTHBEARER"
    for key in ("sasl_token_file",) if is_oauth else ("sasl_username", "sasl_password"):
        if not getattr(kafka, key):
            yield f"kafka.security_protocol = {kafka.security_protocol!r} needs kafka.{key}; give it"
    if is_oauth and (kafka.sasl_username or kafka.sasl_password):
        yield (
            "kafka.sasl_username and kafka.sasl_password are not used with kafka.sasl_mechanism = "
            "'OAUTHBEARER': the token names the user; take them away"
        )
    if kafka.sasl_token_file and not is_oauth:
        yield "kafka.sasl_token_file is of kafka.sasl_mechanism = 'OAUTHBEARER' alone; take it away"


def _unreadable(file: str) -> Iterator[str]:
    try:
        text = read_secret(file)
    except (OSError, UnicodeDecodeError) as error:
        yield f"kafka.sasl_token_file = {file!r}: cannot be read ({_why(error)}); give a file that can"
    else:
        if not text:
            yield f"kafka.sasl_token_file = {file!r}: is empty; have the token written there first"


def _redis_security(redis: Redis) -> Iterator[str]:
    is_tls, in_url = redis.url.startswith("rediss://"), "ssl_" in redis.url.partition("?")[2]
    if not _is_of_tls(redis):
        return
    if not is_tls:
        yield "redis.ssl_… settings are of TLS: begin redis.url with rediss://, or take them away"
    elif in_url:
        yield "redis.url has ssl_… behind its `?`, and redis.ssl_… settings are given; keep one of them"
    else:
        yield from _tls_files("redis", redis)


_TLS_FILES = ("ssl_cafile", "ssl_certfile", "ssl_keyfile")


def _given_files(section: Kafka | Redis) -> list[str]:
    return [key for key in _TLS_FILES if getattr(section, key)]


def _is_of_tls(section: Kafka | Redis) -> bool:
    """Return whether something is set that without TLS would do nothing."""
    return bool(_given_files(section)) or not section.ssl_check_hostname


def _tls_files(name: str, section: Kafka | Redis) -> Iterator[str]:
    """Yield what is wrong with the files of a section's certificates."""
    files = {key: getattr(section, key) for key in _given_files(section)}
    lacking = [key for key, file in files.items() if not Path(file).is_file()]
    for key in lacking:
        yield f"{name}.{key} = {files[key]!r}: there is no such file; give an existing PEM file"
    if bool(section.ssl_certfile) != bool(section.ssl_keyfile):
        yield f"{name}.ssl_certfile and {name}.ssl_keyfile belong together; give both or none"
    elif not lacking:
        for key, why in tls_faults(*(files.get(key) for key in _TLS_FILES)):
            yield f"{name}.ssl_{key} = {files.get(f'ssl_{key}')!r}: {why}"


def _is_setting(path: tuple[str, ...]) -> bool:
    section, key = path[0], path[-1]
    if section in SECTIONS:
        return len(path) == 2 and key in _keys(SECTIONS[section])  # noqa: PLR2004 - section and key
    if section == "sources":
        return path[2:3] == ("defaults",) or key in _keys(Source)
    return section == "decks" and key in _keys(Profile)


def _shown(key: str, value: Any) -> str:
    text = repr(redacted(key, value))
    return text if len(text) <= _SHOWN_MAX else text[:_SHOWN_MAX] + "…"


_SHOWN_MAX = 200  # a line on a screen


def _keys(struct: type[Struct]) -> tuple[str, ...]:
    return struct.__struct_fields__


def _kinds(struct: type[Struct]) -> dict[str, Any]:
    return get_type_hints(struct, include_extras=True)


def _nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    close = difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else f"known are {', '.join(known)}"


def _expected(kind: Any) -> str:
    """Return what a setting must be: its type and range in words, and what it means."""
    whole, info = msgspec.inspect.type_info(kind), _plain_type(kind)
    meaning = ""
    if isinstance(whole, msgspec.inspect.Metadata):
        meaning = (whole.extra_json_schema or {}).get("description", "")
    words = _WORDS.get(type(info))
    if words is None:  # text: the meaning says what it looks like
        return f"give {meaning or 'text'}"
    return f"give {words(info)}" + (f" ({meaning})" if meaning else "")


def _plain_type(kind: Any) -> msgspec.inspect.Type:
    info = msgspec.inspect.type_info(kind)
    return info.type if isinstance(info, msgspec.inspect.Metadata) else info


def _range(info: Any) -> str:
    return f" from {info.ge} to {info.le}" if info.ge is not None else ""


_WORDS: dict[type[Any], Callable[[Any], str]] = {
    msgspec.inspect.IntType: lambda info: f"a whole number{_range(info)}",
    msgspec.inspect.FloatType: lambda info: f"a number{_range(info)}",
    msgspec.inspect.BoolType: lambda _: "true or false",
    msgspec.inspect.LiteralType: lambda info: "one of " + ", ".join(str(value) for value in info.values),
    msgspec.inspect.DictType: lambda _: "a table",
    msgspec.inspect.VarTupleType: lambda info: (
        f"a list of whole numbers{_range(info.item_type)}"
        if isinstance(info.item_type, msgspec.inspect.IntType)
        else "a list of texts"
    ),
}


def _why(error: Exception) -> str:
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return "not UTF-8"
