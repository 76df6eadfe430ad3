"""``glitch_train prepare``: a folder as it will be trained, as files and as a report."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_json_option, add_settings, check_output_folder, read_settings

if TYPE_CHECKING:
    from ..dataset.dataset import GlitchDataset
    from ..dataset.mix import AnyDataset


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    from ..dataset.recipe import DatasetRecipe

    parser = verbs.add_parser("prepare", help="write pictures and captions as they are trained")
    parser.add_argument("folder", type=Path, help="folder of pictures with captions")
    parser.add_argument("--out", type=Path, required=True, help="where prepared files go")
    parser.add_argument("--recipe", type=Path, help="start from a recipe file (.toml or .json)")
    parser.add_argument(
        "--preset",
        action="append",
        default=[],
        metavar="NAME",
        help="then a preset of the Glitch Recipe node; several are combined in this order",
    )
    parser.add_argument("--workers", type=int, help="threads (default: one per core)")
    add_settings(parser, DatasetRecipe, without=("folder",))
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..dataset.load import load_dataset, no_pictures
    from ..dataset.mix_report import report_of
    from ..dataset.recipe import DatasetRecipe
    from ..errors import RecipeError
    from ..recipe.experiments import combined_presets
    from ..recipe.recipe import Recipe, read_recipe

    if options.workers is not None and not 1 <= options.workers <= 64:
        raise RecipeError(f"--workers must be 1 to 64, got {options.workers}.")
    check_output_folder(options.out)
    folder = Path(os.path.realpath(options.folder))
    _check_apart(options.out, folder)
    given = read_recipe(options.recipe) if options.recipe else Recipe()
    if given.mix:
        raise RecipeError(
            f"{options.recipe.name} is a mix of {len(given.mix)} datasets, and prepare takes one "
            "folder: give it a recipe without [[mix]]."
        )
    chosen = read_settings(options, DatasetRecipe, without=("folder",))
    named = combined_presets(options.preset)
    recipe = dataclasses.replace(
        given.dataset, **{**named.over(DatasetRecipe, {}), **chosen, "folder": str(folder)}
    )
    origins = {
        name: who for name, who in named.origins(DatasetRecipe).items() if name not in chosen
    }
    dataset = load_dataset(recipe, workers=options.workers, allow_empty=True, origins=origins)
    report = report_of(dataset)
    result: dict[str, Any] = {"text": report.to_markdown(), **report.to_dict()}
    if not dataset.samples:
        (empty,) = dataset.parts
        return {**result, "error": no_pictures(folder, empty.skipped, empty.subfolders)}
    write_prepared(dataset, options.out, options.workers)
    return {**result, "out": str(options.out)}


def write_prepared(dataset: AnyDataset, out: Path, workers: int | None = None) -> list[Path]:
    """Write every variant as PNG, each with its caption as .txt beside it.

    Args:
        dataset: what to prepare.
        out: the folder; created when missing.
        workers: number of threads.

    Returns:
        The pictures' paths, numbered in the dataset's order.

    Raises:
        DatasetError: when pictures or captions of another set lie there, a picture can no longer be
            read, or the disk does not take the files.
        DiskError: when their paths would be too long.
    """
    from ..environment import system_advice
    from ..errors import DatasetError
    from ..file_names import check_path_lengths
    from ..workers import in_order

    jobs: list[tuple[str, GlitchDataset, int, int]] = []
    pictures = [(part, index) for part in dataset.parts for index in range(len(part.samples))]
    for number, (part, index) in enumerate(pictures, start=1):
        for variant in range(part.recipe.variants):
            jobs.append((_name_of(part, index, variant, number), part, index, variant))
    names = [name for name, *_ in jobs]
    check_path_lengths(*(out / f"{name}.png" for name in names))
    for part in dataset.parts:
        _check_apart(out, Path(part.recipe.folder))
    try:
        _check_out(out, set(names))
        out.mkdir(parents=True, exist_ok=True)
        write = lambda job: _write_variant(out / job[0], *job[1:])  # noqa: E731
        return list(in_order(write, jobs, workers))
    except OSError as error:
        advice = system_advice(error) or "choose another folder"
        raise DatasetError(f"Cannot write to {out}: {error.strerror}; {advice}.") from error


def _check_apart(out: Path, folder: Path) -> None:
    """Refuse to write where pictures are read from, by whatever name."""
    from ..errors import DatasetError

    same = os.path.realpath(out) == os.path.realpath(folder)
    if same or (os.path.exists(out) and os.path.exists(folder) and os.path.samefile(out, folder)):
        raise DatasetError(f"--out must be another folder than the pictures' own, {folder}.")


def _check_out(out: Path, names: set[str]) -> None:
    """Refuse a folder where another set would be mixed with the new one; nothing is deleted."""
    from ..dataset.caption_files import is_caption
    from ..dataset.folder import is_picture
    from ..dataset.names import same_name
    from ..errors import DatasetError
    from ..wording import shown_name

    there = sorted(same_name(path.name) for path in out.iterdir()) if out.is_dir() else []
    ours = {name + ending for name in names for ending in (".png", ".txt")}
    others = [name for name in there if (is_picture(name) or is_caption(name)) and name not in ours]
    if others:
        raise DatasetError(
            f"{out} holds {len(others)} pictures or captions that are not of this set, for example "
            f"{shown_name(others[0])}, and the two would be mixed; give --out another folder, or "
            "empty that one."
        )


def _name_of(dataset: GlitchDataset, index: int, variant: int, number: int) -> str:
    """Return what the files of one variant are called, without their endings."""
    from ..dataset.names import stem_of

    stem = stem_of(dataset.samples[index].name)
    plain = "".join(c if c.isalnum() or c in "-_ " else "_" for c in stem)[:60].rstrip()
    numbered = f"{number:05}_{plain}"
    return f"{numbered}_{variant + 1:03}" if dataset.recipe.variants > 1 else numbered


def _write_variant(path: Path, dataset: GlitchDataset, index: int, variant: int) -> Path:
    from ..files import atomic_path, write_text

    picture = path.with_name(f"{path.name}.png")
    with atomic_path(picture) as part:
        image = dataset.prepare(dataset.samples[index], variant).image
        image.save(part, "PNG", compress_level=1)
    write_text(path.with_name(f"{path.name}.txt"), dataset.shown_caption(index, variant))
    return picture
