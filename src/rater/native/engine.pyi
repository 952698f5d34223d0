"""The native engine (Rust, PyO3). Bytes and numbers cross its border, once for each batch.

What a batch goes through: decode → (identify, learn) until nothing is lacking → (prepare, learn) until
nothing is
lacking → requests → packed of each → settle, or again → … until all is drawn or returned → render. Clients
that
something is due of, and sides that are rejected, are returned: the reference goes on with them.
"""

from collections.abc import Sequence
from typing import Any, TypeAlias

Place: TypeAlias = tuple[int, int]
"""Number of a record among all of the batch, side: 0 orig, 1 term."""
Lacking: TypeAlias = tuple[list[str], list[str], int]
"""Clients and accounts to look up; the version of the catalog that has to be had, 0: none."""

class Catalog:
    """One version of the catalog, ready for rating."""

    version: int
    def __init__(
        self,
        objects: dict[str, bytes],
        version: int,
        percents: list[int],
        names: dict[str, str],
        installed: dict[str, bytes],
    ) -> None:
        """Read a catalog's content.

        objects: as `specs.objects` writes it. percents: of limits' use, of which events tell, ascending.
        names: of code
        names what their spellings have in common. installed: TZif of the zones installed here, for what the
        content
        lacks. Raises ValueError.
        """

class Cache:
    """What the lanes of a process share: views of clients, whose accounts are."""

    def __init__(self, characters: dict[str, str]) -> None:
        """characters: what those of numbers are read as, where that is another text."""
    def trim(self, most: int) -> None:
        """Forget the views, and the accounts, where there are more than so many."""
    def clear(self) -> None:
        """Forget all."""
    def digits_of(self, text: str) -> str:
        """Return what `number_text.digits_of` does."""
    def __len__(self) -> int: ...

class Batch:
    """What a poll brought in, and what becomes of it."""

    lane_ms: int
    def __init__(self, cache: Cache, lane: int, lane_ms: int, window_ms: int) -> None:
        """lane_ms, window_ms: of the lane, as the reference has them before the batch."""
    def decode(
        self,
        catalog: Catalog | None,
        topic: str,
        values: Sequence[bytes | None],
        offsets: list[int],
        timestamps: list[int],
        *,
        mapped: bool = False,
        replayed: bytes | list[int] | None = None,
    ) -> list[int]:
        """Take records; returns the numbers of those that the reference has to look at, or at a side of them.

        mapped: fields of a source map as JSON, their instants in ms. replayed: bits of sides that were
        decided before.
        """
    def identify(self, catalog: Catalog) -> Lacking:
        """Find whose call each open side is, and its rate."""
    def learn(
        self,
        clients: Sequence[str],
        accounts: Sequence[str],
        states: dict[str, bytes],
        owners: dict[str, str],
    ) -> None:
        """Take in what the store answered to these questions."""
    def put(self, client: str, state: bytes) -> None:
        """Take a client's newest state."""
    def forget(self, client: str) -> None:
        """Have no view of a client until it is fetched again."""
    def prepare(self, catalog: Catalog, whole: Sequence[str]) -> Lacking:
        """Price identified sides and find their limits.

        whole: clients that are asked with all limits at once.
        """
    def requests(self, catalog: Catalog, buckets: int) -> list[tuple[int, int]]:
        """Put what was prepared into requests; returns (number, bucket) of each."""
    def packed(
        self, request: int, catalog: Catalog, generation: int, trim: int, floor: int
    ) -> tuple[list[str], bytes, bytes, bytes, bytes | None]:
        """Return clients, payload, digests, context, and what rater_v3_change has besides."""
    def settle(self, request: int, packed: bytes) -> list[tuple[int, int, str]]:
        """Note results as the store packed them.

        Returns (record, side, client) of sides that woke their clients.
        """
    def again(self, request: int, more: Sequence[int]) -> list[str]:
        """Decide the sides of a request again.

        Returns the clients of these items, all of whose sides here are asked with all limits then.
        """
    def give_back(self, clients: Sequence[str]) -> None:
        """Return all open sides of these clients."""
    def returned(self) -> list[Place]:
        """Return the sides that the reference goes on with."""
    def render(self) -> dict[str, Any]:
        """Return all that is published of drawn sides: transactions, events, refused sides, counts."""
    def told(self) -> list[dict[str, Any]]:
        """Return each side as it was decoded, identified and priced: for tests."""

class Zone:
    """A time zone by its TZif: for tests."""

    def __init__(self, raw: bytes) -> None: ...
    def local_of(self, at_ms: int) -> int: ...
    def instant_of(self, local_ms: int) -> int: ...
    def later(self, at_ms: int, days: int, months: int) -> int | None: ...
