"""Every shipped workflow, opened from the template browser in both renderers."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from screen import IS_RED, WORKFLOWS, Screen

pytestmark = pytest.mark.host

NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
TROUBLE = """vue => ({
    missing: app.graph.nodes.filter(n => !(n.type in LiteGraph.registered_node_types))
        .map(n => n.type),
    red: app.graph.nodes.filter(n => n.has_errors).map(n => n.title),
    red_html: [...document.querySelectorAll('[data-node-id]')]
        .filter(IS_RED).map(n => n.dataset.nodeId),
    dialogs: [...document.querySelectorAll('.p-dialog')].map(d => d.innerText)
        .filter(text => /missing|error|not found/i.test(text)),
})""".replace("IS_RED", IS_RED)
CALM: dict[str, Any] = {"missing": [], "red": [], "red_html": [], "dialogs": []}


@pytest.mark.parametrize("name", NAMES)
def test_it_opens_without_trouble(screen: Screen, name: str) -> None:
    """Catches a missing node or model, a red border, a console error, nodes over each other."""
    screen.forget()
    screen.open_template(name)
    assert screen.page.evaluate(TROUBLE, screen.vue) == CALM
    for (one, a), (other, b) in itertools.combinations(screen.rectangles().items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, f"{one} and {other} overlap"
    assert screen.errors == []
