"""Redis as it is named: one server, or some nodes of a cluster, any of which tells where the others are."""

from __future__ import annotations

import re

_NODES = re.compile(r"(rediss?://(?:[^/?#]*@)?)([^/?#@]*)(.*)", re.DOTALL)


def each_node(url: str) -> list[str]:
    """Return a URL for each node that `redis.url` names, commas between them: redis://HOST:PORT,HOST:PORT.

    User, password and what stands behind the hosts are those of all.
    """
    found = _NODES.fullmatch(url)
    if found is None:
        return [url]
    begin, hosts, rest = found.groups()
    return [f"{begin}{host.strip()}{rest}" for host in hosts.split(",")]
