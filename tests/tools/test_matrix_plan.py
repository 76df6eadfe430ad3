"""The plan of the measured matrix: another scale than the log's, the same relations."""

from __future__ import annotations

import pytest

from glitch_demo.matrix import DOSES, EXPERIMENTS, SETTINGS
from glitch_train.recipe.experiments import experiment
from glitch_train.recipe.train import TrainRecipe
from glitch_train.sweep.doses import read_doses
from glitch_train.sweep.plan import settings_of

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
