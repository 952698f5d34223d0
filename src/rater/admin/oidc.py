"""Logging in at an issuer of OpenID Connect: the code flow with PKCE, and its keys, which change."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote_plus, urlencode

import aiohttp
import msgspec
import structlog
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from msgspec import Struct

from rater.admin.access import Login, User
from rater.admin.claims import NotTakenError, access_claims, claim, id_claims, user_of
from rater.admin.problems import Problem
from rater.config.settings import Oidc
from rater.errors import Halt

log = structlog.get_logger()

ANSWER_S = 10.0
"""So long the issuer may take to answer."""
ANSWER_BYTES_MAX = 1_000_000
KEPT_S = 3600.0
"""So long its keys and addresses are taken as they were."""
AGAIN_S = 5.0
"""So soon they are asked for again, at most: who sends tokens of made-up keys makes us ask no more often."""

T = TypeVar("T")


class Provider(Struct, frozen=True, kw_only=True):
    """What an issuer tells of itself (OpenID Connect Discovery), as far as we go by it."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str | None = None
    end_session_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ("client_secret_basic",)


class Tokens(Struct, frozen=True, kw_only=True):
    """What a code is exchanged for."""

    id_token: str
    access_token: str | None = None


class Known(Struct, frozen=True):
    """What was read from the issuer. asked_s: when."""

    provider: Provider
    keys: KeySet
    asked_s: float


class Issuer:
    """An issuer. Raises Problem with a sentence where it does not answer, or what it says is not taken."""

    def __init__(self, oidc: Oidc, secret: str | None) -> None:
        """secret: of the client, None: it has none (a public client)."""
        self._oidc, self._secret = oidc, secret
        self._known: Known | None = None
        self._tried_s = float("-inf")
        self._asking = asyncio.Lock()
        self._http: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        """Let go of connections."""
        if self._http is not None:
            await self._http.close()

    # ------------------------------------------------------------------------------------------- logging in
    async def begins_at(self, login: Login) -> str:
        """Return the address that a login begins at."""
        provider = (await self._at()).provider
        challenge = base64.urlsafe_b64encode(hashlib.sha256(login.verifier.encode()).digest()).rstrip(b"=")
        asked = {
            "response_type": "code", "client_id": self._oidc.client_id,
            "redirect_uri": self._oidc.redirect_url, "scope": " ".join(self._oidc.scopes),
            "state": login.state, "nonce": login.nonce, "code_challenge": challenge.decode(),
            "code_challenge_method": "S256",
        }  # fmt: skip
        return _with(provider.authorization_endpoint, asked)

    async def user(self, login: Login, answer: Mapping[str, str]) -> User:
        """Return who has logged in. answer: what the issuer had the browser bring."""
        if "error" in answer:
            why = answer.get("error_description") or answer["error"]
            raise Problem(403, f"the issuer did not log you in: {why[:200]}")
        if answer.get("iss", self._oidc.issuer) != self._oidc.issuer:
            raise Problem(403, "this answer is of another issuer than the settings name (RFC 9207)")
        if not answer.get("code"):
            raise Problem(400, "code: is missing in what the issuer sent")
        tokens = await self._exchange(answer["code"], login.verifier)
        now_s = time.time()
        try:
            claims = await self._verified(
                lambda keys: id_claims(tokens.id_token, keys, self._oidc, login.nonce, now_s)
            )
            more = {} if claim(claims, self._oidc.roles_claim) else await self._more(tokens, claims)
            return user_of({**more, **claims}, self._oidc)
        except NotTakenError as error:
            raise Problem(403, str(error)) from error

    async def _exchange(self, code: str, verifier: str) -> Tokens:
        provider, oidc = (await self._at()).provider, self._oidc
        form = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": oidc.redirect_url,
            "code_verifier": verifier,
        }  # fmt: skip
        headers = {}
        if self._secret is None:
            form["client_id"] = oidc.client_id
        elif "client_secret_basic" in provider.token_endpoint_auth_methods_supported:
            who = aiohttp.BasicAuth(quote_plus(oidc.client_id), quote_plus(self._secret))  # RFC 6749, 2.3.1
            headers["Authorization"] = who.encode()
        else:
            form |= {"client_id": oidc.client_id, "client_secret": self._secret}
        return await self._ask(provider.token_endpoint, Tokens, form, headers)

    async def _more(self, tokens: Tokens, claims: Mapping[str, Any]) -> dict[str, Any]:
        """Return what the issuer tells of who has logged in, where it does not stand in the ID token."""
        provider = (await self._at()).provider
        if provider.userinfo_endpoint is None or tokens.access_token is None:
            return {}
        headers = {"Authorization": f"Bearer {tokens.access_token}"}
        found = await self._ask(provider.userinfo_endpoint, dict[str, Any], headers=headers)
        if found.get("sub") != claims["sub"]:
            raise NotTakenError("the issuer tells of somebody else than who has logged in (sub)")
        return found

    async def left_at(self) -> str | None:
        """Return the address where one logs out of the issuer, None: it has none, or does not answer."""
        try:
            provider = (await self._at()).provider
        except Problem:
            return None
        if provider.end_session_endpoint is None:
            return None
        return _with(provider.end_session_endpoint, {"client_id": self._oidc.client_id})

    # ---------------------------------------------------------------------------------------------- the API
    async def bearer(self, token: str) -> User | None:
        """Return whose access token it is; None: it is not taken."""
        if self._oidc.audience is None or token.count(".") != 2:  # noqa: PLR2004 - parts of a JWT
            return None
        now_s = time.time()
        try:
            found = await self._verified(lambda keys: access_claims(token, keys, self._oidc, now_s))
            return user_of(found, self._oidc)
        except NotTakenError as error:
            log.info("an access token is not taken", reason=str(error))
            return None

    # ------------------------------------------------------------------------------------------- the issuer
    async def _verified(self, check: Callable[[KeySet], T]) -> T:
        """Return what a check of a token gives, by newer keys where those that are known do not do."""
        known = await self._at()
        try:
            return check(known.keys)
        except NotTakenError as error:
            if not error.again:
                raise
        return check((await self._at(newer_than=known)).keys)

    async def _at(self, newer_than: Known | None = None) -> Known:
        """Return what is known of the issuer, read anew where it is old, or other keys are needed."""
        async with self._asking:
            known, now_s = self._known, time.monotonic()
            is_good = known is not None and known is not newer_than and now_s - known.asked_s < KEPT_S
            if known is not None and (is_good or now_s - self._tried_s < AGAIN_S):
                return known
            self._tried_s = now_s
            try:
                self._known = await self._read(now_s)
            except Problem as problem:
                if known is None:
                    raise
                log.warning("the issuer's keys stay as they were", reason=problem.detail)
                return known
            return self._known

    async def _read(self, now_s: float) -> Known:
        issuer = self._oidc.issuer
        provider = await self._ask(f"{issuer.rstrip('/')}/.well-known/openid-configuration", Provider)
        if provider.issuer != issuer:
            raise Problem(
                503, f"admin.oidc.issuer is {issuer}, and the issuer there calls itself {provider.issuer}: "
                "give the setting that name",
            )  # fmt: skip
        found = await self._ask(provider.jwks_uri, dict[str, Any])
        usable = [one for one in found.get("keys", ()) if isinstance(one, dict) and one.get("use") != "enc"]
        keys = []
        for one in usable:
            try:
                keys += KeySet.import_key_set({"keys": [one]}).keys
            except (JoseError, ValueError, TypeError, KeyError) as error:  # of a kind that we do not know
                log.warning("a key of the issuer is left out", key=one.get("kid"), reason=str(error))
        if not keys:
            raise Problem(503, f"the issuer shows no key that can be used at {provider.jwks_uri}")
        return Known(provider, KeySet(keys), now_s)

    async def _ask(
        self, url: str, kind: type[T], form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> T:  # fmt: skip
        """Return what the issuer answers. form: it is sent. Raises Problem."""
        if self._oidc.issuer.startswith("https://") and not url.startswith("https://"):
            raise Problem(503, f"the issuer names an address without https, {url}; it is not asked")
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=ANSWER_S))
        method = "GET" if form is None else "POST"
        try:
            async with self._http.request(
                method, url, data=form, headers={"Accept": "application/json", **(headers or {})},
                allow_redirects=False,
            ) as answer:  # fmt: skip
                raw = await answer.content.read(ANSWER_BYTES_MAX)
                while not answer.content.at_eof() and len(raw) < ANSWER_BYTES_MAX:
                    raw += await answer.content.read(ANSWER_BYTES_MAX)
                if answer.status != 200:  # noqa: PLR2004 - HTTP
                    raise Problem(503, f"the issuer answers {answer.status} at {url}{_told(raw)}")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            why = str(error) or f"no answer in {ANSWER_S:.0f} s"
            raise Problem(
                503, f"the issuer {self._oidc.issuer} cannot be asked ({why}); try again"
            ) from error
        try:
            return msgspec.json.decode(raw, type=kind)
        except (msgspec.DecodeError, ValueError) as error:
            raise Problem(503, f"what the issuer answers at {url} is not understood ({error})") from error


def _told(raw: bytes) -> str:
    """Return what an error of OAuth says, to stand behind a sentence."""
    try:
        found = msgspec.json.decode(raw, type=dict[str, Any])
    except (msgspec.DecodeError, ValueError):
        return ""
    return f": {str(found.get('error_description') or found.get('error'))[:200]}" if "error" in found else ""


def _with(url: str, query: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(query)}"


def open_issuer(oidc: Oidc) -> Issuer:
    """Return the issuer of the settings. Raises Halt where the client's secret cannot be read."""
    file = oidc.client_secret_file
    if file is None:
        return Issuer(oidc, None)
    try:
        secret = Path(file).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        why = (error.strerror or str(error)).lower() if isinstance(error, OSError) else "not UTF-8"
        raise Halt(
            f"admin.oidc.client_secret_file = {file!r}: cannot be read ({why}); give a file that can"
        ) from error
    if not secret:
        raise Halt(f"admin.oidc.client_secret_file = {file!r}: is empty; write the client's secret into it")
    return Issuer(oidc, secret)
