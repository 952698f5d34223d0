"""Which snapshots a bucket can be put in place by."""

from __future__ import annotations

from rater.core.bucket.messages import bucket_of
from rater.core.journal.snapshots import ClientHead, RoundHead
from rater.stream.snapshots import SnapshotIndex

CLIENTS = [f"c{at}" for at in range(40)]


def index_of(buckets: int, *rounds: int) -> SnapshotIndex:
    """Return the index, of a store with so many buckets, of rounds that were written with these numbers."""
    index, offset = SnapshotIndex(1, buckets), 0
    for of in rounds:
        for bucket in range(of):
            own = [client for client in CLIENTS if bucket_of(client, of) == bucket]
            for client in own:
                index.add(offset, ClientHead(bucket, client, (7,)))
                offset += 1
            index.add(offset, RoundHead(bucket, (7,), len(own), 1, of))
            offset += 1
    return index


def test_a_round_of_another_number_of_buckets_is_none() -> None:
    """Else a store that is emptied and given fewer or more lacks clients, and has others in two buckets."""
    assert all(index_of(4, 4).usable(bucket) for bucket in range(4))
    for buckets in (2, 3, 8):
        assert not any(index_of(buckets, 4).usable(bucket) for bucket in range(buckets))


def test_clients_of_another_number_of_buckets_are_not_put_in_place() -> None:
    """They stay in the topic for ever where their keys are written to another partition since."""
    index = index_of(8, 4, 8)
    for bucket in range(8):
        assert index.usable(bucket) is not None
        assert index.clients[bucket].keys() == {
            client for client in CLIENTS if bucket_of(client, 8) == bucket
        }
    other = next(client for client in CLIENTS if bucket_of(client, 4) != bucket_of(client, 8))
    assert not index.is_latest(0, ClientHead(bucket_of(other, 4), other, (7,)))


def test_a_round_of_more_lanes_is_none() -> None:
    """Its positions are of partitions that are not there; one of fewer was made before some were added."""
    index = SnapshotIndex(2, 4)
    index.add(0, RoundHead(0, (7, 8, 9), 0, 1, 4))
    assert index.usable(0) is None
    index.add(1, fewer := RoundHead(0, (7,), 0, 1, 4))
    assert index.usable(0) == fewer
