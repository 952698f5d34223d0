"""`rater`: the command line. It parses, calls `rater.app` and the readers, prints; it holds no business rule.

`main` is the one place where a fault becomes a sentence and an exit code: 0 done, 1 failed, 2 wrong input.
Modules that cost time to import are imported by the commands that need them: `rater --help` answers at once.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click

from rater import __version__
from rater.cli import (
    administering,
    checking,
    client_packages,
    clients,
    decks,
    dids,
    examples,
    explaining,
    files,
    packages,
    pending_charges,
    planning,
    rating,
    rebuilding,
    recycling,
    rerating,
    running,
    topics,
)
from rater.cli.options import FAILED, WRONG_INPUT, Failed, Invocation, WrongInput, settings_options
from rater.cli.printing import say
from rater.errors import Fenced, Halt, Retake, Wait

__all__ = ["main", "rater"]

_EXAMPLES = """\
\b
Examples:
  rater demo                                     everything on this machine, in one go
  rater config settings > rater.toml             every setting; keep what you change
  rater config example > catalog.yaml            a catalog that shows every field
  rater --config rater.toml check                is all as it must be?
  rater --config rater.toml topics create        make the topics that are missing
  rater --config rater.toml load catalog.yaml    load a catalog
  rater --config rater.toml worker               rate
  rater --config rater.toml admin                the HTTP API and the console
  rater transactions --client 42 --limit 10      what became of the calls of client 42

\b
Settings: --config FILE (TOML), then RATER_SECTION__KEY of the environment, then flags; the later wins.
The flags above may stand before or after the command's name.
Exit codes: 0 done, 1 failed, 2 wrong input. Data goes to standard output, talk to standard error.
"""


@click.group(
    name="rater",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=_EXAMPLES,
    no_args_is_help=True,
)
@settings_options(shown=True)
@click.version_option(__version__, "--version", message="rater %(version)s")
def rater() -> None:
    """Rate telephone calls from Kafka against customer packages in Redis, each call exactly once."""


for _command in (
    *(
        running.demo,
        running.worker,
        administering.admin,
        running.topics,
        checking.check,
        running.load,
        running.audit,
    ),
    rebuilding.rebuild,
    *(files.ingest, files.sources, decks.decks, examples.config_group),
    *(topics.transactions, topics.rejected, recycling.recycle),
    *(clients.clients, packages.packages, client_packages.client_packages, pending_charges.pending_charges),
    *(dids.dids, rating.rate, explaining.explain, rerating.rerate, planning.plan),
):
    rater.add_command(_command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code. No fault that is foreseen ends in a traceback."""
    try:
        code = rater.main(
            None if arguments is None else list(arguments),
            prog_name="rater",
            standalone_mode=False,
            obj=Invocation(),
        )
        sys.stdout.flush()
    except BaseException as fault:  # noqa: BLE001 - the one place that knows what to do with each
        return _told(fault)
    return code if isinstance(code, int) else 0


def _told(fault: BaseException) -> int:
    """Say what a fault means, and return the exit code."""
    for kinds, meaning in _MEANINGS:
        if isinstance(fault, kinds):
            code, sentences = meaning(fault)
            for sentence in sentences:
                say(f"rater: {sentence}")
            return code
    return _say_defect(fault)


def _usage(fault: click.UsageError) -> _Meaning:
    if isinstance(fault, click.exceptions.NoArgsIsHelpError):
        say(fault.format_message())
        return WRONG_INPUT, ()
    where = fault.ctx.command_path if fault.ctx is not None else "rater"
    message = fault.format_message().rstrip(".")
    return WRONG_INPUT, [f"{message[:1].lower()}{message[1:]}; see {where} --help"]


def _broken_pipe(_: BrokenPipeError) -> _Meaning:
    # `rater transactions | head`: nobody reads on. Python would complain once more when it flushes at exit.
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED, ()


def _os_error(fault: OSError) -> _Meaning:
    what = f"{fault.filename}: " if fault.filename else ""
    return FAILED, [what + (fault.strerror or str(fault) or type(fault).__name__).lower()]


def _no_text(fault: UnicodeEncodeError) -> _Meaning:
    """An argument's bytes that are no UTF-8, which Python keeps as halves of characters; or an output's."""
    if fault.encoding == "utf-8":
        return WRONG_INPUT, [f"{fault.object[:200]!a}: this is not UTF-8; give it as UTF-8"]
    return FAILED, [f"the output takes {fault.encoding} alone; set PYTHONIOENCODING=utf-8"]


_Meaning = tuple[int, Sequence[str]]
"""Exit code, and sentences."""

_MEANINGS: tuple[tuple[type | tuple[type, ...], Callable[[Any], _Meaning]], ...] = (
    (click.exceptions.Exit, lambda fault: (fault.exit_code, ())),
    (click.UsageError, _usage),
    (WrongInput, lambda fault: (WRONG_INPUT, fault.sentences)),
    (Failed, lambda fault: (FAILED, fault.sentences)),
    (click.ClickException, lambda fault: (FAILED, [fault.format_message()])),
    ((KeyboardInterrupt, click.Abort), lambda _: (FAILED, ["stopped"])),
    (SystemExit, lambda fault: (fault.code if isinstance(fault.code, int) else FAILED, ())),
    (BrokenPipeError, _broken_pipe),
    ((Wait, Fenced, Retake), lambda fault: (FAILED, [f"{fault}; this may pass: try again in a while"])),
    (Halt, lambda fault: (FAILED, str(fault).splitlines())),
    (OSError, _os_error),
    (UnicodeEncodeError, _no_text),
)
"""The first that fits counts."""


def _say_defect(fault: BaseException) -> int:
    """A fault that nobody foresaw: a sentence for the user; the traceback for who asks for it."""
    if os.environ.get("RATER_LOGS__LEVEL", "").lower() == "debug":
        raise fault
    say(
        f"rater: a defect of rater: {type(fault).__name__}: {fault}; "
        "run it again with RATER_LOGS__LEVEL=debug and report what it shows"
    )
    return FAILED
