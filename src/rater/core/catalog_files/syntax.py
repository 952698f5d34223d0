"""Bytes of catalog files become values: YAML, JSON, CSV; what cannot be read is a fault."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import yaml

from rater.core.catalog_files.fields import Source, nearest
from rater.core.file_forms import HEAD_BYTES, SEPARATORS, foreign, separator

REMEDY = "write CSV with commas, or read a carrier's deck by `rater decks import FILE --table NAME`"

_PLAIN = re.compile(r"-?(0|[1-9][0-9]*)")


class Written:
    """A number that may be read as another than is written; no field takes it, and faults show it as written.

    0.10 would lose a digit; YAML 1.1 takes 010 for 8, 1_0 for 10 and 1:30 for 90.
    """

    def __init__(self, text: str) -> None:
        """Keep the text."""
        self.text = text

    def __repr__(self) -> str:
        return self.text


class _Yaml(yaml.CSafeLoader):
    """YAML whose timestamps stay text, and that notes names which come twice."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(raw)
        self.twice: list[tuple[str, int]] = []

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002
        """Note the names that come twice; of which PyYAML takes the last one, silently."""
        names = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode):
                if key.value in names and key.value != "<<":
                    self.twice.append((key.value, key.start_mark.line + 1))
                names.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _text(loader: _Yaml, node: yaml.ScalarNode) -> Any:
    return loader.construct_scalar(node)


def _written(loader: _Yaml, node: yaml.ScalarNode) -> Any:
    return Written(str(loader.construct_scalar(node)))


def _int(loader: _Yaml, node: yaml.ScalarNode) -> Any:
    text = str(loader.construct_scalar(node))
    return int(text) if _PLAIN.fullmatch(text) else Written(text)


def _bool(loader: _Yaml, node: yaml.ScalarNode) -> Any:
    text = str(loader.construct_scalar(node))
    return loader.bool_values.get(text.lower(), Written(text))  # `!!bool x` is a KeyError to PyYAML


_Yaml.add_constructor("tag:yaml.org,2002:timestamp", _text)
_Yaml.add_constructor("tag:yaml.org,2002:float", _written)
_Yaml.add_constructor("tag:yaml.org,2002:int", _int)
_Yaml.add_constructor("tag:yaml.org,2002:bool", _bool)
# YAML 1.1 takes 0380 for a text, as 8 is no octal digit; without quotes it is no more a code than 0370.
_Yaml.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"0[0-9]+\Z"), ["0"])


def parse(source: Source, raw: bytes) -> Any:
    """Return what YAML or JSON bytes hold; None when they hold nothing, or when a fault was noted."""
    is_json = source.name.lower().endswith(".json")
    if is_json or raw.lstrip()[:1] == b"{":
        try:
            return _json(source, raw)
        except (ValueError, RecursionError) as error:
            if is_json:  # else it may be YAML that begins like JSON
                source.fault("", None, f"not JSON: {error}; correct it there")
                return None
    return _yaml(source, raw)


def _yaml(source: Source, raw: bytes) -> Any:
    try:
        loader = _Yaml(raw)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = "" if mark is None else f"line {mark.line + 1}, column {mark.column + 1}"
        problem = " ".join(str(getattr(error, "problem", None) or error).split())
        source.fault(place, None, f"not YAML: {problem}; correct it there")
        return None
    for name, line in loader.twice:
        source.fault(f"line {line}", name, "stands there twice; leave one out")
    if value is None:
        source.fault("", None, "the file is empty; write sections such as clients")
    return value


def _json(source: Source, raw: bytes) -> Any:
    twice: list[tuple[dict[str, Any], list[str]]] = []

    def noted(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) < len(pairs):
            times = Counter(name for name, _ in pairs)
            twice.append((value, sorted(name for name, count in times.items() if count > 1)))
        return value

    value = json.loads(
        raw.removeprefix(b"\xef\xbb\xbf"),
        object_pairs_hook=noted,
        parse_float=Written,
        parse_constant=Written,
    )
    if twice:
        paths = {id(of): path for path, of in _objects("", value)}
        for of, names in twice:
            for name in names:
                path = ".".join(filter(None, (paths.get(id(of), ""), name)))
                source.fault(path, of[name], "stands there twice; leave one out")
    return value


def _objects(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield every object inside a value, with its path."""
    if isinstance(value, dict):
        yield path, value
        for name, of in value.items():
            yield from _objects(f"{path}.{name}" if path else name, of)
    elif isinstance(value, list):
        for position, of in enumerate(value):
            yield from _objects(f"{path}[{position}]", of)


def csv_header(raw: bytes) -> set[str]:
    """Return the names of a CSV's columns, as far as they can be read."""
    beginning = io.StringIO(raw[:65_536].decode("utf-8-sig", "replace"), newline="")
    return {name.strip() for name in next(csv.reader(beginning), [])}


def csv_rows(
    source: Source, raw: bytes, known: frozenset[str], required: tuple[str, ...] = ()
) -> list[tuple[str, dict[str, str]]]:
    """Return the rows of a CSV, each with its line as the path; empty cells are left out.

    A column that is not known or not there is one fault, not one for each row.
    """
    if (is_told := foreign(raw[:HEAD_BYTES])) is not None:
        source.fault("", "", f"is {is_told}, not CSV in UTF-8; {REMEDY}")
        return []
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        value = f"0x{raw[error.start]:02X}"
        problem = f"not UTF-8 ({value}; is it Windows-1252?); save the file as UTF-8. {REMEDY}"
        source.fault(f"byte {error.start}", None, problem)
        return []
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    out: list[tuple[str, dict[str, str]]] = []
    try:
        header = [name.strip() for name in next(reader, [])]
        if not _columns_good(source, header, known, required):
            return []
        width = len(header)
        for cells in reader:
            if len(cells) == width:
                row = {name: cell for name, cell in zip(header, cells, strict=True) if cell}
                out.append((f"line {reader.line_num}", row))
            elif cells:
                problem = f"has {len(cells)} cells, the header has {width}; write as many, and quote commas"
                source.fault(f"line {reader.line_num}", ",".join(cells), problem)
    except csv.Error as error:
        source.fault(f"line {reader.line_num}", None, f"not CSV: {error}; correct it there")
        return []
    return out


def _columns_good(
    source: Source, header: list[str], known: frozenset[str], required: tuple[str, ...]
) -> bool:
    before = len(source.faults)
    mark = separator([",".join(header)]) if len(header) <= 1 or known.isdisjoint(header) else None
    if mark is not None:
        source.fault("line 1", ",".join(header), f"its cells are separated by {SEPARATORS[mark]}; {REMEDY}")
        return False
    for position, name in enumerate(header):
        if name in header[:position]:
            source.fault("line 1", name, "a column that stands there twice; leave one out")
        elif known and name not in known:
            hint = nearest(name, known) or "; leave it out"
            source.fault("line 1", name, f"unknown column{hint}")
    for name in required:
        if name not in header:
            source.fault("line 1", ",".join(header), f"lacks the column `{name}`; add it")
    return len(source.faults) == before
