"""Shipped workflows, read by the real frontend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from shortened import lacks_its_nodes, skip_without_its_nodes

from glitch_demo.host import Host
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.relink import TRAINER, relink
from workflow_maker.__main__ import described
from workflow_maker.frontend import api_twin
from workflow_maker.shipped import shipped
from workflow_maker.ui_file import CORE_ID

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.host

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))


def as_other_hosts_have(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Return a workflow in API format without inputs that the host's own nodes have in it alone.

    And without the versions of packs, which frontend 1.58 writes beside a node's title.
    """
    told = {node: dict(entry) for node, entry in one.items()}
    for node, entry in told.items():
        entry["_meta"] = {"title": entry["_meta"]["title"]}
        if not entry["class_type"].startswith("Glitch"):
            known = other[node]["inputs"]
            entry["inputs"] = {
                name: entry["inputs"][name] for name in entry["inputs"] if name in known
            }
    return told


@pytest.fixture(params=NAMES)
def workflow(request: pytest.FixtureRequest) -> str:
    """The name of each shipped workflow in turn."""
    return request.param


def test_the_api_twin_is_what_the_frontend_makes(page: Page, workflow: str) -> None:
    """Catches a twin that drifted, a widget that moved, a node that changed, a broken link."""
    shown = json.loads((WORKFLOWS / f"{workflow}.json").read_text())
    twin = json.loads((WORKFLOWS / "api" / f"{workflow}.json").read_text())
    info = page.evaluate("async () => (await fetch('/api/object_info')).json()")
    skip_without_its_nodes(workflow, info)
    relink(twin, info)
    made = api_twin(page, shown)
    assert as_other_hosts_have(made, twin) == as_other_hosts_have(twin, made), "run: make workflows"


def test_every_workflow_is_what_its_description_makes(host: Host) -> None:
    """Catches a node or widget of ours that changed while the workflows did not."""
    with ComfyClient(host.address) as client:
        info = client.object_info()
    names = [name for name in NAMES if not lacks_its_nodes(name, info)]
    made = described(host, names)
    for name, workflow in made.items():
        kept = json.loads((WORKFLOWS / f"{name}.json").read_text())
        placed = _trainer(kept) == _trainer(workflow)
        one, other = (_of_any_host(each, placed=placed) for each in (kept, workflow))
        assert one == other, f"{name}: run make workflows"
    assert set(made) == set(names)
    assert {flow.name for flow in shipped()} == set(NAMES)


def _trainer(workflow: dict[str, Any]) -> list[list[str]]:
    """Return the inputs of ComfyUI's own trainers: with more of them, all that follows moves."""
    trainers = [node for node in workflow["nodes"] if node["type"] == TRAINER]
    return [[one["name"] for one in node["inputs"]] for node in trainers]


def _of_any_host(workflow: dict[str, Any], *, placed: bool) -> dict[str, Any]:
    """Return a workflow without the host's version and what its own nodes have beyond others'.

    Args:
        workflow: In the frontend's format.
        placed: Whether nodes and wires lie where they would with this host.
    """
    for node in workflow["nodes"]:
        if node["properties"].get("cnr_id") == CORE_ID:
            for name in ("inputs", "widgets_values", "outputs"):
                del node[name]
            del node["properties"]["ver"]
    if placed:
        return workflow
    ours = [node for node in workflow["nodes"] if node["properties"].get("cnr_id") != CORE_ID]
    return {node["id"]: (node["type"], node["title"], node["widgets_values"]) for node in ours}


def test_every_node_is_known(page: Page, workflow: str) -> None:
    """Catches a node that the template browser would show as missing."""
    shown = json.loads((WORKFLOWS / f"{workflow}.json").read_text())
    registered = page.evaluate("Object.keys(LiteGraph.registered_node_types)")
    skip_without_its_nodes(workflow, registered)
    page.evaluate("workflow => app.loadGraphData(workflow)", shown)
    unknown = page.evaluate("app.graph.nodes.filter(node => node.has_errors).map(n => n.type)")
    assert unknown == []
    assert {node["type"] for node in shown["nodes"]} <= set(registered)


def test_every_workflow_has_a_thumbnail_and_a_twin() -> None:
    """Catches a template that the browser lists without a picture."""
    for name in NAMES:
        assert (WORKFLOWS / f"{name}.jpg").is_file(), name
        assert (WORKFLOWS / "api" / f"{name}.json").is_file(), name


def test_the_template_browser_lists_them(page: Page) -> None:
    """Catches workflows where the frontend does not look."""
    listed = page.evaluate("async () => (await fetch('/api/workflow_templates')).json()")
    ours = [names for pack, names in listed.items() if "glitch" in pack.lower()]
    assert [sorted(names) for names in ours] == [NAMES]


def test_our_help_pages_are_served(page: Page) -> None:
    """Catches a node whose question mark shows nothing."""
    info = page.evaluate("async () => (await fetch('/api/object_info')).json()")
    ours = [name for name, node in info.items() if "glitch" in str(node["python_module"]).lower()]
    assert ours
    missing = [
        name
        for name in ours
        if page.evaluate(
            "async path => (await fetch(path)).status",
            f"/extensions/glitching-the-gaze/docs/{name}.md",
        )
        != 200
    ]
    assert missing == []


def test_every_input_has_a_tooltip(page: Page) -> None:
    """Catches an input that explains itself to nobody."""
    info = page.evaluate("async () => (await fetch('/api/object_info')).json()")
    silent = []
    for name, node in info.items():
        if "glitch" not in str(node["python_module"]).lower():
            continue
        for section in ("required", "optional"):
            for key, (_, *options) in node["input"].get(section, {}).items():
                if not (options and options[0].get("tooltip")):
                    silent.append(f"{name}.{key}")
    assert silent == []
