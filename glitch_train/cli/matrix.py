"""``glitch_train matrix``: a sweep's folder summed up anew, and as a page."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..drawing.style import STYLES
from ..errors import ReportError
from .options import add_json_option, check_output, check_output_folder

if TYPE_CHECKING:
    from ..sweep.reasons import Reasons


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "matrix",
        help="sum up a sweep: which technique moved which effect",
        description="Read the complete runs of a sweep's folder and write matrix.json, .csv, .md "
        "and .png and strip.png into it. Nothing is run.",
    )
    parser.add_argument("folder", type=Path, help="as sweep --out was given it")
    add_matrix_options(parser)
    add_json_option(parser)
    parser.set_defaults(run=lambda options: write_all(options.folder, options))


def add_matrix_options(parser: argparse.ArgumentParser) -> None:
    """Give a verb what the summary can be told."""
    parser.add_argument(
        "--page",
        type=Path,
        metavar="FILE.md",
        help="write a page for readers too, its pictures in images/FILE beside it",
    )
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="write what the page is made of into this folder, small enough for a repository; "
        "glitch_train matrix FOLDER makes the page of it again",
    )
    parser.add_argument(
        "--reasons",
        type=Path,
        metavar="FILE.toml",
        help="why expected effects stayed away, for the page: [jpeg_crushed] and below it "
        'compression = "the autoencoder cannot draw it"',
    )
    parser.add_argument("--style", choices=STYLES, default="dark", help="of the pictures")


def check_matrix_options(folder: Path, options: argparse.Namespace) -> Reasons:
    """Return the reasons given; refuse a page whose name lies and records where the runs are.

    Args:
        folder: the sweep's.
        options: as :func:`add_matrix_options` declares them.

    Raises:
        GlitchTrainError: says why.
    """
    from ..sweep.records import check_place

    if options.page:
        check_output(options.page, ".md", option="--page")
    if options.keep:
        check_output_folder(options.keep, option="--keep")
        check_place(folder, options.keep)
    if options.reasons:
        from ..sweep.reasons import read_reasons

        return read_reasons(options.reasons)
    return {}


def write_all(
    folder: Path,
    options: argparse.Namespace,
    on_damaged: Callable[[str, ReportError], None] | None = None,
) -> dict[str, Any]:
    """Write a sweep's summary, and the page where one is asked for.

    Args:
        folder: the sweep's.
        options: as :func:`add_matrix_options` declares them.
        on_damaged: as :func:`..sweep.matrix.read_matrix` takes it.

    Raises:
        ReportError: the folder has no complete run, or a damaged one.
        DiskError: the disk does not take a file.
    """
    from ..sweep.matrix import read_matrix
    from ..sweep.page import write_matrix, write_page
    from ..sweep.reasons import unused_reasons
    from ..sweep.records import keep_records
    from ..sweep.tables import matrix_dict

    reasons = check_matrix_options(folder, options)
    matrix = read_matrix(folder, on_damaged)
    if reasons:
        matrix = dataclasses.replace(matrix, asked={**matrix.asked, "reasons": reasons})
    files = write_matrix(matrix, folder, options.style)
    if options.page:
        files += write_page(matrix, options.page, options.style)
    if options.keep:
        files += keep_records(matrix, folder, options.keep)
    paths, unused = [str(path) for path in files], unused_reasons(matrix, reasons)
    return {
        "text": "\n".join(paths + unused),
        "files": paths,
        "reasons_not_shown": unused,
        **matrix_dict(matrix),
    }
