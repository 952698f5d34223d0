"""Logging in by an issuer: what of its tokens is taken, and the whole way through the real program."""

from __future__ import annotations

import asyncio
import hmac
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from html import unescape
from typing import Any

import aiohttp
import pytest
from joserfc import jwt
from joserfc.jwk import KeySet, RSAKey
from msgspec import structs
from yarl import URL

from admin.conftest import Console, Visitor, visiting
from admin.issuer import AUDIENCE, CLIENT
from rater.admin.access import LOGIN_S, SESSION_S, Login, Logins, Session, Sessions, User
from rater.admin.claims import LEEWAY_S, NotTakenError, access_claims, claim, id_claims, user_of
from rater.admin.oidc import Issuer, open_issuer
from rater.admin.problems import Problem
from rater.config import load
from rater.config.settings import Oidc
from rater.errors import Halt

NOW_S = 1_800_000_000
ISSUER = "https://issuer.example"
KEY = RSAKey.generate_key(2048, {"kid": "k"})
KEYS = KeySet([RSAKey.import_key(KEY.as_dict(private=False))])
OIDC = Oidc(
    issuer=ISSUER, client_id=CLIENT, redirect_url="https://rater.example/login/callback",
    roles={"admins": "administer", "ops": "operate", "all": "view"}, audience=AUDIENCE,
)  # fmt: skip
GOOD = {
    "iss": ISSUER, "sub": "7", "aud": CLIENT, "exp": NOW_S + 60, "iat": NOW_S, "nonce": "n",
    "preferred_username": "ida", "groups": ["ops", "all"],
}  # fmt: skip


def signed(claims: dict[str, Any], key: RSAKey = KEY) -> str:
    """Return a token."""
    return jwt.encode({"alg": "RS256", "kid": "k"}, claims, key)


def coded(raw: bytes) -> str:
    """Return a part of a token."""
    return urlsafe_b64encode(raw).decode().rstrip("=")


def test_a_good_token_is_taken() -> None:
    """Its claims become a user with the strongest of its roles; an audience of several names its party."""
    claims = id_claims(signed(GOOD), KEYS, OIDC, "n", NOW_S)
    assert user_of(claims, OIDC) == User("ida", "operate")
    several = {**GOOD, "aud": [CLIENT, "other"], "azp": CLIENT}
    assert id_claims(signed(several), KEYS, OIDC, "n", NOW_S) == several
    late = NOW_S + 60 + LEEWAY_S - 1
    assert id_claims(signed(GOOD), KEYS, OIDC, "n", late) == GOOD


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://other.example"}, {"aud": "other"}, {"aud": []}, {"aud": 7}, {"nonce": "other"},
        {"nonce": None}, {"exp": NOW_S - LEEWAY_S}, {"exp": None}, {"exp": "soon"}, {"sub": None},
        {"nbf": NOW_S + LEEWAY_S + 1}, {"iat": NOW_S + LEEWAY_S + 1}, {"aud": [CLIENT, "other"]},
        {"aud": [CLIENT, "other"], "azp": "other"}, {"azp": "other"},
    ],
)  # fmt: skip
def test_other_tokens_are_not_taken(change: dict[str, Any]) -> None:
    """Whatever is not for this program, this login and this moment."""
    claims = {name: value for name, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(NotTakenError):
        id_claims(signed(claims), KEYS, OIDC, "n", NOW_S)


def test_tokens_that_the_issuer_did_not_sign() -> None:
    """By another key, by the public key as a secret, by none; and no token at all."""
    other = RSAKey.generate_key(2048, {"kid": "k"})
    head, body, _ = signed(GOOD).split(".")
    none = signed(GOOD).replace(head, "eyJhbGciOiJub25lIn0")
    by_secret = coded(b'{"alg": "HS256", "kid": "k"}') + "." + body
    public = f"{by_secret}.{coded(hmac.digest(KEY.as_pem(private=False), by_secret.encode(), 'sha256'))}"
    for token in (
        signed(GOOD, other), public, f"{head}.{body}.", none, "a.b.c", "", "ü.ü.ü",
    ):  # fmt: skip
        with pytest.raises(NotTakenError) as told:
            id_claims(token, KEYS, OIDC, "n", NOW_S)
        assert told.value.again


def test_an_id_token_is_none_for_the_api() -> None:
    """The API takes tokens that are for it."""
    with pytest.raises(NotTakenError):
        access_claims(signed(GOOD), KEYS, OIDC, NOW_S)
    given = {**GOOD, "aud": [AUDIENCE, "more"]}
    assert access_claims(signed(given), KEYS, OIDC, NOW_S) == given


def test_names_and_roles() -> None:
    """A claim may be deep, or have dots; the subject stands in for a name; no role is no user."""
    assert claim({"realm": {"roles": ["x"]}}, "realm.roles") == ["x"]
    assert claim({"https://a.b/roles": "x"}, "https://a.b/roles") == "x"
    assert claim({"realm": "x"}, "realm.roles") is None
    assert user_of({"sub": "7", "groups": "admins"}, OIDC) == User("7", "administer")
    for claims in ({"sub": "7"}, {"sub": "7", "groups": ["x", 1, None]}, {"sub": "a\nb", "groups": ["all"]}):
        with pytest.raises(NotTakenError):
            user_of(claims, OIDC)


def test_a_login_comes_back_once() -> None:
    """To the browser that began it, with its state, and in time."""
    logins = Logins()
    begun = Login("id", "state", "n", "v", "/", 0)
    for login_id, state, now_s, found in (
        ("id", "state", 1, begun), ("id", "state", 1, None), (None, "state", 1, None),
        ("other", "state", 1, None), ("id", "other", 1, None), ("id", None, 1, None),
        ("id", "state", LOGIN_S + 1, None),
    ):  # fmt: skip
        if found is not None or state != "state" or now_s > LOGIN_S:
            logins.begin(begun)
        assert logins.take(login_id, state, now_s) == found


def test_a_session_by_an_issuer_ends() -> None:
    """However much is asked in it: whose role was taken away is out then."""
    sessions = Sessions()
    sessions.begin(Session("one", User("ida", "view"), "csrf", 0, until_s=SESSION_S))
    assert sessions.find("one", SESSION_S - 1) is not None
    assert sessions.find("one", SESSION_S) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"issuer": "http://issuer.example"}, "give an address of https"),
        ({"redirect_url": "https://rater.example/"}, "https://HOST/login/callback"),
        ({"scopes": ["profile"]}, "lacks openid"),
        ({"audience": CLIENT}, "admin.oidc.audience: is the client_id"),
        ({"roles": {}}, "give [admin.oidc]"),
        ({"secret": "x"}, "give [admin.oidc]"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], told: str, tmp_path: Any) -> None:
    """Each is refused by a sentence."""
    given = {
        "issuer": ISSUER, "client_id": CLIENT, "redirect_url": "https://rater.example/login/callback",
        "roles": {"a": "view"}, **change,
    }  # fmt: skip
    rows = [f"{name} = {_toml(value)}" for name, value in given.items()]
    (tmp_path / "rater.toml").write_text("[admin.oidc]\n" + "\n".join(rows) + "\n")
    problems = load(str(tmp_path / "rater.toml"))
    assert isinstance(problems, list)
    assert [told in problem for problem in problems] == [True]


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f'{name} = "{of}"' for name, of in value.items()) + "}"
    return repr(value).replace("'", '"')


async def test_an_issuer_that_is_away_or_another(issuer: str) -> None:
    """What stands in the way is a sentence."""
    for url, told in (("http://127.0.0.1:9", "cannot be asked"), (issuer + "/", "calls itself")):
        asked = Issuer(structs.replace(OIDC, issuer=url), None)
        with pytest.raises(Problem, match=told):
            await asked.begins_at(Login("id", "s", "n", "v", "/", 0))
        assert await asked.left_at() is None
        await asked.close()
    with pytest.raises(Halt, match="client_secret_file"):
        open_issuer(structs.replace(OIDC, client_secret_file="/nowhere"))  # noqa: S106 - a path


# ------------------------------------------------------------------------------------- the real program
async def through(visitor: Visitor, user: str, start: str = "/login/issuer") -> str:
    """Log in by the issuer's form, as a browser would; returns the page that comes then."""
    page = await visitor.get(start)
    action = re.search(r'<form[^>]*action="([^"]+)"', page)
    assert action is not None, page
    to = URL(visitor.where).join(URL(unescape(action[1]), encoded=True))
    hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))
    return await visitor.post(str(to), {**hidden, "login": user, "password": "any"})


@pytest.fixture
async def stranger(console: Console) -> AsyncIterator[Visitor]:
    """Somebody who is not logged in."""
    async with visiting(console, None) as one:
        yield one


@pytest.mark.kafka
async def test_logging_in_by_the_issuer(stranger: Visitor) -> None:
    """From the page that was wanted to the issuer, and back to it; the name and the role are the issuer's."""
    await stranger.get("/clients")
    assert 'href="/login/issuer?next=' in stranger.page
    await through(stranger, "ida", "/login/issuer?next=%2Fclients")
    assert (stranger.status, stranger.url) == (200, "/clients")
    assert "ida · administer" in stranger.text
    await stranger.send("/logout", {})
    assert stranger.url == "/login?left=1"
    assert re.search(r'href="http://127[^"]+client_id=rater-console', stranger.page)
    await stranger.get("/clients")
    assert stranger.url.startswith("/login?next=")


@pytest.mark.kafka
@pytest.mark.parametrize(
    ("user", "told"), [("nemo", "nemo has no role here"), ("vera", "so is a token of admin.tokens named")]
)
async def test_who_is_not_let_in(stranger: Visitor, user: str, told: str) -> None:
    """Who has none of the groups, and who is named like a token: a sentence, and no session."""
    await through(stranger, user)
    assert stranger.status == 403
    assert told in stranger.text
    await stranger.get("/clients")
    assert stranger.url.startswith("/login?next=")


@pytest.mark.kafka
async def test_answers_that_nobody_asked_for(stranger: Visitor, console: Console) -> None:
    """An answer of another browser, one that comes twice, one of an error, one without its code."""
    await stranger.get("/login/callback?code=x&state=y")
    assert stranger.status == 403
    await through(stranger, "olga")
    assert "olga · operate" in stranger.text
    async with visiting(console, None) as other:
        for more, status, told in (
            ("error=access_denied&error_description=<b>no</b>", 403, "did not log you in: <b>no</b>"),
            ("code=made-up", 503, "grant request is invalid"), ("", 400, "code: is missing"),
            ("code=x&iss=https%3A%2F%2Fother.example", 403, "another issuer"),
        ):  # fmt: skip
            async with other.http.get("/login/issuer", allow_redirects=False) as answer:
                assert answer.status == 303
                asked = URL(answer.headers["Location"]).query
                cookie = answer.headers["Set-Cookie"]
            assert "HttpOnly" in cookie
            assert "SameSite=Lax" in cookie
            assert asked["code_challenge_method"] == "S256"
            await other.get(f"/login/callback?state={asked['state']}&{more}")
            assert (other.status, told in other.text) == (status, True), other.text
            await other.get(f"/login/callback?state={asked['state']}&code=x")
            assert other.status == 403


@pytest.mark.kafka
async def test_the_api_takes_tokens_of_the_issuer(console: Console, issuer: str) -> None:
    """With their roles, while they are valid, of newer keys too; others are refused as any wrong token is."""
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.3", 0))  # others of these tests are not to wait
    async with aiohttp.ClientSession(connector=connector) as http:

        async def given(path: str) -> str:
            async with http.post(f"{issuer}/{path}") as answer:
                return await answer.text()

        async def asked(token: str, method: str = "GET", path: str = "health") -> int:
            headers = {"Authorization": f"Bearer {token}"}
            async with http.request(method, f"{console.url}/api/v1/{path}", headers=headers) as answer:
                await answer.read()
                return answer.status

        assert await asked(await given("token/ida")) == 200
        assert await asked(await given("token/olga"), "DELETE", "packages/1?dry_run=true") == 403
        for wrong in ("token/ida?aud=rater-console", "token/ida?exp=-90", "token/nemo"):
            assert await asked(await given(wrong)) == 401
        before = await given("token/ida")
        await given("keys")
        began = time.monotonic()
        while await asked(await given("token/ida")) != 200:  # asked for again, but not each time
            assert time.monotonic() - began < 30
            await asyncio.sleep(0.2)
        assert await asked(before) in {401, 429}
