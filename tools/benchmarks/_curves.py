"""Loss curves with known answers, drawn at random: noise, correlation, length, smoothing, level.

Ranges: 100 to 20,000 losses and levels of 0.01 to 3 (log-uniform); relative noise of 1 to 25 %
(normal), of 14 to 100 % (gamma, shape 50 to 1) or sigma 0.03 to 1 (lognormal); neighbours that
correlate by 0.3 to 0.95 (``ar``); moving averages over 2 to 120 losses (``moving average``) or a
5th to a 50th of the run (``epoch``), growing at the start as kohya's do, some of correlated noise.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

NOISES = ("normal", "gamma", "lognormal", "ar", "moving average", "epoch")
CLEAR = 15.0
"""Standard errors that a clear drop has, against a straight line and with the true correlation."""

WINDOWS = 8
"""A clear curve holds at least so many windows of its moving average."""


@dataclasses.dataclass(frozen=True)
class Drawn:
    """A curve and what a person would say of it.

    Attributes:
        loss: (N,) one value per step.
        convergence: the right state; empty where the shape says nothing of it.
        stability: likewise.
        probe: (N,) held-out probe, NaN in between; None where there is none.
        fit: the right state with that probe.
    """

    loss: np.ndarray
    convergence: str = ""
    stability: str = "stable"
    probe: np.ndarray | None = None
    fit: str = "cannot_tell"


class Draw:
    """One curve's random numbers: length, level, drop and noise."""

    def __init__(self, seed: int, noise: str, clear: float) -> None:
        """Draw again until the drop is as clear as asked; 0 takes what comes first."""
        self.rng = np.random.default_rng(seed)
        while True:
            self.length = int(np.exp(self.rng.uniform(np.log(100), np.log(20_000))))
            self.level, self.drop = 10 ** self.rng.uniform(-2, 0.5), self.rng.uniform(0.3, 0.9)
            self.correlation, self.window = self._memory(noise)
            self.noise, self.deviation = self._noise(noise)
            lasts = (1 + self.correlation) / (1 - self.correlation)
            error = self.deviation * np.sqrt(12 * lasts / self.length)
            if not clear or (self.drop > clear * error and self.length >= WINDOWS * self.window):
                break
        self.x = np.linspace(0, 1, self.length)

    def _memory(self, noise: str) -> tuple[float, int]:
        rng, smoothed = self.rng, noise in ("moving average", "epoch")
        correlation = rng.uniform(0.3, 0.95) if noise == "ar" else 0.0
        if smoothed and rng.random() < 0.3:
            correlation = rng.uniform(0, 0.8)
        window = rng.integers(2, 121) if noise == "moving average" else 1
        return correlation, int(
            max(2, self.length / rng.uniform(5, 50))
        ) if noise == "epoch" else int(window)

    def _noise(self, noise: str) -> tuple[np.ndarray, float]:
        """Return noise of mean 1 and its relative deviation."""
        from scipy.special import ndtr
        from scipy.stats import gamma

        rng, normal = self.rng, self._correlated()
        kind = noise if noise in NOISES[:3] else rng.choice(NOISES[:3])
        if kind == "normal":
            deviation = 10 ** rng.uniform(-2, -0.6)
            return np.maximum(0.02, 1 + deviation * normal), deviation
        if kind == "gamma":
            shape = 10 ** rng.uniform(0, 1.7)
            quantile = np.clip(ndtr(normal), 1e-12, 1 - 1e-12)
            return gamma.ppf(quantile, shape) / shape, shape**-0.5
        sigma = 10 ** rng.uniform(-1.5, 0)
        return np.exp(sigma * normal - sigma**2 / 2), np.sqrt(np.expm1(sigma**2))

    def _correlated(self) -> np.ndarray:
        from scipy.signal import lfilter

        fresh = self.rng.standard_normal(self.length)
        fresh[1:] *= np.sqrt(1 - self.correlation**2)
        return lfilter([1.0], [1.0, -self.correlation], fresh)

    def loss(self, shape: np.ndarray) -> np.ndarray:
        """Return the log of a shape that falls from 1 to 0."""
        raw = self.level * (1 - self.drop + self.drop * shape) * self.noise
        totals, ends = np.concatenate([[0.0], np.cumsum(raw)]), np.arange(1, self.length + 1)
        begins = np.maximum(0, ends - self.window)
        return raw if self.window == 1 else (totals[ends] - totals[begins]) / (ends - begins)

    def one_of(self, *shapes: np.ndarray) -> np.ndarray:
        """Return one of several shapes."""
        return shapes[int(self.rng.integers(len(shapes)))]


def _settling(draw: Draw) -> np.ndarray:
    x, stop, time = draw.x, draw.rng.uniform(0.2, 0.6), draw.rng.uniform(0.03, 0.17)
    return draw.one_of(
        np.exp(-x / time),
        0.5 * np.exp(-x / 0.02) + 0.5 * np.exp(-x / time),
        0.5 + 0.5 * np.cos(np.pi * np.minimum(1, x / stop)),
        np.maximum(0, 1 - x / stop),
        np.where(x < stop / 2, 1.0, np.where(x < stop, 0.4, 0.0)),
        1 / (1 + np.exp((x - stop / 1.5) / 0.04)),
    )


def flat(draw: Draw) -> Drawn:
    """Nothing but noise."""
    return Drawn(draw.loss(np.ones(draw.length)), "flat_from_start")


def settled(draw: Draw) -> Drawn:
    """A fall that is over by two thirds of the run."""
    return Drawn(draw.loss(_settling(draw)), "converged")


def falling(draw: Draw) -> Drawn:
    """More than a tenth of the drop lies in the last fifth."""
    x, rng = draw.x, draw.rng
    slow, later = np.exp(-x / rng.uniform(0.7, 3)), rng.uniform(0.3, 0.7)
    law = (1 + x / rng.uniform(0.5, 2)) ** -rng.uniform(0.3, 1.2)
    shape = draw.one_of(
        1 - x,
        1 - x**1.5,
        (slow - slow[-1]) / (1 - slow[-1]),
        (law - law[-1]) / (1 - law[-1]),
        np.minimum(1, 1 - (x - later) / (1 - later)),
        0.4 * np.exp(-x / 0.05) + 0.6 * (1 - x),
    )
    return Drawn(draw.loss(shape), "still_falling")


def rising(draw: Draw) -> Drawn:
    """A rise, a blow-up or a jump at the end."""
    x, rng = draw.x, draw.rng
    size, turn, at = rng.uniform(0.8, 6), rng.uniform(0.3, 0.7), rng.uniform(0.7, 0.94)
    rise = draw.one_of(
        x**2, np.exp((x - 1) / 0.15), np.maximum(0, x - turn) / (1 - turn), 2.0 * (x > at)
    )
    return Drawn(draw.loss(np.exp(-x / 0.08) + size * rise), "diverging", "diverged")


def spiky(draw: Draw) -> Drawn:
    """Up to seven single losses far above all others."""
    loss = draw.loss(_settling(draw))
    number = int(draw.rng.integers(1, 8))
    places = draw.rng.choice(np.arange(draw.length // 10, draw.length - 3), number, replace=False)
    loss[places] += draw.level * draw.noise.max() * draw.rng.uniform(3, 8, number)
    return Drawn(loss, "converged", "spiky")


def oscillating(draw: Draw) -> Drawn:
    """Swings of several forms, well above the noise."""
    phase = draw.x * draw.rng.uniform(6, min(40, draw.length / 8)) + draw.rng.uniform()
    wave = draw.one_of(
        np.sin(2 * np.pi * phase), np.sign(np.sin(2 * np.pi * phase)), 2 * (phase % 1) - 1
    )
    size = min(0.8, max(0.2, 1.3 * draw.deviation))
    return Drawn(draw.loss(_settling(draw)) * (1 + size * wave), "", "oscillating")


def broken(draw: Draw) -> Drawn:
    """NaN or infinity at the end."""
    loss = draw.loss(_settling(draw))
    loss[-int(draw.rng.integers(1, 20)) :] = draw.rng.choice([np.inf, np.nan])
    return Drawn(loss, "converged", "nan")


def _probed(draw: Draw, probe: np.ndarray, fit: str) -> Drawn:
    measured = np.full(draw.length, np.nan)
    every = max(1, draw.length // int(draw.rng.choice([12, 20, 50])))
    noisy = probe * (1 + 0.005 * draw.rng.standard_normal(draw.length))
    measured[::every] = draw.level * noisy[::every]
    return Drawn(draw.loss(_settling(draw)), "", "stable", measured, fit)


def overfit(draw: Draw) -> Drawn:
    """The held-out probe rises again."""
    turn, size = draw.rng.uniform(0.25, 0.6), draw.rng.uniform(0.3, 1.5)
    rise = size * np.maximum(0, draw.x - turn) / (1 - turn)
    return _probed(draw, 1 - draw.drop + draw.drop * (np.exp(-draw.x / 0.12) + rise), "overfit")


def fits(draw: Draw) -> Drawn:
    """The held-out probe falls and stays."""
    time = draw.rng.uniform(0.06, 0.2)
    return _probed(draw, 1 - draw.drop + draw.drop * np.exp(-draw.x / time), "fits")


def underfit(draw: Draw) -> Drawn:
    """The held-out probe hardly falls, nor does the loss."""
    flat_one = dataclasses.replace(
        _probed(draw, 1 - 0.01 * draw.x, "underfit"), loss=draw.loss(np.ones(draw.length))
    )
    return flat_one


SHAPES: tuple[Callable[[Draw], Drawn], ...] = (flat, settled, falling, rising)
OTHERS: tuple[Callable[[Draw], Drawn], ...] = (
    spiky, oscillating, broken, overfit, fits, underfit,
)  # fmt: skip


def drawn(make: Callable[[Draw], Drawn], noise: str, seed: int, clear: float = CLEAR) -> Drawn:
    """Return a curve of a shape with noise of a kind.

    Args:
        make: one of ``SHAPES`` or ``OTHERS``.
        noise: one of ``NOISES``.
        seed: any number; the same gives the same curve.
        clear: standard errors that its drop has at least; nothing is asked of a flat one.
    """
    return make(Draw(seed, noise, 0.0 if make is flat else clear))
