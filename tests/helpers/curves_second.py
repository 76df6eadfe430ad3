"""The second labelled set, made by other means than the first, to check and not to tune on.

Noise: losses of random timesteps (as kohya's raw loss: which timesteps were drawn decides most of
it), log-normal, Student's t, and pictures that differ, seen in epochs. Shapes: power laws, steps
of the learning rate, cosine, two exponentials, a plateau before the fall; jumps with a slope;
swings of other forms than a sine; spikes that take some steps to recover.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
from curves_first import Labelled

PER_KIND = 10
LEAST_SIGNAL = 10.0


def timestep_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Return losses of batches of random timesteps, mean 1: low timesteps cost most."""
    batch = int(rng.choice([1, 2, 4, 8, 16]))
    timesteps = rng.uniform(0, 1, (length, batch))
    cost = 0.08 + np.exp(-timesteps / 0.22) * 2.2
    pictures = rng.gamma(12, 1 / 12, (length, batch))
    values = (cost * pictures).mean(axis=1)
    return values / (0.08 + 2.2 * 0.22 * (1 - np.exp(-1 / 0.22)))


def lognormal_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Return skewed noise, averaged over a few neighbours."""
    sigma, over = rng.uniform(0.03, 0.5), int(rng.choice([1, 2, 5]))
    values = np.exp(sigma * rng.standard_normal(length + over - 1) - sigma**2 / 2)
    return np.convolve(values, np.ones(over) / over, "valid")


def heavy_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Return noise with heavy tails on both sides."""
    return np.maximum(0.02, 1 + rng.uniform(0.01, 0.08) * rng.standard_t(4, length))


def epoch_noise(rng: np.random.Generator, length: int) -> np.ndarray:
    """Return noise of pictures that differ, each seen once per epoch."""
    count = int(rng.integers(10, 60))
    pictures = np.exp(rng.uniform(0.05, 0.3) * rng.standard_normal(count))
    epochs = -(-length // count)
    order = np.concatenate([rng.permutation(count) for _ in range(epochs)])[:length]
    values = pictures[order] / pictures.mean()
    return np.maximum(0.02, values * (1 + 0.1 * rng.standard_normal(length)))


NOISES = (timestep_noise, lognormal_noise, heavy_noise, epoch_noise)


class Draw:
    """One curve's random numbers."""

    def __init__(self, seed: int, kind: int) -> None:
        self.rng = np.random.default_rng((seed, kind, 777))
        self.start = self.rng.uniform(0.06, 0.3)
        self.final = self.start * self.rng.uniform(0.4, 0.8)
        self.fall = self.start - self.final
        make = NOISES[seed % len(NOISES)]
        while True:
            self.length = int(np.exp(self.rng.uniform(np.log(80), np.log(30_000))))
            self.noise = make(self.rng, self.length)
            error = self.noise.std() * np.sqrt(12 / self.length)
            if self.fall / self.start / error >= LEAST_SIGNAL:
                break
        self.x = np.arange(self.length) / (self.length - 1)

    def noisy(self, shape: np.ndarray) -> np.ndarray:
        """Return the loss for a shape that falls from 1 to 0."""
        return (self.final + self.fall * shape) * self.noise

    def one_of(self, *shapes: np.ndarray) -> np.ndarray:
        """Return one of several shapes."""
        return shapes[int(self.rng.integers(len(shapes)))]

    def settled(self) -> np.ndarray:
        """Return a fall that is over by two thirds of the run."""
        x, rng = self.x, self.rng
        stop = rng.uniform(0.25, 0.65)
        fast, slow = rng.uniform(0.01, 0.04), rng.uniform(0.08, 0.15)
        return self.one_of(
            0.5 + 0.5 * np.cos(np.pi * np.minimum(1, x / stop)),
            np.maximum(0, 1 - x / stop),
            0.5 * np.exp(-x / fast) + 0.5 * np.exp(-x / slow),
            np.where(x < stop / 2, 1.0, np.where(x < stop, 0.4, 0.0)),
            1 / (1 + np.exp((x - stop / 1.5) / 0.04)),
        )


def settled(draw: Draw) -> Labelled:
    return Labelled("", {"loss": draw.noisy(draw.settled())}, ("converged",), ("stable",))


def falling(draw: Draw) -> Labelled:
    x, rng = draw.x, draw.rng
    knee, exponent = rng.uniform(0.2, 1.0), rng.uniform(0.5, 1.5)
    law = (1 + x / knee) ** -exponent
    later = rng.uniform(0.3, 0.7)
    shape = draw.one_of(
        (law - law[-1]) / (1 - law[-1]),
        np.minimum(1, 1 - (x - later) / (1 - later)),  # a plateau, then a fall to the end
        0.5 * np.exp(-x / 0.05) + 0.5 * (1 - x),  # a quick start, then slow and steady
        1 - x**1.5,
    )
    return Labelled("", {"loss": draw.noisy(shape)}, ("still_falling",), ("stable",))


def flat(draw: Draw) -> Labelled:
    loss = draw.start * draw.noise
    return Labelled("", {"loss": loss}, ("flat_from_start",), ("stable",))


def rising(draw: Draw) -> Labelled:
    x, rng = draw.x, draw.rng
    size = rng.uniform(0.5, 8)
    level = draw.final + draw.fall * np.exp(-x / 0.08)
    rise = draw.one_of(x**2, np.exp((x - 1) / 0.15), np.maximum(0, x - 0.5) * 2)
    return Labelled(
        "", {"loss": (level + draw.start * size * rise) * draw.noise}, ("diverging",), ("diverged",)
    )


def collapsing(draw: Draw) -> Labelled:
    at, width = draw.rng.uniform(0.75, 0.92), draw.rng.uniform(0.001, 0.02)
    jump = draw.start * draw.rng.uniform(1, 6) / (1 + np.exp(-(draw.x - at) / width))
    loss = draw.noisy(draw.settled()) + jump * draw.noise
    return Labelled("", {"loss": loss}, ("diverging",), ("diverged",))


def recovering_spikes(draw: Draw) -> Labelled:
    loss = draw.noisy(draw.settled())
    top = np.quantile(draw.noise, 0.999)
    for _ in range(int(draw.rng.integers(1, 5))):
        at = int(draw.rng.integers(draw.length // 8, int(draw.length * 0.95)))
        length = int(draw.rng.integers(1, max(2, min(8, draw.length // 60))))
        tail = np.exp(-np.arange(length) / max(1, length / 2))[: draw.length - at]
        loss[at : at + length] += draw.start * draw.rng.uniform(3, 8) * top * tail
    return Labelled("", {"loss": loss}, ("converged",), ("spiky",))


def swinging(draw: Draw) -> Labelled:
    cycles = draw.rng.uniform(6, min(60, draw.length / 8))
    phase = draw.x * cycles + draw.rng.uniform(0, 1)
    size = max(0.2, 1.3 * draw.noise.std())
    swing = draw.one_of(
        2 * (phase % 1) - 1,  # saw
        np.sign(np.sin(2 * np.pi * phase)),
        np.sin(2 * np.pi * phase) * (0.4 + 0.8 * draw.x),  # growing
    )
    loss = draw.noisy(draw.settled()) * np.maximum(0.05, 1 + min(size, 0.8) * swing)
    return Labelled("", {"loss": loss}, (), ("oscillating",))


def infinite(draw: Draw) -> Labelled:
    loss = draw.noisy(draw.settled())
    loss[-int(draw.rng.integers(1, 20)) :] = draw.rng.choice([np.inf, np.nan])
    return Labelled("", {"loss": loss}, ("converged",), ("nan",))


def short(draw: Draw) -> Labelled:
    length = int(draw.rng.integers(1, 30))
    return Labelled("", {"loss": draw.noisy(draw.settled())[:length]}, ("too_short",))


def with_probe(draw: Draw, probe: np.ndarray, count: int) -> dict[str, np.ndarray]:
    """Return columns with a probe in every row, or ``count`` times."""
    values = probe * (1 + 0.01 * draw.rng.standard_normal(draw.length))
    kept = np.zeros(draw.length, dtype=bool)
    kept[np.linspace(0, draw.length - 1, count).astype(int)] = True
    return {"loss": draw.noisy(draw.settled()), "probe_loss": np.where(kept, values, np.nan)}


def memorising(draw: Draw) -> Labelled:
    low = draw.rng.uniform(0.2, 0.5)
    depth = draw.rng.uniform(0.5, 1.0)
    probe = draw.start - draw.fall * depth * np.sin(np.pi * np.minimum(1, draw.x / (2 * low)))
    columns = with_probe(draw, probe, int(draw.rng.choice([12, 20, 50])))
    return Labelled("", columns, (), (), ("overfit",))


def generalising(draw: Draw) -> Labelled:
    probe = draw.final + draw.fall * (1 + draw.x / 0.02) ** -1.0
    columns = with_probe(draw, probe, int(draw.rng.choice([12, 20, 50, draw.length])))
    return Labelled("", columns, (), (), ("fits",))


def not_learning(draw: Draw) -> Labelled:
    columns = with_probe(draw, np.full(draw.length, draw.start), 20)
    columns["loss"] = draw.start * draw.noise
    return Labelled("", columns, (), (), ("underfit",))


KINDS: tuple[Callable[[Draw], Labelled], ...] = (
    settled,
    falling,
    flat,
    rising,
    collapsing,
    recovering_spikes,
    swinging,
    infinite,
    short,
    memorising,
    generalising,
    not_learning,
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
