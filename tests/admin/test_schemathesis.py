"""The API of the real program, asked by schemathesis all that its OpenAPI allows, and what it does not."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from admin.conftest import TOKENS, Console, running
from rater.admin import openapi

pytestmark = [pytest.mark.kafka, pytest.mark.schemathesis]

EXAMPLES = os.environ.get("RATER_SCHEMATHESIS_EXAMPLES", "20")
SECONDS = 1500
SETTINGS = """
# 422 is what OpenAPI cannot say: two of `after` and `before`, a date that is none, an unknown source.
[checks.positive_data_acceptance]
expected-statuses = ["2xx", 401, 403, 404, 409, 422, 429, 503, 504]

# Who sends five wrong tokens in a minute is told to wait (429) instead; tests/admin/test_api.py has both.
[checks.ignored_auth]
enabled = false

# It says what would become of a record, and of one that is no call that it would be rejected: 200.
[[operations]]
include-path = "/api/v1/explain"
include-method = "POST"
checks.negative_data_rejection.enabled = false

# JSON Schema calls 5.0 an integer; bodies are read strictly, and it is refused.
[[operations]]
include-method = "POST"
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 401, 403, 404, 409, 422, 429, 503, 504]

# A form of a package has hundreds of cases, each a plan of a second: fuzzing takes some of them.
[[operations]]
include-operation-id = "create_package"
phases.coverage.enabled = false

[[operations]]
include-operation-id = "edit_package"
phases.coverage.enabled = false
"""


@pytest.fixture
def own_console(
    kafka: str, redis_url: str, issuer: str, tmp_path: Path
) -> Iterator[Console]:  # fmt: skip
    """Programs of its own: what it makes is in no other test's way."""
    with running(Console(tmp_path, kafka, redis_url, 0, issuer)) as console:
        yield console


def test_no_answer_is_a_surprise(own_console: Console, tmp_path: Path) -> None:
    """No 5xx but those that are documented, no answer of another form, nothing taken that is not allowed."""
    program = os.environ["RATER_SCHEMATHESIS"]
    (tmp_path / "schemathesis.toml").write_text(SETTINGS)
    done = subprocess.run(  # noqa: S603 - the one that is named
        [
            program, "run", str(openapi.FILE), "--url", own_console.url, "--max-examples", EXAMPLES,
            "--seed", os.environ.get("RATER_SCHEMATHESIS_SEED", "7"), "--header",
            f"Authorization: Bearer {TOKENS['administer']}", "--no-color", "--phases",
            "examples,coverage,fuzzing", "--request-timeout", "120",
        ],
        capture_output=True, text=True, check=False, timeout=SECONDS, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
