"""``glitch_train sweep``: every experiment with every seed, and which technique moved what."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ReportError
from .matrix import add_matrix_options, check_matrix_options, write_all
from .options import add_json_option, check_output_folder
from .queue import SETTING_HELP, add_host_options, terminal_bar

if TYPE_CHECKING:
    from ..sweep.run import SweepOutcome

WORKFLOWS = Path(__file__).resolve().parents[2] / "workflows" / "api"
ENGINES = ("comfyui", "ray")

_ABOUT = """
Run the matrix of experiments: every workflow with every training seed, one after another on a
running ComfyUI, or without one on a Ray cluster. What is there already is not run again, unless its
settings changed; so the same command goes on where a sweep stopped.

All runs draw the same pictures: prompts and sampling seeds stay, only the training's seed changes.
"""

_AFTER = f"""{SETTING_HELP}
EXPERIMENT.NAME=VALUE is for one experiment and wins over the others:

    python -m glitch_train sweep sd15_standard high_learning_rate overtrain --seeds 1 2 3 \\
        --out matrix --set ckpt=sd15.safetensors folder=faces steps=500 overtrain.steps=1500

--dose EXPERIMENT.NAME=VALUE, once for each strength, adds runs with one setting changed: the page
shows how effects answer to it, matrix.json and .csv hold the numbers. They go to OUT/doses.

Files: OUT/EXPERIMENT/seedN/ has loss.png, losses.csv, verdict.json and .md, grid.png, report.json,
.csv and .md, radar.png, base/ and glitched/ pictures, workflow_api.json, and done.json, which also
names the LoRA. OUT/matrix.json, .csv, .md and .png and strip.png sum up, after every run.

The engine ray (pip install ray) trains the presets as recipes, draws and measures them without a
ComfyUI, one run per GPU: ckpt=FILE and folder=DIR are paths then, and GlitchGrid.NAME=VALUE sets
the pictures. What needs the host, such as a LoRA on another base, is left out and said. A run whose
worker dies goes on from its state on another; OUT/ray has LoRAs, run folders and states. For four
GPUs or ten machines see docs/training.md.

A run that fails does not stop the others. Ctrl-C stops the one that runs, on the host too; a run
that was stopped goes on from its state.

Exit codes: 0 all there, 1 a run failed (one sentence on stderr), 2 wrong arguments, 130
interrupted.
"""


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "sweep",
        help="run the matrix of experiments, and go on where it stopped",
        description=_ABOUT,
        epilog=_AFTER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help="workflows (default: the log's experiments)"
    )
    add_host_options(parser)
    parser.add_argument(
        "--workflows", type=Path, default=WORKFLOWS, help="folder of workflows in API format"
    )
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the training (default: 1 2 3)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("glitch_sweep"), help="default: %(default)s"
    )
    parser.add_argument(
        "--dose",
        action="append",
        default=[],
        metavar="EXPERIMENT.NAME=VALUE",
        help="run the experiment with this strength too, for a curve of dose and response; "
        "give it once for each strength",
    )
    parser.add_argument(
        "--engine", choices=ENGINES, default=ENGINES[0], help="what trains (default: %(default)s)"
    )
    parser.add_argument(
        "--ray-address", help="of a Ray cluster, such as auto (default: a Ray on this machine)"
    )
    parser.add_argument(
        "--gpus", type=float, help="per run on Ray (default: 1 where the cluster has any, else 0)"
    )
    parser.add_argument("--about", default="", help="what the summary and the page begin with")
    parser.add_argument(
        "--summary-only", action="store_true", help="run nothing; write the summary anew"
    )
    add_matrix_options(parser)
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..recipe.experiments import with_slug

    check_output_folder(options.out)
    check_matrix_options(options.out, options)
    if options.summary_only:
        return write_all(options.out, options)
    options.set, options.dose = ([*map(with_slug, given)] for given in (options.set, options.dose))
    outcome = _on_ray(options) if options.engine == "ray" else _on_comfyui(options)
    result: dict[str, Any] = {"text": "", "files": []}
    if outcome.done or outcome.kept:
        result = _sum_up(options, outcome.fail)
    result["text"] = f"{_counted(outcome)}\n{result['text']}".rstrip("\n")
    result |= {
        "done": outcome.done,
        "kept": outcome.kept,
        "changed": outcome.changed,
        "failed": outcome.failed,
        "left_out": outcome.left_out,
        "interrupted": outcome.interrupted,
    }
    if outcome.error:
        result["error"] = outcome.error
    return result


def _on_comfyui(options: argparse.Namespace) -> SweepOutcome:
    from ..comfyui.client import ComfyClient
    from ..sweep.plan import find_workflows, plan_sweep
    from ..sweep.run import run_sweep

    _check_workflows(options.workflows)
    workflows = find_workflows(options.workflows, options.names)
    with ComfyClient(options.server) as client:
        info = client.object_info()
        jobs = plan_sweep(workflows, options.seeds, options.out, options.set, info, options.dose)
        note_what_was_asked(options, list(workflows))
        return run_sweep(
            client,
            jobs,
            lambda job: terminal_bar(job.graph),
            lambda: _sum_up(options),
            info,
        )


def _check_workflows(folder: Path) -> None:
    """Refuse a folder that is not there: a library that was installed by itself has none."""
    from ..comfyui.graph import GraphError

    if folder.is_dir():
        return
    if folder == WORKFLOWS:
        raise GraphError(
            "The workflows are not part of this installation: clone the pack and give its folder "
            "with --workflows DIR (workflows/api), or use --engine ray, which needs none."
        )
    raise GraphError(
        f"There is no folder {folder}: give one of workflows in API format with --workflows DIR."
    )


def _on_ray(options: argparse.Namespace) -> SweepOutcome:
    from ..sweep.ray import plan_jobs, run_sweep_on_ray
    from ..sweep.ray_engine import find_ray
    from ..sweep.run import SweepOutcome
    from .progress import RunsProgress

    outcome = SweepOutcome()
    jobs = plan_jobs(options.names, options.seeds, options.set, options.out, outcome, options.dose)
    find_ray()
    note_what_was_asked(options, options.names)
    with RunsProgress() as progress:
        return run_sweep_on_ray(
            jobs,
            options.out,
            outcome,
            address=options.ray_address,
            gpus=options.gpus,
            after_each=lambda: _sum_up(options),
            watch=progress.show,
        )


def _sum_up(
    options: argparse.Namespace, fail: Callable[[str, str], None] = lambda name, why: None
) -> dict[str, Any]:
    """Write the summary of what can be read; the rest is told to ``fail``, by name."""
    try:
        return write_all(options.out, options, lambda name, error: fail(name, str(error)))
    except ReportError as error:
        fail("The summary", str(error))
        return {"text": "", "files": []}


def note_what_was_asked(options: argparse.Namespace, names: list[str]) -> None:
    """Keep the command with its results, without what differs from one machine to another."""
    from ..files import write_text
    from ..sweep.matrix import SWEEP, read_asked

    words = ["python", "-m", "glitch_train", "sweep", *names]
    words += ["--engine", options.engine] if options.engine != ENGINES[0] else []
    words += ["--seeds", *map(str, options.seeds), "--out", options.out.name]
    words += ["--set", *options.set] if options.set else []
    words += [word for dose in options.dose for word in ("--dose", dose)]
    command = shlex.join(words)
    before = read_asked(options.out)
    earlier = [one for one in before.get("commands", ()) if one != command]
    about = options.about or before.get("about", "")
    asked = {"about": about, "commands": [*earlier, command]}
    content = json.dumps(asked, indent=1, ensure_ascii=False) + "\n"
    write_text(options.out / SWEEP, content)


def _counted(outcome: SweepOutcome) -> str:
    lines = [f"{len(outcome.done)} runs done, {len(outcome.kept)} were there already."]
    if outcome.changed:
        lines.append(f"With other settings than before, so not kept: {'; '.join(outcome.changed)}.")
    lines += [f"{name} failed: {why}" for name, why in outcome.failed.items()]
    lines += outcome.left_out
    if outcome.interrupted:
        lines.append("Interrupted; the same command goes on.")
    return "\n".join(lines)
