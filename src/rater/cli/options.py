"""What was asked: settings from file, environment and flags; wrong input as an exception with sentences."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rater.config import Settings, Source
    from rater.pseudonyms import Pseudonyms

FAILED = 1
WRONG_INPUT = 2

READABLE = click.Path(exists=True, dir_okay=False, readable=True)

_T = TypeVar("_T")
_Function = TypeVar("_Function", bound=Callable[..., Any])


class WrongInput(Exception):  # noqa: N818 - named for what happened
    """What was given is wrong: sentences with remedies, exit code 2."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


class Failed(Exception):  # noqa: N818 - named for what happened
    """What was asked could not be done, or a check found problems: sentences (maybe none), exit code 1."""

    def __init__(self, *sentences: str) -> None:
        super().__init__("\n".join(sentences))
        self.sentences = sentences


@dataclass
class Invocation:
    """The flags that all commands share, as given before or after the command's name; the later wins."""

    config: str | None = None
    json: bool = False
    values: dict[str, str] = field(default_factory=dict)
    """Setting ("kafka.group_id") → text."""
    flags: dict[str, str] = field(default_factory=dict)
    """Setting → the flag that gave it, for messages."""

    def settings(self) -> Settings:
        """Return the settings. Raises WrongInput with a sentence for each problem."""
        found = self.read()
        if isinstance(found, list):
            raise WrongInput(*found)
        return found

    def read(self) -> Settings | list[str]:
        """Return the settings, or a sentence for each problem."""
        from rater.config import load  # noqa: PLC0415 - `rater --help` needs none of it

        return load(self.config, os.environ, self.values, flags=self.flags)


SETTING_FLAGS: dict[str, tuple[str, str]] = {
    "--bootstrap-servers": ("kafka.bootstrap_servers", "Kafka's brokers: HOST:PORT, commas between several."),
    "--group-id": ("kafka.group_id", "The consumer group of the workers."),
    "--session-timeout-ms": (
        "kafka.session_timeout_ms",
        "Silence after which a worker's lanes go to others.",
    ),
    "--redis-url": (
        "redis.url",
        "redis://HOST:PORT/DB, rediss://… with TLS, or unix:///PATH; of a cluster HOST:PORT,HOST:PORT.",
    ),
    "--topics-prefix": ("topics.prefix", "How the names of the system's own topics begin."),
    "--partitions": ("topics.partitions", "Partitions of the system's own topics."),
    "--replication-factor": ("topics.replication_factor", "Copies of each topic."),
    "--metrics-host": ("metrics.host", "Where /metrics, /livez and /readyz listen."),
    "--metrics-port": ("metrics.port", "Their port; 0 takes a free one."),
    "--duplicate-window-days": ("worker.duplicate_window_days", "How long duplicates are known."),
    "--log-level": ("logs.level", "debug, info, warning or error."),
}


def settings_options(*, shown: bool = False, prints: bool = False) -> Callable[[_Function], _Function]:
    """Give a command the shared flags. shown: in its help (else they work, unseen); prints.

    It knows --json.
    """

    def decorate(function: _Function) -> _Function:
        options = [
            click.option(
                "--config", "-c", type=click.Path(exists=True, dir_okay=False), envvar="RATER_CONFIG",
                expose_value=False, callback=_keep_config, hidden=not shown,
                help="The file of settings (TOML); `rater config settings` prints one.  [env: RATER_CONFIG]",
            ),
            click.option(
                "--set", "assignments", metavar="SECTION.KEY=VALUE", multiple=True,
                expose_value=False, callback=_keep_assignments, hidden=not shown,
                help="Any setting, for example worker.batch_age_ms=20. May be given several times.",
            ),
            *(
                click.option(
                    flag, metavar="VALUE", expose_value=False, callback=_keeper(setting, flag),
                    hidden=not shown, help=prose,
                )
                for flag, (setting, prose) in SETTING_FLAGS.items()
            ),
            click.option(
                "--json", "as_json", is_flag=True, expose_value=False, callback=_keep_json,
                hidden=not (shown or prints), help="Print JSON, one object on each line.",
            ),
        ]  # fmt: skip
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def limit_option(default: int) -> Callable[[_Function], _Function]:
    """Give a command --limit: how many rows it prints."""
    return click.option(
        "--limit", type=click.IntRange(0), default=default, show_default=True, metavar="N",
        help="At most so many; 0: all.",
    )  # fmt: skip


def page_options(rows: int) -> Callable[[_Function], _Function]:
    """Give a command --page and --rows: which rows it prints."""

    def decorate(function: _Function) -> _Function:
        function = click.option(
            "--rows", "--limit", "rows", type=click.IntRange(0), default=rows, show_default=True, metavar="N",
            help="Rows of a page; 0: all, as they are found.",
        )(function)  # fmt: skip
        return click.option(
            "--page", type=click.IntRange(1), default=1, show_default=True, metavar="N",
            help="Which page; the first is 1.",
        )(function)  # fmt: skip

    return decorate


def find_source(settings: Settings, name: str) -> Source:
    """Return a source of the settings. Raises WrongInput where there is none of this name."""
    known = settings.all_sources()
    if name not in known:
        near = difflib.get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        raise WrongInput(
            f"--source {name}: there is no such source; {hint}; or add [sources.{name}] to the settings"
        )
    return known[name]


def invocation() -> Invocation:
    """Return what the present command was given."""
    return click.get_current_context().find_root().ensure_object(Invocation)


def run(work: Coroutine[Any, Any, _T], settings: Settings, *, is_tool: bool = True) -> _T:
    """Run a command's work in an event loop, with logs to standard error.

    is_tool: a command for people, that logs only what went wrong; unless `logs.level` asks for something else
    than the level that it has for workers.
    """
    from rater import logs  # noqa: PLC0415 - the same

    set_up_logs(settings, is_tool=is_tool)

    async def tamed() -> _T:
        logs.tame(asyncio.get_running_loop())
        return await work

    return asyncio.run(tamed())


def set_up_logs(settings: Settings, *, is_tool: bool = True) -> None:
    """Send logs to standard error; a tool's only from `warning` on (`run`)."""
    from rater import logs  # noqa: PLC0415 - the same

    level = "warning" if is_tool and settings.logs.level == "info" else settings.logs.level
    logs.set_up(level, settings.logs.format, numbers=pseudonyms_of(settings))


def pseudonyms_of(settings: Settings) -> Pseudonyms | None:
    """Return what stands for telephone numbers in logs; None: they do."""
    from rater.pseudonyms import Pseudonyms  # noqa: PLC0415 - the same

    return Pseudonyms(settings.logs.number_key) if settings.logs.numbers == "hidden" else None


def pulled(settings: Settings, rows: AsyncIterator[_T]) -> Iterator[_T]:
    """Yield the rows of an asynchronous iterator, each when it is there."""
    with asyncio.Runner() as runner:
        set_up_logs(settings)
        try:
            while (row := runner.run(_next(rows))) is not None:
                yield row
        finally:
            runner.run(_close(rows))


async def _next(rows: AsyncIterator[_T]) -> _T | None:
    return await anext(rows, None)


async def _close(rows: AsyncIterator[_T]) -> None:
    close = getattr(rows, "aclose", None)
    if close is not None:
        await close()


def _obj(context: click.Context) -> Invocation:
    return context.find_root().ensure_object(Invocation)


def _keep_config(context: click.Context, _: click.Parameter, value: str | None) -> None:
    given = context.get_parameter_source("config") is click.core.ParameterSource.COMMANDLINE
    if value is not None and (given or _obj(context).config is None):
        _obj(context).config = value


def _keep_json(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value:
        _obj(context).json = True


def _keep_assignments(context: click.Context, _: click.Parameter, values: Sequence[str]) -> None:
    for assignment in values:
        setting, equals, value = assignment.partition("=")
        if not equals or "." not in setting:
            message = f"--set {assignment}: write SECTION.KEY=VALUE, for example --set worker.batch_age_ms=20"
            raise WrongInput(message)
        _keep(context, setting.strip(), value, "--set")


def _keeper(setting: str, flag: str) -> Callable[[click.Context, click.Parameter, str | None], None]:
    def keep(context: click.Context, _: click.Parameter, value: str | None) -> None:
        if value is not None:
            _keep(context, setting, value, flag)

    return keep


def _keep(context: click.Context, setting: str, value: str, flag: str) -> None:
    _obj(context).values[setting] = value
    _obj(context).flags[setting] = flag
