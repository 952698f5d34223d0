"""Octets of mobile networks' records as texts, by the examples of the rules that they follow."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rater.mobile import values
from rater.mobile.ber import Broken, element, header, identifier, tag_of


@pytest.mark.parametrize(
    ("read", "octets", "meant"),
    [
        (values.tbcd, "00011032547698f9", "001001234567899"),  # lower half first, a filler at the end
        (values.tbcd, "21ba", "12*#"),
        (values.tbcd, "213f", "0x213f"),  # a digit behind the filler
        (values.tbcd, "ffff", "0xffff"),
        (values.tbcd, "", "0x"),
        (values.bcd, "001001234567899f", "001001234567899"),  # upper half first
        (values.address, "91214365f7", "+1234567"),
        (values.address, "a1214365f7", "1234567"),  # national
        (values.address, "91", "0x91"),
        (values.address, "91ff", "0x91ff"),
        (values.directory_number, "91214365f7", "+1234567"),
        (values.directory_number, "1183214365f7", "+1234567"),  # with an octet 3a
        (values.directory_number, "11", "0x11"),
        (values.directory_number, "", "0x"),
        (values.sms_address, "0791214365f7", "+1234567"),
        (values.sms_address, "91214365f7", "+1234567"),  # without its length
        (values.sms_address, "0991214365f7", "0x0991214365f7"),  # of another length
        (values.sms_address, "07d0c8329b0d", "Hell"),  # letters
        (values.sms_address, "07", "0x07"),
        (values.sms_address, "", "0x"),
        (values.time_stamp, "2611031000052b0130", "2026-11-03T10:00:05+01:30"),
        (values.time_stamp, "2611031000052d0500", "2026-11-03T10:00:05-05:00"),
        (values.time_stamp, "2602301000052b0130", "0x2602301000052b0130"),  # 30 February
        (values.time_stamp, "2611031000052b2500", "0x2611031000052b2500"),  # 25 hours from UTC
        (values.time_stamp, "2611031000052a0130", "0x2611031000052a0130"),
        (values.time_stamp, "26110310000a2b0130", "0x26110310000a2b0130"),
        (values.time_stamp, "261103100005", "0x261103100005"),
        (values.plmn, "62f210", "26201"),
        (values.plmn, "130014", "310410"),  # a network code of three digits
        (values.plmn, "ff0000", "0xff0000"),
        (values.plmn, "62f2", "0x62f2"),
        (values.ip, "c0000207", "192.0.2.7"),
        (values.ip, "20010db8000000000000000000000007", "2001:db8::7"),
        (values.ip, "c00002", "0xc00002"),
        (values.text, "20616263002000", "abc"),
        (values.text, "61e9", "a\\xe9"),
    ],
)
def test_rules_of_octets(read: Callable[[bytes], str], octets: str, meant: str) -> None:
    """What is as its rule says is read; what is not stands as it is, in hexadecimal."""
    assert read(bytes.fromhex(octets)) == meant


@pytest.mark.parametrize(
    ("stamp", "offset", "meant"),
    [
        ("20261103100005", "+0100", "2026-11-03T10:00:05+01:00"),
        ("20261103100005", None, "20261103100005 without a UTC offset"),
        ("20261103100005", "0100", "20261103100005 0100"),
        ("20260230100005", "+0100", "20260230100005 +0100"),
        ("", "+0100", " +0100"),
    ],
)
def test_local_times(stamp: str, offset: str | None, meant: str) -> None:
    """A local time and its offset are one moment; what is no time says so."""
    assert values.local_time(stamp, offset) == meant


@given(st.sampled_from([
    values.tbcd, values.bcd, values.address, values.directory_number, values.sms_address, values.time_stamp,
    values.plmn, values.ip, values.text, values.hexadecimal,
]), st.binary(max_size=40))  # fmt: skip
def test_no_octets_raise(read: Callable[[bytes], str], octets: bytes) -> None:
    """Whatever stands in a field, there is a text for it that JSON can hold."""
    read(octets).encode()


@pytest.mark.parametrize(
    ("number", "octets"), [(9, "69"), (30, "7e"), (31, "7f1f"), (147, "7f8113"), (2047, "7f8f7f")]
)
def test_tags_of_several_octets(number: int, octets: str) -> None:
    """A tag is written as it is read."""
    tag = tag_of(number, 1)
    assert identifier(tag).hex() == octets
    head = header(identifier(tag) + b"\0", 0, 4)
    assert (head.tag, head.length, head.is_constructed) == (tag, 0, True)


@pytest.mark.parametrize(
    "octets",
    [
        "",
        "69",
        "6981",
        "69840000",
        "698500000000 01",
        "7f8f8f8f8f01",
        "690501",
        "0480",
        "6980",
        "698069",
        "6980" * 60,
    ],
)
def test_what_is_no_element(octets: str) -> None:
    """It is told where the fault lies, and nothing is read beyond the end, however deep it goes."""
    data = bytes.fromhex(octets)
    with pytest.raises(Broken) as caught:
        element(data, 0, len(data))
    assert 0 <= caught.value.at <= len(data)
