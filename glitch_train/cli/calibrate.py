"""``glitch_train calibrate``: known corruptions of real photographs against every measure."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .options import add_json_option, check_output_folder


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "calibrate", help="show which measure moves under which known corruption"
    )
    parser.add_argument(
        "-o", "--out", type=Path, metavar="DIR",
        help="write calibration.json and calibration.png there",
    )  # fmt: skip
    parser.add_argument(
        "--write",
        action="store_true",
        help="measure the references anew and write them into the pack: changes what index 1 is",
    )
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..files import write_text
    from ..measure.calibration.calibration import UNRELATED_LIMIT, Calibration, faults, to_markdown
    from ..measure.calibration.corruptions import photographs
    from ..measure.scale import DEFINED, PATH, reference

    if options.out:
        check_output_folder(options.out, option="-o")
    calibration = Calibration(photographs())
    scale = reference() if not options.write else calibration.reference()
    if options.write:
        kept = {key: value for key, value in scale.values.items() if key not in DEFINED}
        content = {
            "values": kept, "match_floor": scale.match_floor, "provenance": scale.provenance
        }  # fmt: skip
        write_text(PATH, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    rows = calibration.matrix(scale)
    found = faults(rows)
    result: dict[str, Any] = {
        "rows": [row.to_dict() for row in rows],
        "limit": UNRELATED_LIMIT,
        "faults": found,
        "reference": {"values": dict(scale.values), "match_floor": scale.match_floor},
    }
    table = to_markdown(rows)
    if options.out:
        from ..drawing.figures import save_figure
        from ..measure.calibration.picture import draw_matrix

        write_text(
            options.out / "calibration.json",
            json.dumps(result, indent=2, ensure_ascii=False) + "\n",
        )
        save_figure(draw_matrix(rows), options.out / "calibration.png")
    verdict = "Every corruption moves its own measure most." if not found else "\n".join(found)
    return {"text": f"{table}\n{verdict}", **result}
