"""Texts as JSON writes them, and what reading of bytes may raise."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

UNREADABLE = (msgspec.MsgspecError, ValueError, RecursionError)
"""What msgspec raises on bytes: its own, UnicodeDecodeError (a ValueError), RecursionError on deep lists."""

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
