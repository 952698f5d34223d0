"""The identification rules: which client a side is of when its record names none.

Source of the rule: RULES.md 2, step 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from rater.core.addresses import IpAddress, address_of, network_of
from rater.core.catalog.specs import IdentificationRule

_SEPARATORS = str.maketrans("", "", " -.()\t\u00a0")
"""What people and switches set groups of digits apart by (RFC 3966)."""
_NUMBER = re.compile(r"[+(0-9].*", re.DOTALL)
"""Else it is no number: -1 says that there is none."""

_Place = tuple[int, str, str | None]
"""(position in the file, client, account)."""

_Shape = tuple[bool, int, int, bool, int]
"""gateway given, IP version (0 none), prefix bits, login given, digits of the caller prefix (0 none)."""

_Key = tuple[str | None, int, str | None, str]
"""gateway, network without the bits of hosts, login, caller prefix."""


class _Group:
    """The rules of one shape: which fields are given, how long their prefixes are. One dict look-up."""

    __slots__ = ("first", "places", "shape")

    def __init__(self, shape: _Shape, position: int) -> None:
        self.shape = shape
        self.first = position
        self.places: dict[_Key, _Place] = {}

    def find(
        self, gateway: str | None, ip: IpAddress | None, login: str | None, caller: str
    ) -> _Place | None:
        by_gateway, version, bits, by_login, digits = self.shape
        network = 0
        if version:
            if ip is None or ip.version != version:
                return None
            network = int(ip) >> (ip.max_prefixlen - bits)
        key = (gateway if by_gateway else None, network, login if by_login else None, caller[:digits])
        return self.places.get(key)

    def wider(self, shape: _Shape, key: _Key) -> _Place | None:
        """Return the rule that holds wherever one of this shape and key does."""
        by_gateway, version, bits, by_login, digits = self.shape
        gateway, network, login, prefix = key
        asks_less = (
            by_gateway <= shape[0]
            and (not version or (version == shape[1] and bits <= shape[2]))
            and by_login <= shape[3]
            and digits <= shape[4]
        )
        if not asks_less:
            return None
        network = network >> (shape[2] - bits) if version else 0
        return self.places.get(
            (gateway if by_gateway else None, network, login if by_login else None, prefix[:digits])
        )


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
        address = None if ip is None else address_of(ip)
        number = "" if caller is None else _digits(caller)
        gateway, login = gateway and gateway.strip(), login and login.strip()
        best: _Place | None = None
        for group in self._groups[side]:
            if best is not None and best[0] < group.first:
                break
            place = group.find(gateway, address, login, number)
            if place is not None and (best is None or place[0] < best[0]):
                best = place
        return None if best is None else (best[1], best[2])

    def behind(self, rules: Sequence[IdentificationRule]) -> list[tuple[int, int]]:
        """Return (position, position of an earlier one that holds wherever it does) of rules never reached.

        rules: those that were indexed.
        """
        found: list[tuple[int, int]] = []
        for position, rule in enumerate(rules):
            shape, key = _shape(rule)
            wider = (group.wider(shape, key) for group in self._groups[rule.side])
            first = min((place[0] for place in wider if place is not None), default=position)
            if first < position:
                found.append((position, first))
        return found


def _digits(caller: str) -> str:
    """Return a caller's number without a `+` in front and what sets its digits apart; else as it is."""
    number = caller.removeprefix("+")
    if not number.isdecimal() and _NUMBER.fullmatch(caller := caller.strip()):
        return caller.translate(_SEPARATORS).removeprefix("+")
    return number


def _shape(rule: IdentificationRule) -> tuple[_Shape, _Key]:
    version = bits = network = 0
    if rule.ip is not None:
        given = network_of(rule.ip)
        version, bits = given.version, given.prefixlen
        network = int(given.network_address) >> (given.max_prefixlen - bits)
    prefix = rule.caller_prefix or ""
    # Stripped, as calls are: what was loaded before 2026-12 may have blanks.
    gateway, login = rule.gateway and rule.gateway.strip(), rule.login and rule.login.strip()
    shape = (gateway is not None, version, bits, login is not None, len(prefix))
    return shape, (gateway, network, login, prefix)
