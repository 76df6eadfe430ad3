"""Calibration: each known corruption moves its own measure most, and more with its strength."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from glitch_train.measure.calibration.calibration import UNRELATED_LIMIT, Calibration, Row, faults
from glitch_train.measure.calibration.corruptions import CORRUPTIONS, PHOTOS, photographs
from glitch_train.measure.calibration.picture import draw_matrix
from glitch_train.measure.measurement import PICTURE_EFFECTS
from glitch_train.measure.scale import reference

KEPT = Path(__file__).parents[4] / "docs" / "images" / "calibration.json"


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    """Return the photographs; what is measured on them is kept for the tests that follow."""
    return Calibration(photographs())


@pytest.fixture(scope="module")
def matrix(calibration: Calibration) -> list[Row]:
    """Return the matrix on the shipped scale."""
    return calibration.matrix(reference())


def test_there_is_enough_to_calibrate_on() -> None:
    """Catches a calibration on too few photographs, strengths or effects."""
    assert len(photographs()) == len(set(PHOTOS)) >= 6
    assert all(len(set(one.strengths)) >= 4 for one in CORRUPTIONS)
    effects = {one.effect for one in CORRUPTIONS}
    assert effects == set(PICTURE_EFFECTS) - {"overall"}


@pytest.mark.slow
def test_each_corruption_moves_its_own_measure_most(matrix: list[Row]) -> None:
    """Catches a measure that mistakes one effect for another, or does not grow with it."""
    assert faults(matrix) == []


@pytest.mark.slow
def test_the_kept_matrix_is_what_the_command_gives(matrix: list[Row]) -> None:
    """Catches docs that show numbers of another version of the measures."""
    kept = json.loads(KEPT.read_text("utf-8"))
    assert kept["limit"] == UNRELATED_LIMIT
    assert kept["faults"] == []
    for old, row in zip(kept["rows"], matrix, strict=True):
        assert (old["corruption"], old["strength"]) == (row.corruption.key, row.strength)
        # Pillow's and libjpeg's versions move single numbers a little.
        assert old["indices"] == pytest.approx(row.to_dict()["indices"], abs=0.03)


def test_the_page_shows_the_kept_matrix() -> None:
    """Catches a table in the docs that is not the picture's beside it."""
    page = (KEPT.parents[1] / "calibration.md").read_text("utf-8")
    rows = json.loads(KEPT.read_text("utf-8"))["rows"]
    for row in rows:
        what = f"| {row['title']} {row['strength_text']} |"
        (line,) = [line for line in page.splitlines() if line.startswith(what)]
        numbers = [cell.strip(" *") for cell in line.split("|")[2:-1]]
        found = [row["indices"][key] for key in PICTURE_EFFECTS]
        assert [one == "–" for one in numbers] == [one is None for one in found]
        shown = [float(one) for one in numbers if one != "–"]
        assert shown == pytest.approx([one for one in found if one is not None], abs=0.00501)


@pytest.mark.slow
def test_the_shipped_scale_is_what_the_references_give(calibration: Calibration) -> None:
    """Catches magic numbers: index 1 must come out of the stated corruptions."""
    derived, shipped = calibration.reference(), reference()
    assert dict(shipped.values) == pytest.approx(dict(derived.values), rel=0.02)
    assert shipped.match_floor == pytest.approx(derived.match_floor, abs=0.051)
    assert "calibrate --write" in shipped.provenance["command"]


def test_faults_are_found() -> None:
    """Catches a check that passes everything."""
    corruption = CORRUPTIONS[0]
    quiet = dict.fromkeys(PICTURE_EFFECTS, 0.0)
    good = Row(corruption, 0.1, quiet, quiet | {corruption.effect: 0.5, "overall": 3.0})
    assert faults([good]) == []
    weaker = dataclasses.replace(good, indices=good.indices | {corruption.effect: 0.4})
    assert "does not grow" in faults([good, weaker])[0]
    leaking = dataclasses.replace(good, indices=good.indices | {"texture": 0.3})
    assert "texture moves by 0.30" in faults([leaking])[0]
    louder = dataclasses.replace(good, indices=good.indices | {"texture": 0.6})
    assert "texture moves more" in faults([louder])[0]


def test_the_matrix_is_drawn() -> None:
    """Catches a picture without a number in each cell."""
    rows = [
        Row(one, one.strengths[0], {}, dict.fromkeys(PICTURE_EFFECTS, 0.5) | {"framing": None})
        for one in CORRUPTIONS
    ]
    texts = [text.get_text() for text in draw_matrix(rows).axes[0].texts]
    assert len(texts) == len(rows) * len(PICTURE_EFFECTS)
    assert texts.count("–") == len(rows)
