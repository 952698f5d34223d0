"""Who we are to Kafka and Redis: passwords and certificates in files, read again when they are renewed."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import structlog

log = structlog.get_logger()


def read_secret(path: str) -> str:
    """Return the text of a file without the line break at its end. Raises OSError, UnicodeDecodeError."""
    return Path(path).read_text("utf-8").rstrip("\r\n")


class Secret:
    """A password or a token in a file: each connection that is made logs in with what stands there now."""

    def __init__(self, path: str, text: str) -> None:
        """text: what was read of it first."""
        self._path, self._text = path, text

    def read(self) -> str:
        """Return what the file says; where it cannot be read, or is empty, what it said before."""
        try:
            text = read_secret(self._path)
        except (OSError, UnicodeDecodeError) as error:
            log.warning("a secret cannot be read again", file=self._path, reason=str(error))
        else:
            self._text = text or self._text
        return self._text


class Tls:
    """TLS to a server: its authorities, and our certificate where it asks for one."""

    def __init__(
        self,
        cafile: str | None = None,
        certfile: str | None = None,
        keyfile: str | None = None,
        *,
        check_hostname: bool = True,
    ) -> None:
        """Read the files (PEM). No `cafile`: the machine's authorities. Raises OSError, ValueError."""
        self._files = (cafile, certfile, keyfile)
        self._check_hostname = check_hostname
        self._seen = self._versions()
        self._context = self._made()

    def get(self) -> ssl.SSLContext:
        """Return the context for a connection: anew when a file has changed, and all of them can be read.

        redis-py asks its own contexts by this name.
        """
        try:
            found = self._versions()
            if found != self._seen:
                self._context, self._seen = self._made(), found
        except (OSError, ValueError) as error:
            log.warning("certificates cannot be read again", files=self._files, reason=str(error))
        return self._context

    def _versions(self) -> list[tuple[int, int, int]]:
        found = [Path(file).stat() for file in self._files if file]
        return [(each.st_mtime_ns, each.st_ino, each.st_size) for each in found]

    def _made(self) -> ssl.SSLContext:
        cafile, certfile, keyfile = self._files
        context = ssl.create_default_context(cafile=cafile)
        context.check_hostname = self._check_hostname
        if certfile:
            context.load_cert_chain(certfile, keyfile, password=_ask)
        return context


def tls_faults(cafile: str | None, certfile: str | None, keyfile: str | None) -> Iterator[tuple[str, str]]:
    """Yield (the argument's name, what is wrong and the remedy) for each file that is not what it must be."""
    try:
        Tls(cafile)
    except (OSError, ValueError) as error:
        yield "cafile", f"has no certificates of authorities ({_why(error)}); give a PEM file that has"
    if certfile and keyfile:
        try:
            Tls(None, certfile, keyfile)
        except (OSError, ValueError) as error:
            yield "certfile", f"does not go with its key ({_why(error)}); give PEM files of one pair"


def _ask() -> NoReturn:
    """Stand in for OpenSSL's question at the terminal."""
    raise ValueError("the key has a passphrase: keep it without one, readable by us alone")


def _why(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
