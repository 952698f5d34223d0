"""Rates telephone calls from Kafka against customer packages in Redis, each call exactly once."""

import zoneinfo

__version__ = "0.1.0"

# Every worker must compute periods by the same rules: those of the locked tzdata, never those of its machine.
zoneinfo.reset_tzpath(to=())
