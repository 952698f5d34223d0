"""Managed services: what they let nobody see or do is told in a sentence, and the rest is done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from rater.errors import Halt
from rater.local.redis import Redis
from rater.store.link import Link
from rater.store.provisioning import Library
from store.test_buckets import Lane, connected
from store.test_link import TIMEOUT_S, link_to, serving

REFUSED = ("ACL", "BGSAVE", "CONFIG", "DEBUG", "FLUSHALL", "MONITOR", "SAVE", "SHUTDOWN", "SLAVEOF")
"""What services keep for themselves."""


def bulk(text: str) -> bytes:
    """Return a text as a reply."""
    return f"${len(text)}\r\n{text}\r\n".encode()


async def test_commands_that_services_refuse_are_not_needed(
    start_redis: Callable[..., Redis], prefix: str
) -> None:
    """Without CONFIG, ACL and the like all works, and there is nothing to remark."""
    server = start_redis(settings={f"rename-command {name}": '""' for name in REFUSED})
    async with connected(server.url, prefix) as store:
        await Lane(store).take()
        assert (await store.check(), await store.unseen()) == ([], [])


async def test_a_policy_that_nobody_is_told_is_no_problem() -> None:
    """It may be the right one: so that is a remark, which says where to look."""

    def answer(words: list[bytes]) -> bytes:
        told = {b"everything": bulk("redis_version:7.1.0\r\n"), b"cluster": bulk("cluster_enabled:0\r\n")}
        return told[words[1]] if words[0] == b"INFO" else b"-ERR unknown command 'FUNCTION'\r\n"

    async with serving(answer) as port:
        link = link_to(port)
        await link.open()
        library = Library(link)
        policy, functions = await library.unseen()
        assert f"127.0.0.1:{port} does not tell its maxmemory-policy" in policy
        assert "does not let this user list functions" in functions
        with pytest.raises(Halt, match=r"has no FUNCTION: unknown command .* missing there"):
            await library.load(await link.address("key"))
        await link.close()


async def test_several_nodes_of_no_cluster_are_refused() -> None:
    """Two servers that know nothing of each other would each hold a part of the money."""
    async with serving(lambda _: bulk("cluster_enabled:0\r\n")) as one:
        link = Link(f"redis://127.0.0.1:{one},127.0.0.1:{one}", None, None, TIMEOUT_S)
        with pytest.raises(Halt, match=rf"names 2 nodes, but 127\.0\.0\.1:{one} is no cluster's"):
            await link.open()
        await link.close()
