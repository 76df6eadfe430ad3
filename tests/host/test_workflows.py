"""Every shipped workflow runs to its end in the real host, short and small on pocket models."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.api_graph import load_graph, nodes_of
from glitch_train.comfy_client import ComfyClient
from glitch_train.overrides import with_overrides

pytestmark = [pytest.mark.host, pytest.mark.slow]

TWINS = Path(__file__).parents[2] / "workflows" / "api"
NAMES = sorted(path.stem for path in TWINS.glob("*.json"))
FOLDER = "workflow_pictures"
POCKETS = {
    "v1-5-pruned-emaonly-fp16.safetensors": "pocket_sd15.safetensors",
    "sd_xl_base_1.0.safetensors": "pocket_sdxl.safetensors",
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
OUTPUTS = {
    "GlitchContactSheet": "images",
    "GlitchGrid": "images",
    "GlitchLossGraph": "images",
    "GlitchReport": "images",
    "GlitchCrossModelLoraApplier": "images",
    "PreviewAny": "text",
    "SaveImage": "images",
}


def shortened(name: str, client: ComfyClient) -> dict[str, Any]:
    """Return a shipped workflow with little to do, on the pocket checkpoints."""
    graph = load_graph(TWINS / f"{name}.json")
    for node in nodes_of(graph, "CheckpointLoaderSimple"):
        inputs = graph[node]["inputs"]
        inputs["ckpt_name"] = POCKETS.get(inputs["ckpt_name"], inputs["ckpt_name"])
    settings = [*SHORT]
    if name == "resume_and_overtrain":
        settings += ["save_every=1", "sample_every=2", "sample_steps=1"]
    if nodes_of(graph, "GlitchGrid"):
        settings += [f"GlitchGrid.{one}" for one in SMALL_GRID]
    if nodes_of(graph, "GlitchReport"):
        settings.append("probe_prompts=a cat\na dog")
    if name == "generation_sweep":
        settings += [f"{title}.{one}" for title, axis in SWEPT.items() for one in axis]
    if nodes_of(graph, "KSampler"):
        settings += ["KSampler.steps=1", "EmptyLatentImage.width=64", "EmptyLatentImage.height=64"]
    return with_overrides(graph, settings, client.object_info())


@pytest.fixture(autouse=True)
def pictures(host: Host) -> None:
    """Two small pictures with captions, made once."""
    folder = host.base_dir / "input" / FOLDER
    if not folder.exists():
        write_picture_folder(folder, demo_photos()[:2], pictures_per_photo=1, size_px=96)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_to_the_end(name: str, client: ComfyClient, host: Host) -> None:
    """Catches a shipped workflow that stops in the middle, or shows nothing."""
    graph = shortened(name, client)
    outputs = client.run(graph)
    for class_type, kind in OUTPUTS.items():
        for node in nodes_of(graph, class_type):
            assert outputs[node][kind], (class_type, node)
    for trainer in nodes_of(graph, "GlitchLoraTrainer"):
        lora = Path(outputs[trainer]["text"][0])
        assert lora.parent == host.base_dir / "models" / "loras"
        assert lora.is_file()
    if name == "resume_and_overtrain":
        _assert_the_strip_has_every_snapshot(client, graph, outputs)


def _assert_the_strip_has_every_snapshot(
    client: ComfyClient, graph: dict[str, Any], outputs: dict[str, Any]
) -> None:
    """Base, the snapshots after step 1 and 2 that lie there by now, and the finished LoRA."""
    (grid,) = nodes_of(graph, "GlitchGrid")
    file = client.download(**outputs[grid]["images"][0])
    with Image.open(io.BytesIO(file)) as picture:
        assert "GlitchGrid" in picture.info["prompt"]
    assert outputs[grid]["text"][0].startswith("4 pictures"), json.dumps(outputs[grid]["text"])
