"""LoRA, DoRA, rsLoRA, convolutions and the choice of blocks, against peft's own and plain torch."""

from __future__ import annotations

import functools
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from diffusers import UNet2DConditionModel
from runs import start
from tiny import tiny_base, tiny_unet

from glitch_demo.full_shapes import LAYOUTS, ldm_weights
from glitch_train.errors import RecipeError, TrainingError
from glitch_train.lora.file import to_kohya
from glitch_train.lora.layers import LoraLayer, LoraShape, TrainedLora, inject_lora
from glitch_train.lora.read import read_lora
from glitch_train.lora.targets import has_kernel, recipe_targets, unet_targets
from glitch_train.model.checkpoint import BaseModel, build_unet
from glitch_train.model.unet_names import to_diffusers_names, to_ldm_modules
from glitch_train.recipe.train import UNET_BLOCKS, UNET_LAYERS, TrainRecipe
from glitch_train.training.loop import LoraTraining

pytestmark = pytest.mark.slow


@functools.cache
def full_size(name: str) -> UNet2DConditionModel:
    """Return a family's UNet on the meta device; not to be changed."""
    return build_unet(ldm_weights(*LAYOUTS[name]))[0]


KINDS = ("lora", "dora", "rslora")
RANK, ALPHA, CONV_RANK, CONV_ALPHA = 4, 3.0, 2, 5.0


def filled(kind: str, *, is_xl: bool = False) -> tuple[BaseModel, TrainedLora]:
    """Return a base whose every Linear and convolution in the blocks wears random factors."""
    base = tiny_base(is_xl=is_xl)
    shape = LoraShape(RANK, ALPHA, kind, CONV_RANK, CONV_ALPHA)
    targets = unet_targets(base.unet, convolutions=True)
    layers = inject_lora(base.unet, targets, shape, torch.Generator().manual_seed(1))
    stream = torch.Generator().manual_seed(2)
    for layer in layers.values():
        layer.up.data = torch.randn(layer.up.shape, generator=stream) * 0.1
        if layer.magnitude is not None:
            by = torch.rand(layer.magnitude.shape, generator=stream) + 0.5
            layer.magnitude.data = layer.magnitude * by
    return base, TrainedLora(layers)


def merged(kind: str, weight: torch.Tensor, layer: LoraLayer) -> torch.Tensor:
    """Return the merged weight as the papers define it, in plain torch."""
    rank = len(layer.down)
    alpha = CONV_ALPHA if weight.shape[2:].numel() > 1 else ALPHA
    scale = alpha / math.sqrt(rank) if kind == "rslora" else alpha / rank
    product = layer.up.flatten(1) @ layer.down.flatten(1)
    changed = weight + scale * product.reshape(weight.shape)
    if kind != "dora":
        return changed
    norms = changed.flatten(1).norm(dim=1)
    by = layer.magnitude.flatten() / norms
    return changed * by.reshape(-1, *[1] * (weight.ndim - 1))


@pytest.mark.parametrize("kind", KINDS)
def test_every_module_computes_with_the_merged_weight(kind: str) -> None:
    """Catches a wrong scale, norm or rank in any kind of layer, by the papers' formulas."""
    base, lora = filled(kind)
    plain = tiny_unet()
    kernels = 0
    for name, layer in lora.unet.items():
        original, module = plain.get_submodule(name), base.unet.get_submodule(name)
        weight = merged(kind, original.weight, layer)
        stream = torch.Generator().manual_seed(3)
        if weight.ndim == 4:
            x = torch.randn(2, weight.shape[1], 6, 6, generator=stream)
            expected = F.conv2d(x, weight, original.bias, original.stride, original.padding)
            kernels += has_kernel(original)
            assert len(layer.down) == (CONV_RANK if has_kernel(original) else RANK), name
        else:
            x = torch.randn(2, weight.shape[1], generator=stream)
            expected = F.linear(x, weight, original.bias)
            assert len(layer.down) == RANK, name
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5, msg=name)
    assert kernels == 2 * 8 + 2  # two in each residual block, and the two samplers


@pytest.mark.parametrize("kind", KINDS)
def test_pefts_own_merge_gives_the_same(kind: str) -> None:
    """Catches layers that peft itself would merge to something else."""
    base, lora = filled(kind)
    plain = tiny_unet()
    for name, layer in lora.unet.items():
        module = base.unet.get_submodule(name)
        expected = merged(kind, plain.get_submodule(name).weight, layer)
        module.merge(safe_merge=True)
        weight = module.get_base_layer().weight
        torch.testing.assert_close(weight, expected, rtol=1e-4, atol=1e-6, msg=name)


def read_as_the_host(
    state: dict[str, torch.Tensor], name: str, weight: torch.Tensor
) -> torch.Tensor:
    """Return the weight that ComfyUI's loader makes of a module, written down plainly."""
    up, down = state[f"{name}.lora_up.weight"], state[f"{name}.lora_down.weight"]
    scale = state[f"{name}.alpha"].item() / down.shape[0]
    product = up.float().flatten(1) @ down.float().flatten(1)
    changed = weight + scale * product.reshape(weight.shape)
    if f"{name}.dora_scale" not in state:
        return changed
    norms = weight.flatten(1).norm(dim=1).reshape(-1, *[1] * (weight.ndim - 1))
    return changed * (state[f"{name}.dora_scale"] / norms)


@pytest.mark.parametrize("is_xl", [False, True], ids=["sd15", "sdxl"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_file_says_what_was_trained(kind: str, is_xl: bool) -> None:
    """Catches an alpha or magnitude from which a loader makes another weight."""
    base, lora = filled(kind, is_xl=is_xl)
    plain = tiny_unet(is_xl=is_xl)
    state = to_kohya(lora, base, save_precision="fp32")
    names = {name: name for name in lora.unet}
    if is_xl:
        names = to_ldm_modules(base.layout, lora.unet)
    for name, layer in lora.unet.items():
        weight = plain.get_submodule(name).weight
        mine = read_as_the_host(state, "lora_unet_" + names[name].replace(".", "_"), weight)
        torch.testing.assert_close(
            mine, merged(kind, weight, layer), rtol=1e-4, atol=1e-6, msg=name
        )


def test_an_alpha_that_fp16_would_round_is_kept() -> None:
    """Catches rsLoRA's odd alphas rounded, or made infinite, by a small file."""
    base, lora = filled("rslora")
    state = to_kohya(lora, base, save_precision="fp16")
    alphas = {value.item() for key, value in state.items() if key.endswith(".alpha")}
    expected = [ALPHA * math.sqrt(RANK), CONV_ALPHA * math.sqrt(CONV_RANK)]
    assert sorted(alphas) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("kind", ["lora", "rslora"])
def test_diffusers_loads_convolutions_and_computes_the_same(kind: str, tmp_path: Path) -> None:
    """Catches keys or alphas that diffusers' own loader reads differently."""
    from diffusers import StableDiffusionPipeline
    from safetensors.torch import save_file

    base, lora = filled(kind)
    path = tmp_path / "lora.safetensors"
    save_file(to_kohya(lora, base, save_precision="fp32"), path)
    state, alphas = StableDiffusionPipeline.lora_state_dict(path)[:2]
    plain = tiny_unet()
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, plain)
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([300]), torch.randn(1, 77, 24)
    theirs, mine = plain(*inputs).sample, base.unet(*inputs).sample
    assert not torch.allclose(mine, tiny_unet()(*inputs).sample, atol=1e-2)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_changes_at_step_0(tmp_path: Path, kind: str, precision: str) -> None:
    """Catches a DoRA whose magnitudes are rounded: the untrained model must be the base."""
    settings = {"network_type": kind, "conv_dim": 2, "precision": precision}
    training = start(tmp_path, batch_size=2, **settings)
    batch = training.source.next().to(training.device, training.predictor.dtype)
    latents, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([30, 700])
    with torch.no_grad():
        mine = training.predictor.predict(batch, latents, timesteps)
        training.base.unet = tiny_unet().to(training.predictor.dtype)
        plain = training.predictor.predict(batch, latents, timesteps)
    assert mine.equal(plain)


def test_a_dead_output_is_one_sentence() -> None:
    """Catches DoRA dividing zero by zero, which would surface as a loss that is not a number."""
    unet = tiny_unet()
    targets = unet_targets(unet)
    unet.get_submodule(targets[1]).weight.data[3] = 0
    inject_lora(unet, targets[:1], LoraShape(2, 2.0, "dora"), torch.Generator())
    with pytest.raises(TrainingError, match="dora cannot train .*all zero.*choose lora"):
        inject_lora(unet, targets[1:2], LoraShape(2, 2.0, "dora"), torch.Generator())


@pytest.mark.parametrize(
    ("name", "with_kernels", "in_all"), [("SD1.5", 50, 278), ("SDXL", 38, 788)]
)
def test_kohyas_number_of_convolutions(name: str, with_kernels: int, in_all: int) -> None:
    """Catches a block left out, against the counts that kohya's LoCon prints."""
    family, layout = LAYOUTS[name]
    weights = ldm_weights(family, layout)
    unet, _, _ = build_unet(weights)
    targets = unet_targets(unet, convolutions=True)
    assert len(targets) == in_all
    assert sum(has_kernel(unet.get_submodule(target)) for target in targets) == with_kernels
    back = {new: old for old, new in to_diffusers_names(layout, weights).items()}
    for module, ldm in to_ldm_modules(layout, targets).items():
        assert back[f"{module}.weight"] == f"{ldm}.weight"


@pytest.mark.parametrize(
    ("blocks", "layers", "sd15", "sdxl"),
    [
        ("all", "all", 192, 722),
        ("down", "all", 72, 248),
        ("mid", "all", 12, 102),
        ("up", "all", 108, 372),
        ("down+mid", "all", 84, 350),
        ("mid+up", "all", 120, 474),
        ("down+up", "all", 180, 620),
        ("all", "attention", 128, 560),
        ("all", "self_attention", 64, 280),
        ("all", "cross_attention", 64, 280),
        ("all", "feed_forward", 32, 140),
        ("up", "feed_forward", 18, 72),
        ("all", "convolutions", 86, 66),
        ("mid", "convolutions", 6, 6),
    ],
)
def test_what_a_choice_of_blocks_trains(blocks: str, layers: str, sd15: int, sdxl: int) -> None:
    """Catches a block or layer aimed at that is not hit: counted from the published layouts."""
    convolutions = layers == "convolutions"
    for name, count in (("SD1.5", sd15), ("SDXL", sdxl)):
        unet = full_size(name)
        assert len(unet_targets(unet, blocks, layers, convolutions=convolutions)) == count, name


def test_every_choice_is_known() -> None:
    """Catches a word offered on the node that selects nothing or everything."""
    unet = full_size("SD1.5")
    chosen = {
        tuple(unet_targets(unet, blocks, layers, convolutions=True))
        for blocks in UNET_BLOCKS
        for layers in UNET_LAYERS
    }
    assert len(chosen) == len(UNET_BLOCKS) * len(UNET_LAYERS)


def test_a_choice_that_hits_nothing_is_refused() -> None:
    """Catches a run that trains nothing: SSD-1B has no attention in the middle."""
    unet = full_size("SSD-1B")
    recipe = TrainRecipe(unet_blocks="mid", unet_layers="feed_forward")
    with pytest.raises(TrainingError, match="no feed_forward layers in mid; choose other"):
        recipe_targets(unet, recipe)
    with pytest.raises(RecipeError, match="trains nothing while conv_dim is 0"):
        TrainRecipe(unet_layers="convolutions")


def shapes_of(training: LoraTraining) -> dict[str, tuple[int, ...]]:
    """Return what is trained: names without peft's wrapping, and shapes."""
    return {
        name: tuple(value.shape)
        for name, value in training.base.unet.named_parameters()
        if value.requires_grad
    }


CONVOLUTIONAL = ("resnets", "downsamplers", "upsamplers")


@pytest.mark.parametrize(
    ("settings", "gone", "new"),
    [
        ({"network_type": "dora"}, (), ("lora_magnitude_vector",)),
        ({"network_type": "rslora"}, (), ()),
        ({"conv_dim": 3}, (), CONVOLUTIONAL),
        ({"unet_blocks": "up"}, ("down_blocks", "mid_block"), ()),
        ({"unet_layers": "feed_forward"}, ("attn", "proj_in", "proj_out"), ()),
        ({"unet_layers": "convolutions", "conv_dim": 3}, ("attentions",), CONVOLUTIONAL),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_an_option_changes_what_it_should_and_nothing_else(
    tmp_path: Path, settings: dict, gone: tuple[str, ...], new: tuple[str, ...]
) -> None:
    """Catches an option that trains more, or less, than it says, or moves step 1."""
    common = {"learning_rate": 1e-2, "batch_size": 2}
    plain, changed = start(tmp_path / "a", **common), start(tmp_path / "b", **common, **settings)
    before, after = shapes_of(plain), shapes_of(changed)
    kept = {name: shape for name, shape in before.items() if name in after}
    assert kept == {name: shape for name, shape in after.items() if name in before}
    assert all(any(piece in name for piece in gone) for name in before.keys() - after.keys())
    assert all(any(piece in name for piece in new) for name in after.keys() - before.keys())
    assert not any(piece in name for piece in gone for name in after)
    assert all(any(piece in name for name in after) for piece in new)
    losses, others = [report.loss for report in plain], [report.loss for report in changed]
    assert others[0] == pytest.approx(losses[0], rel=1e-6)
    assert others[2] != losses[2]


def test_magnitudes_are_trained(tmp_path: Path) -> None:
    """Catches a DoRA whose magnitudes stand still."""
    training = start(tmp_path, network_type="dora", conv_dim=2, learning_rate=1e-2)
    before = {name: layer.magnitude.clone() for name, layer in training.lora.unet.items()}
    list(training)
    for name, layer in training.lora.unet.items():
        assert not layer.magnitude.equal(before[name]), name
        assert any(layer.magnitude is parameter for parameter in training.parameters)


@pytest.mark.parametrize("kind", KINDS)
def test_our_reader_knows_our_files(kind: str) -> None:
    """Catches the applier and inspect losing convolutions, magnitudes or the scale."""
    base, lora = filled(kind)
    read = read_lora(to_kohya(lora, base, save_precision="fp32"), "mine")
    assert read.kinds == (("LoRA", "LoCon", "DoRA") if kind == "dora" else ("LoRA", "LoCon"))
    assert read.ranks == (CONV_RANK, RANK)
    energy = sum(layer.change().square().sum().item() for layer in lora.unet.values())
    assert read.energy == pytest.approx(energy, rel=1e-4)
