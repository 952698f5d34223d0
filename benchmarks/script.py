"""CPU that Redis takes of a CDR side: this tree's functions.lua beside others, call by call in turn.

    python benchmarks/script.py [OTHER.lua ...] [--flavour redis|valkey] [--first] [--cdrs N] [--clients N]

Each file runs on a server of its own. All get the same draws, of four lanes at four buckets, as the worker
packs those of batches of 2,000 to 3,600 calls, and have to answer the same. The first half of them is not
measured. Before, 100,000 duplicates are drawn in each bucket in the generation before and as many in the
present one, as in a system that has run for a while; with --first in the present one alone, as in a new one.

Printed for each: CPU of a side (all threads of the server), the median of pieces of 15,000 sides, the median
of their ratio to the first file's, and the commands that take most, in calls and µs of a side.
"""

from __future__ import annotations

import argparse
import random
import re
import tempfile
from collections import Counter
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from statistics import median
from typing import Any

import redis
from world import SEED, World

from line import BALANCE, BUCKETS, CDRS, CLIENTS, Inside, prepared
from rater.core.amounts import Form
from rater.core.bucket.messages import DrawItem, DrawRequest, Use, bucket_of
from rater.local.redis import Flavour, Redis
from rater.store.keys import Keys
from rater.store.packing import pack_draw

LANES = 4
DUPLICATES = 100_000
OF_CALL = 1000
NOTHING = Form(0, 0, 1)
EARLIER = "rater_v3"
"""The library whose draws have no keys of cells."""
PIECE = 15_000
SHOWN = 5
KEYS = [Keys("script", bucket, BUCKETS) for bucket in range(BUCKETS)]


class Recording(Inside):
    """A lane that keeps its draw requests, with the lane and the bucket of each."""

    def __init__(self, of: Inside) -> None:
        super().__init__(of.content, of.states, of.standing.lane_ms)
        self.requests: list[tuple[int, int, DrawRequest]] = []
        self.lane = 0

    def pack(self, request: DrawRequest) -> None:
        """Keep it."""
        self.requests.append((self.lane, bucket_of(request.uses[0].client, BUCKETS), request))


def recorded(clients: int, cdrs: int) -> list[tuple[int, int, DrawRequest]]:
    """Return the draws of so many calls."""
    inside, records = prepared(World(clients=clients), cdrs)
    lane, chance = Recording(inside), random.Random(SEED)  # noqa: S311 - sizes of batches
    at = 0
    while at < len(records):
        size = chance.randrange(2000, 3600)
        lane.rate(records[at : at + size])
        lane.lane = (lane.lane + 1) % LANES
        at += size
    return lane.requests


class Server:
    """A server with one version of the functions."""

    def __init__(self, code: Path, url: str) -> None:
        self.name = str(code)
        self.client = redis.Redis.from_url(url)
        text = code.read_text("utf-8")
        found = re.match(r"#!lua name=(\w+)", text)
        assert found, code
        self.library = found[1]
        self.client.function_load(text)
        self.pid: int = self.client.info("server")["process_id"]
        self.numbers: dict[tuple[int, int], int] = {}
        self.began_us = self.last_us = 0.0
        self.pieces: list[float] = []

    def function(self, name: str, keys: list[str], argv: list[Any]) -> list[Any]:
        """Call one of the functions."""
        reply: list[Any] = self.client.fcall(f"{self.library}_{name}", len(keys), *keys, *argv)
        assert reply[0] == 0, (self.name, name, reply)
        return reply

    def fill(self, requests: list[tuple[int, int, DrawRequest]], *, first: bool) -> None:
        """Put in clients and duplicates, and take the lanes."""
        chance = random.Random(SEED)  # noqa: S311 - bytes of nobody
        versions = {use.client: (at, use.version) for _, at, request in requests for use in request.uses}
        pipe = self.client.pipeline(transaction=False)
        for client, (at, version) in versions.items():
            pipe.hset(KEYS[at].client + client, mapping={"v": version, "b": BALANCE})
            pipe.set(KEYS[at].client_state + client, chance.randbytes(150))
        pipe.execute()
        places = [(lane, at) for lane in range(LANES) for at in range(BUCKETS)]
        for lane, at in places:
            names = [KEYS[at].gate, KEYS[at].lane(lane), KEYS[at].outcomes(lane)]
            self.numbers[lane, at] = self.function("fence", names, [lane, 1])[1]
        for lane, at in places:
            names, argv = [KEYS[at].gate, KEYS[at].lane(lane)], [lane, 1, self.numbers[lane, at], LANES]
            self.numbers[lane, at] = self.function("register", names, argv)[1]
        at_of = {at: request for _, at, request in requests}
        generation = requests[0][2].generation
        for of in [generation] if first else [generation - 1, generation]:
            for at, request in at_of.items():
                for _ in range(0, DUPLICATES, OF_CALL):
                    items = [
                        DrawItem(0, digest[:8], digest[8:], 0, NOTHING, same_record=False, candidates=())
                        for digest in (chance.randbytes(12) for _ in range(OF_CALL))
                    ]
                    use = Use(request.uses[0].client, request.uses[0].version, 0, [])
                    made = DrawRequest(0, 0, 0, 0, of, 0, 0, [], [], [use], items, b"", contextless=True)
                    self.draw(0, at, made)

    def draw(self, lane: int, at: int, request: DrawRequest) -> Any:
        """Send a request as its lane's next; returns the results as they are packed."""
        number = self.numbers[lane, at]
        request.lane, request.token, request.number, request.trim = lane, 1, number, max(0, number - 4)
        args = pack_draw(request, KEYS[at])
        if self.library == EARLIER:
            del args.keys[6:9]
        _, self.numbers[lane, at], packed = self.function("draw", args.keys, args.argv)
        return packed

    def cpu_us(self) -> float:
        """Return what all its threads have used."""
        tasks = Path(f"/proc/{self.pid}/task").iterdir()
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1000

    def mark(self, sides: int) -> None:
        """Note what a piece took; of no sides: begin."""
        now = self.cpu_us()
        if sides:
            self.pieces.append((now - self.last_us) / sides)
        else:
            self.client.config_resetstat()
            self.began_us = now
        self.last_us = now

    def told(self, first: Server, sides: int) -> str:
        """Return the figures."""
        ratio = median(a / b for a, b in zip(self.pieces, first.pieces, strict=True))
        stats: dict[str, Any] = self.client.info("commandstats")
        took = Counter({name[8:]: of["usec"] for name, of in stats.items()})
        commands = "  ".join(
            f"{name} {stats[f'cmdstat_{name}']['calls'] / sides:.3f} x, {usec / sides:.2f}"
            for name, usec in took.most_common(SHOWN)
        )
        each, memory = (self.cpu_us() - self.began_us) / sides, self.client.info("memory")["used_memory"]
        return (
            f"{each:6.2f} µs of a side, median {median(self.pieces):6.2f}, ratio {ratio:.3f}, "
            f"{memory / 1e6:.1f} MB, {self.name}\n       {commands}"
        )


def measure(codes: list[Path], flavour: Flavour, clients: int, cdrs: int, *, first: bool) -> None:
    """Run all, and print the figures."""
    requests = recorded(clients, cdrs)
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        servers = []
        for number, code in enumerate(codes):
            running = stack.enter_context(Redis.start(Path(folder) / str(number), flavour=flavour))
            servers.append(Server(code, running.url))
            servers[-1].fill(requests, first=first)
        sides = piece = 0
        for place, (lane, at, request) in enumerate(requests):
            if place == len(requests) // 2:
                sides = piece = 0
                for server in servers:
                    server.mark(0)
            replies = {server.draw(lane, at, request) for server in servers}
            assert len(replies) == 1, "they answer differently"
            sides += len(request.items)
            piece += len(request.items)
            if place > len(requests) // 2 and piece >= PIECE:
                for server in servers:
                    server.mark(piece)
                piece = 0
        for server in servers:
            print(server.told(servers[0], sides))


def main() -> None:
    """Measure it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("others", nargs="*", type=Path, help="other versions; the first is compared with")
    parser.add_argument("--flavour", choices=["redis", "valkey"], default="redis")
    parser.add_argument("--first", action="store_true", help="there is no generation before")
    parser.add_argument("--cdrs", type=int, default=6 * CDRS)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    given = parser.parse_args()
    with resources.as_file(resources.files("rater.store") / "functions.lua") as own:
        codes = [*given.others, own]
        measure(codes, given.flavour, given.clients, given.cdrs, first=given.first)


if __name__ == "__main__":
    main()
