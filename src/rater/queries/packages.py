"""Packages: what is sold, as the catalog in force has it."""

from __future__ import annotations

from collections.abc import Collection

from msgspec import Struct

from rater.core.catalog.specs import Content, PackageHistory, PackageSpec, Status, fee_sum
from rater.core.clients.state import id_order
from rater.core.instants import rfc3339


class PackageSummary(Struct, frozen=True, kw_only=True):
    """A package. Fees are decimals in its currency: the sums of its rows of that type."""

    id: str
    status: Status
    name: str
    type: str
    currency: str
    activation_fee: str
    subscription_fee: str
    period: str | None
    reseller: str | None


class Wanted(Struct, frozen=True, kw_only=True):
    """Which packages are asked for; None: whichever. did_tag: allowed by one of its DID limits."""

    statuses: Collection[Status] = ("active", "disabled", "archived")
    reseller: str | None = None
    dynamic_tag: str | None = None
    did_tag: str | None = None

    def has(self, history: PackageHistory) -> bool:
        """Return whether a package is one of those; one that was deleted never is."""
        spec = history.latest
        return (
            not history.deleted
            and history.status in self.statuses
            and self.reseller in (None, spec.reseller)
            and self.dynamic_tag in (None, spec.dynamic_tag)
            and (self.did_tag is None or any(self.did_tag in row.allowed_tags for row in spec.did_limits))
        )


def packages(content: Content, wanted: Wanted) -> list[PackageSummary]:
    """Return the packages that are asked for, by id."""
    found = [history for history in content.packages.values() if wanted.has(history)]
    return [summary(history) for history in sorted(found, key=lambda one: id_order(one.latest.id))]


def summary(history: PackageHistory) -> PackageSummary:
    """Return a package as lists show it."""
    spec = history.latest
    return PackageSummary(
        id=spec.id, status=history.status, name=spec.name, type=spec.type, currency=spec.currency,
        activation_fee=fee_sum(spec, "activation"), subscription_fee=fee_sum(spec, "subscription"),
        period=spec.period, reseller=spec.reseller,
    )  # fmt: skip


class Told(Struct, frozen=True):
    """A package with its history. statuses: (since when, RFC 3339, None: from the beginning; the status)."""

    package: PackageSpec
    statuses: list[tuple[str | None, Status]]
    versions: int


def told(content: Content, of: str) -> Told | None:
    """Return one package, None: there is none, or none any more."""
    history = content.packages.get(of)
    if history is None or history.deleted:
        return None
    statuses = [
        (rfc3339(since) if place else None, status) for place, (since, status) in enumerate(history.statuses)
    ]
    return Told(history.latest, statuses, len(history.versions))
