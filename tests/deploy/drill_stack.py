"""What the drill runs on: a broker, a Redis, workers and an audit as processes, and calls that flow."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import redis

from rater.core.bucket.messages import bucket_of
from rater.core.instants import rfc3339
from rater.demo.workers import environment
from rater.local.child import Child
from rater.local.kafka import Kafka
from rater.local.redis import Redis
from rater.local.server import free_ports
from rater.store.keys import Keys

PARTITIONS = BUCKETS = 4
RATE_PER_S = 100
SESSION_MS = 15_000
ODD = Path(__file__).with_name("odd_worker.py")


def now_ms() -> int:
    """Return the time."""
    return time.time_ns() // 1_000_000


class Stack:
    """An installation with nothing in it yet: topics, and no process but the servers."""

    def __init__(self, folder: Path) -> None:
        """Start the servers and make the topics."""
        self.folder = folder
        self.redis = Redis.start(folder / "redis", append_only=True)
        self.kafka = Kafka.start(folder / "kafka")
        self.ports = dict(zip(("a", "b", "c", "audit"), free_ports(4), strict=True))
        self.settings = {
            "RATER_KAFKA__BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "RATER_KAFKA__SESSION_TIMEOUT_MS": str(SESSION_MS),
            "RATER_REDIS__URL": self.redis.url, "RATER_REDIS__TIMEOUT_S": "3",
            "RATER_REDIS__BUCKETS": str(BUCKETS), "RATER_TOPICS__PARTITIONS": str(PARTITIONS),
            "RATER_TOPICS__REPLICATION_FACTOR": "1", "RATER_WORKER__STUCK_AFTER_S": "4",
        }  # fmt: skip
        self.running: dict[str, Child] = {}
        self.feeding = threading.Event()
        self._ended = threading.Event()
        self._sent = 0
        self._poured: deque[list[dict[str, Any]]] = deque()
        self._feeder = threading.Thread(target=self._feed, daemon=True)
        self.rater("topics", "create")
        self._feeder.start()

    def close(self) -> None:
        """End all of it."""
        self._ended.set()
        self._feeder.join(30)
        for name in list(self.running):
            self.end(name, signal.SIGCONT, signal.SIGKILL)
        self.redis.resume()
        self.kafka.resume()
        self.kafka.kill()
        self.redis.kill()

    # ------------------------------------------------------------------ processes
    def worker(self, name: str, *odd: str, **settings: str) -> None:
        """Start a worker. odd: what is planted in it."""
        self._start(name, [str(ODD), *odd] if odd else ["-m", "rater", "worker"], settings)

    def audit(self) -> None:
        """Start the audit."""
        self._start("audit", ["-m", "rater", "audit", "--every", "2s"], {})

    def _start(self, name: str, arguments: list[str], settings: dict[str, str]) -> None:
        own = {**self.settings, **settings, "RATER_METRICS__PORT": str(self.ports[name])}
        log = self.folder / f"{name}.log"
        self.running[name] = Child([sys.executable, *arguments], self.folder, log, environment(own))

    def end(self, name: str, *signals: signal.Signals) -> None:
        """End a process: in order, or by these signals."""
        child = self.running.pop(name)
        for number in signals:
            child.signal(number)
        child.stop(30)

    def rater(self, *arguments: str, code: int = 0) -> str:
        """Run a command of rater and return what it prints."""
        command = [sys.executable, "-m", "rater", *arguments]
        done = subprocess.run(  # noqa: S603 - our own
            command, env=environment(self.settings), cwd=self.folder, capture_output=True, text=True,
            check=False, timeout=180,
        )  # fmt: skip
        assert done.returncode == code, (arguments, done.stdout, done.stderr)
        return done.stdout

    # ------------------------------------------------------------------ what comes in
    def load(self, **sections: Any) -> None:
        """Load a catalog file of these sections."""
        file = self.folder / f"load-{now_ms()}.json"
        file.write_text(json.dumps(sections), "utf-8")
        self.rater("load", str(file))

    def send(self, cdrs: Iterable[dict[str, Any]]) -> None:
        """Send CDRs, as a file."""
        file = self.folder / f"cdrs-{now_ms()}.jsonl"
        file.write_text("".join(json.dumps(cdr) + "\n" for cdr in cdrs), "utf-8")
        self.rater("ingest", str(file), "--source", "default")

    def pour(self, cdrs: list[dict[str, Any]]) -> None:
        """Send CDRs to all partitions, among those that flow."""
        self._poured.append(cdrs)

    def calls(self, count: int, name: str, client: str = "c1", **fields: Any) -> list[dict[str, Any]]:
        """Return CDRs of a client."""
        return [
            {
                "id": f"{name}-{number}", "called": "380501234567", "answered_at": rfc3339(now_ms() - 1000),
                "duration_ms": 60_000, "orig": {"client": client}, **fields,
            }
            for number in range(count)
        ]  # fmt: skip

    def _feed(self) -> None:
        """Send RATE_PER_S calls a second while `feeding` is set, through one program that stays."""
        # A program of its own: this process starts and stops others, and is to hold no connections.
        command = [sys.executable, str(Path(__file__).with_name("drill_feeder.py"))]
        with subprocess.Popen(  # noqa: S603 - our own
            command, stdin=subprocess.PIPE, text=True, env=environment(self.settings)
        ) as feeder:
            assert feeder.stdin is not None
            while not self._ended.wait(0.1):
                calls = self._poured.popleft() if self._poured else []
                if self.feeding.is_set():
                    calls += self.calls(RATE_PER_S // 10, f"flow-{self._sent}")
                    self._sent += 1
                if calls:
                    feeder.stdin.write("".join(json.dumps(one) + "\n" for one in calls))
                    feeder.stdin.flush()

    # ------------------------------------------------------------------ what hurts
    @staticmethod
    def again(
        hurt: Callable[[], None], heal: Callable[[], None], pauses: tuple[float, float]
    ) -> Callable[[], None]:
        """Hurt for the first span and heal for the second, again and again; returns what ends it, healed."""
        done = threading.Event()

        def go_on() -> None:
            while not done.is_set():
                hurt()
                time.sleep(pauses[0])
                heal()
                done.wait(pauses[1])

        thread = threading.Thread(target=go_on, daemon=True)
        thread.start()

        def end() -> None:
            done.set()
            thread.join()

        return end

    def falsify(self, client: str) -> None:
        """Change a balance in Redis, as nobody may."""
        keys = Keys("rater", bucket_of(client, BUCKETS), BUCKETS)
        with redis.Redis.from_url(self.redis.url) as connection:
            name = f"{keys.client}{client}"
            assert connection.hexists(name, "b"), f"there is no balance of {client}"
            connection.hincrby(name, "b", 1)

    def forget(self) -> None:
        """Delete all keys of rater in Redis."""
        with redis.Redis.from_url(self.redis.url) as connection:
            for key in connection.scan_iter("rater*"):
                connection.delete(key)
