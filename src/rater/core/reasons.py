"""Closed lists of reasons: why a side was rejected, why a limit was passed over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Literal

import msgspec

Side = Literal["orig", "term"]

# Bound of `Rejection.value`: it becomes a Kafka header and a line on a screen; the original bytes are kept
# anyway.
VALUE_CHARS_MAX = 200


class Reason(StrEnum):
    """Why a side was rejected, in order of precedence: the first that holds is given.

    Source: CONTRACTS.md, "Reject reasons"; the list is closed.
    """

    MALFORMED = "malformed"
    TOO_LARGE = "too_large"  # looked at before parsing, so it wins over malformed in practice
    MISSING_FIELD = "missing_field"
    BAD_TIME = "bad_time"
    TIME_IN_FUTURE = "time_in_future"
    TOO_OLD = "too_old"
    BAD_DURATION = "bad_duration"
    NUMBER_INVALID = "number_invalid"
    SERVICE_UNKNOWN = "service_unknown"
    CLIENT_UNKNOWN = "client_unknown"
    ACCOUNT_UNKNOWN = "account_unknown"
    ACCOUNT_MISMATCH = "account_mismatch"
    RATE_MISSING = "rate_missing"
    CURRENCY_UNKNOWN = "currency_unknown"
    AMOUNT_OUT_OF_RANGE = "amount_out_of_range"
    DUPLICATE_DIFFERS = "duplicate_differs"


class PassOver(StrEnum):
    """Why a limit of the client was not drawn (explain). Source: CONTRACTS.md; the list is closed."""

    NOT_ACTIVE = "not_active"
    OTHER_ACCOUNT = "other_account"
    OTHER_SERVICE = "other_service"
    WRONG_TYPE = "wrong_type"
    CODE_MISMATCH = "code_mismatch"
    EXCLUDED = "excluded"
    USED_UP = "used_up"
    BALANCE_BELOW_ZERO = "balance_below_zero"
    FEE_NOT_COVERED = "fee_not_covered"
    SHORT_CALL = "short_call"
    LOWER_IN_ORDER = "lower_in_order"


class Rejection(msgspec.Struct, frozen=True):
    """One rejected side, or a whole record when no side could be read.

    `detail` is a sentence that names what, where and the remedy; `value` is the offending value as text,
    at most `VALUE_CHARS_MAX` characters; `side` is None when no side could be read.
    """

    reason: Reason
    detail: str
    value: str
    side: Side | None


def shown(value: object) -> str:
    """Return the value as text for `Rejection.value`: bounded, encodable as UTF-8, never raises."""
    if isinstance(value, str):
        text = value[:VALUE_CHARS_MAX]
    elif isinstance(value, bytes):
        text = value[:VALUE_CHARS_MAX].decode("utf-8", "backslashreplace")
    else:
        text = _repr(value)
    # A lone surrogate cannot be written to a Kafka header; escape it rather than lose it.
    return text.encode("utf-8", "backslashreplace").decode("utf-8")[:VALUE_CHARS_MAX]


def _repr(value: object) -> str:
    """Return the beginning of the value's repr.

    No more of it is looked at: a YAML of 1 KB may unfold to TB, and lists are nested deeper than the stack.
    """
    out: list[str] = []
    size = 0
    stack: list[Iterator[object]] = [iter((value,))]
    while stack and size < VALUE_CHARS_MAX:
        one = next(stack[-1], stack)
        if one is stack:
            stack.pop()
            continue
        if isinstance(one, list):
            stack.append(_inside("[", one, "]"))
        elif isinstance(one, dict):
            stack.append(_inside("{", map(_Pair, one.items()), "}"))
        elif isinstance(one, _Pair):
            stack.append(iter((one[0], _Piece(": "), one[1])))
        elif isinstance(one, tuple):
            stack.append(_inside("(", one, ")"))
        else:
            out.append(one if isinstance(one, _Piece) else _scalar(one))
            size += len(out[-1])
    return "".join(out)[:VALUE_CHARS_MAX]


class _Pair(tuple[object, object]):
    """A member of a dict."""

    __slots__ = ()


class _Piece(str):
    """Text that stands in a repr as it is."""

    __slots__ = ()


def _inside(begin: str, items: Iterable[object], end: str) -> Iterator[object]:
    yield _Piece(begin)
    for number, item in enumerate(items):
        if number:
            yield _Piece(", ")
        yield item
    yield _Piece(end)


def _scalar(value: object) -> str:
    if isinstance(value, str | bytes):
        value = value[:VALUE_CHARS_MAX]
    try:
        return repr(value)
    except (ValueError, RecursionError):  # an int of more than 4,300 digits, or other things nested too deep
        return f"<{type(value).__name__}>"
