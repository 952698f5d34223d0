"""References for people: commands with their options, metrics, reasons; from what the code itself goes by."""

from __future__ import annotations

from collections.abc import Iterator

import click

from deploy.exported import exported
from rater.cli import rater
from rater.core.explaining.telling import IN_WORDS
from rater.core.reasons import MEANINGS
from rater.metrics import TABLE, Metric

WIDTH = 100
SUFFIX = {"counter": "_total", "info": "_info"}


# ------------------------------------------------------------------------------------------------- commands
def commands() -> str:
    """Return the reference of the command line: what `--help` says, command by command."""
    parts = [f"## {path}\n\n```text\n{said}\n```\n" for path, said in _said(rater, "rater", None)]
    return "# Commands\n\nWhat `--help` says of each.\n\n" + "\n".join(parts)


def _said(command: click.Command, path: str, above: click.Context | None) -> Iterator[tuple[str, str]]:
    name = path.rpartition(" ")[2]
    given = {**command.context_settings, "terminal_width": WIDTH}
    context = click.Context(command, info_name=name, parent=above, **given)
    yield path, command.get_help(context)
    if isinstance(command, click.Group):
        for below in sorted(command.commands):
            yield from _said(command.commands[below], f"{path} {below}", context)


# ------------------------------------------------------------------------------------------------- metrics
def metrics() -> str:
    """Return the reference of metrics, in the order of /metrics."""
    rows = [
        f"| `{one.name}{SUFFIX.get(one.kind, '')}` | {one.kind} | {_labels(one)} | {_prose(one)} |"
        for one in TABLE
    ]
    head = ["| metric | kind | labels | what it counts |", "|---|---|---|---|"]
    about = (
        "What a process serves at `/metrics`, beside `process_…` and `python_gc_…` of the Prometheus client. "
        "Labels come from closed lists; what is on no list is counted as `other`."
    )
    return f"# Metrics\n\n{about}\n\n" + "\n".join([*head, *rows]) + "\n"


def _labels(one: Metric) -> str:
    if one.kind == "info":
        return "<br>".join(
            f"`{label}`" for label in sorted(exported()[one.name + "_info"] - {"job", "instance"})
        )
    return "<br>".join(
        f"`{label}`: {', '.join(map(str, values)) or 'as the settings have them'}"
        for label, values in one.labels.items()
    )


def _prose(one: Metric) -> str:
    bounds = f" Buckets up to {', '.join(f'{bound:g}' for bound in one.bounds)}." if one.bounds else ""
    return one.prose.replace("|", "\\|") + bounds


# ------------------------------------------------------------------------------------------------- reasons
def reasons() -> str:
    """Return the reference of reasons, in the order in which they are given."""
    lists = (
        ("Why a side is rejected", "The first that holds is given.", MEANINGS),
        (
            "Why a limit is passed over",
            "As `rater explain` says it; the first that holds is given.",
            IN_WORDS,
        ),
    )
    parts = []
    for title, about, found in lists:
        rows = [f"| `{reason}` | {meaning} |" for reason, meaning in found.items()]
        parts.append(
            "\n".join([f"## {title}\n\n{about}\n", "| reason | what it means |", "|---|---|", *rows]) + "\n"
        )
    return "# Reasons\n\n" + "\n".join(parts)
