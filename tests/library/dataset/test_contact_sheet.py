"""The contact sheet shows what is trained, pixel by pixel, with its captions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import photo_folder

from glitch_train.dataset.contact_sheet import SheetStyle, contact_sheet
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.drawing.lettering import lettering, wrapped


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine small photographs."""
    return photo_folder(tmp_path / "pictures", 9)


def test_variants_stand_on_the_sheet_unchanged(folder: Path) -> None:
    """Catches smoothing: a variant of 128×64 must be found on the sheet, pixel for pixel."""
    recipe = DatasetRecipe(
        folder=str(folder), width=128, height=64, framing="random_crop", variants_per_picture=2
    )
    dataset = load_dataset(recipe)
    sheet = np.asarray(contact_sheet(dataset, SheetStyle(3, 2, 128, 2)))
    flat = sheet.tobytes()
    for index in (0, 3, 6):  # spread over the nine
        for variant in (0, 1):
            pixels = np.asarray(dataset.prepare(dataset.samples[index], variant).image)
            assert all(row.tobytes() in flat for row in pixels)


def test_small_pictures_are_enlarged_by_whole_pixels(folder: Path) -> None:
    """Catches interpolation, which hides what a picture of 64 pixels looks like."""
    dataset = load_dataset(DatasetRecipe(folder=str(folder), width=64, height=64))
    sheet = np.asarray(contact_sheet(dataset, SheetStyle(1, 1, 200, 1)))
    pixels = np.asarray(dataset.prepare(dataset.samples[0]).image).repeat(3, axis=1)
    assert all(row.tobytes() in sheet.tobytes() for row in pixels)


def test_more_lines_make_room_for_captions(folder: Path) -> None:
    """Catches captions cut off by the sheet's edge."""
    dataset = load_dataset(DatasetRecipe(folder=str(folder), width=64, height=64))
    short, tall = (contact_sheet(dataset, SheetStyle(2, 1, 96, lines)) for lines in (0, 8))
    assert tall.height > short.height
    assert tall.width == short.width


def test_captions_are_wrapped_to_the_cell() -> None:
    """Catches text that runs into the next cell, or a cut that does not show."""
    font = lettering(16)
    lines = wrapped("word " * 100 + "x" * 300, font, 200, 3)
    assert len(lines) == 3
    assert all(font.getlength(line) <= 200 for line in lines)
    assert lines[-1].endswith("…")
    assert wrapped("short", font, 200, 3) == ["short"]
    assert wrapped("word", font, 200, 0) == []
