"""What catalog files become: checked rows, each with its place, and all that is wrong with them."""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from rater.core.catalog.specs import (
    ClientPackageSpec,
    ClientSpec,
    CurrencySpec,
    DeckSpec,
    DidSpec,
    IdentificationRule,
    PackageSpec,
    RateTableSpec,
    ResellerSpec,
    ServiceSpec,
    Status,
    TaxProfileSpec,
)
from rater.core.catalog_files.fields import Fault

T = TypeVar("T")

KEYS = {
    "services": "name", "resellers": "id", "tax_profiles": "name", "code_decks": "name",
    "rate_tables": "name", "packages": "id", "clients": "id", "client_packages": "id", "dids": "number",
}  # fmt: skip
"""What the rows of a section are known by."""


class Placed(NamedTuple, Generic[T]):
    """A checked row and where it stands, for the faults that show when it meets what is loaded.

    Not good: it has faults already, and stand-ins for what could not be read.
    """

    file: str
    path: str
    value: T
    good: bool = True


class StatusRow(NamedTuple):
    """A package's id and the status that it is to have."""

    id: str
    status: Status


class CatalogFile:
    """The checked rows of one or several files that are loaded together, and all that is wrong with them.

    statuses, deletions (ids of packages): no file says them, commands do.

    `limit` and `rollover` of volume limits are in 10^-10 price units still: their service may be known to the
    loaded catalog alone.

    faulty: (section, id or name) of the rows with faults. lost: sections (and "accounts") some of whose rows
    cannot be told at all, so that whatever is referred to may be one of them.
    """

    def __init__(self) -> None:
        """Begin empty."""
        self.faults: list[Fault] = []
        self.faulty: set[tuple[str, str]] = set()
        self.lost: set[str] = set()
        self.base: Placed[str] | None = None
        self.currencies: list[Placed[CurrencySpec]] = []
        self.services: list[Placed[ServiceSpec]] = []
        self.resellers: list[Placed[ResellerSpec]] = []
        self.code_decks: list[Placed[DeckSpec]] = []
        self.rate_tables: list[Placed[RateTableSpec]] = []
        self.tax_profiles: list[Placed[TaxProfileSpec]] = []
        self.packages: list[Placed[PackageSpec]] = []
        self.clients: list[Placed[ClientSpec]] = []
        self.identification: list[Placed[IdentificationRule]] = []
        self.client_packages: list[Placed[ClientPackageSpec]] = []
        self.dids: list[Placed[DidSpec]] = []
        self.statuses: list[Placed[StatusRow]] = []
        self.deletions: list[Placed[str]] = []
