"""The frozen UNet in fp8 and NF4: size, gradients, closeness; nobody else's weights change."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from runs import CPU, Counted, make_run, start
from tiny import tiny_base, tiny_source, tiny_unet

from glitch_train.errors import RecipeError, TrainingError
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.base_storage import store_base, to_fp8
from glitch_train.training.loop import LoraTraining

pytestmark = pytest.mark.slow


@pytest.fixture(params=["fp8", "nf4"])
def storage(request: pytest.FixtureRequest) -> str:
    """Both storages; NF4 where bitsandbytes is."""
    if request.param == "nf4":
        pytest.importorskip("bitsandbytes")
    return request.param


def block_weights(unet: torch.nn.Module, kinds: tuple[type, ...]) -> dict[str, torch.Tensor]:
    """Return the weights inside the blocks."""
    return {
        name: module.weight
        for name, module in unet.named_modules()
        if "block" in name and isinstance(module, kinds)
    }


def stored_bytes(unet: torch.nn.Module) -> int:
    """Return what the Linears of the blocks take, scales left out."""
    weights = block_weights(unet, (torch.nn.Linear,))
    return sum(weight.numel() * weight.element_size() for weight in weights.values())


def test_it_is_as_small_as_it_says(storage: str) -> None:
    """Catches weights that are stored twice, or not at all: bytes per weight 2, 1, one half."""
    in_bf16 = stored_bytes(tiny_unet().to(torch.bfloat16))
    unet = tiny_unet()
    store_base(unet, storage, CPU, torch.bfloat16)
    assert stored_bytes(unet) * {"fp8": 2, "nf4": 4}[storage] == in_bf16
    convolutions = block_weights(unet, (torch.nn.Conv2d,))
    expected = torch.float8_e4m3fn if storage == "fp8" else torch.bfloat16
    assert {weight.dtype for weight in convolutions.values()} == {expected}
    assert unet.conv_in.weight.dtype == unet.time_embedding.linear_1.weight.dtype == torch.bfloat16


def test_nobody_elses_weights_change(storage: str) -> None:
    """Catches the host's own model rounded: its tensors must keep format, place and content."""
    unet = tiny_unet()
    shared = {name: value.detach() for name, value in unet.named_parameters()}
    before = {name: (value.data_ptr(), value.clone()) for name, value in shared.items()}
    store_base(unet, storage, CPU, torch.bfloat16)
    for name, value in shared.items():
        assert value.data_ptr() == before[name][0], name
        assert value.dtype == torch.float32, name
        assert value.equal(before[name][1]), name


def test_fp8_rounds_less_than_a_plain_cast() -> None:
    """Catches the scale forgotten: small weights would fall among fp8's coarsest numbers."""
    weight = torch.randn(64, 32, generator=torch.Generator().manual_seed(0)) * 0.01
    stored, scale = to_fp8(weight)
    assert torch.frexp(scale).mantissa.unique().tolist() == [0.5]  # powers of two
    error = (stored.float() * scale - weight).norm() / weight.norm()
    plain = (weight.to(torch.float8_e4m3fn).float() - weight).norm() / weight.norm()
    assert error < 0.03 < plain
    zeros, scale = to_fp8(torch.zeros(2, 3))
    assert not (zeros.float() * scale).any()


@pytest.mark.parametrize("grad_needed", [True, False])
def test_fp8_computes_and_differentiates_as_torch_does(grad_needed: bool) -> None:
    """Catches a wrong gradient, against torch's own for the upcast weights."""
    unet, plain = tiny_unet(), tiny_unet()
    store_base(unet, "fp8", CPU, torch.float32)
    for name, original in plain.named_modules():
        if "block" not in name or not isinstance(original, (torch.nn.Linear, torch.nn.Conv2d)):
            continue
        module = unet.get_submodule(name)
        weight = module.weight.float() * module.scale
        stream = torch.Generator().manual_seed(1)
        tail = (6, 6) if weight.ndim == 4 else ()
        x = torch.randn(2, weight.shape[1], *tail, generator=stream).requires_grad_(grad_needed)
        if tail:
            theirs = F.conv2d(x, weight, original.bias, original.stride, original.padding)
        else:
            theirs = F.linear(x, weight, original.bias)
        mine = module(x)
        torch.testing.assert_close(mine, theirs, msg=name)
        if grad_needed:
            by = torch.randn(theirs.shape, generator=stream)
            one, two = (torch.autograd.grad((y * by).sum(), x)[0] for y in (mine, theirs))
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_training_is_close_to_the_whole_base(storage: str, tmp_path: Path, precision: str) -> None:
    """Catches a LoRA without gradients, or a base that is no longer the model."""
    settings = {"batch_size": 2, "conv_dim": 2, "learning_rate": 1e-2, "precision": precision}
    whole = [report.loss for report in start(tmp_path / "a", **settings)]
    training = start(tmp_path / "b", base_precision=storage, **settings)
    before = [parameter.detach().clone() for parameter in training.parameters]
    stored = [report.loss for report in training]
    assert stored == pytest.approx(whole, rel=0.05 if storage == "fp8" else 0.15)
    assert stored != whole
    for parameter, value in zip(training.parameters, before, strict=True):
        assert parameter.dtype == torch.float32
        assert not parameter.equal(value)


@pytest.mark.parametrize("held", [torch.float8_e4m3fn, torch.float8_e5m2], ids=["e4m3fn", "e5m2"])
def test_a_base_that_comes_in_fp8(storage: str, tmp_path: Path, held: torch.dtype) -> None:
    """Catches weights outside the stored ones left in the fp8 that a host holds them in."""

    def losses(base_precision: str) -> list[float]:
        base = tiny_base()
        for parameter in base.unet.parameters():
            parameter.data = parameter.data.to(held)
        recipe = TrainRecipe(network_dim=2, steps=1, base_precision=base_precision)
        source = tiny_source(tmp_path / base_precision)
        return [report.loss for report in LoraTraining(base, source, recipe, CPU)]

    assert losses(storage) == pytest.approx(losses("as precision"), rel=0.05)


def test_checkpointing_changes_no_gradient(storage: str, tmp_path: Path) -> None:
    """Catches stored weights that a recomputed forward pass reads differently."""
    norms = [
        start(
            tmp_path / setting, base_precision=storage, gradient_checkpointing=setting
        ).train_step().grad_norm
        for setting in ("off", "on")
    ]  # fmt: skip
    assert norms[0] == pytest.approx(norms[1], rel=1e-5)


def test_dora_wants_whole_weights() -> None:
    """Catches magnitudes of weights that are not the model's."""
    with pytest.raises(RecipeError, match="base_precision fp8 rounds; choose as precision"):
        TrainRecipe(network_type="dora", base_precision="fp8")


def test_a_missing_package_is_said_before_work_starts(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches an ImportError after all pictures were encoded."""
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match="pip install bitsandbytes, or choose fp8"):
        make_run(tmp_path, folder, Counted(), base_precision="nf4")
