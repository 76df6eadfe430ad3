"""The real frontend in a headless Chromium: it writes the API twins and shows the workflows."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM_NAMES = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
READY_MS = 600_000  # about 4 s on an idle machine; a busy one needs many times that
VIEWPORT = {"width": 3200, "height": 1600}
SETTLED_MS = 1500  # the way to a fitting view is animated
QUIET = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,
}
"""Settings: no greeting, and words on nodes at every zoom."""
ONLY_THE_CANVAS = """
body * { visibility: hidden; }
#graph-canvas, .dom-widget, .dom-widget *, .lg-node, .lg-node *, [data-node-id], [data-node-id] *
{ visibility: visible; }
"""


def chromium_path() -> str | None:
    """Return the path of an installed Chromium, or None."""
    return next((path for name in CHROMIUM_NAMES if (path := shutil.which(name))), None)


@contextlib.contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Run a headless browser.

    Args:
        path: The program.
    """
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        try:
            yield running
        finally:
            running.close()


def open_frontend(page: Page, url: str, *, vue_nodes: bool = False) -> None:
    """Load the frontend and leave out its greeting.

    Args:
        page: An empty page.
        url: The host's address.
        vue_nodes: Whether nodes are drawn as HTML rather than on the canvas.
    """
    page.set_default_timeout(READY_MS)
    settings = QUIET | {"Comfy.VueNodes.Enabled": vue_nodes}
    page.request.post(f"{url}/api/settings", data=settings)
    page.goto(url)
    page.wait_for_function("window.app && window.app.extensionManager", timeout=READY_MS)


def api_twin(page: Page, workflow: dict[str, Any]) -> dict[str, Any]:
    """Return the workflow in API format, as the frontend's own export makes it.

    Args:
        page: The frontend.
        workflow: In the frontend's format.
    """
    page.evaluate("workflow => app.loadGraphData(workflow)", workflow)
    twin: dict[str, Any] = page.evaluate("async () => (await app.graphToPrompt()).output")
    return twin


def screenshot(page: Page, target: Path) -> None:
    """Save the loaded workflow in its whole, without what stands around the canvas.

    Args:
        page: The frontend.
        target: A PNG file.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    page.add_style_tag(content=ONLY_THE_CANVAS)
    page.evaluate("app.extensionManager.command.execute('Comfy.Canvas.FitView')")
    page.wait_for_timeout(SETTLED_MS)
    page.screenshot(path=str(target))
