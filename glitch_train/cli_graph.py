"""``glitch_train graph``: loss records as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .cli import add_json_option


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("graph", help="draw one or several loss records")
    parser.add_argument("record", type=Path, nargs="+", help="CSV with the columns step and loss")
    parser.add_argument("-o", "--out", type=Path, required=True, help=".png, .svg or .pdf")
    parser.add_argument("--width", type=int, default=1200, help="pixels (default: 1200)")
    parser.add_argument("--height", type=int, default=700, help="pixels (default: 700)")
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from .plots import GraphSize, draw_losses, save_figure
    from .record_read import read_record

    records = [read_record(path) for path in options.record]
    save_figure(draw_losses(records, GraphSize(options.width, options.height)), options.out)
    return {"text": str(options.out), "graph": str(options.out), "runs": len(records)}
