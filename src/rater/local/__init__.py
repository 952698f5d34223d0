"""Servers of Kafka and Redis for the demo, the tests and the benchmarks."""
