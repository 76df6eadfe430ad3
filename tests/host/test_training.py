"""A picture folder becomes a LoRA inside the real host, for both families."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fewer_layers import SMALLER_SDXL
from graphs import GraphBuilder, pictures_of
from safetensors.torch import load_file

from glitch_demo.host import Host
from glitch_demo.host_tree import host_tree
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import RunInterrupted
from glitch_train.comfyui.events import Event, Executed, Preview, Progress, ProgressText
from glitch_train.lora.file import read_metadata, read_recipe_of
from glitch_train.losses.read import read_csv
from glitch_train.model.checkpoint import build_text_encoder, build_unet
from glitch_train.training.encode import encode_prompt
from glitch_train.training.objective import noise_schedule

pytestmark = pytest.mark.host

FOLDER = "training_pictures"
SETTINGS = {
    # The pocket SD1.5 knows its pictures by heart: weighing by SNR keeps low noise from ruling.
    "pocket_sd15.safetensors": {
        "steps": 40,
        "batch_size": 4,
        "learning_rate": 2e-4,
        "min_snr_gamma": 1.0,
        "lr_scheduler": "constant_with_warmup",
        "warmup_steps": 5,
    },
    SMALLER_SDXL: {"steps": 20, "batch_size": 1, "learning_rate": 2e-4},
}
SIZE = {"pocket_sd15.safetensors": 128, SMALLER_SDXL: 64}


@dataclasses.dataclass
class Trained:
    """What one training in the host gave."""

    checkpoint: str
    host: Host
    outputs: dict[str, Any]
    events: list[Event]
    trainer: str
    graph_node: str
    log: str

    @property
    def lora_path(self) -> Path:
        """The saved LoRA."""
        return Path(self.outputs[self.trainer]["text"][0])

    @property
    def size(self) -> int:
        """Side of the pictures, in pixels."""
        return SIZE[self.checkpoint]


def training_graph(client: ComfyClient, checkpoint: str, **settings: Any) -> tuple:
    """Return (builder, checkpoint node, trainer node)."""
    size = SIZE[checkpoint]
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    data = builder.add("GlitchDatasetLoader", folder=FOLDER, width=size, height=size)
    trainer = builder.add(
        "GlitchLoraTrainer",
        model=(base, 0), clip=(base, 1), vae=(base, 2), dataset=(data, "dataset"),
        **{"network_dim": 8, "network_alpha": 8.0, "seed": 3,
           "output_name": f"of {checkpoint.split('_')[1][:4]}"} | SETTINGS[checkpoint] | settings,
    )  # fmt: skip
    return builder, base, trainer


def add_picture(builder: GraphBuilder, model: tuple, clip: tuple, vae: tuple, size: int) -> str:
    """Add nodes that draw one picture of the first training caption; return the saving node."""
    caption = demo_photos()[0].caption
    positive = builder.add("CLIPTextEncode", clip=clip, text=caption)
    latent = builder.add("EmptyLatentImage", width=size, height=size, batch_size=1)
    sampled = builder.add(
        "KSampler", model=model, positive=(positive, 0), negative=(positive, 0),
        latent_image=(latent, 0), seed=5, steps=4, cfg=1.0,
    )  # fmt: skip
    decoded = builder.add("VAEDecode", samples=(sampled, 0), vae=vae)
    return builder.add("PreviewImage", images=(decoded, 0))


@pytest.fixture(scope="module", params=list(SETTINGS), ids=["sd15", "sdxl"])
def trained(request: pytest.FixtureRequest, host: Host) -> Trained:
    """Train once per family; the tests below look at it from all sides."""
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])
    checkpoint = request.param
    with ComfyClient(host.address) as client:
        builder, _, trainer = training_graph(client, checkpoint)
        graph_node = builder.add("GlitchLossGraph", loss_map=(trainer, "loss_map"))
        builder.add(
            builder.there("SaveLoRA", "SaveLoRANode"), lora=(trainer, "lora"), prefix="by_the_host"
        )
        builder.add("LossGraphNode", loss=(trainer, "loss_map"))
        events: list[Event] = []
        before = len(host.log())
        outputs = client.run(builder.nodes, on_event=events.append)
    log = host.log()[before:]
    return Trained(checkpoint, host, outputs, events, trainer, graph_node, log)


def test_progress_preview_and_text_arrive(trained: Trained) -> None:
    """Catches a node that trains in silence."""
    steps = SETTINGS[trained.checkpoint]["steps"]
    progress = [event for event in trained.events if isinstance(event, Progress)]
    of_trainer = [event for event in progress if event.node == trained.trainer]
    assert of_trainer[-1].value == of_trainer[-1].maximum == steps
    previews = [e for e in trained.events if isinstance(e, Preview)]
    assert previews
    assert previews[-1].image_bytes[:2] == b"\xff\xd8"
    texts = [e.text for e in trained.events if isinstance(e, ProgressText)]
    assert any(f"/{steps} · loss 0." in text or f"/{steps} · loss" in text for text in texts)


def test_the_finished_curve_is_in_the_ui_output(trained: Trained) -> None:
    """Catches a cached trainer that shows nothing: its view must be in its outputs."""
    assert trained.outputs[trained.trainer]["images"][0]["type"] == "temp"


def test_the_lora_is_listed_and_carries_its_recipe(trained: Trained, client: ComfyClient) -> None:
    """Catches a LoRA saved where Load LoRA does not look, or without its recipe."""
    required = client.object_info()["LoraLoader"]["input"]["required"]
    assert trained.lora_path.name in required["lora_name"][0]
    recipe = read_recipe_of(trained.lora_path)
    assert recipe.train.steps == SETTINGS[trained.checkpoint]["steps"]
    assert recipe.train.learning_rate == 2e-4
    about = read_metadata(trained.lora_path)
    assert about["ss_steps"] == str(recipe.train.steps)
    assert json.loads(about["ss_dataset_dirs"]) == {FOLDER: {"n_repeats": 10, "img_count": 4}}
    prefix = "lora_unet_input_blocks" if "sdxl" in trained.checkpoint else "lora_unet_down_blocks"
    assert next(iter(load_file(trained.lora_path))).startswith(prefix)


def test_graph_and_csv_are_saved(trained: Trained) -> None:
    """Catches a graph without its numbers."""
    picture = trained.outputs[trained.graph_node]["images"][0]
    folder = trained.host.base_dir / "output" / picture["subfolder"]
    png = folder / picture["filename"]
    assert png.read_bytes()[:4] == b"\x89PNG"
    record = read_csv(png.with_suffix(".csv"))
    assert len(record) == SETTINGS[trained.checkpoint]["steps"]
    assert np.isfinite(record.loss).all()


def test_the_hosts_own_nodes_take_our_sockets(trained: Trained) -> None:
    """Catches a LORA_MODEL or LOSS_MAP of another shape than the host's."""
    saved = sorted((trained.host.base_dir / "output").glob("by_the_host*.safetensors"))
    ours = load_file(trained.lora_path)
    assert any(load_file(path).keys() == ours.keys() for path in saved)


def test_pictures_with_the_lora(trained: Trained, client: ComfyClient) -> None:
    """Catches a LoRA the host does not load whole, and outputs that differ from the file.

    One workflow, five pictures: base, Load LoRA, the same at strength 0, the trainer's own MODEL
    and CLIP (cached: nothing is trained again), and Load LoRA Model.
    """
    builder, base, trainer = training_graph(client, trained.checkpoint)
    name, vae, size = trained.lora_path.name, (base, 2), trained.size
    model, clip = (base, 0), (base, 1)

    def load(strength: float) -> str:
        return builder.add(
            "LoraLoader", model=model, clip=clip, lora_name=name,
            strength_model=strength, strength_clip=strength,
        )  # fmt: skip

    by_file, silent = load(1.0), load(0.0)
    by_socket = builder.add("LoraModelLoader", model=model, lora=(trainer, "lora"))
    nodes = {
        "base": add_picture(builder, model, clip, vae, size),
        "file": add_picture(builder, (by_file, 0), (by_file, 1), vae, size),
        "silent": add_picture(builder, (silent, 0), (silent, 1), vae, size),
        "outputs": add_picture(builder, (trainer, "model"), (trainer, "clip"), vae, size),
        "socket": add_picture(builder, (by_socket, 0), clip, vae, size),
    }
    before = len(trained.host.log())
    events: list[Event] = []
    outputs = client.run(builder.nodes, on_event=events.append)
    pictures = {key: pictures_of(client, outputs, node) for key, node in nodes.items()}
    log = trained.host.log()[before:]
    assert "lora key not loaded" not in log
    assert "NOT LOADED" not in log
    assert not any(isinstance(e, Progress) and e.node == trainer for e in events)
    assert not np.array_equal(pictures["file"], pictures["base"])
    assert np.array_equal(pictures["silent"], pictures["base"])
    assert np.array_equal(pictures["outputs"], pictures["file"])
    assert np.array_equal(pictures["socket"], pictures["file"])


def test_the_loss_on_fixed_noise_falls(trained: Trained) -> None:
    """Catches a LoRA that learned nothing: fixed latents, noise and timesteps, plain diffusers.

    The pocket SDXL is untrained, so only SD1.5 is asked to learn.
    """
    if "sdxl" in trained.checkpoint:
        return
    base = trained.host.base_dir
    weights = load_file(base / "models" / "checkpoints" / trained.checkpoint)
    cached = [load_file(path) for path in sorted((base / "temp").rglob("*.safetensors"))]
    found = [content["latents"] for content in cached if "latents" in content]
    latents = torch.stack([one for one in found if one.shape[-1] == trained.size // 8][:4])
    prompt = prompt_embeds(weights, demo_photos()[0].caption).expand(len(latents), -1, -1)

    def loss(lora: Path | None) -> float:
        from diffusers import StableDiffusionPipeline

        unet, _, _ = build_unet(part(weights, "model.diffusion_model."))
        if lora is not None:
            state, alphas = StableDiffusionPipeline.lora_state_dict(lora)[:2]
            StableDiffusionPipeline.load_lora_into_unet(state, alphas, unet)
        stream = torch.Generator().manual_seed(0)
        alphas = noise_schedule().alphas_cumprod
        snr, losses = alphas / (1 - alphas), []
        with torch.no_grad():
            for t in range(50, 1000, 100):
                noise = torch.randn(latents.shape, generator=stream)
                timesteps = torch.full((len(latents),), t)
                noisy = noise_schedule().add_noise(latents, noise, timesteps)
                error = (unet(noisy, timesteps, prompt).sample - noise).pow(2).mean()
                losses.append(error * min(1.0, 1 / snr[t].item()))  # min_snr_gamma 1
        return torch.stack(losses).mean().item()

    before, after = loss(None), loss(trained.lora_path)
    assert after < before * 0.97, (before, after)


def part(weights: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Return the weights below a prefix, without it, in fp32."""
    return {k[len(prefix) :]: v.float() for k, v in weights.items() if k.startswith(prefix)}


def prompt_embeds(weights: dict[str, torch.Tensor], caption: str) -> torch.Tensor:
    """Return (1, 77, 768) for a caption of the SD1.5 checkpoint."""
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(host_tree() / "comfy" / "sd1_tokenizer")
    ids = tokenizer(caption, padding="max_length", max_length=77, return_tensors="pt").input_ids
    tower = build_text_encoder(
        part(weights, "cond_stage_model.transformer."), hidden_layer=None, final_layer_norm=True
    )
    with torch.no_grad():
        return encode_prompt([tower], (ids,)).prompt_embeds[None]


def test_diffusers_gives_the_same_unet_output_as_the_host(trained: Trained) -> None:
    """Catches a file that diffusers reads in another way: all modules are found and scaled."""
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline

    is_xl = "sdxl" in trained.checkpoint
    weights = load_file(trained.host.base_dir / "models" / "checkpoints" / trained.checkpoint)
    unet, _, _ = build_unet(part(weights, "model.diffusion_model."))
    pipeline = StableDiffusionXLPipeline if is_xl else StableDiffusionPipeline
    state, alphas = pipeline.lora_state_dict(trained.lora_path, unet_config=unet.config)[:2]
    pipeline.load_lora_into_unet(state, alphas, unet)
    merged, _, _ = build_unet(with_lora_merged(weights, load_file(trained.lora_path)))
    stream = torch.Generator().manual_seed(1)
    width = 2048 if is_xl else 768
    call = {
        "sample": torch.randn(1, 4, 16, 16, generator=stream),
        "timestep": torch.tensor([400]),
        "encoder_hidden_states": torch.randn(1, 77, width, generator=stream),
    }
    if is_xl:
        pooled = torch.randn(1, 1280, generator=stream)
        call["added_cond_kwargs"] = {"text_embeds": pooled, "time_ids": torch.full((1, 6), 64.0)}
    with torch.no_grad():
        theirs, mine = unet(**call).sample, merged(**call).sample
    assert (theirs - mine).abs().max() / mine.abs().max() < 1e-4


def with_lora_merged(weights: dict, lora: dict) -> dict[str, torch.Tensor]:
    """Return the UNet's weights with a LoRA merged by the host's own code."""
    import sys

    sys.path.insert(0, str(host_tree()))
    try:
        import comfy.cli_args

        comfy.cli_args.args.cpu = not torch.cuda.is_available()
        import comfy.lora
    finally:
        sys.path.remove(str(host_tree()))
    unet = part(weights, "model.diffusion_model.")
    from glitch_train.model.unet_names import read_layout, to_diffusers_names

    layout = read_layout({name: tuple(value.shape) for name, value in unet.items()})
    names = to_diffusers_names(layout, unet)
    keys = {}
    for name in unet:
        module = name.removesuffix(".weight")
        keys["lora_unet_" + module.replace(".", "_")] = name
        keys["lora_unet_" + names[name].removesuffix(".weight").replace(".", "_")] = name
    loaded = comfy.lora.load_lora(lora, keys)
    assert len(loaded) == len(lora) / 3
    for key, adapter in loaded.items():
        unet[key] = comfy.lora.calculate_weight(
            [(1.0, adapter, 1.0, None, None)], unet[key].clone(), key
        )
    return unet


def test_a_trained_text_encoder_loads_whole(host: Host, client: ComfyClient) -> None:
    """Catches text encoder keys that the host does not know, or CLIP left without its LoRA."""
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])
    checkpoint = "pocket_sd15.safetensors"
    builder, base, trainer = training_graph(
        client, checkpoint, steps=2, batch_size=1, output_name="drift",
        text_encoder_only=True, text_encoder_lr=0.01,
    )  # fmt: skip
    before = len(host.log())
    path = Path(client.run(builder.nodes)[trainer]["text"][0])
    state = load_file(path)
    assert len(state) == 72 * 3
    assert all(key.startswith("lora_te_text_model_encoder_layers_") for key in state)
    loader = builder.add("LoraLoader", model=(base, 0), clip=(base, 1), lora_name=path.name)
    nodes = [
        add_picture(builder, (base, 0), (base, 1), (base, 2), 128),
        add_picture(builder, (base, 0), (loader, 1), (base, 2), 128),
        add_picture(builder, (trainer, "model"), (trainer, "clip"), (base, 2), 128),
    ]
    outputs = client.run(builder.nodes)
    plain, by_file, by_output = (pictures_of(client, outputs, node) for node in nodes)
    log = host.log()[before:]
    assert "lora key not loaded" not in log
    assert "NOT LOADED" not in log
    assert not np.array_equal(plain, by_file)
    assert np.array_equal(by_file, by_output)


def test_interrupt_keeps_the_lora_and_the_host(host: Host, client: ComfyClient) -> None:
    """Catches Cancel losing the work, or leaving a host that cannot run the next prompt."""
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])
    name = "cancelled"
    builder, _, trainer = training_graph(
        client, "pocket_sd15.safetensors", steps=10_000, output_name=name, batch_size=1
    )

    def cancel(event: Event) -> None:
        if isinstance(event, Progress) and event.node == trainer and event.maximum == 10_000:
            client.interrupt()

    with pytest.raises(RunInterrupted):
        client.run(builder.nodes, on_event=cancel)
    saved = host.base_dir / "models" / "loras" / f"{name}_00001.safetensors"
    steps = int(read_metadata(saved)["ss_steps"])
    assert 1 <= steps < 100
    losses = read_csv(host.base_dir / "output" / "glitch" / f"{name}_00001/losses.csv")
    assert len(losses) == steps
    after, _, trainer = training_graph(client, "pocket_sd15.safetensors", steps=1, batch_size=1)
    assert trainer in client.run(after.nodes)


def test_memory_and_notes_reach_history_and_record(trained: Trained, client: ComfyClient) -> None:
    """Catches a plan or a note that is gone once the run has ended, or is told on the way alone."""
    if "sdxl" in trained.checkpoint:
        return  # the words do not depend on the family
    name = "with_notes"
    builder, base, trainer = training_graph(
        client, trained.checkpoint, steps=2, batch_size=1, warmup_steps=5, output_name=name
    )
    changed = builder.add("FreeU", model=(base, 0), b1=1.1, b2=1.2, s1=0.9, s2=0.2)
    builder.nodes[trainer]["inputs"]["model"] = [changed, 0]
    prompt = client.queue(builder.nodes)
    assert [event for event in client.events(prompt) if isinstance(event, Executed)]
    while client.is_queued(prompt):  # newer hosts file a workflow after they told its end
        time.sleep(0.05)
    kept = client.history(prompt)
    assert kept is not None
    said = kept["outputs"][trainer]["text"]
    (memory,) = (text for text in said if text.startswith("Memory: about "))
    (ended,) = (text for text in said if "trained without what MODEL adds to its layers" in text)
    assert "Without effect: warmup_steps" in ended
    (losses,) = (trained.host.base_dir / "output" / "glitch").rglob(f"{name}*/losses.csv")
    assert read_csv(losses).about.memory == memory
