"""`python -m help_pictures`: writes web/docs/images, a node and what it does for each help page.

Needs Chromium, and trains the pocket checkpoint for a minute.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from glitch_demo.host import REPO_ROOT, Host
from glitch_train.comfyui.client import ComfyClient
from workflow_maker.frontend import (
    ONLY_THE_CANVAS,
    SETTLED_MS,
    chromium,
    chromium_path,
    open_frontend,
)

from .drawn import DRAWN
from .made import place_material, run

IMAGES = REPO_ROOT / "web" / "docs" / "images"
WIDEST_PX = 900
QUALITY = 78
VIEWPORT = {"width": 1900, "height": 1200}
PATIENCE_MS = 600_000
NODE_PX, EDGE_PX = 340, 12
ADD = """([name, width]) => {
    app.graph.clear()
    const node = LiteGraph.createNode(name)
    app.graph.add(node)
    node.pos = [0, 0]
    node.setSize([width, node.computeSize()[1]])
}"""
CHAIN = """async prompt => {
    app.graph.clear()
    await app.loadApiJson(prompt, 'chain')
    app.graph.nodes.forEach((node, number) => {
        node.pos = [number * 370, 0]
        node.setSize([340, node.type === 'PreviewAny' ? 420 : Math.min(node.computeSize()[1], 420)])
    })
    await app.queuePrompt(0)
}"""
SHOWN = "app.graph.nodes.filter(n => n.type === 'PreviewAny').every(n => app.nodeOutputs[n.id])"
PLACE = """edge => {
    const above = 50 + edge  // title, and the pack's name above it
    Object.assign(app.canvas.ds, { scale: 1, offset: [edge, above] })
    app.canvas.draw(true, true)
    const right = Math.max(...app.graph.nodes.map(node => node.pos[0] + node.size[0]))
    const bottom = Math.max(...app.graph.nodes.map(node => node.pos[1] + node.size[1]))
    const box = app.canvas.canvas.getBoundingClientRect()
    return { x: box.left, y: box.top, width: right + 2 * edge, height: bottom + above + edge }
}"""
CHAINED: dict[str, dict[str, Any]] = {
    "1": {
        "class_type": "GlitchRecipe",
        "inputs": {"preset": "SD1.5 standard", "settings": ""},
    },
    "2": {
        "class_type": "GlitchNetwork",
        "inputs": {"unet_blocks": "down+mid", "unet_layers": "self_attention", "recipe": ["1", 0]},
    },
    "3": {
        "class_type": "GlitchRecipe",
        "inputs": {"preset": "short (1200 steps)", "settings": "seed = 7", "recipe": ["2", 0]},
    },
    "4": {"class_type": "PreviewAny", "inputs": {"source": ["3", 1]}},
}
"""Two presets that disagree about the steps, and a setting node between them."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pictures of every help page, or of those named.

    Args:
        arguments: The command line without the program's name; `sys.argv` by default.
    """
    parser = argparse.ArgumentParser(prog="python -m help_pictures", description=__doc__)
    parser.add_argument("pages", nargs="*", help="node classes (default: all)")
    parser.add_argument("--untrained", action="store_true", help="leave out what takes a training")
    options = parser.parse_args(arguments)
    wanted = set(options.pages)
    path = chromium_path()
    if path is None:
        sys.stderr.write("There is no Chromium here, which draws the nodes: install it.\n")
        return 1
    IMAGES.mkdir(exist_ok=True)
    for page, draw in DRAWN.items():
        if not wanted or page in wanted:
            _save(draw(), f"{page}_effect")
    with tempfile.TemporaryDirectory() as folder, Host(Path(folder)) as host:
        place_material(host)
        with chromium(path) as browser:
            page = browser.new_page(viewport=VIEWPORT)
            open_frontend(page, host.url)
            page.add_style_tag(content=ONLY_THE_CANVAS)
            _show_nodes(page, host, wanted)
            _show_chain(page)
        for made in () if options.untrained else run(host):
            if not wanted or made.page in wanted:
                _save(made.picture, f"{made.page}_effect")
    return 0


def _show_nodes(page: Any, host: Host, wanted: set[str]) -> None:
    with ComfyClient(host.address) as client:
        ours = [name for name in client.object_info() if name.startswith("Glitch")]
    for name in ours:
        if not wanted or name in wanted:
            page.evaluate(ADD, [name, NODE_PX])
            _save(_seen(page), name)


def _show_chain(page: Any) -> None:
    page.evaluate(CHAIN, CHAINED)
    page.wait_for_function(SHOWN, timeout=PATIENCE_MS)
    page.wait_for_timeout(SETTLED_MS)
    _save(_seen(page), "GlitchRecipe_effect")


def _seen(page: Any) -> Image.Image:
    """Return the graph as it is drawn, and no more."""
    page.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    page.evaluate(PLACE, EDGE_PX)
    page.wait_for_timeout(SETTLED_MS // 3)  # until text boxes stand where their node does
    return Image.open(io.BytesIO(page.screenshot(clip=page.evaluate(PLACE, EDGE_PX))))


def _save(picture: Image.Image, name: str) -> None:
    """Write a picture small enough to be downloaded with the pack."""
    picture = picture.convert("RGB")
    picture.thumbnail((WIDEST_PX, WIDEST_PX), Image.Resampling.LANCZOS)
    picture.save(IMAGES / f"{name}.webp", quality=QUALITY, method=6)
    sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    sys.exit(main())
