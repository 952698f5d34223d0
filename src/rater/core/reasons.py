"""Closed lists of reasons: why a side was rejected, why a limit was passed over."""

from __future__ import annotations

import reprlib
from enum import StrEnum
from itertools import islice
from typing import Any, Literal

import msgspec

from rater.core.visible_text import visible

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


MEANINGS: dict[Reason, str] = {
    Reason.MALFORMED: "It is no JSON object, or a type is wrong. Mend the switch, or the source's map.",
    Reason.TOO_LARGE: "It has more bytes than its source takes. Raise `record_bytes_max`, or send less.",
    Reason.MISSING_FIELD: "What every CDR needs is not there. Mend the switch, or the source's map.",
    Reason.BAD_TIME: "A time cannot be read. Send RFC 3339 with an offset, or mend the source's map.",
    Reason.TIME_IN_FUTURE: "It is more than an hour ahead of its record. Set the clock of the switch.",
    Reason.TOO_OLD: "The call is older than the duplicate window. Send it by `rater recycle --late`.",
    Reason.BAD_DURATION: "The duration or volume cannot be. Mend the switch, or the unit in its map.",
    Reason.NUMBER_INVALID: "The called number is not all digits. Have the source's map normalise it.",
    Reason.SERVICE_UNKNOWN: "The catalog lacks the service. Load it, or mend the source's map.",
    Reason.CLIENT_UNKNOWN: "There is no such client, or no rule holds. Load the client, or add a rule.",
    Reason.ACCOUNT_UNKNOWN: "There is no such account. Load it with its client.",
    Reason.ACCOUNT_MISMATCH: "The account is another client's. Mend the record or the identification rule.",
    Reason.RATE_MISSING: "No rate table, or no code of it, is for this number then. Load one.",
    Reason.CURRENCY_UNKNOWN: "A currency has no rate at the call's time. Load one that is dated before it.",
    Reason.AMOUNT_OUT_OF_RANGE: "It would cost more than can be counted. Mend the rate or the duration.",
    Reason.DUPLICATE_DIFFERS: "Its id was rated with other content. Give each call an id of its own.",
}
"""What each reason means, and what is done about it: `Rejection.detail` says it of the one record."""


class Rejection(msgspec.Struct, frozen=True):
    """One rejected side, or a whole record when no side could be read.

    `detail` is a sentence that names what, where and the remedy; `value` is the offending value as text,
    at most `VALUE_CHARS_MAX` characters; `side` is None when no side could be read.
    """

    reason: Reason
    detail: str
    value: str
    side: Side | None


class _Begin(reprlib.Repr):
    """Writes the begin of a value, about as Python does, and looks at no more of it.

    A YAML of 1 KB may unfold to TB, a list be nested deeper than the stack.
    """

    def repr_int(self, x: int, level: int) -> str:
        """Return an int's digits; of one with more than 4,300 Python writes none."""
        try:
            return super().repr_int(x, level)
        except ValueError:
            return "<int>"

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        """Return the first members; the library would sort all of them first."""
        return super().repr_dict(dict(islice(x.items(), self.maxdict + 1)), level)


_BEGIN = _Begin()
_BEGIN.maxlevel = 3
_BEGIN.maxlist = _BEGIN.maxtuple = _BEGIN.maxdict = 8
_BEGIN.maxstring = _BEGIN.maxlong = _BEGIN.maxother = VALUE_CHARS_MAX


def shown(value: object) -> str:
    """Return the value as text for `Rejection.value`: bounded, encodable as UTF-8, never raises.

    What cannot be seen is escaped: control characters, blanks but the usual one, what has no width.
    """
    if isinstance(value, str):
        text = value[:VALUE_CHARS_MAX]
    elif isinstance(value, bytes):
        text = value[:VALUE_CHARS_MAX].decode("utf-8", "backslashreplace")
    else:
        text = _BEGIN.repr(value)
    text = text[:VALUE_CHARS_MAX]
    # Half a character (a lone surrogate) cannot be written to a Kafka header, and is not printable either.
    return visible(text)[:VALUE_CHARS_MAX]
