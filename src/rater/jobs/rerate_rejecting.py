"""The rejected record of a call that cannot be rated any more: its bytes as they came, if they are there."""

from __future__ import annotations

import msgspec

from rater.core.cdr import CALLS, SIDES
from rater.core.commands.records import Command, RejectedAgain, RerateFirstArgs, client_args, read_command
from rater.core.instants import rfc3339
from rater.core.line.reading import header_of
from rater.core.reasons import Rejection
from rater.core.rerating.calls import PastSide, Sent
from rater.core.sources.csv_reading import COLUMNS
from rater.jobs.rerate_reading import SENT_BYTES_MAX, Sources
from rater.stream.browsing import record_at

REMEDY = (
    "it was rated before, and that is reversed: mend the cause and rate it again by `rater rerate`, for a "
    "repeat of the record is a duplicate"
)
PUT_TOGETHER = "; its record is gone by retention: this one is put together from the transaction"


async def rejected_again(at: Sources, call: PastSide, rejection: Rejection) -> RejectedAgain:
    """Return what is rejected of a call."""
    topic, partition, offset = call.place
    sent, key = await _sent(at, call)
    told = ""
    if sent is None or len(sent.value) > SENT_BYTES_MAX:
        sent, told = Sent(topic_of_ours(at, topic), _put_together(call)), PUT_TOGETHER
    return RejectedAgain(
        rejection.reason, f"{rejection.detail[:600]}; {REMEDY}{told}", rejection.value, SIDES[call.side],
        sent.topic, partition, offset, key, sent.value, sent.columns, call.trace,
    )  # fmt: skip


def topic_of_ours(at: Sources, topic: str) -> str:
    """Return the topic that a CDR of ours is said to be of: no source's map would read it."""
    return topic if topic in at.topics.data and topic not in at.maps else at.topics.cdrs


async def _sent(at: Sources, call: PastSide) -> tuple[Sent | None, bytes | None]:
    """Return a call's record as it came, with its key; None: it is there no more."""
    topic, partition, offset = call.place
    record = None if not topic else await record_at(at.client, topic, partition, offset)
    if record is None or record.value is None:
        return None, None
    if topic != at.topics.commands:
        return Sent(topic, record.value, header_of(record, COLUMNS)), record.key
    command = read_command(record.value)  # a first revision, which a job had made
    args = client_args(command) if isinstance(command, Command) else None
    if isinstance(args, RerateFirstArgs):
        return Sent(args.topic, args.value, args.columns), None
    return None, None


def _put_together(call: PastSide) -> bytes:
    """Return a CDR that says of a call what its transaction does."""
    used = "duration_ms" if call.service == CALLS else "volume"
    moment = "setup_at" if call.unanswered else "answered_at"
    side = {"client": call.client, **({} if call.account is None else {"account": call.account})}
    return msgspec.json.encode({
        "id": call.id, "source": call.source, "service": call.service, moment: rfc3339(call.at_ms),
        used: call.amount, "caller": call.caller, "called": call.called,
        SIDES[call.side]: side if call.given is None else {**side, "rate": call.given},
    })  # fmt: skip
