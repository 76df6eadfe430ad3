"""What each experiment is expected to do to pictures, and which run it is compared with.

From the development log's table of techniques: train_text_encoder → semantic drift; uncropped →
framing inconsistency; enable_bucket off → stretching, compression artefacts; random crop and flip →
composition; a high learning rate → texture glitches, collapsed contrast; caption dropout → a weaker
textual anchor, more abstract pictures; overtraining → mode collapse; a mismatched base → unexpected
behaviour; compressed JPEGs → noise and artefacts.
"""

from __future__ import annotations

import dataclasses

SD15, SDXL = "sd15_standard", "sdxl_standard"


@dataclasses.dataclass(frozen=True)
class Expectation:
    """One experiment of the log.

    Attributes:
        preset: its title in the Glitch Recipe; a technique is laid over the run of ``against``.
        effects: keys of :data:`.measurement.EFFECTS` that it should move; none where the log names
            no glitch.
        against: the slug of the run that it is compared with; empty for that run itself.
    """

    preset: str
    effects: tuple[str, ...] = ()
    against: str = SD15


EXPECTATIONS: dict[str, Expectation] = {
    SDXL: Expectation("SDXL standard", against=""),
    SD15: Expectation("SD1.5 standard", against=""),
    "sd15_uncropped_portraits": Expectation(
        "SD1.5 uncropped portraits", ("composition", "framing")
    ),
    "text_encoder_drift": Expectation("text encoder drift", ("semantic_drift",)),
    "uncropped": Expectation("uncropped", ("composition", "framing")),
    "no_bucket_stretched": Expectation("no bucket (stretched)", ("framing", "compression")),
    "random_crop_and_flip": Expectation("random crop and flip", ("composition",)),
    "high_learning_rate": Expectation("high learning rate (2e-4)", ("texture", "contrast")),
    "caption_dropout": Expectation("caption dropout", ("caption_hold", "overall")),
    "overtrain": Expectation("overtrain (> 5000 steps)", ("mode_collapse",)),
    "overtrain_compression": Expectation(
        "overtrain + compression (900 repeats, 512²)", ("framing", "compression", "mode_collapse")
    ),
    "jpeg_crushed": Expectation("JPEG-crushed", ("compression", "texture")),
    "mismatched_base": Expectation("mismatched base", ("overall",)),
    "fine_learning_rate": Expectation("fine learning rate (5e-5)"),
    "short": Expectation("short (1200 steps)"),
    "wide": Expectation("wide (dim 192)"),
}
"""Slug, as the shipped workflow is called, to expectation; in the order of the presets."""


def expectation(slug: str) -> Expectation:
    """Return what is expected of an experiment; nothing of one that is not the log's."""
    return EXPECTATIONS.get(slug, Expectation(slug.replace("_", " ")))


def in_order(slugs: set[str]) -> list[str]:
    """Return slugs in the order of the presets, others after them by name."""
    known = [slug for slug in EXPECTATIONS if slug in slugs]
    return known + sorted(slugs - set(known))
