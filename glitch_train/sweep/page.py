"""A sweep as Markdown: what was asked for, the table, what came of every expectation."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ..drawing.figures import save_figure, save_jpeg, save_png
from ..files import write_text
from ..measure.measurement import EFFECTS
from .doses import Dose, plain_tag
from .findings import how_sure, outcome, sentences, shown
from .matrix import Matrix, MatrixRow
from .pictures import draw_curves, draw_doses, draw_heat_map, draw_overview, draw_row, draw_strip
from .tables import matrix_csv, matrix_dict

JPEG_QUALITY = 82
PAGE_CELL_PX = 160
_READ = (
    "Glitch index: 0 is the base model, 1 the reference named at the end. Mean over training "
    "seeds; brackets: smallest and largest seed. What the development log expects is framed."
)
_LOSSES = (
    "From the start to the end of the training, mean over seeds. The probe is the loss on training "
    "pictures with the same noise at every step, so it shows what the noise of the loss hides."
)
_DOSES = (
    "One setting at several strengths, all else as in the experiment; the experiment as it is and "
    "its standard run are points too where they differ in that setting alone. Lines: mean over "
    "training seeds; bars: smallest and largest seed."
)


def write_matrix(matrix: Matrix, folder: Path, style: str = "dark") -> list[Path]:
    """Write matrix.json, .csv, .md, the heat map and the strip of pictures.

    Args:
        matrix: what to write.
        folder: where the files go.
        style: of the pictures.

    Returns:
        The files.
    """
    import json

    content = json.dumps(matrix_dict(matrix), indent=1, ensure_ascii=False) + "\n"
    write_text(folder / "matrix.json", content)
    write_text(folder / "matrix.csv", matrix_csv(matrix))
    files = [folder / "matrix.json", folder / "matrix.csv", folder / "matrix.md"]
    pictures = []
    if matrix.effects:
        save_figure(draw_heat_map(matrix, style), folder / "matrix.png")
        pictures.append(("Glitch index of every experiment and effect", "matrix.png"))
    strip = draw_strip(matrix, style)
    if strip is not None:
        path = folder / "strip.png"
        save_png(strip, path, {})
        pictures.append(("Base and every training seed, same prompt and seed", "strip.png"))
    text = _summary(matrix, pictures) + _expectations(matrix)
    write_text(folder / "matrix.md", text)
    return files + [folder / name for _, name in pictures]


def write_page(matrix: Matrix, page: Path, style: str = "dark") -> list[Path]:
    """Write a page for readers, with its pictures in ``images/NAME`` beside it.

    Args:
        matrix: what to write.
        page: the Markdown file.
        style: of the pictures.

    Returns:
        The files.
    """
    images = page.parent / "images" / page.stem
    files, pictures = [page], []
    overview = draw_overview(matrix, style, PAGE_CELL_PX)
    if overview is not None:
        files.append(images / "overview.jpg")
        save_jpeg(overview, files[-1], JPEG_QUALITY)
        alt = "Every experiment: base, the same prompt and seed glitched, and what it did"
        pictures.append((alt, _link(files[-1], page)))
    if matrix.effects:
        files.append(images / "index.png")
        save_figure(draw_heat_map(matrix, style), files[-1])
        pictures.append(("Glitch index of every experiment and effect", _link(files[-1], page)))
    lines = [_summary(matrix, pictures).rstrip("\n"), ""]
    if matrix.doses:
        lines += ["## Dose and response", "", _DOSES, ""]
    for rows in doses_by_setting(matrix):
        dose = rows[0][0]
        files.append(images / f"{dose.slug}_{plain_tag(dose.setting)}.png")
        save_figure(draw_doses(rows, style), files[-1])
        alt = f"{dose.slug}: glitch index against {dose.setting}"
        lines += [f"![{alt}]({_link(files[-1], page)})", ""]
    lines += ["## Experiment by experiment", ""]
    for row in matrix.rows:
        lines += [f"### {row.experiment.title}", "", *_about(matrix, row), ""]
        picture = draw_row(row, style, PAGE_CELL_PX)
        if picture is not None:
            files.append(images / f"{row.slug}.jpg")
            save_jpeg(picture, files[-1], JPEG_QUALITY)
            alt = f"{row.experiment.title}: base pictures, and the same prompts and seeds glitched"
            lines += [f"![{alt}]({_link(files[-1], page)})", ""]
        files.append(images / f"{row.slug}_loss.png")
        save_figure(draw_curves(row, style), files[-1])
        lines += [f"![{row.experiment.title}: losses]({_link(files[-1], page)})", ""]
    lines += ["## What index 1 means", ""]
    lines += [f"- {EFFECTS[key].title}: {EFFECTS[key].reference}." for key in matrix.effects]
    write_text(page, "\n".join(lines) + "\n")
    return files


def doses_by_setting(matrix: Matrix) -> list[list[tuple[Dose, MatrixRow]]]:
    """Return the doses of each experiment and setting together."""
    together: dict[tuple[str, str], list[tuple[Dose, MatrixRow]]] = {}
    for dose, row in matrix.doses:
        together.setdefault((dose.slug, dose.setting), []).append((dose, row))
    return [_with_own(rows, matrix) for rows in together.values()]


def _with_own(
    rows: Sequence[tuple[Dose, MatrixRow]], matrix: Matrix
) -> list[tuple[Dose, MatrixRow]]:
    """Add the experiment as it is, and its standard run, where their strengths are known."""
    dose, row = rows[0]
    more = [(dose.own, matrix.row(dose.slug))]
    if set(row.experiment.settings) <= {dose.setting}:
        more.append((dose.standard, matrix.standard_of(row)))
    found = list(rows)
    for value, known in more:
        one = dataclasses.replace(dose, value=value)
        if known and value and all(one.strength != other.strength for other, _ in found):
            found.append((one, known))
    return sorted(found, key=lambda one: (one[0].strength, one[0].value))


def _summary(matrix: Matrix, pictures: Sequence[tuple[str, str]]) -> str:
    lines = ["# The measured matrix", ""]
    for alt, link in pictures[:1]:
        lines += [f"![{alt}]({link})", ""]
    if matrix.effects:
        lines += [*_outcome(matrix), "## How it was measured", ""]
    commands = [command.replace("\n", "\n    ") for command in matrix.asked.get("commands", ())]
    if about := matrix.asked.get("about"):
        lines += [about, ""]
    if commands:
        lines += ["Made by", "", *(f"    {command}" for command in commands), ""]
    lines += [_material(matrix), ""]
    if matrix.effects:
        lines += [_READ, "", how_sure(matrix), ""]
    for alt, link in pictures[1:]:
        lines += [f"![{alt}]({link})", ""]
    if matrix.effects:
        lines += ["## Index", "", *_index_table(matrix), ""]
    lines += ["## Losses", "", _LOSSES, "", *_loss_table(matrix)]
    return "\n".join(lines) + "\n"


def _outcome(matrix: Matrix) -> list[str]:
    lines = []
    for head, found in zip(("What appeared", "What did not"), outcome(matrix), strict=True):
        if found:
            lines += [f"## {head}", "", *(f"- {one}" for one in found), ""]
    return lines


def _expectations(matrix: Matrix) -> str:
    said = [f"- **{row.slug}**: {' '.join(sentences(matrix, row))}" for row in matrix.rows]
    return "\n".join(["", "## What came of the expectations", "", *said]) + "\n"


def _material(matrix: Matrix) -> str:
    runs = [run for row in matrix.rows for run in row.runs]
    pairs = sorted({run.pairs for run in runs})
    count = f"{pairs[0]}" if len(pairs) == 1 else f"{pairs[0]} to {pairs[-1]}"
    text = f"{len(matrix.rows)} experiments, {len(runs)} runs"
    return f"{text}, {count} pairs of pictures each." if pairs[-1] else f"{text}, without pictures."


def _index_table(matrix: Matrix) -> list[str]:
    heads = [EFFECTS[key].title for key in matrix.effects]
    lines = ["| experiment | " + " | ".join(heads) + " |", "| --- |" + " --- |" * len(heads)]
    for row in matrix.rows:
        cells = []
        for key in matrix.effects:
            found = row.spread(key)
            text = shown(found) if found else "–"
            cells.append(f"**{text}**" if key in row.experiment.expected else text)
        lines.append(f"| {row.slug} | " + " | ".join(cells) + " |")
    return [*lines, "", "Bold: what the log expects of the experiment."]


def _loss_table(matrix: Matrix) -> list[str]:
    lines = [
        "| experiment | loss | probe | convergence | stability | fit |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in matrix.rows:
        cells = [_ends(row.loss) or "–", _ends(row.probe) or "–"]
        cells += [_states(row, aspect) for aspect in ("convergence", "stability", "fit")]
        lines.append(f"| {row.slug} | " + " | ".join(cells) + " |")
    return lines


def _states(row: MatrixRow, aspect: str) -> str:
    """Return the states of the seeds, those that agree together."""
    states = [state.replace("_", " ") for state in row.states(aspect)]
    counted = {state: states.count(state) for state in dict.fromkeys(states)}
    if len(counted) == 1:
        return states[0]
    return ", ".join(f"{count} × {state}" for state, count in counted.items())


def _about(matrix: Matrix, row: MatrixRow) -> list[str]:
    said = sentences(matrix, row)
    if losses := _ends(row.loss):
        probe = f", probe {ends}" if (ends := _ends(row.probe)) else ""
        states = f"{_states(row, 'convergence')}, {_states(row, 'stability')}"
        said.append(f"Loss {losses}{probe}; {states}.")
    return [f"- {one}" for one in said]


def _ends(level: Callable[[str], float | None]) -> str:
    """Return where a level starts and ends, or empty where that is not known."""
    start, final = level("start"), level("final")
    return "" if start is None or final is None else f"{start:.4f} → {final:.4f}"


def _link(path: Path, page: Path) -> str:
    return Path(os.path.relpath(path, page.parent)).as_posix()
