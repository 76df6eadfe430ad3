"""UNets that the host holds in fewer bits: trained from what it computes with, or named."""

from __future__ import annotations

import pytest
import torch
from quantised_files import UNET, quantised
from safetensors import safe_open

from glitch_demo.pocket import pocket_sd15

pytestmark = [pytest.mark.host, pytest.mark.slow]

KEY = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Return the pocket UNet's weights."""
    with safe_open(pocket_sd15(), framework="pt") as opened:
        names = [name for name in opened.keys() if name.startswith(UNET)]  # noqa: SIM118
        return {name: opened.get_tensor(name) for name in names}


def load(state: dict[str, torch.Tensor], **options):
    """Return MODEL as Load Diffusion Model gives it."""
    import comfy.sd

    own = {name[len(UNET) :]: value for name, value in state.items() if name.startswith(UNET)}
    with torch.inference_mode():  # as the host's executor does
        return comfy.sd.load_diffusion_model_state_dict(own, model_options=options)


def rebuilt(pack, model):
    """Return our UNet of the host's."""
    weights = pack("nodes.weights")._patched(model, "diffusion_model.")
    return pack("glitch_train.model.checkpoint").build_unet(weights)[0]


def outputs(unet, model) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what our UNet and the host's own, with its patches, make of one input."""
    stream = torch.Generator().manual_seed(3)
    latents, context = (torch.randn(1, *s, generator=stream) for s in ((4, 8, 8), (77, 768)))
    timesteps = torch.tensor([500.0])
    with torch.no_grad():
        mine = unet.float()(latents, timesteps, context).sample
        model.patch_model(CPU)
        try:
            theirs = model.model.diffusion_model(latents, timesteps, context=context).clone()
        finally:
            model.unpatch_model(CPU)
    return mine, theirs


def off(mine: torch.Tensor, theirs: torch.Tensor) -> float:
    """Return how far off a tensor is, as a share of it."""
    return ((mine.float() - theirs.float()).norm() / theirs.float().norm()).item()


@pytest.mark.parametrize("kind", ["old", "layers"])
def test_scales_are_part_of_the_weights(pack, state, kind: str) -> None:
    """Catches fp8-scaled and comfy_quant models refused as damaged, or trained without scales."""
    import comfy.utils

    if kind == "layers" and not hasattr(comfy.utils, "detect_layer_quantization"):
        pytest.skip("this ComfyUI reads no comfy_quant beside a weight")
    made, _, meant = quantised(state, kind, torch.float8_e4m3fn)
    model = load(made)
    unet = rebuilt(pack, model)
    trained = unet.mid_block.attentions[0].transformer_blocks[0].attn2.to_k.weight
    assert off(trained, meant[f"model.{KEY}"]) < 1e-3
    assert off(*outputs(unet, model)) < 0.01


def test_a_patch_on_fp8_is_kept(pack, state) -> None:
    """Catches a LoRA on an fp8 MODEL rounded away: fp8 has steps of six hundredths."""
    held = load(state, dtype=torch.float8_e4m3fn)
    before = pack("nodes.weights").patched(held, KEY)
    assert before.dtype == torch.float8_e4m3fn
    model = held.clone()
    model.add_patches({KEY: (before.float() * 0.01,)}, 1.0)
    assert off(pack("nodes.weights").patched(model, KEY), before.float() * 1.01) < 1e-3


def test_weights_that_a_loader_packed_are_named(pack, state) -> None:
    """Catches torch's own errors about what GGUF, NF4 and int8 loaders leave in a MODEL."""
    model = load(state)
    module = model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn2.to_k
    module.weight = torch.nn.Parameter(torch.zeros(8, 1, dtype=torch.uint8), requires_grad=False)
    error = pack("glitch_train.errors").CheckpointError
    with pytest.raises(error, match=r"keeps its weights in torch.uint8 numbers .*fp16, bf16"):
        rebuilt(pack, model)
