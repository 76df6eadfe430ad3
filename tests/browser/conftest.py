"""The real frontend in Chromium, on a real host with this pack."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from glitch_demo.host import Host
from workflow_maker.frontend import chromium, chromium_path, open_frontend

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless browser for all tests, or a loud skip."""
    path = chromium_path()
    if path is None:
        pytest.skip(
            "no Chromium is installed: the browser tests did not run (apt install chromium)"
        )
    with chromium(path) as running:
        yield running


@pytest.fixture(scope="session")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the pack and no models: enough to load workflows."""
    with Host(tmp_path_factory.mktemp("browser_host")) as host:
        yield host


@pytest.fixture
def page(browser: Browser, host: Host) -> Iterator[Page]:
    """The frontend, loaded and without its greeting."""
    page = browser.new_page(viewport={"width": 1800, "height": 1000})
    open_frontend(page, host.url)
    yield page
    page.close()
