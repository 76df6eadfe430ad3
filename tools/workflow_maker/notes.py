"""What stands in the note of each experiment: what it changes, and what to look for."""

from __future__ import annotations

from glitch_train.recipe.experiments import EXPERIMENTS, Experiment

from .bases import Base

LOOK_FOR = {
    "sdxl_standard": "The run that the SDXL experiments are held against: the *LoRA* column should "
    "look like your pictures, whole and sharp. Every effect in the report stays low but for "
    "composition and overall distance, which any training moves.",
    "sd15_standard": "The run that all others are held against. The curve should fall smoothly and "
    "flatten; the *LoRA* column should look like your pictures, whole and sharp.",
    "sd15_uncropped_portraits": "A curve that starts higher than *sd15_standard* and jitters; "
    "limbs and postures that do not meet, backgrounds that crowd in. In the report: composition "
    "and framing.",
    "text_encoder_drift": "Prompts that call up the wrong thing while the picture stays clean. In "
    "the report **semantic drift** says how far the words moved; here alone it is not 0.",
    "uncropped": "Subjects cut off or small in the frame, uneven margins. In the report: "
    "composition and framing.",
    "no_bucket_stretched": "Bodies and faces that are too wide or too tall. In the report: "
    "**framing, stretch**, which is 1 at 20 % wider.",
    "random_crop_and_flip": "Heads out of the frame, mirrored partings and buttons, parts where "
    "others belong. In the report: composition.",
    "high_learning_rate": "A curve with spikes or one that turns up; surfaces that boil, colours "
    "that burn out. In the report: texture and collapsed contrast.",
    "caption_dropout": "Pictures that look alike whatever the prompt says, even at a CFG of 1. In "
    "the report: mode collapse, and with clip_vision the caption's hold.",
    "overtrain": "The curve keeps falling, or turns up again; the same few pictures come back with "
    "every seed. In the report: **mode collapse**. *resume_and_overtrain* shows the way there.",
    "overtrain_compression": "Squeezed bodies learnt by heart: the same stretched pictures with "
    "every seed. In the report: framing and **mode collapse**.",
    "jpeg_crushed": "Blocks of 8×8 pixels, ringing at edges, banded skin. In the report: "
    "**compression artefacts**, which is 1 at JPEG quality 5.",
    "fine_learning_rate": "A curve that falls more slowly; pictures close to *sd15_standard* with "
    "less of everything. In the report: every effect below that of the standard run.",
    "short": "The curve should be nearly flat at the end: if so, the steps beyond 1200 buy little. "
    "In the report: every effect near that of *sd15_standard*.",
    "wide": "Finer detail and a richer style than *sd15_standard*, at a file half as large again; "
    "the curve falls a little lower.",
}
"""Slug to what to look for."""

_BEGIN = (
    "Choose your picture folder and {checkpoints} in the **green** nodes, then press **Run**.\n\n"
    "A red frame then means that something is missing there, and that it did not run. Cancel keeps "
    "what was trained so far."
)
_AGAINST = (
    "The grid draws the same prompts and seeds as the grids of all other experiments, without and "
    "with the LoRA; the report turns the pairs into one number per effect (0 = base)."
)
_RECIPE_WINS = (
    "What the recipe names wins over the widgets: change it in the recipe's *settings*, one "
    "`name = value` a line, or disconnect the recipe."
)


def experiment_note(preset: Experiment) -> str:
    """Return the note of one preset's workflow.

    Args:
        preset: The experiment.
    """
    return paragraphs(preset.reason, f"**Look for:** {LOOK_FOR[preset.slug]}")


def mismatch_note(source: Base, target: Base) -> str:
    """Return the note of a workflow that carries a LoRA over to another family.

    Args:
        source: What the LoRA is trained on.
        target: What wears it.
    """
    return paragraphs(
        f"A LoRA trained on {source.family} is worn by {target.family}: "
        f"{EXPERIMENTS['mismatched_base'].reason.split(': ', 1)[1]}",
        f"**Look for:** What *{target.family}* draws as base, against the same prompts in foreign "
        "clothes: grain and colour first, then shapes. The applier's map shows which blocks are "
        "loud; its report says how much arrived. Turn *strength_model*, *mapping* and *norm*.",
        checkpoints=f"two checkpoints, of {source.family} and of {target.family},",
    )


def paragraphs(*texts: str, about_grid: str = _AGAINST, checkpoints: str = "a checkpoint") -> str:
    """Return a note with what stands in all of them.

    Args:
        *texts: Its own paragraphs.
        about_grid: What the grid is for.
        checkpoints: Which of them are to be chosen.
    """
    begin = _BEGIN.format(checkpoints=checkpoints)
    return "\n\n".join([begin, _RECIPE_WINS, *texts, *([about_grid] if about_grid else [])])
