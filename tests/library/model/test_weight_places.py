"""Text encoders found wherever a file or the host keeps them."""

from __future__ import annotations

import pytest
import torch

from glitch_train.model.families import SD2, SD15, SDXL
from glitch_train.model.network import Module, TextTower, reference_network
from glitch_train.model.weight_places import (
    IN_CHECKPOINTS,
    IN_HOST,
    TowerPlace,
    WeightPlaces,
    find_towers,
)

WIDTH, LAYERS = 8, 2
# What each of OpenCLIP's names holds, as open_clip's own conversion scripts have it.
OPEN_CLIP = {
    "attn.in_proj_weight": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.out_proj.weight": ("self_attn.out_proj",),
    "mlp.c_fc.weight": ("mlp.fc1",),
    "mlp.c_proj.weight": ("mlp.fc2",),
}


def _modules() -> list[Module]:
    """Return the modules of the first layers of a text encoder."""
    modules = reference_network(SD15).modules.values()
    return [m for m in modules if m.role.part == "te1" and m.role.block < LAYERS]


def _written(place: TowerPlace, values: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the parameters of a tower as a file or the host has them there."""
    state = {}
    for layer in range(LAYERS):
        if not place.is_open_clip:
            head = f"{place.prefix}text_model.encoder.layers.{layer}"
            state[f"{head}.layer_norm1.weight"] = torch.ones(WIDTH)
            continue
        head = f"{place.prefix}transformer.resblocks.{layer}"
        state[f"{head}.ln_1.weight"] = torch.ones(WIDTH)
        for name, jobs in OPEN_CLIP.items():
            names = (f"text_model.encoder.layers.{layer}.{job}" for job in jobs)
            state[f"{head}.{name}"] = torch.cat([values[one] for one in names])
    if not place.is_open_clip:
        state |= {f"{place.prefix}{name}.weight": value for name, value in values.items()}
    return state


@pytest.mark.parametrize("places", [IN_CHECKPOINTS, IN_HOST], ids=["file", "host"])
def test_every_place_holds_a_tower(places: WeightPlaces) -> None:
    """Catches a spelling that is found but read wrongly: another layer, or q, k and v confused."""
    modules = _modules()
    assert len(modules) == 6 * LAYERS
    values = {m.ldm: torch.full((WIDTH, WIDTH), float(n)) for n, m in enumerate(modules)}
    for place in places.towers:
        state = _written(place, values)
        shapes = {name: tuple(value.shape) for name, value in state.items()}
        assert find_towers(shapes, places) == [(TextTower(place.part, LAYERS, WIDTH), place)]
        for module in modules:
            assert torch.equal(place.weight(state, module), values[module.ldm]), module.ldm


@pytest.mark.parametrize(
    ("family", "in_file", "in_host"),
    [
        (SD15, ["cond_stage_model.transformer."], ["clip_l.transformer."]),
        (SD2, ["cond_stage_model.model."], ["clip_h.transformer."]),
        (
            SDXL,
            ["conditioner.embedders.0.transformer.", "conditioner.embedders.1.model."],
            ["clip_l.transformer.", "clip_g.transformer."],
        ),
    ],
    ids=lambda one: getattr(one, "name", ""),
)
def test_the_towers_of_a_family_are_its_parts(family, in_file, in_host) -> None:
    """Catches a tower that is taken for the other one, whose LoRA would go into the wrong text."""
    wanted = [tower.part for tower in reference_network(family).towers]
    for places, prefixes in ((IN_CHECKPOINTS, in_file), (IN_HOST, in_host)):
        parts = {place.prefix: place.part for place in places.towers}
        assert [parts[prefix] for prefix in prefixes] == wanted
