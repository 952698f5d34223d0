"""Settings: what the programs are told from outside (CONTRACTS.md, Programs)."""

from rater.config.reading import load
from rater.config.settings import (
    DEFAULT_SOURCE,
    OWN_TOPICS,
    SECRETS,
    SECTIONS,
    Admin,
    Kafka,
    Logs,
    Metrics,
    Redis,
    Settings,
    Source,
    Topics,
    Worker,
    masked_url,
)

__all__ = [
    "DEFAULT_SOURCE", "OWN_TOPICS", "SECRETS", "SECTIONS", "Admin", "Kafka", "Logs", "Metrics", "Redis",
    "Settings", "Source", "Topics", "Worker", "load", "masked_url",
]  # fmt: skip
