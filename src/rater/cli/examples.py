"""Commands that print the files to begin with: config example, settings, acl."""

from __future__ import annotations

import click

from rater.cli.options import Failed, settings_options

# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.group("config")
def config_group() -> None:
    """Files to begin with: a catalog, the settings, the rights in Redis."""


@config_group.command("example")
@settings_options()
def config_example() -> None:
    """Print an example catalog, which shows every field; `rater load` takes it.

    \b
    Example:
      rater config example > catalog.yaml
    """
    _print("example.yaml")


@config_group.command("settings")
@settings_options()
def config_settings() -> None:
    """Print every setting, with its default and the reason for it (TOML, for --config).

    \b
    Example:
      rater config settings > rater.toml
    """
    _print("rater.toml")


@config_group.command("acl")
@settings_options()
def config_acl() -> None:
    """Print the rights that the worker's user needs in Redis or Valkey, and no more.

    \b
    Example:
      rater config acl > redis-worker.acl
    """
    _print("redis-worker.acl")


def _print(name: str) -> None:
    from rater.shipped import config  # noqa: PLC0415 - `rater --help` needs none of it

    try:
        text = (config() / name).read_text(encoding="utf-8")
    except OSError as error:
        raise Failed(
            f"{name} is missing from this installation ({error}); install rater again from its wheel"
        ) from error
    click.echo(text, nl=False)
