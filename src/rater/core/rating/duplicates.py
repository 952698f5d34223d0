"""What a repeat of a side is found by, and what must be equal in it.

Source of the rules: RULES.md 2.3; CONTRACTS.md, Reject reasons.
"""

from __future__ import annotations

from hashlib import blake2b
from zlib import crc32

import msgspec

from rater.core.amounts import format_e10
from rater.core.cdr import CALLS, Cdr, GivenRate

KEY_BYTES = 8
"""Of the digest that a duplicate is found by: 10^9 calls in a window collide with a chance of 3 %."""

CONTENT_BYTES = 4
"""Of the checksum that tells a duplicate that differs."""

_blank = blake2b(digest_size=2 * KEY_BYTES)
"""A copy of it is had in two thirds of the time of a new one."""
_encode = msgspec.msgpack.Encoder().encode


def keys_of(cdr: Cdr, index: int, client_crc: int) -> tuple[bytes, bytes]:
    """Return what a repeat of a side (0 orig, 1 term) is found by: source, id and side, at a client.

    And the key of earlier versions, without the client, by which what they rated is found. The last four
    bytes of the first take the client's CRC-32 in; the others are those of the older one, which the store
    groups entries by, so both lie in one group.
    """
    digest = _blank.copy()
    digest.update(f"{cdr.source}/{cdr.id}".encode())  # `source` has no slash: the text is of one pair
    both = digest.digest()
    older = both[KEY_BYTES:] if index else both[:KEY_BYTES]
    return (int.from_bytes(older, "big") ^ client_crc).to_bytes(KEY_BYTES, "big"), older


def content_of(cdr: Cdr, client: str, account: str | None, given: GivenRate | None) -> bytes:
    """Return the checksum of what must be equal in a duplicate (CONTRACTS.md, Reject reasons)."""
    # Not against forgery: nothing is won by a repeat that passes as the same.
    found = crc32(_encode((client, account)))
    call = (
        cdr.service, cdr.called, cdr.setup_ms, cdr.answered_ms, cdr.ended_ms,
        cdr.duration_ms if cdr.service == CALLS else cdr.volume,
    )  # fmt: skip
    found = crc32(_encode(call), found)
    if given is not None:
        found = crc32(_by_value(given), found)
    return found.to_bytes(CONTENT_BYTES, "big")


def _by_value(given: GivenRate) -> bytes:
    """Return a given rate by value: "0.10" is "0.1". Prices as text, for msgpack's ints have 64 bits."""
    return _encode((
        given.code, given.code_name, given.currency, format_e10(given.price_e10),
        format_e10(given.setup_fee_e10), given.min_time, given.interval, given.grace_time,
    ))  # fmt: skip
