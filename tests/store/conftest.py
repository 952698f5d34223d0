"""The store's tests: a user with a worker's rights and no more, and a server that misbehaves on demand."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import redis

from rater.local.redis import Flavour

RIGHTS = Path(__file__).parents[2] / "config" / "redis-worker.acl"
PASSWORD = "a worker's"  # noqa: S105 - of a server that lives as long as the tests


class User(NamedTuple):
    """How a worker connects: URL, name, password, and the only prefix of keys that it may touch."""

    url: str
    name: str
    password: str
    prefix: str


class RedisOf:
    """What tests/conftest.py hands out: the URL of the run's server of a flavour."""

    def __call__(self, flavour: Flavour = "valkey", *, cluster: bool = False) -> str:
        """Start it when it does not run yet."""
        raise NotImplementedError


class Rights:
    """The rights that config/redis-worker.acl gives, with another prefix and a password."""

    def rights(self, prefix: str) -> list[str]:
        """Return the file's rules."""
        found = re.search(r"^user rater on >PASSWORD (.*)$", RIGHTS.read_text(encoding="utf-8"), re.MULTILINE)
        assert found
        rules = found[1].split()
        rules[rules.index("~rater{*")] = f"~{prefix}{{*"
        return rules

    def set_user(self, admin: redis.Redis, prefix: str, rules: list[str] | None = None) -> str:
        """Make the user `prefix` with these rules, else the file's; return the password."""
        words = ["on", f">{PASSWORD}", *(rules or self.rights(prefix))]
        admin.execute_command("ACL", "SETUSER", prefix, "reset", *words)  # type: ignore[no-untyped-call]
        return PASSWORD


@pytest.fixture
def user_rights() -> Rights:
    """The rights of a worker's user."""
    return Rights()


@pytest.fixture
def user_of(redis_of: RedisOf, prefix: str) -> Iterator[Callable[..., User]]:
    """Make a user with a worker's rights on a server of the run; afterwards it and its keys are gone."""
    admins: list[redis.Redis] = []

    def make(flavour: Flavour = "valkey", *, cluster: bool = False) -> User:
        url = redis_of(flavour, cluster=cluster)
        admins.append(redis.Redis.from_url(url))
        Rights().set_user(admins[-1], prefix)
        return User(url, prefix, PASSWORD, prefix)

    yield make
    for admin in admins:
        for key in admin.scan_iter(f"{prefix}*", count=1000):
            admin.unlink(key)
        admin.acl_deluser(prefix)
        admin.close()
