"""How a connection to Kafka logs in: with what the files of secrets and certificates say when it is made.

aiokafka gives each connection of a client the password and the context of TLS that the client was made with,
and clients of a worker live for months. So a connection asks for both when it connects. Only tokens it asks
for by itself.

A connection that is there is not logged in again (KIP-368): a broker that sets `connections.max.reauth.ms`
cuts it after that time, and the next one logs in anew.
"""

from __future__ import annotations

from typing import Any

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import AIOKafkaConnection

from rater.config import Kafka
from rater.logins import Secret, Tls, read_secret

_connect = AIOKafkaConnection.connect


def login(kafka: Kafka) -> dict[str, Any]:
    """Return aiokafka's settings of how we log in. The files that the settings name have been read before."""
    found: dict[str, Any] = {"security_protocol": kafka.security_protocol}
    if kafka.security_protocol.startswith("SASL"):
        found["sasl_mechanism"] = kafka.sasl_mechanism
        if kafka.sasl_mechanism == "OAUTHBEARER":
            file = kafka.sasl_token_file or ""
            found["sasl_oauth_token_provider"] = _Token(Secret(file, read_secret(file)))
        else:
            found["sasl_plain_username"] = kafka.sasl_username
            found["sasl_plain_password"] = (
                Secret(kafka.sasl_password_file, kafka.sasl_password or "")
                if kafka.sasl_password_file
                else kafka.sasl_password
            )
    if kafka.security_protocol.endswith("SSL"):
        found["ssl_context"] = Tls(
            kafka.ssl_cafile, kafka.ssl_certfile, kafka.ssl_keyfile, check_hostname=kafka.ssl_check_hostname
        )
    AIOKafkaConnection.connect = _connect_anew
    return found


async def _connect_anew(self: Any) -> Any:
    """Connect with the password and the certificates of now."""
    if isinstance(self._sasl_plain_password, Secret):
        self._sasl_plain_password = self._sasl_plain_password.read()
    if isinstance(self._ssl_context, Tls):
        self._ssl_context = self._ssl_context.get()
    return await _connect(self)


class _Token(AbstractTokenProvider):  # type: ignore[misc] # aiokafka ships no types
    """The token of a file, as aiokafka asks for it with each connection."""

    def __init__(self, secret: Secret) -> None:
        self._secret = secret

    async def token(self) -> str:
        """Return the token of now."""
        return self._secret.read()
