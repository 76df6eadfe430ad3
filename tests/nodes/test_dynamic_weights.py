"""Weights that newer hosts leave in the file, under a patcher that patches none in memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from glitch_demo.pocket import pocket_sd15

pytestmark = pytest.mark.host

KEY = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"
UNET = "model.diffusion_model."


@pytest.fixture
def mapped_model(host_modules: None) -> tuple[Any, Any, dict[str, torch.Tensor]]:
    """Return MODEL as dynamic VRAM has it, CLIP, and what is in the file."""
    import comfy.model_patcher
    import comfy.sd
    import comfy.utils

    dynamic = getattr(comfy.model_patcher, "ModelPatcherDynamic", None)
    if dynamic is None:
        pytest.skip("this ComfyUI has no dynamic VRAM; 0.33.0 has")
    import comfy.memory_management
    import comfy_aimdo.control
    import comfy_aimdo.host_buffer
    import comfy_aimdo.model_mmap

    comfy_aimdo.control.init()
    for user in (comfy_aimdo.host_buffer, comfy_aimdo.model_mmap):
        importlib.reload(user)  # a host begins with init(), before it imports them
    path = str(pocket_sd15())
    model, clip, _ = comfy.sd.load_checkpoint_guess_config(path)[:3]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comfy.memory_management, "aimdo_enabled", True)
        in_file = comfy.utils.load_torch_file(path)
    unet = {name: value for name, value in in_file.items() if name.startswith(UNET)}
    with torch.inference_mode():  # as the host's executor does
        model.model.load_model_weights(dict(unet), UNET, assign=True)
    cpu = torch.device("cpu")
    patcher = dynamic(model.model, load_device=torch.device("cuda", 0), offload_device=cpu)
    patcher.load_device = cpu  # else the host asks for a card; on a CPU it makes a usual patcher
    patcher.register_load_device(cpu)
    return patcher, clip, unet


def test_the_trainer_gets_the_weights_of_the_file_with_patches(
    mapped_model: tuple[Any, Any, dict[str, torch.Tensor]],
    pack: Callable[[str], ModuleType],
) -> None:
    """Catches weights that are not loaded yet, a LoRA of MODEL left out, a file written into."""
    patcher, clip, in_file = mapped_model
    assert patcher.is_dynamic()
    before = Path(pocket_sd15()).stat().st_mtime_ns
    weights = pack("nodes.weights")
    plain = weights.base_model(patcher, clip).unet
    worn = patcher.clone()
    delta = torch.full_like(in_file[UNET + KEY.removeprefix("diffusion_model.")], 0.25)
    worn.add_patches({KEY: (delta,)}, 1.0)
    patched = dict(weights.base_model(worn, clip).unet.named_parameters())
    changed = [
        name
        for name, value in plain.named_parameters()
        if not torch.equal(value.float(), patched[name].float())
    ]
    (name,) = changed
    assert name == "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"
    given = in_file[UNET + KEY.removeprefix("diffusion_model.")]
    assert torch.equal(plain.get_parameter(name), given)
    torch.testing.assert_close(patched[name].float(), given.float() + 0.25, rtol=1e-3, atol=1e-3)
    assert Path(pocket_sd15()).stat().st_mtime_ns == before
