"""The catalog as data: what a catalog file says, section by section, and the content that loads add up to.

Field names are those of CONTRACTS.md, "Catalog file". Values are checked and in units already: money in
micros, prices in 10^-10 (e10), volumes in counting units, shared instants in ms since 1970 UTC. What may be a
bare date, which is 00:00 at a client, stays text in its one spelling (`periods.canonical_when`): "2026-11-01"
or "2026-11-01T00:00:00Z". Fees, discounts and taxes stay decimals in their one spelling: nothing is computed
from them here. What comes by the hundred thousand is no business of the cycle collector (gc=False).
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct, field

from rater.core.amounts import format_e10, parse_e10
from rater.core.catalog.codes import Row
from rater.core.reasons import Side
from rater.core.zones import Release

Status = Literal["active", "disabled", "archived"]
PackageType = Literal["customer", "vendor"]
LimitType = Literal["volume", "money"]
FeeType = Literal["activation", "subscription"]
SetupFee = Literal["charge", "dont_charge"]
ClientBalance = Literal["allow", "deny"]
RenewalCharge = Literal["before_period", "on_period"]

Tables = dict[str, dict[str, str]]
"""Side → service → name of a rate table."""


class CurrencyRow(Struct, array_like=True, frozen=True):
    """What one unit of a currency is worth in the base, in 10^-10, from an instant (None: always)."""

    rate_e10: int
    from_ms: int | None = None


class CurrencySpec(Struct):
    """A currency: its rates against the base, by `from`. The base itself has none."""

    name: str
    rates: list[CurrencyRow]


PRICE_UNIT_MAX = 2**40
"""Counting units of one price unit: octets that are sold by the TiB."""


class ServiceSpec(Struct, frozen=True):
    """What is counted: a counting unit, and how many of them (at most PRICE_UNIT_MAX) make one price unit."""

    name: str
    unit: str
    price_unit: int


BUILT_IN = (
    ServiceSpec("calls", "second", 60),
    ServiceSpec("messages", "piece", 1),
    ServiceSpec("data", "KiB", 1024),
)
"""Services that are always there (RULES.md section 1)."""


class ResellerSpec(Struct, frozen=True):
    """The owner of packages and clients."""

    id: str
    name: str


class DeckSpec(Struct):
    """A code deck: code → code name."""

    name: str
    codes: dict[str, str]


class RateTableSpec(Struct):
    """A rate table; rows sorted by code and `effective_from`."""

    name: str
    currency: str
    code_deck: str | None
    rates: list[Row]


class TaxSpec(Struct, frozen=True):
    """One tax; percent is a decimal."""

    name: str
    percent: str


class TaxProfileSpec(Struct):
    """The taxes of a client's fees, in order."""

    name: str
    taxes: list[TaxSpec]


class FeeSpec(Struct, frozen=True):
    """A fee of a package; rate is a decimal in the package's currency, negative pays the client."""

    type: FeeType
    name: str
    rate: str
    note: str = ""


class DiscountSpec(Struct, frozen=True):
    """From this activation on the subscription fee is less by `discount`, a decimal."""

    activation_count: int
    discount: str


class DidLimitSpec(Struct, frozen=True):
    """How many DIDs with one of the tags the accounts may hold."""

    quantity: int
    allowed_tags: list[str] = []
    on_hold_days: int = 0


class LimitSpec(Struct, omit_defaults=True):
    """An allowance. `limit` in counting units (volume) or micros of the package's currency (money), > 0.

    Exactly one of code (with `*` at its end or not) and code_name (which has a code_deck) is given. min_call,
    per_call_max and rollover are in counting units; 0 and None: off.
    """

    id: str
    type: LimitType
    service: str
    limit: int
    code_deck: str | None = None
    code: str | None = None
    code_name: str | None = None
    exclude: list[str] = []
    min_call: int = 0
    per_call_max: int | None = None
    rollover: int = 0


class PackageSpec(Struct, omit_defaults=True):
    """A package as a file says it (RULES.md section 3). Periods are in the spelling of `str(Span)`."""

    id: str
    name: str
    type: PackageType
    currency: str
    reseller: str | None = None
    status: Status = "active"
    period: str | None = None
    advance_renew: str | None = None
    renew_for: str | None = None
    fees_include_taxes: bool = False
    align_to_payment_terms: bool = False
    full_charge: bool = False
    charge_on_event: bool = False
    setup_fee: SetupFee = "charge"
    client_balance: ClientBalance = "deny"
    renewal_charge: RenewalCharge = "on_period"
    priority: int = 0
    dynamic_tag: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    fees: list[FeeSpec] = []
    discounts: list[DiscountSpec] = []
    did_limits: list[DidLimitSpec] = []
    limits: list[LimitSpec] = []


def fee_sum(spec: PackageSpec, of: FeeType) -> str:
    """Return the sum of a package's fees of a type, a decimal in its currency."""
    return format_e10(sum(parse_e10(fee.rate) for fee in spec.fees if fee.type == of))


class PackageHistory(Struct):
    """A package over time: versions by the instant since which each is in force, and its status by instant.

    The first of each counts from the beginning. Every change adds a version, so that the periods that are
    open keep what they opened with. `assigned`: a load gave it to some client; of commands the index of the
    package's clients tells. `deleted`: it is listed nowhere and archived, and stays for two reasons: its id
    is refused ever after, and an assignment that was decided before still finds what it assigns.
    """

    versions: list[tuple[int, PackageSpec]]
    statuses: list[tuple[int, Status]]
    assigned: bool = False
    deleted: bool = False

    @property
    def latest(self) -> PackageSpec:
        """The package of today."""
        return self.versions[-1][1]

    @property
    def status(self) -> Status:
        """The status of today."""
        return self.statuses[-1][1]


class TermsSpec(Struct, frozen=True, gc=False):
    """A client's payment terms: invoices every so often, counted from the anchor (a date at the client)."""

    every: str
    anchor: str


class AccountSpec(Struct, omit_defaults=True, gc=False):
    """An account of a client; its rate tables replace the client's, side by side and service by service."""

    id: str
    rate_tables: Tables = field(default_factory=dict)


class ClientSpec(Struct, omit_defaults=True, gc=False):
    """A client. Money in micros of its currency; balance counts for a client that is new, and then only."""

    id: str
    currency: str
    name: str = ""
    reseller: str | None = None
    time_zone: str = "UTC"
    balance: int = 0
    credit_limit: int = 0
    low_balance: int | None = None
    payment_terms: TermsSpec | None = None
    tax_profile: str | None = None
    rate_tables: Tables = field(default_factory=dict)
    accounts: list[AccountSpec] = []


class IdentificationRule(Struct, frozen=True, omit_defaults=True):
    """Whose call it is when all given fields hold; `ip` is a network, in its one spelling."""

    side: Side
    client: str
    account: str | None = None
    gateway: str | None = None
    ip: str | None = None
    login: str | None = None
    caller_prefix: str | None = None

    def conditions(self) -> tuple[str | None, ...]:
        """Return what the rule asks for; a load with the same conditions updates the rule."""
        return self.side, self.gateway, self.ip, self.login, self.caller_prefix


class ClientPackageSpec(Struct, omit_defaults=True, gc=False):
    """A package assigned to a client, or to one of its accounts."""

    id: str
    client: str
    package: str
    account: str | None = None
    start_date: str | None = None
    end_date: str | None = None
    activate_in_past: bool = False
    quantity: int = 1


class DidSpec(Struct, frozen=True, omit_defaults=True):
    """A number that accounts may hold."""

    number: str
    tags: list[str] = []
    account: str | None = None


class ClientEntry(Struct, omit_defaults=True, gc=False):
    """What a load says of one client: the client itself, packages and DIDs assigned to it.

    dids: (number, account); each is asked for by a command behind the load (`loads.did_commands`).
    """

    id: str
    client: ClientSpec | None = None
    packages: list[ClientPackageSpec] = []
    dids: list[tuple[str, str]] = []


class Content(Struct):
    """The shared part of the catalog: what loads added up to, but clients and what is assigned to them."""

    base: str | None = None
    currencies: dict[str, list[CurrencyRow]] = field(default_factory=dict)
    services: dict[str, ServiceSpec] = field(default_factory=dict)
    resellers: dict[str, ResellerSpec] = field(default_factory=dict)
    decks: dict[str, DeckSpec] = field(default_factory=dict)
    rate_tables: dict[str, RateTableSpec] = field(default_factory=dict)
    tax_profiles: dict[str, TaxProfileSpec] = field(default_factory=dict)
    packages: dict[str, PackageHistory] = field(default_factory=dict)
    identification: list[IdentificationRule] = []
    dids: dict[str, DidSpec] = field(default_factory=dict)
    zones: list[Release] = []
    """Releases of tzdata by instant; empty: loaded before catalogs carried them."""

    def all_services(self) -> dict[str, ServiceSpec]:
        """Return the services by name, those that are always there included."""
        return {service.name: service for service in BUILT_IN} | self.services

    def currency_known(self, name: str) -> bool:
        """Return whether the currency is the base or has rates."""
        return name == self.base or name in self.currencies


# ----------------------------------------------------------------------------------------- content as objects
MAIN = "main"
_ZONES = "zones"
_DECK = "deck/"
_TABLE = "table/"

# Sorted keys: the same content is the same bytes, so an object that did not change is not written again.
_encode = msgspec.msgpack.Encoder(order="deterministic").encode
_decode_main = msgspec.msgpack.Decoder(Content).decode
_decode_deck = msgspec.msgpack.Decoder(DeckSpec).decode
_decode_zones = msgspec.msgpack.Decoder(list[Release]).decode
_decode_table = msgspec.msgpack.Decoder(RateTableSpec).decode


def objects(content: Content) -> dict[str, bytes]:
    """Return the content as named objects: one for each deck and rate table, one of time zones, and the rest.

    Equal content gives equal bytes.
    """
    out = {_DECK + name: _encode(deck) for name, deck in sorted(content.decks.items())}
    out |= {_TABLE + name: _encode(table) for name, table in sorted(content.rate_tables.items())}
    if content.zones:
        out[_ZONES] = _encode(content.zones)
    out[MAIN] = _encode(msgspec.structs.replace(content, decks={}, rate_tables={}, zones=[]))
    return out


def from_objects(raw: dict[str, bytes]) -> Content:
    """Return the content that `objects` wrote; msgspec.MsgspecError or KeyError when it did not."""
    content = _decode_main(raw[MAIN])
    if _ZONES in raw:
        content.zones = _decode_zones(raw[_ZONES])
    for name, value in raw.items():
        if name.startswith(_DECK):
            deck = _decode_deck(value)
            content.decks[deck.name] = deck
        elif name.startswith(_TABLE):
            table = _decode_table(value)
            content.rate_tables[table.name] = table
    return content
