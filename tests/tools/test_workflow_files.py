"""Shipped workflows as files: whole links, a layout that a person can read, models to fetch."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from glitch_train.dataset.folder_choice import NOT_CHOSEN
from glitch_train.recipe.experiments import EXPERIMENTS

WORKFLOWS = Path(__file__).parents[2] / "workflows"
NAMES = sorted(path.stem for path in WORKFLOWS.glob("*.json"))
FURTHER = {
    "demo",
    "cross_model_sdxl_to_sd15",
    "cross_model_sd15_to_sdxl",
    "resume_and_overtrain",
    "compare_runs",
    "generation_sweep",
}
TITLE_PX, SLOT_PX, FIRST_SLOT_PX = 30, 20, 14
SPLINE = 0.25
"""How far LiteGraph's control points lie from the ends, as a share of their distance."""
MOST_PX = 80
"""And at most so far at a bend."""
THUMBNAIL_BYTES = 60_000
GREEN = "#232"
CROSS = {"mismatched_base", "cross_model_sdxl_to_sd15", "cross_model_sd15_to_sdxl"}
FILE_ENDINGS = (".safetensors", ".ckpt", ".png", ".jpg", "*")
EMPTY_IS_FINE = {
    ("GlitchRecipe", "settings"),  # the preset alone
    ("GlitchDatasetLoader", "trigger_word"),  # none
    ("GlitchReport", "prompts"),  # for a vision model that is not connected
    ("GlitchGrid", "negative"),
    ("GlitchGridSettings", "negative"),  # none
    ("GlitchGridSettings", "lora_names"),  # the LoRA is connected
    ("CLIPTextEncode", "text"),  # no negative prompt
    ("PreviewAny", "preview"),  # filled by the run
}

Point = tuple[float, float]


def read(name: str, folder: str = "") -> dict[str, Any]:
    """Return a workflow's file."""
    return json.loads((WORKFLOWS / folder / f"{name}.json").read_text("utf-8"))


def boxes(workflow: dict[str, Any]) -> dict[int, tuple[float, float, float, float]]:
    """Return left, top with title, right and bottom of each node by its id."""
    return {
        node["id"]: (
            node["pos"][0],
            node["pos"][1] - TITLE_PX,
            node["pos"][0] + node["size"][0],
            node["pos"][1] + node["size"][1],
        )
        for node in workflow["nodes"]
    }


def wires(workflow: dict[str, Any]) -> list[tuple[list[Any], list[Point]]]:
    """Return each link with points along the curve that the frontend draws for it."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    bends = {bend["id"]: bend for bend in workflow["extra"].get("reroutes", [])}
    last = {one["id"]: one["parentId"] for one in workflow["extra"].get("linkExtensions", [])}
    found = []
    for link in workflow["links"]:
        source, target = nodes[link[1]], nodes[link[3]]
        way: list[Point] = []
        bend = last.get(link[0])
        while bend is not None:
            way.insert(0, tuple(bends[bend]["pos"]))
            bend = bends[bend].get("parentId")
        start = source["pos"][0] + source["size"][0], slot_y(source, link[2])
        end = target["pos"][0], slot_y(target, link[4])
        found.append((link, curve([start, *way, end])))
    return found


def slot_y(node: dict[str, Any], slot: int) -> float:
    return node["pos"][1] + FIRST_SLOT_PX + SLOT_PX * slot


def curve(way: list[Point]) -> list[Point]:
    """Return points along the way, bent as between LiteGraph's sockets."""
    found: list[Point] = []
    for a, b in itertools.pairwise(way):
        reach = SPLINE * ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) ** 0.5
        reach = 0.0 if a[0] == b[0] or a[1] == b[1] else reach
        reach = min(reach, MOST_PX) if len(way) > 2 else reach
        for step in range(41):
            t = step / 40
            weights = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            xs = a[0], a[0] + reach, b[0] - reach, b[0]
            ys = a[1], a[1], b[1], b[1]
            found.append(
                (
                    sum(w * x for w, x in zip(weights, xs, strict=True)),
                    sum(w * y for w, y in zip(weights, ys, strict=True)),
                )
            )
    return found


def test_every_preset_has_its_workflow() -> None:
    """Catches an experiment that is offered in the node and ships no workflow."""
    assert set(EXPERIMENTS) | FURTHER == set(NAMES)


def test_slugs_are_file_names_and_stay() -> None:
    """Catches a name that a changed title took along."""
    slugs = list(EXPERIMENTS)
    assert slugs[:3] == ["sdxl_standard", "sd15_standard", "sd15_uncropped_portraits"]
    assert all(slug.replace("_", "a").isalnum() and slug == slug.lower() for slug in slugs)


@pytest.mark.parametrize("name", NAMES)
def test_no_node_covers_another(name: str) -> None:
    """Catches a node that grew over its neighbour."""
    placed = boxes(read(name))
    for (one, a), (other, b) in itertools.combinations(placed.items(), 2):
        apart = a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
        assert apart, (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_no_wire_runs_behind_a_node(name: str) -> None:
    """Catches a wire that one cannot follow."""
    workflow = read(name)
    placed = boxes(workflow)
    for link, points in wires(workflow):
        for node, (left, top, right, bottom) in placed.items():
            inside = [p for p in points if left + 1 < p[0] < right - 1 and top < p[1] < bottom]
            assert not inside, (link, node)


@pytest.mark.parametrize("name", NAMES)
def test_wires_go_straight_or_at_right_angles(name: str) -> None:
    """Catches a wire that runs aslant across half the canvas, where nobody can follow it."""
    for link, points in wires(read(name)):
        for one, other in itertools.pairwise(points):
            across, down = abs(one[0] - other[0]), abs(one[1] - other[1])
            is_short = abs(points[0][0] - points[-1][0]) < 300 and len(points) == 41
            assert is_short or min(across, down) < 1, link


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_and_a_checkpoint_are_all_there_is_to_choose(name: str) -> None:
    """Catches a second loader of one model, a folder chosen for the user, a text to fill in.

    A workflow asks for what stands green; the demo's choices are placed by its command.
    """
    nodes = {node["id"]: node for node in read(name)["nodes"]}
    twin = read(name, "api")
    inputs = {key: entry["inputs"] for key, entry in twin.items()}
    made = {values["output_name"] for values in inputs.values() if "output_name" in values}
    chosen = []
    for key, values in inputs.items():
        for widget, value in values.items():
            if widget in ("folder", "ckpt_name"):
                chosen.append((twin[key]["class_type"], widget, value))
                assert nodes[int(key)]["color"] == GREEN
            elif value == "":
                assert (twin[key]["class_type"], widget) in EMPTY_IS_FINE
            elif isinstance(value, str) and any(end in value for end in FILE_ENDINGS):
                assert any(value.startswith(f"{one}_") for one in made), (key, widget, value)
    checkpoints = [value for _, widget, value in chosen if widget == "ckpt_name"]
    folders = [value for _, widget, value in chosen if widget == "folder"]
    assert len(set(checkpoints)) == len(checkpoints) == (2 if name in CROSS else 1)
    assert folders == ["glitch_demo_pictures" if name == "demo" else NOT_CHOSEN]
    assert sum(node.get("color") == GREEN for node in nodes.values()) == len(chosen)


@pytest.mark.parametrize("name", NAMES)
def test_the_note_says_what_to_choose(name: str) -> None:
    """Catches a note whose reader has to search for what to do first."""
    (note,) = [node for node in read(name)["nodes"] if node["type"] == "MarkdownNote"]
    first, then, *_ = note["widgets_values"][0].split("\n\n")
    wanted = "two checkpoints, of" if name in CROSS else "checkpoint"
    assert "green" in first
    assert "folder" in first
    assert wanted in first
    assert "press **Run**" in first.replace("Press", "press") + then.replace("Press", "press")


@pytest.mark.parametrize("name", NAMES)
def test_the_app_view_asks_and_shows(name: str) -> None:
    """Catches a form without a choice, or with a widget or result that the graph does not have."""
    workflow = read(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    form = workflow["extra"]["linearData"]
    asked = [(nodes[node]["type"], widget) for node, widget in form["inputs"]]
    for node, widget in form["inputs"]:
        assert widget in [one["name"] for one in nodes[node]["inputs"] if "widget" in one]
    must = [("GlitchDatasetLoader", "folder"), ("CheckpointLoaderSimple", "ckpt_name")]
    must += must[1:] if name in CROSS else []
    assert asked[: len(must)] == must
    assert 1 <= len(asked) - len(must) <= 4
    shown = [nodes[node]["type"] for node in form["outputs"]]
    assert shown[:3] == ["GlitchContactSheet", "GlitchLoraTrainer", "GlitchLossGraph"] or (
        name == "compare_runs"
    )
    every = {node["type"] for node in nodes.values()}
    wanted = every & {"PreviewAny", "GlitchGrid", "GlitchReport", "SaveImage"}
    assert wanted <= set(shown)


@pytest.mark.parametrize("name", NAMES)
def test_links_are_whole_on_both_sides(name: str) -> None:
    """Catches a link that a node's input or output does not know of."""
    workflow = read(name)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    assert workflow["last_link_id"] == len(workflow["links"])
    for number, source, output, target, slot, kind in workflow["links"]:
        assert number in nodes[source]["outputs"][output]["links"]
        assert nodes[target]["inputs"][slot]["link"] == number
        assert nodes[target]["inputs"][slot]["type"] in (kind, "*")
        assert nodes[source]["outputs"][output]["type"] == kind


@pytest.mark.parametrize("name", NAMES)
def test_it_can_be_read(name: str) -> None:
    """Catches a workflow without titled groups or without a note."""
    workflow = read(name)
    assert all(group["title"] for group in workflow["groups"])
    assert len(workflow["groups"]) >= 3
    (note,) = [node for node in workflow["nodes"] if node["type"] == "MarkdownNote"]
    assert len(note["widgets_values"][0]) > 200


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"demo"}))
def test_every_checkpoint_says_where_it_can_be_had(name: str) -> None:
    """Catches a loader whose file the missing-model dialog cannot offer."""
    loaders = [n for n in read(name)["nodes"] if n["type"] == "CheckpointLoaderSimple"]
    assert loaders
    for loader in loaders:
        (model,) = loader["properties"]["models"]
        assert model["name"] == loader["widgets_values"][0]
        assert model["directory"] == "checkpoints"
        assert model["url"].startswith("https://huggingface.co/")
        assert model["url"].endswith(f"/resolve/main/{model['name']}")


@pytest.mark.parametrize("name", NAMES)
def test_a_small_thumbnail_and_a_twin_lie_beside_it(name: str) -> None:
    """Catches a template that the browser lists without a picture, or with a slow one."""
    assert 4_000 < (WORKFLOWS / f"{name}.jpg").stat().st_size < THUMBNAIL_BYTES
    assert read(name, "api")
