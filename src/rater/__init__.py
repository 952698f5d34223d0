"""Rates telephone calls from Kafka against customer packages in Redis, each call exactly once."""

__version__ = "0.1.0"
