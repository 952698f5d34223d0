"""Where workers serve their metrics, as `admin.workers` names them: HOST:PORT each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

_PORT_MAX = 65_535


def address_faults(addresses: Sequence[str]) -> Iterator[str]:
    """Yield what is wrong with addresses that look like such: each worker counts once."""
    for number, address in enumerate(addresses):
        if not 1 <= int(address.rpartition(":")[2]) <= _PORT_MAX:
            yield f"admin.workers: {address!r} has no port from 1 to {_PORT_MAX}; give that of the worker"
        elif address in addresses[:number]:
            yield f"admin.workers: {address!r} is named twice, and would count twice; take one away"
