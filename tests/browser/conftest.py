"""The real frontend in Chromium, on a real host with this pack."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from glitch_demo.host import Host

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY_MS = 90_000


def chromium() -> str:
    """Return the path of an installed Chromium, or skip loudly."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("no Chromium is installed: the browser tests did not run (apt install chromium)")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless browser for all tests."""
    path = chromium()
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the pack and no models: enough to load workflows."""
    with Host(tmp_path_factory.mktemp("browser_host")) as host:
        yield host


@pytest.fixture
def page(browser: Browser, host: Host) -> Iterator[Page]:
    """The frontend, loaded and without its greeting."""
    page = browser.new_page(viewport={"width": 1800, "height": 1000})
    page.goto(host.url)
    page.wait_for_function("window.app && window.app.extensionManager", timeout=READY_MS)
    page.evaluate("app.extensionManager.setting.set('Comfy.TutorialCompleted', true)")
    yield page
    page.close()
