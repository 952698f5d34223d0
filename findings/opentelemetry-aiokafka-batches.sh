#!/usr/bin/env bash
# opentelemetry-instrumentation-aiokafka 0.66b1, aiokafka 0.14.0: batches are not traced, and a list of headers grows.
#
# A producer is instrumented and, inside of a span, writes one record by send and one by create_batch and send_batch, the
# library's own way to write many. One would expect both to bear the trace. What happens: the first has a span "calls send"
# and a header traceparent; the second has neither, and its reader begins a trace of its own. And headers that the caller
# gives as a list are not copied: each send appends one more traceparent to the caller's own list, so who keeps one list
# for many records sends one more header with each. Who writes batches makes spans and headers himself.
#
# The broker is librdkafka's mock cluster (confluent-kafka 2.16.1). Installs pinned public packages in a temporary folder.
# Exit code 0: seen again; 1: it behaves otherwise now.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python="$folder/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "opentelemetry-instrumentation-aiokafka==0.66b1" \
  "opentelemetry-sdk==1.45.1" "aiokafka==0.14.0" "confluent-kafka==2.16.1"

cat > "$folder/look.py" <<'EOF'
import asyncio
import sys

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from confluent_kafka import Producer
from opentelemetry.instrumentation.aiokafka import AIOKafkaInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

mock = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0})
servers = ",".join(f"{broker.host}:{broker.port}" for broker in mock.list_topics().brokers.values())
spans, provider = InMemorySpanExporter(), TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(spans))
AIOKafkaInstrumentor().instrument(tracer_provider=provider)
place = TopicPartition("calls", 0)


async def main() -> int:
    producer, headers = AIOKafkaProducer(bootstrap_servers=servers), []
    await producer.start()
    with provider.get_tracer("finding").start_as_current_span("a call"):
        await producer.send_and_wait("calls", b"by send", partition=0)
        batch = producer.create_batch()
        batch.append(timestamp=None, key=None, value=b"by send_batch")
        await (await producer.send_batch(batch, "calls", partition=0))
        sent = [span.name for span in spans.get_finished_spans()]
        for _ in range(3):
            await producer.send_and_wait("others", b"again", partition=0, headers=headers)
    await producer.stop()
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, check_crcs=False)  # the mock's sums are not Kafka's
    await consumer.start()
    consumer.assign([place])
    consumer.seek(place, 0)
    found = {}
    while len(found) < 2:
        for record in (await consumer.getmany(timeout_ms=500)).get(place, []):
            found[record.value] = [name for name, _ in record.headers]
    await consumer.stop()
    print(f"spans of sending: {sent}; headers: {found}; the caller's list after 3 sends: {len(headers)}")
    return found != {b"by send": ["traceparent"], b"by send_batch": []} or len(sent) != 1 or len(headers) != 3


sys.exit(asyncio.run(main()))
EOF
timeout 60 "$python" "$folder/look.py" 2> "$folder/errors" || { echo "it behaves otherwise now"; cat "$folder/errors"; exit 1; }
echo "seen again: send_batch makes no span and no header; the caller's list of headers grows"
