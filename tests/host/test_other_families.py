"""ComfyUI's own trainer on our pictures: its losses in our graph, its LoRA in grid and report."""

from __future__ import annotations

import json
from typing import Any

import pytest
from graphs import GraphBuilder
from shortened import FOLDER, place_pictures_of_workflows, skip_without_its_nodes
from tiny_sd3 import place_tiny_sd3

from glitch_demo.host import Host
from glitch_train.comfyui.client import ComfyClient

pytestmark = [pytest.mark.host, pytest.mark.slow]

STEPS = 6


def trained_by_the_host(client: ComfyClient, host: Host, family: str) -> dict[str, Any]:
    """Run pictures → Make Training Dataset → Train LoRA → graph, grid, report; return outputs."""
    place_pictures_of_workflows(host.base_dir)
    builder = GraphBuilder(client)
    checkpoint = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
    model, clip, vae = ((checkpoint, name) for name in ("MODEL", "CLIP", "VAE"))
    if family == "SD3":
        unet, autoencoder = place_tiny_sd3(host.base_dir)
        model = (builder.add("UNETLoader", unet_name=unet, weight_dtype="default"), 0)
        vae = (builder.add("VAELoader", vae_name=autoencoder), 0)
    pictures = builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=64)
    made = builder.add(
        "MakeTrainingDataset", images=(pictures, "pictures"), texts=(pictures, "captions"),
        vae=vae, clip=clip,
    )  # fmt: skip
    trainer = builder.add(
        "TrainLoraNode", model=model, latents=(made, "latents"), positive=(made, "conditioning"),
        steps=STEPS, learning_rate=0.01, training_dtype="fp32", lora_dtype="fp32", rank=4,
        existing_lora="[None]",
    )  # fmt: skip
    graph = builder.add("GlitchLossGraph", loss_map=(trainer, "loss_map"))
    verdict = builder.add("PreviewAny", source=(graph, "verdict_json"))
    lora = (trainer, "lora")
    grid = builder.add(
        "GlitchGrid", model=model, clip=clip, vae=vae, lora=lora, prompts="a cat", seeds="0",
        sizes="64x64", steps="2", cfg="1", strength="4",
    )  # fmt: skip
    report = builder.add(
        "GlitchReport", base=(grid, "base"), glitched=(grid, "glitched"), base_model=model,
        base_clip=clip, lora=lora, probe_prompts="a cat\na dog",
    )  # fmt: skip
    told = builder.add("PreviewAny", source=(report, "report_json"))
    outputs = client.run(builder.nodes)
    shown = [json.loads(outputs[node]["text"][0]) for node in (verdict, told)]
    return {"verdict": shown[0], "report": shown[1]["runs"][0], "grid": outputs[grid]}


@pytest.mark.parametrize("family", ["SD1.5", "SD3"])
def test_the_hosts_trainer_feeds_graph_grid_and_report(
    family: str, client: ComfyClient, host: Host
) -> None:
    """Catches a LOSS_MAP or LORA_MODEL of Train LoRA that is not taken, or not applied."""
    skip_without_its_nodes("other_families", client.object_info())
    told = trained_by_the_host(client, host, family)
    (verdict,) = told["verdict"] if isinstance(told["verdict"], list) else [told["verdict"]]
    assert verdict["convergence"]["evidence"]["points"] == STEPS
    assert verdict["final"] > 0
    effects = told["report"]["effects"]
    assert effects["overall"]["index"] > 0.001
    assert effects["weight_loudness"]["value"] > 1e-4
    assert effects["semantic_drift"]["value"] == 0  # the host trains no text encoder
