"""Runs a matrix of presets on a Ray cluster, without a host."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..comfyui.our_nodes import GRID
from ..comfyui.run import ctrl_c_held_back, terminate_as_ctrl_c
from ..errors import GlitchTrainError, RecipeError
from ..files import disk_errors_said
from ..grid.compared import COMPARED
from ..grid.plan import SETTINGS, GridRecipe
from ..recipe.experiments import EXPERIMENTS, combined_presets, in_order, slug_of
from ..recipe.recipe import Recipe
from ..settings import declared, nearest
from .doses import Dose, each_run, run_folder, run_name
from .hostless import KEY, Order, check_grid
from .matrix import read_run
from .plan import placed_doses, settings_of
from .results import about_run, finish
from .run import SweepOutcome, missing_runs

if TYPE_CHECKING:
    from .ray_engine import RunResult, Watch

log = logging.getLogger(__name__)

RUNS = "ray"
"""In a sweep's folder: LoRAs, run folders and the cache, as ``train --out`` lays them out."""
_NEEDS_HOST = {
    "mismatched_base": "mismatched_base is left out: its LoRA is worn by a model of another "
    "family, which needs ComfyUI."
}
_CHECKPOINT = ("ckpt", "ckpt_name", "checkpoint")
_GRIDS = (GRID.node_id, SETTINGS.replace(" ", ""))
"""The nodes of a grid, as a sweep on a ComfyUI names them."""


@dataclasses.dataclass(frozen=True)
class RayJob:
    """One run.

    Attributes:
        slug: the experiment's name.
        seed: of the training.
        order: what is done.
        folder: where the results go.
        dose: the strength that it is run with, where it tells a dose's response.
    """

    slug: str
    seed: int
    order: Order
    folder: Path
    dose: Dose | None = None

    @property
    def name(self) -> str:
        """How the run is called."""
        return run_name(self.slug, self.dose, self.seed)

    @property
    def key(self) -> str:
        """What identifies what is done."""
        return self.order.key


def run_sweep_on_ray(
    jobs: Sequence[RayJob],
    out: Path,
    outcome: SweepOutcome,
    *,
    address: str | None = None,
    gpus: float | None = None,
    after_each: Callable[[], object] = lambda: None,
    watch: Watch = lambda lines: None,
) -> SweepOutcome:
    """Do what is missing, as many runs at once as there is room for; one that fails stops no other.

    Args:
        jobs: as :func:`plan_jobs` returned them.
        out: the sweep's folder.
        outcome: what is known already; returned with what became of the runs.
        address: of the cluster; a Ray of its own by default.
        gpus: per run; 1 where the cluster has any by default.
        after_each: called when a run's results are there.
        watch: sees how far the runs are, line by line.

    Raises:
        TrainingError: Ray is not there.
        DiskError: the disk does not take the results.
    """
    from .ray_engine import run_all
    from .ray_work import Share

    missing = {job.order.name: job for job in missing_runs(jobs, outcome)}
    share = None if gpus is None else Share(gpus=gpus)
    orders = [job.order for job in missing.values()]
    results = run_all(orders, out / RUNS, share=share, address=address, watch=watch)
    with terminate_as_ctrl_c(), contextlib.closing(results):
        try:
            for result in results:
                with ctrl_c_held_back():
                    if _take(result, missing[result.name], outcome):
                        after_each()
        except KeyboardInterrupt:
            outcome.interrupted = True
    return outcome


def _take(result: RunResult, job: RayJob, outcome: SweepOutcome) -> bool:
    """Note what became of a run; return whether its results are there."""
    if result.made is None:
        outcome.fail(job.name, result.error)
        return False
    part = job.folder.with_name(f".{job.folder.name}.part")
    with disk_errors_said(part):
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(result.made.results, part, ignore=shutil.ignore_patterns(KEY))
    files = sorted(path.relative_to(part).as_posix() for path in part.rglob("*") if path.is_file())
    finish(part, job.folder, {**about_run(job), "loras": [str(result.made.lora)], "files": files})
    try:
        read_run(job.folder, job.seed)
    except GlitchTrainError as error:
        outcome.fail(job.name, str(error))
        return False
    outcome.done.append(job.name)
    log.info("%s is done.", job.name)
    return True


def plan_jobs(
    names: Sequence[str],
    seeds: Sequence[int],
    assignments: Sequence[str],
    out: Path,
    outcome: SweepOutcome,
    doses: Sequence[str] = (),
) -> list[RayJob]:
    """Return every run; what needs the host is noted and left out.

    Args:
        names: of experiments; all by default.
        seeds: of the training.
        assignments: as ``--set`` takes them; ``SLUG.NAME=VALUE`` is for one experiment and wins.
        out: the sweep's folder.
        outcome: is told what is left out.
        doses: as ``--dose`` takes them.

    Raises:
        RecipeError: an unknown name or setting, or neither checkpoint nor folder is named.
        GridError: the grid asks for what only a host can draw, or for too much.
        TrainingError: two runs have one output_name.
    """
    from .ray_engine import check_names

    names = [slug_of(name) for name in names]
    for name in names:
        if name not in EXPERIMENTS:
            raise RecipeError(f"There is no preset {name!r}{nearest(name, EXPERIMENTS)}")
    chosen = in_order(set(names) or set(EXPERIMENTS))
    found = []
    for slug, dose, seed in each_run(chosen, placed_doses(doses, chosen, assignments), seeds):
        if slug in _NEEDS_HOST:
            continue
        own = [*settings_of(slug, assignments, dose), f"seed={seed}"]
        output_name = f"{slug}_{dose.tag}_seed{seed}" if dose else f"{slug}_seed{seed}"
        order = _order(slug, output_name, own)
        found.append(RayJob(slug, seed, order, run_folder(out, slug, dose, seed), dose))
    check_names([job.order for job in found])
    outcome.left_out += [_NEEDS_HOST[slug] for slug in names or EXPERIMENTS if slug in _NEEDS_HOST]
    return found


def _order(slug: str, output_name: str, assignments: Sequence[str]) -> Order:
    from ..dataset.recipe import DatasetRecipe
    from ..recipe.assignments import with_assignments
    from ..recipe.train import TrainRecipe

    one = EXPERIMENTS[slug]
    alone = one.stands_alone or not one.against
    named = combined_presets([slug] if alone else [one.against, slug])
    checkpoint, folder = "", ""
    rest: list[str] = []
    drawn: list[str] = []
    for assignment in assignments:
        name, _, text = assignment.partition("=")
        if name in _CHECKPOINT:
            checkpoint = os.path.realpath(text)
        elif name == "folder":
            folder = os.path.realpath(text)
        elif _is_grids(name):
            drawn.append(assignment)
        else:
            rest.append(assignment)
    if not checkpoint or not folder:
        raise RecipeError("Without a host, --set needs ckpt=FILE.safetensors and folder=DIR.")
    dataset = DatasetRecipe(**named.over(DatasetRecipe, {"folder": folder}))
    recipe = Recipe(
        dataset,
        TrainRecipe(**named.over(TrainRecipe, {"output_name": output_name})),
        checkpoint=checkpoint,
        origins={**named.origins(DatasetRecipe), **named.origins(TrainRecipe)},
    )
    grid = _grid(f"{dataset.width}x{dataset.height}", drawn)
    return Order(with_assignments(recipe, rest), grid)


def _is_grids(name: str) -> bool:
    """Say whether a setting is one of the grid: it says so, or nothing else has it."""
    from ..dataset.recipe import DatasetRecipe
    from ..recipe.train import TrainRecipe

    where, _, own = name.rpartition(".")
    trained = declared(DatasetRecipe).keys() | declared(TrainRecipe).keys()
    return where in _GRIDS or (not where and own in declared(GridRecipe).keys() - trained)


def _grid(sizes: str, assignments: Sequence[str]) -> GridRecipe:
    """Return the grid of the shipped workflows, with what was set of it."""
    from ..recipe.assignments import read_value

    values = {**COMPARED, "sizes": sizes}
    known = declared(GridRecipe)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        own = name.rpartition(".")[2]
        if not equals:
            raise RecipeError(f"--set takes name=value, got {assignment!r}.")
        if own not in known:
            raise RecipeError(f"A Glitch Grid has no setting {own!r}{nearest(own, known)}")
        values[own] = read_value(own, text, type(known[own][0].default))
    grid = GridRecipe(**values)
    check_grid(grid)
    return grid
