"""What flows through a model of 16 bits has 16 bits, and only what is trained is fp32."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from runs import start, start_text_encoders
from torch._subclasses.fake_tensor import FakeTensorMode

from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.optim import build_optimizer

pytestmark = pytest.mark.slow


def kept_for_backward(training) -> dict[torch.dtype, int]:
    """Return the bytes that autograd keeps of one forward pass, storages counted once."""
    kept: dict[int, torch.Tensor] = {}

    def pack(value: torch.Tensor) -> torch.Tensor:
        kept[value.untyped_storage().data_ptr()] = value
        return value

    own = {value.untyped_storage().data_ptr() for value in training.base.unet.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        training._forward_backward()
    sizes: dict[torch.dtype, int] = {}
    for place in kept.keys() - own:
        value = kept[place]
        sizes[value.dtype] = sizes.get(value.dtype, 0) + value.untyped_storage().nbytes()
    return sizes


@pytest.mark.parametrize("network", [{}, {"conv_dim": 2}], ids=["linears", "convolutions"])
def test_a_lora_keeps_no_input_of_its_own(tmp_path: Path, network: dict) -> None:
    """Catches copies of an input: fp32 as the factors are, or one each for q, k and v."""
    settings = {"precision": "bf16", "batch_size": 2, **network}
    kept = kept_for_backward(start(tmp_path / "a", **settings))
    # The loss is taken in fp32: the prediction, its difference to the noise, its square.
    assert kept.pop(torch.float32) < 0.02 * sum(kept.values())
    assert kept.keys() == {torch.bfloat16}
    in_fp32 = kept_for_backward(start(tmp_path / "b", **settings | {"precision": "fp32"}))
    factors = sum(value.numel() for value in start(tmp_path / "c", **settings).parameters)
    # Beside its half of everything, bf16 keeps the factors as it computed with them.
    assert sum(kept.values()) <= sum(in_fp32.values()) / 2 + 2 * factors


@pytest.mark.parametrize("base_precision", ["as precision", "fp8"])
def test_gradients_in_bf16_are_those_of_fp32(tmp_path: Path, base_precision: str) -> None:
    """Catches a format in which the LoRA learns something else, by direction and by size."""
    found = []
    for precision in ("fp32", "bf16"):
        training = start(
            tmp_path / precision, precision=precision, batch_size=2, base_precision=base_precision
        )
        training._forward_backward()
        grads = [value.grad.flatten() for value in training.parameters]
        assert {grad.dtype for grad in grads} == {torch.float32}
        found.append(torch.cat(grads))
    exact, rounded = found
    assert (exact - rounded).norm() / exact.norm() < 0.05


def test_frozen_text_encoders_stay_small(tmp_path: Path) -> None:
    """Catches towers kept in fp32 for the LoRA's sake: 3.3 GB of SDXL's."""
    settings = {"train_text_encoder": True, "text_encoder_lr": 1e-3}
    training = start_text_encoders(tmp_path / "a", precision="bf16", **settings)
    tower = training.base.text_encoders[0].model
    formats = {value.requires_grad: set() for value in tower.parameters()}
    for value in tower.parameters():
        formats[value.requires_grad].add(value.dtype)
    assert formats == {True: {torch.float32}, False: {torch.bfloat16}}
    losses = [report.loss for report in training]
    whole = [report.loss for report in start_text_encoders(tmp_path / "b", **settings)]
    assert all(map(math.isfinite, losses))
    assert losses == pytest.approx(whole, rel=0.02)


@pytest.mark.parametrize(("device", "fused"), [("cpu", None), ("cuda", True)])
def test_adamw_takes_one_kernel_on_a_gpu(device: str, fused: bool | None) -> None:
    """Catches the third copy of all factors that torch makes where nobody asks for the kernel."""
    with FakeTensorMode():  # a GPU's tensors, without the GPU
        parameter = torch.nn.Parameter(torch.empty(3, device=device))
    optimizer = build_optimizer(TrainRecipe(), [parameter])
    assert optimizer.defaults["fused"] is fused
