"""The grid's cells against the host's own nodes, called in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.host

LORA = {
    "lora_unet_time_embed_0.lora_down.weight": torch.full((1, 320), 0.05),
    "lora_unet_time_embed_0.lora_up.weight": torch.linspace(-1, 1, 1280)[:, None],
}


def test_cells_are_bit_for_bit_the_plain_nodes(
    pack: Callable[[str], ModuleType], loaded: tuple
) -> None:
    """Catches a cell that depends on what was sampled before it, or is rounded otherwise."""
    import comfy.sd

    import nodes

    model, clip, vae = loaded
    grid = pack("glitch_train.grid.plan")
    recipe = grid.GridRecipe(
        prompts="a cup of coffee", steps="2", cfg="4", strength="1, -1", sizes="64, 96x64"
    )
    plan = grid.plan_grid(recipe, [grid.Variant("A")])
    seen = []
    reads = []

    def read() -> dict[str, torch.Tensor]:
        reads.append(1)
        return LORA

    with torch.inference_mode():
        got = dict(
            pack("nodes.grid.sampling").pictures(
                plan, (model, clip), {"A": read}, {}, vae, lambda *at: seen.append(at)
            )
        )
        for shot, picture in got.items():
            wearing = (model, clip)
            if shot.lora:
                wearing = comfy.sd.load_lora_for_models(
                    model, clip, LORA, shot.strength, shot.strength
                )
            texts = (nodes.CLIPTextEncode().encode(wearing[1], t)[0] for t in (shot.prompt, ""))
            latent = nodes.EmptyLatentImage().generate(*shot.size)[0]
            sampled = nodes.KSampler().sample(
                wearing[0], shot.seed, shot.steps, shot.cfg, "dpmpp_2m", "normal", *texts, latent
            )[0]
            image = nodes.VAEDecode().decode(vae, sampled)[0][0]
            wanted = np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8)
            assert (picture == wanted).all(), shot
    assert len({picture.tobytes() for picture in got.values()}) == len(got) == 6
    assert len(reads) == 1
    assert seen[-1] == (5, 2)


def test_the_base_is_drawn_once_for_grids_of_one_base(
    pack: Callable[[str], ModuleType], loaded: tuple, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches base pictures drawn again for each LoRA, and old ones shown of a changed base."""
    import comfy.sample

    model, clip, vae = loaded[0].clone(), loaded[1], loaded[2]
    plans, sampling = pack("glitch_train.grid.plan"), pack("nodes.grid.sampling")
    sampled: list[int] = []
    of_host = comfy.sample.sample
    monkeypatch.setattr(
        comfy.sample, "sample", lambda *a, **more: sampled.append(1) or of_host(*a, **more)
    )

    def grid(name: str, **settings: str) -> tuple[dict, int]:
        """Return the pictures by LoRA or base, and how many were sampled."""
        sampled.clear()
        recipe = plans.GridRecipe(prompts="a cat", steps="2", cfg="1", sizes="64", **settings)
        plan = plans.plan_grid(recipe, [plans.Variant(name)])
        models = (model, clip), {name: lambda: LORA}, {}, vae
        with torch.inference_mode():
            found = dict(sampling.pictures(plan, *models, lambda *_: None))
        return {shot.lora: picture for shot, picture in found.items()}, len(sampled)

    first, count = grid("A")
    assert count == 2
    second, count = grid("B")
    assert count == 1
    assert (second[None] == first[None]).all()
    assert (second["B"] == first["A"]).all()  # the same LoRA under another name
    assert grid("B", scheduler="karras")[1] == 2
    assert grid("B")[1] == 2
    model.add_patches({"diffusion_model.out.2.bias": (torch.ones(4),)})
    third, count = grid("B")
    assert count == 2
    assert (third[None] != first[None]).any()


def test_a_lora_that_the_host_would_ignore_is_refused(
    pack: Callable[[str], ModuleType], loaded: tuple, tmp_path: Path
) -> None:
    """Catches a grid of base pictures under a LoRA's name: the host only logs it."""
    model, clip, _ = loaded
    refuse = pack("nodes.grid.sampling").refuse_strangers
    query = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
    known = {"kohya": LORA, "old diffusers": {f"{_with_processor(query)}_lora.up.weight": ONE}}
    unknown = {"new diffusers": {f"{query}.lora_A.weight": ONE}, "empty": {"a": ONE}}
    for name, state in (known | unknown).items():
        save_file(state, tmp_path / f"{name}.safetensors")
    refuse({name: tmp_path / f"{name}.safetensors" for name in known}, model, clip)
    errors = pack("glitch_train.errors")
    for name in unknown:
        with pytest.raises(errors.GridError, match=f"{name} names no module that ComfyUI's"):
            refuse({name: tmp_path / f"{name}.safetensors"}, model, clip)


ONE = torch.ones(1)


def _with_processor(name: str) -> str:
    return name.replace(".to_", ".processor.to_")
