"""Glitch Loss Graph in the real host: its own records and the host's, files, texts, bad input."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest
from graphs import GraphBuilder
from PIL import Image

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected

pytestmark = pytest.mark.host

FOLDER = "loss_pictures"
STEPS = 8


def two_trainers(client: ComfyClient) -> tuple[GraphBuilder, tuple[str, str], tuple[str, str]]:
    """Return a graph with our trainer and the host's, and their LOSS_MAPs."""
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
    data = builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=64)
    ours = builder.add(
        "GlitchLoraTrainer",
        model=(base, 0), clip=(base, 1), vae=(base, 2), dataset=(data, "dataset"),
        steps=STEPS, network_dim=4, batch_size=1, output_name="graph me",
    )  # fmt: skip
    # A list of latents: the host's trainer cannot take a single batch.
    latents = builder.add("VAEEncode", pixels=(data, "pictures"), vae=(base, 2))
    text = builder.add("CLIPTextEncode", clip=(base, 1), text="a picture")
    hosts = builder.add(
        "TrainLoraNode",
        model=(base, 0), latents=(latents, 0), positive=(text, 0), steps=STEPS, rank=4,
        training_dtype="fp32", lora_dtype="fp32", gradient_checkpointing=False,
    )  # fmt: skip
    return builder, (ours, "loss_map"), (hosts, "LOSS_MAP")


@pytest.fixture(scope="module")
def drawn(host: Host) -> dict[str, Any]:
    """Run one graph with both LOSS_MAPs and every output read; return what it showed."""
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1], 2)
    with ComfyClient(host.address) as client:
        builder, ours, hosts = two_trainers(client)
        graph = builder.add(
            "GlitchLossGraph",
            loss_map=ours, loss_map_2=hosts, filename_prefix="curves/both", width=640, height=400,
            style="light", y_axis="log", line="both", save_svg=True,
        )  # fmt: skip
        previews = {
            name: builder.add("PreviewAny", source=(graph, name))
            for name in ("csv_path", "verdict", "verdict_json")
        }
        picture = builder.add("PreviewImage", images=(graph, "graph"))
        outputs = client.run(builder.nodes)
        file = outputs[graph]["images"][0]
        return {
            "png": client.download(**file),
            "file": file,
            "text": outputs[graph]["text"][0],
            "picture": outputs[picture]["images"],
            **{name: outputs[node]["text"][0] for name, node in previews.items()},
        }


def test_files_are_saved(drawn: dict[str, Any], host: Host) -> None:
    """Catches a file that is missing, empty or of the wrong run."""
    folder = host.base_dir / "output" / "curves"
    stem = drawn["file"]["filename"].removesuffix(".png")
    assert drawn["file"]["subfolder"] == "curves"
    assert "<svg" in (folder / f"{stem}.svg").read_text("utf-8")
    for suffix in ("", "_1"):
        rows = list(csv.DictReader((folder / f"{stem}{suffix}.csv").open()))
        assert [float(row["step"]) for row in rows] == list(range(1, STEPS + 1))
    assert drawn["csv_path"] == str(folder / f"{stem}.csv")


def test_the_png_holds_the_workflow(drawn: dict[str, Any]) -> None:
    """Catches a graph that cannot be dropped onto the canvas to get its workflow back."""
    with Image.open(io.BytesIO(drawn["png"])) as picture:
        assert picture.width == 640
        assert picture.height > 400  # the verdict lies under the graph
        prompt = json.loads(picture.info["prompt"])
    assert "GlitchLossGraph" in {node["class_type"] for node in prompt.values()}
    assert drawn["picture"]  # two on 0.3.64, whose trainer runs once for each latent


def test_the_verdict_is_text_and_json(drawn: dict[str, Any]) -> None:
    """Catches a verdict of one run only, or one that says more than eight losses can."""
    assert drawn["verdict"] == drawn["text"]
    assert drawn["verdict"].count("| Convergence |") == 2
    runs = json.loads(drawn["verdict_json"])
    assert [run["convergence"]["state"] for run in runs] == ["too_short"] * 2
    assert runs[0]["name"].startswith("graph me")
    assert runs[1]["name"] == "run 2"
    assert all(run["final"] > 0 for run in runs)
    # Our record knows its recipe, the host's does not.
    techniques = [run["advice"]["evidence"]["techniques"] for run in runs]
    framing = "use uncropped pictures (framing uncropped)"
    assert [one[framing] for one in techniques] == [False, None]


def test_older_graphs_without_the_new_widgets_stay_valid(client: ComfyClient, host: Host) -> None:
    """Catches a widget that became required: API graphs name what they knew of."""
    graph = {
        "1": {
            "class_type": "GlitchLossGraph",
            "inputs": {"filename_prefix": "x", "width": 300, "height": 200},
        }
    }
    with pytest.raises(PromptRejected) as caught:
        client.queue(graph)
    (errors,) = caught.value.node_errors.values()
    assert [one["extra_info"]["input_name"] for one in errors["errors"]] == ["loss_map"]


def test_a_prefix_outside_the_output_folder(drawn: dict[str, Any], client: ComfyClient) -> None:
    """Catches files written anywhere on the disk; the trainer's result comes from the cache."""
    builder, ours, _ = two_trainers(client)
    builder.add("GlitchLossGraph", loss_map=ours, filename_prefix="../../elsewhere")
    with pytest.raises(PromptRejected, match="leads outside the output folder"):
        client.run(builder.nodes)
