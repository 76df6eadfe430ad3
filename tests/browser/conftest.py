"""The real frontend in Chromium, on a real host with this pack."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from glitch_demo.host import Host, link_or_copy
from glitch_demo.material import place_pictures
from workflow_maker.__main__ import place_models
from workflow_maker.frontend import chromium, chromium_path, open_frontend

sys.path[:0] = map(str, Path(__file__).parents[:2])  # for ``screen`` and ``shortened``

from fewer_layers import place_smaller_sdxl  # noqa: E402
from screen import Screen  # noqa: E402
from shortened import place_pictures_of_workflows  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HIDES_VUE_NODES = (
    "app.ui.settings.settingsParamLookup?.['Comfy.VueNodes.Enabled']?.type === 'hidden'"
)
RENDERERS = {"canvas": False, "vue_nodes": True}


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One headless browser for all tests, or a loud skip."""
    path = chromium_path()
    if path is None:
        pytest.skip(
            "no Chromium is installed: the browser tests did not run (apt install chromium)"
        )
    with chromium(path) as running:
        yield running


@pytest.fixture(scope="package")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host with the pack, the pocket checkpoints, and every model that a workflow names."""
    from glitch_demo.pocket import pocket_sd15  # imports torch: only where needed

    host = Host(
        tmp_path_factory.mktemp("browser_host"), extra_args=("--preview-method", "latent2rgb")
    )
    place_models(host)
    checkpoint = pocket_sd15()
    link_or_copy(checkpoint, host.base_dir / "models" / "checkpoints" / checkpoint.name)
    place_smaller_sdxl(host)
    place_pictures(host.base_dir, None)
    place_pictures_of_workflows(host.base_dir)
    with host:
        yield host


@pytest.fixture(scope="package", params=RENDERERS)
def screen(request: pytest.FixtureRequest, browser: Browser, host: Host) -> Iterator[Screen]:
    """The frontend, loaded once for each way of drawing nodes."""
    page = browser.new_page(viewport={"width": 1800, "height": 1000})
    open_frontend(page, host.url, vue_nodes=RENDERERS[request.param])
    if RENDERERS[request.param] and page.evaluate(HIDES_VUE_NODES):
        page.close()
        pytest.skip("this frontend hides its Vue nodes, an experiment: Nodes 2.0 came later")
    yield Screen(page, RENDERERS[request.param])
    page.close()


@pytest.fixture(scope="package")
def page(browser: Browser, host: Host) -> Iterator[Page]:
    """A frontend for tests that only ask it things."""
    page = browser.new_page(viewport={"width": 1800, "height": 1000})
    open_frontend(page, host.url)
    yield page
    page.close()
