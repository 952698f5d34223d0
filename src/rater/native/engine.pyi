"""The native engine (Rust, PyO3): what it is asked, and when, says `rater.core.line.engine.Rating`."""

from collections.abc import Callable, Container, Sequence
from typing import IO, Any, TypeAlias, TypedDict

from rater.core.journal.records import Outgoing, Run
from rater.core.line.engine import Lacking, Packed, Place, Rendered

def kafka_records(records: Sequence[Outgoing | Run], most: int) -> list[tuple[bytes, int]]:
    """Return Kafka batches' records, uncompressed, and how many there are in each, in their order.

    records: a list; a run stands for all of its records. most: bytes of a batch with its header; a larger
    record has its own. Raises TypeError for what is no record, ValueError for one of 2 GiB, or a run that is
    none.
    """

def kafka_batch(records: bytes, count: int, at_ms: int, producer: tuple[int, int, int]) -> bytes:
    """Return a finished batch of a Kafka transaction.

    records: of `kafka_records`, compressed by zstd. at_ms: the time of all. producer: its id, its epoch, and
    the number of the batch's first record.
    """

class Effects:
    """Effects of transactions, added up for buckets of which nothing is kept (`core.journal.reconciling`)."""

    def __init__(
        self,
        generation_ms: int,
        first_generation: int,
        starts: Sequence[int],
        floors: Sequence[int],
        included: Sequence[Callable[[str], int] | None],
    ) -> None:
        """By bucket: `Reconciling.read_from`, `floor` and `included`."""
    def add(
        self, first: int, records: bytes, start: int, until: int
    ) -> tuple[list[tuple[int, str, bytes | None]], list[int]]:
        """Take the transactions of a batch with start <= offset < until; batches come in their order.

        first, records: `stream.fetching.FetchedBatch`. Returns (offset, name and value of the header) of
        records that Python is to read, and how much has come together by bucket. Raises ValueError where
        these are no records, OverflowError.
        """
    def take(
        self, bucket: int, keys: int, arguments: int
    ) -> tuple[int, list[str], tuple[int, bytes], list[int], tuple[int, bytes], list[bytes]]:
        """Return what has come together of a bucket, and begin anew: lane time, and an `AddedSums`.

        keys, arguments: of the call, before those that are added.
        """

class Panic(BaseException):
    """The engine met what it does not expect: the batch is not to be used again."""

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
    def put(self, client: str, state: bytes) -> None:
        """Take a client's newest state, where there is a view of it."""
    def forget(self, client: str) -> None:
        """Have no view of a client until it is fetched again."""
    def trim(self, most: int) -> None:
        """Forget the views, and the accounts, where there are more than so many."""
    def clear(self) -> None:
        """Forget all."""
    def digits_of(self, text: str) -> str:
        """Return what `number_text.digits_of` does."""
    def __len__(self) -> int: ...

class Values(TypedDict):
    """What is published of drawn sides: see `Rendered`. transactions: values; duplicates: places."""

    transactions: list[bytes]
    places: list[Place]
    events: list[tuple[str, bytes, bytes, Place]]
    refused: list[tuple[Place, int, str, int]]
    duplicates: list[Place]

class Batch:
    """A batch on its way: see `Rating`."""

    def __init__(
        self, cache: Cache, lane: int, lane_ms: int, window_ms: int, *, contextless: bool = False
    ) -> None:
        """lane_ms, window_ms: of the lane, as they are before the batch.

        contextless: no outcome is kept of its requests, so they have no context.
        """
    @property
    def lane_ms(self) -> int: ...
    def decode(
        self,
        catalog: Catalog | None,
        topic: str,
        values: Sequence[bytes | None],
        offsets: Sequence[int],
        timestamps: Sequence[int],
        *,
        mapped: bool = False,
        replayed: Sequence[int] | None = None,
        traces: Sequence[bytes | None] | None = None,
    ) -> list[int]: ...
    def identify(self, catalog: Catalog) -> Lacking: ...
    def learn(
        self,
        clients: Sequence[str],
        accounts: Sequence[str],
        states: dict[str, bytes],
        owners: dict[str, str],
    ) -> None: ...
    def put(self, client: str, state: bytes) -> None: ...
    def forget(self, client: str) -> None: ...
    def prepare(self, catalog: Catalog, buckets: int, whole: Container[str]) -> Lacking: ...
    def requests(self) -> list[tuple[int, int]]: ...
    def packed(self, request: int, generation: int, trim: int, floor: int) -> Packed: ...
    def settle(self, request: int, packed: bytes) -> list[tuple[int, int, str]]: ...
    def again(self, request: int, more: Sequence[int]) -> list[str]: ...
    def give_back(self, clients: Sequence[str] | None) -> None: ...
    def returned(self) -> list[Place]: ...
    def drawn_by(self, record: int, index: int) -> int: ...
    def rejected(self) -> list[Place]: ...
    def taken(self, records: set[int]) -> list[Place]: ...
    def render(self, *, written: bool = False) -> Rendered: ...
    def values(self) -> Values:
        """Return what `render` does, for who publishes values alone."""
    def told(self) -> list[dict[str, Any]]:
        """Return each side as it was decoded, identified and priced: for tests."""

class Bucket:
    """A bucket in memory, of one owner, which draws as `store/functions.lua` does.

    It holds versions, balances, counters and duplicates. Nothing else of a draw is kept: no outcome,
    register, hint, member, history or account; there are no lanes, and no gate.
    """

    def __init__(self, *, unique: bool = False) -> None:
        """unique: calls come once, as is known: no duplicates are kept or looked for."""
    def put(self, client: str, version: int | None, balance: int, counters: dict[str, int]) -> None:
        """Put a client's version and sums in place of what is there. version None: sums alone are known.

        balance: micros; counters: field → used. Raises ValueError beyond ±2^62.
        """
    def client(self, client: str) -> tuple[int | None, int, dict[str, int]] | None:
        """Return a client's version, balance (micros) and counters; None: it is not there."""
    def clients(self) -> list[str]:
        """Return the clients that are there, sorted."""
    def remember(self, generation: int, key: bytes, content: bytes) -> None:
        """Remember the key of a call (8 bytes) under its content (4)."""
    def expire(self, generation: int) -> None:
        """Drop the duplicates of generations below this one."""
    def __len__(self) -> int:
        """Return how many duplicates are kept."""
    def draw(self, keys: list[str], argv: list[Any]) -> list[Any]:
        """Carry out rater_v4_draw, or rater_v4_change where argv has what that has besides.

        The arguments and the reply are those of `FCALL`; lane, token and gate are not asked, and UNSETTLED
        does not come. Raises ValueError: it is no such call; nothing was changed.
        """
    def draw_of(self, batch: Batch, request: int, generation: int) -> list[Any]:
        """Carry out a request of a batch of this engine, which does not settle it."""

class Zone:
    """A time zone by its TZif: for tests."""

    def __init__(self, raw: bytes) -> None: ...
    def local_of(self, at_ms: int) -> int: ...
    def instant_of(self, local_ms: int) -> int: ...
    def later(self, at_ms: int, days: int, months: int) -> int | None: ...

class Sorting:
    """Entries that are sorted in memory: (key, what is kept), as `core.rerating.sorting` has them."""

    def __init__(self) -> None: ...
    def add(self, key: bytes, raw: bytes) -> None:
        """Add one."""
    def size(self) -> int:
        """Return how many bytes they are."""
    def run(self, size: int) -> bytes:
        """Return the next entries as a run, in order, of so many bytes or somewhat more; add none meanwhile.

        Of each: its lengths (4 + 4 bytes), the key, what is kept. b"": there are none, and it begins anew.
        """

SomeCalls: TypeAlias = tuple[str, list[tuple[bytes, bytes]], bytes, list[int]]
"""Of a client: its id, the entries of its fees, calls (`core.rerating.calls.together`), and the places of
those of which Python says whether they are selected: never rated, or of a code that cannot be read."""

class Merged:
    """Sorted runs gone through as one, once. Raises ValueError where they are none."""

    def __init__(self, files: Sequence[IO[bytes]], run: bytes, code: str) -> None:
        """files: of a run each, at its beginning. code: as `core.rerating.sorting.latest` takes it."""
    def run(self, size: int) -> bytes:
        """Return the next entries as a run of so many bytes, or somewhat more; b"": there are none."""
    def calls(self, most: int) -> SomeCalls | None:
        """Return the next calls of a client, what was published last of each; None: nothing is left."""

class Gathering:
    """Reads the journal for a re-rate: calls of the selection, as `core.rerating.sorting` has them."""

    def __init__(self, clients: set[str] | None, from_ms: int, to_ms: int, waiting: set[bytes]) -> None:
        """Select by clients (None: all) and window [from_ms, to_ms). waiting: digests of ids, BLAKE2b."""
    def take(
        self, sorting: Sorting, first: int, records: bytes, start: int, until: int
    ) -> tuple[list[tuple[int, str, int]], list[bytes], list[tuple[int, bytes | None, str, bytes | None]]]:
        """Take the records of a batch with start <= offset < until: their calls are added, or none is.

        first, records: `stream.fetching.FetchedBatch`. Returns of what jobs have published place, client and
        offset of the command; digests of ids that were waited for; and place, value, name and value of the
        header of records that Python is to read. Raises ValueError where these are no records.
        """

class Again:
    """One client's calls rated again (`core.rerating.client.Again`).

    Raises ValueError or OverflowError where Python is to rate the client; nothing of it is to be used then.
    """

    def __init__(
        self,
        cache: Cache,
        catalog: Catalog,
        state: bytes,
        balance: int,
        counters: dict[str, int],
        fees: list[tuple[str, str, str, str, int]],
    ) -> None:
        """state: with all periods.

        fees that calls brought: source and id of the CDR, their own id, client package, period.
        """
    def take_back(self, calls: bytes) -> None:
        """Take back what calls drew. calls: a part of them, as `core.rerating.calls.together` gives it."""
    def brought(self) -> list[str]:
        """Return the ids of the fees that these calls have brought."""
    def add(self, field: str, units: int) -> None:
        """Add to a counter."""
    def rate(
        self, calls: bytes
    ) -> tuple[
        tuple[int, int, int],
        list[
            tuple[
                bytes,
                bytes | None,
                int,
                list[tuple[str, int]],
                tuple[bytes, int, list[tuple[str, int]]] | None,
                bool,
            ]
        ],
    ]:
        """Rate calls; those that end as they did are counted: how many, billed units, micros.

        Of each other one: the call as it was given, transaction or None, amount, takes, the fee that it
        brings (transaction, amount, what it adds), whether its draw was refused as out of range.
        """
    def bounds(self) -> tuple[dict[str, tuple[int, int]], tuple[int, int]]:
        """Return by how much counters and the balance may have moved (`core.rerating.bounds`)."""
