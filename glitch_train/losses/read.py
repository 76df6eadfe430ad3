"""Read a loss record: a run folder, its CSV or JSON, any CSV of losses, or event files."""

from __future__ import annotations

import bisect
import csv
import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import RecordError
from ..files import read_text
from ..plain_json import parse_json
from .about import About
from .record import LossRecord, is_column
from .tensorboard import Scalars, read_scalars

EVENT_MARK = ".tfevents."
LOSSES = "losses.csv"

# Other trainers' names for our columns, in order of preference. kohya-ss/sd-scripts writes
# loss/current, loss/average, lr/unet, lr/textencoder and loss/validation/…; diffusers' scripts
# write train_loss and lr; TensorBoard's CSV export has "Wall time", "Step" and "Value".
TAGS = {
    "loss": ("loss/current", "loss", "train_loss", "train/loss", "loss/train", "loss/average"),
    "learning_rate": ("lr/unet", "lr", "lr/group0", "learning_rate", "train/learning_rate"),
    "text_encoder_lr": ("lr/textencoder", "lr/text_encoder"),
    "grad_norm": ("grad_norm", "train/grad_norm"),
    "probe_loss": (
        "loss/validation/step_average",
        "loss/validation/epoch_average",
        "val_loss",
        "loss/val",
    ),
    "epoch": ("epoch", "train/epoch"),
}
HEADINGS = {"steps": "step", "global_step": "step", "value": "loss"} | {
    tag: column for column, tags in TAGS.items() for tag in tags
}
_SNAPSHOT = re.compile(r"[-_]step0*(\d+)\.safetensors$")


def read_record(path: Path) -> LossRecord:
    """Read a record of any kind.

    Args:
        path: a run's folder, a folder with event files, an event file, a ``.json`` written by
            this pack, or a CSV with the columns step and loss.

    Raises:
        RecordError: says what is missing.
    """
    if path.is_dir():
        return _read_folder(path)
    if EVENT_MARK in path.name:
        return _from_scalars(read_scalars(path), path.parent.name or path.stem, path)
    if path.suffix.lower() == ".json":
        return read_json(path)
    return read_csv(path)


def read_csv(path: Path) -> LossRecord:
    """Read a CSV with at least the columns ``step`` and ``loss``; the rest is optional.

    Raises:
        RecordError: when the file, one of the two columns or every row is missing.
    """
    text = _text(path)
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    rows = _rows(path, text, delimiter)
    heading = [_heading(cell) for cell in rows[0]] if rows else []
    if not {"step", "loss"} <= set(heading):
        raise RecordError(
            f"{path} needs a header with the columns step and loss; "
            f"it begins with {text[:60].splitlines()[0] if text.strip() else 'nothing'!r}."
        )
    table = list(zip(*(_padded(row, len(heading)) for row in rows[1:] if any(row)), strict=True))
    if not table:
        raise RecordError(f"{path} has no losses yet; train for at least one step.")
    cells = {name: column for name, column in zip(heading, table, strict=True) if is_column(name)}
    columns = {name: [_number(cell) for cell in column] for name, column in cells.items()}
    about = _about(path.parent) if path.name == LOSSES else About()
    return LossRecord(_name_for(path), _without_gaps(columns, cells["loss"]), about)


def read_json(path: Path) -> LossRecord:
    """Read what ``LossRecord.to_json`` wrote, or a LOSS_MAP.

    Raises:
        RecordError: when the file is missing, malformed or no record.
    """
    try:
        content = parse_json(_text(path))
    except ValueError as error:
        raise RecordError(f"{path} is not valid JSON: {error}.") from error
    if isinstance(content, dict) and isinstance(content.get("columns"), dict):
        content = {key: content[key] for key in ("name", "about") if key in content} | {
            name: _from_words(values) for name, values in content["columns"].items()
        }
    return LossRecord.from_loss_map(content, _name_for(path))


def _from_words(values: Any) -> Any:
    """Return a column with numbers for "nan" and "inf"; what else is in it stays."""
    if not isinstance(values, list):
        return values
    return [float(one) if one in ("nan", "inf", "-inf") else one for one in values]


def _read_folder(folder: Path) -> LossRecord:
    if (folder / LOSSES).is_file():
        return read_csv(folder / LOSSES)
    events = sorted(folder.rglob(f"*{EVENT_MARK}*"))
    scalars: Scalars = {}
    for path in events:
        for tag, values in read_scalars(path).items():
            scalars.setdefault(tag, []).extend(values)
    if not events:
        raise RecordError(f"{folder} has neither {LOSSES} nor a TensorBoard event file.")
    return _from_scalars(scalars, folder.name, folder)


def _from_scalars(scalars: Scalars, name: str, path: Path) -> LossRecord:
    """Join scalars on the steps of the loss; others are NaN where they have no value."""
    found = {
        column: dict(next((scalars[tag] for tag in tags if scalars.get(tag)), []))
        for column, tags in TAGS.items()
    }
    if not found["loss"]:
        have = ", ".join(sorted(scalars)[:8]) or "no scalars"
        raise RecordError(f"{path} has no scalar called {TAGS['loss'][0]}; it has {have}.")
    losses = found.pop("loss")
    steps = sorted(losses)
    columns: dict[str, list[float]] = {"step": [float(step) for step in steps]}
    columns["loss"] = [losses[step] for step in steps]
    for column, values in found.items():
        if values:
            columns[column] = [math.nan] * len(steps)
            for step, value in values.items():
                # Other trainers log a probe between two losses: it goes to the one before it.
                columns[column][max(0, bisect.bisect_right(steps, step) - 1)] = value
    return LossRecord(name, columns)


def _without_gaps(
    columns: dict[str, list[float]], loss_cells: Sequence[str]
) -> dict[str, list[float]]:
    """Drop rows in which no loss was recorded; their probes go to the row before.

    An empty cell is a gap where the row holds a probe instead, or where most rows are empty; else
    it is a lost number, as some tools write NaN.
    """
    probes = [name for name in columns if "probe_loss" in name]
    empty = [not cell.strip() for cell in loss_cells]
    sparse = sum(empty) > len(empty) / 2
    kept: list[int] = []
    for row, is_empty in enumerate(empty):
        measured = [name for name in probes if not math.isnan(columns[name][row])]
        if is_empty and kept and (measured or sparse):
            for name in measured:
                columns[name][kept[-1]] = columns[name][row]
        else:
            kept.append(row)
    return {name: [values[row] for row in kept] for name, values in columns.items()}


def _about(folder: Path) -> About:
    """Return what the run folder says beside the losses."""
    about: dict[str, Any] = {}
    beside = folder / LOSSES.replace(".csv", ".json")
    for path, key in ((beside, "about"), (folder / "recipe.json", "recipe")):
        try:
            content = parse_json(read_text(path))
        except (OSError, ValueError):
            continue
        if key == "recipe":
            about.setdefault("recipe", content)
        elif isinstance(content, dict) and isinstance(content.get("about"), dict):
            about |= content["about"]
    found = (_SNAPSHOT.search(path.name) for path in folder.rglob("*.safetensors"))
    snapshots = sorted({int(match[1]) for match in found if match})
    return About.from_dict(about | ({"snapshots": snapshots} if snapshots else {}))


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as error:
        raise RecordError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise RecordError(
            f"{path} is not a text file; give a CSV, a JSON, a run folder or an event file "
            "(events.out.tfevents.…)."
        ) from error


def _rows(path: Path, text: str, delimiter: str) -> list[list[str]]:
    try:
        return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
    except csv.Error as error:
        raise RecordError(f"{path} is no CSV of losses: {error}.") from error


def _heading(cell: str) -> str:
    name = cell.strip().strip('"').lower()
    return name if is_column(name) else HEADINGS.get(name, name)


def _padded(row: list[str], length: int) -> list[str]:
    return (row + [""] * length)[:length]


def _number(cell: str) -> float:
    try:
        return float(cell)
    except ValueError:
        return math.nan


def _name_for(path: Path) -> str:
    return path.resolve().parent.name if path.stem == "losses" else path.stem
