"""Run, watch, cancel and fail in the real frontend, in both renderers."""

from __future__ import annotations

from typing import Any

import pytest
from screen import PATIENCE_MS, Screen

from glitch_demo.host import Host

pytestmark = [pytest.mark.host, pytest.mark.slow]

LITTLE = {
    "GlitchLoraTrainer": {"steps": 4, "warmup_steps": 0, "probe_every": 0, "network_dim": 4},
    "GlitchDatasetLoader": {"width": 64, "height": 64, "variants_per_picture": 1},
    "EmptyLatentImage": {"width": 64, "height": 64, "batch_size": 1},
    "KSampler": {"steps": 1},
}
SET = """settings => { for (const node of app.graph.nodes)
    for (const [name, value] of Object.entries(settings[node.type] ?? {}))
        node.widgets.find(widget => widget.name === name).value = value }"""
WATCH = """() => {
    const trainer = app.graph.nodes.find(node => node.type === 'GlitchLoraTrainer')
    const seen = window.seen = {
        trainer: trainer.id, steps: [], previews: 0, shown: false, ends: []
    }
    window.listeners?.abort()
    const { signal } = window.listeners = new AbortController()
    const on = (name, call) => app.api.addEventListener(name, call, { signal })
    const { value: all } = trainer.widgets.find(widget => widget.name === 'steps')
    on('progress', ({ detail }) => {  // of the training, not of the encoding before it
        if (String(detail.node) === String(trainer.id) && detail.max === all)
            seen.steps.push(detail.value)
    })
    for (const name of ['b_preview', 'b_preview_with_metadata'])
        on(name, () => { seen.previews += 1
            setTimeout(() => {  // after the frontend's own listener
                seen.shown ||= Boolean(app.nodePreviewImages[String(trainer.id)]?.length)
            }) })
    for (const name of ['execution_success', 'execution_error', 'execution_interrupted'])
        on(name, ({ detail }) => seen.ends.push(
            [name, String(detail.node_id), detail.exception_message]))
}"""
PICTURES = """([types, vue]) => app.graph.nodes.filter(n => types.includes(n.type)).every(node => {
    const images = vue
        ? [...document.querySelectorAll(`[data-node-id="${node.id}"] img`)]
        : node.imgs ?? []
    return app.nodeOutputs[String(node.id)]?.images?.length
        && images.some(image => image.naturalWidth > 0)
})"""
WITH_PICTURES = ["GlitchContactSheet", "GlitchLoraTrainer", "GlitchLossGraph", "SaveImage"]
REFUSED = "output_name must be a plain file name"
FAILED = "timestep_min must not be above timestep_max, got 900 and 100."
OUTLINED = """vue => vue
    ? /(border|outline)-\\S*error/.test(
        document.querySelector(`[data-node-id="${seen.trainer}"]`).className)
    : Object.values(app.graph.getNodeById(seen.trainer).strokeStyles).some(
        style => style.call(app.graph.getNodeById(seen.trainer))?.color)"""


def prepare(screen: Screen, **trainer: Any) -> None:
    """Open the demo with little to do, and watch it."""
    screen.open_template("demo")
    screen.page.evaluate(SET, LITTLE | {"GlitchLoraTrainer": LITTLE["GlitchLoraTrainer"] | trainer})
    screen.page.evaluate(WATCH)
    screen.forget()


def press(screen: Screen, label: str) -> None:
    """Press a button of the bar at the top."""
    screen.page.locator(f"button[aria-label='{label}']").click()


def test_run_shows_progress_preview_and_pictures(screen: Screen) -> None:
    """Catches a workflow that runs and shows nothing, or only when it is done."""
    prepare(screen)
    press(screen, "Run")
    screen.wait_for("seen.ends.length > 0")
    seen = screen.page.evaluate("seen")
    assert seen["ends"][0][0] == "execution_success", seen["ends"]
    assert seen["steps"][-1] == 4
    assert len(set(seen["steps"])) >= 3
    assert seen["previews"] > 0
    assert seen["shown"]
    screen.fit()
    screen.wait_for(PICTURES, [WITH_PICTURES, screen.vue])
    assert screen.errors == []


def test_cancel_stops_the_training_and_keeps_the_lora(screen: Screen, host: Host) -> None:
    """Catches a Cancel button that the trainer does not hear, or that loses what was trained."""
    prepare(screen, steps=100_000, output_name="cancelled")
    press(screen, "Run")
    screen.wait_for("seen.steps.some(step => step >= 2)")
    press(screen, "Cancel current run")
    screen.wait_for("seen.ends.length > 0")
    ends = screen.page.evaluate("seen.ends")
    assert ends[0][:2] == ["execution_interrupted", str(screen.page.evaluate("seen.trainer"))]
    assert list((host.base_dir / "models" / "loras").glob("cancelled_*.safetensors"))
    assert screen.errors == []


def test_a_refused_setting_is_told_at_its_node(screen: Screen) -> None:
    """Catches a setting that is refused without anyone learning which and why."""
    prepare(screen, output_name="a/b")
    press(screen, "Run")
    screen.wait_for("Boolean(app.lastNodeErrors?.[String(seen.trainer)])")
    told = screen.page.evaluate("JSON.stringify(app.lastNodeErrors[String(seen.trainer)])")
    assert REFUSED in told
    screen.settle()
    assert screen.page.evaluate(OUTLINED, screen.vue)


def test_an_error_shows_its_sentence(screen: Screen) -> None:
    """Catches an error in the middle of a workflow that shows a traceback, or nothing."""
    prepare(screen, timestep_min=900, timestep_max=100)
    press(screen, "Run")
    # Of a workflow that was refused in part, the host runs the rest: its end may come first.
    screen.wait_for("seen.ends.some(([name]) => name === 'execution_error')")
    ends = screen.page.evaluate("seen.ends")
    _, node, message = next(end for end in ends if end[0] == "execution_error")
    assert node == str(screen.page.evaluate("seen.trainer"))
    assert message.strip() == FAILED
    screen.page.get_by_text(FAILED).first.wait_for(state="visible", timeout=PATIENCE_MS)
    screen.page.keyboard.press("Escape")
