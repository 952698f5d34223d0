"""What is wrong between the settings of an issuer ([admin.oidc]) that are right each by itself."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from urllib.parse import urlsplit

from rater.config.settings import Oidc

CALLBACK = "/login/callback"
"""The path that browsers come back to from the issuer."""


def oidc_faults(oidc: Oidc) -> Iterator[str]:
    """Yield a sentence for each fault."""
    for key in ("issuer", "redirect_url"):
        url = getattr(oidc, key)
        if url.startswith("http://") and not _is_here(url):
            yield (
                f"admin.oidc.{key} = {url!r}: codes and tokens go over this line; give an address of https "
                "(http is for this machine alone)"
            )
    if not urlsplit(oidc.redirect_url).path.endswith(CALLBACK):
        yield (
            f"admin.oidc.redirect_url = {oidc.redirect_url!r}: does not lead back to the console; give "
            f"https://HOST{CALLBACK}, and the same to the issuer"
        )
    if "openid" not in oidc.scopes:
        yield "admin.oidc.scopes: lacks openid, without which the issuer does not tell who logs in; add it"
    if oidc.audience == oidc.client_id:
        yield (
            "admin.oidc.audience: is the client_id, which logins are for; give the name that the issuer has "
            "for the API, or leave it out"
        )


def _is_here(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
