"""Commands and events: what `rater.commands` and `rater.events` carry (contracts.md, Command, Events).

A catalog load is a set of commands written in one Kafka transaction: a *manifest* in every partition that
names the new version and where its body lies, and *chunks* of clients and of the account index, each for one
bucket, in the partition of that bucket. The body and the content it lists are written before, by a Kafka
transaction of their own: whatever dies in between has changed nothing, because nothing names them yet.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

import msgspec

from rater.core.catalog import ClientEntry

CHUNK_CLIENTS_MAX = 400
"""Clients of one chunk: one script call writes them all, about 2 ms of the server's time."""


class Do(StrEnum):
    """What a command asks for (closed list of contracts.md; those that this stage does)."""

    LOAD_CATALOG = "load_catalog"
    TICK = "tick"


class Command(msgspec.Struct, omit_defaults=False):
    """One command. `at` is the now of all that it decides (RFC 3339)."""

    id: str
    do: str
    at: datetime
    key: str = ""
    actor: str = ""
    reason: str = ""
    client: str | None = None
    client_package: str | None = None
    expect_version: int | None = None
    args: msgspec.Raw = msgspec.Raw(b"{}")


class ManifestArgs(msgspec.Struct, tag="manifest", tag_field="part", forbid_unknown_fields=True):
    """Adopt catalog `version`, whose body is the content record at `offset` of partition 0."""

    version: int
    offset: int
    chunks: int = 0
    """How many chunks the whole load has, for those who wait for it."""


class ClientsArgs(msgspec.Struct, tag="clients", tag_field="part"):
    """Bring these clients, all of one bucket, to what the load says. Needs catalog `version`."""

    version: int
    bucket: int
    entries: list[ClientEntry]


class AccountsArgs(msgspec.Struct, tag="accounts", tag_field="part"):
    """Add to the account index of one bucket: (account, client)."""

    version: int
    bucket: int
    entries: list[tuple[str, str]]


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
        return _command.decode(raw)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        return f"not a command: {error}"


def load_args(command: Command) -> LoadArgs | str:
    """Return the arguments of a `load_catalog`, or a sentence that tells what is wrong with them."""
    try:
        return _load_args.decode(command.args)
    except (msgspec.MsgspecError, RecursionError) as error:
        return f"args of load_catalog: {error}"


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
    """What happened (contracts.md, Events). The id is deterministic: a replay writes the same one."""

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


def write_event(event: Event) -> bytes:
    """Return an event's JSON."""
    return _encoder.encode(event)


def instant(at_ms: int) -> datetime:
    """Return the instant of milliseconds since the epoch (exact: no float is used)."""
    seconds, milliseconds = divmod(at_ms, 1000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=milliseconds * 1000)


def milliseconds(at: datetime) -> int:
    """Return the milliseconds since the epoch of an aware instant (rounded down, exact)."""
    delta = at - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1000 + delta.microseconds // 1000


def rfc3339(at_ms: int) -> str:
    """Return an instant as the records write it: UTC with milliseconds and a Z."""
    return instant(at_ms).strftime("%Y-%m-%dT%H:%M:%S.") + f"{at_ms % 1000:03d}Z"


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
