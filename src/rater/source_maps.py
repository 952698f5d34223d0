"""Where source maps are found: by name among the shipped ones, or by path (CONTRACTS.md, Sources)."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources.abc import Traversable
from pathlib import Path

from rater.config import Source
from rater.core.cdr import MAPPED_BYTES
from rater.core.sources.source_map import MapFault, SourceMap, compile_map
from rater.shipped import config

SUFFIX = ".toml"


def shipped() -> dict[str, Traversable]:
    """Return the shipped maps by name: those of the installed package, or of the checkout it runs from."""
    folder = config() / "sources"
    if not folder.is_dir():
        return {}
    maps = {
        entry.name.removesuffix(SUFFIX): entry for entry in folder.iterdir() if entry.name.endswith(SUFFIX)
    }
    return dict(sorted(maps.items()))


def open_map(
    name: str, defaults: Mapping[str, object] | None = None, *, bytes_max: int = MAPPED_BYTES
) -> SourceMap | list[MapFault]:
    """Return the map of this name or path, compiled with a source's defaults, or what is wrong.

    name: of a shipped map; with a slash or `.toml` in it, the path of a file. bytes_max: of a record.
    """
    text = map_text(name)
    return [text] if isinstance(text, MapFault) else compile_map(text, name, defaults, bytes_max=bytes_max)


def open_source(name: str, source: Source, map_name: str) -> SourceMap | list[MapFault]:
    """Return the map that a source of the settings names, as the source has it, or what is wrong."""
    return open_map(map_name, {"source": name, **source.defaults}, bytes_max=source.record_bytes_max)


def open_maps(sources: Mapping[str, Source]) -> tuple[dict[str, SourceMap], list[str]]:
    """Return topic → map, of the settings' sources that name one; and a sentence for each fault."""
    maps: dict[str, SourceMap] = {}
    faults: list[str] = []
    for name, source in sources.items():
        if source.map is None:
            continue
        opened = open_source(name, source, source.map)
        if isinstance(opened, SourceMap):
            maps[source.topic] = opened
        else:
            faults += [f"sources.{name}: {fault}" for fault in opened]
    return maps, faults


def map_text(name: str) -> str | MapFault:
    """Return a map as it is written, or why there is none of this name or path."""
    if "/" in name or name.endswith(SUFFIX):
        found: Traversable = Path(name)
    else:
        maps = shipped()
        if name not in maps:
            near = get_close_matches(name, maps, 1) or [known for known in maps if name and name in known]
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(maps) or 'none'}"
            return MapFault(
                name, "(the map)", "", f"there is no shipped map of this name; {hint}; or give a file's path"
            )
        found = maps[name]
    try:
        return found.read_text(encoding="utf-8")
    except OSError as error:
        return MapFault(name, "(the map)", "", f"cannot be read ({error.strerror}); give an existing file")
    except UnicodeDecodeError:
        return MapFault(name, "(the map)", "", "is not UTF-8; save it as UTF-8")
    except ValueError as error:
        return MapFault(name, "(the map)", "", f"is no file's name ({error}); give an existing file")
