"""Finds what a demo run made, and lays it out under plain names."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from glitch_demo.contact_sheet import Row, contact_sheet
from glitch_train.comfyui.graph import Graph, natural_order, picture_caption
from glitch_train.errors import GlitchTrainError

BASE_PREFIX = "demo_base"
LORA_PREFIX = "demo_lora"
LOSS_RECORD = "losses.csv"
Outputs = Mapping[str, Mapping[str, Any]]
"""Node id to what the node showed, as the client returns it."""


class ResultMissing(GlitchTrainError):
    """A run ended well, and yet something that it should have made is not there."""


@dataclass
class Results:
    """The files of one run, all in the demo's own folder."""

    lora: Path
    loss_graph: Path
    loss_record: Path
    contact_sheet: Path
    run_folder: Path
    captions: list[str] = field(default_factory=list)


def newest_record(base_dir: Path, since: float) -> Path | None:
    """Return the loss record of the run that goes on, or None before its first step.

    Args:
        base_dir: The host's base folder.
        since: When the run began, in seconds since the epoch: older records are others'.
    """
    return _newest((base_dir / "output" / "glitch").glob(f"*/{LOSS_RECORD}"), since)


def collect(base_dir: Path, target: Path, graph: Graph, outputs: Outputs, since: float) -> Results:
    """Copy a run's results under plain names and draw the contact sheet.

    Args:
        base_dir: The host's base folder.
        target: The folder for the results.
        graph: The workflow that ran.
        outputs: What its nodes showed.
        since: When the run began, in seconds since the epoch.

    Raises:
        ResultMissing: Something was not made.
    """
    record = _needed(newest_record(base_dir, since), f"loss record output/glitch/*/{LOSS_RECORD}")
    lora = _needed(_find_lora(base_dir, record.parent, since), "LoRA")
    loss_graph = _needed(_find_loss_graph(base_dir, outputs), "loss graph")
    base = list(_pictures(base_dir, graph, outputs, BASE_PREFIX))
    changed = list(_pictures(base_dir, graph, outputs, LORA_PREFIX))
    if not base or not changed:
        raise ResultMissing(f"The run saved no pictures named {BASE_PREFIX} and {LORA_PREFIX}.")
    captions = [caption for caption, _ in changed]
    sheet = contact_sheet(
        [
            Row("Without the LoRA", [picture for _, picture in base]),
            Row("With the LoRA, same prompts and seeds", [picture for _, picture in changed]),
        ],
        captions,
        target / "contact_sheet.png",
    )
    return Results(
        lora=_copy(lora, target / "glitch_lora.safetensors"),
        loss_graph=_copy(loss_graph, target / "loss_graph.png"),
        loss_record=_copy(record, target / LOSS_RECORD),
        contact_sheet=sheet,
        run_folder=record.parent,
        captions=captions,
    )


def _find_lora(base_dir: Path, run_folder: Path, since: float) -> Path | None:
    """Return the finished LoRA: among the models, in the output, or in the run's own folder."""
    for folder, pattern in (
        (base_dir / "models" / "loras", "**/*.safetensors"),
        (base_dir / "output" / "loras", "**/*.safetensors"),
        (run_folder, "*.safetensors"),
    ):
        found = _newest(folder.glob(pattern), since)
        if found is not None:
            return found
    return None


def _find_loss_graph(base_dir: Path, outputs: Outputs) -> Path | None:
    """Return the one picture that is neither of the two rows' nor a preview."""
    for node in sorted(outputs, key=natural_order):
        for image in outputs[node].get("images", ()):
            is_row = str(image["filename"]).startswith((BASE_PREFIX, LORA_PREFIX))
            if image.get("type") == "output" and not is_row:
                return _path_of(base_dir, image)
    return None


def _pictures(
    base_dir: Path, graph: Graph, outputs: Outputs, prefix: str
) -> Iterator[tuple[str, Path]]:
    """Yield caption and file of every picture saved under a prefix, in the nodes' order."""
    for node in sorted(outputs, key=natural_order):
        images = [
            image
            for image in outputs[node].get("images", ())
            if str(image["filename"]).startswith(prefix)
        ]
        for number, image in enumerate(images, 1):
            caption = picture_caption(graph, node)
            if len(images) > 1:
                caption = f"picture {number}, {caption}"
            yield caption, _path_of(base_dir, image)


def _path_of(base_dir: Path, image: Mapping[str, Any]) -> Path:
    folder = base_dir / str(image.get("type", "output")) / str(image.get("subfolder", ""))
    return folder / str(image["filename"])


def _newest(files: Iterator[Path], since: float) -> Path | None:
    # A second's grace: some file systems keep whole seconds only.
    new = [file for file in files if file.stat().st_mtime >= since - 1]
    return max(new, key=lambda file: file.stat().st_mtime, default=None)


def _needed(path: Path | None, what: str) -> Path:
    if path is None or not path.exists():
        raise ResultMissing(f"The run ended well but made no {what}: see the host's log.")
    return path


def _copy(source: Path, target: Path) -> Path:
    return Path(shutil.copy2(source, target))
