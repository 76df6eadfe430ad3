"""A matrix as plain values and as a table, every effect with what came of it."""

from __future__ import annotations

import csv
import io
from typing import Any

from ..wording import plain
from .findings import compare
from .matrix import Matrix, MatrixRow

SCHEMA = 1
_ASPECTS = ("convergence", "stability", "fit")


def matrix_dict(matrix: Matrix) -> dict[str, Any]:
    """Return plain values for JSON."""
    return {
        "schema": SCHEMA,
        "asked": dict(matrix.asked),
        "experiments": {row.slug: _row_dict(matrix, row) for row in matrix.rows},
        "doses": [
            {
                "experiment": dose.slug,
                "setting": dose.setting,
                "value": dose.value,
                **_row_dict(matrix, row),
            }
            for dose, row in matrix.doses
        ],
    }


def matrix_csv(matrix: Matrix) -> str:
    """Return one line per experiment and effect; an experiment without pictures has one."""
    text = io.StringIO()
    columns = ["experiment", "dose", "seeds", *_ASPECTS, "loss_start"]
    columns += ["loss_final", "effect", "mean", "low", "high", "expected", "moved"]
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    runs = [("", row) for row in matrix.rows]
    runs += [(dose.assignment, row) for dose, row in matrix.doses]
    for dose, row in runs:
        about = {
            "experiment": row.slug,
            "dose": dose,
            "seeds": " ".join(str(run.seed) for run in row.runs),
        }
        about |= {aspect: " ".join(row.states(aspect)) for aspect in _ASPECTS}
        about |= plain({"loss_start": row.loss("start"), "loss_final": row.loss("final")})
        for effect, found in _row_dict(matrix, row)["effects"].items() or [("", {})]:
            told = {key: found.get(key) for key in ("mean", "low", "high", "expected", "moved")}
            table.writerow({**about, "effect": effect, **told})
    return text.getvalue()


def _row_dict(matrix: Matrix, row: MatrixRow) -> dict[str, Any]:
    effects = {}
    for effect in matrix.effects:
        spread = row.spread(effect)
        if spread is not None:
            found = compare(matrix, row, effect)
            about = {"expected": effect in row.experiment.expected, "moved": found.state}
            effects[effect] = {**spread.to_dict(), **about}
    return {
        "preset": row.experiment.title,
        "against": row.experiment.against,
        "seeds": [run.seed for run in row.runs],
        "verdict": {aspect: row.states(aspect) for aspect in _ASPECTS},
        **plain({"loss_start": row.loss("start"), "loss_final": row.loss("final")}),
        "effects": effects,
    }
