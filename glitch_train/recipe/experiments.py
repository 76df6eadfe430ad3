"""The development log's experiments: what each names, why, and what it should do to pictures.

One entry an experiment: the Glitch Recipe offers it as a preset, the verdict advises its technique,
a sweep trains it, and the matrix holds its pictures against what the log expects.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ..dataset.recipe import DatasetRecipe
from ..errors import RecipeError, quoted
from ..settings import check_setting, declared
from .partial import PartialRecipe, combine, partial
from .train import TrainRecipe

SD15 = "sd15_standard"
GLITCH_LEARNING_RATE = 2e-4
OVERTRAIN_STEPS = 5000

Settings = Mapping[str, Any]
"""Setting name to value, both halves of a recipe in one."""


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


@dataclasses.dataclass(frozen=True)
class Experiment:
    """One named experiment.

    Attributes:
        slug: its name where spaces cannot be, as that of the shipped workflow; it never changes.
        title: how it is called everywhere.
        reason: what it does to the pictures, and why, as the log has it.
        settings: what it names; every other setting stays as it is.
        stands_alone: whether it is a run of its own, rather than changing one thing of another.
        expected: keys of the measured effects that it should move; none where the log names no
            glitch.
        against: the slug of the run that it is compared with, and laid over where it does not
            stand alone; empty for that run itself.
        technique: the log's way to glitch that it shows, where it is one.
    """

    slug: str
    title: str
    reason: str
    settings: Mapping[str, Any]
    stands_alone: bool = False
    expected: tuple[str, ...] = ()
    against: str = SD15
    technique: Technique | None = None

    def to_partial(self) -> PartialRecipe:
        """Return what it names as a recipe to combine."""
        return partial(self.settings, self.title, self.reason)


def _framings(settings: Settings) -> str:
    return str(settings.get("framing_mix") or settings["framing"])


def _any_positive(*names: str) -> Callable[[Settings], bool]:
    return lambda settings: any(float(settings.get(name) or 0) > 0 for name in names)


_LEARNING = {"learning_rate": 1e-4, "network_dim": 128, "network_alpha": 64.0}
_SQUARE_512 = {"width": 512, "height": 512, "landscape_width": 0, "landscape_height": 0}
_VARIANTS = {"variants_per_picture": 10}  # one for each of the usual repeats

_EXPERIMENTS = (
    Experiment(
        "sdxl_standard",
        "SDXL standard",
        "The SDXL run that all others are compared with: portraits cropped to 832×1216, landscapes "
        "to 1216×832, 8000 steps.",
        {
            "width": 832, "height": 1216, "landscape_width": 1216, "landscape_height": 832,
            "framing": "center_crop", "repeats": 10, "steps": 8000, **_LEARNING,
        },
        stands_alone=True,
        against="",
    ),
    Experiment(
        "sd15_standard",
        "SD1.5 standard",
        "The SD1.5 run that all others are compared with: cropped to 512×512, 2000 steps. In the "
        "log the loss begins at 0.07 to 0.08 and falls smoothly until it is flat.",
        {**_SQUARE_512, "framing": "center_crop", "repeats": 10, "steps": 2000, **_LEARNING},
        stands_alone=True,
        against="",
    ),
    Experiment(
        "sd15_uncropped_portraits",
        "SD1.5 uncropped portraits",
        "The standard run on whole pictures: backgrounds, postures and framing that do not agree. "
        "In the log the loss begins higher (0.11 to 0.12), jitters, and ends near 0.08; postures "
        "and alignments glitch.",
        {**_SQUARE_512, "framing": "uncropped", "repeats": 10, "steps": 2000, **_LEARNING},
        stands_alone=True,
        expected=("composition", "framing"),
    ),
    Experiment(
        "text_encoder_drift",
        "text encoder drift",
        "Trains the text encoder too: words drift from their meaning, and prompts call up what "
        "nobody expected.",
        {"train_text_encoder": True},
        expected=("semantic_drift",),
        technique=Technique(
            "train the text encoder (train_text_encoder)",
            "semantic drift: unexpected prompt associations",
            ("train_text_encoder",),
            lambda s: bool(s["train_text_encoder"]),
        ),
    ),
    Experiment(
        "uncropped",
        "uncropped",
        "Keeps each picture's own asymmetry: framing becomes inconsistent and does not match what "
        "the latents expect.",
        {"framing": "uncropped"},
        expected=("composition", "framing"),
        technique=Technique(
            "use uncropped pictures (framing uncropped)",
            "framing inconsistency, mismatches with latent expectations",
            ("framing",),
            lambda s: "uncropped" in _framings(s),
        ),
    ),
    Experiment(
        "no_bucket_stretched",
        "no bucket (stretched)",
        "Buckets off: every picture is forced into one shape, which stretches it and leaves "
        "compression artefacts.",
        {"framing": "stretch"},
        expected=("framing", "compression"),
        technique=Technique(
            "turn buckets off and force one shape (framing stretch)",
            "stretching and compression artefacts",
            ("framing",),
            lambda s: "stretch" in _framings(s),
        ),
    ),
    Experiment(
        "random_crop_and_flip",
        "random crop and flip",
        "Distorts where things are: compositions fall out of line.",
        {"framing": "random_crop", "random_flip": True, **_VARIANTS},
        expected=("composition",),
        technique=Technique(
            "random crop and flip (framing random_crop, random_flip)",
            "composition-based misalignment",
            ("framing",),
            lambda s: "random_crop" in _framings(s) or bool(s.get("random_flip")),
        ),
    ),
    Experiment(
        "high_learning_rate",
        "high learning rate (2e-4)",
        "Updates that overshoot: textures glitch, contrast collapses.",
        {"learning_rate": 2e-4},
        expected=("texture", "contrast"),
        technique=Technique(
            "raise learning_rate to 2e-4 or higher",
            "overshooting: texture glitches, collapsed contrast",
            ("learning_rate",),
            lambda s: float(s["learning_rate"]) >= GLITCH_LEARNING_RATE,
        ),
    ),
    Experiment(
        "caption_dropout",
        "caption dropout",
        "Three captions in ten are empty when their picture is seen: words hold less, pictures "
        "become more abstract.",
        {"caption_dropout": 0.3},
        expected=("caption_hold", "overall"),
        technique=Technique(
            "drop captions at random (caption_dropout)",
            "a weaker textual anchor: more abstract generations",
            ("caption_dropout",),
            _any_positive("caption_dropout", "caption_part_dropout", "caption_word_dropout"),
        ),
    ),
    Experiment(
        "overtrain",
        "overtrain (> 5000 steps)",
        "6000 steps push the model past convergence: modes collapse, surreal artefacts of "
        "overfitting.",
        {"steps": 6000},
        expected=("mode_collapse",),
        technique=Technique(
            "overtrain (more than 5000 steps)",
            "mode collapse, surreal overfitting artefacts",
            ("steps",),
            lambda s: float(s["steps"]) > OVERTRAIN_STEPS,
        ),
    ),
    Experiment(
        "overtrain_compression",
        "overtrain + compression (900 repeats, 512²)",
        "900 repeats of pictures that are crushed into 512×512, for 5400 steps: overfitting on "
        "squeezed bodies.",
        {**_SQUARE_512, "framing": "stretch", "repeats": 900, "steps": 5400, **_LEARNING},
        stands_alone=True,
        expected=("framing", "compression", "mode_collapse"),
    ),
    Experiment(
        "jpeg_crushed",
        "JPEG-crushed",
        "Compressed JPEGs in the dataset: each variant is saved two times at quality 5 to 20; "
        "noise and block artefacts are learnt.",
        {"corruption": "jpeg_crush quality_high=20 generations=2 shift_px=1", **_VARIANTS},
        expected=("compression", "texture"),
        technique=Technique(
            "put compressed JPEGs into the dataset (corruption jpeg_crush)",
            "more noise and compression artefacts",
            ("corruption",),
            lambda s: "jpeg" in str(s["corruption"]),
        ),
    ),
    Experiment(
        "mismatched_base",
        "mismatched base",
        "An SDXL LoRA on SD1.5, or the other way round: the model is at odds with what it wears. "
        "It changes nothing in training and names no setting; the glitch happens when the trained "
        "LoRA goes through the Cross-Model LoRA Applier onto a checkpoint of the other family.",
        {},
        expected=("overall",),
        technique=Technique(
            "use a mismatched base model (apply this LoRA to the other family)",
            "model dissonance: unexpected image behaviour",
            ("mismatched_base",),
            lambda s: bool(s["mismatched_base"]),
        ),
    ),
    Experiment(
        "fine_learning_rate",
        "fine learning rate (5e-5)",
        "Smaller steps: finer control over subtle features of the style.",
        {"learning_rate": 5e-5},
    ),
    Experiment(
        "short",
        "short (1200 steps)",
        "Faster: in the log the loss is flat well before 2000 steps.",
        {"steps": 1200},
    ),
    Experiment(
        "wide",
        "wide (dim 192)",
        "A wider LoRA holds a richer style, for some more memory; network_alpha grows with it, so "
        "that the scale stays.",
        {"network_dim": 192, "network_alpha": 96.0},
    ),
)  # fmt: skip


EXPERIMENTS: dict[str, Experiment] = {one.slug: one for one in _EXPERIMENTS}
"""Slug to experiment, in the order in which they are offered."""

TECHNIQUES = tuple(one.technique for one in _EXPERIMENTS if one.technique)


def settings_of(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting of a recipe's halves by name; what no recipe could hold is left out.

    Args:
        recipe: what :meth:`Recipe.to_dict` gave, or whatever a LOSS_MAP of others calls a recipe.
    """
    settings: dict[str, Any] = {}
    for part, kind in (("dataset", DatasetRecipe), ("train", TrainRecipe)):
        half = recipe.get(part)
        for name in declared(kind):
            if isinstance(half, Mapping) and name in half:
                with contextlib.suppress(RecipeError):
                    check_setting(kind, name, half[name])
                    settings[name] = half[name]
    return settings


def experiment(slug: str) -> Experiment:
    """Return the experiment of a slug; one of which nothing is expected where the log has none."""
    return EXPERIMENTS.get(slug) or Experiment(slug, slug.replace("_", " "), "", {})


def in_order(slugs: set[str]) -> list[str]:
    """Return slugs in the order of the experiments, others after them by name."""
    known = [slug for slug in EXPERIMENTS if slug in slugs]
    return known + sorted(slugs - set(known))


def experiment_named(name: str) -> Experiment:
    """Return the experiment of a title or slug, whatever its capitals.

    Raises:
        RecipeError: when there is none; the nearest titles are offered.
    """
    wanted = name.strip().lower()
    by_lower = {one.title.lower(): one for one in _EXPERIMENTS}
    found = by_lower.get(wanted) or EXPERIMENTS.get(re.sub(r"[-\s]+", "_", wanted))
    if found is None:
        close = [known for known in by_lower if wanted and wanted in known]
        close = close or difflib.get_close_matches(wanted, by_lower, n=3)
        titles = [repr(by_lower[known].title) for known in close or by_lower]
        offer = f"did you mean {' or '.join(titles)}?" if close else f"use {', '.join(titles)}."
        raise RecipeError(f"There is no preset called {quoted(name)}; {offer}")
    return found


def slug_of(name: str) -> str:
    """Return the slug of an experiment's title or slug, and any other name as it is."""
    try:
        found = experiment_named(name)
    except RecipeError:
        return name
    return next(slug for slug, one in EXPERIMENTS.items() if one is found)


def with_slug(text: str) -> str:
    """Return ``EXPERIMENT.NAME=VALUE`` with a slug where it has a title, others as they are."""
    name = text.partition("=")[0]
    for dot in re.finditer(r"\.", name):  # a title may have one too
        if (slug := slug_of(name[: dot.start()])) in EXPERIMENTS:
            return slug + text[dot.start() :]
    return text


def combined_presets(names: Iterable[str]) -> PartialRecipe:
    """Return the settings of experiments laid over each other in this order.

    Raises:
        RecipeError: as :func:`experiment_named`.
    """
    return combine(*(experiment_named(name).to_partial() for name in names))


def presets_help() -> str:
    """Return every experiment with its reason, one per line."""
    return "\n".join(f"{one.title}: {one.reason}" for one in _EXPERIMENTS)
