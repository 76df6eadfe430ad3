"""Every shipped workflow runs to its end in the real host, short and small on pocket models."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from shortened import (
    NAMES,
    place_pictures_of_workflows,
    shortened,
    skip_without_its_nodes,
)

from glitch_demo.host import Host
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.graph import nodes_of

pytestmark = [pytest.mark.host, pytest.mark.slow]

OUTPUTS = {
    "GlitchContactSheet": "images",
    "GlitchGrid": "images",
    "GlitchLossGraph": "images",
    "GlitchReport": "images",
    "GlitchCrossModelLoraApplier": "images",
    "PreviewAny": "text",
    "SaveImage": "images",
}


@pytest.fixture(autouse=True)
def pictures(host: Host) -> None:
    """Two small pictures with captions, made once."""
    place_pictures_of_workflows(host.base_dir)


@pytest.mark.parametrize("name", NAMES)
def test_it_runs_to_the_end(name: str, client: ComfyClient, host: Host) -> None:
    """Catches a shipped workflow that stops in the middle, or shows nothing."""
    info = client.object_info()
    skip_without_its_nodes(name, info)
    graph = shortened(name, info)
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
