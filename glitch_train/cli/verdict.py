"""``glitch_train verdict``: what loss records say, as a table or as JSON."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_json_option


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("verdict", help="judge loss records: convergence, fit, stability")
    parser.add_argument(
        "record",
        type=Path,
        nargs="+",
        help="run folder or a folder of several; CSV, JSON or lines of JSON of any trainer; "
        "TensorBoard event file",
    )
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..losses.read import read_records
    from ..losses.verdict.diagnose import diagnose
    from ..losses.verdict.text import to_markdown

    verdicts = [diagnose(record) for path in options.record for record in read_records(path)]
    text = "\n".join(to_markdown(verdict) for verdict in verdicts).rstrip("\n")
    if len(verdicts) == 1:
        return {"text": text, **verdicts[0].to_dict()}
    return {"text": text, "runs": [verdict.to_dict() for verdict in verdicts]}
