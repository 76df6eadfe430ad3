"""Every node of ours, added from the search box and connected by hand, in both renderers."""

from __future__ import annotations

from typing import Any

import pytest
from screen import Screen

pytestmark = pytest.mark.host

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
    for number, (name, node) in enumerate(ours(screen).items()):
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
