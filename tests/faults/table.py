"""The tables in tests/README.md: for each of F1 to F46 its tests, or why it cannot happen here; safeguards.

Made from the kinds (kinds.py), the markers `fault` of tests, the ablations of the simulation, and what is
said below; a test compares them with the file. To write them: make fault-table. Also what finds the tests
that other READMEs name.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from faults.kinds import KINDS

TESTS = Path(__file__).parents[1]
README = TESTS / "README.md"
PROJECT_README = TESTS.parent / "README.md"
BEGIN, END = "<!-- faults: made by faults/table.py -->", "<!-- end of faults -->"

FAULTS = {
    1: "a worker is killed at random moments",
    2: "a worker is killed at each message to or from a server",
    3: "a worker is killed at each point of taking, drawing and committing",
    4: "a zombie: frozen beyond the session timeout, then going on",
    5: "the event loop is blocked",
    6: "SIGTERM, rolling restart",
    7: "out of memory, out of file descriptors",
    8: "the clock jumps",
    9: "two installations with one transactional prefix; one member id twice",
    10: "workers join and leave again and again",
    11: "partitions are added; old and new workers at once",
    12: "the broker is killed in mid transaction, restarted, has no disk left",
    13: "the transaction or group coordinator dies",
    14: "the broker is frozen",
    15: "answers to EndTxn and Produce are lost or late, requests delivered late (KAFKA-17754)",
    16: "a Kafka transaction times out during a batch",
    17: "the transactional id of an idle lane has expired",
    18: "the journal refuses a record",
    19: "a right on the journal is revoked",
    20: "unread input is removed, an input topic recreated",
    21: "a worker is cut off from Kafka and not from Redis, or the reverse",
    22: "an exception inside of a poll, a corrupt record",
    23: "a slow assignment while records wait",
    24: "Redis is killed and restarted with its append-only file",
    25: "the end of the append-only file is missing",
    26: "FLUSHALL, a bucket deleted, a restart without data",
    27: "an older copy of Redis' data is restored",
    28: "a replica without the last writes is promoted",
    29: "split brain: two primaries, a worker with each",
    30: "promotion to before a fence, then a zombie goes on",
    31: "Redis is frozen or slow; replies lost, late, cut off",
    32: "the functions are missing or of another version",
    33: "a slot of the cluster moves",
    34: "Redis is full (memory, disk); it evicts",
    35: "calls to Redis and Kafka are cancelled",
    36: "repeats: in a batch, later, over partitions, after failures, beyond the window",
    37: "records out of order, at period borders, in the future, of long ago",
    38: "poisoned records",
    39: "a record that kills the process",
    40: "one client has nearly all calls",
    41: "the last unit is fought for; limits at their bounds; rounding",
    42: "a long run of all of it",
    43: "re-rating while calls flow",
    44: "the whole topic is sent again",
    45: "each safeguard is switched off: a test must fail",
    46: "the protocol in a simulator",
}

ELSEWHERE: dict[int, list[str]] = {
    8: ["core/test_cdr.py"],
    11: [
        "line/test_refusals.py::test_a_topic_has_too_few_partitions",
        "line/test_lost_topics.py::test_partitions_added_under_a_worker_stop_it",
    ],
    12: ["simulation/test_ablations.py::test_one_commit_late"],
    13: ["simulation/test_ablations.py::test_include"],
    15: ["stream/test_endtxn.py::test_unanswered_end_is_sent_once"],
    16: ["stream/test_lanes.py::test_who_is_slower_than_the_transaction_timeout_is_fenced"],
    18: ["stream/test_lanes.py::test_too_large_is_never_committed"],
    19: [
        "stream/test_connecting.py::test_who_may_not_is_told_which_right_is_missing",
        "stream/test_topics.py::test_missing_rights_are_named",
    ],
    20: [
        "line/test_lost_topics.py::test_a_recreated_topic_stops_the_worker",
        "line/test_lost_topics.py::test_a_topic_recreated_under_a_worker_loses_nothing",
        "line/test_lost_topics.py::test_a_journal_recreated_under_a_worker_stops_it",
        "line/test_lost_topics.py::test_a_missing_topic_is_told",
        "stream/test_source.py::test_unread_records_that_are_gone_halt",
        "stream/test_source.py::test_records_that_vanish_while_reading_halt",
    ],
    22: ["stream/test_source.py::test_any_failure_of_a_poll_takes_the_lane_again"],
    32: ["store/test_buckets.py::test_flushed_functions_are_loaded_again"],
    33: ["store/test_link.py::test_moved_slots_are_found_again"],
    34: ["line/test_refusals.py::test_redis_evicts"],
    35: [
        "store/test_link.py::test_a_cancelled_command_leaves_no_reply_behind",
        "stream/test_lanes.py::test_a_cancelled_commit_is_aborted",
    ],
    36: ["golden/70-duplicate.yaml", "golden/45-duplicate-differs.yaml", "golden/35-too-old.yaml"],
    37: [
        "core/test_periods.py",
        "golden/34-time-in-future.yaml",
        "golden/64-late-call-into-a-closed-period.yaml",
        "golden/81-month-end.yaml",
    ],
    38: ["line/test_poison.py::test_poison_is_rejected_and_its_neighbours_are_rated"],
    41: [
        "core/bucket/test_drawing.py::test_sums_agree_and_nothing_is_overdrawn",
        "store/test_machine.py::test_twin",
        "golden/12-two-at-once.yaml",
    ],
    43: ["line/test_rerate.py::test_live_calls_meanwhile", "line/test_rerate.py::test_killed_and_resumed"],
    45: ["simulation/test_ablations.py", "faults/test_auditor.py::test_damage_is_noticed"],
    46: ["simulation"],
}
"""Tests of other folders: a file, or a test in it."""

WORDS: dict[int, str] = {
    9: "A member id twice cannot happen: workers have no `group.instance.id`.",
    19: "Every refused right stops the worker with a sentence; what follows is a killed worker (F1).",
    23: "Cannot happen: the group's consumer reads nothing; a lane's records are read by a consumer that is "
    "opened after the lane was taken.",
    39: "No quarantine is built: a record is checked for size before it is parsed, by bounded decoders; "
    "one that killed the process all the same would do so again.",
}
"""What no test shows: why it cannot happen, or what is left open."""

ABLATIONS = "simulation/test_ablations.py"
SAFEGUARDS: dict[str, tuple[str, tuple[int, ...]]] = {
    "test_stored_outcome": ("stored outcome", (1, 2, 3, 4)),
    "test_replay_before_identification": ("replay before identification", (1, 2, 3, 4)),
    "test_mark": ("mark", (1, 2, 3, 4, 6)),
    "test_journal_tail": ("journal tail", (1, 2, 3, 4, 6)),
    "test_fence": ("fence", (4, 21, 26, 30, 31)),
    "test_gate": ("gate", (24, 25, 26, 27, 28, 29)),
    "test_call_number": ("call number", (25, 27, 28, 30)),
    "test_reconcile": ("reconcile", (25, 26, 27, 28, 29, 30)),
    "test_duplicate_check": ("duplicate check", (36, 44)),
    "test_await_of_every_delivery": ("await of every delivery", (12, 15, 18)),
    "test_endtxn_hook": ("EndTxn hook", (15,)),
    "test_one_commit_late": ("one commit late", (12, 13)),
    "test_nothing_trimmed_before_the_predecessor": ("nothing trimmed before the predecessor", (1, 2, 3, 4)),
    "test_include": ("one end in all partitions", (12, 13)),
    "test_catalog_of_a_state": ("catalog of a state", (31,)),
    "test_rejection_of_now": ("rejection of now", (31,)),
    "test_counter_of_a_period": ("counter of a period", (37,)),
    "test_all_limits_once_asked": ("all limits once asked", (40,)),
    "test_tick_before_records_without_a_time": ("tick before records without a time", (37,)),
    "test_effect_once": ("effect of a change once", (25, 26, 27, 28)),
    "test_events_are_kept": ("events of a change kept", (1, 2, 3, 4)),
}
"""By the test that switches it off: a safeguard, and the faults that it is there for."""

NAMED = re.compile(r"(?<![\w/.-])((?:[\w-]+/)*(?:test_\w+\.py|golden/[\w-]+\.yaml))(?:::(test_\w+))?")
"""A test, or a golden case, as a README names it."""


def marked() -> dict[int, list[str]]:
    """Return fault → tests that carry the marker `fault`, found in the source."""
    found: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            for call in node.decorator_list:
                if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
                    for name in call.args:
                        number = int(str(ast.literal_eval(name)).removeprefix("F"))
                        found[number].append(f"{path.relative_to(TESTS)}::{node.name}")
    return found


def rows() -> dict[int, tuple[list[str], list[str], str]]:
    """Return fault → kinds of the campaigns, tests, words."""
    by_marker = marked()
    return {
        number: (
            [one.name for one in KINDS.values() if f"F{number}" in one.rows],
            [*by_marker.get(number, []), *ELSEWHERE.get(number, [])],
            WORDS.get(number, ""),
        )
        for number in FAULTS
    }


def ablations() -> dict[str, str]:
    """Return test → what its docstring says, of those that switch a safeguard off."""
    body = ast.parse((TESTS / ABLATIONS).read_text()).body
    return {
        node.name: ast.get_docstring(node) or ""
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def missing() -> list[str]:
    """Return what is named and not there, faults that nothing covers, and ablations that no row tells of."""
    found = [f"F{number} has no test and no sentence" for number, row in rows().items() if not any(row)]
    for place in (place for places in ELSEWHERE.values() for place in places):
        name, _, function = place.partition("::")
        if not _is_there(TESTS / name, function):
            found.append(f"{place} is not there")
    found += [f"{ABLATIONS}::{name} is not there" for name in SAFEGUARDS.keys() - ablations().keys()]
    return found + [f"{name} has no row" for name in ablations().keys() - SAFEGUARDS.keys()]


def missing_in(readme: Path, text: str) -> list[str]:
    """Return the tests that a README names (from its folder or the project's) and that are not there."""
    folders = (readme.parent, PROJECT_README.parent)
    return [
        f"{readme.name} names {name}{'::' if function else ''}{function}, which is not there"
        for name, function in NAMED.findall(text)
        if not any(_is_there(folder / name, function) for folder in folders)
    ]


def guarantees(text: str) -> Iterator[tuple[str, list[int], list[str]]]:
    """Yield of each row in the project's table of guarantees: what happens, faults, tests that show it."""
    _, _, rest = text.partition("| What happens |")
    for line in rest.partition("\n\n")[0].splitlines()[2:]:
        happens, *_, shown = line.strip("| ").split(" | ")
        yield happens, _faults(shown), [name for name, _ in NAMED.findall(shown)]


def _faults(text: str) -> list[int]:
    """Return the numbers in a text like "F1, F3\u2013F5": 1, 3, 4, 5."""
    spans = re.findall(r"\bF(\d+)(?:\u2013F(\d+))?", text)
    return [number for first, last in spans for number in range(int(first), int(last or first) + 1)]


def _is_there(path: Path, function: str) -> bool:
    return path.exists() and (not function or f"def {function}(" in path.read_text())


def table() -> str:
    """Return the tables, between their two lines."""
    lines = [BEGIN, "", "| | fault | by |", "|---|---|---|"]
    for number, (kinds, tests, words) in rows().items():
        by = []
        if kinds:
            by.append("kinds " + ", ".join(f"`{name}`" for name in kinds))
        by += [f"[{place}]({place.partition('::')[0]})" for place in tests]
        if words:
            by.append(words)
        lines.append(f"| F{number} | {FAULTS[number]} | {'; '.join(by)} |")
    lines += ["", "| kind | what happens | times in a full run |", "|---|---|---|"]
    lines += [f"| `{one.name}` | {one.told} | {one.times + 2} |" for one in KINDS.values()]
    lines += ["", "| safeguard | without it | faults | goes red |", "|---|---|---|---|"]
    told = ablations()
    for name, (safeguard, faults) in SAFEGUARDS.items():
        numbers = ", ".join(f"F{number}" for number in faults)
        lines.append(f"| {safeguard} | {told[name]} | {numbers} | [{ABLATIONS}::{name}]({ABLATIONS}) |")
    return "\n".join([*lines, "", END])


def put(text: str) -> str:
    """Return a text with the tables in their place."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + table() + tail


if __name__ == "__main__":
    README.write_text(put(README.read_text()))
