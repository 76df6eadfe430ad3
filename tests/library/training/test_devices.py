"""Devices that lack what CUDA and the CPU have: Apple's MPS, and DirectML (privateuseone)."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import start
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from glitch_train.errors import TrainingError
from glitch_train.lora.read import product_energy
from glitch_train.model.noise_schedule import own_alphas
from glitch_train.training import devices
from glitch_train.training.devices import peak_memory_mb, resolve_precision
from glitch_train.training.run.standalone import find_device
from glitch_train.training.sampling import denoised

DIRECTML = torch.device("privateuseone")
MPS = torch.device("mps")


class NoFloat64(TorchDispatchMode):
    """A device without float64: what would make such a tensor there raises, as MPS does."""

    def __init__(self, kind: str) -> None:
        """Watch the devices of a kind."""
        super().__init__()
        self.kind = kind

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Do the operation, and look at what comes out."""
        out = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.lift_fresh.default:  # what came from numpy, on the CPU yet
            return out
        for value in [out] if isinstance(out, torch.Tensor) else tree_leaves(out):
            if isinstance(value, torch.Tensor) and value.dtype == torch.float64:
                assert value.device.type != self.kind, func
        return out


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m_karras"])
def test_training_and_sampling_have_no_float64(tmp_path: Path, sampler: str) -> None:
    """Catches a loss, a norm, a schedule or a sampler that computes in what MPS refuses."""
    settings = {
        "min_snr_gamma": 5.0, "noise_offset": 0.1, "multires_noise_iterations": 2,
        "input_perturbation": 0.1, "lr_scheduler": "cosine", "timestep_sampling": "logit_normal",
    }  # fmt: skip
    with NoFloat64("cpu"):
        training = start(tmp_path, is_xl=True, **settings)
        report = training.train_step()
        batch = training.source.next()
        list(denoised(training.predictor, batch, sampler=sampler, steps=2, cfg=1.0))
    assert report.finite


@pytest.mark.parametrize(
    "work",
    [
        lambda: own_alphas(torch.empty(1000, device=MPS)),
        lambda: product_energy(torch.empty(8, 2, device=MPS), torch.empty(2, 8, device=MPS)),
    ],
    ids=["noise levels", "norm of a LoRA"],
)
def test_float64_is_computed_on_the_cpu(work: Any) -> None:
    """Catches a tensor that becomes float64 where it lies, and then moves."""
    with FakeTensorMode(), NoFloat64("mps"), contextlib.suppress(DataDependentOutputException):
        work()


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_no_autocast_is_entered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Catches autocast, which DirectML's device refuses even when it is disabled."""
    with pytest.raises((AssertionError, RuntimeError)):
        torch.autocast(DIRECTML.type, dtype=torch.float32, enabled=False)
    training = start(tmp_path, precision=precision)

    def entered(*_: object, **__: object) -> None:
        raise AssertionError("autocast")

    monkeypatch.setattr(torch.autocast, "__enter__", entered)
    assert training.train_step().finite
    assert resolve_precision("auto", DIRECTML) == torch.float32


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_precision_that_a_device_lacks(precision: str) -> None:
    """Catches torch's assertion in place of a sentence."""
    with pytest.raises(TrainingError, match=f"precision {precision} .* privateuseone; choose auto"):
        resolve_precision(precision, DIRECTML)


def test_fp16_needs_a_scaler_too() -> None:
    """Catches a device taken for able by its name: this MPS has no memory at all."""
    with pytest.raises(TrainingError, match="precision fp16 cannot be trained in"):
        resolve_precision("fp16", MPS)


@pytest.fixture
def _mps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)


@pytest.mark.usefixtures("_mps")
def test_mps_is_used_where_it_is() -> None:
    """Catches a Mac that trains on its CPU."""
    assert find_device(None) == MPS
    assert resolve_precision("auto", MPS) == torch.float32


def test_the_peak_is_known_without_resource(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a column of NaN on Windows, which has its own figure for the same."""
    import psutil

    class Windows:
        def memory_info(self) -> Any:
            return type("pmem", (), {"peak_wset": 3 * 2**20})

    monkeypatch.setitem(devices.sys.modules, "resource", None)
    monkeypatch.setattr(psutil, "Process", Windows)
    assert peak_memory_mb(torch.device("cpu")) == 3
