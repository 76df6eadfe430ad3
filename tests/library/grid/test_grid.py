"""The grid before it is sampled: what is written for an axis, which cell shows what, drawing."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glitch_train import text_lists as grid_axes
from glitch_train.drawing.figures import save_png
from glitch_train.drawing.picture_table import GridPicture, Label
from glitch_train.errors import GlitchTrainError
from glitch_train.grid.plan import AXES, GridRecipe, Shot, Variant, plan_grid
from glitch_train.grid.sheet import grid_picture, grid_settings, paste_shot

LONG = "A fashion photograph of a woman in a red coat, her face turned away. " * 12


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("20", (20,)),
        ("5-9", (5, 6, 7, 8, 9)),
        ("5 - 7", (5, 6, 7)),
        ("5:21:4", (5, 9, 13, 17, 21)),
        ("5:20:4", (5, 9, 13, 17)),
        ("9-7", (9, 8, 7)),
        ("1, 4;8 9\n4", (1, 4, 8, 9)),
        ("3, 5..6", (3, 5, 6)),
    ],
)
def test_whole_numbers(text: str, numbers: tuple[int, ...]) -> None:
    """Catches a range that misses its end, or values that appear twice."""
    assert grid_axes.whole_numbers(text, "steps", 1, 100) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1, 4, 7.5", (1.0, 4.0, 7.5)),
        ("-1:1:0.5", (-1.0, -0.5, 0.0, 0.5, 1.0)),
        ("0:0.3:0.1", (0.0, 0.1, 0.2, 0.3)),
        ("-1--0.5:.25", (-1.0, -0.75, -0.5)),
        ("-2", (-2.0,)),
    ],
)
def test_real_numbers(text: str, numbers: tuple[float, ...]) -> None:
    """Catches 0.30000000000000004, and a minus that is taken for a range."""
    assert grid_axes.real_numbers(text, "strength", -100, 100) == numbers


def test_sizes_and_prompts() -> None:
    """Catches a paragraph torn into prompts, and a size in the wrong order."""
    assert grid_axes.sizes("1088x896, 512 × 640;64") == ((1088, 896), (512, 640), (64, 64))
    assert grid_axes.prompts("a\n\n  b \na") == ("a", "b")
    assert grid_axes.prompts("one\n\ntwo\n---\nthree") == ("one\n\ntwo", "three")
    assert grid_axes.prompts("one\n\ntwo\n---") == ("one\n\ntwo",)
    assert grid_axes.prompts(" \n") == ("",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": ""}, "steps is empty; write whole numbers such as 5-21"),
        ({"steps": "5-"}, "steps: cannot read '5-'"),
        ({"steps": "1.5"}, "steps must be whole numbers, got 1.5"),
        ({"steps": "0-4"}, "steps must be 1 to 10000, got 0"),
        ({"steps": "1:9:0"}, "a step of 0"),
        ({"seeds": "0-99999999"}, "more than 1000 values"),
        ({"seeds": "-1"}, "seeds must be 0"),
        ({"cfg": "x"}, "cfg: cannot read 'x'"),
        ({"cfg": "nan"}, "cfg: cannot read 'nan'"),
        ({"strength": "101"}, "strength must be -100 to 100"),
        ({"sizes": "1088"}, None),
        ({"sizes": "1089x896"}, "a side of 1089"),
        ({"sizes": "8x8"}, "a side of 8"),
        ({"sizes": "big"}, "'big' is not a size"),
        ({"sizes": ","}, "sizes is empty"),
        ({"columns": "sead"}, r"no axis 'sead'; did you mean 'seed'\?$"),
        ({"columns": "xyz"}, r"no axis 'xyz'; the axes are prompt, .*, seed\.$"),
        ({"style": "pink"}, "style must be one of dark, light"),
        ({"max_cells": 3, "seeds": "0-3"}, "would have 4 cells .4 seed; .* max_cells = 3"),
        ({"base": False}, "nothing to sample"),
    ],
)
def test_bad_input_is_one_sentence(settings: dict[str, Any], said: str | None) -> None:
    """Catches a slip that is found after an hour of sampling, or told as a traceback."""
    if said is None:
        plan_grid(GridRecipe(**settings))
        return
    with pytest.raises(GlitchTrainError, match=said) as caught:
        plan_grid(GridRecipe(**settings))
    assert "\n" not in str(caught.value)


FULL = GridRecipe(
    prompts="a\nb", seeds="0-1", steps="4, 8", cfg="1, 7", strength="0.5, 1", sizes="64, 96x64"
)


@pytest.mark.parametrize("columns", ["", "seed", "cfg, seed", "lora", "strength", ", ".join(AXES)])
def test_every_combination_is_there(columns: str) -> None:
    """Catches an axis that is lost or doubled, whatever runs across."""
    recipe = GridRecipe(**{**FULL.__dict__, "columns": columns})
    plan = plan_grid(recipe, [Variant("A"), Variant("B"), Variant("m", has_strength=False)])
    values = recipe.axis_values()
    models = [(None, None), ("m", None), *itertools.product(("A", "B"), (0.5, 1.0))]
    wanted = {
        Shot(lora, strength, *rest)
        for lora, strength in models
        for rest in itertools.product(
            *(values[a] for a in ("prompt", "size", "steps", "cfg")), (0, 1)
        )
    }
    shots = plan.shots()
    assert set(shots) == wanted
    assert len(shots) == len(wanted)
    assert {plan.shot(*cell) for cell in plan.cells()} == wanted
    # Sampled model by model: a LoRA is patched once per strength.
    changes = [key for key, _ in itertools.groupby(shots, key=lambda s: (s.lora, s.strength))]
    assert len(changes) == len(models)
    pairs = plan.pairs()
    assert len(pairs) == len(wanted) - len(wanted) // len(models)
    for base, glitched in pairs:
        assert base.lora is None
        assert base.to_dict() | {"lora": 0, "strength": 0} == (
            glitched.to_dict() | {"lora": 0, "strength": 0}
        )


def test_seeds_stand_down_a_column() -> None:
    """Catches a column that mixes seeds, so that rows cannot be compared."""
    plan = plan_grid(FULL, [Variant("A")])
    for column in range(len(plan.columns)):
        assert len({plan.shot(row, column).seed for row in range(len(plan.rows))}) == 1
    assert any("seed" in key for key in plan.columns)


def test_strength_nought_is_the_base() -> None:
    """Catches the base being sampled twice."""
    plan = plan_grid(GridRecipe(strength="0, 1", columns="seed"), [Variant("A")])
    assert len(plan.cells()) == 3
    assert len(plan.shots()) == 2


def coloured(shot: Shot) -> Image.Image:
    """Return a picture of noise that belongs to a shot."""
    rng = np.random.default_rng(abs(hash(shot)))
    return Image.fromarray(rng.integers(0, 255, (shot.size[1], shot.size[0], 3), dtype=np.uint8))


@pytest.mark.parametrize("style", ["dark", "light"])
def test_cells_lie_pixel_by_pixel_in_their_boxes(style: str) -> None:
    """Catches cells that overlap, are resampled at full size, or are not where the JSON says."""
    recipe = GridRecipe(prompts=LONG + "\nb", seeds="0-2", sizes="64, 128x64", style=style)
    plan = plan_grid(recipe, [Variant("a_very_long_name_of_a_lora_" * 3)])
    picture = grid_picture(plan)
    for shot in plan.shots():
        paste_shot(picture, plan, shot, coloured(shot))
    numbers = {shot: number for number, shot in enumerate(plan.shots())}
    settings = grid_settings(plan, picture, numbers)
    pixels = np.asarray(picture.image)
    for cell in settings["cells"]:
        left, top, width, height = cell["box"]
        wanted = np.asarray(coloured(plan.shot(cell["row"], cell["column"])))
        assert (pixels[top : top + height, left : left + width] == wanted).all()


@pytest.mark.parametrize("side", [64, 256, 1024])
@pytest.mark.parametrize("columns", ["", "prompt, lora"])
def test_no_letter_is_outside_or_under_a_cell(side: int, columns: str) -> None:
    """Catches labels that are clipped at the picture's edge or run into cells."""
    recipe = GridRecipe(
        prompts=LONG + "\n" + "x" * 300, seeds=f"0, {2**64 - 1}", sizes=str(side),
        columns=columns, negative=LONG,
    )  # fmt: skip
    plan = plan_grid(recipe, [Variant("Glitch_" * 20)])
    picture = grid_picture(plan)
    empty = np.asarray(picture.image).copy()
    paper = empty[0, 0]
    for cell in plan.cells():
        left, top, width, height = picture.box(cell)
        frame = empty[top : top + height, left : left + width]
        inner = frame[1:-1, 1:-1].reshape(-1, 3)
        assert (inner == inner[0]).all()
        empty[top : top + height, left : left + width] = paper
    edges = np.concatenate(
        [empty[:4].reshape(-1, 3), empty[-4:].reshape(-1, 3),
         empty[:, :4].reshape(-1, 3), empty[:, -4:].reshape(-1, 3)]
    )  # fmt: skip
    assert (edges == paper).all()
    assert (empty != paper).any()


def test_a_large_grid_is_shrunk_to_its_limit() -> None:
    """Catches a picture that no program opens."""
    recipe = GridRecipe(seeds="0-9", steps="1-20", sizes="512", max_megapixels=4)
    picture = grid_picture(plan_grid(recipe))
    width, height = picture.size
    assert 2e6 < width * height <= 4e6
    assert 0 < picture.scale < 1
    wide = GridPicture([[]], [[Label("x")]] * 100, {(0, c): (4096, 8) for c in range(100)})
    assert max(wide.size) <= 32_000


def test_the_file_holds_its_texts(tmp_path: Path) -> None:
    """Catches a workflow that is lost on the way into the file."""
    path = tmp_path / "sub" / "grid.png"
    save_png(Image.new("RGB", (8, 8)), path, {"prompt": '{"1": "ü→"}', "workflow": "{}"})
    with Image.open(path) as opened:
        assert opened.text == {"prompt": '{"1": "ü→"}', "workflow": "{}"}
