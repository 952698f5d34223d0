"""Commands and events: what `rater.commands` and `rater.events` carry (CONTRACTS.md, Command, Events).

A catalog load is a set of commands written in one Kafka transaction: a *manifest* in every partition that
names the new version and where its body lies, and *chunks* of clients and of the account index, each for one
bucket, in the partition of that bucket. The body and the content it lists are written before, by a Kafka
transaction of their own: whatever dies in between has changed nothing, because nothing names them yet.
A load that edits packages alone has a `do` of its own (`LOADS`), so that the audit log tells what was meant.

All other commands are of one client, or ticks; what their arguments have to be is read by `client_args`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rater.core.amounts import QUANTITY_MAX, parse_micros
from rater.core.bucket.messages import CounterChange
from rater.core.catalog.specs import ClientEntry
from rater.core.catalog_files.fields import (
    CODE,
    CODE_PROBLEM,
    TEXT_CHARS_MAX,
    is_over,
    plain,
)
from rater.core.instants import instant, milliseconds
from rater.core.json_text import UNREADABLE
from rater.core.kinds import Do
from rater.core.periods import canonical_when
from rater.core.reasons import Reason, shown
from rater.core.sources.values import TIME_MS_MAX

CHUNK_CLIENTS_MAX = 200
"""Clients of one chunk: one script call writes them all, about 1 ms of the server's time."""
CHUNK_ACCOUNTS_MAX = 5000
TICK_CLIENTS_MAX = 100
"""Clients of one tick: some 10 ms of a lane's time."""

LOADS = frozenset({Do.LOAD_CATALOG, Do.PUT_PACKAGE, Do.SET_PACKAGE_STATUS, Do.DELETE_PACKAGE, Do.PUT_CLIENT})
"""Commands that are parts of a catalog load."""

_Name = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX)]
_IndexName = Annotated[str, Meta(min_length=1, max_length=TEXT_CHARS_MAX + 1)]
"""Of an account, or of a client package (`client_package_name`)."""
_Text = Annotated[str, Meta(max_length=1000)]
_Version = Annotated[int, Meta(ge=1, lt=2**53)]
_Whole = Annotated[int, Meta(ge=0, lt=2**53)]


class Command(msgspec.Struct, omit_defaults=False):
    """One command. `at` is the now of all that it decides (RFC 3339).

    Its texts come back in events, so they are bounded. dry_run: its result tells what it would do, and
    nothing is done.
    """

    id: _Name
    do: Annotated[str, Meta(max_length=64)]
    at: Annotated[datetime, Meta(tz=True)]
    key: _Text = ""
    actor: _Text = ""
    reason: _Text = ""
    client: _Name | None = None
    client_package: _Name | None = None
    expect_version: int | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")
    dry_run: bool = False


class ManifestArgs(msgspec.Struct, tag="manifest", tag_field="part", forbid_unknown_fields=True):
    """Adopt catalog `version`, whose body is the content record at `offset` of partition 0."""

    version: _Version
    offset: _Whole
    chunks: _Whole = 0
    """How many chunks the whole load has, for those who wait for it."""


class ClientsArgs(msgspec.Struct, tag="clients", tag_field="part"):
    """Bring these clients, all of one bucket, to what the load says. Needs catalog `version`."""

    version: _Version
    bucket: _Whole
    entries: list[ClientEntry]


class AccountsArgs(msgspec.Struct, tag="accounts", tag_field="part"):
    """Add to the account index of one bucket: (account, client), and client packages by their name there."""

    version: _Version
    bucket: _Whole
    entries: list[tuple[_IndexName, _Name]]


LoadArgs = ManifestArgs | ClientsArgs | AccountsArgs


class AdjustArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Add to the client's balance: a decimal in its currency, negative to take away."""

    amount: _Name

    @property
    def micros(self) -> int:
        """The amount in micros; it was checked when the arguments were read."""
        return parse_micros(self.amount)


class AssignArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Assign a package to a client, or to one of its accounts. Dates are as `canonical_when` spells them.

    id: of the client package; without it the client's next one.
    """

    package: _Name
    account: _Name | None = None
    start_date: str | None = None
    end_date: str | None = None
    quantity: Annotated[int, Meta(ge=1, le=QUANTITY_MAX)] = 1
    activate_in_past: bool = False
    id: _Name | None = None


class EndDateArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Set a client package's end date, as `canonical_when` spells it; None: it has none any more."""

    end_date: str | None


class NoArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Of a command that is all said by its client package."""


class DidAssignArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Give a DID to an account of the client."""

    number: _Name
    account: _Name


class DidReleaseArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Take a DID from the client."""

    number: _Name


class TickArgs(msgspec.Struct, forbid_unknown_fields=True):
    """Do what is due: of these clients of a bucket, or (both None) of all of the lane's buckets.

    until_ms: up to when, where the lane itself asks for it; else `at` and the record's time say it. done: id
    of the command that this is the last part of.
    """

    bucket: _Whole | None = None
    clients: Annotated[list[_Name], Meta(max_length=TICK_CLIENTS_MAX)] | None = None
    until_ms: _Whole | None = None
    done: _Name | None = None


class RerateBeginArgs(msgspec.Struct, tag="begin", tag_field="part", forbid_unknown_fields=True):
    """Let a job rate calls of the client again; no other may until it is done. from_ms, to_ms: of calls."""

    job: _Name
    from_ms: int
    to_ms: int


class RejectedAgain(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A side that cannot be rated any more. value: its record, or a CDR in place of that; headers: of it.

    key, value: base64.
    """

    reason: Reason
    detail: _Text
    shown: _Text
    side: Literal["orig", "term"]
    topic: _Text
    partition: _Whole
    offset: _Whole
    key: bytes | None
    value: bytes
    columns: bytes | None = None


class RerateSwapArgs(
    msgspec.Struct, tag="swap", tag_field="part", forbid_unknown_fields=True, omit_defaults=True
):
    """Put what was published of calls right: reversals, successors, and the sides that are rejected now.

    It was worked out for the client's `version` and this catalog, and holds while balance (micros) and
    counters lie in these intervals.
    """

    job: _Name
    version: _Version
    catalog: _Version
    least: int
    most: int
    counters: list[CounterChange]
    transactions: list[str]
    rejected: list[RejectedAgain] = []


class RerateFirstArgs(
    msgspec.Struct, tag="first", tag_field="part", forbid_unknown_fields=True, omit_defaults=True
):
    """Rate a side that was rejected, whatever its age. topic: of its source; value, columns: base64."""

    job: _Name
    topic: _Name
    side: Literal["orig", "term"]
    value: bytes
    columns: bytes | None = None


class RerateEndArgs(msgspec.Struct, tag="end", tag_field="part", forbid_unknown_fields=True):
    """The job is done with the client, or (done False) it was given up. calls, changed: how many."""

    job: _Name
    done: bool
    calls: _Whole = 0
    changed: _Whole = 0


RerateArgs = RerateBeginArgs | RerateSwapArgs | RerateFirstArgs | RerateEndArgs
RERATE_ARGS = (RerateBeginArgs, RerateSwapArgs, RerateFirstArgs, RerateEndArgs)

ClientArgs = (
    AdjustArgs | AssignArgs | EndDateArgs | NoArgs | DidAssignArgs | DidReleaseArgs | TickArgs | RerateArgs
)

ARGS: dict[str, Any] = {
    Do.ADJUST: AdjustArgs, Do.ASSIGN: AssignArgs, Do.EDIT_END_DATE: EndDateArgs, Do.STOP_NOW: NoArgs,
    Do.STOP_AT_PERIOD_END: NoArgs, Do.CANCEL: NoArgs, Do.REMOVE: NoArgs, Do.INVOICE_PENDING_CHARGE: NoArgs,
    Do.DID_ASSIGN: DidAssignArgs, Do.DID_RELEASE: DidReleaseArgs, Do.TICK: TickArgs,
    Do.RERATE: RerateArgs,
}  # fmt: skip
"""`do` → its arguments, of commands that are no parts of loads."""

ON_CLIENT_PACKAGE = frozenset({
    Do.EDIT_END_DATE, Do.STOP_NOW, Do.STOP_AT_PERIOD_END, Do.CANCEL, Do.REMOVE, Do.INVOICE_PENDING_CHARGE,
})  # fmt: skip
"""Commands that need a client package."""

_command = msgspec.json.Decoder(Command)
_load_args: msgspec.json.Decoder[LoadArgs] = msgspec.json.Decoder(LoadArgs)
_encoder = msgspec.json.Encoder()


class ObjectPlace(msgspec.Struct, array_like=True):
    """Where one object of the catalog's content lies: its pieces are content records of partition 0."""

    name: str
    digest: bytes
    offsets: list[int]


class ManifestBody(msgspec.Struct, array_like=True):
    """The objects that make up one version of the catalog."""

    version: int
    at_ms: int
    objects: list[ObjectPlace]


def read_command(raw: bytes | None) -> Command | str:
    """Return the command in a record's value, or a sentence that tells what is wrong with it."""
    if raw is None:
        return "an empty record is no command"
    try:
        command = _command.decode(raw)
    except UNREADABLE as error:
        return f"not a command: {shown(str(error))}"
    if not 0 <= milliseconds(command.at) <= TIME_MS_MAX:
        return f"not a command: `at` is {command.at}; the years 1970 to 9999 are taken"
    return command


def load_args(command: Command) -> LoadArgs | str:
    """Return the arguments of a `load_catalog`, or a sentence that tells what is wrong with them."""
    try:
        return _load_args.decode(command.args)
    except UNREADABLE as error:
        return f"args of load_catalog: {shown(str(error))}"


def manifest_of(raw: bytes | None) -> ManifestArgs | None:
    """Return the manifest in a record's value, None when it holds something else."""
    if raw is None or not _LOAD.search(raw, 0, 400):
        return None
    command = read_command(raw)
    args = load_args(command) if isinstance(command, Command) and command.do in LOADS else None
    return args if isinstance(args, ManifestArgs) else None


_LOAD = re.compile(b"|".join(f'"{do.value}"'.encode() for do in sorted(LOADS)))


def client_args(command: Command) -> ClientArgs | str:
    """Return the arguments of a command that is no part of a load, or why it cannot be one, as a sentence.

    Of the command itself, what it is about and its key are looked at too; whether there is such a client is
    not known here. Dates come back in their one spelling.
    """
    form = ARGS.get(command.do)
    if form is None:
        return f"this version does not know the command {shown(command.do)!r}"
    problem = None if form is TickArgs else _subject_fault(command) or key_fault(key_of(command))
    if problem is not None:
        return f"{command.do}: {problem}"
    try:
        args: ClientArgs = msgspec.json.decode(command.args, type=form)
        return _checked(args)
    except UNREADABLE as error:
        return f"args of {command.do}: {shown(str(error))}"


def key_of(command: Command) -> str:
    """Return what a command is known by when it comes again: its key, without one its id."""
    return command.key or command.id


def key_fault(key: str) -> str | None:
    """Return what is wrong with the key of a client's command, as a sentence: it is part of ids."""
    if not key or len(key) > TEXT_CHARS_MAX or "/" in key or not plain(key):
        return (
            f"key '{shown(key)}': write 1 to {TEXT_CHARS_MAX} characters without `/` and control characters"
        )
    return f"key {key!r}: opening balances have this one; write another" if key == OPENING else None


OPENING = "opening"
"""The key of an opening balance."""


def _subject_fault(command: Command) -> str | None:
    if command.client is None:
        return "it names no client; give `client`"
    if (command.client_package is None) == (command.do in ON_CLIENT_PACKAGE):
        return (
            "it names no client package; give `client_package`"
            if command.client_package is None
            else "it is about a client, not about a client package; leave `client_package` out"
        )
    return None


def _checked(args: ClientArgs) -> ClientArgs:
    """Return arguments with their dates in the one spelling; ValueError with a sentence for what is none."""
    match args:
        case AdjustArgs() if args.micros == 0:
            raise ValueError("amount 0 changes nothing; write another")
        case AssignArgs():
            start, end = _when("start_date", args.start_date), _when("end_date", args.end_date)
            if start and end and is_over(start, end):
                raise ValueError(f"end_date {end} is not after start_date {start}; change one of them")
            if args.id is not None and ("/" in args.id or not plain(args.id)):
                raise ValueError(f"id {shown(args.id)!r} has `/` or control characters; write another")
            return msgspec.structs.replace(args, start_date=start, end_date=end)
        case DidAssignArgs() | DidReleaseArgs():
            number = args.number.removeprefix("+")
            if not CODE.fullmatch(number):
                raise ValueError(f"number {shown(args.number)!r}: {CODE_PROBLEM}")
            return msgspec.structs.replace(args, number=number)
        case EndDateArgs():
            return EndDateArgs(_when("end_date", args.end_date))
        case TickArgs() if (args.bucket is None) != (args.clients is None):
            raise ValueError("give both of bucket and clients, or neither")
    return args


def _when(field: str, text: str | None) -> str | None:
    try:
        return None if text is None else canonical_when(text)
    except ValueError as error:
        raise ValueError(f"{field} {shown(text)!r}: {error}") from None


def write_command(
    command_id: str, do: Do, at_ms: int, args: LoadArgs | ClientArgs | dict[str, Any], *, actor: str = "",
    reason: str = "", key: str | None = None, client: str | None = None, client_package: str | None = None,
    expect_version: int | None = None, dry_run: bool = False,
) -> bytes:  # fmt: skip
    """Return a command's JSON. key: without one its id."""
    return _encoder.encode(
        Command(
            id=command_id, key=command_id if key is None else key, do=do, at=instant(at_ms), actor=actor,
            reason=reason, client=client, client_package=client_package, expect_version=expect_version,
            args=msgspec.Raw(_encoder.encode(args)), dry_run=dry_run,
        )
    )  # fmt: skip


class Event(msgspec.Struct):
    """What happened (CONTRACTS.md, Events). The id is deterministic: a replay writes the same one."""

    id: str
    type: str
    at: str
    client: str | None = None
    account: str | None = None
    client_package: str | None = None
    package_name: str | None = None
    period: int | None = None
    cause: str | None = None
    actor: str | None = None
    before: Any = None
    after: Any = None
    data: Any = None


_event = msgspec.json.Decoder(Event)


def write_event(event: Event) -> bytes:
    """Return an event's JSON."""
    return _encoder.encode(event)


def read_event(raw: bytes) -> Event | None:
    """Return the event in a record's value; None: it is none of ours."""
    try:
        return _event.decode(raw)
    except UNREADABLE:
        return None
