"""What other tools call the training loss, the step and our further columns."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sized
from typing import NamedTuple

# In order of preference. kohya-ss/sd-scripts writes loss/current, loss/average, lr/unet,
# lr/textencoder and loss/validation/…; OneTrainer loss/train_step and smooth_loss/train_step
# (GenericTrainer.py); diffusers' scripts train_loss and lr; transformers' Trainer loss, eval_loss
# and, once at the end, train_loss; Lightning train_loss_step.
TAGS = {
    "loss": (
        *("loss/current", "loss/train_step", "loss", "train_loss_step", "train/loss_step"),
        *("train/loss", "loss/train", "train_loss", "total_loss", "loss_total", "loss/total"),
    ),
    "learning_rate": (
        *("learning_rate", "lr/unet", "lr", "lr/group0", "train/learning_rate", "learn_rate"),
        *("train/lr", "unet_lr"),
    ),
    "text_encoder_lr": ("text_encoder_lr", "lr/textencoder", "lr/text_encoder"),
    "grad_norm": ("grad_norm", "train/grad_norm"),
    "probe_loss": (
        *("probe_loss", "loss/validation/step_average", "loss/validation/epoch_average"),
        *("eval_loss", "eval/loss", "val_loss", "val/loss", "loss/val", "validation_loss"),
    ),
    "epoch": ("epoch", "train/epoch"),
}

STEPS = (
    *("global_step", "train/global_step", "trainer/global_step", "step", "steps", "_step"),
    *("iteration", "iterations", "iter"),
)
"""In order of preference: a step within the epoch stands beside the one of the whole run."""

NAMES = ("metric", "tag", "key", "metric_name", "name")
"""Columns that say which number a row of the long format holds (mlflow: metric, step, value)."""

VALUES = ("value", "metric_value")
RUNS = ("run", "run_id", "run_name", "run id", "run name")

SPLITS = ("split", "phase", "mode", "stage", "subset")
"""Columns that say which pictures a row's loss is of."""

RANKS = ("rank", "local_rank", "process", "process_index")
"""Columns that say which of several processes logged a row."""

_NOT_TRAINING = {"val", "valid", "validation", "eval", "evaluation", "test", "probe", "reg"}
_NOT_TRAINING |= {"scale", "scaler", "weight", "weights", "std", "var", "ratio"}
_AVERAGED = {"average", "avg", "avr", "smooth", "smoothed", "mean", "ema", "moving", "running"}
_AVERAGED |= {"epoch", "min", "max", "best"}


class Column(NamedTuple):
    """A column's heading, taken apart.

    Attributes:
        run: whose it is, where a table holds several (wandb: ``RUN - loss/current``); else empty.
        tag: what it is, in small letters.
    """

    run: str
    tag: str


def column(heading: str) -> Column:
    """Return a heading's run and tag."""
    text = heading.strip().strip("\"'").strip()
    run, _, tag = text.rpartition(" - ")
    return Column(run.strip(), tag.strip().lower().replace(" ", "_"))


def loss_tags(tags: Iterable[str]) -> list[str]:
    """Return the tags that are a training loss, the best first; an average is the last choice."""
    ranked = sorted((_rank(tag), place, tag) for place, tag in enumerate(dict.fromkeys(tags)))
    return [tag for rank, _, tag in ranked if rank <= _RANK_AVERAGED]


def is_average(tag: str) -> bool:
    """Say whether a loss is a moving average, or one value for many steps, by its name."""
    return _rank(tag) == _RANK_AVERAGED


def is_training(words: str) -> bool:
    """Say whether a split's name is not that of pictures which were held out."""
    return not set(re.split(r"[^a-z]+", words.lower())) & _NOT_TRAINING


def found_in(names: Collection[str], known: Iterable[str]) -> str:
    """Return the first of the known names that is there, empty where none is."""
    return next((name for name in known if name in names), "")


def choose(series: Mapping[str, Sized]) -> dict[str, str]:
    """Return which tag holds each further column of ours, by the column's name."""
    series = {tag: values for tag, values in series.items() if len(values)}
    found = {name: found_in(series, tags) for name, tags in TAGS.items() if name != "loss"}
    return {name: tag for name, tag in found.items() if tag}


_RANK_UNLISTED = len(TAGS["loss"])
_RANK_AVERAGED = _RANK_UNLISTED + 1


def _rank(tag: str) -> int:
    if tag in TAGS["loss"]:
        return TAGS["loss"].index(tag)
    words = set(re.split(r"[^a-z]+", tag))
    if "loss" not in words or words & _NOT_TRAINING or tag.endswith(("__min", "__max")):
        return _RANK_AVERAGED + 1
    return _RANK_AVERAGED if words & _AVERAGED else _RANK_UNLISTED
