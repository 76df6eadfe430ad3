"""As a new user: from the template browser to a finished run, with two choices and nothing else."""

from __future__ import annotations

from typing import Any

import pytest
from running import PICTURES, SET, WATCH, WITH_PICTURES, nodes_of, press
from screen import PATIENCE_MS, VALUE, Screen
from shortened import FOLDER, settings_changed

from glitch_demo.host import Host
from glitch_train.comfyui.client import ComfyClient

pytestmark = [pytest.mark.host, pytest.mark.slow]

NAME, CHECKPOINT = "sd15_standard", "pocket_sd15.safetensors"
NOTICES = ".p-toast-message, [data-testid=toast]"  # the latter since frontend 1.58
IN_SIGHT = """titles => titles.every(title => {
    const [x, y, width, height] = app.graph.nodes.find(node => node.title === title).boundingRect
    const { scale, offset } = app.canvas.ds
    const [left, top] = [(x + offset[0]) * scale, (y + offset[1]) * scale]
    return scale > 0.7 && left > 0 && top > 0
        && left + width * scale < window.innerWidth && top + height * scale < window.innerHeight
})"""
BEGINNING = ["What to look for", "Base model · SD1.5", "Pictures", "Recipe: SD1.5 standard"]


def open_small(screen: Screen, host: Host, seed: int) -> tuple[int, int]:
    """Open the workflow, a small one; return the nodes in which there is something to choose."""
    screen.choose_template(NAME)
    screen.wait_for(IN_SIGHT, BEGINNING)
    with ComfyClient(host.address) as client:
        settings = settings_changed(NAME, client.object_info())
    for values in settings.values():  # what a person chooses
        for choice in ("folder", "ckpt_name"):
            values.pop(choice, None)
    (trainer,) = nodes_of(screen, "GlitchLoraTrainer")
    settings[trainer]["seed"] = seed
    screen.page.evaluate(SET, settings)
    screen.page.evaluate(WATCH)
    screen.forget()
    (loader,) = nodes_of(screen, "GlitchDatasetLoader")
    (base,) = nodes_of(screen, "CheckpointLoaderSimple")
    return int(loader), int(base)


def refused(screen: Screen, *said: str) -> None:
    """Wait for the one notice, read it and close it."""
    notice = screen.page.locator(NOTICES).filter(has_text="Still to choose")
    notice.wait_for(timeout=PATIENCE_MS)
    text = notice.inner_text()
    assert all(part in text for part in said), text
    assert screen.page.locator(NOTICES).count() == 1
    notice.locator("button").click()
    notice.wait_for(state="detached", timeout=PATIENCE_MS)
    screen.page.keyboard.press("Escape")  # the host's own list of faults, where it is a dialog
    screen.page.locator(".p-dialog-mask").wait_for(state="detached", timeout=PATIENCE_MS)


def ended(screen: Screen) -> list[Any]:
    """Wait for the end of a run, and return it."""
    screen.wait_for("seen.ends.length > 0")
    ends: list[Any] = screen.page.evaluate("seen.ends")
    return ends


def test_two_choices_and_run(screen: Screen, host: Host) -> None:
    """Catches a first view that shows no choice, a third choice, and a refusal without a word."""
    loader, base = open_small(screen, host, seed=101 + screen.vue)
    shipped = screen.page.evaluate(VALUE, [base, "ckpt_name"])
    screen.page.evaluate(SET, {str(base): {"ckpt_name": "not_here.safetensors"}})
    press(screen, "Run")
    refused(screen, "ckpt_name in “Base model · SD1.5”", "folder in “Pictures”")
    screen.page.evaluate(SET, {str(base): {"ckpt_name": shipped}})  # which the tests' host has
    screen.choose(loader, "folder", FOLDER)
    screen.choose(base, "ckpt_name", CHECKPOINT)
    screen.forget()
    screen.page.evaluate(WATCH)  # of what was refused, the rest has run
    press(screen, "Run")
    assert ended(screen)[0][0] == "execution_success"
    screen.fit()
    screen.wait_for(PICTURES, [nodes_of(screen, *WITH_PICTURES), screen.vue])
    assert screen.errors == []


def test_the_app_view_chooses_runs_and_shows(screen: Screen, host: Host) -> None:
    """Catches a form that lacks a choice, does not run, or hides what was made."""
    page = screen.page
    if not page.get_by_test_id("view-mode-toggle").count():
        pytest.skip("this frontend has no app view; 1.49 and later do")
    open_small(screen, host, seed=201 + screen.vue)
    press(screen, "Enter app mode")
    form = page.get_by_test_id("linear-widgets")
    form.first.wait_for(timeout=PATIENCE_MS)
    tour = page.get_by_text("Skip", exact=True)
    if tour.is_visible():
        tour.click()
    try:
        for now, value in (
            ("choose a folder below input/", FOLDER),
            ("v1-5-pruned-emaonly-fp16.safetensors", CHECKPOINT),
        ):
            form.get_by_text(now, exact=True).first.click(timeout=PATIENCE_MS)
            page.locator("[role=option]").filter(has_text=value).first.click(timeout=PATIENCE_MS)
        page.get_by_role("button", name="Run").last.click(timeout=PATIENCE_MS)
        assert ended(screen)[0][0] == "execution_success"
        page.get_by_test_id("linear-image-output").first.wait_for(timeout=PATIENCE_MS)
        assert screen.errors == []
    finally:
        page.evaluate("app.extensionManager.command.execute('Comfy.ToggleLinear')")
