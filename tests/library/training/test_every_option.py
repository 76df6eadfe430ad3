"""Every setting of a training: what it changes in a run, and that it changes nothing else."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import Counted, make_run, write_pictures
from safetensors.torch import load_file

from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import declared

pytestmark = pytest.mark.slow

COMMON = {
    "steps": 3, "learning_rate": 1e-2, "network_dim": 2, "network_alpha": 2.0, "batch_size": 2,
    "probe_every": 2, "save_precision": "fp32", "sample_steps": 2, "sample_prompts": "one\ntwo",
}  # fmt: skip
"""What all runs here share, where a row does not say otherwise."""

PATH = frozenset({"losses", "weights", "probe"})
"""Another way from the second step on; the first loss is that of the untouched base."""

DRAWS = PATH | {"first loss"}
"""Another task from the first step on."""

SHORTER = frozenset({"ending", "weights"})
"""The same way, left earlier."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One setting.

    Attributes:
        value: another value than in :data:`COMMON` or by default.
        changes: what it changes, see :func:`seen`.
        beside: settings without which it says nothing.
    """

    value: Any
    changes: frozenset[str]
    beside: Mapping[str, Any] = dataclasses.field(default_factory=dict)


SAMPLED = {"sample_every": 2}
ROWS = {
    "steps": Row(5, frozenset({"ending", "weights", "probe"})),  # the last step is probed
    "learning_rate": Row(2e-3, PATH | {"rates"}),
    "train_text_encoder": Row(True, PATH | {"rates", "modules"}, {"text_encoder_lr": 1e-2}),
    "text_encoder_only": Row(True, PATH | {"rates", "modules"}),
    "text_encoder_lr": Row(1e-2, PATH | {"rates"}, {"train_text_encoder": True}),
    "lr_scheduler": Row("linear", PATH | {"rates"}),
    "warmup_steps": Row(2, PATH | {"rates"}, {"lr_scheduler": "constant_with_warmup"}),
    "lr_cycles": Row(2, PATH | {"rates"}, {"lr_scheduler": "cosine_with_restarts"}),
    "optimizer": Row("SGD", PATH),
    "weight_decay": Row(8.0, PATH),
    "network_dim": Row(3, PATH | {"modules"}),
    "network_alpha": Row(8.0, PATH),
    "network_type": Row("dora", PATH | {"modules"}),
    "conv_dim": Row(2, PATH | {"modules"}),
    "conv_alpha": Row(16.0, PATH, {"conv_dim": 2}),
    "unet_blocks": Row("up", PATH | {"modules"}),
    "unet_layers": Row("feed_forward", PATH | {"modules"}),
    "batch_size": Row(1, DRAWS),
    "gradient_accumulation": Row(2, DRAWS | {"epochs"}),
    "loss_type": Row("l1", DRAWS),
    "min_snr_gamma": Row(0.01, DRAWS),
    "timestep_min": Row(600, DRAWS),
    "timestep_max": Row(300, DRAWS),
    "timestep_sampling": Row("logit_normal", DRAWS),
    "noise_offset": Row(0.2, DRAWS),
    "multires_noise_iterations": Row(3, DRAWS),
    "multires_noise_discount": Row(0.8, DRAWS, {"multires_noise_iterations": 3}),
    "input_perturbation": Row(0.2, DRAWS),
    "validation_split": Row(0.3, DRAWS | {"epochs", "columns"}),
    "probe_every": Row(3, frozenset({"probe"})),
    "precision": Row("bf16", DRAWS),
    "base_precision": Row("fp8", DRAWS),
    "gradient_checkpointing": Row("on", frozenset()),
    "stop_at_epochs": Row(1, SHORTER | {"probe"}, {"steps": 5}),
    "stop_at_minutes": Row(1e-6, SHORTER),
    "stop_at_drift": Row(1e-6, SHORTER),
    "glitch_through": Row(True, frozenset()),
    "save_every": Row(2, frozenset({"files"})),
    "seed": Row(1, DRAWS),
    "output_name": Row("another", frozenset({"files"})),
    "save_precision": Row("fp16", frozenset({"format"})),
    "sample_every": Row(2, frozenset({"files", "pictures"})),
    "sample_prompts": Row("one\nthree", frozenset({"pictures"}), SAMPLED),
    "sample_sampler": Row("euler", frozenset({"pictures"}), SAMPLED),
    "sample_steps": Row(3, frozenset({"pictures"}), SAMPLED),
    "sample_cfg": Row(1.0, frozenset({"pictures"}), SAMPLED),
    "sample_seed": Row(1, frozenset({"pictures"}), SAMPLED),
    "sample_width": Row(128, frozenset({"pictures"}), SAMPLED),
    "sample_height": Row(128, frozenset({"pictures"}), SAMPLED),
}


def test_every_setting_has_a_row() -> None:
    """Catches a setting that was added and never seen to do anything."""
    assert list(ROWS) == list(declared(TrainRecipe))


@pytest.fixture(scope="module")
def run_once(tmp_path_factory: pytest.TempPathFactory):
    """Return a function from settings to what their run leaves; each is run once."""
    pictures = write_pictures(tmp_path_factory.mktemp("folder"))

    @functools.cache
    def run(settings: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
        place = tmp_path_factory.mktemp("run")
        return seen(place, pictures, {**COMMON, **dict(settings)})

    return lambda settings: run(tuple(sorted(settings.items())))


@pytest.mark.parametrize("setting", ROWS)
def test_a_setting_changes_what_it_should_and_nothing_else(run_once, setting: str) -> None:
    """Catches a setting that does not arrive, or one that has side effects."""
    row = ROWS[setting]
    plain = run_once(dict(row.beside))
    changed = run_once({**row.beside, setting: row.value})
    assert {name for name in plain if not same(plain[name], changed[name])} == row.changes


def seen(place: Path, pictures: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Do a run and return what can be seen of it, under the names that rows use."""
    run = make_run(place, pictures, Counted(), **settings)
    list(run.events())
    columns, lora = run.record.columns, load_file(run.paths.lora)
    probes = {name: values for name, values in columns.items() if "probe" in name}
    files = [*(place / "runs").rglob("*"), *(place / "loras").rglob("*")]
    samples = sorted(run.paths.samples.glob("step*"))
    return {
        "first loss": columns["loss"][:1],
        "losses": columns["loss"][1:],
        "rates": side_by_side(columns["learning_rate"], columns["text_encoder_lr"]),
        "epochs": columns["epoch"],
        "probe": side_by_side(columns["train_probe_loss"], columns["drift"]),
        "columns": sorted(probes),
        "ending": run.record.about.ended,
        "modules": {name: tuple(value.shape) for name, value in lora.items()},
        "weights": lora,
        "format": {value.dtype for name, value in lora.items() if not name.endswith("alpha")},
        "files": sorted(str(path.relative_to(place)) for path in files if path.is_file()),
        "pictures": [path.read_bytes() for path in samples],
    }


def side_by_side(*columns: Sequence[float]) -> list[float]:
    """Return columns row by row."""
    return [value for row in zip(*columns, strict=True) for value in row]


def same(one: Any, two: Any) -> bool:
    """Compare what two runs left; a longer list counts as far as the shorter one goes."""
    if isinstance(one, dict) and one and isinstance(next(iter(one.values())), torch.Tensor):
        # Only factors that both have: which ones there are is another question.
        return one.keys() == two.keys() and all(
            value.shape == two[name].shape
            and torch.allclose(value.float(), two[name].float(), rtol=2e-3, atol=1e-4)
            for name, value in one.items()
        )
    if isinstance(one, Sequence) and one and isinstance(one[0], (int, float)):
        return all(
            math.isclose(a, b, rel_tol=2e-6) or (math.isnan(a) and math.isnan(b))
            for a, b in zip(one, two, strict=False)
        )
    return one == two
