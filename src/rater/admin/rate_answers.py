"""What the API answers about rate tables: prices as decimal text, instants in RFC 3339 (CONTRACTS.md)."""

from __future__ import annotations

from msgspec import Struct, field

from rater.admin.answers import Counted
from rater.queries.rate_tables import RateState


class RateTableRow(Struct, kw_only=True):
    """A rate table. codes: how many it has; rows: of all of them, one for each date."""

    name: str
    currency: str
    code_deck: str | None
    codes: int
    rows: int


class RateAnswer(Struct, kw_only=True):
    """A row of a rate table. price, setup_fee: decimals; the others in counting units. from null: always."""

    code: str
    name: str | None
    state: RateState
    from_: str | None = field(name="from")
    to: str | None
    price: str
    setup_fee: str
    min_time: int
    interval: int
    grace_time: int


class RateTableList(Counted, kw_only=True):
    """A page of rate tables."""

    rows: list[RateTableRow]


class RateList(Counted, kw_only=True):
    """A page of a rate table's rows; total: codes. rated_by: what rates the number that was asked for now."""

    table: RateTableRow
    rated_by: RateAnswer | None
    rows: list[RateAnswer]
