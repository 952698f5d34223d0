"""A PostgreSQL for the tests, where its programs are installed: started in a folder, ended with the run."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = os.environ.get("RATER_POSTGRES", "")
"""Where initdb and postgres are, if not on the path."""
_UNPRIVILEGED = "nobody"
"""Who runs the server where this process is root, as whom it refuses to run."""


def program(name: str) -> str | None:
    """Return the path of a program of PostgreSQL, None: it is not here."""
    found = shutil.which(name, path=FOLDER or None)
    return None if found is None else str(Path(found).resolve())


def is_here() -> bool:
    """Return whether a server can be started, or one is needed."""
    return program("initdb") is not None or "RATER_POSTGRES_NEEDED" in os.environ


@contextmanager
def server() -> Iterator[str]:
    """Run a server; gives the URL of its database, for `admin.database`."""
    initdb, postgres = program("initdb"), program("postgres")
    assert initdb is not None, "PostgreSQL is not installed: name the folder of initdb by RATER_POSTGRES"
    assert postgres is not None
    user = _UNPRIVILEGED if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory(prefix="rater-postgres-", ignore_cleanup_errors=True) as folder:
        if user is not None:
            shutil.chown(folder, user)
        data = f"{folder}/data"
        subprocess.run(  # noqa: S603 - programs that were looked for
            [initdb, "-D", data, "-U", "rater", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        options = ["-p", str(port), "-k", folder, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        with Path(folder, "log").open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - the same
                [postgres, "-D", data, *options], user=user, cwd=folder, stdout=log, stderr=log
            )
        try:
            _wait(port, process)
            yield f"postgresql://rater@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # SIGTERM waits for those who are connected
            process.wait(30)


def _wait(port: int, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + 60
    while True:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert process.poll() is None, "PostgreSQL has ended"
        assert time.monotonic() < until, "PostgreSQL does not listen within 60 s"
        time.sleep(0.05)
