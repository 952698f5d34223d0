"""The example catalog: a small carrier's, in the form of `rater load` (CONTRACTS.md, Catalog file).

The same every time, but for the dates: client packages begin some months before `now_ms`, so that their
periods are under way. Several limits are small on purpose: they run out while one looks on.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, NamedTuple

import orjson

from rater.core.amounts import format_e10, half_up, parse_e10
from rater.demo import deck, prices

Json = dict[str, Any]

_SEED: Final = 1876  # of names and of who has what; the catalog is part of the example, so it is fixed

CLIENTS: Final = 200
VENDORS: Final = 16
"""The last clients are the carriers that calls are sent to; they are the `term` side."""
CARRIERS: Final = 24
"""Those before them send whole trunks of calls, known by the IP network that they come from."""
_BUSIEST = 12  # packages of a kind that the first client has
RETAIL: Final = CLIENTS - VENDORS - CARRIERS

_ZONES_OF_CURRENCY: Final = {
    "USD": ("America/New_York", "America/Chicago", "America/Los_Angeles", "Europe/Kyiv", "Asia/Kolkata"),
    "EUR": ("Europe/Berlin", "Europe/Paris", "Europe/Madrid", "Europe/Warsaw"),
    "GBP": ("Europe/London",),
}
_CURRENCIES: Final = ("USD", "USD", "EUR", "EUR", "GBP")
_RATES: Final = {"EUR": "1.08", "GBP": "1.27"}  # USD for one
_TABLE: Final = {"USD": "retail", "EUR": "retail-eur", "GBP": "retail-gbp"}

_FIRST: Final = (
    "Alder", "Amber", "Birch", "Blue Hill", "Cedar", "Clover", "Copper", "Elm Street", "Fern", "Granite",
    "Harbour", "Hazel", "Ivory", "Juniper", "Kestrel", "Larch", "Linden", "Maple", "Meadow", "North Gate",
    "Oak Lane", "Orchard", "Pebble", "Pine", "Quarry", "Rose", "Rowan", "Sable", "Silver Lake", "Willow",
)  # fmt: skip
_SECOND: Final = {
    "retail": ("Bakery", "Books", "Clinic", "Couriers", "Dental", "Design", "Florist", "Garage", "Hotel",
               "Law", "Logistics", "Optics", "Pharmacy", "School", "Studio", "Supplies", "Travel", "Vets"),
    "carrier": ("Telecom", "Voice", "Networks", "Connect"),
    "vendor": ("Carrier Services", "Termination", "Interconnect", "Routing"),
}  # fmt: skip


class Place(NamedTuple):
    """How a client's records name it: what calls.py needs to know of the catalog."""

    client: str
    accounts: tuple[str, ...]
    logins: tuple[str, ...]  # as many as accounts; empty where identification rules do not know it by login
    ip: str | None  # an address of its network
    gateway: str | None


# ------------------------------------------------------------------------------------------------- the whole
def build(now_ms: int) -> Json:
    """Return the catalog; `now_ms` (ms since 1970 UTC) is about when it will be loaded."""
    months = _Months(now_ms)
    return {
        "currencies": {
            "base": "USD",
            "rates": {"EUR": _RATES["EUR"], "GBP": [{"rate": _RATES["GBP"], "from": months.day(12)}]},
        },
        "resellers": [{"id": "1", "name": "Main"}, {"id": "2", "name": "Partner"}],
        "code_decks": [{"name": deck.NAME, "codes": dict(deck.codes())}],
        "rate_tables": _rate_tables(months),
        "tax_profiles": [
            {"name": "vat20", "taxes": [{"name": "VAT", "percent": "20"}]},
            {"name": "vat19", "taxes": [{"name": "MwSt", "percent": "19"}]},
        ],
        "packages": _packages(),
        "clients": [_client(number) for number in range(1, CLIENTS + 1)],
        "identification": _identification(),
        "client_packages": _client_packages(months),
    }


def file_bytes(now_ms: int) -> bytes:
    """Return the catalog as a JSON file."""
    return orjson.dumps(build(now_ms))


class _Months:
    """Dates some months ago, as the catalog writes them."""

    def __init__(self, now_ms: int) -> None:
        self._now = datetime.fromtimestamp(now_ms // 1000, UTC)

    def day(self, months_ago: int) -> str:
        """Return the first of the month, so many months back: past in every time zone."""
        # A day is taken off first: where it is still yesterday the month may not have begun.
        moment = (self._now - timedelta(days=1)).replace(day=1)
        years, month = divmod(moment.year * 12 + moment.month - 1 - months_ago, 12)
        return f"{years:04d}-{month + 1:02d}-01"

    def instant(self, months_ago: int) -> str:
        """Return the same day as an instant."""
        return f"{self.day(months_ago)}T00:00:00Z"


# -------------------------------------------------------------------------------------------------- the rates
def _rate_tables(months: _Months) -> list[Json]:
    retail = _retail_rows()
    tables = [
        {"name": "retail", "currency": "USD", "code_deck": deck.NAME, "rates": _dated(retail, months)},
        # Carriers are billed by the second and pay less; vendors get less still.
        {"name": "trunk", "currency": "USD", "code_deck": deck.NAME, "rates": _cheaper(retail, "0.72")},
        {"name": "wholesale", "currency": "USD", "code_deck": deck.NAME, "rates": _cheaper(retail, "0.55")},
    ]
    for currency, rate in _RATES.items():
        rows = [{**row, "price": _divided(row["price"], rate)} for row in retail]
        tables.append({"name": _TABLE[currency], "currency": currency, "code_deck": deck.NAME, "rates": rows})
    countries = [
        *(country.code for country in prices.COUNTRIES if country.name != "Canada"),
        *(code for code in prices.elsewhere() if not code.startswith("1")),
    ]
    for name, cheap, dear in (("messages", "0.0075", "0.0420"), ("data", "0.0040", "0.0090")):
        rows = [{"code": code, "price": cheap if len(code) < len("380") else dear} for code in countries]
        tables.append({"name": name, "currency": "USD", "code_deck": deck.NAME, "rates": rows})
    return tables


@cache
def _retail_rows() -> tuple[Json, ...]:
    chance = random.Random(_SEED)  # noqa: S311 - example prices
    rows: list[Json] = []
    for country in prices.COUNTRIES:
        for code, is_mobile in prices.destinations(country):
            row: Json = {"code": code, "price": country.mobile if is_mobile else country.fixed}
            rows.append(_with_increments(row, country.increments, country.setup_fee))
    for code in prices.elsewhere():
        price = format_e10(chance.randrange(40, 900) * 10**7)  # 0.04 to 0.899 USD
        rows.append(_with_increments({"code": code, "price": price}, prices.MINUTE, "0"))
    return tuple(sorted(rows, key=lambda row: str(row["code"])))


def _with_increments(row: Json, increments: tuple[int, int], setup_fee: str) -> Json:
    min_time, interval = increments
    if increments != (1, 1):
        row |= {"min_time": min_time, "interval": interval}
    if setup_fee != "0":
        row["setup_fee"] = setup_fee
    if increments == prices.SIX:
        row["grace_time"] = 2  # rung through and hung up at once: nothing is charged
    return row


def _dated(rows: tuple[Json, ...], months: _Months) -> list[Json]:
    """Return the rows with a past for Ukraine: it was dearer until two months ago."""
    dated: list[Json] = []
    for row in rows:
        if str(row["code"]).startswith("380"):
            before = {**row, "price": _times(row["price"], "1.1"), "effective_from": months.instant(12)}
            dated.append({**before, "effective_to": months.instant(2)})
            dated.append({**row, "effective_from": months.instant(2)})
        else:
            dated.append(row)
    return dated


def _cheaper(rows: tuple[Json, ...], factor: str) -> list[Json]:
    return [{"code": row["code"], "price": _times(row["price"], factor)} for row in rows]


# Prices of a list have six decimals; the unit of the ints is 10^-10.
_DECIMALS_UNIT = 10**4


def _times(price: str, factor: str) -> str:
    return format_e10(half_up(parse_e10(price) * parse_e10(factor), 10**10 * _DECIMALS_UNIT) * _DECIMALS_UNIT)


def _divided(price: str, rate: str) -> str:
    return format_e10(half_up(parse_e10(price) * 10**10, parse_e10(rate) * _DECIMALS_UNIT) * _DECIMALS_UNIT)


# ----------------------------------------------------------------------------------------------- the packages
def _volume(code: str, minutes: int, **more: Any) -> Json:
    return {"type": "volume", "service": "calls", "code": code, "limit": minutes, **more}


def _packages() -> list[Json]:
    def named(name: str, minutes: int) -> Json:
        limit = {"type": "volume", "service": "calls", "limit": minutes}
        return limit | {"code_deck": deck.NAME, "code_name": name}

    return [
        {"id": "1", "name": "Kyiv 100", "type": "customer", "currency": "USD", "period": "1 month",
         "dynamic_tag": "promo", "fees": [{"type": "subscription", "name": "Monthly", "rate": "5.00"}],
         "limits": [_volume("38044*", 100, min_call=6, per_call_max=3600)]},
        {"id": "2", "name": "Kyivstar 60", "type": "customer", "currency": "USD", "period": "1 month",
         "priority": -1, "fees": [{"type": "activation", "name": "Set-up", "rate": "2.00"}],
         "limits": [{"id": "ks", **named("Ukraine Mobile Kyivstar", 60)}]},
        {"id": "3", "name": "World 30", "type": "customer", "currency": "USD", "period": "1 day",
         "priority": 5, "limits": [_volume("*", 30)]},
        {"id": "4", "name": "Bonus 2", "type": "customer", "currency": "USD", "period": "1 month",
         "priority": 9,
         "limits": [{"id": "b1", "type": "money", "service": "calls", "code": "*", "limit": "2.00"}]},
        {"id": "5", "name": "Europe 500", "type": "customer", "currency": "EUR", "period": "1 month",
         "setup_fee": "dont_charge", "fees_include_taxes": True,
         "fees": [{"type": "subscription", "name": "Monthly", "rate": "9.90"}],
         "discounts": [{"activation_count": 6, "discount": "1.00"}],
         "limits": [{"id": "de", **_volume("49*", 200, exclude=["4915*", "4916*", "4917*"])},
                    {"id": "fr", **_volume("33*", 150)}, {"id": "uk", **_volume("44*", 150)}]},
        {"id": HOURLY, "name": "Hour 15", "type": "customer", "currency": "USD", "period": "1 hour",
         "priority": 3,
         "limits": [{"id": "h", **_volume("*", 15, min_call=6, per_call_max=300)}]},
        {"id": "7", "name": "Trunk 20000", "reseller": "2", "type": "customer", "currency": "USD",
         "period": "1 month", "client_balance": "allow", "priority": 1, "dynamic_tag": "trunk",
         "limits": [{"id": "all", **_volume("*", 20000, exclude=["53*", "88*"])}]},
        {"id": "8", "name": "Germany in", "type": "vendor", "currency": "EUR", "period": "1 month",
         "limits": [{"id": "v", **_volume("49*", 600)}]},
        {"id": "9", "name": "Free traffic", "type": "vendor", "currency": "USD", "period": "1 day",
         "limits": [{"id": "m", "type": "money", "service": "calls", "code": "*", "limit": "4.00"}]},
        {"id": "10", "name": "Messages 50", "type": "customer", "currency": "GBP", "period": "1 day",
         "limits": [{"id": "sms", "type": "volume", "service": "messages", "code": "*", "limit": 50}]},
        {"id": "11", "name": "Data 100", "type": "customer", "currency": "EUR", "period": "1 day",
         "limits": [{"id": "mb", "type": "volume", "service": "data", "code": "*", "limit": 100}]},
        {"id": "12", "name": "Berlin and bonus", "type": "customer", "currency": "USD", "period": "1 month",
         "limits": [{"id": "be", **named("Germany Berlin", 45)},
                    {"id": "eur", "type": "money", "service": "calls", "code": "49*", "limit": "3.50"}]},
        {"id": "13", "name": "Summer", "status": "disabled", "type": "customer", "currency": "USD",
         "period": "1 month", "limits": [_volume("34*", 60)]},
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------ the clients
def places() -> tuple[Place, ...]:
    """Return how records name the clients, in their order: the first has the most traffic."""
    return tuple(_place(number) for number in range(1, CLIENTS + 1))


def _place(number: int) -> Place:
    kind = _kind(number)
    if kind == "retail":
        accounts = tuple(f"sip-{1000 + number}-{line}" for line in range(1, 2 + number % 4))
        # Every fourth comes from switches that tell only the login.
        logins = tuple(f"u{1000 + number}{line}" for line in range(len(accounts))) if number % 4 == 0 else ()
        return Place(str(number), accounts, logins, None, None)
    if kind == "carrier":
        return Place(str(number), (f"trunk-{number}",), (), f"198.51.100.{(number - RETAIL) * 8 + 3}", None)
    vendor = number - RETAIL - CARRIERS
    return Place(str(number), (f"route-{number}",), (), f"203.0.113.{vendor * 8 + 5}", f"gw-{vendor:02d}")


def _kind(number: int) -> str:
    if number <= RETAIL:
        return "retail"
    return "carrier" if number <= RETAIL + CARRIERS else "vendor"


def _client(number: int) -> Json:
    chance = random.Random(_SEED + number)  # noqa: S311 - example names
    kind = _kind(number)
    place = _place(number)
    currency = "USD" if number == 1 else chance.choice(_CURRENCIES)
    calls = {"retail": _TABLE[currency], "carrier": "trunk", "vendor": "wholesale"}[kind]
    side = "term" if kind == "vendor" else "orig"
    tables = {"calls": calls, **({"messages": "messages", "data": "data"} if kind == "retail" else {})}
    client: Json = {
        "id": place.client,
        "name": _name(number, kind),
        "reseller": "2" if kind == "carrier" else "1",
        "currency": currency,
        "time_zone": chance.choice(_ZONES_OF_CURRENCY[currency]),
        "balance": {"retail": f"{chance.randrange(5, 200)}.00", "carrier": "2500.00", "vendor": "0"}[kind],
        "credit_limit": {"retail": "0", "carrier": "1000.00", "vendor": "0"}[kind],
        "low_balance": "5.00",
        "rate_tables": {side: tables},
        "accounts": [{"id": account} for account in place.accounts],
    }
    if currency != "USD":
        client["tax_profile"] = "vat19" if currency == "EUR" else "vat20"
    if kind == "retail" and number % 20 == 0:  # one line of a good client has the carriers' prices
        client["accounts"][-1]["rate_tables"] = {"orig": {"calls": "trunk"}}
    return client


def _name(number: int, kind: str) -> str:
    second = _SECOND[kind]
    # 30 is coprime to 7 and the seconds go on with each round: no name comes twice.
    return f"{_FIRST[number * 7 % len(_FIRST)]} {second[(number + number // len(_FIRST)) % len(second)]}"


def _identification() -> list[Json]:
    rules: list[Json] = []
    for number, place in enumerate(places(), start=1):
        whose = {"client": place.client, "account": place.accounts[0]}
        if place.gateway is not None and place.ip is not None:
            # By gateway where the switch tells it; its address is the second best.
            rules.append({"side": "term", "gateway": place.gateway, **whose})
            rules.append({"side": "term", "ip": _net(place.ip), **whose})
        elif place.ip is not None:
            rule = {"side": "orig", "ip": _net(place.ip), **whose}
            rules.append(rule | ({"caller_prefix": "44"} if number == RETAIL + 1 else {}))
            if number == RETAIL + 1:  # whatever else comes from its network is its too
                rules.append(rule)
        for login, own in zip(place.logins, place.accounts, strict=False):
            rules.append({"side": "orig", "login": login, "client": place.client, "account": own})
    return rules


def _net(address: str) -> str:
    """Return the network of eight addresses that the address lies in."""
    head, _, last = address.rpartition(".")
    return f"{head}.{int(last) // 8 * 8}/29"


HOURLY = "6"
"""A package of an hour: as many as a month has are not opened in the past."""


def _client_packages(months: _Months) -> list[Json]:
    assigned: list[Json] = []

    def assign(number: int, package: str, quantity: int = 1, account: str | None = None) -> None:
        assigned.append(
            {"id": str(len(assigned) + 1), "client": str(number), "account": account, "package": package,
             "start_date": months.instant(len(assigned) % 3), "activate_in_past": package != HOURLY,
             "quantity": quantity}
        )  # fmt: skip

    for number in range(1, RETAIL + 1):
        for package in _chosen(number):
            # As much more as they call more: limits run out in seconds at one, in minutes at another.
            assign(number, package, quantity=max(1, _BUSIEST // number))
        if number % 10 == 1:
            place = _place(number)
            assign(number, "6", account=place.accounts[-1])
    for number in range(RETAIL + 1, RETAIL + CARRIERS + 1):
        assign(number, "7")
    for number in range(RETAIL + CARRIERS + 1, CLIENTS + 1):
        assign(number, "8" if number % 2 else "9")
    return assigned


def _chosen(number: int) -> tuple[str, ...]:
    """Return what a client has bought, from a wheel of usual mixtures."""
    mixtures = (
        ("1", "4"), ("3", "5"), ("2", "3", "10"), ("12",), ("1", "2", "4"), ("5", "11"), ("3", "4", "10"), (),
        ("1", "5"), ("12", "3"), ("4", "10", "11"),
    )  # fmt: skip
    return mixtures[(number - 1) % len(mixtures)]
