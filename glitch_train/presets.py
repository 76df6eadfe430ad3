"""The experiments and techniques of the development log, each in one place."""

from __future__ import annotations

import dataclasses
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import RecipeError
from .partial_recipe import PartialRecipe, combine, partial


@dataclasses.dataclass(frozen=True)
class Preset:
    """One named experiment.

    Attributes:
        slug: its name where spaces cannot be, as that of the shipped workflow; it never changes.
        title: how it is called everywhere.
        reason: what it does to the pictures, and why, as the log has it.
        settings: what it names; every other setting stays as it is.
        is_experiment: whether it stands on its own, rather than changing one thing of another.
    """

    slug: str
    title: str
    reason: str
    settings: Mapping[str, Any]
    is_experiment: bool = False

    def to_partial(self) -> PartialRecipe:
        """Return what it names as a recipe to combine."""
        return partial(self.settings, self.title, self.reason)


_LEARNING = {"learning_rate": 1e-4, "network_dim": 128, "network_alpha": 64.0}
_SQUARE_512 = {"width": 512, "height": 512, "landscape_width": 0, "landscape_height": 0}
_VARIANTS = {"variants_per_picture": 10}  # one for each of the usual repeats

_PRESETS = (
    Preset(
        "sdxl_standard",
        "SDXL standard",
        "The SDXL run that all others are compared with: portraits cropped to 832×1216, landscapes "
        "to 1216×832, 8000 steps.",
        {
            "width": 832, "height": 1216, "landscape_width": 1216, "landscape_height": 832,
            "framing": "center_crop", "repeats": 10, "steps": 8000, **_LEARNING,
        },
        is_experiment=True,
    ),
    Preset(
        "sd15_standard",
        "SD1.5 standard",
        "The SD1.5 run that all others are compared with: cropped to 512×512, 2000 steps. In the "
        "log the loss begins at 0.07 to 0.08 and falls smoothly until it is flat.",
        {**_SQUARE_512, "framing": "center_crop", "repeats": 10, "steps": 2000, **_LEARNING},
        is_experiment=True,
    ),
    Preset(
        "sd15_uncropped_portraits",
        "SD1.5 uncropped portraits",
        "The standard run on whole pictures: backgrounds, postures and framing that do not agree. "
        "In the log the loss begins higher (0.11 to 0.12), jitters, and ends near 0.08; postures "
        "and alignments glitch.",
        {**_SQUARE_512, "framing": "uncropped", "repeats": 10, "steps": 2000, **_LEARNING},
        is_experiment=True,
    ),
    Preset(
        "text_encoder_drift",
        "text encoder drift",
        "Trains the text encoder too: words drift from their meaning, and prompts call up what "
        "nobody expected.",
        {"train_text_encoder": True},
    ),
    Preset(
        "uncropped",
        "uncropped",
        "Keeps each picture's own asymmetry: framing becomes inconsistent and does not match what "
        "the latents expect.",
        {"framing": "uncropped"},
    ),
    Preset(
        "no_bucket_stretched",
        "no bucket (stretched)",
        "Buckets off: every picture is forced into one shape, which stretches it and leaves "
        "compression artefacts.",
        {"framing": "stretch"},
    ),
    Preset(
        "random_crop_and_flip",
        "random crop and flip",
        "Distorts where things are: compositions fall out of line.",
        {"framing": "random_crop", "random_flip": True, **_VARIANTS},
    ),
    Preset(
        "high_learning_rate",
        "high learning rate (2e-4)",
        "Updates that overshoot: textures glitch, contrast collapses.",
        {"learning_rate": 2e-4},
    ),
    Preset(
        "caption_dropout",
        "caption dropout",
        "Three captions in ten are empty when their picture is seen: words hold less, pictures "
        "become more abstract.",
        {"caption_dropout": 0.3},
    ),
    Preset(
        "overtrain",
        "overtrain (> 5000 steps)",
        "6000 steps push the model past convergence: modes collapse, surreal artefacts of "
        "overfitting.",
        {"steps": 6000},
    ),
    Preset(
        "overtrain_compression",
        "overtrain + compression (900 repeats, 512²)",
        "900 repeats of pictures that are crushed into 512×512, for 5400 steps: overfitting on "
        "squeezed bodies.",
        {**_SQUARE_512, "framing": "stretch", "repeats": 900, "steps": 5400, **_LEARNING},
        is_experiment=True,
    ),
    Preset(
        "jpeg_crushed",
        "JPEG-crushed",
        "Compressed JPEGs in the dataset: each variant is saved two times at quality 5 to 20; "
        "noise and block artefacts are learnt.",
        {"corruption": "jpeg_crush quality_high=20 generations=2 shift_px=1", **_VARIANTS},
    ),
    Preset(
        "mismatched_base",
        "mismatched base",
        "An SDXL LoRA on SD1.5, or the other way round: the model is at odds with what it wears. "
        "It changes nothing in training and names no setting; the glitch happens when the trained "
        "LoRA goes through the Cross-Model LoRA Applier onto a checkpoint of the other family.",
        {},
    ),
    Preset(
        "fine_learning_rate",
        "fine learning rate (5e-5)",
        "Smaller steps: finer control over subtle features of the style.",
        {"learning_rate": 5e-5},
    ),
    Preset(
        "short",
        "short (1200 steps)",
        "Faster: in the log the loss is flat well before 2000 steps.",
        {"steps": 1200},
    ),
    Preset(
        "wide",
        "wide (dim 192)",
        "A wider LoRA holds a richer style, for some more memory; network_alpha grows with it, so "
        "that the scale stays.",
        {"network_dim": 192, "network_alpha": 96.0},
    ),
)  # fmt: skip

PRESETS: dict[str, Preset] = {preset.title: preset for preset in _PRESETS}
"""Title to preset, in the order in which they are offered."""


def preset_named(title: str) -> Preset:
    """Return the preset of a title, whatever its capitals.

    Raises:
        RecipeError: when there is none; the nearest titles are offered.
    """
    wanted = title.strip().lower()
    by_lower = {known.lower(): preset for known, preset in PRESETS.items()}
    if wanted not in by_lower:
        close = [known for known in by_lower if wanted and wanted in known]
        close = close or difflib.get_close_matches(wanted, by_lower, n=3)
        titles = [repr(by_lower[known].title) for known in close or by_lower]
        offer = f"did you mean {' or '.join(titles)}?" if close else f"use {', '.join(titles)}."
        raise RecipeError(f"There is no preset called {title!r}; {offer}")
    return by_lower[wanted]


def combined_presets(titles: Iterable[str]) -> PartialRecipe:
    """Return presets laid over each other in this order.

    Raises:
        RecipeError: as :func:`preset_named`.
    """
    return combine(*(preset_named(title).to_partial() for title in titles))


def presets_help() -> str:
    """Return every preset with its reason, one per line."""
    return "\n".join(f"{preset.title}: {preset.reason}" for preset in PRESETS.values())
