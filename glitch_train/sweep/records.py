"""A sweep's runs kept small: what its tables, curves and page are made of, without the rest."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from PIL import Image

from ..drawing.figures import save_jpeg
from ..errors import ReportError
from ..files import read_object, write_text
from ..losses.read import LOSSES, read_csv
from .matrix import REPORT, SWEEP, VERDICT, Matrix, SeedRun
from .pictures import MOST_PAIRS, pictures_of
from .results import DONE

COLUMNS = ("step", "loss", "train_probe_loss", "probe_loss")
JPEG_QUALITY = 90


def check_place(sweep: Path, folder: Path) -> None:
    """Refuse a place for records that would put them over the runs.

    Args:
        sweep: the sweep's folder.
        folder: where the records are to go.

    Raises:
        ReportError: both are the same.
    """
    if folder.resolve() == sweep.resolve():
        raise ReportError(f"{folder} is the sweep itself: keep its records in another folder.")


def keep_records(matrix: Matrix, sweep: Path, folder: Path) -> list[Path]:
    """Write the runs of a sweep again, small enough for a repository.

    Losses keep the columns of losses alone, reports their indices, and of the pictures those stay
    that a page shows, as JPEG. ``matrix`` makes the same tables and page of them.

    Args:
        matrix: as :func:`.matrix.read_matrix` read it.
        sweep: the sweep's folder.
        folder: where the records go.

    Returns:
        The files.

    Raises:
        ReportError: as :func:`check_place`.
        DiskError: the disk does not take a file.
    """
    check_place(sweep, folder)
    files = [_keep_json(folder / SWEEP, matrix.asked)] if matrix.asked else []
    for row in matrix.rows:
        for run in row.runs:
            kinds = ("base", "glitched") if run is row.runs[0] else ("glitched",)
            shown = [path for kind in kinds for path in pictures_of(run.folder / kind)[:MOST_PAIRS]]
            files += _keep(run, folder / run.folder.relative_to(sweep), shown)
    for _, row in matrix.doses:  # of which a page shows curves
        for run in row.runs:
            files += _keep(run, folder / run.folder.relative_to(sweep), [])
    return files


def _keep(run: SeedRun, place: Path, pictures: list[Path]) -> list[Path]:
    record = read_csv(run.folder / LOSSES)
    columns = {name: record.columns[name] for name in COLUMNS if name in record.columns}
    write_text(place / LOSSES, dataclasses.replace(record, columns=columns).to_csv())
    files = [place / LOSSES, _keep_json(place / VERDICT, run.verdict)]
    if run.effects:
        effects = {
            key: {name: value for name, value in one.items() if name != "details"}
            for key, one in run.effects.items()
        }
        report = {"runs": [{"effects": effects, "pairs": run.pairs}]}
        files.append(_keep_json(place / REPORT, report))
    for path in pictures:
        files.append(_keep_picture(path, place / path.parent.name / f"{path.stem}.jpg"))
    done = read_object(run.folder / DONE)
    note = {name: value for name, value in done.items() if name not in ("files", "loras")}
    note["files"] = [file.relative_to(place).as_posix() for file in files]
    return [*files, _keep_json(place / DONE, note)]


def _keep_json(path: Path, content: Any) -> Path:
    write_text(path, json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n")
    return path


def _keep_picture(source: Path, path: Path) -> Path:
    with Image.open(source) as picture:
        save_jpeg(picture, path, JPEG_QUALITY)
    return path
