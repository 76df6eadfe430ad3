"""Every node of ours, added from the search box and connected by hand, in both renderers."""

from __future__ import annotations

from typing import Any

import pytest
from screen import Screen

pytestmark = pytest.mark.host

CHANGED = {
    "GlitchNetwork": ("conv_dim", 8), "GlitchOptimizer": ("optimizer", "Lion"),
    "GlitchNoiseAndLoss": ("noise_offset", 0.05), "GlitchSamples": ("sample_prompts", "a cat"),
    "GlitchStopping": ("stop_at_epochs", 3), "GlitchMemory": ("precision", "fp32"),
    "GlitchFraming": ("background", "#ff0088"), "GlitchCaptions": ("caption_swap", 0.5),
    "GlitchCorruptionText": ("corruption", "posterize"), "GlitchCache": ("cache", "keep"),
}  # fmt: skip
"""Every setting node with one of its widgets, and another value than it begins with."""
SET = """([id, name, value]) => {
    const widget = app.graph.getNodeById(id).widgets.find(widget => widget.name === name)
    widget.value = value
    widget.callback?.(value)
}"""
SLOT = "id => app.graph.getNodeById(id).inputs.findIndex(slot => slot.name === 'recipe')"
SAID = """id => app.nodeOutputs[id]?.text?.find(text => text.includes('| setting |'))"""

Sockets = list[tuple[str, int, str]]  # class, place, type


def ours(screen: Screen) -> dict[str, dict[str, Any]]:
    """Return what the host says about each node class of this pack."""
    info = screen.page.evaluate("async () => (await fetch('/api/object_info')).json()")
    return {
        name: node for name, node in info.items() if "glitch" in str(node["python_module"]).lower()
    }


def sockets(screen: Screen, ids: dict[str, int]) -> tuple[Sockets, Sockets]:
    """Return the outputs and the inputs without widget of the added nodes."""
    script = """([ids, side]) => Object.entries(ids).flatMap(([name, id]) =>
        app.graph.getNodeById(id)[side].map((slot, place) => [name, place, slot.type, slot])
            .filter(([, , , slot]) => !slot.widget).map(found => found.slice(0, 3)))"""
    outputs, inputs = (screen.page.evaluate(script, [ids, side]) for side in ("outputs", "inputs"))
    return outputs, inputs


def test_every_node_is_found_added_and_connected(screen: Screen) -> None:
    """Catches a node that the search box does not know, or whose sockets take no wire."""
    screen.forget()
    screen.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    screen.wait_for("app.graph.nodes.length === 0")
    ids = {}
    others = {name: node for name, node in ours(screen).items() if name not in CHANGED}
    for number, (name, node) in enumerate(others.items()):
        ids[name] = screen.add_node(node["display_name"], (number * 3000, 0))
        assert screen.page.evaluate("id => app.graph.getNodeById(id).type", ids[name]) == name
    outputs, inputs = sockets(screen, ids)
    taken: set[tuple[str, int]] = set()
    unconnected = set(ids)
    for source, output, kind in outputs:
        for target, slot, wanted in inputs:
            useful = {source, target} & unconnected and source != target
            if wanted == kind and useful and (target, slot) not in taken:
                screen.draw_wire(ids[source], output, ids[target], slot)
                taken.add((target, slot))
                unconnected -= {source, target}
    assert unconnected == set()
    assert screen.errors == []


@pytest.mark.slow
def test_every_setting_node_is_chained_and_heard(screen: Screen) -> None:
    """Catches a setting node that is not found, takes no chain, or whose widget says nothing."""
    screen.forget()
    screen.page.evaluate("app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    screen.wait_for("app.graph.nodes.length === 0")
    info = ours(screen)
    kinds = {name for name, one in info.items() if one["category"].endswith("/settings")}
    assert kinds == {*CHANGED, "GlitchGridSettings"}
    last = screen.add_node("Glitch Recipe", (0, 0))  # it begins with SDXL standard
    for number, (name, (widget, value)) in enumerate(CHANGED.items(), start=1):
        node = screen.add_node(info[name]["display_name"], (number * 3000, 0))
        screen.page.evaluate(SET, [node, widget, value])
        screen.draw_wire(last, 0, node, screen.page.evaluate(SLOT, node))
        last = node
    screen.page.evaluate("app.queuePrompt(0)")
    screen.wait_for(SAID, last)
    text = screen.page.evaluate(SAID, last)
    for name, (widget, value) in CHANGED.items():
        assert f"| {widget} | {value} | {info[name]['display_name']} |" in text
    assert "| steps | 8000 | SDXL standard |" in text
    assert "landscape_width: SDXL standard says 1216, Glitch Framing says 0" in text
    assert screen.errors == []
