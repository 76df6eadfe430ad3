"""A LoRA trained on one pocket family, worn by the other, in the real host."""

from __future__ import annotations

import itertools
import json
import pickle
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fewer_layers import SMALLER_SDXL
from graphs import GraphBuilder, pictures_of
from safetensors.torch import load_file, save_file

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected, RunFailed
from glitch_train.transfer.recipe import DEPTHS, FITS, MAPPINGS, NORMS

pytestmark = pytest.mark.host

FOLDER = "transfer_pictures"
SD15, SDXL = "pocket_sd15.safetensors", SMALLER_SDXL
OTHER = {SD15: SDXL, SDXL: SD15}
FAMILY = {SD15: "SD1.5", SDXL: "Vega"}
# What the host writes when a LoRA does not fit.
COMPLAINTS = ("lora key not loaded", "ERROR lora", "is invalid for input", "NaN", "invalid value")


@pytest.fixture(scope="module")
def loras(host: Host) -> dict[str, str]:
    """Train a loud LoRA on each pocket checkpoint; return its file name by checkpoint."""
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])
    trained = {}
    with ComfyClient(host.address) as client:
        for checkpoint in (SD15, SDXL):
            builder = GraphBuilder(client)
            base = builder.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
            data = builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=64)
            trainer = builder.add(
                "GlitchLoraTrainer",
                model=(base, 0), clip=(base, 1), vae=(base, 2), dataset=(data, "dataset"),
                steps=6, learning_rate=2e-2, network_dim=4, network_alpha=4.0, batch_size=1,
                output_name=f"worn {checkpoint.split('_')[1][:4]}",
            )  # fmt: skip
            outputs = client.run(builder.nodes)
            trained[checkpoint] = Path(outputs[trainer]["text"][0]).name
    return trained


class Wearer:
    """Draws small pictures with a checkpoint and what is put onto it."""

    def __init__(self, client: ComfyClient, checkpoint: str) -> None:
        self.client = client
        self.builder = GraphBuilder(client)
        self.base = self.builder.add("CheckpointLoaderSimple", ckpt_name=checkpoint)

    def draw(self, model: tuple, clip: tuple) -> str:
        """Add nodes that draw a picture; return the one that keeps it."""
        add = self.builder.add
        positive = add("CLIPTextEncode", clip=clip, text=demo_photos()[0].caption)
        latent = add("EmptyLatentImage", width=64, height=64, batch_size=1)
        sampled = add(
            "KSampler", model=model, positive=(positive, 0), negative=(positive, 0),
            latent_image=(latent, 0), seed=5, steps=2, cfg=1.0,
        )  # fmt: skip
        decoded = add("VAEDecode", samples=(sampled, 0), vae=(self.base, 2))
        return add("PreviewImage", images=(decoded, 0))

    def wear(self, lora_name: str, **settings: Any) -> str:
        """Add the applier."""
        return self.builder.add(
            "GlitchCrossModelLoraApplier",
            model=(self.base, 0), clip=(self.base, 1), lora_name=lora_name, **settings,
        )  # fmt: skip

    def run(self) -> dict[str, Any]:
        """Run what was added."""
        return self.client.run(self.builder.nodes)


def picture(client: ComfyClient, checkpoint: str, lora_name: str | None, **settings: Any) -> tuple:
    """Return a picture, and the applier's report."""
    wearer = Wearer(client, checkpoint)
    applier = wearer.base if lora_name is None else wearer.wear(lora_name, **settings)
    drawn = wearer.draw((applier, 0), (applier, 1))
    if lora_name is None:
        return pictures_of(client, wearer.run(), drawn)[0], None
    shown = wearer.builder.add("PreviewAny", source=(applier, "report_json"))
    outputs = wearer.run()
    assert outputs[applier]["images"], "the map is on the node"
    return pictures_of(client, outputs, drawn)[0], json.loads(outputs[shown]["text"][0])


@pytest.fixture(scope="module")
def bare(host: Host) -> dict[str, np.ndarray]:
    """The pictures without a LoRA."""
    with ComfyClient(host.address) as client:
        return {name: picture(client, name, None)[0] for name in (SD15, SDXL)}


@pytest.fixture(scope="module", params=[SD15, SDXL], ids=["sd15", "sdxl"])
def by_the_host(request: pytest.FixtureRequest, loras: dict, host: Host) -> tuple[str, np.ndarray]:
    """A checkpoint, and the picture that the host's own loader makes with its LoRA."""
    with ComfyClient(host.address) as client:
        wearer = Wearer(client, request.param)
        loader = wearer.builder.add(
            "LoraLoader", model=(wearer.base, 0), clip=(wearer.base, 1),
            lora_name=loras[request.param], strength_model=0.7, strength_clip=1.0,
        )  # fmt: skip
        drawn = wearer.draw((loader, 0), (loader, 1))
        return request.param, pictures_of(client, wearer.run(), drawn)[0]


@pytest.fixture
def quiet_log(host: Host) -> Iterator[None]:
    """Fail when the host complains about a LoRA during the test."""
    before = len(host.log())
    yield
    for complaint in COMPLAINTS:
        assert complaint not in host.log()[before:]


def once_each(first: Sequence[str], second: Sequence[str]) -> list[tuple[str, str]]:
    """Return pairs in which every name is there, none more often than it must be.

    What each pair does to the factors is tried in tests/library/transfer.
    """
    more, fewer = sorted((first, second), key=len, reverse=True)
    pairs = zip(more, itertools.cycle(fewer), strict=False)
    return [(a, b) if more is first else (b, a) for a, b in pairs]


@pytest.mark.usefixtures("quiet_log")
@pytest.mark.parametrize(
    ("mapping", "fit"), once_each([name for name in MAPPINGS if name != "strict"], FITS)
)
@pytest.mark.parametrize("target", [SD15, SDXL], ids=["xl on sd15", "sd15 on xl"])
def test_every_mapping_and_fit_changes_the_picture(
    target: str, mapping: str, fit: str, loras: dict, bare: dict, client: ComfyClient
) -> None:
    """Catches a transfer that does nothing, breaks the picture, or that the host cannot load."""
    drawn, report = picture(
        client, target, loras[OTHER[target]], mapping=mapping, fit=fit, strength_model=2.0
    )
    assert (report["source"], report["target"]) == (FAMILY[OTHER[target]], FAMILY[target])
    assert report["modules"]["target_reached"] > 0
    if mapping != "by_name":
        assert report["modules"]["target_reached"] == report["modules"]["target_total"]
    assert np.isfinite(report["energy_kept"])
    assert (drawn != bare[target]).any()
    assert drawn.std() > 1.0, "a picture of one colour is what NaN decodes to"


@pytest.mark.usefixtures("quiet_log")
@pytest.mark.parametrize(("depth", "norm"), once_each(DEPTHS, NORMS))
def test_every_depth_and_norm(
    depth: str, norm: str, loras: dict, bare: dict, client: ComfyClient
) -> None:
    """Catches ranks or alphas that the host reads otherwise."""
    drawn, report = picture(client, SD15, loras[SDXL], depth=depth, norm=norm, loudness=0.3)
    assert (drawn != bare[SD15]).any()
    assert drawn.std() > 1.0
    assert report["weights"]["target"] == "measured"


@pytest.mark.parametrize("mapping", [name for name in MAPPINGS if name != "shuffled"])
def test_the_same_family_is_lora_loader(
    by_the_host: tuple[str, np.ndarray], mapping: str, loras: dict, bare: dict, client: ComfyClient
) -> None:
    """Catches any difference from the host's own loader where nothing needs to move."""
    checkpoint, theirs = by_the_host
    ours, report = picture(
        client, checkpoint, loras[checkpoint], mapping=mapping, fit="svd", strength_model=0.7
    )
    assert np.array_equal(ours, theirs)
    assert (ours != bare[checkpoint]).any()
    assert report["modules"]["exact"] == report["modules"]["total"]


def test_strength_0_is_the_unpatched_model(loras: dict, bare: dict, client: ComfyClient) -> None:
    """Catches a trace of the LoRA at strength 0."""
    drawn, _ = picture(client, SD15, loras[SDXL], strength_model=0.0, strength_clip=0.0)
    assert np.array_equal(drawn, bare[SD15])


def test_the_carried_lora_can_be_saved_and_loaded_by_the_host(
    loras: dict, host: Host, client: ComfyClient
) -> None:
    """Catches a LORA_MODEL that Save LoRA, Load LoRA or our own socket do not take."""
    wearer = Wearer(client, SD15)
    applier = wearer.wear(loras[SDXL], fit="project", seed=4)
    drawn = wearer.draw((applier, 0), (applier, 1))
    wearer.builder.add(
        wearer.builder.there("SaveLoRA", "SaveLoRANode"), lora=(applier, "lora"), prefix="carried"
    )
    ours = pictures_of(client, wearer.run(), drawn)[0]
    (saved,) = (host.base_dir / "output").glob("carried*.safetensors")
    save_file(load_file(saved), host.base_dir / "models" / "loras" / "carried.safetensors")
    wearer = Wearer(client, SD15)
    loader = wearer.builder.add(
        "LoraLoader", model=(wearer.base, 0), clip=(wearer.base, 1),
        lora_name="carried.safetensors", strength_model=1.0, strength_clip=1.0,
    )  # fmt: skip
    drawn = wearer.draw((loader, 0), (loader, 1))
    theirs = pictures_of(client, wearer.run(), drawn)[0]
    assert np.array_equal(ours, theirs)


def test_a_lora_from_the_socket_and_a_source_model(
    loras: dict, bare: dict, client: ComfyClient
) -> None:
    """Catches a socket that is ignored, and a source whose weights are not measured."""
    wearer = Wearer(client, SD15)
    applier = wearer.wear(loras[SDXL])
    source = wearer.builder.add("CheckpointLoaderSimple", ckpt_name=SDXL)
    strict = wearer.builder.add(
        "GlitchCrossModelLoraApplier", model=(wearer.base, 0), clip=(wearer.base, 1),
        lora_name="none", lora=(applier, "lora"), mapping="strict",
    )  # fmt: skip
    matched = wearer.wear(loras[SDXL], norm="match", source_model=(source, 0))
    drawn = [wearer.draw((node, 0), (node, 1)) for node in (applier, strict, matched)]
    shown = wearer.builder.add("PreviewAny", source=(matched, "report_json"))
    outputs = wearer.run()
    first, again, third = (pictures_of(client, outputs, node)[0] for node in drawn)
    assert np.array_equal(first, again)
    assert (third != first).any()
    report = json.loads(outputs[shown]["text"][0])
    assert report["weights"] == {"target": "measured", "source": "measured"}


Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"


def _pair(down: torch.Tensor, up: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"{Q}.lora_down.weight": down, f"{Q}.lora_up.weight": up}


BROKEN = {
    "half.safetensors": (
        {f"{Q}.lora_down.weight": torch.ones(2, 320)}, "down factor but no up factor"),
    "nan.safetensors": (
        _pair(torch.ones(2, 320), torch.full((320, 2), torch.nan)), "holds NaN"),
    "rank0.safetensors": (_pair(torch.ones(0, 320), torch.ones(320, 0)), "has rank 0"),
    "whole.safetensors": ({"model.diffusion_model.out.2.weight": torch.ones(1)},
                          "is a full checkpoint, not a LoRA"),
    "flux.safetensors": (
        {key.replace(Q, "lora_unet_double_blocks_0_img_attn_qkv"): value
         for key, value in _pair(torch.ones(2, 320), torch.ones(320, 2)).items()},
        "is a LoRA for Flux"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_loras_get_their_sentence(name: str, host: Host, client: ComfyClient) -> None:
    """Catches a traceback where a sentence belongs."""
    state, said = BROKEN[name]
    save_file(state, host.base_dir / "models" / "loras" / name)
    wearer = Wearer(client, SD15)
    applier = wearer.wear(name)
    wearer.builder.add("PreviewAny", source=(applier, "report"))
    with pytest.raises(RunFailed, match=said):
        wearer.run()


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.safetensors", None, "is cut short"),
        ("pickle.pt", pickle.dumps({"a": 1}), "is a pickle"),
        ("disguised.safetensors", pickle.dumps({"a": 1}), "is a pickle"),
    ],
)
def test_unreadable_files_are_rejected_before_anything_runs(
    name: str, content: bytes | None, said: str, host: Host, client: ComfyClient
) -> None:
    """Catches a pickle that is opened, and a broken file found only after the checkpoint loaded."""
    path = host.base_dir / "models" / "loras" / name
    if content is None:
        save_file(_pair(torch.ones(2, 320), torch.ones(320, 2)), path)
        content = path.read_bytes()[:-9]
    path.write_bytes(content)
    wearer = Wearer(client, SD15)
    applier = wearer.wear(name)
    wearer.builder.add("PreviewAny", source=(applier, "report"))
    with pytest.raises(PromptRejected, match=said):
        wearer.run()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"mapping": "strict"}, r"is a LoRA for Vega and the model is SD1\.5"),
        ({"lora_name": "none"}, "There is no LoRA: choose a file"),
    ],
    ids=["strict", "none"],
)
def test_refusals(settings: dict, said: str, loras: dict, client: ComfyClient) -> None:
    """Catches a refusal that does not say what to do."""
    wearer = Wearer(client, SD15)
    applier = wearer.wear(**{"lora_name": loras[SDXL], **settings})
    wearer.builder.add("PreviewAny", source=(applier, "report"))
    with pytest.raises(RunFailed, match=said):
        wearer.run()
