"""What a LoRA changes, as it is read here and as diffusers' own loader applies it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from loras import State, is_attention, lora_state

from glitch_train.lora.keys import lora_name
from glitch_train.lora.read import read_lora
from glitch_train.model.checkpoint import unet_config
from glitch_train.model.families import SD15
from glitch_train.model.network import Module, Network, build_network
from glitch_train.model.unet_names import UNetLayout

LAYOUT = UNetLayout((32, 64), 1, ((1,), (1,)), ((1, 1), (1, 1)), 1)
SMALL = build_network(SD15, LAYOUT, ())


def _diffusers(network: Network, module: Module) -> str:
    return f"unet.{module.diffusers}"


NAMED: dict[str, tuple[Callable[[Network, Module], str], tuple[str, str], float | None]] = {
    "kohya": (lora_name, (".lora_down.weight", ".lora_up.weight"), 1.0),
    "diffusers": (_diffusers, (".lora_A.weight", ".lora_B.weight"), None),
}


def by_diffusers(state: State) -> State:
    """Return the change of each weight of the UNet, by the weight's name."""
    from diffusers import StableDiffusionPipeline, UNet2DConditionModel

    torch.manual_seed(0)
    unet = UNet2DConditionModel(**unet_config({}, LAYOUT, SD15))
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    told, alphas = StableDiffusionPipeline.lora_state_dict(dict(state))[:2]
    StableDiffusionPipeline.load_lora_into_unet(told, alphas, unet)
    unet.fuse_lora()
    unet.unload_lora()
    after = unet.state_dict()
    return {name: after[name] - value for name, value in before.items()}


@pytest.mark.parametrize("layout", NAMED)
def test_the_change_is_the_one_of_diffusers(layout: str) -> None:
    """Catches a module that is lost, or a strength read otherwise, against a third program."""
    name, factors, alpha = NAMED[layout]
    state = lora_state(
        SMALL, rank=4, alpha=alpha, keep=is_attention, name=name, factors=factors, seed=3
    )
    theirs = by_diffusers(state)
    ours = read_lora(state, "x").modules
    wanted = [module for module in SMALL.modules.values() if is_attention(module)]
    assert len(ours) == len(wanted) == sum(bool(change.any()) for change in theirs.values())
    read = {module.path: module for module in ours.values()}
    for module in wanted:
        one = read[module.diffusers.replace(".", "_")]
        up, down = one.factors()
        change = (up @ down.flatten(1)) * one.scale
        expected = theirs[f"{module.diffusers}.weight"].flatten(1)
        torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-6, msg=module.key)
