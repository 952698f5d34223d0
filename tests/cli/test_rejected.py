"""`rater rejected list`."""

from __future__ import annotations

import json

from cli.conftest import Capture, PutRecords, seen
from rater.cli import main


def test_rejected_records_tell_why_and_where(topic: PutRecords, capsys: Capture) -> None:
    """A rejected record shows its reason, sentence, value, side and place, and in JSON its bytes."""
    first = seen(
        b"a,b",
        reason="rate_missing",
        detail="no rate; load one",
        value="380",
        side="orig",
        source_topic="pbx",
        source_partition="1",
        source_offset="17",
        catalog="3",
        attempt="1",
    )
    second = seen(b"\xff", reason="malformed", detail="not JSON", source_topic="rater.cdrs")
    topic(first, second)
    source = ["--set", "sources.pbx1.topic=pbx"]
    assert main(["rejected", "list", "--source", "pbx1", *source]) == 0
    line = capsys.readouterr().out.splitlines()[1]
    for text in ("rate_missing", "orig", "pbx1", "1@17", "380", "no rate; load one"):
        assert text in line
    assert main(["rejected", "list", "--json", *source]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert rows[0] == {
        "at": rows[0]["at"],
        "reason": "rate_missing",
        "side": "orig",
        "detail": "no rate; load one",
        "value": "380",
        "source": "pbx1",
        "topic": "pbx",
        "partition": 1,
        "offset": 17,
        "catalog": 3,
        "attempt": 1,
        "record": "a,b",
    }
    assert (rows[1]["source"], rows[1]["record_base64"]) == ("default", "/w==")
    main(["rejected", "list", "--json", "--reason", "malformed"])
    assert len(capsys.readouterr().out.splitlines()) == 1
