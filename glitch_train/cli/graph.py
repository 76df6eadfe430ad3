"""``glitch_train graph``: loss records as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..drawing.style import LINES, STYLES
from .options import add_json_option, check_overwrites_none


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("graph", help="draw one or several loss records")
    parser.add_argument(
        "record",
        type=Path,
        nargs="+",
        help="run folder or a folder of several; CSV, JSON or lines of JSON of any trainer; "
        "TensorBoard event file",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help=".png, .svg or .pdf")
    parser.add_argument("--width", type=int, default=1200, help="pixels (default: 1200)")
    parser.add_argument("--height", type=int, default=700, help="pixels (default: 700)")
    parser.add_argument("--style", choices=STYLES, default="dark", help="default: dark")
    parser.add_argument("--log", action="store_true", help="logarithmic loss axis")
    parser.add_argument("--epochs", action="store_true", help="epochs instead of steps")
    parser.add_argument("--line", choices=LINES, default="ema", help="the bold line")
    parser.add_argument("--no-marks", action="store_true", help="mark no spikes or flattening")
    parser.add_argument("--verdict", action="store_true", help="draw the verdict underneath")
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..drawing.figures import figure_format, save_figure
    from ..drawing.style import GraphOptions, GraphSize
    from ..errors import RecordError
    from ..losses.graph.draw import draw_losses
    from ..losses.read import read_records

    if min(options.width, options.height) < 100 or max(options.width, options.height) > 20_000:
        raise RecordError(
            f"width and height must be 100 to 20000 pixels, got {options.width}×{options.height}."
        )
    shown = GraphOptions(
        style=options.style,
        y_axis="log" if options.log else "linear",
        x_axis="epochs" if options.epochs else "steps",
        line=options.line,
        marks=not options.no_marks,
        table=options.verdict,
    )
    figure_format(options.out)
    check_overwrites_none([options.out], [one for one in options.record if one.is_file()])
    records = [record for path in options.record for record in read_records(path)]
    size = GraphSize(options.width, options.height)
    save_figure(draw_losses(records, size, shown), options.out)
    notes = {record.name: record.about.notes for record in records if record.about.notes}
    text = [f"{name}: {' '.join(said)}" for name, said in notes.items()]
    return {
        "text": "\n".join([*text, str(options.out)]),
        "graph": str(options.out),
        "runs": len(records),
        "notes": notes,
    }
