"""Optimizers and schedules against the libraries they come from."""

from __future__ import annotations

import sys

import pytest
import torch
from diffusers.optimization import get_scheduler
from transformers.optimization import Adafactor
from transformers.optimization import get_scheduler as of_transformers

from glitch_train.errors import RecipeError, TrainingError
from glitch_train.recipe.train import SCHEDULERS, TrainRecipe
from glitch_train.training.optim import build_optimizer, build_schedule, rex


def parameters() -> list[torch.nn.Parameter]:
    """Return two seeded parameters."""
    stream = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=stream)) for shape in [(3, 4), (5,)]]


def ten_steps(optimizer: torch.optim.Optimizer, trained: list[torch.nn.Parameter]) -> None:
    """Take ten seeded steps."""
    stream = torch.Generator().manual_seed(1)
    for _ in range(10):
        for parameter in trained:
            parameter.grad = torch.randn(parameter.shape, generator=stream)
        optimizer.step()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("AdamW", lambda p: torch.optim.AdamW(p, lr=3e-3, weight_decay=0.2)),
        ("SGD", lambda p: torch.optim.SGD(p, lr=3e-3, weight_decay=0.2, momentum=0.9)),
        (
            "Adafactor",
            lambda p: Adafactor(
                p, lr=3e-3, weight_decay=0.2, scale_parameter=False, relative_step=False
            ),
        ),
    ],
)
def test_agrees_with_the_library_over_ten_steps(name: str, reference) -> None:
    """Catches a hyperparameter that does not arrive: each has a value of its own."""
    mine, theirs = parameters(), parameters()
    recipe = TrainRecipe(optimizer=name, learning_rate=3e-3, weight_decay=0.2)
    ten_steps(build_optimizer(recipe, mine), mine)
    ten_steps(reference(theirs), theirs)
    for one, two in zip(mine, theirs, strict=True):
        assert one.equal(two)


@pytest.mark.parametrize(
    ("name", "module", "package"),
    [
        ("AdamW8bit", "bitsandbytes", "bitsandbytes"),
        ("Prodigy", "prodigyopt", "prodigyopt"),
        ("Lion", "lion_pytorch", "lion-pytorch"),
    ],
)
def test_a_missing_package_is_named(monkeypatch, name: str, module: str, package: str) -> None:
    """Catches an ImportError where the person needs the package's name."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(TrainingError, match=f"pip install {package}, or choose AdamW"):
        build_optimizer(TrainRecipe(optimizer=name), parameters())


@pytest.mark.parametrize(("name", "module"), [("Prodigy", "prodigyopt"), ("Lion", "lion_pytorch")])
def test_optional_optimizers_get_their_settings(name: str, module: str) -> None:
    """Catches a wrong argument to an optional package, against the package itself."""
    pytest.importorskip(module, reason=f"the optional package of {name} is not installed")
    recipe = TrainRecipe(optimizer=name, learning_rate=0.5, weight_decay=0.2)
    group = build_optimizer(recipe, parameters()).param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.2)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "rex"])
def test_schedules_equal_diffusers(name: str) -> None:
    """Catches warmup, cycles or length that do not arrive."""
    recipe = TrainRecipe(
        lr_scheduler=name, learning_rate=0.01, warmup_steps=3, steps=20, lr_cycles=2
    )
    mine = build_optimizer(recipe, parameters())
    theirs = torch.optim.AdamW(parameters(), lr=0.01)
    schedule = build_schedule(recipe, mine)
    reference = get_scheduler(name, theirs, num_warmup_steps=3, num_training_steps=20, num_cycles=2)
    for _ in range(20):
        assert mine.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]
        for optimizer, its_schedule in ((mine, schedule), (theirs, reference)):
            optimizer.step()
            its_schedule.step()


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "rex"])
def test_schedules_equal_transformers(name: str) -> None:
    """Catches a schedule of one library alone, or a group of rates that does not follow."""
    recipe = TrainRecipe(
        lr_scheduler=name, learning_rate=0.01, text_encoder_lr=0.002, train_text_encoder=True,
        warmup_steps=3, steps=20, lr_cycles=2,
    )  # fmt: skip
    unet, text = parameters()
    mine = build_optimizer(recipe, [unet], [text])
    of_unet, of_text = parameters()
    groups = [{"params": [of_unet]}, {"params": [of_text], "lr": 0.002}]
    theirs = torch.optim.AdamW(groups, lr=0.01)
    schedule = build_schedule(recipe, mine)
    cycles = {"num_cycles": 2} if name == "cosine_with_restarts" else {}
    reference = of_transformers(
        name, theirs, num_warmup_steps=3, num_training_steps=20, scheduler_specific_kwargs=cycles
    )
    for _ in range(20):
        rates = [[group["lr"] for group in one.param_groups] for one in (mine, theirs)]
        assert rates[0] == pytest.approx(rates[1], rel=1e-9)
        for optimizer, its_schedule in ((mine, schedule), (theirs, reference)):
            optimizer.step()
            its_schedule.step()


def test_rex_follows_its_paper() -> None:
    """Catches another curve: values worked out by hand from (1 - p) / (1 - p / 2)."""
    factor = rex(steps=10, warmup_steps=0)
    assert factor(0) == 1
    assert factor(5) == pytest.approx(0.5 / 0.75)
    assert factor(9) == pytest.approx(0.1 / 0.55)
    assert factor(10) == 0
    assert [rex(10, 4)(step) for step in range(5)] == [0, 0.25, 0.5, 0.75, 1]


def test_polynomial_needs_a_learning_rate_above_its_end() -> None:
    """Catches a ValueError of the library in place of a sentence."""
    with pytest.raises(RecipeError, match="learning_rate must be above"):
        TrainRecipe(lr_scheduler="polynomial", learning_rate=0.0)
