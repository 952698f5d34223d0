"""Texts as JSON writes them."""

from __future__ import annotations

import msgspec

_encoder = msgspec.json.Encoder()


def quote(text: str) -> bytes:
    """Return the JSON string of a text, quotes included."""
    return _encoder.encode(text)


def quoted(text: str) -> str:
    """Return the JSON string of a text as text."""
    return _encoder.encode(text).decode()
