"""The catalog in force becomes rows: packages as lists show them, and the inventory of DIDs."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import msgspec

from rater.core.catalog.specs import Content, PackageHistory, fee_sum
from rater.readmodel.standings import order_key, text_key

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def package_rows(content: Content) -> list[tuple[Any, ...]]:
    """Return a row for each package that was not deleted."""
    return [_package_row(history) for history in content.packages.values() if not history.deleted]


def _package_row(history: PackageHistory) -> tuple[Any, ...]:
    spec = history.latest
    tags = dict.fromkeys(tag for row in spec.did_limits for tag in row.allowed_tags)
    return (
        spec.id, order_key(spec.id), history.status, spec.name, text_key(spec.name), spec.type,
        spec.currency, fee_sum(spec, "activation"), fee_sum(spec, "subscription"), spec.period, spec.reseller,
        spec.dynamic_tag, tags_text(tags), blake2b(_encode(history), digest_size=8).hexdigest(),
    )  # fmt: skip


def did_rows(content: Content) -> list[tuple[str, str]]:
    """Return a row for each number."""
    return [(number, tags_text(spec.tags)) for number, spec in content.dids.items()]


def tags_text(tags: Any) -> str:
    """Return tags as a row has them, each between line breaks, which are in none."""
    return "".join(f"\n{tag}" for tag in tags) + "\n" if tags else ""


def tags_of(text: str) -> tuple[str, ...]:
    """Return the tags of a row."""
    return tuple(text.strip("\n").split("\n")) if text else ()
