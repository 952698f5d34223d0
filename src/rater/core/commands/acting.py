"""What a command does to its client: due work first, then what it asks for, as one change.

Pure: state, command and catalog give the change and what its result tells. `dry_run` is the same without the
call, so both say the same. Source of the rules: RULES.md section 4; CONTRACTS.md, Command.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from rater.core.amounts import LIMIT, format_micros
from rater.core.catalog.compiled import Catalog
from rater.core.catalog.specs import ClientPackageSpec
from rater.core.clients import actions
from rater.core.clients.changes import Change
from rater.core.clients.counting import aligned
from rater.core.clients.dids import assign_did, release_did
from rater.core.clients.earlier import whole_second
from rater.core.clients.lifecycle import finished, settle_before, settle_due
from rater.core.clients.loading import assign, first_start
from rater.core.clients.planning import Cause, Known, Plan
from rater.core.clients.state import ClientState, did_of
from rater.core.commands.loads import event
from rater.core.commands.records import (
    RERATE_ARGS,
    AdjustArgs,
    AssignArgs,
    ClientArgs,
    Command,
    DidAssignArgs,
    DidReleaseArgs,
    EndDateArgs,
    RerateArgs,
    key_of,
)
from rater.core.commands.rerates import rerate
from rater.core.instants import earlier, is_stamp, milliseconds, rfc3339
from rater.core.kinds import Do, EventType
from rater.core.periods import when_ms
from rater.core.reasons import shown

_NUMBERS = 2**20
"""Client packages that commands may assign to one client: their number stands beside the key's content."""


class Acted(Struct):
    """What a command does. change: None where nothing is changed.

    more: due work has to go on before it, the change is a step of that. data and client_package are
    those of `command_done`.
    """

    change: Change | None
    data: dict[str, Any] = {}
    client_package: str | None = None
    more: bool = False


AHEAD_MS = 60_000
"""How far ahead of its record a command may be."""


def time_fault(command: Command, stamp: int) -> str | None:
    """Return why a command cannot be of the time that it says, as a sentence. stamp: its record's time."""
    at_ms = milliseconds(command.at)
    if is_stamp(stamp) and at_ms > stamp + AHEAD_MS:
        return f"`at` is {rfc3339(at_ms)}, more than a minute after its record; check the clock"
    return None


def act(
    state: ClientState, command: Command, args: ClientArgs, catalog: Catalog, *, known: Known,
    history: Mapping[str, bytes], keep_ms: int, exact: bool = True,
) -> Acted:  # fmt: skip
    """Return what a command does to its client.

    known: what the bucket told of it. history: rows of the client's periods of before, for `remove`. exact:
    the change holds for the very balance that the result tells; else it tells none. Raises ValueError with
    the sentence for who sent it; nothing is changed then.
    """
    at_ms = max(whole_second(milliseconds(command.at)), state.changed_ms)
    plan = Plan(state, catalog, known, Cause(command.id, command.actor), keep_ms=keep_ms)
    if isinstance(args, RERATE_ARGS):
        return _rerate(plan, command, args, at_ms)
    field, content = _key(command)
    done = plan.counter(field)
    if done:
        return _repeated(state, command, args, done, content)
    expected = command.expect_version
    last_ms, goes_on = settle_before(plan, at_ms)
    if goes_on or plan.full:
        return Acted(finished(plan, last_ms), more=True)
    number, held_id = 1, command.client_package
    if isinstance(args, AssignArgs):
        number, held_id = _assign(plan, args, at_ms)
    elif isinstance(args, AdjustArgs):
        actions.adjust(plan, args.micros, key_of(command), command.reason, at_ms)
    elif isinstance(args, DidAssignArgs):
        held_id = assign_did(plan, args.number, args.account, at_ms)
    elif isinstance(args, DidReleaseArgs):
        held_id = release_did(plan, args.number, at_ms)
    else:
        _on_client_package(plan, command, args, expected, at_ms, history)
    settle_due(plan, at_ms, at_ms, closing=True, since_ms=at_ms)
    plan.count(field, content * _NUMBERS + number)
    data = _data(plan, dry_run=command.dry_run, exact=exact)
    change = finished(plan, at_ms)
    data["transactions"] = [msgspec.Raw(one.value) for one in change.transactions]
    data["events"] = [_without_id(one.value) for one in change.events]
    told = event(EventType.COMMAND_DONE, command, "done", data, held_id)
    if not command.dry_run:
        change.events = (*change.events, told)
    return Acted(change, data, held_id)


def _rerate(plan: Plan, command: Command, args: RerateArgs, at_ms: int) -> Acted:
    """Do a part of a re-rating job. It has no key: the version that it names is there once."""
    last_ms, _ = settle_before(plan, at_ms)
    if plan.touched:
        return Acted(finished(plan, last_ms), more=True)
    data: dict[str, Any] = {"dry_run": command.dry_run, "repeated": False}
    told = rerate(plan, args, at_ms)
    if told is None:
        return Acted(None, {**data, "repeated": True, "job": args.job, "version": plan.state.version})
    change, data = finished(plan, at_ms), {**data, **told}
    change.events = (*change.events, event(EventType.COMMAND_DONE, command, "done", data))
    return Acted(change, data)


def _key(command: Command) -> tuple[str, int]:
    """Return the counter of a command's key, and the digest of what it asks for (32 bits)."""
    name = blake2b(key_of(command).encode(), digest_size=8).hexdigest()
    asked = msgspec.json.encode([command.do, command.client_package, command.args])
    return f"key.{name}", int.from_bytes(blake2b(asked, digest_size=4).digest(), "big")


def _repeated(state: ClientState, command: Command, args: ClientArgs, done: int, content: int) -> Acted:
    first, number = divmod(done, _NUMBERS)
    if first != content:
        raise ValueError(
            f"the key {shown(key_of(command))!r} was used for something else of this client; give another key"
        )
    held_id = command.client_package
    if isinstance(args, AssignArgs):
        held_id = args.id or f"{state.id}-{number}"
    elif isinstance(args, DidAssignArgs):
        did = did_of(state, args.number)
        held_id = None if did is None else did[0].id
    data = {"dry_run": command.dry_run, "repeated": True, "transactions": [], "events": []}
    return Acted(None, data, held_id)


def _data(plan: Plan, *, dry_run: bool, exact: bool) -> dict[str, Any]:
    data: dict[str, Any] = {"dry_run": dry_run, "repeated": False}
    if exact:
        after = plan.pin()
        data["balance_before"] = format_micros(after - plan.delta)
        data["balance_after"] = format_micros(after)
    return data


def _without_id(value: bytes) -> dict[str, Any]:
    found: dict[str, Any] = msgspec.json.decode(value)
    del found["id"]
    return found


def _assign(plan: Plan, args: AssignArgs, at_ms: int) -> tuple[int, str]:
    """Assign a package; returns the number that the client gave it, and its id."""
    state, package = plan.state, plan.catalog.packages.get(args.package)
    if package is None:
        raise ValueError(f"there is no package {shown(args.package)!r}; `rater packages list` shows them")
    status, version = package.status_at(at_ms), package.at(at_ms)
    if status != "active":
        remedy = "enable it first" if status == "disabled" else "assign another"
        raise ValueError(f"package {shown(args.package)!r} is {status}: it cannot be assigned; {remedy}")
    if args.account is not None and args.account not in state.accounts:
        raise ValueError(f"client {state.id!r} has no account {shown(args.account)!r}")
    number = state.numbered + 1
    held_id = args.id or f"{state.id}-{number}"
    if held_id in state.removed or plan.place_of(held_id) is not None:
        raise ValueError(f"the id {shown(held_id)!r} is or was that of a client package; give another")
    if version.spec.align_to_payment_terms and not aligned(version, state.terms):
        raise ValueError(
            f"package {shown(args.package)!r} is aligned to payment terms, and its period does not fit those "
            f"of client {state.id!r}: neither is a multiple of the other, or there are none"
        )
    if max([limit.size for limit in version.limits], default=0) * args.quantity > LIMIT:
        raise ValueError(f"quantity {args.quantity} times the largest limit is more than counters hold")
    spec = ClientPackageSpec(
        held_id, state.id, args.package, args.account, args.start_date, args.end_date, args.activate_in_past,
        args.quantity,
    )  # fmt: skip
    zone = plan.catalog.zones.at(state.zone, at_ms)
    start = first_start(spec, version.start_ms(zone), zone, at_ms)
    end = earlier(version.end_ms(zone), None if args.end_date is None else when_ms(args.end_date, zone))
    if end is not None and end <= start:
        raise ValueError(
            f"its end date, {rfc3339(end)}, is not after the start of its first period, {rfc3339(start)}; "
            "change the dates of the assignment, or of the package"
        )
    if end is not None and end <= at_ms and not args.activate_in_past:
        raise ValueError(f"its end date, {rfc3339(end)}, is not after now, {rfc3339(at_ms)}; change it")
    plan.state = replace(state, numbered=state.numbered if args.id else number)
    assign(plan, spec, version, at_ms)
    settle_due(plan, at_ms, at_ms, closing=False)
    _check_activation(plan, held_id)
    return number, held_id


def _check_activation(plan: Plan, held_id: str) -> None:
    """Refuse an assignment whose activation cannot be worked out; what lacks funds waits for them."""
    place = plan.place_of(held_id)
    life = None if place is None else plan.packages[place].life
    waiting = None if life is None else life.waiting
    if held_id in plan.unpayable:
        raise ValueError(plan.unpayable[held_id])
    if waiting is not None and waiting.reason == "amount_out_of_range":
        raise ValueError("with its fees the balance would leave ±9007199254.740992; adjust the balance first")


def _on_client_package(
    plan: Plan, command: Command, args: ClientArgs, expected: int | None, at_ms: int,
    history: Mapping[str, bytes],
) -> None:  # fmt: skip
    held_id = command.client_package or ""
    place = plan.place_of(held_id)
    if place is None:
        raise ValueError(f"client {plan.state.id!r} has no client package {shown(held_id)!r}")
    before = next((of.life for of in plan.state.packages if of.id == held_id), None)
    version = 0 if before is None else before.version
    if expected is not None and version != expected:
        raise ValueError(
            f"client package {shown(held_id)!r} is at version {version}, not {expected}: it was changed "
            "meanwhile; look at it again"
        )
    match command.do:
        case Do.EDIT_END_DATE:
            assert isinstance(args, EndDateArgs)  # noqa: S101 - `client_args` gave them
            actions.edit_end(plan, place, args.end_date, at_ms)
        case Do.STOP_NOW:
            actions.stop_now(plan, place, at_ms)
        case Do.STOP_AT_PERIOD_END:
            actions.stop_at_period_end(plan, place, at_ms)
        case Do.CANCEL:
            actions.cancel(plan, place, at_ms)
        case Do.REMOVE:
            actions.remove(plan, place, at_ms, history)
        case Do.INVOICE_PENDING_CHARGE:
            actions.invoice(plan, place, at_ms)
        case _:
            raise ValueError(f"this version does not know the command {command.do!r}")
