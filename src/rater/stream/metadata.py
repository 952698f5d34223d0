"""Which topics there are, asked by a version of the request that tells their ids.

A topic that is deleted and created again keeps its name and gets another id, so the id says who it is.
aiokafka knows the request up to version 5; ids are told from 10 on (KIP-516, Apache Kafka 2.8).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from io import BytesIO
from typing import Any, NamedTuple

from aiokafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError, for_code
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest_v4
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

ID_BYTES = 16
NO_ID = bytes(ID_BYTES)
"""What a broker says that gives no ids."""


UNTOLD = -(2**31)
"""What a broker says that does not tell our rights."""


class Found(NamedTuple):
    """A topic as a broker tells of it."""

    partitions: int
    id: str
    """As Kafka's tools show it; "": the broker tells none."""
    copies: int = 0
    """Of the partition that has the fewest; 0: the broker tells none."""


class _Uuid(AbstractType[bytes]):  # type: ignore[misc] # aiokafka ships no types
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(ID_BYTES)


class _Answer(Response):  # type: ignore[misc] # the same
    API_KEY = 3
    API_VERSION = 12
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _Asked(RequestStruct):  # type: ignore[misc] # the same
    FLEXIBLE_VERSION = True
    API_KEY = 3
    API_VERSION = 12
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", CompactArray(("id", _Uuid), ("topic", CompactString("utf-8")), ("tags", TaggedFields))),
        ("allow_auto_topic_creation", Boolean),
        ("include_topic_authorized_operations", Boolean),
        ("tags", TaggedFields),
    )


class Ask(Request[MetadataRequest_v4 | _Asked]):  # type: ignore[misc] # the same
    """A question for topics by name, which creates none (where brokers do so, Kafka's default)."""

    API_KEY = 3

    def __init__(self, names: list[str], *, with_rights: bool = False) -> None:
        """names: of topics. with_rights: the answer also tells what we may do with each."""
        self.names = names
        self.with_rights = with_rights

    def build(self, struct: type[RequestStruct]) -> RequestStruct:
        """Return the request in the newest form that both sides know."""
        if struct is _Asked:
            return _Asked([(NO_ID, name, {}) for name in self.names], False, self.with_rights, {})  # noqa: FBT003 - positional there
        return struct(self.names, False)  # noqa: FBT003 - the same


def read(answer: Response) -> dict[str, Found | None]:
    """Return what an answer says of each topic; None: there is no such topic. Raises the broker's error."""
    found: dict[str, Found | None] = {}
    for topic in answer.to_object()["topics"]:
        error = for_code(topic["error_code"])
        if error.errno == 0:
            identity = topic.get("id", NO_ID)
            text = "" if identity == NO_ID else base64.urlsafe_b64encode(identity).decode().rstrip("=")
            found[topic["topic"]] = Found(len(topic["partitions"]), text, _copies(topic["partitions"]))
        elif error is UnknownTopicOrPartitionError:
            found[topic["topic"]] = None
        else:
            raise error(topic["topic"])
    return found


def _copies(partitions: Sequence[Any]) -> int:
    return min((len(of["replicas"]) for of in partitions if isinstance(of, dict)), default=0)


def read_rights(answer: Response) -> dict[str, int]:
    """Return what we may do with each topic, a bit for each of Kafka's operations; those that are told."""
    found: dict[str, int] = {}
    for topic in answer.to_object()["topics"]:
        allowed, error = topic.get("authorized_operations", UNTOLD), for_code(topic["error_code"])
        if error is TopicAuthorizationFailedError:
            found[topic["topic"]] = 0
        elif error.errno == 0 and allowed != UNTOLD:
            found[topic["topic"]] = allowed
    return found
