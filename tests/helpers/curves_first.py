"""The first labelled set: seeded synthetic loss curves, each with what a person would say of it.

Noise is Gaussian, proportional to the loss and larger at the start (heteroscedastic), with AR(1)
autocorrelation. A curve whose drop would drown in its noise is drawn again: nobody could label it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np


@dataclasses.dataclass(frozen=True)
class Labelled:
    """A curve and its label.

    Attributes:
        name: kind and seed.
        columns: step, loss and perhaps probe_loss.
        convergence: allowed states; empty where the label says nothing of it.
        stability: likewise.
        fit: likewise.
    """

    name: str
    columns: dict[str, np.ndarray]
    convergence: tuple[str, ...] = ()
    stability: tuple[str, ...] = ()
    fit: tuple[str, ...] = ("cannot_tell",)


PER_KIND = 10
LEAST_SIGNAL = 10.0
"""Standard errors that a drop must have to be labelled."""


def ar1(rng: np.random.Generator, length: int, correlation: float) -> np.ndarray:
    """Return unit noise in which neighbours correlate."""
    fresh = rng.standard_normal(length)
    values = np.empty(length)
    last = fresh[0]
    for index, one in enumerate(fresh):
        last = correlation * last + np.sqrt(1 - correlation**2) * one if index else last
        values[index] = last
    return values


class Draw:
    """One curve's random numbers: length, noise and levels."""

    def __init__(self, seed: int, kind: int) -> None:
        self.rng = np.random.default_rng((seed, kind, 20240501))
        self.start = self.rng.uniform(0.07, 0.12)
        self.final = self.start * self.rng.uniform(0.55, 0.8)
        self.fall = self.start - self.final
        while True:
            self.length = int(10 ** self.rng.uniform(np.log10(60), 4.3))
            self.noise = 10 ** self.rng.uniform(-2, np.log10(0.5))
            self.correlation = self.rng.choice([0.0, 0.3, 0.6, 0.9])
            spread = (1 + self.correlation) / (1 - self.correlation) * 12 / self.length
            if self.fall / self.start / (self.noise * np.sqrt(spread)) >= LEAST_SIGNAL:
                break
        self.x = np.linspace(0, 1, self.length)

    def noisy(self, level: np.ndarray) -> np.ndarray:
        """Return a level with this curve's noise."""
        size = self.noise * (0.8 + 0.6 * np.exp(-self.x / 0.15))
        noise = 1 + size * ar1(self.rng, self.length, self.correlation)
        return np.maximum(level * noise, 1e-5)

    def settling(self, low: float = 0.04, high: float = 0.18) -> np.ndarray:
        """Return an exponential fall that ends long before the run."""
        return self.final + self.fall * np.exp(-self.x / self.rng.uniform(low, high))


def converged(draw: Draw) -> Labelled:
    loss = draw.noisy(draw.settling())
    return Labelled("", {"loss": loss}, ("converged",), ("stable",))


def still_falling(draw: Draw) -> Labelled:
    if draw.rng.random() < 0.4:
        shape = 1 - draw.x
    else:
        shape = np.exp(-draw.x / draw.rng.uniform(0.55, 3))
        shape = (shape - shape[-1]) / (1 - shape[-1])
    return Labelled(
        "", {"loss": draw.noisy(draw.final + draw.fall * shape)}, ("still_falling",), ("stable",)
    )


def flat(draw: Draw) -> Labelled:
    loss = draw.noisy(np.full(draw.length, draw.start))
    return Labelled("", {"loss": loss}, ("flat_from_start",), ("stable",))


def diverging(draw: Draw) -> Labelled:
    turn, bend = draw.rng.uniform(0.3, 0.7), draw.rng.uniform(1, 2.5)
    rise = draw.start * draw.rng.uniform(0.6, 6)
    level = draw.settling(0.05, 0.12)
    level = level + rise * (np.maximum(0, draw.x - turn) / (1 - turn)) ** bend
    return Labelled("", {"loss": draw.noisy(level)}, ("diverging",), ("diverged",))


def spiky(draw: Draw) -> Labelled:
    loss = draw.noisy(draw.settling())
    number = int(draw.rng.integers(1, 8))
    places = draw.rng.choice(np.arange(draw.length // 10, draw.length - 3), number, replace=False)
    loss[places] *= draw.rng.uniform(5, 10, number)
    return Labelled("", {"loss": loss}, ("converged",), ("spiky",))


def late_collapse(draw: Draw) -> Labelled:
    at = draw.rng.uniform(0.8, 0.94)
    level = np.where(draw.x > at, draw.start * draw.rng.uniform(1.8, 6), draw.settling())
    return Labelled("", {"loss": draw.noisy(level)}, ("diverging",), ("diverged",))


def oscillating(draw: Draw) -> Labelled:
    cycles = draw.rng.uniform(5, min(40, draw.length / 8))
    size = max(0.15, 1.2 * draw.noise)
    swing = 1 + size * np.sin(2 * np.pi * cycles * draw.x + draw.rng.uniform(0, 6))
    return Labelled("", {"loss": draw.noisy(draw.settling() * swing)}, (), ("oscillating",))


def too_short(draw: Draw) -> Labelled:
    length = int(draw.rng.integers(1, 31))
    return Labelled("", {"loss": draw.noisy(draw.settling())[:length]}, ("too_short",), ("stable",))


def constant(draw: Draw) -> Labelled:
    return Labelled(
        "", {"loss": np.full(draw.length, draw.start)}, ("flat_from_start",), ("stable",)
    )


def with_nan(draw: Draw) -> Labelled:
    loss = draw.noisy(draw.settling())
    if draw.rng.random() < 0.5:
        loss[int(draw.length * draw.rng.uniform(0.7, 0.95)) :] = np.nan
    else:
        loss[draw.rng.integers(draw.length // 2, draw.length, 3)] = np.nan
    return Labelled("", {"loss": loss}, ("converged",), ("nan",))


def probed(draw: Draw, probe: np.ndarray, loss: np.ndarray) -> dict[str, np.ndarray]:
    """Return columns with a probe about thirty times during the run, and a little noise on it."""
    every = max(1, draw.length // 30)
    measured = np.full(draw.length, np.nan)
    noise = 1 + 0.004 * draw.rng.standard_normal(draw.length)
    measured[::every] = (probe * noise)[::every]
    return {"loss": loss, "probe_loss": measured}


def overfit(draw: Draw) -> Labelled:
    turn = draw.rng.uniform(0.25, 0.6)
    rise = draw.fall * draw.rng.uniform(0.3, 1.5) * np.maximum(0, draw.x - turn) / (1 - turn)
    probe = draw.final + draw.fall * np.exp(-draw.x / 0.12) + rise
    columns = probed(draw, probe, draw.noisy(draw.settling()))
    return Labelled("", columns, ("converged",), ("stable",), ("overfit",))


def fits(draw: Draw) -> Labelled:
    probe = draw.final + draw.fall * np.exp(-draw.x / draw.rng.uniform(0.06, 0.2))
    columns = probed(draw, probe, draw.noisy(draw.settling()))
    return Labelled("", columns, ("converged",), ("stable",), ("fits",))


def underfit(draw: Draw) -> Labelled:
    probe = draw.start * (1 - 0.01 * draw.x)
    columns = probed(draw, probe, draw.noisy(np.full(draw.length, draw.start)))
    return Labelled("", columns, ("flat_from_start",), ("stable",), ("underfit",))


KINDS: tuple[Callable[[Draw], Labelled], ...] = (
    converged,
    still_falling,
    flat,
    diverging,
    spiky,
    late_collapse,
    oscillating,
    too_short,
    constant,
    with_nan,
    overfit,
    fits,
    underfit,
)


def labelled_curves(per_kind: int = PER_KIND) -> Iterator[Labelled]:
    """Yield the set."""
    for kind, make in enumerate(KINDS):
        for seed in range(per_kind):
            curve = make(Draw(seed, kind))
            steps = np.arange(1, len(curve.columns["loss"]) + 1, dtype=float)
            yield dataclasses.replace(
                curve, name=f"{make.__name__} {seed}", columns={"step": steps, **curve.columns}
            )
