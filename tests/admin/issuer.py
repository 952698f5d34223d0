"""An issuer of OpenID Connect for tests, as a process: it prints its address, and serves until it is ended.

Signatures, PKCE, the client's secret and what is used once are looked at as real ones do; who logs in says a
name, and no password. `POST /keys` changes its keys, `POST /token/NAME` gives an access token for the API.
`python issuer.py` has the settings of its client in SECRET and CLIENT.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import sys
import time
from html import escape
from typing import Any
from urllib.parse import urlencode

from aiohttp import BasicAuth, web
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

CLIENT, SECRET, AUDIENCE = "rater-console", "a secret: with %7E & more", "rater-api"
GROUPS = {
    "ida": ["staff", "billing-admins"],
    "olga": ["billing-operators"],
    "nemo": ["staff"],
    "vera": ["billing-admins"],
}
SECONDS = 300


class Issuer:
    """What was given out, and the keys it was signed with."""

    def __init__(self) -> None:
        """Make keys."""
        self.url = ""
        self.keys: list[RSAKey | ECKey] = [RSAKey.generate_key(2048, {"kid": "one"})]
        self.codes: dict[str, dict[str, str]] = {}
        self.given: dict[str, str] = {}

    def signed(self, user: str, audience: str, **more: Any) -> str:
        """Return a token about somebody."""
        now, key = int(time.time()), self.keys[-1]
        claims = {
            "iss": self.url, "sub": f"id-of-{user}", "aud": audience, "iat": now, "exp": now + SECONDS, **more
        }  # fmt: skip
        kind = "RS256" if isinstance(key, RSAKey) else "ES256"
        return jwt.encode({"alg": kind, "kid": key.kid}, claims, key, algorithms=[kind])

    async def discovery(self, _request: web.Request) -> web.Response:
        """Tell where everything is."""
        ways = {name: f"{self.url}/{path}" for name, path in (
            ("authorization_endpoint", "authorize"), ("token_endpoint", "token"), ("jwks_uri", "jwks"),
            ("userinfo_endpoint", "userinfo"), ("end_session_endpoint", "end"),
        )}  # fmt: skip
        return web.json_response({"issuer": self.url, **ways})

    async def jwks(self, _request: web.Request) -> web.Response:
        """Show the public keys."""
        return web.json_response(KeySet(list(self.keys)).as_dict(private=False))

    async def authorize(self, request: web.Request) -> web.Response:
        """Ask who it is; then send the browser back with a code."""
        asked = request.query
        assert (asked["client_id"], asked["response_type"], asked["code_challenge_method"]) == (
            CLIENT, "code", "S256",
        )  # fmt: skip
        if request.method == "GET":
            action, fields = escape(str(request.rel_url)), '<input name="login"><input name="password">'
            return web.Response(
                text=f'<form method="post" action="{action}">{fields}</form>',
                content_type="text/html",
            )  # fmt: skip
        form, code = await request.post(), secrets.token_urlsafe(16)
        self.codes[code] = {**asked, "user": str(form["login"])}
        back = {"code": code, "state": asked["state"], "iss": self.url}
        raise web.HTTPSeeOther(f"{asked['redirect_uri']}?{urlencode(back)}")

    async def token(self, request: web.Request) -> web.Response:
        """Exchange a code, once."""
        who = BasicAuth.decode(request.headers["Authorization"])
        form = await request.post()
        asked = self.codes.pop(str(form["code"]), None)
        digest = hashlib.sha256(str(form["code_verifier"]).encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        encoded = urlencode({"": SECRET})[1:]
        if (
            asked is None or (who.login, who.password) != (CLIENT, encoded)
            or asked["code_challenge"] != challenge or asked["redirect_uri"] != form["redirect_uri"]
        ):  # fmt: skip
            return web.json_response(
                {"error": "invalid_grant", "error_description": "grant request is invalid"}, status=400
            )
        access, user = secrets.token_urlsafe(16), asked["user"]
        self.given[access] = user
        return web.json_response({
            "token_type": "Bearer", "access_token": access,
            "id_token": self.signed(user, CLIENT, nonce=asked["nonce"], preferred_username=user),
        })  # fmt: skip

    async def userinfo(self, request: web.Request) -> web.Response:
        """Tell the groups, which do not stand in the ID token."""
        user = self.given[request.headers["Authorization"].removeprefix("Bearer ")]
        return web.json_response({"sub": f"id-of-{user}", "groups": GROUPS.get(user, [])})

    async def rotate(self, _request: web.Request) -> web.Response:
        """Sign by another key, of another kind, and show the old one no more."""
        self.keys = [ECKey.generate_key("P-256", {"kid": secrets.token_hex(4)})]
        return web.Response()

    async def access(self, request: web.Request) -> web.Response:
        """Give an access token for the API; `aud` and `exp` of the query instead of the right ones."""
        user = request.match_info["user"]
        more: dict[str, Any] = {"preferred_username": user, "groups": GROUPS.get(user, [])}
        if "exp" in request.query:
            more["exp"] = int(time.time()) + int(request.query["exp"])
        return web.Response(text=self.signed(user, request.query.get("aud", AUDIENCE), **more))


async def serve() -> web.Application:
    """Return the application."""
    issuer, application = Issuer(), web.Application()
    application.router.add_get("/.well-known/openid-configuration", issuer.discovery)
    application.router.add_get("/jwks", issuer.jwks)
    application.router.add_route("*", "/authorize", issuer.authorize)
    application.router.add_post("/token", issuer.token)
    application.router.add_get("/userinfo", issuer.userinfo)
    application.router.add_post("/keys", issuer.rotate)
    application.router.add_post("/token/{user}", issuer.access)
    issuer.url = f"http://127.0.0.1:{sys.argv[1]}"
    return application


if __name__ == "__main__":
    web.run_app(serve(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
