"""The tables of the read model, for SQLite and PostgreSQL alike.

Rows of topics are sorted by the broker's time and their place (`ms`, `part`, `place`: partition, offset).
Money is micros, instants are ms UTC.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    text,
)
from sqlalchemy.schema import SchemaItem

from rater.core.kinds import ClientPackageStatus, TransactionType

SCHEMA = 2
"""Grows with each change of the tables: one of another number is another database, beside this one."""

KINDS = tuple(TransactionType)
"""A transaction's type is kept as its place in here. New ones come at the end."""
USAGE, REVERSAL = KINDS.index(TransactionType.USAGE), KINDS.index(TransactionType.REVERSAL)
STATUSES = tuple(ClientPackageStatus)
"""The same of a client package's status."""

metadata = MetaData()
_Text = String().with_variant(String(collation="C"), "postgresql")
"""Texts are sorted by their characters' numbers, as SQLite does, and Python."""


def _text(name: str, *, null: bool = True, key: bool = False) -> Column[str]:
    return Column(name, _Text, nullable=null and not key, primary_key=key)


def _big(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null and not key, primary_key=key, autoincrement=False)


def _small(name: str, *, null: bool = False, key: bool = False) -> Column[int]:
    return Column(name, SmallInteger, nullable=null and not key, primary_key=key, autoincrement=False)


def _at() -> tuple[Column[int], Column[int], Column[int]]:
    return _big("ms", key=True), _small("part", key=True), _big("place", key=True)


def _table(name: str, *columns: SchemaItem) -> Table:
    return Table(name, metadata, *columns, sqlite_with_rowid=False)


about = _table("about", _text("name", key=True), _text("value"))
position = _table(
    "position", _text("topic", key=True), _small("part", key=True), _big("next"),
)  # fmt: skip
count = _table("count", _text("name", key=True), _big("number"))

segment = _table(
    "segment", Column("id", Integer, primary_key=True, autoincrement=False), _big("from_ms"), _big("rows")
)  # fmt: skip
"""Spans of time, of so many transactions each: what is written now falls into a small part of an index."""

txn = _table(
    "txn", *_at(),
    Column("segment", Integer, nullable=False),
    _text("client", null=False), _text("account"),
    _text("id", null=False), _big("id_key"), Column("revision", Integer, nullable=False),
    _small("kind"), _big("at_ms"), _text("client_package"), _text("called"),
    _text("what", null=False), _text("drawn", null=False), _big("billed", null=True),
    _big("amount"), _text("currency", null=False), _small("stands"),
)  # fmt: skip
_T = txn.c
NO_USAGE = _T.kind != text(str(USAGE))
txn_indexes = (
    Index("txn_client", _T.segment, _T.client, _T.ms, _T.part, _T.place),
    Index("txn_id", _T.segment, _T.id_key),
    Index(
        "txn_fee", _T.client, _T.ms, _T.part, _T.place, sqlite_where=NO_USAGE, postgresql_where=NO_USAGE
    ),
    Index(
        "txn_kind", _T.kind, _T.ms, _T.part, _T.place, sqlite_where=NO_USAGE, postgresql_where=NO_USAGE,
    ),
    Index(
        "txn_client_package", _T.client_package, _T.ms, _T.part, _T.place,
        sqlite_where=_T.client_package.is_not(None), postgresql_where=_T.client_package.is_not(None),
    ),
)  # fmt: skip

taken_back = _table(
    "taken_back", _text("client", key=True), _text("id", key=True),
    Column("revision", Integer, primary_key=True, autoincrement=False),
)  # fmt: skip
"""Reversals whose transactions were not read yet: these lie in another lane."""

client = _table(
    "client", _text("id", key=True), _text("key", null=False), _text("name", null=False),
    _text("name_key", null=False), _text("reseller"), _text("currency", null=False), _big("credit_limit"),
    Column("accounts", Integer, nullable=False), Column("client_packages", Integer, nullable=False),
    Column("pending", Integer, nullable=False), _big("version"), _small("part"), _big("place"),
)  # fmt: skip
client_indexes = (
    Index("client_key", client.c.key),
    Index("client_name", client.c.name_key, client.c.key),
    Index("client_reseller", client.c.reseller, client.c.key),
)
account = _table("account", _text("id", key=True), _text("client", null=False))
account_indexes = (Index("account_client", account.c.client),)

client_package = _table(
    "client_package", _text("id", key=True), _text("client", null=False), _text("client_key", null=False),
    Column("seat", Integer, nullable=False), _text("account"), _text("package", null=False),
    _small("status"), _text("state", null=False), _big("quantity"), _big("version"),
    _big("period", null=True), _big("period_start_ms", null=True), _big("period_stop_ms", null=True),
    _big("start_ms"), _big("end_ms", null=True), _big("renewal_ms", null=True), _big("turns_ms", null=True),
    _big("since_ms", null=True), Column("charge", LargeBinary, nullable=True),
    _small("part"), _big("place"),
)  # fmt: skip
"""seat: its place among the client's. turns_ms: when it stands differently without any record that says so.
since_ms, charge: of a pending charge, since when it waits, and what it is (msgpack)."""
_P = client_package.c
client_package_indexes = (
    Index("client_package_client", _P.client),
    Index("client_package_status", _P.status, _P.client_key, _P.seat),
    Index("client_package_package", _P.package, _P.status, _P.client_key, _P.seat),
    Index(
        "client_package_turns", _P.turns_ms,
        sqlite_where=_P.turns_ms.is_not(None), postgresql_where=_P.turns_ms.is_not(None),
    ),
    Index(
        "client_package_since", _P.since_ms, _P.client_key, _P.seat,
        sqlite_where=_P.since_ms.is_not(None), postgresql_where=_P.since_ms.is_not(None),
    ),
)  # fmt: skip

held_did = _table(
    "held_did", _text("number", key=True), _text("client", null=False), _text("account", null=False),
    _text("client_package", null=False), _big("hold_until_ms", null=True),
)  # fmt: skip
held_did_indexes = (Index("held_did_client", held_did.c.client, held_did.c.number),)
did = _table("did", _text("number", key=True), _text("tags", null=False))
"""tags: each between line breaks (`catalog_rows.tags_text`)."""

package = _table(
    "package", _text("id", key=True), _text("key", null=False), _text("status", null=False),
    _text("name", null=False), _text("name_key", null=False), _text("type", null=False),
    _text("currency", null=False), _text("activation_fee", null=False),
    _text("subscription_fee", null=False), _text("period"), _text("reseller"), _text("dynamic_tag"),
    _text("did_tags", null=False), _text("digest", null=False),
)  # fmt: skip
package_indexes = (Index("package_key", package.c.key),)

rejected = _table(
    "rejected", *_at(), _text("reason", null=False), _text("side"), _text("detail", null=False),
    _text("value", null=False), _text("topic"), _big("source_part", null=True),
    _big("source_place", null=True), _big("attempt", null=True), _text("job"), _small("again"),
)  # fmt: skip
_R = rejected.c
rejected_indexes = (
    Index("rejected_reason", _R.reason, _R.ms, _R.part, _R.place),
    Index("rejected_topic", _R.topic, _R.ms, _R.part, _R.place),
    Index("rejected_origin", _R.part, _R.topic, _R.source_place),
)

event = _table(
    "event", *_at(), _text("id", null=False), _text("type", null=False), _big("at_ms"), _text("client"),
    _text("client_package"), _text("package_name"), _text("cause"), _text("actor"),
)  # fmt: skip
_E = event.c
event_place = Index("event_place", _E.part, _E.place)
event_indexes = (
    Index("event_client", _E.client, _E.ms, _E.part, _E.place),
    Index("event_type", _E.type, _E.ms, _E.part, _E.place),
)

command = _table(
    "command", *_at(), _text("id", null=False), _text("key", null=False), _text("do", null=False),
    _big("at_ms"), _text("actor", null=False), _text("reason", null=False), _text("client"),
    _text("client_package"), Column("dry_run", Boolean, nullable=False), _small("system"),
)  # fmt: skip
_C = command.c
ASKED = _C.system == text("0")
"""Commands that somebody asked for."""
command_indexes = (
    Index("command_client", _C.client, _C.ms, _C.part, _C.place),
    Index("command_actor", _C.actor, _C.ms, _C.part, _C.place),
    Index("command_asked", _C.ms, _C.part, _C.place, sqlite_where=ASKED, postgresql_where=ASKED),
)
result = _table("result", _text("id", key=True), _text("result", null=False), _text("detail"))

job = _table(
    "job", _text("job", key=True), _big("from_ms"), _big("to_ms"), _big("started_ms"), _big("last_ms"),
    *map(_big, ("clients", "done", "given_up", "calls", "changed")),
)  # fmt: skip

LATE_INDEXES: tuple[Index, ...] = (
    *txn_indexes, *client_indexes, *client_package_indexes[1:], *rejected_indexes[:2],
    *event_indexes, *command_indexes,
)  # fmt: skip
"""Those that building makes at its end: sorted at once, they cost a fraction."""
EARLY_INDEXES: tuple[Index, ...] = (
    *account_indexes, client_package_indexes[0], *held_did_indexes, *package_indexes, rejected_indexes[2],
    event_place,
)  # fmt: skip
"""Those that writing goes by, and listening to events."""
