"""Runs a matrix of presets on a Ray cluster, without a host: losses, no pictures."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..comfyui.run import ctrl_c_held_back, terminate_as_ctrl_c
from ..errors import RecipeError, RecordError
from ..files import write_text
from ..recipe.experiments import EXPERIMENTS, combined_presets, in_order, slug_of
from ..recipe.recipe import Recipe
from ..settings import nearest
from .plan import settings_of
from .results import finish
from .run import SweepOutcome

if TYPE_CHECKING:
    from .ray_engine import RunResult

log = logging.getLogger(__name__)

Run = tuple[str, int, Recipe]
"""The experiment's name, the seed of the training, and the recipe."""

RUNS = "ray"
"""In a sweep's folder: LoRAs, run folders and the cache, as ``train --out`` lays them out."""
_NEEDS_HOST = {
    "mismatched_base": "mismatched_base is left out: its LoRA is worn by a model of another "
    "family, which needs ComfyUI."
}
_PATHS = {"ckpt": "checkpoint", "ckpt_name": "checkpoint", "checkpoint": "checkpoint"}


def run_sweep_on_ray(
    runs: Sequence[Run],
    out: Path,
    outcome: SweepOutcome,
    *,
    address: str | None = None,
    gpus: float | None = None,
    after_each: Callable[[], object] = lambda: None,
) -> SweepOutcome:
    """Train presets, as many at once as there is room for; a run that fails stops no other.

    Args:
        runs: as :func:`plan_recipes` returned them.
        out: the sweep's folder, which every machine of the cluster sees under this path.
        outcome: what is known already; returned with what became of the runs.
        address: of the cluster; a Ray of its own by default.
        gpus: per run; 1 where the cluster has any by default.
        after_each: called when a run's results are there.

    Raises:
        TrainingError: Ray is not there.
        DiskError: the disk does not take the results.
    """
    from .ray_engine import Share, run_all

    owners = {run[2].train.output_name: run for run in runs}
    share = None if gpus is None else Share(gpus=gpus)
    every = [recipe for _, _, recipe in runs]
    with (
        terminate_as_ctrl_c(),
        contextlib.closing(run_all(every, out / RUNS, share=share, address=address)) as results,
    ):
        try:
            for result in results:
                with ctrl_c_held_back():
                    if _take(result, owners[result.name], out, outcome):
                        after_each()
        except KeyboardInterrupt:
            outcome.interrupted = True
    return outcome


def _take(result: RunResult, run: Run, out: Path, outcome: SweepOutcome) -> bool:
    """Note what became of a run; return whether its results are there."""
    slug, seed, recipe = run
    name = f"{slug}, seed {seed}"
    if result.error or result.losses is None:
        outcome.fail(name, result.error)
        return False
    try:
        _lay_out(slug, seed, recipe, out, str(result.lora), result.losses)
    except RecordError as error:
        outcome.fail(name, str(error))
        return False
    (outcome.kept if result.was_done else outcome.done).append(name)
    log.info("%s is %s.", name, "there already" if result.was_done else "done")
    return True


def plan_recipes(
    names: Sequence[str], seeds: Sequence[int], assignments: Sequence[str], outcome: SweepOutcome
) -> list[Run]:
    """Return (slug, seed, recipe) of every run; what needs the host is noted and left out.

    Raises:
        RecipeError: an unknown name or setting, or neither checkpoint nor folder is named.
        TrainingError: two runs have one output_name.
    """
    from .ray_engine import check_names

    names = [slug_of(name) for name in names]
    for name in names:
        if name not in EXPERIMENTS:
            raise RecipeError(f"There is no preset {name!r}{nearest(name, EXPERIMENTS)}")
    found = []
    for seed in dict.fromkeys(seeds):
        for slug in in_order(set(names) or set(EXPERIMENTS)):
            if slug in _NEEDS_HOST:
                continue
            own = [*settings_of(slug, assignments), f"seed={seed}"]
            found.append((slug, seed, _recipe(slug, seed, own)))
    check_names([recipe for _, _, recipe in found])
    outcome.left_out += [_NEEDS_HOST[slug] for slug in names or EXPERIMENTS if slug in _NEEDS_HOST]
    return found


def _recipe(slug: str, seed: int, assignments: Sequence[str]) -> Recipe:
    from ..dataset.recipe import DatasetRecipe
    from ..recipe.assignments import with_assignments
    from ..recipe.train import TrainRecipe

    one = EXPERIMENTS[slug]
    alone = one.stands_alone or not one.against
    named = combined_presets([slug] if alone else [one.against, slug])
    checkpoint, folder, rest = "", "", []
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name in _PATHS:
            checkpoint = os.path.realpath(text)
        elif name == "folder":
            folder = os.path.realpath(text)
        else:
            rest.append(assignment)
    if not checkpoint or not folder:
        raise RecipeError("Without a host, --set needs ckpt=FILE.safetensors and folder=DIR.")
    recipe = Recipe(
        DatasetRecipe(**named.over(DatasetRecipe, {"folder": folder})),
        TrainRecipe(**named.over(TrainRecipe, {"output_name": f"{slug}_seed{seed}"})),
        checkpoint=checkpoint,
        origins={**named.origins(DatasetRecipe), **named.origins(TrainRecipe)},
    )
    return with_assignments(recipe, rest)


def _lay_out(slug: str, seed: int, recipe: Recipe, out: Path, lora: str, losses: Path) -> None:
    """Put what a run left behind into the sweep's folder, under the names that the matrix reads."""
    from ..drawing.figures import save_figure
    from ..drawing.style import GraphOptions, GraphSize
    from ..losses.graph.draw import draw_losses
    from ..losses.read import read_record
    from ..losses.verdict.diagnose import diagnose
    from ..losses.verdict.text import to_markdown

    folder = out / slug / f"seed{seed}"
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    record = read_record(losses)
    verdict = diagnose(record)
    shutil.copyfile(losses, part / "losses.csv")
    write_text(part / "verdict.json", verdict.to_json())
    write_text(part / "verdict.md", to_markdown(verdict))
    save_figure(
        draw_losses([record], GraphSize(), GraphOptions(table=True), [verdict]), part / "loss.png"
    )
    write_text(part / "recipe.json", recipe.to_json())
    files = sorted(path.name for path in part.iterdir())
    finish(part, folder, {"experiment": slug, "seed": seed, "key": "", "loras": [lora],
                          "files": files})  # fmt: skip
