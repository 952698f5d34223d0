"""Changing something: a command is sent and its answer read, a package's row is planned and loaded."""

from __future__ import annotations

import hashlib
import time
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec import Struct

from rater import app
from rater.admin.access import User
from rater.admin.problems import Problem, of_faults
from rater.config import Settings
from rater.core.catalog.specs import Content, PackageSpec, Status
from rater.core.catalog_files.package_changes import PackageChange
from rater.core.clients.state import did_name
from rater.core.commands.records import (
    ClientArgs,
    Command,
    DidAssignArgs,
    DidReleaseArgs,
    client_args,
    key_fault,
    read_command,
    write_command,
)
from rater.core.kinds import Do
from rater.jobs.commands import Sender
from rater.jobs.load import Loaded
from rater.jobs.packages import Edit, Planned, deletion, planned, put_rows, status_edit
from rater.queries import catalog as catalog_queries
from rater.queries import client_packages as client_package_queries
from rater.queries import history, listed
from rater.queries import pending_charges as charge_queries
from rater.queries.clients import NotThereError, owner_of, state_of
from rater.queries.connections import Connections
from rater.queries.dids import holder_of
from rater.readmodel.asking import ReadModel

log = structlog.get_logger()

ROW = "package.json"
"""What the row of a package is called, as if it were a file."""


class Order(NamedTuple):
    """A command about a client, or about one of its client packages.

    name: by which it finds its lane, where that is not the client's.
    """

    do: Do
    client: str
    args: ClientArgs
    client_package: str | None = None
    expect_version: int | None = None
    name: str | None = None


class Writing(NamedTuple):
    """How something is to be changed. key: what it is known by when it comes again."""

    user: User
    key: str
    reason: str = ""
    dry_run: bool = False


class Done(Struct, kw_only=True):
    """What a command did, or (dry_run) would do. transactions, events: as in CONTRACTS.md, without ids.

    repeated: it was done before under its key, and nothing was done now. Balances are decimals in the
    client's currency; None: they could not be told exactly.
    """

    do: str
    key: str
    client: str
    client_package: str | None
    dry_run: bool
    repeated: bool
    balance_before: str | None
    balance_after: str | None
    transactions: list[dict[str, Any]]
    events: list[dict[str, Any]]


class FieldChange(Struct):
    """A field of a package before and after. Limits are in counting units and micros."""

    field: str
    before: Any
    after: Any


class PackageDone(Struct, kw_only=True):
    """What became of a package, or (dry_run) would. catalog: the version that says so now, or was looked at.

    before: its status, null of a new one; after: null of a deleted one. notes: sentences on what is unusual.
    cancelled: client packages that archiving it cancels; null where it is not archived.
    """

    package: str
    before: Status | None
    after: Status | None
    fields: list[FieldChange]
    notes: list[str]
    catalog: int
    dry_run: bool
    cancelled: int | None = None


class Orders:
    """Sends what administrators ask for."""

    def __init__(self, settings: Settings, at: Connections, model: ReadModel) -> None:
        """Work on these connections; topics are as they must be."""
        self.settings, self.at, self._model = settings, at, model
        self._sender = Sender(dict(at.kafka), at.topics, settings.redis.buckets, _said)

    # ------------------------------------------------------------------------------------------- clients
    async def command(self, order: Order, writing: Writing) -> Done:
        """Carry out a command. Raises Problem where it is refused, or nobody answers."""
        command_id = uuid.uuid4().hex
        raw = write_command(
            command_id, order.do, int(time.time()) * 1000, order.args, key=writing.key, client=order.client,
            actor=writing.user.name, reason=writing.reason, client_package=order.client_package,
            expect_version=order.expect_version, dry_run=writing.dry_run,
        )  # fmt: skip
        command = read_command(raw)
        problem = client_args(command) if isinstance(command, Command) else command
        if isinstance(problem, str):
            raise Problem(422, problem.removeprefix("not a command: ").removeprefix("args of "))
        answer = await self._sender.send(command_id, order.client, raw, order.name)
        if answer.refused is not None:
            raise Problem(409, answer.refused)
        if answer.data is None:
            raise Problem(504, _unanswered(order, writing))
        data = answer.data
        return Done(
            do=order.do, key=writing.key, client=order.client,
            client_package=answer.client_package or order.client_package,
            dry_run=bool(data.get("dry_run")), repeated=bool(data.get("repeated")),
            balance_before=data.get("balance_before"), balance_after=data.get("balance_after"),
            transactions=_listed(data.get("transactions")), events=_listed(data.get("events")),
        )  # fmt: skip

    async def adjust(self, order: Order, writing: Writing) -> Done:
        """Add to the balance of a client. Raises NotThereError where there is none, and as `command`."""
        await state_of(self.at.store, order.client)
        return await self.command(order, writing)

    async def holder(self, client_package: str) -> str:
        """Return the client of a client package, also of one that was removed. Raises NotThereError."""
        return await client_package_queries.commanded(self.at.store, client_package, self._search)

    async def shown(self, client_package: str, now_ms: int) -> history.Shown:
        """Return a client package and its periods. Raises NotThereError."""
        return await history.client_package(self.at, client_package, now_ms, self._search)

    async def _search(self, client_package: str) -> str | None:
        """Return the client of what the index lacks, by the read model."""
        return await listed.owner_of(self._model, client_package)

    async def check_assignment(self, client: str, package: str, account: str | None) -> None:
        """Raise NotThereError where a client, an account of it, or a package is not there."""
        held = await state_of(self.at.store, client)
        if account is not None and account not in held.state.accounts:
            raise NotThereError("account", account)
        content = await self.content()
        if package not in content.packages or content.packages[package].deleted:
            raise NotThereError("package", package)

    async def charged(self, of_id: str) -> tuple[str, str]:
        """Return client and client package of a pending charge, by its own id or its client package's.

        Raises NotThereError.
        """
        name, mark, period = of_id.rpartition("/")
        client_package = name if mark and period.isdigit() else of_id
        held = await client_package_queries.holder(self.at.store, client_package, self._search)
        for charge in charge_queries.of_client(held.state, held.balance):
            if of_id in (charge.id, charge.client_package):
                return charge.client, charge.client_package
        raise NotThereError("pending charge", of_id)

    async def assign_did(self, number: str, account: str, writing: Writing) -> Done:
        """Give a number to an account. Raises NotThereError where there is none, and as `command`."""
        number = number.removeprefix("+")
        client = await owner_of(self.at.store, account)
        order = Order(Do.DID_ASSIGN, client, DidAssignArgs(number, account), name=did_name(number))
        return await self.command(order, writing)

    async def release_did(self, number: str, writing: Writing) -> Done:
        """Take a number from whom holds it. Raises NotThereError where nobody does, and as `command`."""
        number = number.removeprefix("+")
        client = await holder_of(self.at.store, number)
        return await self.command(
            Order(Do.DID_RELEASE, client, DidReleaseArgs(number), name=did_name(number)), writing
        )

    # ------------------------------------------------------------------------------------------ packages
    async def content(self) -> Content:
        """Return what the catalog in force says; empty where none was loaded."""
        found = await catalog_queries.in_force(self.at.kafka, self.at.topics, self.at.catalogs)
        return Content() if found is None else found[1]

    async def put_package(self, row: bytes, writing: Writing, *, new: bool, seen: str = "") -> PackageDone:
        """Create a package, or bring one to what its row says: JSON as in a catalog file.

        A new one that is there already and says the same is the same request again. seen: the `mark_of` the
        package that was edited; where it is another one by now, the edit is refused.
        """
        try:
            return await self._carry_out(lambda content: _put(row, content, new=new), writing, seen)
        except Problem as problem:
            if not new or not any(_THERE in one.message for one in problem.errors):
                raise
            looked = writing._replace(dry_run=True)
            same = await self._carry_out(lambda content: _put(row, content, new=False), looked)
            if same.fields or same.before != same.after:
                raise
            same.dry_run = writing.dry_run
            return same

    async def set_status(self, of: str, status: Status, writing: Writing) -> PackageDone:
        """Give a package another status."""
        return await self._carry_out(lambda _: status_edit(of, status), writing, of=of)

    async def delete(self, of: str, writing: Writing) -> PackageDone:
        """Delete a package that no client ever had."""
        return await self._carry_out(lambda _: deletion(of), writing, of=of)

    async def _carry_out(
        self, made: Any, writing: Writing, seen: str = "", *, of: str | None = None
    ) -> PackageDone:
        own = app.loader(
            self.settings, _said, actor=writing.user.name, reason=writing.reason, key=writing.key
        )
        async with own as loader:
            content = (await loader.present()).content
            edit: Edit = made(content)
            if of is not None and (content is None or of not in content.packages):
                raise NotThereError("package", of)
            plan = await planned(loader, edit)
            if isinstance(plan, list):
                raise of_faults(plan)
            _check_seen(plan, content, seen)
            done = await self._told(plan, edit, writing)
            if writing.dry_run or not plan.changes:
                return done
            loaded = await loader.load_rows(plan.edit.rows, expected=plan.version, do=plan.edit.do)
        if isinstance(loaded, list):
            raise of_faults(loaded)
        check_loaded(loaded)
        done.catalog = loaded.version
        return done

    async def _told(self, plan: Planned, edit: Edit, writing: Writing) -> PackageDone:
        change = plan.changes[0] if plan.changes else None
        of, status = (change.id, change.after) if change is not None else _same(edit)
        cancelled = None
        if change is not None and change.after == "archived" and change.before != "archived":
            cancelled = await self._held(of)
        return PackageDone(
            package=of, before=status if change is None else change.before, after=status,
            fields=[] if change is None else _fields(change), notes=list(plan.notes), catalog=plan.version,
            dry_run=writing.dry_run, cancelled=cancelled,
        )  # fmt: skip

    async def _held(self, package: str) -> int:
        """Return how many client packages of a package are pending or active."""
        wanted = client_package_queries.Wanted(package=package, statuses=client_package_queries.PRESENT)
        now_ms = time.time_ns() // 1_000_000
        return (await client_package_queries.page_of(self.at, wanted, now_ms, rows=1, page=1)).total


def new_key() -> str:
    """Return a key that nobody has used."""
    return uuid.uuid4().hex


def check_key(key: str) -> None:
    """Raise Problem where a command could not have this key."""
    if (problem := key_fault(key)) is not None:
        raise Problem(422, f"Idempotency-Key: {problem}")


def mark_of(spec: PackageSpec) -> str:
    """Return what tells a package from what it was before and after an edit."""
    return hashlib.sha256(msgspec.msgpack.encode(spec)).hexdigest()[:32]


def _check_seen(plan: Planned, content: Content | None, seen: str) -> None:
    for placed in plan.edit.rows.packages if seen else ():
        history = None if content is None else content.packages.get(placed.value.id)
        if history is not None and mark_of(history.latest) != seen:
            raise Problem(
                409,
                f"package {placed.value.id} was changed by somebody else since you began to edit it; nothing "
                "was saved: look at what it is now, and save again where your values are to stand",
            )


_THERE = "is there already"
"""In what `put_rows` says of a new package's id that is taken."""


def _put(row: bytes, content: Content | None, *, new: bool) -> Edit:
    edit = put_rows(ROW, row, content, new=new)
    if not edit.rows.faults and len(edit.rows.packages) != 1:
        raise Problem(422, "give one package, as in a catalog file; not a list of them")
    return edit


def _same(edit: Edit) -> tuple[str, Status | None]:
    rows = edit.rows
    if rows.packages:
        return rows.packages[0].value.id, rows.packages[0].value.status
    if rows.statuses:
        return rows.statuses[0].value
    return rows.deletions[0].value, None


def _fields(change: PackageChange) -> list[FieldChange]:
    return [
        FieldChange(name, msgspec.to_builtins(before), msgspec.to_builtins(after))
        for name, (before, after) in change.fields.items()
    ]


def check_loaded(loaded: Loaded) -> None:
    """Raise Problem where a load was refused, or nobody carried it out."""
    if loaded.refused:
        raise Problem(409, "; ".join(loaded.refused))
    if not loaded.applied:
        raise Problem(
            504,
            f"no worker answered: catalog {loaded.version} stays queued, and is applied as soon as workers "
            "own every lane; start them with `rater worker`",
        )


def _unanswered(order: Order, writing: Writing) -> str:
    if writing.dry_run:
        return "no worker answered; nothing was changed. Start workers with `rater worker`"
    return (
        f"no worker answered: the command stays queued, and is carried out as soon as a worker owns the lane "
        f"of client {order.client}; start workers with `rater worker`. The same once more with the key "
        f"{writing.key} tells what became of it, and does nothing twice"
    )


def _listed(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, Sequence) else []


def _said(text: str) -> None:
    log.info("changing", step=text)
