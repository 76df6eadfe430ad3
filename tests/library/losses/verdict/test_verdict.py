"""Advice, the verdict's texts, and the command line around them."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glitch_train.cli.command import main
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.losses.about import About
from glitch_train.losses.record import LossRecord
from glitch_train.losses.verdict.diagnose import Verdict, diagnose
from glitch_train.losses.verdict.text import to_markdown, verdict_rows
from glitch_train.recipe.experiments import TECHNIQUES
from glitch_train.recipe.recipe import Recipe
from glitch_train.recipe.train import TrainRecipe

FIT = {"underfit", "fits", "overfit", "cannot_tell"}


def losses(kind: str, length: int = 800) -> np.ndarray:
    """Return a curve of a kind."""
    rng = np.random.default_rng(0)
    x = np.linspace(0, 1, length)
    level = {
        "settled": 0.08 + 0.04 * np.exp(-x / 0.1),
        "late": 0.08 + 0.04 * np.maximum(0, 1 - x / 0.75),
        "falling": 0.12 - 0.04 * x,
        "flat": np.full(length, 0.1),
        "diverging": 0.08 + 0.4 * np.maximum(0, x - 0.5),
    }[kind]
    return level * (1 + 0.08 * rng.standard_normal(length))


def judge(kind: str, recipe: Recipe | None = None, **columns: np.ndarray) -> Verdict:
    """Return the verdict of a kind of curve."""
    loss = losses(kind)
    lists = {name: list(values) for name, values in columns.items()}
    about = About(recipe=recipe.to_dict() if recipe else {})
    steps = list(range(1, len(loss) + 1))
    return diagnose(LossRecord("a run", {"step": steps, "loss": list(loss), **lists}, about))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("settled", "Fewer steps would do"),
        ("late", "network_dim (128 → 192)"),
        ("falling", "extend by 500–1000 steps"),
        ("flat", "Raise learning_rate from 1e-6"),
        ("diverging", "Lower learning_rate from 1e-6"),
    ],
)
def test_advice_to_learn(kind: str, words: str) -> None:
    """Catches advice that does not follow from the curve, or not from the run's own settings."""
    recipe = Recipe(train=TrainRecipe(network_dim=128, learning_rate=1e-6))
    if kind == "flat":
        words = "Raise learning_rate: at 1e-6"
    learn = judge(kind, recipe).advice.learn
    assert any(words in one for one in learn), learn


def test_overfitting_advice_names_the_step() -> None:
    """Catches advice without the snapshot to use."""
    x = np.linspace(0, 1, 800)
    probe = np.where(np.arange(800) % 40 == 0, 0.1 - 0.04 * np.sin(np.pi * x), np.nan)
    verdict = judge("settled", probe_loss=probe)
    assert verdict.fit.step == pytest.approx(400, abs=50)
    assert any(f"Stop at step {verdict.fit.step:.0f}" in one for one in verdict.advice.learn)


def test_an_overfit_run_is_not_sent_further() -> None:
    """Catches "train longer" beside "stop": the loss still falls because it memorises."""
    probe = np.where(np.arange(800) % 40 == 0, 0.1 + 0.02 * np.linspace(0, 1, 800), np.nan)
    probe[0] = 0.12
    verdict = judge("falling", probe_loss=probe)
    assert (verdict.convergence.state, verdict.fit.state) == ("still_falling", "overfit")
    assert not any("Train longer" in one for one in verdict.advice.learn)


def test_techniques_in_use_are_not_advised() -> None:
    """Catches advice to do what the run already does, for every technique the recipe knows."""
    plain = judge("settled", Recipe()).advice
    assert plain.evidence["techniques"]["raise learning_rate to 2e-4 or higher"] is False
    glitched = Recipe(
        dataset=DatasetRecipe(
            framing_mix="50 uncropped, 25 stretch, 25 random_crop",
            caption_dropout=0.3,
            corruption="jpeg_crush",
        ),
        train=TrainRecipe(learning_rate=2e-4),
    )
    left = " ".join(judge("settled", glitched).advice.glitch)
    for used in ("uncropped", "stretch", "random_crop", "caption_dropout", "jpeg", "2e-4"):
        assert used not in left, used
        assert any(used in one for one in plain.glitch), used
    assert "5000 steps" in left


def test_what_the_run_did_counts_more_than_its_recipe() -> None:
    """Catches overtraining judged by the recipe of a run that was stopped, and the reverse."""
    recipe = Recipe(train=TrainRecipe(steps=6000))
    assert any("5000 steps" in one for one in judge("settled", recipe).advice.glitch)


def test_every_technique_of_the_log_is_there() -> None:
    """Catches a row of the log's table that is missing."""
    words = " ".join(one.name for one in TECHNIQUES)
    for row in (
        "train_text_encoder",
        "uncropped",
        "stretch",
        "random_crop",
        "2e-4",
        "caption_dropout",
        "5000",
        "mismatched",
        "JPEG",
    ):
        assert row in words


def test_the_two_kinds_of_advice_are_never_mixed() -> None:
    """Catches a glitch technique in the list for learning."""
    advice = judge("settled").advice
    effects = [one.effect for one in TECHNIQUES]
    assert not any(effect in one for one in advice.learn for effect in effects)
    assert all(any(effect in one for effect in effects) for one in advice.glitch)


def test_unknown_settings_are_said_to_be_unknown() -> None:
    """Catches a technique called unused where the record cannot know."""
    glitch = judge("settled").advice.glitch
    assert sum("Not known" in one for one in glitch) == 8
    assert "Not known" not in next(one for one in glitch if "5000" in one)


def test_markdown_has_the_logs_table() -> None:
    """Catches a row lost, and a name that breaks the table."""
    verdict = diagnose(LossRecord("a|b\nc", {"step": [1], "loss": [0.1]}))
    text = to_markdown(verdict)
    for row in ("Convergence", "Underfitting", "Overfitting", "Training stability", "Loss"):
        assert f"| {row} |" in text
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines} == {5}
    assert "### a¦b c" in text
    assert "**To learn better**" in text
    assert "**To glitch more**" in text


def write_csv(path: Path, kind: str, **columns: np.ndarray) -> Path:
    """Write a CSV with the columns step, loss and more."""
    loss = losses(kind)
    table = {"step": np.arange(1, len(loss) + 1), "loss": loss, **columns}
    rows = zip(*table.values(), strict=True)
    text = ",".join(table) + "\n" + "".join(",".join(map(str, row)) + "\n" for row in rows)
    path.write_text(text, "utf-8")
    return path


def test_verdict_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a key or a state that a script relies on, and text beside the JSON."""
    path = write_csv(tmp_path / "a.csv", "settled", probe_loss=np.full(800, 0.1))
    assert main(["verdict", str(path), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert values["convergence"]["state"] == "converged"
    assert isinstance(values["convergence"]["step"], float)
    assert values["fit"]["state"] in FIT
    assert values["stability"]["state"] == "stable"
    assert values["drop"] == pytest.approx(values["start"] - values["final"], rel=1e-3)
    assert all(
        isinstance(one, str) for kind in ("learn", "glitch") for one in values["advice"][kind]
    )
    for part in ("convergence", "fit", "stability", "levels", "advice"):
        assert 0 <= values[part]["confidence"] <= 1, part
        assert values[part]["evidence"], part
    for part in ("convergence", "fit", "stability", "levels"):
        assert values[part]["sentence"].endswith((".", ")")), part
    assert "slope" in values["convergence"]["evidence"]["method"]


def test_several_verdicts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a second record that is not judged."""
    paths = [str(write_csv(tmp_path / f"{kind}.csv", kind)) for kind in ("settled", "flat")]
    assert main(["verdict", *paths, "--json"]) == 0
    runs = json.loads(capsys.readouterr().out)["runs"]
    assert [(run["name"], run["convergence"]["state"]) for run in runs] == [
        ("settled", "converged"),
        ("flat", "flat_from_start"),
    ]
    assert main(["verdict", *paths]) == 0
    assert capsys.readouterr().out.count("### ") == 2


def test_verdict_of_no_record(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback, or an error with exit code 0."""
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    assert main(["verdict", str(tmp_path / "a.csv"), "--json"]) == 1
    captured = capsys.readouterr()
    assert "columns step and loss" in captured.err
    assert json.loads(captured.out) == {"error": captured.err.strip()}


def test_the_verdict_needs_neither_torch_nor_matplotlib(tmp_path: Path) -> None:
    """Catches heavy imports: judging a record must work without the training libraries."""
    path = write_csv(tmp_path / "a.csv", "settled")
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['torch', 'matplotlib', 'diffusers']));"
        f"from glitch_train.cli import main; sys.exit(main(['verdict', {str(path)!r}]))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_graph_verb(tmp_path: Path, suffix: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a format that cannot be written, and options that do not arrive."""
    path = write_csv(tmp_path / "a.csv", "settled")
    out = tmp_path / f"graph{suffix}"
    more = ["--style", "light", "--log", "--verdict", "--width", "800", "--height", "500"]
    assert main(["graph", str(path), str(path), "-o", str(out), *more, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["runs"] == 2
    assert out.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml", b"%PDF-")


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["-o", "a.txt"], "use .png, .svg or .pdf"),
        (["-o", "a.png", "--width", "3"], "100 to 20000"),
        (["-o", "a.csv/a.png"], "a.csv/a.png: File exists; choose another name"),
    ],
)
def test_graph_verb_refuses(tmp_path: Path, more: list[str], words: str, capsys) -> None:
    """Catches a traceback out of matplotlib."""
    path = write_csv(tmp_path / "a.csv", "settled")
    more = [str(tmp_path / one) if one.startswith("a.") else one for one in more]
    assert main(["graph", str(path), *more]) == 1
    assert words in capsys.readouterr().err


def test_an_underfit_run_without_held_out_pictures_leaves_overfitting_open() -> None:
    """Catches "no sign of overfitting" where nobody looked: there were no held-out pictures."""
    steps = list(range(1, 61))
    probe = [math.nan] * 60
    for index, value in zip(range(0, 60, 10), (0.9, 0.8, 0.7, 0.6, 0.5, 0.3), strict=True):
        probe[index] = value
    columns = {"step": steps, "loss": [0.9 - 0.01 * s for s in steps], "train_probe_loss": probe}
    rows = {row[0]: row[1] for row in verdict_rows(diagnose(LossRecord("run", columns)))}
    assert rows["Underfitting"] == "Yes"
    assert rows["Overfitting"] == "Cannot be told"


def test_each_row_of_the_table_says_its_own() -> None:
    """Catches one sentence about underfitting and overfitting in the rows of both."""
    probe = np.where(
        np.arange(800) % 40 == 0, 0.1 - 0.04 * np.minimum(1, np.arange(800) / 200), np.nan
    )
    rows = {row[0]: row[1:] for row in verdict_rows(judge("settled", train_probe_loss=probe))}
    assert rows["Underfitting"] == (
        "No",
        "Not underfit: the probe on training pictures fell by 40 %.",
    )
    assert rows["Overfitting"][0] == "Cannot be told"
    assert "underfit" not in rows["Overfitting"][1]


def test_a_file_name_that_is_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback over a result that names such a file."""
    (tmp_path / "caf\udce9.csv").write_text("step,loss\n1,0.5\n2,0.4\n")
    assert main(["verdict", str(tmp_path / "caf\udce9.csv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "caf\udce9"
