"""Sample pictures of a training in the real host: over the WebSocket, in the outputs, on disk."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import GraphBuilder, pictures_of
from PIL import Image

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.events import Event, Preview, ProgressText

pytestmark = pytest.mark.host

FOLDER = "sampled_pictures"
CHECKPOINT = "pocket_sd15.safetensors"
SIDE, STEPS, SEED, CFG = 64, 3, 5, 2.0


@dataclasses.dataclass
class Sampled:
    """What one training with pictures gave."""

    outputs: dict[str, Any]
    events: list[Event]
    folder: Path


@pytest.fixture(scope="module")
def sampled(host: Host) -> Sampled:
    """Train for three steps, with two prompts sampled before, after two, and at the end."""
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])
    events: list[Event] = []
    with ComfyClient(host.address) as client:
        builder = GraphBuilder(client)
        base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        data = builder.add("GlitchDatasetLoader", folder=FOLDER, width=SIDE, height=SIDE)
        trainer = builder.add(
            "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
            dataset=(data, "dataset"), steps=STEPS, network_dim=4, network_alpha=4.0,
            learning_rate=1e-3, probe_every=0, output_name="sampled", sample_every=2,
            sample_prompts="one\ntwo", sample_sampler="euler", sample_steps=2, sample_cfg=CFG,
            sample_seed=SEED,
        )  # fmt: skip
        outputs = client.run(builder.nodes, on_event=events.append)[trainer]
    name = Path(outputs["text"][0]).stem
    return Sampled(outputs, events, host.base_dir / "output" / "glitch" / name / "samples")


def test_curve_and_strip_are_in_the_ui_output(sampled: Sampled, client: ComfyClient) -> None:
    """Catches a cached trainer that shows nothing: its view must be in its outputs."""
    curve, strip = sampled.outputs["images"]
    assert curve["type"] == strip["type"] == "temp"
    shown = Image.open(io.BytesIO(client.download(**strip))).convert("RGB")
    assert shown.tobytes() == Image.open(sampled.folder / "strip.png").convert("RGB").tobytes()


def test_samples_arrive_below_the_curve(sampled: Sampled) -> None:
    """Catches pictures that are made in silence: text and preview come over the WebSocket."""
    texts = [event.text for event in sampled.events if isinstance(event, ProgressText)]
    for step in (0, 2, STEPS):
        assert any(f"sampling 4/4, step {step}" in text for text in texts), step
    shapes = [
        Image.open(io.BytesIO(event.image_bytes)).size
        for event in sampled.events
        if isinstance(event, Preview)
    ]
    assert any(height > 0.7 * width for width, height in shapes)  # the curve alone: 640 × 400


def test_pictures_are_of_the_model_as_it_stood(sampled: Sampled) -> None:
    """Catches a column missing, or pictures that are all of the base."""
    for prompt in (1, 2):
        row = [
            Image.open(sampled.folder / f"step{step:06}_prompt{prompt:02}.png")
            for step in (0, 2, STEPS)
        ]
        assert {picture.size for picture in row} == {(SIDE, SIDE)}
        assert len({picture.tobytes() for picture in row}) == 3


def test_the_base_is_what_ksampler_draws(sampled: Sampled, client: ComfyClient) -> None:
    """Catches a VAE, text encoder or schedule used otherwise than the host uses them."""
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    prompt, empty = (
        builder.add("CLIPTextEncode", clip=(base, 1), text=text) for text in ("one", "")
    )
    latent = builder.add("EmptyLatentImage", width=SIDE, height=SIDE, batch_size=1)
    drawn = builder.add(
        "KSampler", model=(base, 0), positive=(prompt, 0), negative=(empty, 0),
        latent_image=(latent, 0), seed=SEED, steps=2, cfg=CFG, sampler_name="euler",
        scheduler="normal",
    )  # fmt: skip
    decoded = builder.add("VAEDecode", samples=(drawn, 0), vae=(base, 2))
    node = builder.add("PreviewImage", images=(decoded, 0))
    theirs = pictures_of(client, client.run(builder.nodes), node)[0].astype(float)
    ours = np.asarray(Image.open(sampled.folder / "step000000_prompt01.png").convert("RGB"))
    assert np.abs(ours - theirs).mean() < 2
