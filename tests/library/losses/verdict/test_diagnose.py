"""The verdict: curves drawn anew in every run, properties, real curves, broken inputs."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from benchmarks._curves import CLEAR, NOISES, OTHERS, SHAPES, Drawn, drawn, falling, fits, flat
from benchmarks.verdict import CANNOT_TELL, UNCLEAR
from benchmarks.verdict import judge as judge_drawn
from glitch_train.losses.about import About
from glitch_train.losses.read import read_record
from glitch_train.losses.record import LossRecord
from glitch_train.losses.smoothing import epoch_average, smooth
from glitch_train.losses.verdict.correlation import average_window, without_average
from glitch_train.losses.verdict.curve import clean_curve
from glitch_train.losses.verdict.departures import find_hump
from glitch_train.losses.verdict.diagnose import Verdict, diagnose
from glitch_train.losses.verdict.trend import Estimate
from glitch_train.wording import plain

REAL = Path(__file__).parents[3] / "data" / "real_curves"
STABILITY = {"stable", "spiky", "oscillating", "diverged", "nan"}

SEED = int(os.environ.get("GLITCH_CURVES_SEED", secrets.randbits(32)))
"""Of the curves of this run: a new one every time, so that nothing can be tuned to them."""

BY_CHANCE = 1e-6
"""How often a verdict that is just as good as promised fails one of the tests on drawn curves."""


def judge(columns: dict[str, np.ndarray], **about) -> Verdict:
    """Return the verdict of plain columns."""
    lists = {name: np.asarray(values, dtype=float).tolist() for name, values in columns.items()}
    return diagnose(LossRecord("run", lists, About(**about)))


def judge_loss(losses: Iterable[float], **about) -> Verdict:
    """Return the verdict of losses alone."""
    values = np.array(list(losses), dtype=float)
    return judge({"step": np.arange(1, len(values) + 1), "loss": values}, **about)


def most_of(number: int, rate: float) -> int:
    """Return how many of a number may be wrong where ``rate`` is promised: a binomial bound."""
    from scipy.stats import binom

    return int(binom.ppf(1 - BY_CHANCE, number, rate))


def mistakes(makes: Iterable, each: int, clear: float = CLEAR) -> list[tuple[str, ...]]:
    """Judge drawn curves; return shape, noise, seed and the states of those that came out wrong."""
    found = []
    for make in makes:
        for number in range(each * len(NOISES)):
            noise, seed = NOISES[number % len(NOISES)], SEED * 1000 + number
            curve = drawn(make, noise, seed, clear)
            verdict = judge_drawn(curve)
            got = states(verdict)
            want = (curve.convergence, curve.stability, curve.fit)
            if any(right and one != right for one, right in zip(got, want, strict=True)):
                found.append((make.__name__, noise, f"GLITCH_CURVES_SEED={SEED}", *got))
    return found


def test_chances_are_those_of_students_t() -> None:
    """Catches a distribution that is off, or that forgets how few values there were."""
    from scipy.stats import t

    for over in np.linspace(-8, 8, 41):
        estimate = Estimate(np.full(2, over), np.ones(2), np.array([0.25, 0.75]), np.array([3, 50]))
        exact = 0.25 * t.cdf(over, 3) + 0.75 * t.cdf(over, 50)
        assert estimate.chance_above(0) == pytest.approx(exact, rel=1e-9)


@pytest.mark.slow
def test_flat_noise_is_never_called_a_trend() -> None:
    """Catches noise of any kind, correlation and smoothing read as learning: 2 % are promised."""
    wrong = [one for one in mistakes([flat], 12) if one[3] != CANNOT_TELL]
    called = [one for one in wrong if one[3] != "flat_from_start"]
    assert len(called) <= most_of(12 * len(NOISES), 0.02), called
    unstable = [one for one in wrong if one[4] != "stable"]
    assert len(unstable) <= most_of(12 * len(NOISES), 0.02), unstable


@pytest.mark.slow
def test_clear_curves_are_judged_right() -> None:
    """Catches a verdict that is right on less than the promised 95 % of clear curves."""
    wrong = mistakes(SHAPES[1:], 4)
    assert len(wrong) <= most_of(3 * 4 * len(NOISES), 0.05), wrong


@pytest.mark.slow
def test_a_falling_loss_is_never_called_converged() -> None:
    """Catches the worst error, which ends a training too early, on drops that hardly show."""
    ended = [one for one in mistakes([falling], 8, UNCLEAR) if one[3] == "converged"]
    assert len(ended) <= most_of(8 * len(NOISES), 0.001), ended


@pytest.mark.slow
def test_spikes_swings_breaks_and_fits_are_told() -> None:
    """Catches stability or fit that is right on less than 90 % of raw losses."""
    wrong = [one for make in OTHERS for one in mistakes([make], 1)]
    told = [one for one in wrong if one[1] in NOISES[:3]]
    assert len(told) <= most_of(len(OTHERS) * 3, 0.1), told


@pytest.mark.slow
def test_a_smoothed_flat_loss_is_no_trend() -> None:
    """Catches a moving average of flat noise that "diverges" or "oscillates" in four of ten."""
    for seed in range(10):
        raw = np.random.default_rng(seed).gamma(2, 0.05, 1200)
        verdict = judge_loss(epoch_average(raw, (60, 120)[seed % 2]))
        assert verdict.convergence.state in ("flat_from_start", CANNOT_TELL), seed
        assert verdict.stability.state == "stable", seed


@pytest.mark.parametrize("window", [2, 30, 120])
def test_a_moving_average_is_recognised(window: int) -> None:
    """Catches the smoothness of kohya's loss/average taken for a trend that is sure."""
    rng = np.random.default_rng(window)
    raw = rng.gamma(3, 1 / 30, 2000) + 0.05 * np.exp(-np.arange(2000) / 150)
    assert average_window(epoch_average(raw, window))[0] == window
    assert average_window(raw)[0] == average_window(smooth(raw, window))[0] == 1
    assert average_window(np.sin(np.arange(2000) / 9) + raw)[0] == 1


@pytest.mark.parametrize("window", [20, 60, 120])
def test_a_moving_average_is_recognised_below_a_jump(window: int) -> None:
    """Catches a rise at the end that hides the window, and is then taken for correlated noise."""
    rng, x = np.random.default_rng(window), np.linspace(0, 1, 3000)
    level = 0.05 + 0.1 * np.exp(-x / 0.08) + 1.5 * (x > 0.8)
    logged = epoch_average(level * (1 + 0.05 * rng.standard_normal(3000)), window)
    assert average_window(logged)[0] == window
    kept = without_average(clean_curve(np.arange(1, 3001), logged))
    assert (kept.steps[0], kept.steps[-1]) == (window, 3000)
    assert np.diff(kept.steps).min() >= window
    assert states(judge_loss(logged))[:2] == ("diverging", "diverged")
    short = without_average(clean_curve(np.arange(window * 9 // 5), logged[: window * 9 // 5]))
    assert short.steps[-1] == window * 9 // 5 - 1, "the final level is that of the end"


def settling(length: int = 600, noise: float = 0.1, seed: int = 0) -> np.ndarray:
    """Return a noisy curve that settles."""
    rng = np.random.default_rng(seed)
    shape = 0.08 + 0.04 * np.exp(-np.arange(length) / (length / 10))
    return shape * (1 + noise * rng.standard_normal(length))


def states(verdict: Verdict) -> tuple[str, str, str]:
    """Return the three states."""
    return verdict.convergence.state, verdict.stability.state, verdict.fit.state


curve_of_any_kind = st.builds(
    drawn, st.sampled_from(SHAPES + OTHERS), st.sampled_from(NOISES), st.integers(0, 2**32)
)


def with_steps(curve: Drawn) -> dict[str, np.ndarray]:
    """Return a curve's columns with steps from 1."""
    columns = {"step": np.arange(1.0, len(curve.loss) + 1), "loss": curve.loss}
    return columns if curve.probe is None else {**columns, "probe_loss": curve.probe}


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(curve=curve_of_any_kind, scale=st.sampled_from([2.0**-30, 0.25, 3.0, 1000.0, 2.0**40]))
def test_scaling_the_loss_changes_nothing(curve: Drawn, scale: float) -> None:
    """Catches a limit in units of the loss: kinds of loss differ by orders of magnitude."""
    columns = with_steps(curve)
    scaled = {k: v * scale if "loss" in k else v for k, v in columns.items()}
    one, two = judge(columns), judge(scaled)
    assert states(one) == states(two)
    assert one.convergence.step == two.convergence.step
    if one.levels.evidence["start"] is not None:
        for level in ("start", "final"):
            assert two.levels.evidence[level] == pytest.approx(
                scale * one.levels.evidence[level], rel=1e-4
            )


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(curve=curve_of_any_kind, unit=st.sampled_from([1 / 640, 0.1, 10.0, 1e6]))
@example(curve=drawn(fits, "epoch", 272), unit=1 / 640)  # a block that begins on a step's edge
def test_the_unit_of_the_steps_changes_nothing(curve: Drawn, unit: float) -> None:
    """Catches a limit in steps: the axis may be in epochs, samples or logged every tenth step."""
    columns = with_steps(curve)
    one, two = judge(columns), judge({**columns, "step": columns["step"] * unit})
    assert states(one) == states(two)
    if one.convergence.step:
        assert two.convergence.step == pytest.approx(unit * one.convergence.step, rel=0.01)


@pytest.mark.slow
@settings(max_examples=5, deadline=None)
@given(curve=curve_of_any_kind)
def test_the_same_record_gets_the_same_verdict(curve: Drawn) -> None:
    """Catches chance in the verdict, and a reading that changes its record."""
    lists = {name: values.tolist() for name, values in with_steps(curve).items()}
    record = LossRecord("run", lists)
    assert diagnose(record).to_json() == diagnose(record).to_json()
    assert diagnose(LossRecord("run", lists)).to_json() == diagnose(record).to_json()


@pytest.mark.parametrize(
    ("name", "convergence", "stability", "fit"),
    [
        # Thrown up in the first steps, below its start from step 120 on, nearly flat from 220 on;
        # held-out pictures follow the training ones.
        ("normal", {"still_falling", "converged"}, {"stable", "spiky"}, {"fits"}),
        # Destroyed at step 2, and never again below a thousand times its start.
        ("lr_x100", {"diverging"}, {"diverged"}, {"cannot_tell"}),
        # Thrown up four thousandfold at step 2; it falls ever after and never comes near again.
        ("lr_x100_strange_size", {"diverging"}, {"diverged"}, {"cannot_tell"}),
        # The steady probe sees a fall of a hundredth; the loss itself shows none.
        ("lr_over_1000", {"still_falling", "flat_from_start"}, {"stable"}, {"underfit"}),
        # Flat after some hundred steps; the probe swings too much to say more than that it fell.
        ("ten_pictures_probed", {"converged"}, {"stable", "spiky"}, {"cannot_tell", "fits"}),
        ("ten_pictures_3000_steps", {"still_falling"}, {"stable"}, {"cannot_tell"}),
    ],
)
def test_real_runs(name: str, convergence: set[str], stability: set[str], fit: set[str]) -> None:
    """Catches rules that fit only synthetic curves: these are real runs, judged by a person."""
    verdict = diagnose(read_record(REAL / f"{name}.csv"))
    assert verdict.convergence.state in convergence, verdict.convergence.sentence
    assert verdict.stability.state in stability, verdict.stability.sentence
    assert verdict.fit.state in fit, verdict.fit.sentence
    if name == "lr_over_1000":
        assert "Raise learning_rate" in verdict.advice.learn[0]


@pytest.mark.parametrize("at", [0.1, 0.3])
def test_the_step_of_flattening(at: float) -> None:
    """Catches a step that is off: 95 % of an exponential is done after three time constants."""
    x = np.linspace(0, 1, 4000)
    rng = np.random.default_rng(0)
    loss = (0.08 + 0.04 * np.exp(-3 * x / at)) * (1 + 0.05 * rng.standard_normal(4000))
    found = judge_loss(loss).convergence
    assert found.state == "converged"
    assert found.step == pytest.approx(4000 * at, rel=0.25)


def test_start_final_and_slope_are_the_trends() -> None:
    """Catches levels read off single noisy points, and a slope in the wrong unit."""
    rng = np.random.default_rng(1)
    loss = np.linspace(0.12, 0.08, 5000) * (1 + 0.2 * rng.standard_normal(5000))
    verdict = judge_loss(loss)
    assert verdict.convergence.state == "still_falling"
    assert verdict.levels.evidence["start"] == pytest.approx(0.12, rel=0.02)
    assert verdict.levels.evidence["final"] == pytest.approx(0.08, rel=0.02)
    slope = verdict.convergence.evidence["tail_slope_per_1000_steps"]
    assert slope == pytest.approx(-0.008, rel=0.15)
    assert "per 1000 steps" in verdict.convergence.sentence


def ar1(rng: np.random.Generator, length: int, correlation: float) -> np.ndarray:
    """Return unit noise in which neighbours correlate."""
    values = rng.standard_normal(length)
    for index in range(1, length):
        values[index] *= np.sqrt(1 - correlation**2)
        values[index] += correlation * values[index - 1]
    return values


def test_a_loss_that_rises_a_little_is_neither_stable_nor_kept() -> None:
    """Catches "diverging" beside "stable" and "keep these settings": two limits for one rise."""
    x = np.linspace(0, 1, 2000)
    level = 0.08 + 0.04 * np.exp(-x / 0.05) + 0.012 * np.maximum(0, 2 * x - 1)
    noise = 1 + 0.02 * np.random.default_rng(8).standard_normal(2000)
    verdict = judge_loss(level * noise)
    assert states(verdict)[:2] == ("diverging", "diverged")
    assert "Lower learning_rate" in verdict.advice.learn[0]


def test_correlated_noise_leaves_less_evidence() -> None:
    """Catches an error of the slope that takes correlated values for independent ones."""
    rng = np.random.default_rng(2)
    flat = np.full(2000, 0.1)
    white = flat * (1 + 0.1 * rng.standard_normal(2000))
    red = flat * (1 + 0.1 * ar1(rng, 2000, 0.95))
    key = "tail_slope_error_per_1000_steps"
    assert (
        judge_loss(red).convergence.evidence[key] > 2 * judge_loss(white).convergence.evidence[key]
    )


def test_spikes_are_named_with_their_steps() -> None:
    """Catches spikes missed, or found where the skew of the noise only looks like them."""
    loss = settling()
    loss[[200, 450]] *= 8
    verdict = judge_loss(loss)
    assert verdict.stability.evidence["spike_steps"] == [201, 451]
    rng = np.random.default_rng(3)
    skewed = 0.1 * np.exp(0.7 * rng.standard_normal(3000))
    assert judge_loss(skewed).stability.evidence["spikes"] == 0


@pytest.mark.parametrize("falls", [False, True])
def test_a_hump_is_named(falls: bool) -> None:
    """Catches "stable" of a run whose loss lay at many times its level for a quarter of it."""
    rng = np.random.default_rng(4)
    level = 0.05 + (0.05 * np.exp(-np.arange(800) / 100) if falls else 0.0)
    loss = level * rng.gamma(8, 1 / 8, 800)
    assert judge_loss(loss).stability.state == "stable"
    loss[300:500] += 1.0
    finding = judge_loss(loss).stability
    assert finding.state == "spiky"
    assert finding.evidence["hump_steps"] == pytest.approx([301, 500], abs=15)
    assert "A hump: from about step" in finding.sentence
    assert judge_loss(loss - 100).stability.state != "spiky", "below zero a ratio says nothing"


def test_the_noise_of_one_picture_a_step_is_no_hump() -> None:
    """Catches "a hump" of a flat run whose losses differ a hundredfold with their timesteps."""
    rng = np.random.default_rng(SEED)
    by_timestep = np.array([0.7, 0.15, 0.05, 0.007])
    found = []
    for _ in range(200):
        length = int(rng.choice([300, 500, 800, 3000]))
        loss = rng.choice(by_timestep, length) * rng.gamma(2, 1 / 2, length)
        found.append(find_hump(clean_curve(np.arange(length), loss)) is not None)
    assert sum(found) <= most_of(200, 0.02)


def test_a_lasting_step_is_no_spike() -> None:
    """Catches the losses before a sudden improvement marked as spikes above what follows."""
    level = np.where(np.arange(1000) < 333, 0.12, 0.08)
    rng = np.random.default_rng(6)
    verdict = judge_loss(level * (1 + 0.02 * rng.standard_normal(1000)))
    assert verdict.stability.state == "stable"
    assert verdict.convergence.state == "converged"


def test_a_swing_is_taken_out_of_the_trend() -> None:
    """Catches a swing that hides the fall, or whose last half wave is read as one."""
    x = np.linspace(0, 1, 1200)
    for cycles, size in ((4.5, 0.3), (5.3, 0.15), (5.5, 0.3), (7.5, 0.5)):
        loss = settling(1200, 0.05) * (1 + size * np.sin(2 * np.pi * cycles * x))
        verdict = judge_loss(loss)
        assert verdict.stability.state == "oscillating"
        assert verdict.convergence.state == "converged", cycles
        assert verdict.stability.evidence["swings"] == pytest.approx(cycles, abs=0.5)


def test_a_faint_rhythm_is_no_oscillation() -> None:
    """Catches the weak pattern that the order of the pictures gives every run."""
    rhythm = 1 + 0.03 * np.sin(np.arange(6000) * 2 * np.pi / 120)
    assert judge_loss(settling(6000, 0.2) * rhythm).stability.state == "stable"


def test_a_steep_start_is_no_spike() -> None:
    """Catches the first losses of a fast fall marked as spikes."""
    loss = 0.05 + 0.5 * np.exp(-np.arange(1000) / 6)
    rng = np.random.default_rng(4)
    assert judge_loss(loss * (1 + 0.02 * rng.standard_normal(1000))).stability.state == "stable"


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_broken_numbers_are_named(bad: float) -> None:
    """Catches NaN that makes every statistic NaN, and infinity counted as NaN."""
    loss = settling()
    loss[400:] = bad
    verdict = judge_loss(loss)
    assert verdict.stability.state == "nan"
    assert "401" in verdict.stability.sentence
    assert verdict.stability.evidence["infinite"] == (0 if np.isnan(bad) else 200)
    assert verdict.convergence.state == "converged"


@pytest.mark.parametrize(
    "loss",
    [
        [0.1],
        [np.nan],
        [0.1, np.nan],
        [0.1] * 5,
        [0.0] * 100,
        [np.inf] * 50,
        [0.1] * 99 + [np.nan],
        [1e-300] * 60,
        [-0.1, 0.1] * 40,
        list(np.linspace(1e300, 1e299, 80)),
        [0.1, 1e12] * 30,
    ],
    ids=[
        "one",
        "one nan",
        "two",
        "five",
        "zeros",
        "infinite",
        "last nan",
        "tiny",
        "signs",
        "huge",
        "two levels",
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_inputs_that_break_peers(loss: list[float]) -> None:
    """Catches a crash, a warning, or a NaN in the JSON, whatever the losses are."""
    text = judge_loss(loss).to_json()
    values = json.loads(text, parse_constant=lambda word: pytest.fail(word))
    assert values["stability"]["state"] in STABILITY
    if not any(np.isfinite(loss)):
        assert values["start"] is None


def test_json_has_no_nan() -> None:
    """Catches the word NaN in the JSON, which no strict reader takes."""
    assert plain({"a": [np.nan, np.inf, 1.23456789]}) == {"a": [None, None, 1.23457]}


def test_one_point_is_too_short() -> None:
    """Catches a verdict out of nothing."""
    values = judge_loss([0.1]).to_dict()
    assert values["convergence"]["state"] == "too_short"
    assert (values["start"], values["final"], values["drop"]) == (0.1, 0.1, 0.0)


def test_steps_out_of_order_count_with_their_last_value() -> None:
    """Catches a resumed run whose repeated steps are counted twice."""
    loss = settling()
    steps = np.arange(1, 601)
    order = np.r_[0:400, 300:600]
    first_try = loss.copy()
    first_try[300:400] = 9.0
    resumed = np.r_[first_try[0:400], loss[300:600]]
    one = judge({"step": steps[order], "loss": resumed})
    assert states(one) == states(judge_loss(loss))
    assert one.levels.evidence["final"] == pytest.approx(judge_loss(loss).levels.evidence["final"])
    assert one.stability.evidence["steps_out_of_order"]


def test_without_held_out_pictures_overfitting_cannot_be_told() -> None:
    """Catches overfitting judged from training losses."""
    verdict = judge_loss(settling())
    assert verdict.fit.state == "cannot_tell"
    assert "cannot be told" in verdict.fit.sentence
    training = np.where(np.arange(600) % 20 == 0, settling(noise=0.01), np.nan)
    columns = {"step": np.arange(600), "loss": settling(), "train_probe_loss": training}
    verdict = judge(columns)
    assert verdict.fit.state == "cannot_tell"
    assert "Not underfit" in verdict.fit.sentence
    columns["train_probe_loss"] = np.where(np.arange(600) % 20 == 0, 0.1, np.nan)
    assert judge(columns).fit.state == "underfit"


def test_a_growing_gap_is_overfitting() -> None:
    """Catches a held-out probe that merely stops falling while training goes on falling."""
    x = np.linspace(0, 1, 600)
    every = np.arange(600) % 20 == 0
    held = 0.08 + 0.04 * np.exp(-x / 0.05)
    seen = 0.04 + 0.08 * np.exp(-x / 0.5)
    columns = {"step": np.arange(600), "loss": settling()}
    columns["probe_loss"] = np.where(every, held, np.nan)
    columns["train_probe_loss"] = np.where(every, seen, np.nan)
    verdict = judge(columns)
    assert verdict.fit.state == "overfit"
    assert "gap" in verdict.fit.sentence


def test_bands_of_timesteps_are_told() -> None:
    """Catches probe bands that are recorded and never read."""
    probe = np.where(np.arange(600) % 20 == 0, settling(noise=0.0), np.nan)
    columns = {"step": np.arange(600), "loss": settling(), "probe_loss": probe}
    columns["probe_loss_t0_249"], columns["probe_loss_t750_999"] = probe, probe * 0 + 0.1
    bands = judge(columns).fit.evidence["drop_share_by_timesteps"]
    assert bands["timesteps 0-249"] == pytest.approx(1 / 3, abs=0.02)
    assert bands["timesteps 750-999"] == pytest.approx(0)


def test_a_probe_decides_where_the_raw_loss_is_too_noisy() -> None:
    """Catches "flat" said of a run whose probe clearly falls and settles."""
    rng = np.random.default_rng(5)
    x = np.linspace(0, 1, 300)
    level = 0.09 + 0.01 * np.exp(-x / 0.1)
    loss = level * rng.gamma(1.5, 1 / 1.5, 300)
    probe = np.where(np.arange(300) % 10 == 0, level, np.nan)
    steps = np.arange(1, 301)
    assert judge({"step": steps, "loss": loss}).convergence.state != "converged"
    verdict = judge({"step": steps, "loss": loss, "train_probe_loss": probe})
    assert verdict.convergence.state == "converged"
    assert verdict.convergence.evidence["judged_on"] == "train_probe_loss"


def drawn_probe(rng: np.random.Generator, decays: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Return steps, probe losses and the tail's share of the drop.

    What each step does to the model is as large as its learning rate and lasts for some steps; for
    a while early on the run is thrown off its way, as Adam does before it knows its gradients.
    """
    steps, every = int(rng.integers(200, 800)), int(rng.integers(8, 20))
    x = np.arange(steps) / steps
    rate = 0.5 + 0.5 * np.cos(np.pi * x) if decays else np.ones(steps)
    done = np.cumsum(rate) / steps
    time = rng.uniform(0.03, 0.3) if decays else rng.uniform(0.6, 1.5)
    fall, drop = -np.expm1(-done / time), rng.uniform(0.1, 0.6)
    kicks = drop * rng.uniform(0.002, 0.01) * rate * rng.standard_normal(steps)
    walk, pull = np.zeros(steps), rng.uniform(0.02, 0.2)
    for step in range(1, steps):
        walk[step] = (1 - pull * rate[step]) * walk[step - 1] + kicks[step]
    hump = 0.4 * rng.uniform() * np.exp(-(((x - rng.uniform(0.1, 0.25)) / 0.05) ** 2))
    values = 1 - drop * (fall - hump * fall) + walk
    kept = np.unique(np.r_[0, np.arange(every - 1, steps, every)])
    return kept + 1.0, values[kept], (fall[-1] - fall[int(0.8 * steps)]) / fall[-1]


def of_probe(steps: np.ndarray, probe: np.ndarray, seed: int) -> str:
    """Return the state of a run whose raw losses are too noisy to tell."""
    every = np.arange(1.0, steps[-1] + 1)
    at = np.isin(every, steps)
    measured = np.full(len(every), np.nan)
    measured[at] = probe
    noise = np.random.default_rng(seed).gamma(0.5, 2.0, len(every))
    loss = np.interp(every, steps, probe) * noise
    return judge({"step": every, "loss": loss, "train_probe_loss": measured}).convergence.state


@pytest.mark.parametrize("seed", [3, 4])
def test_a_probe_whose_rate_ran_out_is_flat_at_its_end(seed: int) -> None:
    """Catches "cannot be told" of a probe that has not moved for a fifth of the run."""
    rng = np.random.default_rng(seed)
    drawn = [drawn_probe(rng, decays=True) for _ in range(40)]
    flat = [one for one in drawn if one[2] < 0.05]
    states = [of_probe(steps, probe, seed) for steps, probe, _ in flat]
    assert states.count("converged") >= 0.95 * len(states), states


@pytest.mark.parametrize("seed", [3, 4])
def test_a_probe_that_falls_to_its_end_has_not_converged(seed: int) -> None:
    """Catches a probe's few values taken for more than they show."""
    rng = np.random.default_rng(seed)
    drawn = [drawn_probe(rng, decays=False) for _ in range(40)]
    falling = [one for one in drawn if one[2] > 0.13]
    states = [of_probe(steps, probe, seed) for steps, probe, _ in falling]
    assert states.count("converged") <= 0.05 * len(states), states


def test_the_method_is_the_one_that_decided() -> None:
    """Catches a regression named where the end was read off the probe's own values."""
    rng = np.random.default_rng(3)
    steps = np.arange(1, 201)
    hump = 0.3 * np.exp(-(((steps - 40) / 10) ** 2))
    level = 0.5 + 0.5 * np.exp(-steps / 20) + hump
    probe = np.where(steps % 8 == 0, level, np.nan)
    noisy = {"step": steps, "loss": level * rng.gamma(0.5, 2.0, 200), "train_probe_loss": probe}
    calm = {"step": steps, "loss": level + 0.01 * rng.standard_normal(200)}
    methods = [judge(one).convergence.evidence["method"] for one in (noisy, calm)]
    assert ["regression" in method for method in methods] == [False, True], methods


def test_an_unsure_flat_loss_beside_a_probe_that_fell_is_not_called_flat() -> None:
    """Catches "flat from the start" beside a probe that halved and cannot tell its end."""
    rng = np.random.default_rng(1)
    x = np.linspace(0, 1, 400)
    level = 0.14 + 0.12 * np.exp(-x / 0.06)
    loss = level * rng.gamma(1.5, 1 / 1.5, 400)
    swings = 0.03 * np.sin(15 * x) * (x > 0.2)
    columns = {"step": np.arange(1, 401), "loss": loss}
    columns["train_probe_loss"] = np.where(np.arange(400) % 10 == 0, level + swings, np.nan)
    raw = judge({name: columns[name] for name in ("step", "loss")}).convergence
    assert raw.state == "flat_from_start"
    found = judge(columns).convergence
    assert found.state != "flat_from_start"
    assert found.evidence["judged_on"] == "train_probe_loss"
    assert found.evidence["raw_loss_says"]["state"] == "flat_from_start"


def test_a_few_lucky_losses_at_the_start_are_not_where_a_run_starts() -> None:
    """Catches "+522 %" said of a loss that fell, because its first ten draws were easy ones."""
    rng = np.random.default_rng(2)
    x = np.linspace(0, 1, 400)
    level = 0.13 + 0.12 * np.exp(-x / 0.06)
    loss = level * rng.gamma(1.0, 1.0, 400)
    loss[:10] = 0.02
    probe = np.where(np.arange(400) % 10 == 0, level, np.nan)
    columns = {"step": np.arange(1, 401), "loss": loss, "train_probe_loss": probe}
    levels = judge(columns).levels
    assert levels.evidence["start"] > 0.09
    assert "probe" in levels.sentence
    assert f"{level[0]:.4g} → {level[-1]:.4g}" in levels.sentence


def test_a_learning_rate_that_ran_out_is_mentioned() -> None:
    """Catches "converged" said of a cosine schedule without its reason."""
    rate = 1e-4 * (0.5 + 0.5 * np.cos(np.linspace(0, np.pi, 600)))
    columns = {"step": np.arange(600), "loss": settling(), "learning_rate": rate}
    assert "learning rate had nearly run out" in judge(columns).convergence.sentence


def test_levels_are_compared_only_with_what_is_comparable() -> None:
    """Catches an SDXL run measured by the log's SD1.5 figures."""
    loss = settling() * 0.95
    same = judge_loss(loss, family="SD1.5", loss="mse").levels
    assert same.evidence["compared"]["nearest"] == "SD1.5 uncropped portraits"
    assert "like the log's" in same.sentence
    assert judge_loss(loss, family="SDXL").levels.evidence["compared"]["comparable"] is False
    assert (
        judge_loss(loss, family="SD1.5", loss="l1").levels.evidence["compared"]["comparable"]
        is False
    )
    assert judge_loss(loss).levels.evidence["compared"]["comparable"] is None
    rising = np.linspace(0.3, 1.05, 200) + 0.01 * np.random.default_rng(1).normal(size=200)
    assert "destroyed" in judge_loss(rising, family="SD1.5").levels.sentence
    for not_worse in (np.full(100, 1.01), np.array([2.5, 15.4, 28.9, 1.3])):
        assert "destroyed" not in judge_loss(not_worse, family="SD1.5").levels.sentence


def test_a_hump_and_an_explosion_are_judged() -> None:
    """Catches a start below zero for positive losses, a fall where nothing fell, "too short"."""
    rng = np.random.default_rng(0)
    for length in (800, 8000):
        x, noise = np.arange(length) / length, 1 + 0.1 * rng.standard_normal(length)
        hump = np.where((x > 0.375) & (x < 0.625), 1.0, 0.1) * noise
        verdict = judge_loss(hump)
        assert verdict.convergence.state in ("flat_from_start", "converged")
        for end in ("start", "final"):
            assert verdict.levels.evidence[end] == pytest.approx(0.1, rel=0.3)
        exploded = np.where(np.arange(length) == 0, 0.1, 40.0) * noise
        verdict = judge_loss(exploded)
        assert states(verdict)[:2] == ("diverging", "diverged")
        assert verdict.levels.evidence["start"] == pytest.approx(0.1, rel=0.5)
        coming_down = np.where(np.arange(length) < 2, 0.1, 0.1 + 50 * np.exp(-x / 0.3)) * noise
        assert states(judge_loss(coming_down))[:2] == ("diverging", "diverged")
