"""What is said of a run: how its numbers read, and whether the longest of it fits the picture."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Iterator

import numpy as np
import pytest

from glitch_train.drawing.style import STYLES, GraphOptions, GraphSize
from glitch_train.losses.about import About
from glitch_train.losses.graph.draw import draw_losses
from glitch_train.losses.record import LossRecord
from glitch_train.losses.smoothing import epoch_average
from glitch_train.losses.verdict.diagnose import Verdict, diagnose
from glitch_train.losses.verdict.text import to_markdown

LENGTH = 300
SIZES = (1e-12, 36_000.0, 1e30)
"""What losses are multiplied by: tiny, of a run that blew up, and beyond counting."""

ODD = re.compile(
    r"\de\+?\d"  # 5e+01; a learning rate is 1e-4
    r"|\be-\d\d|(?<![\w-])-\d"  # a hyphen for a minus sign
    r"|\+less|\bnan\b|\binf\b| ,|\.\.|[\d.]{12}",
)


def curves(size: float) -> dict[str, np.ndarray]:
    """Return losses of every kind that a sentence is made for."""
    rng = np.random.default_rng(3)
    x, noise = np.linspace(0, 1, LENGTH), 1 + 0.05 * rng.standard_normal(LENGTH)
    settled = (0.08 + 0.04 * np.exp(-x / 0.1)) * noise
    spikes = np.where(np.arange(LENGTH) % 80 == 79, 40.0, 1.0)
    raw = rng.gamma(0.15, 1.0, LENGTH)
    shapes = {
        "settled": settled, "falling": (0.12 - 0.04 * x) * noise, "flat": 0.1 * noise,
        "faint": (0.1 - 0.01 * x) * rng.gamma(3, 1 / 3, LENGTH), "steady": 0.1 + 0 * x,
        "diverging": (0.08 + 0.4 * np.maximum(0, x - 0.5)) * noise, "spiky": settled * spikes,
        "far": (0.08 + 1e9 * np.maximum(0, x - 0.5)) * noise, "exploded": np.where(x, 4e9, 1e-3),
        "swinging": settled * (1 + 0.4 * np.sin(60 * x)), "noisy": raw[:60], "few": settled[:20],
        "blown": np.array([0.1] * 10 + [9.0] * 4), "averaged": epoch_average(raw, 150),
        "negative": -0.1 * noise, "broken": np.where(x > 0.97, np.nan, settled),
        "none": x * np.nan, "sinking": 0.05 - 0.2 * x,
    }  # fmt: skip
    return {name: size * shape for name, shape in shapes.items()}


def probes(size: float) -> Iterator[dict[str, list[float]]]:
    """Return probes of every kind."""
    x = np.linspace(0, 1, LENGTH)
    bend, wave = np.sin(np.pi * x), np.sin(40 * x)
    kinds = {
        "fell": 0.1 - 0.04 * np.minimum(1, 4 * x), "falls": 0.1 - 0.04 * x, "still": 0.1 + 0 * x,
        "turned": 0.1 - 0.04 * bend, "rose": 0.1 + 0.05 * x, "zero": 0.1 * np.abs(1 - 2 * x),
        "swings": 0.1 - 0.03 * x + 0.06 * wave, "far": 0.1 + 1e9 * x,
    }  # fmt: skip
    for held in (None, *kinds):
        for seen in (None, "fell", "far"):
            named = (("probe_loss", held), ("train_probe_loss", seen))
            yield {
                column: list(np.where(np.arange(LENGTH) % 30 == 0, size * kinds[kind], np.nan))
                for column, kind in named
                if kind
            }


@functools.cache
def verdicts() -> list[Verdict]:
    """Return a verdict of every kind of run, some of them over more than a million steps."""
    found = []
    for size in SIZES:
        for number, loss in enumerate(curves(size).values()):
            steps = np.arange(1, len(loss) + 1) * (1, 2469)[number % 2]
            rate = 15 * (0.5 + 0.5 * np.cos(np.pi * np.arange(len(loss)) / len(loss)))
            columns = {"step": list(steps), "loss": list(loss), "learning_rate": list(rate)}
            about = About(family=("", "SD1.5", "SDXL")[number % 3], loss="mse", passed_over=2)
            found.append(diagnose(LossRecord("run", columns, about)))
    settled = {"step": list(range(1, LENGTH + 1)), "loss": list(curves(SIZES[1])["settled"])}
    return found + [diagnose(LossRecord("run", settled | probe)) for probe in probes(SIZES[1])]


def sentences(verdict: Verdict) -> list[str]:
    """Return all that a verdict says."""
    parts = (verdict.convergence, verdict.fit, verdict.stability, verdict.levels)
    return [*(part.sentence for part in parts), *verdict.advice.learn, to_markdown(verdict)]


@pytest.mark.slow
def test_every_number_is_written_as_people_write_it() -> None:
    """Catches exponents, a hyphen for a minus sign, "+less than", and digits without end."""
    assert {one.convergence.state for one in verdicts()} >= {"converged", "too_short", "diverging"}
    for verdict in verdicts():
        for text in sentences(verdict):
            odd = ODD.search(text)
            assert not odd, f"{odd.group()!r} in: {text}"


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
def test_the_longest_of_every_text_fits_the_table(style: str) -> None:
    """Catches a sentence that is cut short, leaves the picture or runs into its neighbour."""
    parts = ("convergence", "fit", "stability", "levels")
    longest: dict[tuple[str, str], Verdict] = {}
    for verdict in verdicts():
        for part in parts:
            finding = getattr(verdict, part)
            key = (part, finding.state)
            if key not in longest or len(finding.sentence) > len(_sentence(longest[key], part)):
                longest[key] = verdict
    advice = max((one.advice for one in verdicts()), key=lambda one: len(" ".join(one.learn)))
    by_part = {part: [one for (of, _), one in longest.items() if of == part] for part in parts}
    run = LossRecord("run", {"step": [1.0, 2.0], "loss": [1.0, 0.5]})
    for row in range(max(map(len, by_part.values()))):
        chosen = {part: getattr(ones[row % len(ones)], part) for part, ones in by_part.items()}
        verdict = dataclasses.replace(verdicts()[0], advice=advice, **chosen)
        options = GraphOptions(style=style, table=True)
        figure = draw_losses([run], GraphSize(), options, [verdict])
        figure.canvas.draw()
        boxes = [(one.get_text(), one.get_window_extent()) for one in figure.texts]
        assert not [text for text, _ in boxes if text.endswith("…")]
        assert min(box.y0 for _, box in boxes) >= 0
        assert max(box.x1 for _, box in boxes) <= figure.bbox.x1
        for text, one in boxes:
            for other_text, other in boxes:
                apart = one.x1 <= other.x0 or other.x1 <= one.x0
                apart = apart or one.y1 <= other.y0 or other.y1 <= one.y0
                assert one is other or apart, (text, other_text)


def _sentence(verdict: Verdict, part: str) -> str:
    return getattr(verdict, part).sentence


def test_a_run_says_its_pace_over_steps_that_it_has() -> None:
    """Catches "falling by 12 per 1000 steps" of a run of 60 steps that began at 0.7."""
    for length, per in ((60, "per 10 steps"), (600, "per 100 steps"), (6000, "per 1000 steps")):
        loss = np.linspace(0.7, 0.3, length) * (1 + 0.01 * np.cos(7 * np.arange(length) ** 2))
        said = diagnose(LossRecord("run", {"step": list(range(length)), "loss": list(loss)}))
        assert per in said.convergence.sentence


def test_what_cannot_be_told_says_what_to_do() -> None:
    """Catches "train for a few hundred steps" said to a run of thousands, and no advice at all."""
    rng = np.random.default_rng(1)
    for length, words in (
        (400, "further and read the curve again"),
        (60, "at least a few hundred steps"),
        (4000, "Log the loss of every step"),
    ):
        loss = np.linspace(1, 0.7, length) * rng.gamma(1, 1, length)
        loss = epoch_average(loss, 1500) if length == 4000 else loss
        run = LossRecord("run", {"step": list(range(1, length + 1)), "loss": list(loss)})
        verdict = diagnose(run)
        assert verdict.convergence.state == "too_short", verdict.convergence.sentence
        assert words in " ".join(verdict.advice.learn)


@pytest.mark.parametrize("y_axis", ["linear", "log"])
@pytest.mark.parametrize("size", [1e-7, 1.0, 3000.0, 1e7])
def test_ticks_read_like_the_texts(y_axis: str, size: float) -> None:
    """Catches "1.5e+03" beside a logarithmic axis, and an epoch of "1.2e+02"."""
    run = LossRecord("run", {"step": list(range(LENGTH)), "loss": list(curves(size)["falling"])})
    figure = draw_losses([run], options=GraphOptions(y_axis=y_axis, marks=False))
    figure.canvas.draw()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert not [label for label in labels if re.search(r"e[+]|e-?0|^-", label)], labels
    for label in figure.axes[0].get_yticklabels():
        assert label.get_window_extent().x0 >= 0, label.get_text()
