"""The applier's reading of names and models, against the host's own code in this process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from host_networks import CONFIGS, host_unet, key_map

pytestmark = pytest.mark.host

Pack = Callable[[str], ModuleType]


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
