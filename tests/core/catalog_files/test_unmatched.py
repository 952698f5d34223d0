"""What a catalog says that can match nothing: told, and never changed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rater.core.catalog.specs import Content
from rater.core.catalog_files.merging import CatalogFile, Existing, merge, read_files
from rater.core.catalog_files.unmatched import overlaid, unmatched

NOW_MS = 1_790_000_000_000
TABLE = {
    "name": "retail", "currency": "USD", "code_deck": "a-z",
    "rates": [{"code": code, "price": "0.1"} for code in ("38044", "380", "4420", "447")],
}  # fmt: skip
BASE: dict[str, Any] = {
    "currencies": {"base": "USD"},
    "code_decks": [{"name": "a-z", "codes": {"380": "Ukraine", "38044": "Kiev", "44": "UK", "1": "USA"}}],
    "rate_tables": [TABLE],
}
CLIENTS = {"clients": [{"id": "42", "currency": "USD"}]}


def read(file: dict[str, Any]) -> CatalogFile:
    """Return what a file says, which has no faults."""
    found = read_files([("c.json", json.dumps(file).encode())], lambda _: b"")
    assert [str(fault) for fault in found.faults] == []
    return found


def told(*files: dict[str, Any]) -> tuple[list[str], Content]:
    """Return what is said of the last of these files, loaded one after another, and the content then."""
    content, notes = None, list[str]()
    for file in files:
        one = read(CLIENTS | file)
        merged = merge(content, one, NOW_MS, Existing({}, {}))
        assert not isinstance(merged, list), [str(fault) for fault in merged]
        # `check` has not merged the file, and says the same.
        assert unmatched(overlaid(content or Content(), one), one) == unmatched(merged.content, one)
        content, notes = merged.content, unmatched(merged.content, one)
    assert content is not None
    return notes, content


def package(limit: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a file with a package of one limit."""
    whole = {"id": "m1", "type": "volume", "service": "calls", "limit": 10, **limit}
    return {
        "packages": [
            {"id": "1", "name": "P", "type": "customer", "currency": "USD", "limits": [whole], **more}
        ]
    }


NONE = "matches no code of any rate table, so only calls that bring their own rate can draw from it"
FINER = "calls there are rated by 38044: write that, or add a rate for"


@pytest.mark.parametrize(
    ("limit", "problem"),
    [
        ({"code": "38044"}, ""),
        ({"code": "380*"}, ""),
        ({"code": "44*"}, ""),
        ({"code": "*"}, ""),
        ({"code_deck": "a-z", "code_name": "kiev"}, ""),
        ({"code": "380441"}, f"380441 {NONE}; {FINER} 380441"),
        ({"code": "380441*"}, f"380441* {NONE}; {FINER} 380441"),
        ({"code": "44"}, f"44 {NONE}; write 44*, or add a rate for 44"),
        ({"code": "49*"}, f"49* {NONE}; add a rate for 49, or correct the code"),
        ({"code_deck": "a-z", "code_name": "USA"}, f"USA {NONE}; add a rate, or correct the name"),
        (
            {"code": "380*", "exclude": ["380449", "38044"]},
            f"380449 is excluded and {NONE.partition(',')[0]}, so nothing is excluded by it; {FINER} 380449",
        ),
    ],
)
def test_a_limit_that_matches_no_rate_is_told(limit: dict[str, Any], problem: str) -> None:
    """Compared is the code that the rate was found by: a finer one is never that (RULES.md 3.1)."""
    notes, content = told(BASE, package(limit))
    wanted = [f"package 1, limit m1: {problem}"] if problem else []
    assert notes == wanted
    assert unmatched(content) == wanted
    (kept,) = content.packages["1"].latest.limits
    assert (kept.code, kept.exclude) == (limit.get("code"), limit.get("exclude", []))


def test_rates_that_go_are_told_of_the_limits_that_they_leave() -> None:
    """A table is replaced as a whole: limits of packages that were there before may match nothing then."""
    coarser = {"rate_tables": [{**TABLE, "rates": [{"code": "380", "price": "0.1"}]}]}
    notes, _ = told(BASE, package({"code": "38044"}), coarser)
    assert [note.partition(":")[0] for note in notes] == ["package 1, limit m1"]
    assert told(BASE, package({"code": "38044"}, status="archived"), coarser)[0] == []


def test_without_any_rate_table_no_limit_is_told() -> None:
    """Calls bring their own rates then."""
    assert told({"currencies": {"base": "USD"}}, package({"code": "380441"}))[0] == []


def test_what_begins_with_00_is_told_wherever_it_stands() -> None:
    """A normalised number never begins with 00; nothing is changed, for a plain CDR may have it."""
    rows = [{"code": code, "price": "0.1"} for code in ("0044", "044")]
    notes, content = told(BASE, {
        "code_decks": [{"name": "abroad", "codes": {"0044": "UK", "00": "all", "49": "Germany"}}],
        "rate_tables": [{**TABLE, "name": "abroad", "rates": rows}],
        **package({"code": "0044*", "exclude": ["00447"]}),
        "identification": [{"side": "orig", "caller_prefix": "0044", "client": "42"}],
    })  # fmt: skip
    why = "no number begins with 00, an international prefix, once its source's map has read it; write"
    assert notes == [
        f"code deck abroad: {why} 44 in place of 0044",
        f"rate table abroad: {why} 44 in place of 0044",
        f"package 1, limit m1: {why} 44*, 447 in place of 0044*, 00447",
        f"caller_prefix of identification rules: {why} 44 in place of 0044",
    ]
    assert unmatched(content) == notes
    assert [row.code for row in content.rate_tables["abroad"].rates] == ["0044", "044"]


def test_a_rule_that_another_comes_before_is_told() -> None:
    """Also one that a later load adds behind what is there, in another spelling of its network."""
    first = {"side": "orig", "ip": "203.0.113.0/24", "client": "42"}
    notes, _ = told(
        BASE,
        {"identification": [first]},
        {"identification": [{"side": "orig", "ip": "::ffff:203.0.113.5", "login": "l", "client": "42"}]},
    )
    (note,) = notes
    behind, _, remedy = note.partition(": {side: orig, ip: 203.0.113.0/24} comes before it")
    assert behind == "identification rule {side: orig, ip: 203.0.113.5/32, login: l} never holds"
    assert remedy == " and holds wherever it does; put it first, or leave it out"


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ({"ip": "::ffff:203.0.113.0/120"}, {"ip": "203.0.113.0/24"}),
        ({"ip": " 203.0.113.0/24 "}, {"ip": "203.0.113.0/24"}),
        ({"ip": "203.0.113.5"}, {"ip": "203.0.113.5/32"}),
        ({"ip": "2001:DB8::/32"}, {"ip": "2001:db8::/32"}),
        ({"ip": "fe80::1%eth0"}, {"ip": "fe80::1/128"}),
        ({"ip": "fe80::%eth0/64"}, {"ip": "fe80::/64"}),
        ({"ip": "203.0.113.0/255.255.255.0"}, {"ip": "203.0.113.0/24"}),
        ({"ip": "::ffff:0:0/96"}, {"ip": "0.0.0.0/0"}),
        ({"login": " anna "}, {"login": "anna"}),
        ({"gateway": "gw\u00a0"}, {"gateway": "gw"}),
        ({"caller_prefix": "+44"}, {"caller_prefix": "44"}),
    ],
)
def test_conditions_are_kept_as_calls_are_compared(rule: dict[str, str], kept: dict[str, str]) -> None:
    """Addresses, blanks around and `+` of a rule are read as those of calls are."""
    (found,) = read({"identification": [{"side": "orig", "client": "42", **rule}]}).identification
    ((name, value),) = kept.items()
    assert getattr(found.value, name) == value


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        (
            {"ip": "203.0.113.5/24"},
            "write 203.0.113.0/24 for the network, or 203.0.113.5 for the one address",
        ),
        ({"ip": "203.0.113.5:5060"}, "without a port"),
        ({"ip": "[2001:db8::1]:5060"}, "without a port"),
        ({"ip": " "}, "not a network"),
        ({"ip": "203.0.113.5%eth0"}, "not a network"),
        ({"ip": "203.0.113.0/24%eth0"}, "not a network"),
        ({"ip": "::ffff:203.0.113.5/120"}, "bits of a host are set"),
        ({"login": "  "}, "is blank; give a text, or leave it out"),
        ({"gateway": "\u00a0"}, "is blank; give a text, or leave it out"),
        ({"caller_prefix": "1 415"}, "not digits alone"),
        ({"caller_prefix": "++44"}, "not digits alone"),
    ],
)
def test_what_no_call_could_have_is_refused(rule: dict[str, str], problem: str) -> None:
    """A rule by a port would hold for more than it says, so it is refused with the remedy."""
    file = {"identification": [{"side": "orig", "client": "42", **rule}]}
    (fault,) = read_files([("c.json", json.dumps(file).encode())], lambda _: b"").faults
    assert problem in fault.problem


@pytest.mark.parametrize("code", ["+44", "4 4", " 44", "44 ", "4a", "0\u0664", "44**", "*44"])
def test_a_code_with_anything_but_digits_is_refused(code: str) -> None:
    """In decks, tables and limits, with the place."""
    files: list[dict[str, Any]] = [
        {"code_decks": [{"name": "d", "codes": {code: "X"}}]},
        {"rate_tables": [{**TABLE, "rates": [{"code": code, "price": "1"}]}]},
        package({"code": code}),
        package({"code": "380*", "exclude": [code]}),
    ]
    for file in files:
        (fault,) = read_files([("c.json", json.dumps(file).encode())], lambda _: b"").faults
        assert fault.value == code
        assert "digits" in fault.problem
