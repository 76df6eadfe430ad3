"""``glitch_train train``: a recipe, a checkpoint and a folder become a LoRA, without a host."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..wording import plain
from .options import add_json_option, add_set_option, check_output_folder

if TYPE_CHECKING:
    from ..recipe.recipe import Recipe
    from ..training.plan import MemoryPlan
    from ..training.run.run import TrainingRun

_ABOUT = """
Train a LoRA from a single-file checkpoint, without ComfyUI: same recipe, same losses.

The recipe is a .toml or .json file, or a LoRA of this pack, whose recipe is then used again; away
from its run's folder a LoRA needs --folder and --checkpoint. What a recipe does not name keeps its
default. The base model and the pictures are named by the recipe
(checkpoint, and folder under [dataset]) or by --checkpoint and --folder.

    checkpoint = "/models/sd15.safetensors"
    [dataset]
    folder = "/pictures/faces"
    framing = "stretch"
    [train]
    steps = 2000
"""

_AFTER = """
Files: OUT/NAME_00001.safetensors, and OUT/NAME_00001/ with recipe.json, losses.csv and the state
to go on from, and with sample_every the sample pictures and their strip; NAME is output_name.
Ctrl-C (or SIGTERM) finishes the step, saves both and exits with 130; the same command then goes on
where it stopped. A second Ctrl-C leaves at once. What a program held, so that it could not be
written as it should (Windows), stands under the LoRA's path, and in --json as notes.

Several GPUs or machines: accelerate launch -m glitch_train train RECIPE … The batch of each step
(batch_size) is split over the processes, so the losses are those of one process.

Exit codes: 0 done, 1 an error (one sentence on stderr), 2 wrong arguments, 130 interrupted.
"""


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "train",
        help="train a LoRA from a checkpoint file",
        description=_ABOUT,
        epilog=_AFTER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", type=Path, help=".toml, .json, or a LoRA that holds one")
    parser.add_argument("--checkpoint", type=Path, help=".safetensors, SD1.5 or SDXL family")
    parser.add_argument("--folder", type=Path, help="folder of pictures with captions")
    parser.add_argument(
        "--out", type=Path, default=Path("glitch_output"), help="default: %(default)s"
    )
    add_set_option(parser, "settings that replace the recipe's, such as steps=500 framing=stretch")
    parser.add_argument(
        "--resume",
        choices=("auto", "never", "must"),
        default="auto",
        help="auto: go on with a stopped run of the same recipe, or one with more steps now "
        "whose state was kept (save_every); "
        "never: begin anew; must: refuse to (default: auto)",
    )
    parser.add_argument("--device", help="cpu, cuda:1, mps … (default: a GPU where there is one)")
    parser.add_argument(
        "--cache", type=Path, help="where encoded pictures and captions stay (default: OUT/cache)"
    )
    parser.add_argument(
        "--plan",
        action="store_true",
        help="say what memory the run needs, what is free and what is chosen for it; train nothing",
    )
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any] | None:
    from ..losses.record import StepReport
    from ..training.run.standalone import plan_memory, prepare_run
    from ..training.run.stop_signal import StopSignal
    from ..training.team import join_team
    from .progress import TerminalProgress

    check_output_folder(options.out)
    recipe = read_train_recipe(options)
    if options.plan:
        return describe_plan(plan_memory(recipe, device=options.device))
    team = join_team(options.device)
    with StopSignal() as stop, contextlib.closing(team):
        run = prepare_run(
            recipe,
            options.out,
            resume=options.resume,
            device=options.device,
            cache=options.cache,
            team=team,
        )
        interrupted = False
        with (
            TerminalProgress(quiet=not team.is_main) as progress,
            contextlib.closing(run.events()) as events,
        ):
            for event in events:
                progress.show(event)
                if isinstance(event, StepReport):  # where all processes are at the same point
                    interrupted = team.any(stop.asked)
                elif team.size == 1:
                    interrupted = stop.asked
                if interrupted:
                    break
    return describe_run(run, interrupted=interrupted) if team.is_main else None


def read_train_recipe(options: argparse.Namespace) -> Recipe:
    """Return the recipe with what the command line replaces, or raise a ``RecipeError``."""
    from ..errors import RecipeError
    from ..lora.file import read_recipe_of
    from ..recipe.assignments import with_assignments
    from ..recipe.recipe import read_recipe

    is_lora = options.recipe.suffix.lower() == ".safetensors"
    recipe = read_recipe_of(options.recipe) if is_lora else read_recipe(options.recipe)
    told = recipe.dataset.folder
    recipe = with_assignments(recipe, options.set)
    if options.folder and recipe.mix:
        raise RecipeError(
            f"{options.recipe.name} is a mix of {len(recipe.mix)} datasets, each with its folder: "
            "leave --folder out, or change the folders in the recipe."
        )
    if options.folder:
        folder = dataclasses.replace(recipe.dataset, folder=os.path.realpath(options.folder))
        recipe = dataclasses.replace(recipe, dataset=folder)
    elif is_lora and recipe.mix and not all(Path(p.folder).is_absolute() for p in recipe.datasets):
        raise RecipeError(
            f"{options.recipe.name} says only the names of the {len(recipe.mix)} folders that it "
            "mixes; give the recipe.json of its run."
        )
    elif is_lora and recipe.dataset.folder == told and not Path(told).is_absolute():
        raise RecipeError(
            f"{options.recipe.name} says of its pictures only that their folder is called "
            f"{told!r}; give --folder FOLDER."
        )
    if options.checkpoint:
        recipe = dataclasses.replace(recipe, checkpoint=os.path.realpath(options.checkpoint))
    return recipe


def describe_plan(plan: MemoryPlan) -> dict[str, Any]:
    """Return what a run needs of the memory, in bytes, what is free, and what would help."""
    return {
        "text": plan.sentence,
        "fits": plan.fits,
        "free": plain(plan.free_in_all),
        "needs": dataclasses.asdict(plan.needs) | {"total": plan.needs.total},
        "checkpointing": plan.checkpointing,
        "pictures_at_a_time": plan.micro_batch,
        "remedies": [{"set": what, "saves": gain} for gain, what in plan.remedies()],
    }


def describe_run(run: TrainingRun, *, interrupted: bool = False) -> dict[str, Any]:
    """Return what a finished or stopped run left behind: files, last losses and verdict."""
    from ..losses.verdict.diagnose import diagnose

    paths, record = run.paths, run.record
    result: dict[str, Any] = {
        "text": "\n".join([str(run.lora_path), *record.about.notes]),
        "memory": record.about.memory,
        "name": paths.name,
        "lora": str(run.lora_path) if run.lora_path.is_file() else None,
        "run": str(paths.folder),
        "losses": str(paths.losses) if len(record) else None,
        "samples": str(paths.strip) if paths.strip.is_file() else None,
        "steps": len(record),
        "interrupted": interrupted,
        "ended": record.about.to_dict().get("ended"),
        "passed_over": record.about.passed_over,
        "skipped": record.about.skipped,
        "notes": record.about.notes,
    }
    if result["samples"]:
        result["text"] += f"\n{paths.strip}"
    if len(record):
        result |= {"loss": record.loss[-1], "smoothed_loss": record.columns["smoothed"][-1]}
        result["verdict"] = diagnose(record).to_dict()
    return result
