"""Telephone numbers in logs."""

from __future__ import annotations

import io
import json
import logging

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from rater import logs
from rater.pseudonyms import HIDDEN, Pseudonyms

KEY = "a key of this installation"
OURS = Pseudonyms(KEY)


@pytest.mark.parametrize(
    "written",
    ["380441234567", "+380441234567", "+380 44 123-45-67", "+380 (44) 123 45 67", "380-44-123-45-67",
     "+380.44.123.4567", "+380 44 123\u201145\u201167", "380.44.123.4567",
     "٣٨٠٤٤١٢٣٤٥٦٧"],
)  # fmt: skip
def test_a_number_is_one_pseudonym_however_it_is_written(written: str) -> None:
    """Only digits count; the text around it stays."""
    assert OURS.hide(f"to {written}.") == f"to {OURS.of('380441234567')}."
    assert Pseudonyms("another key, as long").of(written) != OURS.of(written)
    assert Pseudonyms(None).hide(f"to {written}!") == f"to {HIDDEN}!"


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-30T21:54:33.123456Z", "2026-11-30 21:54", "rater.cdrs[0]@1234567890", "from offset 12345678",
        "127.0.0.1:9092", "lane 3 of 1024", "10.11.12.13", "0.14.2026", "12345.6789 USD",
        "01.12.2026", "", "in 123456 ms", "kafka-1, kafka-2",
    ],
)  # fmt: skip
def test_what_is_no_number_stays(text: str) -> None:
    """Times, places of records, addresses and short counts."""
    assert OURS.hide(text) == text


def test_an_address_of_sip_is_no_place() -> None:
    """Places have their partition before the mark."""
    assert "380441234567" not in str(OURS.hide("sip:trunk@380441234567 to tel:x@380441234567"))


@given(number=st.from_regex(r"\A[1-9][0-9]{6,14}\Z"), before=st.text(max_size=9), after=st.text(max_size=9))
def test_no_whole_number_is_left(number: str, before: str, after: str) -> None:
    """Whatever stands around it, but for a mark of a place."""
    text = f"{before.removesuffix('offset ')} {number}{after}"
    assert number not in OURS.hide(text)


def test_all_values_of_a_line_are_looked_through() -> None:
    """Lists, tables, exceptions and what libraries say; counts and our own names stay as they are."""
    stream = io.StringIO()
    before = structlog.get_config()
    logs.set_up("info", "json", stream, numbers=OURS)
    try:
        log = structlog.get_logger()
        log.info("seen", numbers=["380441234567"], by={"380441234567": "+380 44 123 45 67"}, offset=12345678)
        log.info("worker starting", worker="380441234567-1")
        log.warning(logs.OF_SETTINGS, reason="retention.ms is 604800000")
        try:
            raise ValueError("380441234567")  # noqa: TRY301 - to be logged
        except ValueError:
            log.exception("failed")
        logging.getLogger("library").warning("call of %s", 380441234567)
    finally:
        structlog.configure(**before)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    shown = OURS.of("380441234567")
    assert lines[0]["numbers"] == [shown]
    assert lines[0]["by"] == {shown: shown}
    assert lines[0]["offset"] == 12345678
    assert lines[1]["worker"] == "380441234567-1"
    assert lines[2]["reason"] == "retention.ms is 604800000"
    assert "380441234567" not in lines[3]["exception"].replace("380441234567-1", "")
    assert lines[4]["event"] == f"call of {shown}"


def test_a_terminal_is_told_no_number_either() -> None:
    """Nor by a traceback."""
    stream = io.StringIO()
    before = structlog.get_config()
    logs.set_up("info", "text", stream, numbers=OURS)
    try:
        raise ValueError("380441234567")  # noqa: TRY301 - the same
    except ValueError:
        structlog.get_logger().exception("failed for 380441234567")
    finally:
        structlog.configure(**before)
    told = stream.getvalue()
    assert "ValueError" in told
    assert told.count(OURS.of("380441234567")) >= 2
