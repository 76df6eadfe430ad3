"""Every node is as tall as what it shows, in both renderers; a screenshot of each is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from screen import Screen

from workflow_maker.frontend import SETTLED_MS

pytestmark = pytest.mark.host

OPENED = ("demo", "sd15_standard", "generation_sweep")
LEAST_TEXT_PX = 70  # of a text box without a text, in the frontend's own nodes too
EMPTY_PX = {False: 40, True: LEAST_TEXT_PX}  # of one without a text: one line, in classic nodes
SLACK_PX = 30
PREVIEW_PX = 300
WITHOUT_TEXT = {
    *("GlitchContactSheet", "GlitchLoraTrainer", "GlitchLossGraph", "GlitchCrossModelLoraApplier")
}
"""Nodes that open with room for their picture: they have nothing else that would fill it."""
ADD = """async () => {
    const info = await (await fetch('/api/object_info')).json()
    let x = 0
    for (const [name, { python_module }] of Object.entries(info)) {
        if (!/glitch/i.test(python_module)) continue
        const node = LiteGraph.createNode(name)
        app.graph.add(node)
        node.pos = [x, 0]
        x += Math.max(node.size[0], 400) + 60
    }
}"""
ONE = """() => {
    const node = LiteGraph.createNode('GlitchRecipe')
    app.graph.add(node)
    node.pos = [0, 0]
    Object.assign(app.canvas.ds, { scale: 1, offset: [300, 200] })
    app.canvas.setDirty(true, true)
}"""
LINES = 7
FITS = """[...document.querySelectorAll('textarea')].filter(box => box.offsetParent)
    .every(box => box.value.length > 80 && box.scrollHeight <= box.clientHeight)"""
OURS = "app.graph.nodes.filter(node => node.type.startsWith('Glitch'))"
CLASSIC = f"""() => {{
    Object.assign(app.canvas.ds, {{ scale: 0.1, offset: [1000, 1000] }})
    app.canvas.draw(true, true)  // which lays the widgets out, of nodes in sight
    return {OURS}.map(node => {{
        const drawn = node.widgets.filter(widget => node.isWidgetVisible(widget))
        const end = Math.max(...drawn.map(widget => widget.y + (widget.computedHeight ?? 24)))
        return [node.type, node.size[1] - end]
    }})
}}"""
"""Of each node: its class, and the empty pixels below its widgets."""
HTML = f"""least => {OURS}.map(node => {{
    const element = document.querySelector(`[data-node-id="${{node.id}}"]`)
    const boxes = [...element.querySelectorAll('textarea')]
    const empty = boxes.map(box => {{
        const height = box.clientHeight
        const {{ minHeight, height: before }} = box.style
        Object.assign(box.style, {{ minHeight: '0', height: '0' }})
        const needed = Math.max(least, box.scrollHeight)
        Object.assign(box.style, {{ minHeight, height: before }})
        return height - needed
    }})
    return [node.type, empty.reduce((sum, one) => sum + one, 0) / (boxes.length || 1)]
}})"""
"""The same; the empty pixels are those of a text box beyond its text, on an average."""


def room(screen: Screen) -> list[Any]:
    """Return class and empty pixels of each node of ours."""
    screen.settle()
    return screen.page.evaluate(HTML if screen.vue else CLASSIC, LEAST_TEXT_PX)


def keep_picture(screen: Screen, name: str, tmp_path: Path) -> None:
    """Save a screenshot, below the folder in SCREENSHOTS where that is set."""
    folder = Path(os.environ.get("SCREENSHOTS") or tmp_path)
    frontend = screen.page.evaluate("window.__COMFYUI_FRONTEND_VERSION__")
    renderer = "vue" if screen.vue else "classic"
    screen.page.screenshot(path=folder / f"{frontend}_{renderer}" / f"{name}.png")


def add_all(screen: Screen) -> None:
    """Begin a workflow with one new node of each class of ours."""
    screen.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    screen.wait_for("app.graph.nodes.length === 0")
    screen.page.evaluate(ADD)
    if screen.vue:
        screen.fit()
        screen.wait_for("app.graph.nodes.every(node =>"
                        " document.querySelector(`[data-node-id=\"${node.id}\"]`))")  # fmt: skip


def test_a_new_node_is_as_tall_as_what_it_shows(screen: Screen, tmp_path: Path) -> None:
    """Catches a node much taller than its widgets, and a text box that fills the rest."""
    screen.forget()
    add_all(screen)
    for name, empty in room(screen):
        assert empty <= SLACK_PX, (name, empty)
        node = f"app.graph.nodes.find(node => node.type === '{name}')"
        screen.page.evaluate(
            f"app.canvas.ds.scale = 1; app.canvas.ds.offset = "
            f"[300 - {node}.pos[0], 150]; app.canvas.setDirty(true, true)"
        )
        screen.settle()
        keep_picture(screen, name, tmp_path)
    assert screen.errors == []


def test_a_text_box_grows_with_its_text(screen: Screen) -> None:
    """Catches empty boxes of several lines, and one line in which nobody sees what is written."""
    screen.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    screen.wait_for("app.graph.nodes.length === 0")
    screen.page.evaluate(ONE)
    box = screen.page.locator("textarea:visible")
    assert box.evaluate("box => box.clientHeight") <= EMPTY_PX[screen.vue]
    box.click()
    for line in range(LINES):
        screen.page.keyboard.type(f"repeats = {line}")
        screen.page.keyboard.press("Enter")
    screen.wait_for(FITS)


@pytest.mark.parametrize("name", OPENED)
def test_a_workflow_opens_with_nodes_of_their_height(
    screen: Screen, tmp_path: Path, name: str
) -> None:
    """Catches sizes in the shipped files that leave a text box of a thousand empty pixels."""
    screen.open_template(name)
    for kind, empty in room(screen):
        allowed = SLACK_PX + (PREVIEW_PX if kind in WITHOUT_TEXT else 0)
        assert empty <= allowed, (kind, empty)
    screen.fit()
    screen.page.wait_for_timeout(SETTLED_MS)
    keep_picture(screen, name, tmp_path)
