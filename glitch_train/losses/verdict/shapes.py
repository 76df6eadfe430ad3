"""The shapes a loss curve can have, as columns of a linear model over the share of the run.

Every column falls from 1 to 0 or rises from 0 to 1 over the run, so a coefficient is a height.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import numpy as np

from ..smoothing import Floats

Column = Callable[[Floats], Floats]


@dataclasses.dataclass(frozen=True)
class Shape:
    """One shape: a constant plus its columns.

    Attributes:
        family: what it is; families share the prior equally, whatever the number of members.
        columns: beside the constant.
    """

    family: str
    columns: tuple[Column, ...] = ()


def exponential(time: float) -> Column:
    """Fall with this time constant, as a share of the run."""
    return lambda x: (np.exp(-x / time) - np.exp(-1 / time)) / -np.expm1(-1 / time)


def power(knee: float, exponent: float) -> Column:
    """Fall as a power of the steps, the form of scaling laws."""
    end = (1 + 1 / knee) ** -exponent
    return lambda x: ((1 + x / knee) ** -exponent - end) / (1 - end)


def ramp_down(stop: float) -> Column:
    """Fall in a straight line until ``stop``, then stay."""
    return lambda x: np.maximum(0.0, 1 - x / stop)


def half_cosine(stop: float) -> Column:
    """Fall along half a cosine until ``stop``, then stay."""
    return lambda x: 0.5 + 0.5 * np.cos(np.pi * np.minimum(1.0, x / stop))


def delayed(start: float, time: float) -> Column:
    """Stay until ``start``, then fall exponentially."""
    return lambda x: np.exp(-np.maximum(0.0, x - start) / time)


def ramp_up(start: float, power: float = 1.0) -> Column:
    """Stay until ``start``, then rise."""
    return lambda x: (np.maximum(0.0, x - start) / (1 - start)) ** power


def step_up(at: float) -> Column:
    """Jump at ``at``."""
    return lambda x: (x > at).astype(float)


def blow_up(time: float) -> Column:
    """Rise exponentially towards the end with this time constant."""
    return lambda x: np.exp((x - 1) / time)


@functools.cache
def all_shapes() -> tuple[Shape, ...]:
    """Return every shape that is tried, the constant first."""
    falls = [exponential(t) for t in (0.01, 0.02, 0.04, 0.07, 0.1, 0.14, 0.2, 0.27, 0.36, 0.5, 0.8)]
    few = [exponential(t) for t in (0.015, 0.04, 0.08, 0.15, 0.3)]
    shapes = [Shape("flat"), Shape("line", (ramp_down(1.0),))]
    shapes += [Shape("exponential", (fall,)) for fall in falls]
    shapes += [Shape("power", (power(k, e),)) for k in (0.01, 0.03, 0.1) for e in (0.3, 0.6, 1.2)]
    shapes += [Shape("ramp", (ramp_down(stop / 10),)) for stop in range(1, 10)]
    shapes += [Shape("cosine", (half_cosine(stop / 10),)) for stop in range(2, 11)]
    shapes += [
        Shape("delayed", (delayed(start / 10, time),))
        for start in range(1, 10)
        for time in (0.01, 0.06, 0.2)
    ]
    shapes += [Shape("fall + line", (fall, ramp_down(1.0))) for fall in few]
    shapes += [
        Shape("fall + turn", (fall, ramp_up(turn / 10, bend)))
        for fall in few
        for turn in range(2, 10)
        for bend in (1.0, 2.0)
    ]
    shapes += [
        Shape("fall + jump", (fall, step_up(at)))
        for fall in few
        for at in (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.94, 0.97)
    ]
    shapes += [
        Shape("fall + blow-up", (fall, blow_up(t))) for fall in few for t in (0.03, 0.1, 0.3)
    ]
    return tuple(shapes)
