"""Texts as JSON writes them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

_encoder = msgspec.json.Encoder()


def quote(text: str) -> bytes:
    """Return the JSON string of a text, quotes included."""
    return _encoder.encode(text)


def members(of: Mapping[str, object]) -> str:
    """Return the members of an object as JSON writes them, in their order: an object without its braces."""
    return _encoder.encode(of)[1:-1].decode()


def quoted(text: str) -> str:
    """Return the JSON string of a text as text."""
    return _encoder.encode(text).decode()
