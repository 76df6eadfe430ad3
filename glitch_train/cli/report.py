"""``glitch_train report``: how glitched pictures differ from their base, folder by folder."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..drawing.style import STYLES
from .options import add_json_option, check_output_folder, check_overwrites_none


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("report", help="measure how pictures glitched: one index per effect")
    parser.add_argument("base", type=Path, help="folder of the base's pictures")
    parser.add_argument(
        "glitched",
        type=Path,
        nargs="+",
        help="folder of a run's pictures, with the same file names; several for side by side",
    )
    parser.add_argument("--name", action="append", help="what to call a run; once per folder")
    parser.add_argument(
        "--lora", type=Path, action="append", help="the run's LoRA, for its weight loudness"
    )
    parser.add_argument(
        "--checkpoint", type=Path, help="the base checkpoint that the LoRAs are for"
    )
    parser.add_argument(
        "--prompts", type=Path, metavar="FILE",
        help="text file with the prompt of each picture, one a line in the order of the names",
    )  # fmt: skip
    parser.add_argument("--style", choices=STYLES, default="dark", help="of the radar")
    parser.add_argument(
        "-o", "--out", type=Path, metavar="STEM",
        help="write STEM.md, STEM.json, STEM.csv and the radar STEM.png",
    )  # fmt: skip
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..measure.pairs import pairs_of_folders
    from ..measure.report import report_run, side_by_side

    folders = options.glitched
    if options.out:
        from ..measure.report_files import report_paths

        check_output_folder(options.out, option="-o", holds="the stem of four files' names")
        written = report_paths(options.out)
        models = [*(options.lora or []), *filter(None, [options.checkpoint])]
        check_overwrites_none(written, [*models, *filter(None, [options.prompts])])
        check_overwrites_none(written[-1:], [options.base, *folders])
    names = _one_each("--name", options.name, len(folders)) or [""] * len(folders)
    pairs = [
        pairs_of_folders(options.base, folder, name)
        for folder, name in zip(folders, names, strict=True)
    ]
    contexts = _contexts(options, len(pairs[0]))
    runs = [report_run(one, context) for one, context in zip(pairs, contexts, strict=True)]
    report = side_by_side(runs)
    result = report.to_dict()
    if options.out:
        from ..measure.report_files import save_report

        result["files"] = [str(path) for path in save_report(report, options.out, options.style)]
    return {"text": report.to_markdown().rstrip("\n"), **result}


def _contexts(options: argparse.Namespace, pairs: int) -> list[Any]:
    from ..errors import ReportError
    from ..files import read_text
    from ..measure.context import ModelContext
    from ..measure.text import prompts_of_pairs

    prompts: tuple[str, ...] = ()
    if options.prompts:
        prompts = prompts_of_pairs(read_text(options.prompts), pairs, str(options.prompts))
    loras = _one_each("--lora", options.lora, len(options.glitched))
    if not loras:
        return [ModelContext(prompts=prompts)] * len(options.glitched)
    if options.checkpoint is None:
        raise ReportError("--lora needs --checkpoint: loudness is measured against its weights.")
    from ..lora.read import read_lora_file
    from ..measure.weights import lora_loudness
    from ..transfer.base import read_base

    base = read_base(options.checkpoint)
    contexts = []
    for path in loras:
        blocks, left = lora_loudness(read_lora_file(path), base)
        notes = (f"{left} modules of {path.name} are not in this base.",) if left else ()
        contexts.append(ModelContext(prompts=prompts, blocks=blocks, notes=notes))
    return contexts


def _one_each(option: str, given: list[Any] | None, runs: int) -> list[Any]:
    from ..errors import ReportError

    if given and len(given) != runs:
        raise ReportError(f"{option} is given {len(given)} times for {runs} runs; once per run.")
    return given or []
