"""``glitch_train queue``: a workflow runs on a ComfyUI, and what it made comes back."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import (
    add_json_option,
    add_set_option,
    check_output_folder,
    check_overwrites_none,
)

if TYPE_CHECKING:
    from ..comfyui.fetch import Fetched
    from ..comfyui.graph import Graph
    from ..comfyui.run import WorkflowRun

DEFAULT_SERVER = "127.0.0.1:8188"

_ABOUT = """
Queue a workflow on a running ComfyUI, follow it, and fetch what it made.

The workflow is in API format: workflows/api/ has the shipped ones, and File, Export (API) makes
one. Pictures, reports and texts are written to OUT beside the workflow as it was queued; the LoRA
stays on the host's disk, and its path is printed.
"""

SETTING_HELP = """
--set NAME=VALUE … sets an input wherever the workflow has it (ckpt stands for ckpt_name). A setting
of a recipe, such as steps, seed or width, means the Glitch Dataset Loader and the Glitch LoRA
Trainer, and wins over connected Glitch Recipes; a sampler's steps stay. TITLE.NAME=VALUE,
CLASS.NAME=VALUE and ID.NAME=VALUE set it in those nodes, *.NAME=VALUE in every node.

    --set ckpt=sd15.safetensors folder=faces steps=500 "Glitch Grid.cfg=1, 7"
"""

_AFTER = f"""{SETTING_HELP}
Ctrl-C interrupts this workflow on the host and no other, waits until it is saved, and fetches what
there is; once more leaves at once.

Exit codes: 0 done, 1 an error (one sentence on stderr), 2 wrong arguments, 130 interrupted.
"""


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "queue",
        help="run a workflow on a ComfyUI and fetch what it made",
        description=_ABOUT,
        epilog=_AFTER,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("workflow", type=Path, help=".json in API format, such as in workflows/api")
    add_host_options(parser)
    parser.add_argument(
        "--out", type=Path, help="where the files go (default: glitch_output/NAME of the workflow)"
    )
    add_json_option(parser)
    parser.set_defaults(run=_run)


def add_host_options(parser: argparse.ArgumentParser) -> None:
    """Give a verb ``--server`` and ``--set``."""
    parser.add_argument(
        "--server",
        default=DEFAULT_SERVER,
        metavar="HOST:PORT",
        help="of the ComfyUI, or its http or https URL (default: %(default)s)",
    )
    add_set_option(
        parser, "inputs of the workflow, such as ckpt=sd15.safetensors folder=faces steps=500"
    )


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..comfyui.client import ComfyClient
    from ..comfyui.fetch import GRAPH_FILE, check_room_for_names, fetch_outputs, save_graph
    from ..comfyui.graph import load_graph
    from ..comfyui.overrides import with_overrides
    from ..comfyui.run import run_workflow

    out = options.out or Path("glitch_output") / options.workflow.stem
    check_output_folder(out)
    check_overwrites_none([out / GRAPH_FILE], [options.workflow], option="--out")
    graph = load_graph(options.workflow)
    with ComfyClient(options.server) as client:
        info = client.object_info()
        graph = with_overrides(graph, options.set, info)
        check_room_for_names(out)
        saved = save_graph(graph, out)
        with terminal_bar(graph) as bar:
            run = run_workflow(client, graph, bar, on_stop=_say_stopping, object_info=info)
        fetched = fetch_outputs(client, graph, run.outputs, out)
    return _describe(run, fetched, saved)


def terminal_bar(graph: Graph) -> Any:
    """Return a bar on stderr with the title of the node that runs; quiet where nobody looks on."""
    from ..comfyui.bar import WorkflowBar
    from ..comfyui.graph import title

    return WorkflowBar(
        lambda node, steps: (title(graph, node), True), quiet=not sys.stderr.isatty()
    )


def _say_stopping() -> None:
    sys.stderr.write("\nStopping the workflow on the host; once more to leave at once.\n")


def _describe(run: WorkflowRun, fetched: Fetched, saved: Path) -> dict[str, Any]:
    lines = [f"LoRA (on the host): {path}" for path in fetched.loras]
    lines += [str(path) for path in fetched.all()]
    lines += [f"{name} is not on the host any more." for name in fetched.missing]
    lines += [str(saved)]
    result: dict[str, Any] = {
        "text": "\n".join(lines),
        "prompt_id": run.prompt_id,
        "workflow": str(saved),
        "loras": fetched.loras,
        "files": {node: [str(path) for path in paths] for node, paths in fetched.files.items()},
        "missing": fetched.missing,
        "cached": list(run.cached),
        "interrupted": run.interrupted,
    }
    if run.error is not None and not run.interrupted:
        result["error"] = str(run.error)
    return result
