"""Kafka: the only package that speaks to it. What it promises is in architecture.md 3."""
