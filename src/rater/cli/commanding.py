"""What commands that change something share: their options, asking first, sending, telling what was done."""

from __future__ import annotations

import functools
import shlex
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from rater.cli.options import Failed, WrongInput, invocation, run
from rater.cli.printing import Row, print_json, say, shown_line

if TYPE_CHECKING:
    from rater.config import Settings
    from rater.core.commands.records import ClientArgs
    from rater.core.kinds import Do
    from rater.jobs.commands import Answer

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415

_Function = TypeVar("_Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Writing:
    """How something is to be changed. key: what it is known by when it comes again; is_sure: do not ask."""

    key: str
    actor: str | None
    reason: str
    is_dry_run: bool
    is_sure: bool = True


def writing_options(*, takes_away: bool = False) -> Callable[[_Function], Callable[..., Any]]:
    """Give a command --key, --actor, --reason and --dry-run, as `writing`; takes_away: and --yes."""

    def decorate(function: _Function) -> Callable[..., Any]:
        @functools.wraps(function)
        def called(
            *given: Any, key: str | None, actor: str | None, reason: str, is_dry_run: bool,
            is_sure: bool = True, **more: Any,
        ) -> Any:  # fmt: skip
            if not is_sure and not is_dry_run and not sys.stdin.isatty():
                raise WrongInput(
                    "this takes something away, and there is no terminal to ask on: add --yes, or --dry-run "
                    "to see what it would do"
                )
            made = uuid.uuid4().hex if key is None else key
            if (problem := _key_fault(made)) is not None:
                raise WrongInput(f"--{problem}")
            return function(*given, writing=Writing(made, actor, reason, is_dry_run, is_sure), **more)

        options = [
            click.option(
                "--key", metavar="K", help="What it is known by: the same key again does nothing twice."
            ),
            click.option("--actor", metavar="A", help="Who does it; else the user's name."),
            click.option("--reason", metavar="R", default="", help="Why; a ticket's number, for example."),
            click.option("--dry-run", "is_dry_run", is_flag=True, help="Tell what it would do; do nothing."),
        ]
        if takes_away:
            options.append(click.option("--yes", "is_sure", is_flag=True, help="Do not ask first."))
        for option in reversed(options):
            called = option(called)
        return called

    return decorate


def _key_fault(key: str) -> str | None:
    from rater.core.commands.records import key_fault

    return key_fault(key)


@contextmanager
def told_if_missing() -> Iterator[None]:
    """Tell of what is not there what to do: wrong input."""
    from rater.queries.clients import NotThereError

    try:
        yield
    except NotThereError as missing:
        remedy = {
            "account": "`rater clients show ID` lists those of a client",
            "client": "`rater clients list` shows which there are",
            "DID in use": "`rater dids list` shows which there are, and who holds them",
            "client package": "`rater client-packages list --status all` shows which there are",
            "package": "`rater packages list --status all` shows which there are",
        }
        raise WrongInput(f"{missing}; {remedy[missing.kind]}") from missing


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


def perform(settings: Settings, order: Order, writing: Writing) -> Row:
    """Send a command and return what it did, as its row; where it takes something away, ask before.

    Raises Failed where it was refused, not answered, or not wanted after all.
    """
    if not writing.is_sure and not writing.is_dry_run:
        would = _result(
            order, writing, run(_sent(settings, order, replace(writing, is_dry_run=True)), settings)
        )
        for line in lines(would):
            say(line)
        ask()
    return _result(order, writing, run(_sent(settings, order, writing), settings))


def ask() -> None:
    """Ask whether to go on. Raises Failed where the answer is no."""
    if not click.confirm("go on?", err=True):
        raise Failed("nothing was changed")


def check(order: Order, writing: Writing) -> None:
    """Refuse what every worker would refuse as input, before anything is asked. Raises WrongInput."""
    from rater.core.commands.records import Command, client_args, read_command

    command = read_command(_command(order, writing, "x", 0))
    problem = client_args(command) if isinstance(command, Command) else command
    if "" in (order.client, order.client_package):
        problem = "the id is empty; the `list` command shows which there are"
    if isinstance(problem, str):
        raise WrongInput(problem.removeprefix("not a command: "))


def _command(order: Order, writing: Writing, command_id: str, at_ms: int) -> bytes:
    from rater import app
    from rater.core.commands.records import write_command

    return write_command(
        command_id, order.do, at_ms, order.args, key=writing.key, client=order.client,
        actor=app.user() if writing.actor is None else writing.actor, reason=writing.reason,
        client_package=order.client_package, expect_version=order.expect_version, dry_run=writing.is_dry_run,
    )  # fmt: skip


async def _sent(settings: Settings, order: Order, writing: Writing) -> Answer:
    from rater import app

    command_id = uuid.uuid4().hex
    async with app.sender(settings, say) as sender:
        raw = _command(order, writing, command_id, int(time.time()) * 1000)
        return await sender.send(command_id, order.client, raw, order.name)


def _result(order: Order, writing: Writing, answer: Answer) -> Row:
    if answer.refused is not None:
        raise Failed(f"refused: {answer.refused}")
    data = answer.data
    if data is None:
        raise Failed(_unanswered(order, writing))
    return {
        "do": order.do,
        "key": writing.key,
        "client": order.client,
        "client_package": answer.client_package or order.client_package,
        "dry_run": bool(data.get("dry_run")),
        "repeated": bool(data.get("repeated")),
        "balance_before": data.get("balance_before"),
        "balance_after": data.get("balance_after"),
        "transactions": _listed(data.get("transactions")),
        "events": _listed(data.get("events")),
    }


def _unanswered(order: Order, writing: Writing) -> str:
    if writing.is_dry_run:
        return "no worker answered; nothing was changed. Start workers with `rater worker`"
    return (
        f"no worker answered: the command stays queued, and is carried out as soon as a worker owns the lane "
        f"of client {order.client}; start workers with `rater worker`. The same command once more with "
        f"--key {writing.key} tells what became of it, and does nothing twice"
    )


def _listed(value: object) -> list[Any]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def show(row: Row, first: str | None = None) -> None:
    """Print what a command did: JSON, or the text that is asked for as data and the rest as talk.

    first: the text (an id); None: all is data.
    """
    if invocation().json:
        print_json(row)
        return
    if first is not None:
        click.echo(first)
    for line in lines(row):
        click.echo(line, err=first is not None)
    for offer in offers(row):
        say(offer)


def offers(row: Row) -> Iterator[str]:
    """Yield the commands that rate again the calls which a command that was done has named."""
    for event in row["events"]:
        data = event.get("data")
        if event.get("type") == "rerate_needed" and not row["dry_run"] and isinstance(data, dict):
            yield (
                "calls of this time can be rated again: "
                + shown_line(f"rater rerate --client {shlex.quote(str(row['client']))} ")
                + shown_line(f"--from {data.get('from')} --to {data.get('to')}")
            )


def lines(row: Row) -> Iterator[str]:
    """Yield what a command did or would do, in lines for people."""
    if row["repeated"]:
        yield f"done before, with the key {row['key']}; nothing was done now"
    elif row["dry_run"]:
        yield "nothing was changed; this is what it would do:"
    for transaction in row["transactions"]:
        yield shown_line(_money(transaction))
    for event in row["events"]:
        yield shown_line(_told(event))
    before, after = row["balance_before"], row["balance_after"]
    if before is not None and after is not None:
        yield f"balance of client {row['client']}: {before}" + ("" if before == after else f" → {after}")


def _money(one: Mapping[str, Any]) -> str:
    what = " ".join(str(one[name]) for name in ("type", "amount", "currency") if one.get(name) is not None)
    period = "" if one.get("period_start") is None else f", period from {one['period_start']}"
    return f"{what}  ({one.get('id')}{period})"


def _told(one: Mapping[str, Any]) -> str:
    subject = f"{one.get('client_package')} " if one.get("client_package") is not None else ""
    before, after, data = (one.get(name) for name in ("before", "after", "data"))
    told = []
    if isinstance(before, dict) and isinstance(after, dict):
        told = [
            f"{name} {_text(before.get(name))} → {_text(of)}"
            for name, of in after.items()
            if of != before.get(name)
        ]
    if isinstance(data, dict):
        told += [f"{name} {_text(of)}" for name, of in data.items() if of is not None]
    return f"{subject}{one.get('type')}" + (f": {', '.join(told)}" if told else "")


def _text(value: object) -> str:
    if isinstance(value, dict):
        return f"({', '.join(f'{name} {_text(of)}' for name, of in value.items())})"
    return "none" if value is None else str(value)
