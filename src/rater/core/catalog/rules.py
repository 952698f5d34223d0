"""The identification rules: which client a side is of when its record names none.

Source of the rule: RULES.md 2, step 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from rater.core.catalog.specs import (
    IdentificationRule,
)

_ADDRESSES_MAX = 65_536
"""Addresses remembered as they are read: switches are few, and to read one is 1.3 of a side's 25 µs."""
_ADDRESS_CHARS_MAX = 64
"""IPv6 has 45 and a zone. What is longer is none, and is not remembered: a CDR has 64 KiB."""

_Place = tuple[int, str, str | None]
"""(position in the file, client, account)."""

_Shape = tuple[bool, int, int, bool, int]
"""gateway given, IP version (0 none), prefix bits, login given, digits of the caller prefix (0 none)."""

_Address = IPv4Address | IPv6Address


class _Group:
    """The rules of one shape: which fields are given, how long their prefixes are. One dict look-up."""

    __slots__ = ("first", "places", "shape")

    def __init__(self, shape: _Shape, position: int) -> None:
        self.shape = shape
        self.first = position
        self.places: dict[tuple[object, ...], _Place] = {}

    def find(self, gateway: str | None, ip: _Address | None, login: str | None, caller: str) -> _Place | None:
        by_gateway, version, bits, by_login, digits = self.shape
        network = 0
        if version:
            if ip is None or ip.version != version:
                return None
            network = int(ip) >> (ip.max_prefixlen - bits)
        key = (gateway if by_gateway else None, network, login if by_login else None, caller[:digits])
        return self.places.get(key)


class Rules:
    """The identification rules: file order, the first whose given fields all hold.

    Costs a look-up for each shape of rule (which fields, how long a network), not for each rule.
    """

    __slots__ = ("_groups",)

    def __init__(self, rules: Iterable[IdentificationRule]) -> None:
        """Index the rules."""
        groups: dict[tuple[str, _Shape], _Group] = {}
        for position, rule in enumerate(rules):
            shape, key = _shape(rule)
            group = groups.setdefault((rule.side, shape), _Group(shape, position))
            group.places.setdefault(key, (position, rule.client, rule.account))
        self._groups = {
            side: sorted((g for (of, _), g in groups.items() if of == side), key=lambda g: g.first)
            for side in ("orig", "term")
        }

    def find(
        self, side: str, gateway: str | None, ip: str | None, login: str | None, caller: str | None
    ) -> tuple[str, str | None] | None:
        """Return (client, account or None) of the first rule that holds; None: no rule does."""
        address = None if ip is None or len(ip) > _ADDRESS_CHARS_MAX else _address(ip)
        number = "" if caller is None else caller.removeprefix("+")
        best: _Place | None = None
        for group in self._groups[side]:
            if best is not None and best[0] < group.first:
                break
            place = group.find(gateway, address, login, number)
            if place is not None and (best is None or place[0] < best[0]):
                best = place
        return None if best is None else (best[1], best[2])


def _shape(rule: IdentificationRule) -> tuple[_Shape, tuple[object, ...]]:
    version = bits = network = 0
    if rule.ip is not None:
        given = ip_network(rule.ip)
        version, bits = given.version, given.prefixlen
        network = int(given.network_address) >> (given.max_prefixlen - bits)
    prefix = rule.caller_prefix or ""
    shape = (rule.gateway is not None, version, bits, rule.login is not None, len(prefix))
    return shape, (rule.gateway, network, rule.login, prefix)


@lru_cache(maxsize=_ADDRESSES_MAX)
def _address(text: str) -> _Address | None:
    """Return the address; None when the text is none, then no rule with a network holds."""
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
