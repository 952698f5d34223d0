"""`rater admin` and a worker as processes, on real servers, with a catalog and some calls; who asks them."""

from __future__ import annotations

import asyncio
import html
import io
import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import pytest

from admin.browser import VARIABLE
from admin.issuer import AUDIENCE, CLIENT, SECRET
from rater.demo.workers import free_port

DEADLINE_S = 180.0
TOKENS = {role: f"{role}-{'0123456789abcdef' * 2}" for role in ("view", "operate", "administer")}
NAMES = {"view": "vera", "operate": "otto", "administer": "anna"}
BOLD = "<b>Bold</b> & \"quoted\" 'name'"
"""A name that is HTML, if nobody escapes it."""

SCHEMATHESIS = "RATER_SCHEMATHESIS"
"""The variable that names its program."""
WORKERS = 2
CLIENTS = 14
"""Clients "c1" … for tests that change one; "42" is looked at, "43" has no money."""

SEEN = 6
"""Clients "w1" … of accounts "sip-w1" … for tests in a browser; "w3" has no money."""

TABLES = 8
"""Rate tables "carrier/1" … for tests that change one; client "r1" (account "sip-r1") … is rated by it."""

CATALOG: dict[str, Any] = {
    "currencies": {"base": "USD", "rates": {"EUR": "1.08"}},
    "resellers": [{"id": "1", "name": "Main"}],
    "code_decks": [{"name": "a-z", "codes": {"380": "Ukraine", "38044": "Ukraine Kiev", "1": "USA"}}],
    "rate_tables": [
        {
            "name": "retail", "currency": "USD", "code_deck": "a-z",
            "rates": [{"code": "380", "price": "0.10"}, {"code": "38044", "price": "0.06"}],
        },
        *(
            {
                "name": f"carrier/{n}", "currency": "USD",
                "rates": [{"code": "380", "price": "0.10"}, {"code": "38044", "price": "0.06"}],
            }
            for n in range(1, TABLES + 1)
        ),
    ],
    "tax_profiles": [{"name": "vat20", "taxes": [{"name": "VAT", "percent": "20"}]}],
    "packages": [
        {
            "id": "1", "name": "Kiev 100", "type": "customer", "currency": "USD", "period": "1 month",
            "reseller": "1", "dynamic_tag": "promo",
            "fees": [
                {"type": "activation", "name": "Set-up", "rate": "2.00"},
                {"type": "subscription", "name": "Monthly", "rate": "5.00"},
            ],
            "limits": [
                {"id": "m1", "type": "volume", "service": "calls", "code": "38044*", "limit": 100},
                {"id": "b1", "type": "money", "service": "calls", "code": "380*", "limit": "2.00"},
            ],
        },
        {"id": "2", "name": BOLD, "type": "customer", "currency": "USD"},
        {"id": "old", "name": "Old", "type": "customer", "currency": "USD", "status": "disabled"},
        {
            "id": "did", "name": "Numbers", "type": "customer", "currency": "USD", "period": "1 month",
            "did_limits": [{"quantity": 2, "allowed_tags": ["kyiv"]}],
        },
    ],
    "clients": [
        {
            "id": "42", "name": "Rose", "reseller": "1", "currency": "USD", "time_zone": "Europe/Kyiv",
            "balance": "50.00", "rate_tables": {"orig": {"calls": "retail"}},
            "accounts": [{"id": "sip-1001"}],
        },
        {"id": "43", "name": BOLD, "currency": "USD", "balance": "1.00"},
        *(
            {
                "id": f"c{n}", "name": f"Client {n}", "currency": "USD", "balance": "100.00",
                "rate_tables": {"orig": {"calls": "retail"}},
            }
            for n in range(1, CLIENTS + 1)
        ),
        *(
            {
                "id": f"r{n}", "name": f"Rated {n}", "currency": "USD", "balance": "100.00",
                "rate_tables": {"orig": {"calls": f"carrier/{n}"}}, "accounts": [{"id": f"sip-r{n}"}],
            }
            for n in range(1, TABLES + 1)
        ),
        *(
            {
                "id": f"w{n}", "name": f"Seen {n}", "reseller": "1", "currency": "USD",
                "balance": "1.00" if n == 3 else "100.00", "accounts": [{"id": f"sip-w{n}"}],
            }
            for n in range(1, SEEN + 1)
        ),
    ],
    "dids": [{"number": f"38044111220{n}", "tags": ["kyiv"]} for n in range(8)],
    "client_packages": [
        *({"id": f"did{n}", "client": f"r{n}", "package": "did"} for n in range(1, 3)),
        {"id": "cp42", "client": "42", "package": "1"},
        {"id": "cp43", "client": "43", "package": "1"},
    ],
}  # fmt: skip


class Console:
    """The running programs, and their address."""

    def __init__(self, folder: Path, kafka: str, redis_url: str, port: int, issuer: str) -> None:
        """Write their settings."""
        self.folder, prefix = folder, f"t{uuid4().hex[:12]}"
        self.url = ""
        self.workers = [f"127.0.0.1:{free_port()}" for _ in range(WORKERS)]
        self.nobody = f"127.0.0.1:{free_port()}"
        """An address of the settings at which no worker is."""
        self._processes: list[subprocess.Popen[bytes]] = []
        rows = []
        for role, token in TOKENS.items():
            (folder / f"{role}.token").write_text(token + "\n")
            rows.append(f'{{name = "{NAMES[role]}", role = "{role}", token_file = "{folder}/{role}.token"}},')
        (folder / "rater.toml").write_text(
            f'[kafka]\nbootstrap_servers = "{kafka}"\ngroup_id = "{prefix}"\nsession_timeout_ms = 6000\n'
            f'[redis]\nurl = "{redis_url}"\nprefix = "{prefix}"\n'
            f'[topics]\nprefix = "{prefix}."\npartitions = 2\nreplication_factor = 1\n'
            f'[admin]\nport = {port}\ndatabase = "sqlite:///{folder}/lists.sqlite"\n'
            f"workers = {json.dumps([*self.workers, self.nobody])}\n"
            f'tokens = [{" ".join(rows)}]\njobs_folder = "{folder}/jobs"\n'
            '[decks.full]\nkind = "full"\n'
            f'[admin.oidc]\nissuer = "{issuer}"\nclient_id = "{CLIENT}"\naudience = "{AUDIENCE}"\n'
            f'client_secret_file = "{folder}/client.secret"\nscopes = ["openid", "profile", "groups"]\n'
            f'redirect_url = "http://127.0.0.1:{port}/login/callback"\n'
            'roles = {billing-admins = "administer", billing-operators = "operate"}\n'
        )
        (folder / "client.secret").write_text(SECRET + "\n")

    def rater(self, *arguments: str) -> str:
        """Run a command; returns what it printed."""
        done = subprocess.run(  # noqa: S603 - our own program
            [*self._program(), *arguments], capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def begin(self, name: str, address: str | None = None) -> None:
        """Start a program that goes on. address: of its metrics."""
        port = [] if address is None else ["--set", f"metrics.port={address.rpartition(':')[2]}"]
        with (self.folder / f"{name}{''.join(port[1:])}.log").open("wb") as log:
            process = subprocess.Popen([*self._program(), *port, name], stdout=log, stderr=log)  # noqa: S603 - the same
        self._processes.append(process)

    def _program(self) -> list[str]:
        return [sys.executable, "-m", "rater", "--config", str(self.folder / "rater.toml")]

    def calls(self, client: str, count: int, called: str = "380501234567") -> None:
        """Send calls of 60 s of a client, of now."""
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        path = self.folder / "more.jsonl"
        rows = [
            {
                "id": f"{client}-{uuid4().hex[:8]}", "called": called, "duration_ms": 60_000,
                "answered_at": at, "orig": {"client": client},
            }
            for _ in range(count)
        ]  # fmt: skip
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        self.rater("ingest", str(path), "--source", "default")

    def restart_admin(self) -> None:
        """Kill `rater admin` (SIGKILL), and start it again."""
        admin = self._processes.pop()
        admin.kill()
        admin.wait()
        self.begin("admin")
        self.wait_for_address()

    def wait_for_address(self) -> None:
        """Wait until `rater admin` says where it listens."""
        log, end = self.folder / "admin.log", time.monotonic() + DEADLINE_S
        while not (found := re.search(r'"address":\s*"(http://[^"]+)"', log.read_text())):
            assert self._processes[-1].poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)
        self.url = found[1]

    def end(self) -> None:
        """End what was started, in reverse."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def listens(port: int) -> bool:
    """Return whether somebody takes connections there."""
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="session")
def admin_port() -> int:
    """Where `rater admin` is to listen: an issuer sends browsers back there."""
    return free_port()


@pytest.fixture(scope="session")
def issuer(admin_port: int) -> Iterator[str]:
    """An issuer of OpenID Connect; gives its address. Of RATER_ISSUER, else the small one of the tests."""
    port, folder = free_port(), Path(__file__).parent
    program = ["node", "issuer.mjs"] if "RATER_ISSUER" in os.environ else [sys.executable, "issuer.py"]
    back = {"RATER_ISSUER_BACK": f"http://127.0.0.1:{admin_port}/login/callback"}
    process = subprocess.Popen([*program, str(port)], cwd=folder, env={**os.environ, **back})  # noqa: S603 - ours
    try:
        end = time.monotonic() + DEADLINE_S
        while not listens(port):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="session")
def console(
    kafka: str, redis_url: str, admin_port: int, issuer: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Console]:
    """The programs with a catalog, and calls of client 42."""
    with running(Console(tmp_path_factory.mktemp("admin"), kafka, redis_url, admin_port, issuer)) as made:
        yield made


@contextmanager
def running(made: Console) -> Iterator[Console]:
    """Start the programs with a catalog, and calls of client 42; end them."""
    made.rater("topics", "create")
    for address in made.workers:
        made.begin("worker", address)
    try:
        (made.folder / "catalog.json").write_text(json.dumps(CATALOG))
        made.rater("load", str(made.folder / "catalog.json"))
        calls = made.folder / "calls.jsonl"
        calls.write_text("".join(json.dumps(call) + "\n" for call in some_calls()))
        made.rater("ingest", str(calls), "--source", "default")
        made.begin("admin")
        made.wait_for_address()
        yield made
    finally:
        made.end()


def some_calls() -> Iterator[dict[str, Any]]:
    """Yield calls of client 42: within a limit, and to a code that no rate has."""
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())  # behind the load, whose periods have begun
    for number, called in enumerate(("380441234567", "380501234567", "4915112345678")):
        yield {
            "id": f"call-{number}", "called": called, "duration_ms": 90_000, "answered_at": at,
            "orig": {"client": "42", "account": "sip-1001"},
        }  # fmt: skip


# ------------------------------------------------------------------------------------------------ asking
class Api:
    """Who asks the API, with a token."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        """Ask over this connection."""
        self.http = http

    async def ask(
        self, method: str, path: str, body: Any = None, *, role: str | None = "administer",
        key: str | None = "new", **more: Any,
    ) -> tuple[int, Any]:  # fmt: skip
        """Return status and answer. key: "new" makes one; None: none is given."""
        headers = dict(more.pop("headers", {}))
        if role is not None:
            headers["Authorization"] = f"Bearer {TOKENS[role]}"
        if method != "GET" and key is not None:
            headers["Idempotency-Key"] = uuid4().hex if key == "new" else key
        if body is not None:
            more["data"] = body if isinstance(body, bytes | io.BytesIO) else json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        async with self.http.request(method, f"/api/v1{path}", headers=headers, **more) as answer:
            return answer.status, await answer.json(content_type=None)

    async def until(self, path: str, holds: Any, **more: Any) -> Any:
        """Ask until the answer is as it should be; returns it."""
        end = time.monotonic() + DEADLINE_S
        while True:
            status, found = await self.ask("GET", path, **more)
            if status == 200 and holds(found):
                return found
            assert time.monotonic() < end, (status, found)
            await asyncio.sleep(0.1)


@pytest.fixture
async def api(console: Console) -> AsyncIterator[Api]:
    """The API."""
    async with aiohttp.ClientSession(console.url) as http:
        yield Api(http)


class Visitor:
    """Who looks at pages, as a browser without JavaScript would."""

    def __init__(self, http: aiohttp.ClientSession) -> None:
        """Look over this connection."""
        self.http, self.page, self.status, self.url, self.where = http, "", 0, "", ""

    async def login(self, role: str) -> None:
        """Log in with the token of a role."""
        await self.send("/login", {"token": TOKENS[role]}, csrf=False)
        assert self.status == 200, self.page

    async def get(self, path: str, **more: Any) -> str:
        """Open a page; returns its HTML."""
        async with self.http.get(path, **more) as answer:
            return await self._read(answer)

    async def send(self, path: str, fields: Mapping[str, str], *, csrf: bool = True, **more: Any) -> str:
        """Send a form of the page that is open, with its hidden fields where `fields` has none."""
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', self.page))
        given = {name: html.unescape(value) for name, value in hidden.items()} if csrf else {}
        return await self.post(path, {**given, **fields}, **more)

    async def post(self, url: str, fields: Mapping[str, str], **more: Any) -> str:
        """Send a form, here or to another site."""
        async with self.http.post(url, data=fields, **more) as answer:
            return await self._read(answer)

    async def _read(self, answer: aiohttp.ClientResponse) -> str:
        self.page, self.status, self.url = await answer.text(), answer.status, str(answer.url.relative())
        self.where = str(answer.url)
        return self.page

    @property
    def text(self) -> str:
        """What the page says, without its tags."""
        plain = re.sub(r"<(style|head)\b.*?</\1>", " ", self.page, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", plain)).split())


@asynccontextmanager
async def visiting(console: Console, role: str | None) -> AsyncIterator[Visitor]:
    """Give somebody who is logged in by the token of a role; None: nobody is."""
    async with aiohttp.ClientSession(
        console.url, cookie_jar=aiohttp.CookieJar(unsafe=True), max_field_size=65536
    ) as http:
        visitor = Visitor(http)
        if role is not None:
            await visitor.login(role)
        yield visitor


@pytest.fixture
async def visitor(console: Console) -> AsyncIterator[Visitor]:
    """Somebody who may do all."""
    async with visiting(console, "administer") as one:
        yield one


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what drives a real browser, or schemathesis, unless that is asked for."""
    lacking = [
        mark
        for mark, name in (("browser", VARIABLE), ("schemathesis", SCHEMATHESIS))
        if name not in os.environ
    ]
    out = [item for item in items if any(item.get_closest_marker(mark) is not None for mark in lacking)]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(autouse=True, scope="session")
def _no_settings_of_the_machine() -> None:
    for name in [name for name in os.environ if name.startswith("RATER_") and "__" in name]:
        del os.environ[name]
