"""The glitch report: pairs, bad input, order, intervals, sentences, files, the radar."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pictures_on_disk import photograph
from PIL import Image
from skimage.metrics import structural_similarity

from glitch_train.cli.command import main
from glitch_train.drawing.figures import to_image
from glitch_train.errors import ReportError
from glitch_train.measure.distance import structure_distance
from glitch_train.measure.diversity import collapse, different_pictures, likeness
from glitch_train.measure.interval import MIN_PAIRS, interval, interval_of_mean
from glitch_train.measure.measurement import PICTURE_EFFECTS
from glitch_train.measure.pairs import as_pixels, pairs_of_arrays, pairs_of_folders
from glitch_train.measure.pixels import luma
from glitch_train.measure.radar import RADAR_SIZE, draw_radar
from glitch_train.measure.report import CSV_COLUMNS, SCHEMA, report_run, run_names, side_by_side


def scenes(count: int, height: int = 64, width: int = 96, seed: int = 0) -> np.ndarray:
    """Return smooth random pictures, (count, H, W, 3) float."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
        picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
        found.append(np.asarray(picture, dtype=np.float32) / 255)
    return np.stack(found)


def noisy(pictures: np.ndarray, sigma: float = 0.1, seed: int = 1) -> np.ndarray:
    """Return pictures with noise."""
    rng = np.random.default_rng(seed)
    return np.clip(pictures + rng.normal(0, sigma, pictures.shape), 0, 1).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width"), [(8, 8), (17, 40), (64, 96), (257, 129)])
@pytest.mark.parametrize("count", [1, 2, 7])
def test_identical_pairs_are_exactly_base(count: int, height: int, width: int) -> None:
    """Catches an index that is not 0 where nothing changed, at any size and count."""
    pictures = scenes(count, height, width)
    run = report_run(pairs_of_arrays("same", pictures, pictures.copy()))
    assert {one.effect for one in run.measurements} == set(PICTURE_EFFECTS)
    for one in run.measurements:
        told = not (count == 1 and one.effect == "mode_collapse")
        told &= not (min(height, width) < 24 and one.effect == "compression")
        assert one.value == (0.0 if told else None), one.effect
        assert one.index == (0.0 if told else None), one.effect
        assert one.index_interval == ((0.0, 0.0) if told and count >= MIN_PAIRS else None)


def test_flat_pictures_are_measured() -> None:
    """Catches a division by nothing: black, white and grey pictures."""
    flat = np.stack([np.full((40, 40, 3), level, np.float32) for level in (0, 1, 0.5)])
    run = report_run(pairs_of_arrays("flat", flat, flat[::-1].copy()))
    numbers = [one.index for one in run.measurements if one.index is not None]
    assert len(numbers) >= 5
    assert all(np.isfinite(numbers))


def test_a_burn_is_told_with_its_numbers() -> None:
    """Catches contrast and colour that grow said beside an index of 0, and a burn of clean ones."""
    base = 0.25 + 0.5 * scenes(6)
    burnt = np.clip(base.mean() + 3 * (base - base.mean()), 0, 1)
    run = report_run(pairs_of_arrays("burnt", base, burnt))
    assert run.of("contrast").index == 0
    assert run.of("contrast").sentence == "Contrast and colour did not collapse; they grew."
    assert run.of("burn").index > 1
    assert run.of("burn").details["clipped"] > run.of("burn").details["clipped_in_base"] == 0
    assert "of all values are clipped, in base 0 %." in run.of("burn").sentence
    back = report_run(pairs_of_arrays("dull", burnt, base))
    assert (back.of("burn").index, back.of("contrast").index > 1) == (0, True)
    assert back.of("burn").sentence == "Contrast and colour are no stronger than in base."


@pytest.mark.slow
def test_order_changes_nothing() -> None:
    """Catches a measure or an interval that depends on which pair comes first."""
    base = scenes(9)
    glitched = noisy(base) * np.linspace(0.4, 1.0, 9, dtype=np.float32)[:, None, None, None]
    order = np.random.default_rng(3).permutation(9)
    first = report_run(pairs_of_arrays("run", base, glitched))
    second = report_run(pairs_of_arrays("run", base[order], glitched[order]))
    assert first.to_dict() == second.to_dict()


def test_uint8_and_tensors_are_the_same_pictures() -> None:
    """Catches a scale that differs between files and the host's IMAGE."""
    whole = np.round(scenes(3) * 255).astype(np.uint8)
    other = np.round(noisy(scenes(3)) * 255).astype(np.uint8)
    tensors = [torch.from_numpy(one.astype(np.float32) / 255) for one in (whole, other)]
    first = report_run(pairs_of_arrays("run", list(whole), list(other)))
    assert first == report_run(pairs_of_arrays("run", *tensors))


@pytest.mark.parametrize(
    ("base", "glitched", "says"),
    [
        (scenes(2), scenes(3), "2 base pictures and 3 of run"),
        (scenes(1), scenes(1, 64, 64), "base is 96×64 and run is 64×64"),
        (scenes(1), scenes(1) * np.nan, "picture 1 of run has NaN"),
        (np.full((1, 64, 96, 3), np.inf), scenes(1), "picture 1 of base has NaN or infinite"),
        (np.zeros((0, 8, 8, 3)), np.zeros((0, 8, 8, 3)), "1 to 500 pairs"),
        (np.zeros((1, 4, 40, 3)), np.zeros((1, 4, 40, 3)), "side under 8"),
        (np.zeros((1, 9, 9, 2)), np.zeros((1, 9, 9, 2)), "shape"),
        (np.zeros((1, 9, 9, 3), int), np.zeros((1, 9, 9, 3), int), "int64"),
    ],
)
def test_bad_pictures_are_refused_in_one_sentence(base, glitched, says: str) -> None:
    """Catches a traceback, or a number, where pictures cannot be compared."""
    with pytest.raises(ReportError, match=says) as caught:
        report_run(pairs_of_arrays("run", base, glitched))
    assert "\n" not in str(caught.value)


def test_too_few_pairs_are_said() -> None:
    """Catches a diversity of one picture, or an interval out of three."""
    one = report_run(pairs_of_arrays("one", scenes(1), noisy(scenes(1))))
    assert one.of("mode_collapse").index is None
    assert "at least 2 pictures" in one.of("mode_collapse").sentence
    three = report_run(pairs_of_arrays("three", scenes(3), noisy(scenes(3))))
    assert three.of("texture").index > 0.3
    assert three.of("texture").interval is None
    assert "at least 5" in three.of("texture").note


def test_structure_is_scikit_images() -> None:
    """Catches another SSIM than the reference's, also where large pictures are averaged down."""
    first, second = (as_pixels(one[0], "it").mean(axis=2) for one in (scenes(1), noisy(scenes(1))))
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    expected = 1 - structural_similarity(first, second, data_range=1.0, **settings)
    assert structure_distance(first, second) == pytest.approx(expected, abs=1e-9)
    large = [np.kron(one, np.ones((8, 8), np.float32)) for one in (first, second)]
    assert structure_distance(*large) == pytest.approx(
        1 - structural_similarity(
            *(np.kron(one, np.ones((4, 4), np.float32)) for one in (first, second)),
            data_range=1.0, **settings,
        ), abs=1e-6,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["astronaut.png", "chelsea.png", "coins.png"])
@pytest.mark.parametrize("size", [(240, 200), (101, 64), (40, 11), (10, 30), (9, 9), (8, 12)])
def test_structure_of_photographs_is_scikit_images(name: str, size: tuple[int, int]) -> None:
    """Catches another window, edge or constant than the reference's, also in tiny pictures."""
    photo = np.asarray(photograph(name, size), np.float32) / 255
    window = {8: 7, 9: 9, 10: 9}.get(min(size))
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    settings = {"win_size": window} if window else gaussian
    first = luma(photo)
    for glitched in (noisy(photo), photo**2, 0.3 * photo, 1 - photo, photo[:, ::-1]):
        second = luma(glitched)
        same = structural_similarity(first, second, data_range=1.0, **settings)
        assert structure_distance(first, second) == pytest.approx(1 - same, rel=1e-6)


def test_diversity_is_the_vendi_score() -> None:
    """Catches a score that does not count: k different pictures, each repeated, are k."""
    vectors = np.eye(12)[[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3]]
    alike = likeness(vectors)
    # The score with a picture's likeness to itself left out, against the definition with it.
    pairs_alike = (alike.sum() - 12) / (12 * 11)
    assert different_pictures(alike)[0] == pytest.approx(12 / (1 + 11 * pairs_alike))
    eigenvalues = np.linalg.eigvalsh(vectors @ vectors.T / 12)
    assert different_pictures(alike)[0] == pytest.approx(1 / np.square(eigenvalues).sum())
    assert collapse(likeness(np.eye(12)), np.ones((12, 12)))[0] == 1.0
    assert np.isnan(collapse(np.ones((4, 4)), np.eye(4))[0])


@pytest.mark.slow
@pytest.mark.parametrize("n", [5, 8, 20, 100])
def test_intervals_of_a_mean_cover(n: int) -> None:
    """Catches intervals that hold the truth much more or less often than 95 % of the time."""
    rng = np.random.default_rng(n)
    trials = 250 if n < 20 else 80
    hits = 0
    for trial in range(trials):
        low, high = interval_of_mean(rng.normal(1.0, 0.3, n), seed=trial)
        hits += low <= 1.0 <= high
    # Five values cannot say more than their own range, which holds the mean 90 % of the time.
    assert (0.86 if n == 5 else 0.90) <= hits / trials <= 1.0


@pytest.mark.slow
def test_intervals_of_diversity_cover() -> None:
    """Catches an interval of the collapse that resampled duplicates pull away from the truth."""
    rng = np.random.default_rng(0)

    def batch(n: int) -> tuple[np.ndarray, np.ndarray]:
        base, shared = rng.normal(size=(n, 24)), np.ones(24)
        glitched = base + shared * rng.gamma(2.0, 0.6, (n, 1))
        return tuple(
            likeness(one / np.linalg.norm(one, axis=1, keepdims=True)) for one in (base, glitched)
        )

    # The measure depends on n, so the truth is its own mean at this n.
    n = 16
    truth = np.mean([collapse(*batch(n))[0] for _ in range(1500)])
    hits = 0
    for trial in range(200):
        base, glitched = batch(n)
        ends = interval(n, lambda counts, b=base, g=glitched: collapse(b, g, counts), trial)
        hits += ends[0] <= truth <= ends[1]
    assert 0.88 <= hits / 200 <= 1.0


def test_no_interval_for_few_pairs() -> None:
    """Catches an interval that pretends."""
    assert interval_of_mean([1.0, 2.0, 3.0, 4.0]) is None
    assert interval_of_mean([0.3] * 6) == (0.3, 0.3)


@pytest.mark.slow
def test_side_by_side_in_every_form() -> None:
    """Catches a run or an effect that is missing from a table, or a schema that changed."""
    base = scenes(6)
    runs = [report_run(pairs_of_arrays("a|b", base, noisy(base, s))) for s in (0.05, 0.2)]
    report = side_by_side(runs)
    assert [run.name for run in report.runs] == ["a|b (1)", "a|b (2)"]
    content = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert content.keys() == {"schema", "runs", "references", "reference_values"}
    assert content["schema"] == SCHEMA == 1
    assert content["runs"][0].keys() == {"name", "pairs", "effects", "notes"}
    texture = [run["effects"]["texture"] for run in content["runs"]]
    assert texture[0].keys() == {
        "index", "index_low", "index_high", "value", "value_low", "value_high", "count",
        "sentence", "note", "details",
    }  # fmt: skip
    assert texture[0]["index_low"] <= texture[0]["index"] <= texture[0]["index_high"]
    assert texture[0]["index"] < texture[1]["index"]
    rows = list(csv.DictReader(io.StringIO(report.to_csv())))
    assert tuple(rows[0]) == CSV_COLUMNS
    assert len(rows) == 2 * len(PICTURE_EFFECTS)
    lines = report.to_markdown().splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert "a\\|b (1)" in table[0]
    assert len(table) == 2 + len(PICTURE_EFFECTS)
    assert "times as strong as in base" in report.to_markdown()


@pytest.mark.parametrize("style", ["dark", "light"])
def test_the_radar_is_drawn(style: str) -> None:
    """Catches a radar without a run's line, or one that fails where an effect cannot be told."""
    base = scenes(1)
    one = report_run(pairs_of_arrays("one", base, noisy(base, 0.5)))
    figure = draw_radar(side_by_side([one, one]), style=style)
    picture = to_image(figure)
    assert picture.size == (RADAR_SIZE.width_px, RADAR_SIZE.height_px)
    legend = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert legend == ["one (1)", "one (2)"]


@pytest.mark.slow
def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches pairs that are not found by name, and files that are not written."""
    base, crushed = scenes(6), scenes(6)
    for folder, pictures in (("base", base), ("run", crushed)):
        (tmp_path / folder).mkdir()
        for number, picture in enumerate(pictures):
            image = Image.fromarray(np.round(picture * 255).astype(np.uint8))
            if folder == "base":
                image.save(tmp_path / folder / f"p{number}.png")
            else:
                image.save(tmp_path / folder / f"p{number}.jpg", quality=5)
    stem = tmp_path / "out" / "report"
    folders = [str(tmp_path / "base"), str(tmp_path / "run"), str(tmp_path / "base")]
    assert main(["report", *folders, "--json", "-o", str(stem)]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in printed["runs"]] == ["run", "base"]
    indices = {key: one["index"] for key, one in printed["runs"][0]["effects"].items()}
    assert indices["compression"] == max(indices.values()) > 0.5
    assert {one["index"] for one in printed["runs"][1]["effects"].values()} == {0.0}
    for kind in ("md", "json", "csv", "png"):
        assert stem.with_suffix(f".{kind}").stat().st_size > 200
    saved = json.loads(stem.with_suffix(".json").read_text("utf-8"))
    assert saved == {key: value for key, value in printed.items() if key != "files"}
    (tmp_path / "file").write_text("")
    assert main(["report", *folders[:2], "-o", str(tmp_path / "file" / "report")]) == 1
    assert "file/report.md: File exists; choose another name" in capsys.readouterr().err
    (tmp_path / "run" / "p3.jpg").unlink()
    assert main(["report", *folders[:2]]) == 1
    assert "'p3' is only in" in capsys.readouterr().err


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    """Catches a pair made of the wrong file."""
    for name in ("a.png", "a.jpg"):
        Image.new("RGB", (32, 32)).save(tmp_path / name)
    with pytest.raises(ReportError, match="has both a.jpg and a.png"):
        pairs_of_folders(tmp_path, tmp_path)


def test_runs_without_a_name_are_numbered() -> None:
    """Catches a name that moves to another run, and one that is dropped without a word."""
    assert run_names(" crushed \n\nwet\n", 3) == ["crushed", "wet", "run 3"]
    assert run_names("", 2) == ["run 1", "run 2"]
    with pytest.raises(ReportError, match="names has 3 lines for 2 runs"):
        run_names("a\nb\nc", 2)


def test_prompts_from_a_file_reach_the_report(tmp_path: Path, capsys) -> None:
    """Catches a verb that drops the prompts, or takes those of other pictures."""
    base = scenes(2)[[0, 0, 1, 1]]
    for folder, pictures in (("base", noisy(base, 0.02, 2)), ("glitched", noisy(base))):
        (tmp_path / folder).mkdir()
        for number, picture in enumerate(pictures):
            image = Image.fromarray((picture * 255).astype(np.uint8))
            image.save(tmp_path / folder / f"{number}.png")
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na cat\na dog\na dog\n")
    command = ["report", str(tmp_path / "base"), str(tmp_path / "glitched")]
    command += ["--prompts", str(prompts)]
    assert main([*command, "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert run["effects"]["caption_hold"]["index"] is not None
    prompts.write_text("a cat\n")
    assert main(command) == 1
    assert "prompts.txt has 1 lines for 4 pairs" in capsys.readouterr().err
    prompts.unlink()
    assert main(command) == 1
    assert "prompts.txt" in capsys.readouterr().err
