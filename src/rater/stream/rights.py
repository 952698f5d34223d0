"""The rights of a worker's user in Kafka: the list of them, and which of them it lacks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from aiokafka.errors import KafkaError

from rater.errors import Halt, StreamDown
from rater.stream import metadata
from rater.stream.connecting import FORBIDDEN, NOBODY, Connection, refusal, shut
from rater.stream.group_offsets import shown_in
from rater.stream.topics import Topics, administrator, why_down

READ, WRITE, DESCRIBE, DESCRIBE_CONFIGS = "Read", "Write", "Describe", "DescribeConfigs"
BITS = {READ: 3, WRITE: 4, DESCRIBE: 8, DESCRIBE_CONFIGS: 10}
"""Kafka's numbers of operations: bits of what a broker says we may do."""


class Right(NamedTuple):
    """One operation that the user needs."""

    kind: str
    """As kafka-acls.sh calls it: topic, group, transactional-id, cluster."""
    name: str
    operation: str
    why: str
    is_prefix: bool = False
    """Whether it is of all names that begin so."""


def of_worker(topics: Topics, group: str) -> Iterator[Right]:
    """Yield what a worker needs, and no more: Read and Write bring Describe with them."""
    for topic in topics.data:
        yield Right("topic", topic, READ, "calls are read from it")
    yield Right("topic", topics.commands, READ, "commands are read from it, and it shares out the lanes")
    yield Right("topic", topics.commands, WRITE, "lanes write ticks and parts of loads to themselves")
    yield Right("topic", topics.transactions, READ, "lanes go on from what is published")
    yield Right("topic", topics.transactions, WRITE, "transactions are published there")
    yield Right("topic", topics.snapshots, READ, "a lost Redis is rebuilt from it")
    yield Right("topic", topics.snapshots, WRITE, "snapshots of clients are written there")
    yield Right("topic", topics.rejected, WRITE, "what cannot be rated goes there")
    yield Right("topic", topics.events, WRITE, "events are published there")
    for spec in topics.specs(1):
        yield Right("topic", spec.name, DESCRIBE_CONFIGS, "settings that lose records are found before")
    yield Right("group", group, READ, "it shares out the lanes")
    yield Right("group", shown_in(group), READ, "positions are shown there")
    yield Right(
        "transactional-id", f"{group}-", WRITE, "each lane writes in Kafka transactions", is_prefix=True
    )


def of_check() -> Iterator[Right]:
    """Yield what a worker, and `rater check`, need besides to warn of brokers' settings; they do without."""
    yield Right("cluster", "", DESCRIBE_CONFIGS, "the brokers' own settings are looked at")
    yield Right("cluster", "", DESCRIBE, "the controller tells its clock")


def commands(rights: Iterable[Right], principal: str, servers: str) -> Iterator[str]:
    """Yield the commands that grant rights, one for each thing. principal: as Kafka has it, `User:rater`."""
    of_thing: dict[tuple[str, str, bool], list[str]] = {}
    for right in rights:
        of_thing.setdefault((right.kind, right.name, right.is_prefix), []).append(right.operation)
    for (kind, name, is_prefix), operations in of_thing.items():
        asked = " ".join(f"--operation {operation}" for operation in operations)
        of = f"--{kind}" + (f" '{name}'" if name else "")
        prefixed = " --resource-pattern-type prefixed" if is_prefix else ""
        yield (
            f"kafka-acls.sh --bootstrap-server {servers} --add --allow-principal '{principal}' "
            f"{asked} {of}{prefixed}"
        )


async def lacking(client: Connection, topics: Topics, group: str, *, deadline_s: float = 10.0) -> list[str]:
    """Return a sentence for each right in a topic that our user lacks, as far as the brokers tell.

    Of the group and the transactional ids they tell when they are used. Topics that are missing are left
    out. Raises StreamDown, Halt.
    """
    wanted = [right for right in of_worker(topics, group) if right.kind == "topic"]
    try:
        admin = await administrator(client, deadline_s)
    except StreamDown as error:
        raise StreamDown(await why_down(client, error)) from error
    try:
        answer = await admin._send_request(  # noqa: SLF001 - as `topics.described`
            metadata.Ask(list(dict.fromkeys(right.name for right in wanted)), with_rights=True)
        )
    except FORBIDDEN as error:
        raise Halt(refusal(error)) from error
    except (KafkaError, OSError, TimeoutError, *NOBODY) as error:
        raise StreamDown(f"Kafka did not answer ({type(error).__name__}: {error})") from error
    finally:
        await shut(admin)
    allowed = metadata.read_rights(answer)
    return [
        f"{right.name}: our user may not {right.operation}, but {right.why}; grant it "
        "(`rater config acl --kafka` prints the commands)"
        for right in wanted
        if (bits := allowed.get(right.name)) is not None and not bits & 1 << BITS[right.operation]
    ]
