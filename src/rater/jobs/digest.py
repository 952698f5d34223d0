"""`rater rebuild --check`: a digest of what Redis holds of clients, to compare two states by."""

from __future__ import annotations

from collections.abc import Callable

from rater.core.bucket.messages import bucket_of
from rater.core.journal.snapshots import Digest
from rater.store.buckets import Buckets
from rater.store.keys import ACCOUNT_SHARDS

CLIENTS_AT_ONCE = 50
"""Clients read in one go."""


async def digest(store: Buckets, progress: Callable[[int], None] | None = None) -> Digest:
    """Return the digest of clients and of the account index; equal states have equal ones.

    It is of one state only while nobody rates. Duplicates, kept outcomes and hints are not in it: the first
    two are of a time, the last say no more than the clients. progress: called with the clients read so far.
    """
    found = Digest()
    some: list[list[str]] = [[] for _ in range(store.count)]
    async for client in store.scan_clients():
        bucket = bucket_of(client, store.count)
        some[bucket].append(client)
        if len(some[bucket]) == CLIENTS_AT_ONCE:
            await _add(store, bucket, some[bucket], found)
            some[bucket] = []
            if progress is not None:
                progress(found.clients)
    for bucket, clients in enumerate(some):
        await _add(store, bucket, clients, found)
        for shard in range(ACCOUNT_SHARDS):
            for account, client in await store.account_shard(bucket, shard):
                found.add_account(account, client)
    return found


async def _add(store: Buckets, bucket: int, clients: list[str], found: Digest) -> None:
    for row in await store.rows(bucket, clients):
        found.add(row)
