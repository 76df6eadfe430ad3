"""What a LoRA of another trainer changes after it went through the applier: what its own tool does.

Each file is carried to its own family and applied by the host's code to seeded weights. The same
weights changed by the host's reading of the file itself, or by peft, are the truth.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from host_networks import key_map, text_key_map
from loras import State, lora_state, some
from safetensors.torch import load_file, save_file

from glitch_train.lora.keys import lora_name
from glitch_train.lora.read import read_lora_file
from glitch_train.model.families import SD15, SDXL, Family
from glitch_train.model.network import Module, Network, reference_network
from glitch_train.model.weight_places import HOST_TOWERS
from glitch_train.transfer.base import Base
from glitch_train.transfer.recipe import TransferRecipe
from glitch_train.transfer.transfer import transfer

pytestmark = pytest.mark.host

_BLOCK = ("attn1.to_q", "attn2.to_k", "attn1.to_out.0", "ff.net.0.proj")
_EDGES = ("unet.conv_in", "unet.conv_out", "unet.time_embedding.linear_1")
# A few modules of every kind and shape; the rest of a network is more of the same.
PIECES = {
    SD15: (*(f"down_blocks.0.attentions.0.transformer_blocks.0.{job}" for job in _BLOCK), *_EDGES,
           "down_blocks.0.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1",
           "down_blocks.0.downsamplers.0.conv",
           "te1.text_model.encoder.layers.3.self_attn.", "te1.text_model.encoder.layers.0.mlp.fc1"),
    SDXL: (*(f"down_blocks.1.attentions.0.transformer_blocks.0.{job}" for job in _BLOCK), *_EDGES,
           "down_blocks.1.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1",
           "add_embedding.linear_1", "down_blocks.0.downsamplers.0.conv",
           "te1.text_model.encoder.layers.3.self_attn.",
           "te2.text_model.encoder.layers.5.self_attn.", "te2.text_projection"),
}  # fmt: skip
SHORT = {SD15: "sd15", SDXL: "sdxl"}
Weights = dict[str, torch.Tensor]


def chosen(family: Family) -> list[Module]:
    """Return the modules that the files of these tests have."""
    return list(filter(some(PIECES[family]), reference_network(family).modules.values()))


def seeded_weights(family: Family) -> Weights:
    """Return a weight for each module, by its key."""
    stream = torch.Generator().manual_seed(5)
    return {m.key: torch.randn(m.shape, generator=stream) * 0.05 for m in chosen(family)}


def by_host(state: State, family: Family, weights: Weights) -> Weights:
    """Return the weights as the host's loader changes them, by their keys."""
    import comfy.lora

    towers: dict[str, Weights] = {}
    for module in reference_network(family).modules.values():
        for tower, place in HOST_TOWERS.items():
            if place.part == module.role.part and tower != "clip_h":
                towers.setdefault(tower, {})[module.diffusers] = torch.empty(0)
    names = {**key_map(SHORT[family]), **text_key_map(towers)}
    patches = comfy.lora.load_lora(dict(state), names, log_missing=False)
    changed = {}
    for module in chosen(family):
        key = names[lora_name(reference_network(family), module)]
        own = weights[module.key].clone()
        if key in patches:
            own = comfy.lora.calculate_weight([(1.0, patches[key], 1.0, None, None)], own, key)
        changed[module.key] = own
    return changed


def carried_home(path: Path, family: Family, weights: Weights) -> State:
    """Return a file as the applier carries it to its own family."""
    base = Base(reference_network(family), weight=lambda module: weights[module.key])
    return transfer(read_lora_file(path), base, TransferRecipe()).state


def assert_same(ours: Weights, theirs: Weights, weights: Weights) -> None:
    """Assert that every weight was changed, and as in the truth."""
    for key, weight in weights.items():
        assert not torch.equal(theirs[key], weight), key
        torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=2e-6, msg=key)


def _diffusers(network: Network, module: Module) -> str:
    parts = {"unet": "unet.", "te1": "text_encoder.", "te2": "text_encoder_2."}
    if module.diffusers == "text_projection":  # the host knows no diffusers' name of it
        return lora_name(network, module)
    name = module.diffusers
    if module.role.part == "unet":
        name = name.replace(".to_", ".processor.to_")
        name = name[:-2] if name.endswith(".to_out.0") else name
    return parts[module.role.part] + name


def _host(network: Network, module: Module) -> str:
    if module.role.part == "unet":
        return f"diffusion_model.{module.ldm}"
    tower = {"te1": "clip_l", "te2": "clip_g"}[module.role.part]
    return f"text_encoders.{tower}.transformer.{module.diffusers}"


def _dtype(dtype: torch.dtype) -> Callable[[State], None]:
    def cast(state: State) -> None:
        state |= {key: (8 * value).to(dtype) for key, value in state.items() if value.ndim}

    return cast


def _int8(state: State) -> None:
    for key, value in state.items():
        if value.ndim:
            state[key] = (value / value.abs().max() * 5).round().to(torch.int8)


def _bundle(state: State) -> None:
    state["bundle_emb.mytoken.emb_params"] = torch.ones(2, 768)


def _dora(state: State) -> None:
    stream = torch.Generator().manual_seed(7)
    for key in [key for key in state if key.endswith(".lora_up.weight")]:
        up = state[key]
        scale = torch.rand(up.shape[0], *[1] * (up.ndim - 1), generator=stream) + 0.5
        state[key.replace("lora_up.weight", "dora_scale")] = scale


def _dora_by_input(state: State) -> None:
    for key in [key for key in state if key.endswith(".lora_down.weight")]:
        down = state[key]
        ones = [1] * (down.ndim - 2)
        scale = torch.linspace(0.5, 1.5, down.shape[1]).reshape(1, -1, *ones)
        state[key.replace("lora_down.weight", "dora_scale")] = scale


LORA = (".lora_down.weight", ".lora_up.weight")
KNOWN_TO_THE_HOST: dict[str, tuple[Any, tuple[str, str], Any]] = {
    "kohya": (lora_name, LORA, None),
    "diffusers": (_diffusers, (".lora_A.weight", ".lora_B.weight"), None),
    "old diffusers": (_diffusers, ("_lora.down.weight", "_lora.up.weight"), None),
    "host": (_host, LORA, None),
    "fp8 e4m3": (lora_name, LORA, _dtype(torch.float8_e4m3fn)),
    "fp8 e5m2": (lora_name, LORA, _dtype(torch.float8_e5m2)),
    "bf16": (lora_name, LORA, _dtype(torch.bfloat16)),
    "int8": (lora_name, LORA, _int8),
    "OneTrainer's bundle": (lora_name, LORA, _bundle),
    "LyCORIS DoRA": (lora_name, LORA, _dora),
    "LyCORIS DoRA by input": (lora_name, LORA, _dora_by_input),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", [SD15, SDXL], ids=lambda family: family.name)
@pytest.mark.parametrize("layout", KNOWN_TO_THE_HOST)
def test_what_the_host_reads_changes_nothing_on_the_way(
    layout: str, family: Family, tmp_path: Path, host_modules: None
) -> None:
    """Catches a module lost, or a strength, shape or magnitude changed, against the host itself."""
    name, factors, change = KNOWN_TO_THE_HOST[layout]
    keep = some(PIECES[family])
    state = lora_state(family, keep=keep, name=name, factors=factors, rank=4, alpha=2.0)
    if change:
        change(state)
    path = tmp_path / "foreign.safetensors"
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    weights = seeded_weights(family)
    ours = by_host(carried_home(path, family, weights), family, weights)
    assert_same(ours, by_host(load_file(path), family, weights), weights)


def peft_folder(family: Family, folder: Path, weights: Weights, **settings: Any) -> Weights:
    """Train nothing, and save as peft does; return the weights that peft makes of it, merged."""
    from peft import LoraConfig, get_peft_model

    folders = {"unet": "unet", "te1": "text_encoder", "te2": "text_encoder_2"}
    changed = {}
    for part, name in folders.items():
        modules = {m.diffusers: m for m in chosen(family) if m.role.part == part}
        if not modules:
            continue
        tree = torch.nn.Module()
        for path, module in modules.items():
            _plant(tree, path, weights[module.key])
        torch.manual_seed(11)
        config = LoraConfig(target_modules=list(modules), init_lora_weights=False, **settings)
        model = get_peft_model(tree, config)
        for key, parameter in model.named_parameters():
            if "magnitude" in key:
                parameter.data *= torch.rand_like(parameter) + 0.5
        model.save_pretrained(str(folder / name))
        merged = model.merge_and_unload().state_dict()
        changed |= {m.key: merged[f"{path}.weight"].clone() for path, m in modules.items()}
    return changed


def _plant(tree: torch.nn.Module, path: str, weight: torch.Tensor) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in dict(tree.named_children()):
            tree.add_module(parent, torch.nn.Module())
        tree = getattr(tree, parent)
    out, n_in, *kernel = weight.shape
    layer = (
        torch.nn.Conv2d(n_in, out, tuple(kernel), bias=False)
        if kernel
        else torch.nn.Linear(n_in, out, bias=False)
    )
    layer.weight.data = weight.clone()
    tree.add_module(name, layer)


SETTINGS = {
    "alpha": {"r": 4, "lora_alpha": 16},
    "patterns": {"r": 4, "lora_alpha": 16, "rank_pattern": {"attn1.to_q": 2, "q_proj": 6},
                 "alpha_pattern": {"to_q": 3, ".*layers.3.*k_proj": 5, "^time_embed.*": 7}},
    "rslora": {"r": 4, "lora_alpha": 8, "use_rslora": True},
    "DoRA": {"r": 4, "lora_alpha": 8, "use_dora": True},
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The following:RuntimeWarning")  # a pattern for one part
@pytest.mark.parametrize("family", [SD15, SDXL], ids=lambda family: family.name)
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_peft_folder_changes_what_peft_does(
    settings: str, family: Family, tmp_path: Path, host_modules: None
) -> None:
    """Catches alpha, patterns or magnitudes of peft taken otherwise, against peft's own merge."""
    weights = seeded_weights(family)
    theirs = peft_folder(family, tmp_path, weights, **SETTINGS[settings])
    ours = by_host(carried_home(tmp_path, family, weights), family, weights)
    assert_same(ours, theirs, weights)
