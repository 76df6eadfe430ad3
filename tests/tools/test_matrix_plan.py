"""The plan of the measured matrix: another scale than the log's, the same relations."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from glitch_demo.host import REPO_ROOT
from glitch_demo.matrix import DOSES, EXPERIMENTS, SETTINGS
from glitch_train.cli.command import main
from glitch_train.losses.read import read_record
from glitch_train.losses.verdict.diagnose import diagnose
from glitch_train.recipe.experiments import experiment
from glitch_train.recipe.train import TrainRecipe
from glitch_train.sweep.doses import read_doses
from glitch_train.sweep.matrix import read_matrix
from glitch_train.sweep.plan import settings_of

DOCS = REPO_ROOT / "docs"
RECORDS = DOCS / "matrix_records"

STANDARD = EXPERIMENTS[0]
OF_ANOTHER_FAMILY = {"landscape_width", "landscape_height"}
"""What the SDXL standard, on which one experiment rests, has of its own."""
OF_MEASURING = {"probe_every"}


def planned(slug: str) -> dict[str, str]:
    """Return the settings that the plan gives a run; what comes last wins."""
    return dict(one.split("=", 1) for one in settings_of(slug, SETTINGS))


@pytest.mark.parametrize("slug", EXPERIMENTS[1:])
def test_a_technique_differs_in_what_the_log_names(slug: str) -> None:
    """Catches a setting of one run alone, and one for all that undoes what an experiment is."""
    own, standard = planned(slug), planned(STANDARD)
    named = set(experiment(slug).settings)
    differs = {name for name in own if own[name] != standard.get(name)}
    assert differs - OF_ANOTHER_FAMILY - OF_MEASURING <= named
    assert named & set(standard) <= differs


@pytest.mark.parametrize(
    ("slug", "setting"), [("high_learning_rate", "learning_rate"), ("overtrain", "steps")]
)
def test_relations_are_the_log_s(slug: str, setting: str) -> None:
    """Catches "high" that is not twice standard, and overtraining that is too short."""
    log = experiment(slug).settings[setting] / experiment(STANDARD).settings[setting]
    assert float(planned(slug)[setting]) / float(planned(STANDARD)[setting]) == pytest.approx(log)
    rates = planned(STANDARD)
    assert float(rates["text_encoder_lr"]) / float(rates["learning_rate"]) == pytest.approx(
        TrainRecipe().text_encoder_lr / experiment(STANDARD).settings["learning_rate"]
    )


def test_there_are_doses_of_quality_learning_rate_and_steps() -> None:
    """Catches a dose that no run is made of."""
    found = {(dose.slug, dose.setting) for dose in read_doses(DOSES, EXPERIMENTS)}
    assert found == {
        ("high_learning_rate", "learning_rate"), ("overtrain", "steps"),
        ("jpeg_crushed", "corruption"),
    }  # fmt: skip


def test_the_kept_runs_are_those_of_the_plan() -> None:
    """Catches a page of other runs than its text says, and seeds that were left out."""
    matrix = read_matrix(RECORDS)
    assert {row.slug for row in matrix.rows} == set(EXPERIMENTS)
    assert {dose.assignment for dose, _ in matrix.doses} == {
        dose.assignment for dose in read_doses(DOSES, EXPERIMENTS)
    }
    rows = [*matrix.rows, *(row for _, row in matrix.doses)]
    assert {tuple(run.seed for run in row.runs) for row in rows} == {(1, 2, 3)}
    steps = planned(STANDARD)["steps"]
    run = read_record(RECORDS / STANDARD / "seed1" / "losses.csv")
    assert run.steps[-1] == float(steps)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_standard_run_converges(seed: int) -> None:
    """Catches techniques that are compared with a run which has not learned its pictures yet."""
    verdict = diagnose(read_record(RECORDS / STANDARD / f"seed{seed}" / "losses.csv"))
    assert verdict.convergence.state == "converged", verdict.convergence.sentence
    assert verdict.fit.state in ("fits", "overfit"), verdict.fit.sentence


def test_the_page_is_made_of_the_records(tmp_path: Path) -> None:
    """Catches a page whose figures somebody changed, or that its code no longer makes."""
    page, records = tmp_path / "matrix.md", tmp_path / "records"  # a summary goes beside the runs
    shutil.copytree(RECORDS, records)
    assert main(["matrix", str(records), "--page", str(page)]) == 0
    assert page.read_text("utf-8") == (DOCS / "matrix.md").read_text("utf-8")
    for link in re.findall(r"\]\((images/[^)]+)\)", page.read_text("utf-8")):
        assert (DOCS / link).is_file(), link
