"""The applier's reading of names and models, against the host's own code in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.host

# Configurations of the published checkpoints, as the host's model detection reads them.
_COMMON = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320,
    "use_spatial_transformer": True, "legacy": False,
}  # fmt: skip
_XL = {
    **_COMMON, "num_res_blocks": [2, 2, 2], "channel_mult": [1, 2, 4], "context_dim": 2048,
    "num_classes": "sequential", "adm_in_channels": 2816, "num_head_channels": 64,
    "use_linear_in_transformer": True,
}  # fmt: skip
_SD = {
    **_COMMON, "num_res_blocks": [2] * 4, "channel_mult": [1, 2, 4, 4], "adm_in_channels": None,
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1] * 9 + [0] * 3,
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "sd15": {**_SD, "context_dim": 768, "num_heads": 8},
    "sd21": {**_SD, "context_dim": 1024, "num_head_channels": 64,
             "use_linear_in_transformer": True},
    "sdxl": {**_XL, "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
             "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10]},
    "ssd1b": {**_XL, "transformer_depth": [0, 0, 2, 2, 4, 4], "transformer_depth_middle": -1,
              "transformer_depth_output": [0, 0, 0, 1, 1, 2, 10, 4, 4]},
    "vega": {**_XL, "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": -1,
             "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2]},
}  # fmt: skip

Pack = Callable[[str], ModuleType]


def host_unet(name: str) -> SimpleNamespace:
    """Return a full-size UNet of the host on the meta device, as its key map wants it."""
    import comfy.ops
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.device("meta"):
        unet = UNetModel(**CONFIGS[name], operations=comfy.ops.disable_weight_init, device="meta")
    weights = {f"diffusion_model.{key}": value for key, value in unet.state_dict().items()}
    config = SimpleNamespace(unet_config=dict(CONFIGS[name]))
    return SimpleNamespace(state_dict=lambda: weights, model_config=config)


def key_map(name: str) -> dict[str, str]:
    """Return the host's own map of LoRA names, for weights that a LoRA can patch."""
    import comfy.lora

    model = host_unet(name)
    weights = model.state_dict()
    full = comfy.lora.model_lora_keys_unet(model, {})
    return {
        spelled: key
        for spelled, key in full.items()
        if key in weights and weights[key].ndim >= 2 and key.endswith(".weight")
    }


@pytest.mark.parametrize("name", CONFIGS)
def test_networks_and_names_are_the_hosts(name: str, pack: Pack) -> None:
    """Catches a name that the host's loader knows and by_name does not, or the reverse."""
    base, roles = pack("glitch_train.transfer.base"), pack("glitch_train.model.network")
    mapping = pack("glitch_train.transfer.mapping")
    shapes = {
        key.removeprefix("diffusion_model."): tuple(weight.shape)
        for key, weight in host_unet(name).state_dict().items()
    }
    network = roles.read_network(shapes, ())
    reference = roles.reference_network(base.FAMILIES[name])
    assert network.family is reference.family
    assert network.is_reference
    unet = {key: one for key, one in reference.modules.items() if one.role.part == roles.UNET}
    assert network.modules == unet
    ours = {
        spelled: f"diffusion_model.{network.modules[key].ldm}.weight"
        for spelled, key in mapping.host_names(network).items()
    }
    assert ours == key_map(name)


def test_by_name_applies_and_drops_what_the_host_does(
    pack: Pack, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches a count of accidental matches other than the host's: SDXL's LoRA on SD1.5."""
    import comfy.lora

    reading, moving = pack("glitch_train.lora.read"), pack("glitch_train.transfer.transfer")
    keys = pack("glitch_train.lora.keys")
    roles, families = pack("glitch_train.model.network"), pack("glitch_train.model.families")
    bases = pack("glitch_train.transfer.base")
    recipe = pack("glitch_train.transfer.recipe").TransferRecipe(mapping="by_name")
    source, target = (roles.reference_network(f) for f in (families.SDXL, families.SD15))
    state = {}
    for module in source.modules.values():
        if module.role.is_attention:
            name = keys.lora_name(source, module)
            state[f"{name}.lora_down.weight"] = torch.ones(1, module.n_in)
            state[f"{name}.lora_up.weight"] = torch.ones(module.n_out, 1)
    weights = host_unet("sd15").state_dict()
    with caplog.at_level(logging.WARNING):
        patches = comfy.lora.load_lora(dict(state), key_map("sd15"))
    applied, failed = set(), set()
    for key, adapter in patches.items():
        zeros = torch.zeros(weights[key].shape)
        patched = comfy.lora.calculate_weight([(1.0, adapter, 1.0, None, None)], zeros, key)
        (applied if patched.any() else failed).add(key)
    assert len(patches) == 96
    carried = moving.transfer(reading.read_lora(state, "x"), bases.Base(target), recipe)
    ours = {f"diffusion_model.{p.target.ldm}.weight" for p in carried.report.patches}
    assert ours == applied
    reasons = [one.reason.partition(":")[0] for one in carried.report.skipped]
    assert reasons.count("shape") == len(failed) == 46
    not_loaded = sum("lora key not loaded" in message for message in caplog.messages)
    assert reasons.count("no module of this name in the target") == not_loaded / 2 == 626


def test_every_key_of_a_carried_lora_is_loaded(loaded: tuple, pack: Pack) -> None:
    """Catches a LoRA whose names or shapes the host does not take, UNet and text encoders."""
    import comfy.lora

    model, clip, _ = loaded
    bases, moving = pack("nodes.lora_bases"), pack("glitch_train.transfer.transfer")
    keys = pack("glitch_train.lora.keys")
    roles, families = pack("glitch_train.model.network"), pack("glitch_train.model.families")
    base = bases.base(model, clip)
    source = roles.reference_network(families.SD15 if base.network.family.is_xl else families.SDXL)
    state = {}
    for module in source.modules.values():
        name = keys.lora_name(source, module)
        kernel = module.shape[2:]
        state[f"{name}.lora_down.weight"] = torch.full((1, module.n_in, *kernel), 0.01)
        state[f"{name}.lora_up.weight"] = torch.full((module.n_out, 1, *(1 for _ in kernel)), 0.01)
    recipe = pack("glitch_train.transfer.recipe").TransferRecipe(te2="by_layer_depth", fit="tile")
    lora = pack("glitch_train.lora.read").read_lora(state, "x")
    carried = moving.transfer(lora, base, recipe)
    assert {p.target.role.part for p in carried.report.patches} == set(base.network.parts)
    names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, {})
    names = comfy.lora.model_lora_keys_unet(model.model, names)
    patches = comfy.lora.load_lora(dict(carried.state), names)
    assert len(patches) == len(carried.report.patches)
    weights = {**model.model.state_dict(), **clip.cond_stage_model.state_dict()}
    for patch in carried.report.patches[::17]:
        name = keys.lora_name(base.network, patch.target)
        weight = weights[names[name]]
        assert tuple(weight.shape) == patch.target.shape
        norm = torch.linalg.vector_norm(weight.float())
        assert base.measured(patch.target) == pytest.approx(float(norm), rel=1e-3)
