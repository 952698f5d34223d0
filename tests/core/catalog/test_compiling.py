"""The catalog made ready for rating: limits by code, packages by instant, rules, currencies."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from itertools import product
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rater.core.amounts import E10
from rater.core.catalog.codes import Row
from rater.core.catalog.compiled import compile_catalog
from rater.core.catalog.packages import Limit, Limits
from rater.core.catalog.rules import Rules
from rater.core.catalog.specs import (
    Content,
    CurrencyRow,
    DeckSpec,
    IdentificationRule,
    LimitSpec,
    PackageHistory,
    PackageSpec,
    RateTableSpec,
    ServiceSpec,
    from_objects,
    objects,
)
from rater.core.periods import parse_span
from rater.core.reasons import PassOver, Side

DECK = DeckSpec(
    "a-z", {"380": "Ukraine", "38044": "Ukraine Kiev", "38050": "Ukraine Mobile", "38066": "Ukraine Mobile"}
)


def package(*limits: LimitSpec, **fields: Any) -> PackageSpec:
    """Return package "1"."""
    return PackageSpec(
        **{"id": "1", "name": "n", "type": "customer", "currency": "USD", "limits": list(limits), **fields}
    )


def limit_of(**fields: Any) -> LimitSpec:
    """Return a limit of calls, volume, 6000 seconds."""
    return LimitSpec(**{"id": "0", "type": "volume", "service": "calls", "limit": 6000, **fields})


def content_of(spec: PackageSpec) -> Content:
    """Return a content with one package and one deck."""
    return Content(
        base="USD",
        decks={"a-z": DECK},
        packages={spec.id: PackageHistory([(0, spec)], [(0, "active")])},
    )


def compiled(spec: LimitSpec) -> Limit:
    """Return the limit made ready."""
    (limit,) = compile_catalog(content_of(package(spec)), 1).packages["1"].latest.limits
    return limit


# ----------------------------------------------------------------------------------------------------- limits
def test_a_code_name_matches_all_its_spellings() -> None:
    """A limit by code name is for every code whose name reads the same, however deck and limit spell it."""
    codes = {
        "1242": "Bahamas",
        "124235": "Bahamas ",
        "124236": "BAHAMAS",
        "124237": "Ba\u00adhamas",
        "1": "USA",
    }
    for name in ("Bahamas", "bahamas\u00a0"):
        content = content_of(package(limit_of(code_name=name, code_deck="a-z")))
        content.decks["a-z"] = DeckSpec("a-z", codes)
        (limit,) = compile_catalog(content, 1).packages["1"].latest.limits
        assert limit.named == codes.keys() - {"1"}
        assert Limits([limit]).select("124235") == 1


@pytest.mark.parametrize(
    ("fields", "code", "matches"),
    [
        ({"code": "121"}, "121", True),
        ({"code": "121"}, "1212", False),
        ({"code": "121"}, "12", False),
        ({"code": "121*"}, "121", True),
        ({"code": "121*"}, "1215", True),
        ({"code": "121*"}, "12", False),
        ({"code": "*"}, "9", True),
        ({"code_name": "Ukraine Mobile", "code_deck": "a-z"}, "38050", True),
        ({"code_name": "Ukraine Mobile", "code_deck": "a-z"}, "38066", True),
        ({"code_name": "Ukraine Mobile", "code_deck": "a-z"}, "38044", False),
        ({"code_name": "Ukraine", "code_deck": "a-z"}, "380501", False),
        ({"code_name": "Ukraine", "code_deck": "other"}, "380", False),
    ],
)
def test_what_a_limit_is_for(fields: dict[str, str], code: str, matches: bool) -> None:  # noqa: FBT001
    """A code is exact or a wildcard; a code name is for the codes that bear it (RULES.md 3.1)."""
    limit = compiled(limit_of(**fields))
    assert limit.matches(code) is matches
    assert limit.why_not("calls", code) is (None if matches else PassOver.CODE_MISMATCH)


def test_the_more_specific_code_comes_first() -> None:
    """Exact (code or code name) before wildcard, longer wildcard before shorter (RULES.md 2.1)."""
    exact, name, long, short, all_codes = (
        compiled(limit_of(**fields)).rank()
        for fields in (
            {"code": "38044"},
            {"code_name": "Ukraine Kiev", "code_deck": "a-z"},
            {"code": "38044*"},
            {"code": "380*"},
            {"code": "*"},
        )
    )
    assert exact == name
    assert exact < long < short < all_codes


def test_exclude_takes_codes_out() -> None:
    """`exclude` holds codes or wildcards; another service is told before the code."""
    limit = compiled(limit_of(code="380*", exclude=["38044", "3805*"]))
    assert limit.why_not("calls", "38044") is PassOver.EXCLUDED
    assert limit.why_not("calls", "380501") is PassOver.EXCLUDED
    assert limit.why_not("calls", "380441") is None
    assert limit.why_not("data", "38044") is PassOver.OTHER_SERVICE


def test_the_limits_of_a_call() -> None:
    """Limits for the code, without those that exclude it."""
    spec = package(
        limit_of(id="wide", code="380*"),
        limit_of(id="not", code="38044", exclude=["38044"]),
        limit_of(id="exact", code="38044", type="money", limit=5),
        limit_of(id="other", code="1*"),
    )
    version = compile_catalog(content_of(spec), 1).packages["1"].latest
    limits = Limits(version.limits)
    found = limits.select("38044")
    chosen = [limit for place, limit in enumerate(version.limits) if found >> place & 1]
    assert [(limit.id, limit.position, limit.kind, limit.size) for limit in chosen] == [
        ("wide", 0, "volume", 6000),
        ("exact", 2, "money", 5),
    ]
    assert limits.select("38") == 0


# --------------------------------------------------------------------------------------------------- packages
def test_versions_and_statuses_are_by_instant() -> None:
    """What was in force at an instant counts; the first one loaded counts from the beginning."""
    history = PackageHistory(
        [(1000, package(name="first")), (2000, package(name="second"))],
        [(1000, "active"), (3000, "disabled"), (4000, "archived")],
    )
    of = compile_catalog(Content(packages={"1": history}), 1).packages["1"]
    assert [of.at(instant).name for instant in (0, 999, 1000, 1999, 2000, 9999)] == [
        "first", "first", "first", "first", "second", "second",
    ]  # fmt: skip
    assert [of.status_at(instant) for instant in (0, 1000, 2999, 3000, 3999, 4000)] == [
        "active", "active", "active", "disabled", "disabled", "archived",
    ]  # fmt: skip
    assert (of.latest.name, list(of.changes())) == ("second", [2000])


def test_a_version_reads_the_packages_settings() -> None:
    """What rating asks of a package is what the catalog file says."""
    spec = package(
        type="vendor", currency="EUR", period="2 months", priority=-3, dynamic_tag="promo",
        setup_fee="dont_charge", client_balance="allow",
    )  # fmt: skip
    of = compile_catalog(content_of(spec), 1).packages["1"].latest
    assert (of.type, of.currency, of.priority, of.tag) == ("vendor", "EUR", -3, "promo")
    assert (of.span, of.waive_setup, of.allow) == (parse_span("2 months"), True, True)
    bare = compile_catalog(content_of(package()), 1).packages["1"].latest
    assert (bare.span, bare.waive_setup, bare.allow, bare.tag) == (None, False, False, None)


# ----------------------------------------------------------------------------------------------------- rules
_NETWORKS = (
    "203.0.113.0/24",
    "203.0.113.7/32",
    "203.0.0.0/16",
    "0.0.0.0/0",
    "2001:db8::/32",
    "2001:db8::7/128",
)
_ADDRESSES = ("203.0.113.7", "203.0.113.8", "203.0.5.5", "198.51.100.1", "2001:db8::7", "2001:db9::1")


def _maybe(*values: str) -> st.SearchStrategy[str | None]:
    return st.none() | st.sampled_from(values)


_RULES = st.lists(
    st.builds(
        IdentificationRule,
        side=st.sampled_from(["orig", "term"]),
        client=st.integers(0, 99).map(str),
        account=_maybe("a", "b"),
        gateway=_maybe("g1", "g2"),
        ip=_maybe(*_NETWORKS),
        login=_maybe("l1", "l2"),
        caller_prefix=_maybe("1", "1415", "44"),
    ),
    max_size=12,
)


@settings(deadline=None)
@given(
    _RULES,
    st.sampled_from(["orig", "term"]),
    _maybe("g1", "g2", "g3"),
    _maybe(*_ADDRESSES),
    _maybe("l1", "l2", "l3"),
    _maybe("14155550100", "+4420", "7", ""),
)
def test_the_first_rule_whose_fields_all_hold(
    rules: list[IdentificationRule],
    side: Side,
    gateway: str | None,
    ip: str | None,
    login: str | None,
    caller: str | None,
) -> None:
    """The index finds what trying the rules one by one, in the file's order, finds; asked again, the same."""

    def holds(rule: IdentificationRule) -> bool:
        number = (caller or "").removeprefix("+")
        return (
            rule.side == side
            and rule.gateway in {None, gateway}
            and rule.login in {None, login}
            and number.startswith(rule.caller_prefix or "")
            and (rule.ip is None or (ip is not None and ip_address(ip) in ip_network(rule.ip)))
        )

    expected = next(((rule.client, rule.account) for rule in rules if holds(rule)), None)
    index = Rules(rules)
    assert index.find(side, gateway, ip, login, caller) == expected
    assert index.find(side, gateway, ip, login, caller) == expected


def test_the_order_of_the_file_counts_across_the_shapes_of_rules() -> None:
    """A rule with other fields that stands between two of one shape holds before the second of them."""
    rules = Rules(
        [
            IdentificationRule("orig", "1", gateway="other"),
            IdentificationRule("orig", "2", login="l"),
            IdentificationRule("orig", "3", gateway="g"),
            IdentificationRule("orig", "4", login="l", gateway="g"),
        ]
    )
    assert rules.find("orig", "g", None, "l", None) == ("2", None)
    assert rules.find("orig", "g", None, None, None) == ("3", None)
    assert rules.find("term", "g", None, "l", None) is None


IPV4 = (
    "203.0.113.7", " 203.0.113.7 ", "203.0.113.7:5060", "[203.0.113.7]:5060", "::ffff:203.0.113.7",
    "::FFFF:cb00:7107", "[::ffff:203.0.113.7]:5060", "0:0:0:0:0:ffff:203.0.113.7",
)  # fmt: skip
IPV6 = (
    "2001:db8::7", "2001:DB8:0::0007", "[2001:db8::7]", "[2001:db8::7]:5060", " [2001:DB8::7]:5060 ",
    "2001:db8::7%eth0", "[2001:db8::7%eth0]:5060",
)  # fmt: skip


@pytest.mark.parametrize(
    ("network", "ip"),
    [
        *product(("203.0.113.0/24", "::ffff:203.0.113.0/120", "::ffff:0:0/96", "0.0.0.0/0"), IPV4),
        *product(("2001:db8::/32", "2001:db8::7/128", "::/0"), IPV6),
    ],
)  # fmt: skip
def test_an_address_is_known_in_its_forms(network: str, ip: str) -> None:
    """An address is the same in brackets, with port, zone, blanks, and an IPv4 one written as IPv6.

    So are networks, also those that were loaded when they were kept as they were written.
    """
    rules = Rules([IdentificationRule("orig", "42", ip=network)])
    assert rules.find("orig", None, ip, None, None) == ("42", None)


def test_ipv6_as_a_whole_has_no_ipv4() -> None:
    """What holds for all of IPv6 holds for no IPv4 address, and the reverse, however they are written."""
    rules = Rules(
        [IdentificationRule("orig", "6", ip="::/0"), IdentificationRule("orig", "4", ip="0.0.0.0/0")]
    )
    assert {rules.find("orig", None, ip, None, None) for ip in IPV4} == {("4", None)}
    assert {rules.find("orig", None, ip, None, None) for ip in IPV6} == {("6", None)}


@pytest.mark.parametrize(
    ("caller", "holds"),
    [
        ("14155550100", True), ("+14155550100", True), (" +1 415 555 0100 ", True),
        ("+1 (415) 555-0100", True),
        ("1\u00a0415\u00a05550100", True), ("1.415.555.0100", True), ("(1) 415", True),
        ("0014155550100", False), ("-1415", False), ("sip:14155550100@x", False), ("x1415", False),
        ("", False), (None, False),
    ],
)  # fmt: skip
def test_a_caller_is_compared_by_its_digits(caller: str | None, holds: bool) -> None:  # noqa: FBT001 - a row
    """What sets groups of digits apart plays no part; 00 is a map's matter, and -1 is no number."""
    rules = Rules([IdentificationRule("orig", "42", caller_prefix="1415")])
    assert (rules.find("orig", None, None, None, caller) is not None) is holds


@pytest.mark.parametrize(
    ("login", "holds"), [("Anna", True), (" Anna\t", True), ("anna", False), ("An na", False)]
)
def test_logins_and_gateways_are_compared_without_blanks_around(login: str, holds: bool) -> None:  # noqa: FBT001
    """Blanks around are nobody's name; letter case is, for the user of a SIP address has it."""
    for rule in ("Anna", "Anna "):
        rules = Rules(
            [IdentificationRule("orig", "42", login=rule), IdentificationRule("term", "7", gateway=rule)]
        )
        assert (rules.find("orig", None, None, login, None) is not None) is holds
        assert (rules.find("term", login, None, None, None) is not None) is holds


@settings(deadline=None)
@given(
    _RULES, _maybe("g1", "g2"), _maybe(*_ADDRESSES), _maybe("l1", "l2"), _maybe("14155550100", "+4420", "7")
)
def test_a_rule_behind_another_never_holds(
    rules: list[IdentificationRule],
    gateway: str | None,
    ip: str | None,
    login: str | None,
    caller: str | None,
) -> None:
    """Without a rule that is told to be never reached each side finds the same; what is told has a reason."""
    index = Rules(rules)
    behind = index.behind(rules)
    left = Rules([rule for at, rule in enumerate(rules) if at not in {position for position, _ in behind}])
    for side in ("orig", "term"):
        assert index.find(side, gateway, ip, login, caller) == left.find(side, gateway, ip, login, caller)
    assert all(first < position for position, first in behind)


def test_which_rules_are_never_reached() -> None:
    """One that asks for no more, and not for another thing, comes before."""
    rule = IdentificationRule
    rules = [
        rule("orig", "1", ip="203.0.113.0/24"), rule("orig", "2", ip="203.0.113.7/32"),
        rule("orig", "3", ip="203.0.0.0/16"), rule("term", "4", ip="203.0.113.7/32"),
        rule("orig", "5", caller_prefix="14"), rule("orig", "6", caller_prefix="1415", login="l"),
        rule("orig", "7", caller_prefix="1", login="l"), rule("orig", "8", login="m"), rule("orig", "9"),
        rule("orig", "10", gateway="g"), rule("orig", "11", ip="2001:db8::/32"),
    ]  # fmt: skip
    assert Rules(rules).behind(rules) == [(1, 0), (5, 4), (9, 8), (10, 8)]


@pytest.mark.parametrize("ip", [None, "", "pbx.example", "203.0.113.7:", "203.0.113.7:x", "2001:db8::1"])
def test_what_is_no_address_is_in_no_network(ip: str | None) -> None:
    """A rule with a network does not hold without an address; another rule still may."""
    rules = Rules([IdentificationRule("orig", "42", ip="0.0.0.0/0"), IdentificationRule("orig", "43")])
    assert rules.find("orig", None, ip, None, None) == ("43", None)


# ------------------------------------------------------------------------------------------------ currencies
MONEY = Content(
    base="USD",
    currencies={
        "EUR": [CurrencyRow(108 * E10 // 100)],
        "GBP": [CurrencyRow(125 * E10 // 100), CurrencyRow(127 * E10 // 100, 1000)],
        "PLN": [CurrencyRow(E10 // 4, 1000)],
    },
)


def test_the_rate_in_force_counts() -> None:
    """Currency rates are dated: the one in force at the instant; none yet is none (RULES.md 2.2)."""
    catalog = compile_catalog(MONEY, 1)
    assert catalog.fx("USD", 0) == E10
    assert [catalog.fx("GBP", instant) for instant in (0, 999, 1000)] == [
        125 * E10 // 100, 125 * E10 // 100, 127 * E10 // 100,
    ]  # fmt: skip
    assert [catalog.fx("PLN", instant) for instant in (999, 1000)] == [None, E10 // 4]
    assert catalog.fx("XXX", 0) is None


def test_pairs_go_through_the_base() -> None:
    """1 EUR = 1.08 USD exactly, and the way back is its inverse; other pairs go through the base."""
    catalog = compile_catalog(MONEY, 1)
    assert catalog.convert("EUR", "USD", 0) == (27, 25)
    assert catalog.convert("USD", "EUR", 0) == (25, 27)
    assert catalog.convert("GBP", "EUR", 1000) == (127, 108)
    assert catalog.convert("PLN", "USD", 0) is None
    assert catalog.convert("USD", "PLN", 0) is None
    assert catalog.convert("XXX", "XXX", 0) == (1, 1)


# ---------------------------------------------------------------------------------------------------- catalog
def test_services_that_are_always_there() -> None:
    """calls, messages and data are there without being loaded, beside those of the catalog."""
    catalog = compile_catalog(Content(services={"sms_mt": ServiceSpec("sms_mt", "piece", 1)}), 7)
    assert {name: (of.unit, of.price_unit) for name, of in catalog.services.items()} == {
        "calls": ("second", 60),
        "messages": ("piece", 1),
        "data": ("KiB", 1024),
        "sms_mt": ("piece", 1),
    }
    assert catalog.service_names == set(catalog.services)
    assert catalog.version == 7


def test_a_rate_has_the_code_name_of_its_tables_deck() -> None:
    """A table's deck names its codes; a table without one names none."""
    rows = [Row("38044", 6 * E10 // 100)]
    tables = {
        "named": RateTableSpec("named", "USD", "a-z", rows),
        "bare": RateTableSpec("bare", "EUR", None, rows),
    }
    catalog = compile_catalog(Content(decks={"a-z": DECK}, rate_tables=tables), 1)
    named, bare = (catalog.tables[name].lookup("380441234567", 0) for name in ("named", "bare"))
    assert named is not None
    assert bare is not None
    assert (named.code, named.name, named.currency) == ("38044", '"Ukraine Kiev"', "USD")
    assert (bare.code, bare.name, bare.currency) == ("38044", "null", "EUR")


def test_content_is_kept_as_objects() -> None:
    """Content comes back from its objects; equal content gives equal bytes whatever the order it came in."""
    content = content_of(package(limit_of(code="1*"), fees=[], start_date="2026-11-01"))
    content.rate_tables["r"] = RateTableSpec("r", "USD", "a-z", [Row("1", 5)])
    content.identification = [IdentificationRule("orig", "42", ip="203.0.113.0/24")]
    content.services = {"b": ServiceSpec("b", "u", 1), "a": ServiceSpec("a", "u", 1)}
    raw = objects(content)
    assert set(raw) == {"main", "deck/a-z", "table/r"}
    assert from_objects(raw) == content
    content.services = dict(reversed(content.services.items()))
    assert objects(content) == raw
    content.decks["a-z"] = DeckSpec("a-z", {"1": "USA"})
    changed = objects(content)
    assert {name for name in raw if raw[name] != changed[name]} == {"deck/a-z"}


def test_content_that_is_not_there_is_an_error() -> None:
    """Objects that lack the main one, or hold something else, are not taken for a catalog."""
    with pytest.raises(KeyError):
        from_objects({})
    with pytest.raises(msgspec.MsgspecError):
        from_objects({"main": b"\x93\x01\x02\x03"})
