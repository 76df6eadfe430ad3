"""Run, watch, cancel and fail in the real frontend, in both renderers."""

from __future__ import annotations

from typing import Any

import pytest
from running import IMAGES, PICTURES, SET, WATCH, WITH_PICTURES, nodes_of, press
from screen import IS_RED, PATIENCE_MS, Screen
from shortened import NAMES, TWINS, settings_changed

from glitch_demo.host import Host
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.graph import load_graph

pytestmark = [pytest.mark.host, pytest.mark.slow]

LIVE_PICTURE = f"""([id, vue]) => {{
    {IMAGES}
    app.canvas.setDirty(true, true)
    return images(id, vue).some(i => i.src.startsWith('blob:') && i.naturalWidth > 0)
}}"""
WITH_PREVIEW = ("GlitchLoraTrainer", "GlitchGrid", "KSampler")
REFUSED = "output_name must be a plain file name"
FAILED = (
    "learning_rate must be above 0: with 0 nothing is learnt; where Nodes 2.0 made 0 of a small "
    "number, set it in the classic nodes."
)
OUTLINED = f"""([id, vue]) => vue
    ? {IS_RED}(document.querySelector(`[data-node-id="${{id}}"]`))
    : Object.values(app.graph.getNodeById(id).strokeStyles).some(
        style => style.call(app.graph.getNodeById(id))?.color)"""


def largest() -> list[str]:
    """Return the workflows whose kinds of node no other has all of.

    The others show nothing more. They too are opened in both renderers and are what the API twins
    say (``test_opening``, ``test_workflows``), and the twins all run in tests/host.
    """
    kinds: dict[str, frozenset[str]] = {}
    for name in NAMES:
        graph = load_graph(TWINS / f"{name}.json")
        kind = frozenset(node["class_type"] for node in graph.values())
        if kind not in kinds.values():
            kinds[name] = kind
    return [name for name, kind in kinds.items() if not any(kind < one for one in kinds.values())]


def prepare(screen: Screen, host: Host, name: str = "demo", **trainer: Any) -> str:
    """Open a workflow with little to do, and watch it; return our trainer's id, empty for none."""
    host.free_memory()  # what the last one loaded
    screen.open_template(name)
    with ComfyClient(host.address) as client:
        settings = settings_changed(name, client.object_info())
    trainers = nodes_of(screen, "GlitchLoraTrainer")
    # Each renderer trains anew, and finds nothing in the host's cache.
    for node in nodes_of(screen, "GlitchLoraTrainer", "TrainLoraNode"):
        settings[node] |= {"seed": 1 + screen.vue, **(trainer if node in trainers else {})}
    screen.page.evaluate(SET, settings)
    screen.page.evaluate(WATCH)
    screen.forget()
    return next(iter(trainers), "")


@pytest.mark.parametrize("name", largest())
def test_run_shows_progress_preview_and_pictures(screen: Screen, host: Host, name: str) -> None:
    """Catches a workflow that stops, or runs and shows nothing, or only when it is done."""
    prepare(screen, host, name)
    press(screen, "Run")
    screen.wait_for("seen.ends.length > 0")
    seen = screen.page.evaluate("seen")
    assert seen["ends"][0][0] == "execution_success", seen["ends"]
    for trainer in nodes_of(screen, "GlitchLoraTrainer"):
        assert seen["steps"][trainer][-1] == [2, 2]
        assert [1, 2] in seen["steps"][trainer]
    assert set(seen["previewed"]) >= set(nodes_of(screen, *WITH_PREVIEW))
    screen.fit()
    screen.wait_for(PICTURES, [nodes_of(screen, *WITH_PICTURES), screen.vue])
    assert screen.errors == []


def test_the_curve_grows_and_cancel_keeps_the_lora(screen: Screen, host: Host) -> None:
    """Catches a curve that is not drawn, a Cancel button without effect, a loss of the work."""
    trainer = prepare(screen, host, steps=100_000, sample_every=0, output_name="cancelled")
    press(screen, "Run")
    screen.wait_for(LIVE_PICTURE, [trainer, screen.vue])
    press(screen, "Cancel current run")
    screen.wait_for("seen.ends.length > 0")
    ends = screen.page.evaluate("seen.ends")
    assert ends[0][:2] == ["execution_interrupted", trainer]
    assert list((host.base_dir / "models" / "loras").glob("cancelled_*.safetensors"))
    assert screen.errors == []


def test_a_refused_setting_is_told_at_its_node(screen: Screen, host: Host) -> None:
    """Catches a setting that is refused without anyone learning which and why."""
    trainer = prepare(screen, host, output_name="a/b")
    press(screen, "Run")
    screen.wait_for("id => Boolean(app.lastNodeErrors?.[id])", trainer)
    assert REFUSED in screen.page.evaluate("id => JSON.stringify(app.lastNodeErrors[id])", trainer)
    screen.page.get_by_text(REFUSED).first.wait_for(state="visible", timeout=PATIENCE_MS)
    screen.settle()
    assert screen.page.evaluate(OUTLINED, [trainer, screen.vue])


def test_an_error_shows_its_sentence(screen: Screen, host: Host) -> None:
    """Catches an error in the middle of a workflow that shows a traceback, or nothing."""
    trainer = prepare(screen, host, learning_rate=0)
    press(screen, "Run")
    # Of a workflow that was refused in part, the host runs the rest: its end may come first.
    screen.wait_for("seen.ends.some(([name]) => name === 'execution_error')")
    ends = screen.page.evaluate("seen.ends")
    _, node, message = next(end for end in ends if end[0] == "execution_error")
    assert node == trainer
    assert message.strip() == FAILED
    told = screen.page.get_by_text(FAILED).first
    details = screen.page.get_by_role("button", name="View details")  # in frontend 1.49
    told.or_(details).first.wait_for(timeout=PATIENCE_MS)
    if details.is_visible():
        details.click()
    told.wait_for(timeout=PATIENCE_MS)
    screen.page.keyboard.press("Escape")
