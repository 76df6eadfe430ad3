"""The development log's techniques to induce glitches, and which of them a run used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

Settings = Mapping[str, Any]
"""Setting name to value, both halves of a recipe in one."""

GLITCH_LEARNING_RATE = 2e-4
OVERTRAIN_STEPS = 5000


@dataclasses.dataclass(frozen=True)
class Technique:
    """One row of the log's table.

    Attributes:
        name: what to do.
        effect: how it glitches, in the log's words.
        needs: the settings that decide; where one is unknown, so is the answer.
        used: whether settings that are known use it.
    """

    name: str
    effect: str
    needs: tuple[str, ...]
    used: Callable[[Settings], bool]

    def in_use(self, settings: Settings) -> bool | None:
        """Say whether a run used it; None where its settings are not known."""
        if not all(name in settings for name in self.needs):
            return None
        return self.used(settings)


def _framings(settings: Settings) -> str:
    return str(settings.get("framing_mix") or settings["framing"])


def _any_positive(*names: str) -> Callable[[Settings], bool]:
    return lambda settings: any(float(settings.get(name) or 0) > 0 for name in names)


TECHNIQUES = (
    Technique(
        "train the text encoder (train_text_encoder)",
        "semantic drift: unexpected prompt associations",
        ("train_text_encoder",),
        lambda s: bool(s["train_text_encoder"]),
    ),
    Technique(
        "use uncropped pictures (framing uncropped)",
        "framing inconsistency, mismatches with latent expectations",
        ("framing",),
        lambda s: "uncropped" in _framings(s),
    ),
    Technique(
        "turn buckets off and force one shape (framing stretch)",
        "stretching and compression artefacts",
        ("framing",),
        lambda s: "stretch" in _framings(s),
    ),
    Technique(
        "random crop and flip (framing random_crop, random_flip)",
        "composition-based misalignment",
        ("framing",),
        lambda s: "random_crop" in _framings(s) or bool(s.get("random_flip")),
    ),
    Technique(
        "raise learning_rate to 2e-4 or higher",
        "overshooting: texture glitches, collapsed contrast",
        ("learning_rate",),
        lambda s: float(s["learning_rate"]) >= GLITCH_LEARNING_RATE,
    ),
    Technique(
        "drop captions at random (caption_dropout)",
        "a weaker textual anchor: more abstract generations",
        ("caption_dropout",),
        _any_positive("caption_dropout", "caption_part_dropout", "caption_word_dropout"),
    ),
    Technique(
        "overtrain (more than 5000 steps)",
        "mode collapse, surreal overfitting artefacts",
        ("steps",),
        lambda s: float(s["steps"]) > OVERTRAIN_STEPS,
    ),
    Technique(
        "use a mismatched base model (apply this LoRA to the other family)",
        "model dissonance: unexpected image behaviour",
        ("mismatched_base",),
        lambda s: bool(s["mismatched_base"]),
    ),
    Technique(
        "put compressed JPEGs into the dataset (corruption jpeg_crush)",
        "more noise and compression artefacts",
        ("corruption",),
        lambda s: "jpeg" in str(s["corruption"]),
    ),
)


def settings_of(recipe: Any) -> dict[str, Any]:
    """Return every setting of a recipe's halves by name; empty where there is no recipe."""
    if not isinstance(recipe, Mapping):
        return {}
    halves = [
        half for part in ("dataset", "train") if isinstance(half := recipe.get(part), Mapping)
    ]
    return {name: value for half in halves for name, value in half.items()}
