"""A read model that is filled for its lists: rows are handed to its own writer, without Kafka or records.

    python benchmarks/filling.py URL [--transactions N] [--packages N]

What lists cost depends on the rows that lie there, and not on how they came: so a database of ten million
transactions is there in some minutes. `benchmarks/reading.py --lists URL` asks it.
"""

from __future__ import annotations

import argparse
import random
import time
from typing import Any

from reading import BATCH, LANES, NOW_MS, write_clients

from rater.core.kinds import TransactionType
from rater.readmodel.database import Database
from rater.readmodel.decoding import Batch, id_key
from rater.readmodel.schema import KINDS, USAGE
from rater.readmodel.writing import Writer

FEE = KINDS.index(TransactionType.SUBSCRIPTION_FEE)
ROWS = 50_000
STEP_MS = 250
"""From one transaction to the next: ten million of them are a month."""


def fill(database: Database, number: int, clients: int) -> None:
    """Write transactions, those of each client at random; every fiftieth is a fee."""
    chance, writer = random.Random(1), Writer(database)  # noqa: S311 - traffic
    first_ms = NOW_MS - number * STEP_MS
    for at in range(0, number, ROWS):
        batch, upto = Batch(), min(at + ROWS, number)
        for of in range(at, upto):
            client, ms = chance.randrange(clients), first_ms + of * STEP_MS
            place = ms, of % LANES, of // LANES, 0, str(client)
            row: tuple[Any, ...]
            if of % 50:
                call = f"fs1/5f1c{of:028x}"
                row = (
                    *place, f"sip-{client}", f"{call}/orig", id_key(call), 1, USAGE, ms, None, "380441234567",
                    "Ukraine Kiev", "Kiev 100", 66, -(of % 1000), "USD", 1,
                )  # fmt: skip
            else:
                fee = f"cp/p{client}/{of}"
                row = (
                    *place, None, f"{fee}/subscription_fee", id_key(fee), 1, FEE, ms, f"p{client}", None,
                    "Kiev 100", "", None, -5_000_000, "USD", 1,
                )  # fmt: skip
            batch.txns.append(row)
        writer.write(batch, {("transactions", 0): upto}, None, NOW_MS)


def main() -> None:
    """Fill the database that is named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--transactions", type=int, default=10_000_000)
    parser.add_argument("--packages", type=int, default=1_000_000)
    given = parser.parse_args()
    database = Database(given.url)
    began = time.process_time()
    fill(database, given.transactions, given.packages)
    print(f"{given.transactions} transactions: {time.process_time() - began:.0f} s of CPU", flush=True)
    began = time.process_time()
    write_clients(database, given.packages)
    print(f"{given.packages} clients, by {BATCH}: {time.process_time() - began:.0f} s of CPU", flush=True)
    began = time.process_time()
    Writer(database).finish()
    print(f"indexes: {time.process_time() - began:.0f} s of CPU", flush=True)
    database.close()


if __name__ == "__main__":
    main()
