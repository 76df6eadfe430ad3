"""What the host's own loader makes of every kind of network, against peft's merged weights."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.host


def trained(pack, base: Any, kind: str) -> Any:
    """Return layers of a kind on every Linear and convolution of the blocks, randomly filled."""
    lora, targets = pack("glitch_train.lora.layers"), pack("glitch_train.lora.targets")
    shape = lora.LoraShape(4, 3.0, kind, 2, 5.0)

    def fill(model: torch.nn.Module, names: list[str]) -> Any:
        model.float()
        if kind == "dora":  # the pocket SDXL has rows of zeros, which DoRA refuses
            weights = {name: model.get_submodule(name).weight.flatten(1) for name in names}
            names = [name for name in names if weights[name].any(dim=1).all()]
        layers = lora.inject_lora(model, names, shape, torch.Generator().manual_seed(1))
        stream = torch.Generator().manual_seed(2)
        for layer in layers.values():
            layer.up.data = torch.randn(layer.up.shape, generator=stream) * 0.1
            if layer.magnitude is not None:
                by = torch.rand(layer.magnitude.shape, generator=stream) + 0.5
                layer.magnitude.data = layer.magnitude * by
        return layers

    with torch.inference_mode(False), torch.no_grad():
        unet = fill(base.unet, targets.unet_targets(base.unet, convolutions=True))
        tower = base.text_encoders[0].model
        return lora.TrainedLora(unet, (fill(tower, targets.text_encoder_targets(tower)),))


def host_said(caplog) -> list[str]:
    """Return the host's own warnings: libraries that are loaded for the first time have theirs."""
    return [record.getMessage() for record in caplog.records if record.name == "root"]


@pytest.mark.parametrize("kind", ["lora", "dora", "rslora"])
def test_the_host_patches_what_was_trained(pack, loaded, caplog, kind: str) -> None:
    """Catches names, shapes, alphas or magnitudes that the host's LoraLoader reads otherwise."""
    import comfy.lora

    model, clip, _ = loaded
    base = pack("nodes.weights").base_model(model, clip)
    lora = trained(pack, base, kind)
    state = pack("glitch_train.lora.file").to_kohya(lora, base, save_precision="fp32")
    assert any(key.endswith(".dora_scale") for key in state) == (kind == "dora")
    with caplog.at_level(logging.WARNING):
        patched, _ = pack("nodes.host").with_lora(model, clip, state)
    assert not host_said(caplog)
    ldm = pack("glitch_train.model.unet_names").to_ldm_modules(base.layout, lora.unet)
    assert len(patched.patches) == len(lora.unet)
    weights = model.model.state_dict()
    for name in list(lora.unet)[::3]:
        key = f"diffusion_model.{ldm[name]}.weight"
        module = base.unet.get_submodule(name)
        with torch.inference_mode(False), torch.no_grad():
            module.merge(safe_merge=True)
            original = weights[key].float().clone()
            theirs = comfy.lora.calculate_weight(patched.patches[key], original.clone(), key)
            mine = module.get_base_layer().weight
            assert not theirs.allclose(original, rtol=1e-3), name
            torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-5, msg=name)
    assert not host_said(caplog)  # what it could not apply
