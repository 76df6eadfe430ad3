"""Out of memory: thriftier with equal losses where that is left to us, else one sentence."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import pytest
import torch
from runs import Counted, make_run, start, start_text_encoders
from torch.optim.optimizer import register_optimizer_step_post_hook

from glitch_train.training import plan
from glitch_train.training.loop import LoraTraining
from glitch_train.training.memory import OutOfMemory, is_out_of_memory

pytestmark = pytest.mark.slow

FULL = "CUDA out of memory. Tried to allocate 2.00 GiB."


def limit(training: LoraTraining, pictures: int, *, kept: bool = True) -> list[int]:
    """Give the device room for so many pictures in a pass; return the sizes that were tried.

    Args:
        training: whose UNet is limited.
        pictures: most that fit.
        kept: whether they fit with all activations kept.
    """
    tried = []

    def before(unet, inputs, _options):
        tried.append(len(inputs[0]))
        if len(inputs[0]) > pictures or not (kept or unet.is_gradient_checkpointing):
            raise torch.cuda.OutOfMemoryError(FULL)

    training.base.unet.register_forward_pre_hook(before, with_kwargs=True)
    return tried


def steps(training: LoraTraining) -> list[tuple[float, float, int]]:
    """Train to the end; return loss, gradient norm and epoch of each step."""
    return [(report.loss, report.grad_norm, report.epoch) for report in training]


def approx(expected: list[tuple[float, float, int]]) -> list:
    """Compare losses of one batch with those of its parts."""
    return [pytest.approx(step, rel=1e-5) for step in expected]


@pytest.mark.parametrize("is_xl", [False, True], ids=["sd15", "sdxl"])
@pytest.mark.parametrize("accumulation", [1, 2])
def test_cut_batches_have_the_same_losses(tmp_path: Path, is_xl: bool, accumulation: int) -> None:
    """Catches draws taken twice, other draws per part, or parts weighed wrongly (3 = 2 + 1)."""
    settings = {"batch_size": 3, "gradient_accumulation": accumulation, "steps": 4,
                "noise_offset": 0.1, "input_perturbation": 0.1, "multires_noise_iterations": 2,
                "learning_rate": 1e-3, "is_xl": is_xl}  # fmt: skip
    whole = steps(start(tmp_path / "a", **settings))
    training = start(tmp_path / "b", **settings)
    tried = limit(training, 2)
    assert steps(training) == approx(whole)
    assert training.memory.checkpointing
    assert training.memory.micro_batch == 2
    # Once with everything kept, once with checkpointing, then in parts that fit.
    passes = 4 * accumulation
    assert tried[:2] == [3, 3]
    assert tried[2:] == [2, 1] * passes


def test_one_at_a_time(tmp_path: Path) -> None:
    """Catches a search that stops before the smallest part."""
    whole = steps(start(tmp_path / "a", batch_size=6))
    training = start(tmp_path / "b", batch_size=6)
    limit(training, 1)
    assert steps(training) == approx(whole)
    assert training.memory.micro_batch == 1


def test_checkpointing_is_tried_first(tmp_path: Path) -> None:
    """Catches batches that are cut although recomputing was enough."""
    whole = steps(start(tmp_path / "a", batch_size=2))
    training = start(tmp_path / "b", batch_size=2)
    tried = limit(training, 2, kept=False)
    assert steps(training) == approx(whole)
    assert training.memory.micro_batch == 2
    assert tried == [2, 2, 2, 2]


def test_captions_of_different_lengths(tmp_path: Path) -> None:
    """Catches a mask that is cut elsewhere than its captions, with trained text encoders."""
    settings = {"train_text_encoder": True, "text_encoder_lr": 1e-3}
    whole = steps(start_text_encoders(tmp_path / "a", **settings))
    training = start_text_encoders(tmp_path / "b", **settings)
    limit(training, 1)
    assert steps(training) == approx(whole)


def test_memory_that_runs_out_in_the_backward_pass(tmp_path: Path) -> None:
    """Catches gradients of the broken pass that are added to those of the next."""
    whole = steps(start(tmp_path / "a", batch_size=2, gradient_accumulation=2))
    training = start(tmp_path / "b", batch_size=2, gradient_accumulation=2)
    calls = 0

    def backward(gradient: torch.Tensor) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise torch.cuda.OutOfMemoryError(FULL)

    def after(_module, _inputs, output):
        if output[0].requires_grad:
            output[0].register_hook(backward)

    training.base.unet.register_forward_hook(after)
    assert steps(training) == approx(whole)


@pytest.mark.parametrize("setting", ["on", "off"])
def test_without_auto_it_says_what_to_lower(tmp_path: Path, setting: str) -> None:
    """Catches a setting that is overruled, or a traceback."""
    training = start(tmp_path, gradient_checkpointing=setting, batch_size=3, network_dim=32)
    limit(training, 2)
    with pytest.raises(OutOfMemory, match="at step 1: choose ") as caught:
        training.train_step()
    said = str(caught.value)
    assert training.memory.advice in said
    assert "network_dim 16 (" in said
    assert "batch_size 1 (" in said
    assert ("gradient_checkpointing auto (" in said) == (setting == "off")
    assert training.base.unet.is_gradient_checkpointing == (setting == "on")


def test_when_nothing_is_left_to_give_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches an endless search; and draws lost, so that a later attempt trains on others."""
    whole = steps(start(tmp_path / "a", batch_size=2))
    training = start(tmp_path / "b", batch_size=2)
    tried = limit(training, 0)
    with pytest.raises(OutOfMemory, match="ran out of memory at step 1: choose ") as caught:
        training.train_step()
    assert tried == [2, 2, 1]
    # As a plan that had no room from the start: what was given up counts no more as a gain.
    monkeypatch.setattr(plan, "free_bytes", lambda _: 10_000)
    planned = start(tmp_path / "c", batch_size=2).memory
    assert training.memory.remedies() == planned.remedies()
    assert str(caught.value).endswith(f": choose {training.memory.advice}.")
    training.base.unet._forward_pre_hooks.clear()
    assert steps(training) == approx(whole)


def test_a_run_says_it_and_lets_everything_go(tmp_path: Path, folder: Path) -> None:
    """Catches an error whose frames keep the activations, and a run that loses its LoRA."""
    run = make_run(tmp_path, folder, Counted(), steps=9, probe_every=0)
    events, held = run.events(), []
    while len(run.record) < 2:
        next(events)

    def before(_unet, inputs):
        held.append(weakref.ref(inputs[0]))
        raise torch.cuda.OutOfMemoryError(FULL)

    run.setup.base.unet.register_forward_pre_hook(before)
    with pytest.raises(OutOfMemory, match="at step 3") as caught:
        next(events)
    gc.collect()
    assert held
    assert not any(reference() is not None for reference in held)
    assert run.paths.lora.is_file()
    assert "ran out of memory" in run.record.about.ended.why
    del caught


def test_memory_that_runs_out_elsewhere(
    tmp_path: Path,
    folder: Path,
    request: pytest.FixtureRequest,
) -> None:
    """Catches torch's own words where a probe or the optimizer found no memory; and a torn LoRA."""
    run = make_run(tmp_path, folder, Counted(), steps=9, probe_every=0, save_every=2)
    events = run.events()
    while len(run.record) < 3:
        next(events)
    before = run.paths.state.read_bytes()

    def torn(*_args, **_kwargs):
        raise torch.cuda.OutOfMemoryError(FULL)

    request.addfinalizer(register_optimizer_step_post_hook(torn).remove)
    said = "ran out of memory: choose .* less\\)"
    with pytest.raises(OutOfMemory, match=said):
        next(events)
    assert run.paths.state.read_bytes() == before
    assert not run.paths.lora.exists()


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (torch.cuda.OutOfMemoryError(FULL), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: "
                      "you tried to allocate 9 bytes."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)  # fmt: skip
def test_what_counts_as_out_of_memory(error: Exception, is_one: bool) -> None:
    """Catches another device's words, or another error retried."""
    assert is_out_of_memory(error) == is_one
