"""Settings that were chosen and cannot take effect in the run they are for."""

from __future__ import annotations

from collections.abc import Iterator

from ..settings import declared
from .train import TrainRecipe

IN_VAIN = "Without effect: "
"""How every sentence begins."""


def settings_in_vain(train: TrainRecipe) -> list[str]:
    """Return a sentence for each setting that does nothing in a run, or never gets to its end."""
    return [f"{IN_VAIN}{why}." for why in (*_beyond_the_end(train), *_without_their_switch(train))]


def _beyond_the_end(train: TrainRecipe) -> Iterator[str]:
    run = f"the run of {train.steps} steps"
    if train.warmup_steps >= train.steps and train.lr_scheduler != "constant":
        yield (
            f"warmup_steps {train.warmup_steps} does not end within {run}, so the learning rate "
            f"never reaches {train.learning_rate:g}"
        )
    if train.save_every > train.steps:
        yield f"save_every {train.save_every} is longer than {run}, so there are no snapshots"


def _without_their_switch(train: TrainRecipe) -> Iterator[str]:
    """Yield what was set while the setting that it belongs to is off."""
    samples = tuple(name for name in declared(TrainRecipe) if name.startswith("sample_"))
    belongs = {
        ("warmup_steps",): ("lr_scheduler is constant", train.lr_scheduler == "constant"),
        ("lr_cycles",): (
            "lr_scheduler is not cosine_with_restarts",
            train.lr_scheduler != "cosine_with_restarts",
        ),
        ("text_encoder_lr",): ("no text encoder is trained", not train.trains_text_encoder),
        ("conv_alpha",): ("conv_dim is 0", not train.conv_dim),
        ("conv_dim", "unet_blocks", "unet_layers"): (
            "text_encoder_only leaves the UNet alone",
            not train.trains_unet,
        ),
        ("multires_noise_discount",): (
            "multires_noise_iterations is 0",
            not train.multires_noise_iterations,
        ),
        ("validation_split",): (
            "probe_every is 0, so the pictures held out are never measured",
            not train.probe_every,
        ),
        samples: ("sample_every is 0", not train.sample_every),
    }
    for names, (why, off) in belongs.items():
        for name in names:
            if off and getattr(train, name) != getattr(TrainRecipe, name):
                yield f"{name} {_shown(getattr(train, name))} is set, but {why}"


def _shown(value: object) -> str:
    """Return a value short enough for a sentence."""
    text = str(value).split("\n")[0]
    return text if len(text) <= 30 else f"{text[:29]}…"
