"""Servers that let nobody in who does not prove who he is: certificates, logins, rights; and TLS for Redis.

The Redis and the Valkey of the Python packages are built without TLS, so one of Python's stands in front of
them, as stunnel would.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime as dt
import hashlib
import ipaddress
import json
import re
import secrets
import ssl
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest_v1
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import (
    CompactArray,
    CompactBytes,
    CompactString,
    Int8,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from redis import Redis as Client

from rater import app
from rater.config import Settings, load
from rater.local.child import HOST
from rater.local.redis import Redis
from rater.local.server import free_ports
from rater.stream.rights import Right

ACL = Path(__file__).parents[2] / "config" / "redis-worker.acl"
LOGIN = "org.apache.kafka.common.security"


# ------------------------------------------------------------------ certificates
class Pair(NamedTuple):
    """PEM files of a certificate and its key."""

    certificate: Path
    key: Path


class Authority:
    """Who signs certificates, for as long as the tests run."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        """Make its key and certificate in the folder."""
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.file = folder / f"{name}.pem"
        whole = self._built(self._name, self._key.public_key(), is_authority=True)
        self.file.write_bytes(whole.public_bytes(serialization.Encoding.PEM))

    def pair(self, name: str, file: str | None = None) -> Pair:
        """Return a certificate of this subject, CN=name, that is good for 127.0.0.1 and localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        made = self._built(subject, key.public_key(), is_authority=False)
        found = Pair(self.folder / f"{file or name}.pem", self.folder / f"{file or name}.key")
        found.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
        found.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return found

    def _built(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address(HOST))]
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )


# ------------------------------------------------------------------ Kafka
class Ports(NamedTuple):
    """Where the broker lets whom in: anybody as administrator, who logs in by SASL, who has a certificate."""

    plain: int
    sasl: int
    mtls: int


def broker_settings(authority: Authority) -> tuple[Ports, dict[str, str]]:
    """Return the ports of a broker with rights, and its settings of server.properties.

    `PLAIN` users are rater and nobody, each with its name as password; those of SCRAM are made
    (`scram_user`); a token of OAUTHBEARER names anybody, unsigned.
    """
    plain, sasl, mtls, controller = free_ports(4)
    own = authority.pair("broker")
    store = authority.folder / "broker-store.pem"
    store.write_bytes(own.key.read_bytes() + own.certificate.read_bytes())
    listeners = f"PLAINTEXT://{HOST}:{plain},SASL://{HOST}:{sasl},MTLS://{HOST}:{mtls}"
    users = 'user_rater="rater" user_nobody="nobody"'
    return Ports(plain, sasl, mtls), {
        "listeners": f"{listeners},CONTROLLER://{HOST}:{controller}",
        "advertised.listeners": listeners,
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,MTLS:SSL,CONTROLLER:PLAINTEXT",
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512,OAUTHBEARER",
        "listener.name.sasl.plain.sasl.jaas.config": f"{LOGIN}.plain.PlainLoginModule required {users};",
        "listener.name.sasl.scram-sha-512.sasl.jaas.config": f"{LOGIN}.scram.ScramLoginModule required;",
        "listener.name.sasl.oauthbearer.sasl.jaas.config": f"{LOGIN}.oauthbearer.OAuthBearerLoginModule "
        'required unsecuredLoginStringClaim_sub="broker";',
        "connection.failed.authentication.delay.ms": "0",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(store),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(authority.file),
        "listener.name.mtls.ssl.client.auth": "required",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }


class _Scram(Response):  # type: ignore[misc] # aiokafka ships no types
    API_KEY = 51
    API_VERSION = 0
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "results",
            CompactArray(
                ("user", CompactString("utf-8")),
                ("error_code", Int16),
                ("error_message", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ScramAsked(RequestStruct):  # type: ignore[misc] # the same
    FLEXIBLE_VERSION = True
    API_KEY = 51
    API_VERSION = 0
    RESPONSE_TYPE = _Scram
    SCHEMA = Schema(
        (
            "deletions",
            CompactArray(("name", CompactString("utf-8")), ("mechanism", Int8), ("tags", TaggedFields)),
        ),
        (
            "upsertions",
            CompactArray(
                ("name", CompactString("utf-8")),
                ("mechanism", Int8),
                ("iterations", Int32),
                ("salt", CompactBytes),
                ("salted_password", CompactBytes),
                ("tags", TaggedFields),
            ),
        ),
        ("tags", TaggedFields),
    )


class _ScramAsk(Request[_ScramAsked]):  # type: ignore[misc] # the same
    API_KEY = 51

    def __init__(self, name: str, password: str) -> None:
        self.name, self.password = name, password

    def build(self, struct: type[RequestStruct]) -> RequestStruct:
        """Return the request: mechanism 2 is SCRAM-SHA-512."""
        salt, iterations = secrets.token_bytes(16), 4096
        salted = hashlib.pbkdf2_hmac("sha512", self.password.encode(), salt, iterations)
        return struct([], [(self.name, 2, iterations, salt, salted, {})], {})


KINDS = {"topic": 2, "group": 3, "cluster": 4, "transactional-id": 5}
OPERATIONS = {"Read": 3, "Write": 4, "Describe": 8, "DescribeConfigs": 10}
LITERAL, PREFIXED, ALLOW = 3, 4, 3


class _AclsAsk(Request[CreateAclsRequest_v1]):  # type: ignore[misc] # the same
    API_KEY = 30

    def __init__(self, user: str, rights: Iterable[Right]) -> None:
        self.rows = [
            (
                KINDS[right.kind], right.name or "kafka-cluster", PREFIXED if right.is_prefix else LITERAL,
                f"User:{user}", "*", OPERATIONS[right.operation], ALLOW,
            )
            for right in rights
        ]  # fmt: skip

    def build(self, struct: type[RequestStruct]) -> RequestStruct:
        """Return the request."""
        return struct(self.rows)


class KafkaAdmin:
    """Makes users of a broker, and gives them rights."""

    def __init__(self, servers: str) -> None:
        """servers: of the listener that asks nothing."""
        self._servers = servers

    async def scram_user(self, name: str, password: str) -> None:
        """Make a user, or give him another password."""
        answer = await self._ask(_ScramAsk(name, password))
        assert [row[1] for row in answer.results] == [0], answer

    async def allow(self, user: str, rights: Iterable[Right]) -> None:
        """Give a user rights; they count when the broker has taken them over, within milliseconds."""
        answer = await self._ask(_AclsAsk(user, rights))
        assert {row[0] for row in answer.creation_responses} <= {0}, answer

    async def _ask(self, request: Any) -> Any:
        client = AIOKafkaAdminClient(bootstrap_servers=self._servers)
        await client.start()
        try:
            return await client._send_request(request)  # noqa: SLF001 - the library has no call for it
        finally:
            await client.close()


def token(user: str) -> str:
    """Return an unsigned token of OAUTHBEARER, as test brokers take it."""
    now_s = int(time.time())
    parts = ({"alg": "none"}, {"sub": user, "iat": now_s, "exp": now_s + 3600})
    coded = [base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts]
    return ".".join([*coded, ""])


class Guarded(NamedTuple):
    """A broker that asks who we are."""

    ports: Ports
    authority: Authority
    admin: KafkaAdmin

    @property
    def plain(self) -> str:
        """The servers of whoever may do all."""
        return f"{HOST}:{self.ports.plain}"

    def sasl(self, mechanism: str, **more: str) -> dict[str, str]:
        """Return settings to log in by SASL over TLS."""
        return {
            "RATER_KAFKA__BOOTSTRAP_SERVERS": f"{HOST}:{self.ports.sasl}",
            "RATER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
            "RATER_KAFKA__SASL_MECHANISM": mechanism,
            "RATER_KAFKA__SSL_CAFILE": str(self.authority.file),
            **more,
        }

    def mtls(self, certificate: Path, key: Path) -> dict[str, str]:
        """Return settings to show a certificate."""
        return {
            "RATER_KAFKA__BOOTSTRAP_SERVERS": f"{HOST}:{self.ports.mtls}",
            "RATER_KAFKA__SECURITY_PROTOCOL": "SSL",
            "RATER_KAFKA__SSL_CAFILE": str(self.authority.file),
            "RATER_KAFKA__SSL_CERTFILE": str(certificate),
            "RATER_KAFKA__SSL_KEYFILE": str(key),
        }


def settings_of(environ: dict[str, str]) -> Settings:
    """Return the settings of an environment."""
    read = load(None, environ, {})
    assert isinstance(read, Settings), read
    return read


def client_of(environ: dict[str, str]) -> dict[str, Any]:
    """Return how aiokafka connects by an environment."""
    return app.kafka_client(settings_of(environ))


# ------------------------------------------------------------------ Redis
@contextlib.asynccontextmanager
async def tls_before(port: int, authority: Authority) -> AsyncIterator[int]:
    """Give a port at which TLS with a certificate on both sides leads to a server's port."""
    own = authority.pair("redis")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(authority.file))
    context.load_cert_chain(own.certificate, own.key)
    context.verify_mode = ssl.CERT_REQUIRED
    tasks: set[asyncio.Task[Any]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))  # ours, so that its end is nobody else's fault
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, here = await asyncio.open_connection(HOST, port)
        try:
            await asyncio.gather(pump(reader, here), pump(there, writer))
        finally:
            here.close()
            writer.close()

    server = await asyncio.start_server(begin, HOST, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def worker_rules(prefix: str) -> list[str]:
    """Return the rules of config/redis-worker.acl, for another prefix."""
    found = re.search(r"^user rater on >PASSWORD (.*)$", ACL.read_text("utf-8"), re.MULTILINE)
    assert found
    return found[1].replace("~rater{*", f"~{prefix}{{*").split()


def set_user(server: Redis, name: str, password: str, rules: list[str]) -> None:
    """Make a user of Redis, or change it."""
    with Client.from_url(server.url) as admin:
        admin.execute_command("ACL", "SETUSER", name, "reset", "on", f">{password}", *rules)


@contextlib.asynccontextmanager
async def secure_redis(
    server: Redis, authority: Authority, folder: Path, prefix: str
) -> AsyncIterator[dict[str, str]]:
    """Give settings of a worker's user at a server that is reached by TLS, certificates on both sides."""
    secret, own = folder / "redis-password", authority.pair("worker", f"redis-{prefix}")
    secret.write_text("of redis\n", "utf-8")
    set_user(server, "worker", "of redis", worker_rules(prefix))
    async with tls_before(server.port, authority) as port:
        yield {
            "RATER_REDIS__URL": f"rediss://{HOST}:{port}",
            "RATER_REDIS__USERNAME": "worker",
            "RATER_REDIS__PASSWORD_FILE": str(secret),
            "RATER_REDIS__SSL_CAFILE": str(authority.file),
            "RATER_REDIS__SSL_CERTFILE": str(own.certificate),
            "RATER_REDIS__SSL_KEYFILE": str(own.key),
        }
