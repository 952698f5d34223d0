"""Kafka: the only package that speaks to it. What it promises is in PROTOCOL.md 2."""
