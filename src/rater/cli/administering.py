"""The command that serves the HTTP API and the console: admin."""

from __future__ import annotations

import click

from rater.cli.options import Failed, invocation, run, settings_options

# Imports inside of functions: `rater --help` must not wait for the client libraries.
# ruff: noqa: PLC0415
# click reads \b as "do not wrap", so it must be the character (D301).
# ruff: noqa: D301


@click.command()
@settings_options()
def admin() -> None:
    """Serve the HTTP API and the console until it is told to stop (SIGTERM, Ctrl-C).

    Who may ask, and for what, is said by `[[admin.tokens]]` and `[admin.oidc]` of the settings; without
    either it does not start.
    /openapi.json tells what the API takes; /metrics, /livez and /readyz are beside it.

    \b
    Example:
      rater --config rater.toml admin
    """
    settings = invocation().settings()
    try:
        from rater.admin.program import run_admin
    except ModuleNotFoundError as error:
        raise Failed(
            f"the console needs {error.name}, which is not installed: pip install 'rater[admin]'"
        ) from error
    run(run_admin(settings), settings, is_tool=False)
