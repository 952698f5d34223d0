"""Looks through the crate where there is a toolchain: rustfmt, clippy, cargo deny (a part of `make lint`)."""

from __future__ import annotations

import subprocess
import sys

# As a script has it beside itself: the package may be unusable as yet.
from building import (  # type: ignore[import-not-found]
    CRATE,
    Failed,
    Lacking,
    environment,
    fetch,
    toolchain,
)

CHECKS = {
    "fmt": ["--check"],
    # As the engine is built: half of what it needs is there then.
    "clippy": ["--release", "--locked", "--offline", "--all-targets", "--quiet", "--", "-D", "warnings"],
    # Advisories are looked up by the workflow that makes wheels: they change without us.
    "deny": ["--locked", "--offline", "check", "bans", "licenses", "sources"],
}
INSTALL = {
    "fmt": "rustup component add rustfmt",
    "clippy": "rustup component add clippy",
    "deny": "cargo install --locked cargo-deny",
}


def cargo(*arguments: str, quiet: bool = False) -> bool:
    """Run cargo in the crate's folder; return whether it ended with 0."""
    told = subprocess.DEVNULL if quiet else None
    done = subprocess.run(  # noqa: S603
        ["cargo", *arguments],  # noqa: S607
        cwd=CRATE,
        env=environment(),
        check=False,
        stdout=told,
        stderr=told,
    )
    return done.returncode == 0


def main() -> int:
    """Run each check that is installed; 1: one of them found something."""
    try:
        tools = toolchain()
        fetch(tools, tools.host)
    except Lacking as lacking:
        say(f"the crate is not looked through: {lacking}")
        return 0
    except Failed as failed:
        say(str(failed))
        return 1
    found = False
    for name, arguments in CHECKS.items():
        if not cargo(name, "--version", quiet=True):
            say(f"cargo {name} is not installed: `{INSTALL[name]}`")
        elif name == "deny" and not cargo("fetch", "--locked", quiet=True):
            say("cargo deny needs the crates of all platforms, and cargo cannot get them")
        elif cargo(name, *arguments):
            say(f"cargo {name} found nothing")
        else:
            found = True
    return int(found)


def say(text: str) -> None:
    """Tell what is going on, before what the next process tells."""
    sys.stdout.write(f"native engine: {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
