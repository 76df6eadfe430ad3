"""`python -m glitch_demo`: train a glitch LoRA in a real ComfyUI and show what it did."""

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from glitch_demo.host import REPO_ROOT, Host
from glitch_demo.material import (
    own_checkpoint,
    own_pictures,
    place_checkpoint,
    place_pictures,
    suit_own_checkpoint,
    suit_own_pictures,
)
from glitch_demo.results import Outputs, Results, collect
from glitch_demo.terminal import say, training_bar
from glitch_train.cli.console import let_consoles_print_all
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.graph import Graph, load_graph, nodes_of, set_input, title
from glitch_train.comfyui.our_nodes import DATASET_LOADER, TRAINER
from glitch_train.comfyui.run import run_workflow, terminate_as_ctrl_c
from glitch_train.errors import GlitchTrainError

WORKFLOW = REPO_ROOT / "workflows" / "api" / "demo.json"
LOADER, LOADER_INPUT = "CheckpointLoaderSimple", "ckpt_name"
DATASET_INPUT, TRAINER_INPUT = "folder", "steps"
TOLD_CLASSES = ("Glitch", "CheckpointLoader", "KSampler")  # of which the beginning is told
INTERRUPT_TIMEOUT_S = 30.0  # a training step on a slow CPU takes some seconds
EXIT_FAILED, EXIT_INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo.

    Args:
        arguments: The command line without the program's name; `sys.argv` by default.

    Returns:
        0, or 1 after an error that is told in a sentence, or 130 after Ctrl-C.
    """
    let_consoles_print_all()
    options = _parser().parse_args(arguments)
    try:
        _show(_run(options))
    except GlitchTrainError as error:
        sys.stderr.write(f"\n{error}\n")
        return EXIT_FAILED
    except KeyboardInterrupt:
        sys.stderr.write(f"\nStopped. What there is so far is in {options.out}.\n")
        return EXIT_INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m glitch_demo",
        description="Trains a glitch LoRA in a real ComfyUI and shows what it does to pictures.",
        epilog="CHECKPOINT, PICTURES, STEPS and COMFYUI_PATH may be set in the environment.",
    )
    environment = os.environ
    parser.add_argument(
        "--out",
        type=Path,
        default=REPO_ROOT / "demo_output",
        help="folder for the host and the results (default: demo_output)",
    )
    parser.add_argument(
        "--checkpoint",
        default=environment.get("CHECKPOINT") or None,
        help="a base model of yours instead of the pocket one",
    )
    parser.add_argument(
        "--pictures",
        default=environment.get("PICTURES") or None,
        help="a folder of yours with pictures and captions, instead of the crushed photographs",
    )
    parser.add_argument(
        "--steps",
        type=int,
        default=environment.get("STEPS") or None,
        help="training steps (default: as the workflow has it)",
    )
    parser.add_argument("--workflow", type=Path, default=WORKFLOW, help=argparse.SUPPRESS)
    return parser


def _run(options: argparse.Namespace) -> Results:
    """Do the whole demo and return its files."""
    checkpoint = own_checkpoint(options.checkpoint) if options.checkpoint else None
    pictures = own_pictures(options.pictures) if options.pictures else None
    graph = load_graph(options.workflow)
    out: Path = options.out.resolve()
    host = Host(out / "comfyui")
    graph = set_input(graph, LOADER, LOADER_INPUT, place_checkpoint(host.base_dir, checkpoint))
    graph = set_input(
        graph, DATASET_LOADER.node_id, DATASET_INPUT, place_pictures(host.base_dir, pictures)
    )
    if checkpoint:
        graph = suit_own_checkpoint(graph)
    if pictures:
        graph = suit_own_pictures(graph, pictures)
    if options.steps is not None:
        graph = set_input(graph, TRAINER.node_id, TRAINER_INPUT, options.steps)
    say("Starting ComfyUI (its log: " + str(host.log_path) + ")")
    with host, ComfyClient(host.address) as client:
        say(f"ComfyUI {client.system_stats()['system']['comfyui_version']} runs at {host.url}")
        since = time.time()
        outputs = _follow(client, graph)
    return collect(host.base_dir, out, graph, outputs, since)


def _follow(client: ComfyClient, graph: Graph) -> Outputs:
    """Run the workflow, showing how it goes; Ctrl-C stops it in the host too."""
    titles = {
        node: title(graph, node)
        for node, entry in graph.items()
        if entry["class_type"].startswith(TOLD_CLASSES)
    }
    trainers = nodes_of(graph, TRAINER.node_id)
    steps = {node: graph[node]["inputs"].get(TRAINER_INPUT) for node in trainers}
    with training_bar(steps, titles) as bar:
        run = run_workflow(
            client, graph, bar, on_stop=_say_stopping, stop_wait_s=INTERRUPT_TIMEOUT_S
        )
    if run.interrupted:
        raise KeyboardInterrupt
    if run.error is not None:
        raise run.error
    return run.outputs


def _say_stopping() -> None:
    say("\nStopping (once more Ctrl-C: at once) ...")


def _show(results: Results) -> None:
    """Say where everything is."""
    say("\nDone:")
    for what, path in (
        ("LoRA", results.lora),
        ("Loss graph", results.loss_graph),
        ("Loss record", results.loss_record),
        ("Contact sheet", results.contact_sheet),
        ("Run folder", results.run_folder),
    ):
        say(f"  {what + ':':<15}{path}")


if __name__ == "__main__":
    with terminate_as_ctrl_c():  # so that the host is stopped too
        code = main()
    sys.exit(code)
