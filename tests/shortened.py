"""The shipped workflows with little to do, on the pocket checkpoints, for tests that run them."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import Any

import pytest
from fewer_layers import SMALLER_SDXL

from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.graph import is_link, load_graph, nodes_of
from glitch_train.comfyui.overrides import with_overrides

TWINS = Path(__file__).parents[1] / "workflows" / "api"
NAMES = sorted(path.stem for path in TWINS.glob("*.json"))
FOLDER = "workflow_pictures"
POCKETS = {
    "v1-5-pruned-emaonly-fp16.safetensors": "pocket_sd15.safetensors",
    "sd_xl_base_1.0.safetensors": SMALLER_SDXL,
    "sd3.5_medium_incl_clips_t5xxlfp8scaled.safetensors": "pocket_sd15.safetensors",
}
SHORT = [
    f"folder={FOLDER}", "steps=2", "width=64", "height=64", "landscape_width=0",
    "landscape_height=0", "network_dim=4", "probe_every=0", "repeats=1", "variants_per_picture=1",
]  # fmt: skip
SMALL_GRID = ["prompts=a ginger cat", "seeds=0", "sizes=64x64", "steps=1", "cfg=1"]
SWEPT = {
    "Steps 5 to 21": ["steps=1-3"],
    "CFG 1 to 20": ["cfg=1, 20"],
    "LoRA strength": ["strength=0.5, 2"],
    "Odd aspect ratios": ["sizes=64x72, 96x64"],
}
"""What each sweep of generation_sweep varies, as little as shows that it does."""


def lacks_its_nodes(name: str, node_types: Container[str]) -> bool:
    """Return whether a workflow needs a node that an older host has not.

    Args:
        name: One of `NAMES`.
        node_types: The nodes that the host has.
    """
    return name == "other_families" and "MakeTrainingDataset" not in node_types


def skip_without_its_nodes(name: str, node_types: Container[str]) -> None:
    """Skip a test of a workflow that needs a node which older hosts lack."""
    if lacks_its_nodes(name, node_types):
        pytest.skip("this ComfyUI has no Make Training Dataset: 0.3.75 is the first that was tried")


def place_pictures_of_workflows(base_dir: Path) -> None:
    """Put two small pictures with captions into a host's input folder, once.

    Args:
        base_dir: The host's folder.
    """
    folder = base_dir / "input" / FOLDER
    if not folder.exists():
        write_picture_folder(folder, demo_photos()[:2], pictures_per_photo=1, size_px=96)


def shortened(name: str, object_info: dict[str, Any]) -> dict[str, Any]:
    """Return the API twin of a shipped workflow with little to do, on the pocket checkpoints.

    Args:
        name: One of `NAMES`.
        object_info: What the host says of its nodes.
    """
    graph = load_graph(TWINS / f"{name}.json")
    for node in nodes_of(graph, "CheckpointLoaderSimple"):
        inputs = graph[node]["inputs"]
        inputs["ckpt_name"] = POCKETS.get(inputs["ckpt_name"], inputs["ckpt_name"])
    settings = [*SHORT, "sample_every=1", "sample_steps=1", "sample_cfg=1"]
    if not nodes_of(graph, "GlitchLoraTrainer"):  # ComfyUI's own trainer: no recipe reaches it
        settings = [f"folder={FOLDER}", "width=64", "height=64", "TrainLoraNode.steps=2"]
    if name == "resume_and_overtrain":
        settings.append("save_every=1")
    if nodes_of(graph, "GlitchGrid"):
        settings += [f"GlitchGrid.{one}" for one in SMALL_GRID]
    if nodes_of(graph, "GlitchReport"):
        settings.append("probe_prompts=a cat\na dog")
    if name == "generation_sweep":
        settings += [f"{title}.{one}" for title, axis in SWEPT.items() for one in axis]
    if nodes_of(graph, "KSampler"):
        settings += ["KSampler.steps=1", "EmptyLatentImage.width=64", "EmptyLatentImage.height=64"]
    return with_overrides(graph, settings, object_info)


def settings_changed(name: str, object_info: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return what a person would set for `shortened`: values of widgets, by the id of the node.

    Where `shortened` puts a recipe over another one, the person writes into that one.
    """
    shipped = load_graph(TWINS / f"{name}.json")
    changed: dict[str, dict[str, Any]] = {}
    for node, entry in shortened(name, object_info).items():
        inputs = entry["inputs"]
        if node not in shipped:
            changed.setdefault(inputs["recipe"][0], {})["settings"] = inputs["settings"]
            continue
        before = shipped[node]["inputs"]
        # A socket can be given a value over the API alone: no person can.
        new = {key: inputs[key] for key in before if not is_link(inputs[key])}
        new = {key: value for key, value in new.items() if value != before.get(key)}
        if new:
            changed.setdefault(node, {}).update(new)
    return changed
