"""A client's calls rated, and rated again, without servers: the offline rater, and a list for the journal."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from rater.core.clients.state import ClientState
from rater.core.commands.records import (
    RerateBeginArgs,
    RerateEndArgs,
    RerateSwapArgs,
    write_command,
)
from rater.core.instants import rfc3339
from rater.core.kinds import Do
from rater.core.offline import Rater, Transaction
from rater.core.rerating.calls import Fee, PastSide, is_of_call, pack, read_told, together, unpack
from rater.core.rerating.client import Again, Piece, Sums, Twin, Window, Work
from rater.core.rerating.difference import Entry, open_fees
from rater.core.rerating.rating import with_history
from rater.core.rerating.sorting import Sorted, latest, sorted_as, sorted_unrated

DAY = 86_400_000
START = 1_793_491_200_000
"""2026-11-01T00:00:00Z."""


class Books:
    """The offline rater, and all transactions that it has published."""

    def __init__(self, catalog: str, at_ms: int = START) -> None:
        self.rater = Rater(window_ms=400 * DAY)
        self.journal: list[bytes] = []
        self.events: list[dict[str, Any]] = []
        self.now_ms = at_ms
        self.commands = 0
        self.load(catalog)

    def load(self, catalog: str) -> None:
        """Load a catalog, or a part of one."""
        faults = self.rater.load([("catalog.yaml", catalog.encode())], self.now_ms)
        assert not faults, [str(fault) for fault in faults]
        self._take()

    def _take(self) -> None:
        transactions, events = self.rater.take()
        self.journal += transactions
        self.events += [json.loads(one) for one in events]

    def call(self, name: str, at_ms: int, seconds: int, called: str = "38044123", **more: Any) -> str:
        """Rate a call of client 1; returns how it ended."""
        cdr = {
            "id": name, "answered_at": rfc3339(at_ms), "duration_ms": seconds * 1000, "called": called,
            "orig": {"client": "1"}, **more,
        }  # fmt: skip
        self.now_ms = max(self.now_ms, at_ms)
        ended = self.rater.rate(json.dumps(cdr).encode(), self.now_ms)
        for one in ended:
            if isinstance(one, Transaction):
                self.journal.append(one.value)
        self._take()
        return " ".join(type(one).__name__ for one in ended)

    def command(self, do: Do, args: Any, **more: Any) -> dict[str, Any]:
        """Send a command of client 1; returns the data of its result."""
        self.commands += 1
        raw = write_command(f"c{self.commands}", do, self.now_ms, args, client="1", **more)
        self.rater.command(raw, self.now_ms)
        self._take()
        done = self.events[-1]
        assert done["cause"] == f"c{self.commands}", done
        data: dict[str, Any] = {**done["data"], "type": done["type"]}
        return data

    # ------------------------------------------------------------------ re-rating
    def published(
        self, window: Window, code: str = "", unrated: Iterable[PastSide] = ()
    ) -> list[PastSide | Fee]:
        """Return what stands of the window's calls, and of all fees that calls brought."""
        found: list[Sorted] = [sorted_unrated(call) for call in unrated]
        for value in self.journal:
            told = read_told(value)
            if is_of_call(told) and (
                told.client_package is not None or window.from_ms <= told.at_ms < window.to_ms
            ):
                found.append(sorted_as(told, value, ("rater.cdrs", 0, 0)))
        return [unpack(raw) for _, _, raw in latest(sorted(found), code)]

    def work(self, window: Window, code: str = "", unrated: Iterable[PastSide] = ()) -> Work:
        """Work client 1's calls out anew."""
        every = self.published(window, code, unrated)
        calls = [one for one in every if isinstance(one, PastSide)]
        fees = [one for one in every if isinstance(one, Fee)]
        rows = {field: row for field, (_, row) in self.rater.bucket.history["1"].items()}
        state = with_history(self.rater.states["1"], rows)
        sums = Sums(self.rater.balance("1"), self.rater.used("1"))
        packed = list(together(map(pack, calls)))
        return Work(self.again(state, sums), sums, open_fees(state, fees), lambda: packed, "job")

    def again(self, state: ClientState, sums: Sums) -> Again:
        """Return what rates the calls again."""
        return Twin(state, self.rater.catalog, sums)

    def rerate(self, window: Window | None = None, code: str = "") -> list[Entry]:
        """Re-rate client 1, by commands as a job does; returns what has changed."""
        work = self.work(window or Window(0, 2 * START), code)
        entries = list(work.entries())
        if not entries:
            return []
        begin = self.command(Do.RERATE, RerateBeginArgs("job", 0, 2 * START))
        assert begin["type"] == "command_done", begin
        for place, piece in enumerate(work.pieces(entries)):
            done = self.command(Do.RERATE, self.swap(piece, begin["version"] + place))
            assert done["type"] == "command_done", done
        end = RerateEndArgs("job", True, work.difference.calls, work.difference.changed)  # noqa: FBT003
        self.command(Do.RERATE, end)
        return entries

    def swap(self, piece: Piece, version: int) -> RerateSwapArgs:
        """Return the command of a piece."""
        values = [one.value.decode() for entry in piece.entries for one in entry.movements]
        return RerateSwapArgs(
            "job", version, self.rater.catalog.version, piece.least, piece.most, piece.counters, values
        )

    # ------------------------------------------------------------------ what is there
    def standing(self) -> dict[str, tuple[str, ...]]:
        """Return what stands of each call and fee: amount, draws."""
        out: dict[str, tuple[str, ...]] = {}
        for value in self.journal:
            told = read_told(value)
            if not is_of_call(told):
                continue
            if told.type == "reversal":
                out.pop(told.id, None)
            else:
                out[told.id] = (told.amount, str(told.cdr), *(f"{d.limit}:{d.taken}" for d in told.draws))
        return out

    def sums_agree(self) -> None:
        """Assert that counters and balance are the sums of what was published, and revisions of the last."""
        balance, counters, ids = 0, dict[str, int](), dict[str, list[int]]()
        seen = set()
        for value in self.journal:
            raw = json.loads(value)
            name = raw["id"], raw["revision"], raw["type"]
            assert name not in seen, name
            seen.add(name)
            told = read_told(value)
            balance += told.micros
            ids.setdefault(told.id, []).append(told.micros)
            if told.type == "usage" or told.cdr is not None:
                for field, units in told.takes():
                    counters[field] = counters.get(field, 0) + units
        assert balance == self.rater.balance("1")
        used = {name: units for name, units in self.rater.used("1").items() if not name.startswith("key.")}
        assert {k: v for k, v in counters.items() if v} == {k: v for k, v in used.items() if v}
