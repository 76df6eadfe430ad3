"""Train, Cancel, try the LoRA, Run again, in a real host that Windows' rules hold in."""

from __future__ import annotations

from pathlib import Path

import pytest
from graphs import GraphBuilder, pictures_of
from safetensors.torch import load_file

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import RunInterrupted
from glitch_train.comfyui.events import Event, Progress
from glitch_train.lora.file import read_metadata
from glitch_train.losses.read import read_csv

pytestmark = [pytest.mark.host, pytest.mark.slow]

ENDLESS = 10_000


def trainer(builder: GraphBuilder, steps: int) -> str:
    """Add a training."""
    base = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
    data = builder.add("GlitchDatasetLoader", folder="round", width=64, height=64)
    return builder.add(
        "GlitchLoraTrainer",
        model=(base, 0), clip=(base, 1), vae=(base, 2), dataset=(data, "dataset"), steps=steps,
        network_dim=4, batch_size=1, output_name="round", sample_every=2, sample_steps=1,
        sample_prompts="a", sample_width=64, sample_height=64, probe_every=2,
    )  # fmt: skip


def draw(builder: GraphBuilder, lora: str) -> str:
    """Add a picture with a LoRA, which the host keeps mapped as long as a workflow has it."""
    base = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
    worn = builder.add("LoraLoader", model=(base, 0), clip=(base, 1), lora_name=lora)
    prompt = builder.add("CLIPTextEncode", clip=(worn, 1), text="a")
    latent = builder.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    sampled = builder.add(
        "KSampler", model=(worn, 0), positive=(prompt, 0), negative=(prompt, 0),
        latent_image=(latent, 0), seed=1, steps=1, cfg=1.0,
    )  # fmt: skip
    decoded = builder.add("VAEDecode", samples=(sampled, 0), vae=(base, 2))
    return builder.add("PreviewImage", images=(decoded, 0))


def test_train_cancel_load_resume(
    request: pytest.FixtureRequest, host: Host, client: ComfyClient
) -> None:
    """Catches a session lost because the host holds what the run wants to replace."""
    if request.config.getoption("--windows-rules") == "on":
        assert "Windows' rules hold in this process." in host.log()
    write_picture_folder(host.base_dir / "input" / "round", demo_photos()[:1])
    before = len(host.log())
    builder = GraphBuilder(client)
    trainer(builder, ENDLESS)

    def cancel(event: Event) -> None:
        is_training = isinstance(event, Progress) and event.maximum == ENDLESS
        if is_training and event.value > 1:
            client.interrupt()

    with pytest.raises(RunInterrupted):
        client.run(builder.nodes, on_event=cancel)
    first = host.base_dir / "models" / "loras" / "round_00001.safetensors"
    steps = int(read_metadata(first)["ss_steps"])

    builder = GraphBuilder(client)
    shown = draw(builder, first.name)
    assert pictures_of(client, client.run(builder.nodes), shown).shape == (1, 64, 64, 3)
    node = trainer(builder, steps + 2)
    text = client.run(builder.nodes)[node]["text"]
    last = Path(text[0])
    assert load_file(last).keys() == load_file(first).keys()
    assert read_metadata(last)["ss_steps"] == str(steps + 2)
    if request.config.getoption("--windows-rules") == "on":
        assert last.name == "round_00001_2.safetensors"
        assert "round_00001.safetensors is in use by a program" in " ".join(text)
    assert len(read_csv(host.base_dir / "output/glitch/round_00001/losses.csv")) == steps + 2
    builder = GraphBuilder(client)
    shown = draw(builder, last.name)
    assert pictures_of(client, client.run(builder.nodes), shown).shape == (1, 64, 64, 3)
    log = host.log()[before:]
    assert "Traceback" not in log
    assert "Logging error" not in log
