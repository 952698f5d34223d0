"""Chromium, driven by Playwright; and pictures of the main pages (`make test-console`)."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VARIABLE = "RATER_BROWSER"
"""The folder that tests/admin/playwright.lock is installed in."""
WIDTHS = {"wide": 1280, "narrow": 390}
PICTURES = {
    "packages": "/packages?status=active&status=disabled",
    "package": "/packages/1",
    "package-form": "/packages/1/edit",
    "client-packages": "/client-packages?status=pending&status=active&status=archive",
    "client-package": "/client-packages/cp42",
    "stop": "/client-packages/cp42/stop-now",
    "assign": "/assign?client=42&package=1&preview=1",
    "clients": "/clients",
    "client": "/clients/42",
    "adjust": "/clients/42/adjust?amount=20.00",
    "transactions": "/transactions",
    "transaction": "/explain?id=default/call-0",
    "pending-charges": "/pending-charges",
    "rejected": "/rejected",
    "recycle": "/rejected/recycle?preview=1",
    "rate-tables": "/rate-tables",
    "rate-table": "/rate-tables/retail?code=380441234567",
    "import-deck": "/import-deck?table=retail",
    "rerate": "/rerate?client=42&from=2026-11-01&to=2026-12-01",
    "rerate-jobs": "/rerate-jobs",
    "dids": "/dids",
    "assign-did": "/assign-did?number=380441112207&account=sip-r1&preview=1",
    "audit": "/commands",
    "events": "/events",
    "live": "/live",
    "error": "/clients/nobody",
}
"""What pictures are taken of."""


def chromium() -> str:
    """Return where Chromium is. Raises RuntimeError with what to do."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        raise RuntimeError("there is no Chromium; install it (Debian: apt-get install chromium)")
    return found


@contextmanager
def browser() -> Iterator[Any]:
    """Give a Chromium without a window, as Playwright's `Browser`."""
    sys.path.append(os.environ[VARIABLE])
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - it is there for these tests alone

    with sync_playwright() as playwright:
        one = playwright.chromium.launch(
            executable_path=chromium(),
            args=["--no-sandbox", "--disable-background-networking", "--disable-component-update"],
        )
        try:
            yield one
        finally:
            one.close()


def log_in(page: Any, token: str) -> None:
    """Fill in the form of the login, which the page shows."""
    page.fill("#token", token)
    page.press("#token", "Enter")
    page.wait_for_url("**/client-packages")


def faults(page: Any) -> list[str]:
    """Return what axe-core finds on a page that keeps somebody out: its serious and critical faults."""
    from axe_playwright_python.sync_playwright import Axe  # noqa: PLC0415 - the same

    found = Axe().run(page).response["violations"]
    return [
        f"{one['impact']} {one['id']} ({one['help']}): {node['target']}"
        for one in found
        if one["impact"] in {"serious", "critical"}
        for node in one["nodes"]
    ]


def take_pictures(of: Any, url: str, token: str, folder: Path) -> list[Path]:
    """Write a picture of each main page, wide and narrow, light and (the first ones) dark."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for scheme, names in (
        ("light", list(PICTURES)),
        ("dark", ["client-packages", "client-package", "package-form", "live"]),
    ):
        for name, width in WIDTHS.items():
            context = of.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
            page = context.new_page()
            page.goto(f"{url}/login")
            if scheme == "light":
                page.screenshot(path=folder / f"login-{name}.png")
            log_in(page, token)
            for of_page in names:
                page.goto(url + PICTURES[of_page])
                path = folder / f"{of_page}-{name}{'' if scheme == 'light' else '-dark'}.png"
                page.screenshot(path=path, full_page=True)
                written.append(path)
            context.close()
    return written
