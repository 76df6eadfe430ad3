"""``glitch_train prepare``: a folder as it will be trained, as files and as a report."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .options import add_json_option, add_settings, read_settings

if TYPE_CHECKING:
    from ..dataset.dataset import GlitchDataset


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
    from ..dataset.recipe import DatasetRecipe
    from ..dataset.report import DatasetReport
    from ..errors import DatasetError, RecipeError
    from ..recipe.experiments import combined_presets
    from ..recipe.recipe import read_recipe

    if options.workers is not None and not 1 <= options.workers <= 64:
        raise RecipeError(f"--workers must be 1 to 64, got {options.workers}.")
    folder = options.folder.resolve()
    if options.out.resolve() == folder:
        raise DatasetError(f"--out must be another folder than the pictures' own, {folder}.")
    start = read_recipe(options.recipe).dataset if options.recipe else DatasetRecipe()
    chosen = read_settings(options, DatasetRecipe, without=("folder",))
    named = combined_presets(options.preset)
    recipe = dataclasses.replace(
        start, **{**named.over(DatasetRecipe, {}), **chosen, "folder": str(folder)}
    )
    origins = {
        name: who for name, who in named.origins(DatasetRecipe).items() if name not in chosen
    }
    dataset = load_dataset(recipe, workers=options.workers, allow_empty=True, origins=origins)
    report = DatasetReport.of(dataset)
    result: dict[str, Any] = {"text": report.to_markdown(), **report.to_dict()}
    if not dataset.samples:
        return {**result, "error": no_pictures(dataset)}
    write_prepared(dataset, options.out, options.workers)
    return {**result, "out": str(options.out)}


def write_prepared(dataset: GlitchDataset, out: Path, workers: int | None = None) -> list[Path]:
    """Write every variant as PNG, each with its caption as .txt beside it.

    Args:
        dataset: what to prepare.
        out: the folder; created when missing.
        workers: number of threads.

    Returns:
        The pictures' paths, numbered in the dataset's order.

    Raises:
        DatasetError: when a picture can no longer be read or the disk does not take the files.
        DiskError: when their paths would be too long.
    """
    from ..errors import DatasetError
    from ..file_names import check_path_lengths
    from ..workers import in_order

    jobs = [
        (index, variant)
        for index in range(len(dataset.samples))
        for variant in range(dataset.recipe.variants)
    ]
    check_path_lengths(*(out / f"{_numbered(dataset, *job)}.png" for job in jobs))
    try:
        out.mkdir(parents=True, exist_ok=True)
        return list(in_order(lambda job: _write_variant(dataset, out, *job), jobs, workers))
    except OSError as error:
        raise DatasetError(f"Cannot write to {out}: {error.strerror}.") from error


def _write_variant(dataset: GlitchDataset, out: Path, index: int, variant: int) -> Path:
    from ..files import atomic_path, write_text

    sample = dataset.samples[index]
    numbered = _numbered(dataset, index, variant)
    picture = out / f"{numbered}.png"
    with atomic_path(picture) as part:
        dataset.prepare(sample, variant).image.save(part, "PNG", compress_level=1)
    write_text(out / f"{numbered}.txt", dataset.shown_caption(index, variant))
    return picture


def _numbered(dataset: GlitchDataset, index: int, variant: int) -> str:
    """Return what a variant's files are called, without their ending."""
    name = Path(dataset.samples[index].name).stem
    stem = "".join(c if c.isalnum() or c in "-_ " else "_" for c in name)[:60].rstrip()
    numbered = f"{index + 1:05}_{stem}"
    return numbered if dataset.recipe.variants == 1 else f"{numbered}_{variant + 1:03}"
