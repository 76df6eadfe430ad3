"""One run of a sweep without a host: trained, drawn beside its base, measured, and written down.

It is done piece by piece, and what is on disk is not done again: a run whose process died goes on
from its last state, one that is trained is only drawn.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..cache import content_key
from ..drawing.figures import save_figure, save_png
from ..errors import ReportError, TrainingError
from ..files import read_object, write_text
from ..grid.plan import GridPlan, GridRecipe, Shot, Variant, plan_grid
from ..losses.read import LOSSES, read_record
from ..recipe.recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image

    from ..training.worn import WornModel

DONE = "done.json"
"""Written into a run's folder when its training has come to its end."""
RESULTS = "sweep"
"""In a run's folder: what a sweep keeps of the run, under the names that the matrix reads."""
KEY = "key"
"""In :data:`RESULTS`: what identifies the order that they are of."""
STATES = 20
"""How many times in a run its state is written: what a worker's death costs is a twentieth."""

Tell = Callable[[str, int, int], object]
"""Called with (what is done, how much of it, of how much)."""


@dataclasses.dataclass(frozen=True)
class Order:
    """What is to be done.

    Attributes:
        recipe: with a checkpoint, a folder and an output_name that no other order has.
        grid: what is drawn and measured then; None to train only.
    """

    recipe: Recipe
    grid: GridRecipe | None = None

    @property
    def name(self) -> str:
        """How its files begin."""
        return self.recipe.train.output_name

    @property
    def key(self) -> str:
        """Tell orders apart by all that decides what comes of them."""
        recipe = {name: part for name, part in self.recipe.to_dict().items() if name != "origins"}
        grid = dataclasses.asdict(self.grid) if self.grid else None
        return content_key(json.dumps([recipe, grid], sort_keys=True))[:32]


@dataclasses.dataclass(frozen=True)
class Made:
    """What a run left behind.

    Attributes:
        lora: the LoRA.
        losses: its record as CSV.
    """

    lora: Path
    losses: Path

    @property
    def run(self) -> Path:
        """The run's folder."""
        return self.losses.parent

    @property
    def results(self) -> Path:
        """What a sweep keeps of it."""
        return self.run / RESULTS


def made_before(order: Order, out: Path) -> Made | None:
    """Return what an earlier call made of the very same order, if it came to its end."""
    made = trained_before(order.recipe, out)
    return made if made and (order.grid is None or _is_drawn(made, order)) else None


def trained_before(recipe: Recipe, out: Path) -> Made | None:
    """Return the finished training of the very same recipe, or None."""
    for path in sorted(out.glob(f"{glob.escape(recipe.train.output_name)}_[0-9]*/{DONE}")):
        done = read_object(path)
        files = all(isinstance(done.get(one), str) for one in ("lora", "losses"))
        if files and done.get("recipe") == recipe.to_dict():
            made = Made(Path(done["lora"]), Path(done["losses"]))
            if made.lora.is_file() and made.losses.is_file():
                return made
    return None


def make(order: Order, out: Path, device: str, tell: Tell) -> Made:
    """Do what is missing of an order.

    Args:
        order: what to do.
        out: where run folders and LoRA files go, as ``glitch_train train --out``.
        device: torch's name of where to compute.
        tell: hears how far it is.

    Raises:
        GlitchTrainError: one sentence; what was done so far stays.
    """
    made = trained_before(order.recipe, out) or _train(order.recipe, out, device, tell)
    if order.grid is not None and not _is_drawn(made, order):
        _draw(made, order, order.grid, out, device, tell)
    return made


def note_done(recipe: Recipe, made: Made) -> None:
    """Write down that a run's training came to its end."""
    done = {"recipe": recipe.to_dict(), "lora": str(made.lora), "losses": str(made.losses)}
    write_text(made.run / DONE, json.dumps(done))


def check_grid(grid: GridRecipe) -> None:
    """Refuse what could not be drawn or measured at the end of the training.

    Raises:
        GridError: it asks for what only a host can draw, or for too much.
        ReportError: there would be nothing to compare.
    """
    from ..training.worn import sampler_of

    sampler_of(grid)
    if not plan_grid(grid, [Variant("lora")]).pairs():
        raise ReportError("A sweep compares pictures with the base's: leave base switched on.")


def _train(recipe: Recipe, out: Path, device: str, tell: Tell) -> Made:
    from ..losses.record import StepReport
    from ..training.run.run import Preparing
    from ..training.run.standalone import prepare_run
    from ..training.run.stop_signal import StopSignal

    every = -(-recipe.train.steps // STATES)
    run = prepare_run(recipe, out, device=device, state_every=every)
    with StopSignal() as stop, contextlib.closing(run.events()) as events:  # how Ray cancels
        for event in events:
            if isinstance(event, StepReport):
                tell(f"loss {event.loss:.4f}, step", event.step, event.steps)
            elif isinstance(event, Preparing):
                tell(f"encoding {event.what}", event.done, event.total)
            if stop.asked:
                raise TrainingError(f"{run.paths.name} was cancelled.")
    made = Made(run.lora_path, run.paths.losses)
    note_done(recipe, made)
    return made


def _is_drawn(made: Made, order: Order) -> bool:
    path = made.results / KEY
    return path.is_file() and path.read_text("utf-8") == order.key


def _draw(made: Made, order: Order, grid: GridRecipe, out: Path, device: str, tell: Tell) -> None:
    """Write a run's results, whole or not at all."""
    part = made.results.with_name(f".{RESULTS}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    plan = plan_grid(grid, [Variant(order.name)])
    worn, pictures = _sampled(plan, order.recipe, made.lora, out / "cache", device, tell)
    tell("measuring", 0, 0)
    _save_pictures(plan, pictures, part)
    _save_report(order, plan, made, worn, part)
    _save_losses(order.recipe, made, part)
    write_text(part / KEY, order.key)
    shutil.rmtree(made.results, ignore_errors=True)
    part.rename(made.results)


def _sampled(
    plan: GridPlan, recipe: Recipe, lora: Path, cache: Path, device: str, tell: Tell
) -> tuple[WornModel, dict[Shot, Image.Image]]:
    from ..measure.text import PROBE_PROMPTS
    from ..training.memory import free_unused, is_out_of_memory, let_go, shortage
    from ..training.run.standalone import find_device
    from ..training.worn import WornModel

    where = find_device(device)
    free_unused(where)  # the training's model
    texts = [*PROBE_PROMPTS, plan.recipe.negative, *(shot.prompt for shot in plan.shots())]
    try:
        worn = WornModel(recipe, lora, texts, where, cache)
        return worn, dict(worn.pictures(plan, functools.partial(tell, "sampling, step")))
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        let_go(error)
    raise shortage("smaller GlitchGrid.sizes", " while the pictures were sampled")


def _save_pictures(plan: GridPlan, pictures: dict[Shot, Image.Image], folder: Path) -> None:
    from ..grid.sheet import grid_picture, grid_settings, paste_shot

    sheet = grid_picture(plan)
    for shot, picture in pictures.items():
        paste_shot(sheet, plan, shot, picture)
    save_png(sheet.image, folder / "grid.png", {})
    done = {shot: number for number, shot in enumerate(plan.in_reading_order(pictures))}
    settings = grid_settings(plan, sheet, done)
    write_text(folder / "grid.json", json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    for number, pair in enumerate(plan.pairs(), 1):
        for role, shot in zip(("base", "glitched"), pair, strict=True):
            save_png(pictures[shot], folder / role / f"{number:02}.png", {})


def _save_report(order: Order, plan: GridPlan, made: Made, worn: WornModel, folder: Path) -> None:
    from ..lora.read import read_lora_file
    from ..measure.context import ModelContext
    from ..measure.pairs import pairs_of_folders
    from ..measure.report import report_run, side_by_side
    from ..measure.report_files import save_report
    from ..measure.text import PROBE_PROMPTS, encode_all
    from ..measure.weights import lora_loudness
    from ..transfer.base import read_base

    blocks, _ = lora_loudness(read_lora_file(made.lora), read_base(Path(order.recipe.checkpoint)))
    told: dict[str, Any] = {
        name: encode_all(PROBE_PROMPTS, functools.partial(worn.embedding, bare=bare))
        for name, bare in (("base_prompts", True), ("glitched_prompts", False))
    }
    pairs = pairs_of_folders(folder / "base", folder / "glitched", order.name)
    prompts = tuple(shot.prompt for _, shot in plan.pairs())
    context = ModelContext(prompts=prompts, blocks=blocks, **told)
    report = side_by_side([report_run(pairs, context)])
    *_, radar = save_report(report, folder / "report")
    radar.rename(folder / "radar.png")


def _save_losses(recipe: Recipe, made: Made, folder: Path) -> None:
    from ..drawing.style import GraphOptions, GraphSize
    from ..losses.graph.draw import draw_losses
    from ..losses.verdict.diagnose import diagnose
    from ..losses.verdict.text import to_markdown

    record = read_record(made.losses)
    verdict = diagnose(record)
    shutil.copyfile(made.losses, folder / LOSSES)
    write_text(folder / "verdict.json", verdict.to_json())
    write_text(folder / "verdict.md", to_markdown(verdict))
    graph = draw_losses([record], GraphSize(), GraphOptions(table=True), [verdict])
    save_figure(graph, folder / "loss.png")
    write_text(folder / "recipe.json", recipe.to_json())
