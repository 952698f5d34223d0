"""What time it is at Kafka's controller, which nothing else of its protocol tells without writing.

The leader of the metadata's quorum says of itself when it was up to date last: now (KIP-836, Kafka 3.3).
"""

from __future__ import annotations

from typing import Any

from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import CompactArray, CompactString, Int16, Int32, Int64, Schema, TaggedFields

METADATA = "__cluster_metadata"
_REPLICAS = CompactArray(
    ("replica_id", Int32),
    ("log_end_offset", Int64),
    ("last_fetch_timestamp", Int64),
    ("last_caught_up_timestamp", Int64),
    ("tags", TaggedFields),
)


class _Answer(Response):  # type: ignore[misc] # aiokafka ships no types
    API_KEY = 55
    API_VERSION = 1
    SCHEMA = Schema(
        ("error_code", Int16),
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                (
                    "partitions",
                    CompactArray(
                        ("partition", Int32),
                        ("error_code", Int16),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("high_watermark", Int64),
                        ("voters", _REPLICAS),
                        ("observers", _REPLICAS),
                        ("tags", TaggedFields),
                    ),
                ),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Asked(RequestStruct):  # type: ignore[misc] # the same
    FLEXIBLE_VERSION = True
    API_KEY = 55
    API_VERSION = 1
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic", CompactString("utf-8")),
                ("partitions", CompactArray(("partition", Int32), ("tags", TaggedFields))),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Ask(Request[_Asked]):  # type: ignore[misc] # the same
    API_KEY = 55

    def build(self, struct: type[RequestStruct]) -> RequestStruct:
        """Return the request."""
        return struct([(METADATA, [(0, {})], {})], {})


async def controller_clock(admin: Any) -> int | None:
    """Return the time at the controller, ms; None: it does not tell (an older Kafka, or no right)."""
    try:
        answer = await admin._send_request(_Ask())  # noqa: SLF001 - as `topics.described`
    except (KafkaError, NotImplementedError):
        return None
    return read_clock(answer.to_object())


def read_clock(answer: dict[str, Any]) -> int | None:
    """Return the time that an answer tells of the leader."""
    for topic in answer["topics"]:
        for partition in topic["partitions"]:
            for voter in partition["voters"]:
                if voter["replica_id"] == partition["leader"] and voter["last_fetch_timestamp"] > 0:
                    return int(voter["last_fetch_timestamp"])
    return None
