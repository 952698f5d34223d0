"""What an issuer of OpenID Connect says of somebody: its tokens are checked, and claims become a user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from rater.admin.access import ROLES, Role, User
from rater.config.settings import Oidc

ALGORITHMS = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)
"""How tokens may be signed: by keys of which the issuer shows the public half alone."""
LEEWAY_S = 60
"""So far the issuer's clock may be from ours."""
NAME_CHARS = 200
"""So long the name of an actor is at most (CONTRACTS.md, Command)."""


class NotTakenError(Exception):
    """A token, or what it says, that is not taken; the text is a sentence. again: newer keys may do."""

    def __init__(self, text: str, *, again: bool = False) -> None:
        super().__init__(text)
        self.again = again


def id_claims(token: str, keys: KeySet, oidc: Oidc, nonce: str, now_s: float) -> dict[str, Any]:
    """Return the claims of an ID token (OpenID Connect Core, 3.1.3.7). Raises NotTakenError."""
    found = _claims(token, keys, oidc.issuer, oidc.client_id, now_s, nonce)
    audiences = found["aud"] if isinstance(found["aud"], list) else [found["aud"]]
    party = found.get("azp", oidc.client_id if len(audiences) == 1 else None)
    if party != oidc.client_id:
        raise NotTakenError("the issuer's token is for another program (azp)")
    return found


def access_claims(token: str, keys: KeySet, oidc: Oidc, now_s: float) -> dict[str, Any]:
    """Return the claims of an access token for the API. Raises NotTakenError."""
    if oidc.audience is None:
        raise NotTakenError("the API takes no tokens of the issuer: admin.oidc.audience is not set")
    return _claims(token, keys, oidc.issuer, oidc.audience, now_s)


def _claims(
    token: str, keys: KeySet, issuer: str, audience: str, now_s: float, nonce: str | None = None
) -> dict[str, Any]:
    try:
        found = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
    except (JoseError, ValueError, TypeError) as error:
        # A key that we do not know, or another one of the same name: the issuer may have changed its keys.
        raise NotTakenError(f"the issuer's token cannot be read ({_said(error)})", again=True) from error
    wanted: dict[str, jwt.ClaimsOption] = {
        "iss": {"essential": True, "value": issuer}, "aud": {"essential": True, "value": audience},
        "exp": {"essential": True}, "sub": {"essential": True},
    }  # fmt: skip
    if nonce is not None:
        wanted["nonce"] = {"essential": True, "value": nonce}
    registry = jwt.JWTClaimsRegistry(now=int(now_s), leeway=LEEWAY_S, **wanted)
    try:
        registry.validate(found)
    except JoseError as error:
        raise NotTakenError(f"the issuer's token is not for us, or not for now ({_said(error)})") from error
    return found


def _said(error: Exception) -> str:
    return getattr(error, "description", None) or str(error) or type(error).__name__


def claim(claims: Mapping[str, Any], path: str) -> Any:
    """Return a claim; its name, or names of tables and it with dots between (`realm_access.roles`)."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value


def user_of(claims: Mapping[str, Any], oidc: Oidc) -> User:
    """Return whom claims are of, with the strongest role they give. Raises NotTakenError where it is none."""
    given = claim(claims, oidc.name_claim)
    name = given if isinstance(given, str) and given else claims["sub"]
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARS or not name.isprintable():
        raise NotTakenError(f"the claim {oidc.name_claim} is no name of 1 to {NAME_CHARS} characters")
    values = claim(claims, oidc.roles_claim)
    told = [values] if isinstance(values, str) else values if isinstance(values, list) else []
    roles: list[Role] = [oidc.roles[of] for of in told if isinstance(of, str) and of in oidc.roles]
    if not roles:
        raise NotTakenError(
            f"{name} has no role here: the claim {oidc.roles_claim} has none of the values that "
            "admin.oidc.roles names"
        )
    return User(name, max(roles, key=ROLES.index))
