"""What the API answers about re-rating jobs: money as decimal text, instants in RFC 3339 (CONTRACTS.md)."""

from __future__ import annotations

from msgspec import Struct, field

from rater.admin.answers import Counted
from rater.admin.rerate_files import Found, State


class JobRow(Struct, kw_only=True):
    """A re-rating job. `from`, `to`: of calls. clients: at which it has begun; done, given_up: at how many.

    calls, changed: of clients at which it is done.
    """

    job: str
    from_: str = field(name="from")
    to: str
    started: str
    last: str
    clients: int
    done: int
    given_up: int
    calls: int
    changed: int


class AskedJob(Struct, kw_only=True):
    """A re-rating job that was asked for here. clients null: all. read, of: records of the journal.

    clients_done, changed: what its last run has worked out by now. said: what it told last; "": nothing.
    """

    job: str
    state: State
    by: str
    asked: str
    clients: list[str] | None
    from_: str = field(name="from")
    to: str
    code: str
    reason: str
    read: int
    of: int
    clients_done: int
    changed: int
    said: str


class JobClient(Struct, kw_only=True):
    """What a run found of a client. Volumes: counting units. wider: a window of whole periods, null: none."""

    client: str
    calls: int
    changed: int
    volume_before: int
    volume_after: int
    amount_before: str
    amount_after: str
    currency: str
    wider: dict[str, str] | None


class JobTransaction(Struct, kw_only=True):
    """A transaction that changes; null: there is none, before or after."""

    transaction: str
    revision: int
    amount_before: str | None
    amount_after: str | None


class JobRun(Struct, kw_only=True):
    """What a run found: sums of all, the first clients and transactions. Null where it has not ended."""

    found: Found | None
    clients: list[JobClient]
    transactions: list[JobTransaction]


class JobDetails(Struct, kw_only=True):
    """A re-rating job with what its preview showed, and what was published; null: it was not begun."""

    job: AskedJob
    preview: JobRun | None
    applied: JobRun | None


class JobList(Counted, kw_only=True):
    """A page of re-rating jobs, as the journal tells of them; asked: those that were asked for here."""

    rows: list[JobRow]
    asked: list[AskedJob]
