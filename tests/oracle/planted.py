"""Faults that are planted into a copy of the product, one at a time: the properties have to see each.

`python -m oracle.planted` (with PYTHONPATH=src:tests) prints which are seen, by which case and variant, and
how many are not. An old text that is not found exactly once is an error: the list has to follow the code.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Planted(NamedTuple):
    """A replacement in a file of `rater`, and what it breaks."""

    name: str
    file: str
    old: str
    new: str
    breaks: str


PLANTED = (
    # ---- the faults that were found (their numbers are those of the list in tests/README.md)
    Planted(
        "fields_of_another_period",
        "core/line/draw_request.py",
        "fields.setdefault(packages[one.group].field + one.text.field,",
        "fields.setdefault(\n"
        "                    self.__dict__.setdefault('first', {})\n"
        "                    .setdefault(view.id, packages)[one.group].field\n"
        "                    + one.text.field,",
        "1: a call draws from the counter of the period that the client's first call of the batch was in",
    ),
    Planted(
        "more_is_forgotten",
        "core/line/steps.py",
        "        side.whole = side.whole or request.uses[item.use].client in clients\n    return clients",
        "        pass\n    return set()",
        "2: that the first limits did not do is forgotten while the sides are matched again",
    ),
    Planted(
        "duration_that_cannot_be",
        "core/cdr_decoding.py",
        "at_ms <= arrival.last_ms - (duration_ms or 0)",
        "at_ms <= arrival.last_ms",
        "4: a call that ends hours after its record came is rated",
    ),
    Planted(
        "anchor_is_an_instant",
        "core/clients/earlier.py",
        "            return Anchor(held.start_ms, midnight)",
        "            return anchor_at(held.start_ms, zone)",
        "6: periods from a date whose midnight does not exist begin at 01:00 ever after",
    ),
    Planted(
        "state_of_a_newer_catalog",
        "core/clients/views.py",
        "self.catalog = state.catalog",
        "self.catalog = 0",
        "11: a client's new state is read with the lane's old catalog",
    ),
    Planted(
        "rejected_for_an_old_view",
        "core/line/steps.py",
        "    if client is not None and client not in views.fetched:",
        "    if client is not None and client not in views.fetched and rejection.reason.value[:4] == 'rate':",
        "12: a call is rejected for what a cached view said of its client",
    ),
    Planted(
        "value_lost_in_a_replay",
        "core/line/steps.py",
        "plain_id(row), name)",
        "side.cdr.id if side.cdr else '', name)",
        "13: what is rejected after a crash does not say which call",
    ),
    Planted(
        "duplicate_at_any_client",
        "core/rating/duplicates.py",
        '(int.from_bytes(older, "big") ^ client_crc).to_bytes(KEY_BYTES, "big"), older',
        "older, older",
        "14: one id at two clients of a bucket is one call",
    ),
    Planted(
        "mark_of_the_catalog_before",
        "worker/line.py",
        "batch.position = standing.position = standing.position.behind(batch.last)",
        "standing.position = standing.position.behind(batch.last)\n"
        "        began, now = batch.position, standing.position\n"
        "        batch.position = type(now)(now.positions, now.times, now.lane_ms, began.catalog, 0)",
        "15: the mark names the catalog that the batch began with, transactions the one it caught up with",
    ),
    Planted(
        "priority_of_the_opening",
        "core/catalog/offers.py",
        "        one.latest.priority,\n",
        "        one.version.priority,\n",
        "16: an edited priority holds from the next period",
    ),
    Planted(
        "name_of_the_opening",
        "core/catalog/offers.py",
        '"package_name":{quoted(latest.name)}',
        '"package_name":{quoted(version.name)}',
        "16: a renamed package has its old name till the period ends",
    ),
    Planted(
        "dates_of_the_opening",
        "core/clients/periods.py",
        "    latest, life = package.latest, held.life",
        "    latest, life = package.at(one.by_ms), held.life",
        "16: an edited end date of a package is that of its opening",
    ),
    # ---- the draw
    Planted(
        "used_up_chooses",
        "core/bucket/drawing.py",
        "if first.size <= used[first.field] or",
        "if first.size < used[first.field] or",
        "a limit that is used up chooses the client package",
    ),
    Planted(
        "cap_forgotten",
        "core/bucket/drawing.py",
        "taken = min(need, rest, cap if candidate.cap else rest)",
        "taken = min(need, rest)",
        "per_call_max is not looked at",
    ),
    Planted(
        "waive_never",
        "core/bucket/drawing.py",
        "waived = waived or candidate.waive",
        "waived = False",
        "the setup fee is charged under dont_charge",
    ),
    Planted(
        "first_limits_do",
        "core/bucket/drawing.py",
        "return result.outcome == Outcome.RATED and not result.amount and volume == item.billed",
        "return result.outcome == Outcome.RATED and (bool(result.takes) or not result.amount)",
        "the first limits of many are taken for all, when they gave something",
    ),
    Planted(
        "balance_between_sides",
        "core/bucket/draft.py",
        "before = self.before.get(use.client, balance) if item.same_record else balance",
        "before = balance",
        "the second side of a record is judged on the balance after the first",
    ),
    Planted(
        "old_view_passes",
        "core/bucket/draft.py",
        "            if version != use.version:",
        "            if version < use.version:",
        "a draw that rests on an old view of a client is accepted",
    ),
    Planted(
        "neighbours_not_asked",
        "core/bucket/duplicates.py",
        "for near in (generation, generation - 1, generation + 1):",
        "for near in (generation,):",
        "duplicates over the border of two generations are rated again",
    ),
    Planted(
        "differs_is_same",
        "core/bucket/draft.py",
        "same = known == item.content",
        "same = True",
        "a repeat with other content passes for the same",
    ),
    Planted(
        "covered_in_its_currency",
        "core/bucket/drawing.py",
        "        covered = min(cost, worth)\n",
        "        covered = min(cost, most)\n",
        "a money limit in another currency covers as many units as it took",
    ),
    # ---- periods
    Planted(
        "repeated_hour",
        "core/periods.py",
        "local.replace(tzinfo=zone, fold=0)",
        "local.replace(tzinfo=zone, fold=1)",
        "a repeated hour takes the second, a gap goes back",
    ),
    Planted(
        "end_included",
        "core/clients/periods.py",
        "    stops = [one.stop_ms, held.end_ms, latest",
        "    stops = [one.stop_ms, held.end_ms and held.end_ms + 1, latest",
        "a client package is active at the instant of its end",
    ),
    # ---- clients
    Planted(
        "version_stays",
        "core/clients/planning.py",
        "self.version = state.version if new else state.version + 1",
        "self.version = state.version",
        "new client packages do not make the views of other workers old",
    ),
    Planted(
        "catalog_stays",
        "core/clients/planning.py",
        "catalog=max(self.state.catalog, self.catalog.version)",
        "catalog=self.state.catalog",
        "a changed client does not say which catalog it needs",
    ),
    Planted(
        "zone_of_today",
        "core/clients/counting.py",
        "and zone.key == counted.zone and wanted",
        "and wanted",
        "a changed time zone changes the periods that are open",
    ),
    # ---- rates and codes
    Planted(
        "shorter_codes_forgotten",
        "core/catalog/codes.py",
        "head: tuple(sorted(found | shorter, reverse=True))",
        "head: tuple(sorted(found, reverse=True))",
        "a number whose long code has no rate does not fall back to a short one",
    ),
    Planted(
        "rate_goes_on",
        "core/catalog/codes.py",
        "if rate.to_ms <= at_ms",
        "if rate.to_ms < at_ms",
        "a rate is in force at the instant of its end",
    ),
    Planted(
        "longest_wildcard_last",
        "core/catalog/codes.py",
        "return 2 + CODE_DIGITS_MAX - len(pattern) if",
        "return 2 + len(pattern) if",
        "a shorter wildcard comes before a longer one",
    ),
    # ---- compiling
    Planted(
        "exclude_ignored",
        "core/catalog/packages.py",
        "if found & bit and limit.excludes(code):",
        "if found & bit and limit.excludes(code[:1]):",
        "excluded codes draw",
    ),
    Planted(
        "rules_by_gateway",
        "core/catalog/rules.py",
        "login if by_login else None, caller[:digits])",
        "login if by_login else None, '')",
        "a rule with the beginning of the caller's number holds for nobody",
    ),
    Planted(
        "version_a_moment_late",
        "core/catalog/packages.py",
        "return self.versions[bisect_right(self._since, at_ms, 1) - 1]",
        "return self.versions[max(bisect_right(self._since, at_ms, 1) - 2, 0)]",
        "a period has the version of the package before the one of its opening",
    ),
    Planted(
        "status_of_today",
        "core/catalog/packages.py",
        "return self._statuses[bisect_right(self._status_since, at_ms, 1) - 1]",
        "return self._statuses[-1]",
        "the status of today counts for calls of before",
    ),
    # ---- rounding and price
    Planted(
        "half_down",
        "core/amounts.py",
        "return (2 * n + d) // (2 * d)",
        "return (2 * n + d - 1) // (2 * d)",
        "halves are rounded down",
    ),
    Planted(
        "unit_of_another_service",
        "core/rating/pricing.py",
        "catalog.services[cdr.service].price_unit",
        "catalog.services[CALLS].price_unit",
        "a rate's price is per the unit of calls, whatever the service",
    ),
    Planted(
        "cost_of_the_other_side",
        "core/rating/pricing.py",
        'if side == "orig":',
        'if price.__dict__.setdefault(str(rate.price_e10), side) == "orig":',
        "a terminated call is charged where an originated one came first",
    ),
    Planted(
        "catalog_of_before",
        "core/line/draw_request.py",
        "cdr.service, packages, catalog, side.job)\n",
        "cdr.service, packages,\n                head_of.__dict__.setdefault(view.currency, catalog),"
        " side.job)\n",
        "transactions name the catalog that their currency was seen with first",
    ),
    Planted(
        "head_of_another_client",
        "core/line/draw_request.py",
        "key = view.id, side.account,",
        "key = side.account,",
        "calls of two clients of a bucket that have nothing open share what says whose they are",
    ),
    Planted(
        "head_of_another_period",
        "core/line/draw_request.py",
        "side.job, open_now\n",
        "side.job, None\n",
        "calls of a client in two periods name the period of the first",
    ),
    Planted(
        "given_rate_no_content",
        "core/rating/duplicates.py",
        "    if given is not None:\n        found = crc32(_by_value(given), found)\n",
        "",
        "a repeat with another given rate passes for the same",
    ),
    # ---- matching
    Planted(
        "short_call_draws",
        "core/rating/matching.py",
        "if billed >= one.min_call]",
        "if billed >= one.min_call - 1]",
        "a call that is a unit too short draws",
    ),
    Planted(
        "opened_goes_on",
        "core/clients/views.py",
        "if one.from_ms <= at_ms < one.until_ms and",
        "if one.from_ms <= at_ms <= one.until_ms and",
        "what was open stays open at the instant at which it ends, for whom it was remembered",
    ),
    Planted(
        "opened_by_the_catalog_before",
        "core/clients/views.py",
        "at_ms < one.until_ms and one.catalog is catalog:",
        "at_ms < one.until_ms:",
        "what a client has open is remembered over a load that changes its packages",
    ),
    Planted(
        "opened_to_another_account",
        "core/clients/views.py",
        "key = account, service, kind\n",
        "key = service, kind\n",
        "what is open to one account is open to the others of its client",
    ),
    Planted(
        "opened_to_another_type",
        "core/clients/views.py",
        "key = account, service, kind\n",
        "key = account, service\n",
        "a call that earns money draws from the packages of one that costs, when that came first",
    ),
    Planted(
        "offers_of_another_service",
        "core/catalog/compiled.py",
        "found = self._offers.get((service, packages))",
        "found = next((of for (_, known), of in self._offers.items() if known == packages), None)",
        "packages offer each service what they offer the one that came first",
    ),
    Planted(
        "balance_behind_the_first",
        "core/rating/matching.py",
        "if rest and (first & offers.allowing or not rest & offers.allowing):",
        "if rest:",
        "whether the balance suffices is not told where a limit behind the first few asks for it",
    ),
    Planted(
        "foreign_behind_the_first",
        "core/rating/matching.py",
        "    if not (whole or foreign or places & offers.short):",
        "    if not (whole or places & offers.short):",
        "money limits in another currency are not converted where there are many limits",
    ),
    Planted(
        "money_by_priority",
        "core/catalog/offers.py",
        '        limit.kind == "money",\n        one.latest.priority,\n',
        '        one.latest.priority,\n        limit.kind == "money",\n',
        "money of a package of higher priority comes before volume",
    ),
    # ---- after a crash, and loads
    Planted(
        "found_is_pending",
        "core/journal/reconciling.py",
        "        if decided is not None:\n            decided.found = True\n        if not lost:\n"
        "            if self.included is not None:\n",
        "        if not lost:\n            if self.included is not None:\n",
        "what was published is published again, or undone",
    ),
    Planted(
        "first_undone",
        "core/journal/reconciling.py",
        "offset < self._positions.get(topic, 0):",
        "offset <= self._positions.get(topic, 0):",
        "the first decision after the mark is undone, and made again",
    ),
    Planted(
        "opening_again",
        "core/clients/loading.py",
        "    credit = state.credit_limit\n",
        "    credit = state.credit_limit\n    plan.delta += state.opening\n",
        "each change of a client brings its opening balance again",
    ),
    Planted(
        "change_stays_pending",
        "core/journal/reconciling.py",
        "        if decided is not None:\n            decided.found = True\n        if not lost:\n"
        "            return\n        self._lane_ms = max(self._lane_ms, change.lane_ms)",
        "        if not lost:\n"
        "            return\n        self._lane_ms = max(self._lane_ms, change.lane_ms)",
        "a change that was published is published again, or undone",
    ),
    Planted(
        "row_of_neighbour",
        "core/journal/outcomes.py",
        "kept.limits[row.limits])",
        "kept.limits[max(row.limits - 1, 0)])",
        "a decision is published after a crash with the limits of the one before",
    ),
    Planted(
        "head_of_the_first_row",
        "core/journal/outcomes.py",
        "_encode(context_of(row, kept.heads[row.head],",
        "_encode(context_of(row, kept.heads[0],",
        "a decision is published after a crash as one of the first client in its request",
    ),
)


def planted_into(source: Path, target: Path, what: Planted | None) -> None:
    """Copy the product, with a fault planted."""
    shutil.copytree(source, target / "rater", ignore=shutil.ignore_patterns("__pycache__"))
    if what is None:
        return
    path = target / "rater" / what.file
    text = path.read_text()
    if text.count(what.old) != 1:
        sys.exit(f"{what.name}: the old text is {text.count(what.old)} times in {what.file}; mend the list")
    path.write_text(text.replace(what.old, what.new))


def outcome(source: Path, what: Planted | None, cases: int, jobs: int, every: bool) -> str | None:  # noqa: FBT001
    """Return by which seed and variant a planted fault was seen; None: it was not."""
    with tempfile.TemporaryDirectory() as folder:
        planted_into(source, Path(folder), what)
        path = os.pathsep.join((folder, str(ROOT / "tests")))
        command = [sys.executable, "-m", "oracle", "--cases", str(cases), "--jobs", str(jobs), "--as-is"]
        done = subprocess.run(  # noqa: S603 - ours
            command + ["--every-variant"] * every,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode == 0:
        return None
    found = re.match(r"seed (\d+), variant ([\w-]+): ", done.stdout)
    if found is None:
        sys.exit(
            f"{what and what.name}: the command ended with {done.returncode}\n{done.stdout}{done.stderr}"
        )
    return f"seed {found[1]}, {found[2]}"


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m oracle.planted", description=__doc__)
    parser.add_argument("--only", help="the fault of this name alone")
    parser.add_argument("--cases", type=int, default=500, help="at most, for each (default: 500)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--every-variant", action="store_true", help="each case under all variants")
    parser.add_argument(
        "--source", type=Path, default=ROOT / "src" / "rater", help="the product that is copied"
    )
    given = parser.parse_args()
    chosen = [one for one in PLANTED if given.only in (None, one.name)]
    if not chosen:
        parser.error(f"no such fault; there are {', '.join(one.name for one in PLANTED)}")
    options = given.cases, given.jobs, given.every_variant
    unchanged = outcome(given.source, None, *options)
    if unchanged is not None:
        sys.stdout.write(f"the product as it is differs already ({unchanged}): nothing can be told\n")
        return 1
    missed = 0
    sys.stdout.write("| planted | breaks | seen by | s |\n|---|---|---|---|\n")
    for one in chosen:
        began = time.monotonic()
        seen = outcome(given.source, one, *options)
        missed += seen is None
        took = time.monotonic() - began
        sys.stdout.write(f"| {one.name} | {one.breaks} | {seen or 'MISSED'} | {took:.0f} |\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(chosen) - missed} of {len(chosen)} planted faults are seen\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
