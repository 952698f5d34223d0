"""Commands from outside on real servers: sent to the lane of their client, and packages changed as a load."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rater import app
from rater.core.bucket.messages import bucket_of
from rater.core.catalog_files.fields import Fault
from rater.core.clients.state import client_package_name
from rater.core.commands.records import AdjustArgs, AssignArgs, ClientArgs, NoArgs, write_command
from rater.core.kinds import Do
from rater.errors import Halt
from rater.jobs.commands import Answer, Sender
from rater.jobs.load import Loaded
from rater.jobs.packages import Edit, Planned, deletion, planned, put, status_edit
from rater.queries import catalog as catalog_queries
from rater.queries.client_packages import holder, searched
from rater.queries.clients import NotThereError, state_of

pytestmark = pytest.mark.kafka

SystemOf = Callable[..., Awaitable[Any]]

CATALOG = {
    "currencies": {"base": "USD"},
    "packages": [
        {"id": "1", "name": "One", "type": "customer", "currency": "USD"},
        {"id": "2", "name": "Two", "type": "customer", "currency": "USD"},
        {"id": "3", "name": "Three", "type": "customer", "currency": "USD"},
        {
            "id": "event", "name": "Event", "type": "customer", "currency": "USD", "period": "1 month",
            "charge_on_event": True, "fees": [{"type": "subscription", "name": "Monthly", "rate": "5.00"}],
            "limits": [{"type": "volume", "service": "calls", "code": "380", "limit": 10}],
        },
    ],
    "code_decks": [{"name": "a-z", "codes": {"380": "Ukraine"}}],
    "rate_tables": [
        {"name": "retail", "currency": "USD", "code_deck": "a-z", "rates": [{"code": "380", "price": "0.06"}]}
    ],
    "clients": [
        {
            "id": of, "currency": "USD", "accounts": [{"id": f"sip-{of}"}],
            "rate_tables": {"orig": {"calls": "retail"}},
        }
        for of in ("42", "43")
    ],
    "client_packages": [{"id": "cp", "client": "42", "package": "1"}],
}  # fmt: skip


def command(of: str, client: str = "42", **more: Any) -> bytes:
    """Return a top-up."""
    at_ms = int(time.time()) * 1000
    return write_command(of, Do.ADJUST, at_ms, AdjustArgs("1"), client=client, key="k", **more)


async def answered(system: Any, partition: int, *events: dict[str, Any]) -> Any:
    """Answer the next command, as a worker would, by these events; returns its record."""

    async def there() -> bool:
        return bool(await system.commands())

    await system.until(there)
    (record,) = await system.commands()
    values = [json.dumps({"id": "e", "at": "2026-11-30T00:00:00Z", **event}).encode() for event in events]
    await system.send([(value, None) for value in values], topic=system.topics.events, partition=partition)
    return record


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (
            {"type": "command_done", "client_package": "42-1", "data": {"repeated": False}},
            Answer("42-1", {"repeated": False}),
        ),
        ({"type": "command_refused", "data": {"reason": "no such client"}}, Answer(refused="no such client")),
    ],
)
async def test_a_command_goes_to_its_lane_and_is_waited_for(
    event: dict[str, Any], answer: Answer, system_of: SystemOf
) -> None:
    """The partition of the client's bucket, its id as the key; events of others are no answer."""
    system = await system_of(partitions=3)
    buckets, said = system.settings.redis.buckets, list[str]()
    sender = Sender(system.client, system.topics, buckets, said.append)
    value = command("c1")
    asked = asyncio.create_task(sender.send("c1", "42", value))
    others = [{"type": "command_done", "cause": "c2"}, {"type": "assigned", "cause": "c1"}]
    record = await answered(system, 1, *others, {**event, "cause": "c1"})
    assert await asked == answer
    assert (record.partition, record.key, record.value) == (bucket_of("42", buckets) % 3, b"42", value)


async def test_a_command_that_nobody_answers_stays_queued(
    system_of: SystemOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told after a while, and then given up; the command is there for a worker to come."""
    monkeypatch.setattr("rater.jobs.commands.TOLD_S", 0.5)
    system = await system_of(partitions=2)
    said = list[str]()
    sender = Sender(system.client, system.topics, 8, said.append, quiet_s=1.5)
    assert await sender.send("c1", "42", command("c1")) == Answer()
    lane = bucket_of("42", 8) % 2
    assert said == [f"no worker has answered yet; lane {lane} has to be owned by one"]
    assert len(await system.commands()) == 1


async def test_the_sender_wants_topics_as_they_must_be(system_of: SystemOf) -> None:
    """Else it would wait for an answer that cannot come."""
    system = await system_of(partitions=2)
    await system.configure([system.topics.events], {"cleanup.policy": "compact"})
    with pytest.raises(Halt, match="cleanup"):
        await app.sender(system.settings, print).__aenter__()


# ------------------------------------------------------------------------------------------------- packages
@pytest.fixture
async def system(system_of: SystemOf) -> Any:
    """Return a system of two lanes, with a catalog; a worker runs."""
    made = await system_of(partitions=2)
    async with made.worker():
        await made.load(json.dumps(CATALOG).encode())
        yield made


async def commanded(
    system: Any, do: Do, args: ClientArgs, key: str, of_id: str | None = None, *, dry_run: bool = False
) -> Answer:
    """Carry out a command on client 42, as the command line does."""
    at_ms = int(time.time()) * 1000
    raw = write_command(
        uuid4().hex, do, at_ms, args, key=key, client="42", client_package=of_id, dry_run=dry_run
    )
    async with app.sender(system.settings, print) as sender:
        found: Answer = await sender.send(json.loads(raw)["id"], "42", raw)
        return found


async def test_workers_answer(system: Any) -> None:
    """What was done, what would be done, what was done before, and why not."""
    asked = AdjustArgs("12.50")
    for dry_run in (True, False):
        done = await commanded(system, Do.ADJUST, asked, "k", dry_run=dry_run)
        assert done.data is not None
        assert (done.data["dry_run"], done.data["balance_before"], done.data["balance_after"]) == (
            dry_run, "0", "12.5",
        )  # fmt: skip
        assert [one["id"] for one in done.data["transactions"]] == ["adjust/42/k"]
    again = await commanded(system, Do.ADJUST, asked, "k")
    assert again.data is not None
    assert again.data["repeated"] is True
    other = await commanded(system, Do.ADJUST, AdjustArgs("1"), "k")
    assert "was used for something else" in (other.refused or "")
    async with app.opened_store(system.settings) as store:
        assert (await state_of(store, "42")).balance == 12_500_000


async def test_a_command_that_has_done_its_work_comes_again(system: Any) -> None:
    """By its key it tells so, dry or not, though what it closed cannot be closed any more."""
    done = await commanded(system, Do.CANCEL, NoArgs(), "k", "cp")
    assert done.data is not None
    for dry_run in (False, True):
        again = await commanded(system, Do.CANCEL, NoArgs(), "k", "cp", dry_run=dry_run)
        assert again.data is not None, again
        assert again.data["repeated"] is True
    other = await commanded(system, Do.CANCEL, NoArgs(), "other", "cp")
    assert "in the archive already" in (other.refused or "")


async def test_a_dry_run_knows_of_fees_that_calls_brought(system: Any) -> None:
    """It tells the refund that the command then gives."""
    assert (await commanded(system, Do.ADJUST, AdjustArgs("50"), "top-up")).refused is None
    held = (await commanded(system, Do.ASSIGN, AssignArgs("event"), "assign")).client_package
    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    call = {"id": "1", "called": "380", "duration_ms": 60_000, "answered_at": at, "orig": {"client": "42"}}
    await system.send([(json.dumps(call).encode(), None)])
    await system.settled()
    dry, real = [
        await commanded(system, Do.STOP_NOW, NoArgs(), "stop", held, dry_run=dry_run)
        for dry_run in (True, False)
    ]
    for answer in (dry, real):
        assert answer.data is not None
        (refund,) = answer.data["transactions"]
        assert (refund["type"], refund["amount"], answer.data["balance_after"]) == ("refund", "5", "50")


async def edited(system: Any, made: Callable[..., Edit]) -> Loaded | list[Fault]:
    """Carry out an edit of packages, as the command line does."""
    async with app.loader(system.settings, print, actor="bob", reason="ticket 512", key="k") as loader:
        plan = await planned(loader, made((await loader.present()).content))
        if isinstance(plan, list):
            return plan
        assert isinstance(plan, Planned)
        found: Loaded | list[Fault] = await loader.load_rows(plan.edit.rows, plan.version, plan.edit.do)
        return found


async def statuses(system: Any) -> dict[str, str]:
    """Return what the lanes' catalog says of packages; deleted ones are not told."""
    found = await catalog_queries.in_force(system.client, system.topics, app.catalogs_of(system.settings))
    assert found is not None
    packages = found[1].packages
    return {of: history.status for of, history in packages.items() if not history.deleted}


async def test_packages_are_changed_by_loads(system: Any, tmp_path: Path) -> None:
    """All lanes adopt each; the audit log says what it was, who asked and why; a deleted id is refused."""
    path = tmp_path / "p.yaml"
    path.write_text('[{id: "9", name: Nine, type: customer, currency: USD}]')
    done = Loaded(2, changed=True, applied=True, refused=[])
    assert await edited(system, lambda content: put(path, content, new=True)) == done
    assert await edited(system, lambda _: status_edit("2", "disabled")) == done._replace(version=3)
    assert await edited(system, lambda _: deletion("3")) == done._replace(version=4)
    assert await statuses(system) == {"1": "active", "2": "disabled", "9": "active", "event": "active"}
    again = await edited(system, lambda _: status_edit("2", "disabled"))
    assert again == Loaded(4, changed=False, applied=True, refused=[])

    said = [json.loads(record.value) for record in await system.commands()]
    meant = [(one["do"], one["actor"], one["reason"], one["key"]) for one in said if one["actor"] == "bob"]
    order = [Do.PUT_PACKAGE, Do.SET_PACKAGE_STATUS, Do.DELETE_PACKAGE]
    assert sorted(meant) == sorted((do, "bob", "ticket 512", "k") for do in order for _ in range(2))

    path.write_text('{id: "3", name: Three again, type: customer, currency: USD}')
    faults = await edited(system, lambda content: put(path, content, new=True))
    assert isinstance(faults, list)
    assert "was deleted, and its id is not given again" in str(faults[0])


async def test_what_commands_assigned_is_not_deleted(system: Any) -> None:
    """The index of a package's clients is asked: the catalog knows loads alone."""
    answer = await commanded(system, Do.ASSIGN, AssignArgs("2"), "k")
    assert answer.client_package == "42-1"
    async with app.opened_store(system.settings) as store:
        assert await store.assigned(["1", "2", "3"]) == {"1", "2"}
        assert (await holder(store, "42-1", nobody)).state.id == "42"
    for of in ("1", "2"):
        faults = await edited(system, lambda _, of=of: deletion(of))
        assert isinstance(faults, list)
        assert "some client has it or had it" in str(faults[0])
    assert await statuses(system) == dict.fromkeys(("1", "2", "3", "event"), "active")


# ------------------------------------------------------------------------------------------------------ ids
async def nobody(of_id: str) -> None:
    """Find nobody: what the index has is not searched."""
    raise AssertionError(of_id)


async def test_a_client_package_is_found_by_its_id(system: Any, tmp_path: Path) -> None:
    """A load brings the index; another client cannot have the id; and no call comes in by it."""
    said = list[str]()
    async with app.opened_store(system.settings) as store:
        assert (await holder(store, "cp", nobody)).state.id == "42"
        with pytest.raises(NotThereError, match="there is no client package x"):
            await holder(store, "x", lambda of_id: searched(store, of_id, said.append))
        (told,) = said
        assert told.startswith("client package x is not in the index; all clients are searched")
    path = tmp_path / "other.json"
    path.write_text(json.dumps({"client_packages": [{"id": "cp", "client": "43", "package": "1"}]}))
    async with app.loader(system.settings, print) as loader:
        faults = await loader.load([path])
    assert isinstance(faults, list)
    assert "is one of client '42'; ids are unique in the system" in str(faults[0])

    call = {"id": "1", "called": "380441234567", "duration_ms": 0, "ended_at": "2026-11-30T00:00:00Z",
            "orig": {"account": client_package_name("cp")}}  # fmt: skip
    await system.send([(json.dumps(call).encode(), None)])
    await system.settled()
    (record,) = await system.rejected()
    assert dict(record.headers)["reason"] == b"account_unknown"
