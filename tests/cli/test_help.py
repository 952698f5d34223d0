"""Help, and how `rater` is called."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from cli.conftest import Capture
from rater.cli import main
from rater.cli import rater as group


def commands(of: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each command."""
    yield path
    if isinstance(of, click.Group):
        for name, command in of.commands.items():
            yield from commands(command, (*path, name))


@pytest.mark.parametrize("path", list(commands(group)), ids=" ".join)
def test_every_command_has_help_with_an_example(path: tuple[str, ...], capsys: Capture) -> None:
    """--help says what the command does on standard output, with code 0.

    Commands show how they are called.
    """
    assert main([*path, "--help"]) == 0
    out = capsys.readouterr().out
    assert "Usage: rater" in out
    if path and "Commands:" not in out:
        assert "Example" in out
        assert f"rater {' '.join(path)}" in out or path[0] in out


def test_the_commands_of_the_contract_are_there() -> None:
    """Scripts rely on the names."""
    found = {" ".join(path) for path in commands(group)}
    assert found >= {
        "demo",
        "worker",
        "topics create",
        "load",
        "check",
        "ingest",
        "config example",
        "config settings",
        "config acl",
        "sources list",
        "sources show",
        "sources test",
        "transactions",
        "clients list",
        "clients show",
        "clients adjust",
        "packages list",
        "packages show",
        "packages create",
        "packages edit",
        "packages disable",
        "packages enable",
        "packages archive",
        "packages delete",
        "client-packages list",
        "client-packages show",
        "client-packages history",
        "client-packages assign",
        "client-packages stop",
        "client-packages cancel",
        "client-packages remove",
        "client-packages edit",
        "pending-charges list",
        "pending-charges invoice",
        "rejected list",
        "audit",
    }


def test_help_is_there_at_once() -> None:
    """The client libraries of Kafka and Redis, which are slow to import, are not imported for help."""
    slow = ("aiokafka", "redis", "rich", "yaml", "aiohttp", "structlog", "msgspec")
    script = (
        "import sys; from rater.cli import main; main(['--help']); "
        f"print([name for name in {slow!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)  # noqa: S603
    assert done.stderr.strip() == "[]"


def test_it_runs_as_a_module() -> None:
    """`python -m rater` is `rater`, and ends with its code."""
    done = subprocess.run(
        [sys.executable, "-m", "rater", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "rater: no such command 'nonsense'; see rater --help\n"
