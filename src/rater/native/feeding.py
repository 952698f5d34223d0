"""What the native engine is given at its start and with each catalog: bytes, and what only Python knows."""

from __future__ import annotations

from functools import lru_cache

from rater.core.catalog.specs import Content, objects
from rater.core.naming import name_key
from rater.core.notices import NOTICES, Notices
from rater.core.number_text import replaced
from rater.core.zones import installed
from rater.native import engine


@lru_cache(maxsize=1)
def characters() -> dict[str, str]:
    """Return what characters of numbers are read as, by the Unicode that this Python has."""
    return replaced()


def new_cache() -> engine.Cache:
    """Return an empty cache of views, for the lanes of a process."""
    return engine.Cache(characters())


def load(content: Content, version: int, notices: Notices = NOTICES) -> engine.Catalog:
    """Return the catalog ready for native rating; ValueError: it holds what the engine does not read."""
    limits = [limit for of in content.packages.values() for _, spec in of.versions for limit in spec.limits]
    named = {limit.code_name for limit in limits if limit.code_name is not None}
    decks = {limit.code_deck or "" for limit in limits if limit.code_name is not None}
    for deck in decks & content.decks.keys():
        named.update(content.decks[deck].codes.values())
    keys = {name: name_key(name) for name in named}
    return engine.Catalog(objects(content), version, list(notices.limit_percents), keys, installed().rules)
