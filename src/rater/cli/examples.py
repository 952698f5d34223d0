"""Commands that print the files to begin with: config example, settings, acl; and pseudonyms of logs."""

from __future__ import annotations

from collections.abc import Iterator

import click

from rater.cli.options import Failed, WrongInput, invocation, settings_options

# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.group("config")
def config_group() -> None:
    """Files to begin with: a catalog, the settings, rights in Redis and Kafka; and what logs show."""


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
@click.option("--kafka", "of_kafka", is_flag=True, help="The commands that grant its rights in Kafka.")
@click.option(
    "--principal", metavar="USER",
    help="The user as Kafka names it: User:rater, or User:CN=… of a certificate. By default that of the "
    "settings.",
)  # fmt: skip
@settings_options()
def config_acl(of_kafka: bool, principal: str | None) -> None:  # noqa: FBT001 - click's signature
    """Print the rights that the worker's user needs in Redis or Valkey, or in Kafka, and no more.

    Of Kafka they are for the topics, the group and the brokers of the settings.

    \b
    Examples:
      rater config acl > redis-worker.acl
      rater --config rater.toml config acl --kafka
    """
    if principal is not None and not of_kafka:
        raise WrongInput("--principal is of Kafka's rights: give --kafka, too")
    if not of_kafka:
        _print("redis-worker.acl")
        return
    for line in _kafka_rights(principal):
        click.echo(line)


def _kafka_rights(principal: str | None) -> Iterator[str]:
    from rater.app import topics_of  # noqa: PLC0415 - `rater --help` needs none of it
    from rater.stream import rights  # noqa: PLC0415 - the same

    settings = invocation().settings()
    kafka, topics = settings.kafka, topics_of(settings)
    whose, servers = principal or f"User:{kafka.sasl_username or 'rater'}", kafka.bootstrap_servers
    yield "# What a worker needs. A user of SASL is User:NAME, one of a certificate User:SUBJECT."
    yield from rights.commands(rights.of_worker(topics, kafka.group_id), whose, servers)
    yield "# To warn of brokers' settings and clocks, as `rater check` does, too; it rates without."
    yield from rights.commands(rights.of_check(), whose, servers)


@config_group.command("pseudonym")
@click.argument("number")
@settings_options()
def config_pseudonym(number: str) -> None:
    """Print what stands for a telephone number in logs, to look for it there.

    \b
    Example:
      rater --config rater.toml config pseudonym +380441234567
    """
    from rater.cli.options import pseudonyms_of  # noqa: PLC0415 - `rater --help` needs none of it

    settings = invocation().settings()
    found = pseudonyms_of(settings)
    if found is not None and not settings.logs.number_key:
        raise WrongInput("there is no logs.number_key, so all numbers look the same in logs; give one")
    click.echo(number if found is None else found.of(number))


def _print(name: str) -> None:
    from rater.shipped import config  # noqa: PLC0415 - `rater --help` needs none of it

    try:
        text = (config() / name).read_text(encoding="utf-8")
    except OSError as error:
        raise Failed(
            f"{name} is missing from this installation ({error}); install rater again from its wheel"
        ) from error
    click.echo(text, nl=False)
