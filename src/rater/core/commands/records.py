"""Commands and events: what `rater.commands` and `rater.events` carry (CONTRACTS.md, Command, Events).

A catalog load is a set of commands written in one Kafka transaction: a *manifest* in every partition that
names the new version and where its body lies, and *chunks* of clients and of the account index, each for one
bucket, in the partition of that bucket. The body and the content it lists are written before, by a Kafka
transaction of their own: whatever dies in between has changed nothing, because nothing names them yet.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rater.core.catalog.specs import ClientEntry
from rater.core.instants import instant, milliseconds
from rater.core.json_text import UNREADABLE
from rater.core.kinds import Do
from rater.core.reasons import shown
from rater.core.sources.values import TIME_MS_MAX

CHUNK_CLIENTS_MAX = 400
"""Clients of one chunk: one script call writes them all, about 2 ms of the server's time."""


_Name = Annotated[str, Meta(min_length=1, max_length=200)]
_Text = Annotated[str, Meta(max_length=1000)]
_Version = Annotated[int, Meta(ge=1, lt=2**53)]
_Whole = Annotated[int, Meta(ge=0, lt=2**53)]


class Command(msgspec.Struct, omit_defaults=False):
    """One command. `at` is the now of all that it decides (RFC 3339).

    Its texts come back in events, so they are bounded.
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
    """Add to the account index of one bucket: (account, client)."""

    version: _Version
    bucket: _Whole
    entries: list[tuple[_Name, _Name]]


LoadArgs = ManifestArgs | ClientsArgs | AccountsArgs

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
    if raw is None or b'"load_catalog"' not in raw[:400]:
        return None
    command = read_command(raw)
    args = load_args(command) if isinstance(command, Command) and command.do == Do.LOAD_CATALOG else None
    return args if isinstance(args, ManifestArgs) else None


def write_command(
    command_id: str, do: Do, at_ms: int, args: LoadArgs | dict[str, Any], *, actor: str = "", reason: str = ""
) -> bytes:
    """Return a command's JSON."""
    return _encoder.encode(
        Command(
            id=command_id, key=command_id, do=do, at=instant(at_ms), actor=actor, reason=reason,
            args=msgspec.Raw(_encoder.encode(args)),
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
