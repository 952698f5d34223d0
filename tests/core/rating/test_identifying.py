"""Whose call a side is, and at which rate (RULES.md 2, steps 2 to 4)."""

from __future__ import annotations

import json
from ipaddress import ip_address, ip_network
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from rater.core.catalog.rules import Rules
from rater.core.catalog.specs import IdentificationRule
from rater.core.cdr import Arrival, Cdr, GivenRate, Party
from rater.core.cdr_decoding import decode
from rater.core.clients.state import write_state
from rater.core.clients.views import Views
from rater.core.offline import Rater
from rater.core.rating.identifying import Ahead, Identified, Missing, identify
from rater.core.reasons import Reason, Rejection

AT_MS = 1_793_872_800_000
CATALOG = b"""
currencies: {base: USD}
rate_tables:
  - {name: retail, currency: USD, rates: [{code: "380", price: "0.10"}]}
  - {name: office, currency: USD, rates: [{code: "380", price: "0.01"}]}
clients:
  - {id: "42", currency: USD, name: Rose, rate_tables: {orig: {calls: retail}},
     accounts: [{id: sip-1, rate_tables: {orig: {calls: office}}}, {id: sip-2}]}
  - {id: "43", currency: USD, name: Violet, rate_tables: {orig: {calls: retail}}, accounts: [{id: sip-3}]}
identification:
  - {side: orig, gateway: gw1, client: "42", account: sip-1}
"""


def loaded() -> Rater:
    """Return a rater with two clients."""
    rater = Rater()
    assert not rater.load([("catalog.yaml", CATALOG)], AT_MS)
    return rater


def call(party: Party, **changes: Any) -> Cdr:
    """Return an answered call with this originating side."""
    cdr = decode(
        b'{"id": "a", "called": "380501234567", "duration_ms": 60000, "answered_at": "2026-11-05T10:00:00Z",'
        b'"orig": {}}',
        Arrival(AT_MS, 86_400_000, frozenset({"calls"})),
    )
    assert isinstance(cdr, Cdr)
    return msgspec.structs.replace(cdr, orig=party, **changes)


def of(
    rater: Rater, party: Party, views: Views | None = None, **changes: Any
) -> Identified | Rejection | Missing | Ahead:
    """Identify the originating side."""
    return identify(call(party, **changes), "orig", party, rater.catalog, views or rater.views)


def test_what_has_to_be_looked_up() -> None:
    """Without a view the account index is asked, then the client; what the store does not know, nobody is."""
    rater = loaded()
    views = Views()
    party = Party(account="sip-1")
    assert of(rater, party, views) == Missing(None, "sip-1")
    views.learn(set(), {"sip-1"}, {}, {"sip-1": "42"}, {})
    assert of(rater, party, views) == Missing("42", None)
    views.learn({"42"}, set(), {"42": write_state(rater.states["42"])}, {}, {})
    found = of(rater, party, views)
    assert isinstance(found, Identified)
    assert (found.view.id, found.account) == ("42", "sip-1")
    views.learn({"99"}, {"sip-9"}, {}, {}, {})
    for unknown, reason in (
        (Party("99"), Reason.CLIENT_UNKNOWN),
        (Party(account="sip-9"), Reason.ACCOUNT_UNKNOWN),
        (Party("42", "sip-9"), Reason.ACCOUNT_UNKNOWN),
    ):
        refused = of(rater, unknown, views)
        assert isinstance(refused, Rejection)
        assert refused.reason is reason


def test_a_foreign_account() -> None:
    """An account that the client does not have is another's (mismatch), nobody's, or new."""
    rater = loaded()
    views = Views()
    views.learn({"42"}, set(), {"42": write_state(rater.states["42"])}, {}, {})
    assert of(rater, Party("42", "sip-3"), views) == Missing(None, "sip-3")
    views.learn(set(), {"sip-3"}, {}, {"sip-3": "43"}, {})
    refused = of(rater, Party("42", "sip-3"), views)
    assert isinstance(refused, Rejection)
    assert (refused.reason, refused.value) == (Reason.ACCOUNT_MISMATCH, "sip-3")
    views.learn(set(), {"sip-4"}, {}, {"sip-4": "42"}, {})
    refused = of(rater, Party("42", "sip-4"), views)
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.ACCOUNT_UNKNOWN


def test_an_account_that_moved() -> None:
    """Whose it was when it was cached refuses no call: its client of then has it no more, so it is asked."""
    rater = loaded()
    views = Views({}, {"sip-1": "41"})
    fewer = msgspec.structs.replace(rater.states["42"], id="41", accounts={})
    views.learn({"41"}, set(), {"41": write_state(fewer)}, {}, {})
    assert of(rater, Party(account="sip-1"), views) == Missing(None, "sip-1")
    views.learn({"42"}, {"sip-1"}, {"42": write_state(rater.states["42"])}, {"sip-1": "42"}, {})
    found = of(rater, Party(account="sip-1"), views)
    assert isinstance(found, Identified)
    assert (found.view.id, found.account) == ("42", "sip-1")


def test_the_cdr_comes_before_the_rules() -> None:
    """A named client or account counts; a side that names neither ("" names none) is found by the rules."""
    rater = loaded()
    named = of(rater, Party("43", gateway="gw1"))
    ruled = of(rater, Party("", "", gateway="gw1"))
    assert isinstance(named, Identified)
    assert isinstance(ruled, Identified)
    assert (named.view.id, named.account) == ("43", None)
    assert (ruled.view.id, ruled.account) == ("42", "sip-1")


def test_a_newer_view_takes_accounts_away() -> None:
    """An account that a client has no more is looked up again, for it may be another's now."""
    rater = loaded()
    views = Views({}, {"sip-1": "42", "sip-2": "42"})
    state = rater.states["42"]
    views.put("42", write_state(state))
    fewer = msgspec.structs.replace(state, catalog=7, accounts={"sip-2": {}})
    views.put("42", write_state(fewer))
    assert views.accounts == {"sip-2": "42"}
    assert of(rater, Party("42"), views) == Ahead(7)


def test_the_rate() -> None:
    """The account's table replaces the client's; a given rate both; calls of nothing look none up."""
    rater = loaded()
    given_rate = GivenRate("7", "0.5", "USD")
    prices = []
    for party in (Party("42"), Party("42", "sip-1"), Party("42", "sip-2"), Party("42", rate=given_rate)):
        found = of(rater, party)
        assert isinstance(found, Identified)
        assert found.rate is not None
        prices.append((json.loads(found.rate.price.rate)["table"], found.rate.code, found.rate.price_e10))
    assert prices == [
        ("retail", "380", 10**9),
        ("office", "380", 10**8),
        ("retail", "380", 10**9),
        (None, "7", 5 * 10**9),
    ]
    nothing = of(rater, Party("42", rate=given_rate), used=False, called="1")
    assert isinstance(nothing, Identified)
    assert nothing.rate is None


def test_a_service_that_went_away() -> None:
    """The catalog may have changed since the record was decoded."""
    refused = of(loaded(), Party("42"), service="fax")
    assert isinstance(refused, Rejection)
    assert refused.reason is Reason.SERVICE_UNKNOWN


RULES = st.builds(
    IdentificationRule,
    side=st.sampled_from(["orig", "term"]),
    client=st.sampled_from("123"),
    gateway=st.none() | st.sampled_from(["g", "h"]),
    ip=st.none() | st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32"]),
    login=st.none() | st.sampled_from(["l", "m"]),
    caller_prefix=st.none() | st.sampled_from(["1", "14", "2"]),
)


@given(
    st.lists(RULES, max_size=8),
    st.sampled_from(["orig", "term"]),
    st.none() | st.sampled_from(["g", "h", ""]),
    st.none() | st.sampled_from(["10.1.2.3", "10.2.0.1", "2001:db8::1", "::ffff:10.1.2.3", "no address"]),
    st.none() | st.sampled_from(["l", "m"]),
    st.none() | st.sampled_from(["+1415", "2", "14", ""]),
)
def test_the_first_rule_that_holds(
    rules: list[IdentificationRule],
    side: str,
    gateway: str | None,
    ip: str | None,
    login: str | None,
    caller: str | None,
) -> None:
    """All given fields of a rule must hold, and of the rules that hold the first in the file counts."""

    def address_in(network: str) -> bool:
        try:
            address = ip_address(ip or "")
        except ValueError:
            return False
        return (getattr(address, "ipv4_mapped", None) or address) in ip_network(network)

    holding = [
        rule
        for rule in rules
        if rule.side == side
        and rule.gateway in (None, gateway)
        and rule.login in (None, login)
        and (rule.ip is None or address_in(rule.ip))
        and (caller or "").removeprefix("+").startswith(rule.caller_prefix or "")
    ]
    expected = (holding[0].client, holding[0].account) if holding else None
    assert Rules(rules).find(side, gateway, ip, login, caller) == expected
