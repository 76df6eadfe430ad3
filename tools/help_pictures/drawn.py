"""What a node does, drawn by the library alone: photographs, captions, noise, curves."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from glitch_demo.photos import demo_photos, load
from glitch_train.dataset.buckets import BucketRule
from glitch_train.dataset.captions import CaptionRule
from glitch_train.dataset.corruptions.chain import CORRUPTIONS, corrupt, parse_chain
from glitch_train.dataset.framing import FILLS, FRAMINGS, plan_frame, render_frame
from glitch_train.drawing.figures import to_image
from glitch_train.drawing.picture_table import GridPicture, Label
from glitch_train.drawing.style import PALETTES
from glitch_train.model.families import SD15, SDXL, Family
from glitch_train.model.unet_shapes import LAYOUTS, unet_shapes
from glitch_train.recipe.train import SCHEDULERS, TrainRecipe
from glitch_train.training.objective import draw_noise
from glitch_train.training.optim import build_schedule

CELL_PX = 200
LOOK = PALETTES["dark"]
CAPTION = (
    "a portrait of a smiling astronaut in an orange suit, a flag on the left, "
    "a model of a shuttle behind her, soft light"
)
STEPS, WARMUP = 200, 20
BYTES = {"fp32": 4.0, "bf16, fp16": 2.0, "fp8": 1.0, "nf4": 0.5 + 4 / 64}
"""Of a weight; nf4 keeps an fp32 scale for each 64."""


def row(pictures: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Return pictures beside each other, each with its name above it."""
    sizes = {(0, number): picture.size for number, (_, picture) in enumerate(pictures)}
    table = GridPicture([[]], [[Label(name, lines=3)] for name, _ in pictures], sizes)
    for number, (_, picture) in enumerate(pictures):
        table.paste((0, number), picture)
    return table.image


def corrupted(text: str) -> Image.Image:
    """Return two photographs, each before and after a chain of corruptions."""
    photos = demo_photos()
    pairs = []
    for number, other in ((0, 1), (2, 3)):
        before, donor = (load(photos[one], CELL_PX) for one in (number, other))
        after = corrupt(before, parse_chain(text), 3, photos[number].name, 0, lambda *_, d=donor: d)
        pairs += [("before", before), ("after", after)]
    return row(pairs)


def framings() -> Image.Image:
    """Return a photograph, and what each framing makes of it."""
    source = _motorcycle()
    buckets = BucketRule(CELL_PX * CELL_PX, 8, 64, 512, False)
    shown = [("the file", source)]
    for framing in FRAMINGS:
        draws = random.Random(1)  # noqa: S311  where the window lies
        plan = plan_frame(source.size, framing, (CELL_PX, CELL_PX), buckets, draws)
        shown.append((framing, render_frame(source, plan).image))
    return row(shown)


def fills() -> Image.Image:
    """Return a photograph mirrored, and in a letterbox of each fill."""
    source = _motorcycle()
    buckets = BucketRule(CELL_PX * CELL_PX, 8, 64, 512, False)
    plan = plan_frame(source.size, "letterbox", (CELL_PX, CELL_PX), buckets, None)
    mirrored = source.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return row(
        [("the file", source), ("random_flip", mirrored)]
        + [(f"letterbox_fill {fill}", render_frame(source, plan, fill).image) for fill in FILLS]
    )


def mixed() -> Image.Image:
    """Return ten samples of a mix: seven parts clean, three parts crushed."""
    photos = demo_photos()[:5]
    size = CELL_PX // 2
    chain = parse_chain("jpeg_crush quality_low=3 quality_high=9 generations=3 shift_px=1")
    shown = []
    for number in range(10):
        picture = load(photos[number % 5], size)
        is_crushed = number % 3 == 2
        if is_crushed:
            picture = corrupt(picture, chain, number, photos[number % 5].name, 0, lambda *_: None)
        shown.append(("30" if is_crushed else "70", picture))
    return row(shown)


def masked() -> Image.Image:
    """Return a picture, a mask, and what of the picture counts in the loss."""
    picture = load(demo_photos()[0], CELL_PX)
    mask = Image.new("L", picture.size)
    ImageDraw.Draw(mask).ellipse((40, 10, 160, 190), fill=255)
    faint = Image.blend(picture, Image.new("RGB", picture.size, LOOK.panel), 0.8)
    counts = Image.composite(picture, faint, mask)
    return row([("images", picture), ("mask", mask.convert("RGB")), ("what counts", counts)])


def captions() -> Image.Image:
    """Return a caption, and what is left of it with each setting."""
    rules = {
        "as written": CaptionRule(),
        "caption_part_dropout 0.4": CaptionRule(part_dropout=0.4, seed=1),
        "caption_word_dropout 0.4": CaptionRule(word_dropout=0.4, seed=1),
        "caption_shuffle": CaptionRule(shuffle=True, seed=1),
    }
    figure = _figure(9, 1.9)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.axis("off")
    for number, (name, rule) in enumerate(rules.items()):
        y = 0.86 - 0.24 * number
        axes.text(0.02, y, name, color=LOOK.runs[number], fontsize=9, transform=axes.transAxes)
        text = rule.apply(CAPTION, "astronaut", 0)
        axes.text(0.24, y, text, color=LOOK.ink, fontsize=8, transform=axes.transAxes)
    return to_image(figure)


def noises() -> Image.Image:
    """Return the noise of one picture under three recipes."""
    recipes = {
        "as usual": {},
        "noise_offset 0.5": {"noise_offset": 0.5},
        "multires_noise 6, 0.8": {
            "multires_noise_iterations": 6,
            "multires_noise_discount": 0.8,
        },
    }
    shown = []
    for name, settings in recipes.items():
        drawn = torch.Generator().manual_seed(5)
        noise = draw_noise(torch.Size((1, 4, 50, 50)), TrainRecipe(**settings), drawn)
        levels = ((noise[0, :3] / 6 + 0.5).clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        size = (CELL_PX, CELL_PX)
        shown.append((name, Image.fromarray(levels).resize(size, Image.Resampling.NEAREST)))
    return row(shown)


def schedules() -> Image.Image:
    """Return the learning rate of each schedule over a run."""
    figure = _figure(9, 3)
    axes = _axes(figure, "step", "learning_rate")
    for number, name in enumerate(SCHEDULERS):
        recipe = TrainRecipe(
            steps=STEPS, warmup_steps=WARMUP, lr_scheduler=name, lr_cycles=3, learning_rate=1e-4
        )
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1e-4)
        schedule = build_schedule(recipe, optimizer)
        rates = []
        for _ in range(STEPS):
            rates.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            schedule.step()
        axes.plot(rates, color=LOOK.runs[number % len(LOOK.runs)], label=name,
                  linestyle="--" if number >= len(LOOK.runs) else "-")  # fmt: skip
    axes.legend(fontsize=7, labelcolor=LOOK.ink, facecolor=LOOK.panel, edgecolor=LOOK.grid,
                loc="center left", bbox_to_anchor=(1, 0.5))  # fmt: skip
    return to_image(figure)


def weights_in_memory() -> Image.Image:
    """Return what a frozen UNet takes in each number format."""
    figure = _figure(7, 2.4)
    axes = _axes(figure, "GB of weights", "")
    for offset, family in ((-0.2, SD15), (0.2, SDXL)):
        shapes = unet_shapes(family, LAYOUTS[family]).values()
        count = sum(int(np.prod(shape)) for shape in shapes)
        places = np.arange(len(BYTES)) + offset
        sizes = [count * size / 1e9 for size in BYTES.values()]
        axes.barh(places, sizes, 0.36, label=family.name, color=LOOK.runs[family is SDXL])
    axes.set_yticks(range(len(BYTES)), list(BYTES))
    axes.invert_yaxis()
    axes.legend(fontsize=8, labelcolor=LOOK.ink, facecolor=LOOK.panel, edgecolor=LOOK.grid)
    return to_image(figure)


def modules() -> Image.Image:
    """Return how many modules of SD1.5's UNet each choice of layers trains, part by part."""
    parts = {"down": "input_blocks.", "mid": "middle_block.", "up": "output_blocks."}
    layers = {
        "self_attention": ".attn1.", "cross_attention": ".attn2.", "feed_forward": ".ff.",
        "all": ".", "conv_dim above 0": "",
    }  # fmt: skip
    names = [name for name in unet_shapes(SD15, LAYOUTS[SD15]) if name != "input_blocks.0.0"]
    transformers = {name for name in names if ".transformer_blocks." in name or ".proj_" in name}
    counts = [
        [
            sum(
                name.startswith(begin)
                and (piece in name if piece else True)
                and (name in transformers) == bool(piece)
                for name in names
            )
            for piece in layers.values()
        ]
        for begin in parts.values()
    ]
    figure = _figure(7, 2.2)
    axes = figure.add_axes((0.08, 0.02, 0.9, 0.8))
    axes.imshow(np.sqrt(counts), cmap="magma", aspect="auto", vmax=14)
    axes.set_xticks(range(len(layers)), list(layers), color=LOOK.ink, fontsize=8)
    axes.set_yticks(range(len(parts)), list(parts), color=LOOK.ink, fontsize=8)
    axes.tick_params(top=True, bottom=False, labeltop=True, labelbottom=False, length=0)
    for y, line in enumerate(counts):
        for x, count in enumerate(line):
            axes.text(x, y, str(count), ha="center", va="center", color="white", fontsize=9)
    return to_image(figure)


def drift(columns: dict[str, list[float]]) -> Image.Image:
    """Return probe and drift over a run.

    Args:
        columns: step, probe_loss and drift, measured together.
    """
    figure = _figure(7, 2.6)
    axes = _axes(figure, "step", "drift")
    axes.plot(columns["step"], columns["drift"], color=LOOK.runs[0], marker="o", label="drift")
    other = axes.twinx()
    other.plot(columns["step"], columns["probe_loss"], color=LOOK.runs[1], marker="o")
    other.set_ylabel("probe_loss", color=LOOK.runs[1], fontsize=8)
    axes.yaxis.label.set_color(LOOK.runs[0])
    other.tick_params(colors=LOOK.faint, labelsize=7)
    return to_image(figure)


def lora_of(family: Family, rank: int = 1) -> dict[str, torch.Tensor]:
    """Return a seeded LoRA on the transformers of a family's UNet, with kohya's names."""
    drawn = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in unet_shapes(family, LAYOUTS[family]).items():
        if ".transformer_blocks." in name:
            key = "lora_unet_" + name.replace(".", "_")
            state[f"{key}.lora_down.weight"] = torch.randn(rank, shape[1], generator=drawn) / 20
            state[f"{key}.lora_up.weight"] = torch.randn(shape[0], rank, generator=drawn) / 20
            state[f"{key}.alpha"] = torch.tensor(float(rank))
    return state


def _motorcycle() -> Image.Image:
    with Image.open(demo_photos()[4].path) as picture:
        source = picture.convert("RGB")
    return source.resize((CELL_PX * 3 // 2, CELL_PX), Image.Resampling.LANCZOS)


def _figure(width: float, height: float) -> Any:
    from matplotlib.figure import Figure

    return Figure((width, height), dpi=110, facecolor=LOOK.paper, layout=None)


def _axes(figure: Any, across: str, up: str) -> Any:
    axes = figure.add_axes((0.11, 0.2, 0.68 if up == "learning_rate" else 0.78, 0.72))
    axes.set_facecolor(LOOK.panel)
    axes.set_xlabel(across, color=LOOK.ink, fontsize=8)
    axes.set_ylabel(up, color=LOOK.ink, fontsize=8)
    axes.tick_params(colors=LOOK.faint, labelsize=7)
    for spine in axes.spines.values():
        spine.set_color(LOOK.grid)
    return axes


def _corruption(kind: str) -> Callable[[], Image.Image]:
    return lambda: corrupted(kind)


DRAWN: dict[str, Callable[[], Image.Image]] = {
    "GlitchDatasetLoader": framings,
    "GlitchDatasetFromImages": masked,
    "GlitchDatasetMix": mixed,
    "GlitchFraming": fills,
    "GlitchCaptions": captions,
    "GlitchNoiseAndLoss": noises,
    "GlitchOptimizer": schedules,
    "GlitchMemory": weights_in_memory,
    "GlitchNetwork": modules,
    "GlitchCorruptionText": lambda: corrupted(
        "resolution_crush width=128 height=128\n"
        "jpeg_crush quality_low=3 quality_high=12 generations=4 shift_px=1"
    ),
    **{
        "GlitchCorrupt" + "".join(word.capitalize() for word in kind.split("_")): _corruption(kind)
        for kind in CORRUPTIONS
    },
}
"""Node to what draws what it does."""
