"""IP addresses and networks in the forms that switches and people write them: one address is one value."""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network

_ADDRESSES_MAX = 65_536
"""Addresses remembered as they are read: switches are few, and to read one is 1.3 of a side's 25 µs."""
_ADDRESS_CHARS_MAX = 64
"""IPv6 has 45, a port and a zone. What is longer is none, and is not remembered: a CDR has 64 KiB."""
_WITH_PORT = re.compile(r"\[([^\[\]]+)\](?::[0-9]{1,5})?|([0-9.]+):[0-9]{1,5}")
"""Of IPv6 without brackets the last group is no port."""
_MAPPED_BITS = 96


def address_of(text: str) -> IpAddress | None:
    """Return an address, with or without brackets, a port, a zone and blanks around; None: it is none.

    An IPv4 address that is written as IPv6 (`::ffff:203.0.113.5`) is the IPv4 address.
    """
    return _address(text) if len(text) <= _ADDRESS_CHARS_MAX else None


@lru_cache(maxsize=_ADDRESSES_MAX)
def _address(text: str) -> IpAddress | None:
    text = text.strip()
    if found := _WITH_PORT.fullmatch(text):
        text = found[1] or found[2]
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if isinstance(address, IPv4Address) else address.ipv4_mapped or address


def network_of(text: str) -> IpNetwork:
    """Return a network, or the one of an address alone; what is written as IPv6 as `address_of` reads it.

    Raises ValueError with what is wrong, and the remedy where it is known.
    """
    first, slash, bits = text.strip().partition("/")
    if ":" in first:
        first = first.partition("%")[0]
    given = ip_network(first + slash + bits, strict=False)
    host = ip_address(first)
    if host != given.network_address:
        raise ValueError(
            f"bits of a host are set: write {given} for the network, or {host} for the one address"
        )
    mapped = None if isinstance(given, IPv4Network) else given.network_address.ipv4_mapped
    if mapped is None or given.prefixlen < _MAPPED_BITS:
        return given
    return IPv4Network((mapped, given.prefixlen - _MAPPED_BITS))
