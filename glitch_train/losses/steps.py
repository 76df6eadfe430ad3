"""Where the losses of a log lie: its steps as other tools write them become one count."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import numpy as np

_SHUFFLED_ABOVE = 0.25
"""Steps that go back more often than in this share of the rows, and mostly not to one and the same
step, are unsorted."""

Place = tuple[int, float]
"""How often the steps had begun anew, and the step."""


def counted_on(steps: Sequence[float]) -> tuple[list[Place], list[float], list[str]]:
    """Return where each loss lies, the step it is shown at, and what is to be said of them.

    Losses of one step are spread up to the next. A counter that begins anew goes on behind the
    last step; a run that went on from an earlier state keeps its steps, and the later losses count.
    """
    count = len(steps)
    if not np.isfinite(steps).all():
        some = [] if not np.isfinite(steps).any() else ["Some rows lack a step."]
        counted = [float(step) for step in range(1, count + 1)]
        return [(0, step) for step in counted], counted, [*some, "Its losses were counted from 1."]
    begins = [place for place in range(1, count) if steps[place] < steps[place - 1]]
    if order := _sorted(steps, begins):
        sorted_steps = [steps[place] for place in order]
        spread = dict(zip(order, _spread(sorted_steps), strict=True))
        notes = ["Its rows were sorted by step.", *_shared([sorted_steps])]
        return [(0, step) for step in steps], [spread[place] for place in range(count)], notes
    parts = [steps[a:b] for a, b in itertools.pairwise([0, *begins, count])]
    gaps = np.diff(np.unique(parts[0]))
    gap = float(np.median(gaps)) if len(gaps) else 1.0
    shown: list[float] = []
    offset, anew = 0.0, []
    for part in parts:
        if shown and part[0] <= steps[0] + gap:
            anew.append(max(shown))
            offset = max(shown) + gap - part[0]
        shown += [offset + step for step in _spread(part)]
    places = [(number, step) for number, part in enumerate(parts) for step in part]
    return places, shown, [*_begun_anew(anew, count), *_twice(shown), *_shared(parts)]


def _sorted(steps: Sequence[float], begins: Sequence[int]) -> list[int]:
    """Return the order of rows that were not written in that of the steps; else nothing.

    The newest row may be the first. Steps that mostly go back to one and the same are counted anew.
    """
    if begins and all(after <= before for before, after in itertools.pairwise(steps)):
        return [*reversed(range(len(steps)))]
    often = max(Counter(steps[place] for place in begins).values(), default=0)
    is_anew = len(set(steps)) < len(steps) and 2 * often >= len(begins)
    if len(begins) <= _SHUFFLED_ABOVE * len(steps) or is_anew:
        return []
    return sorted(range(len(steps)), key=steps.__getitem__)


def _spread(steps: Sequence[float]) -> list[float]:
    """Return increasing steps: those of several losses lie evenly up to the next whole one."""
    spread: list[float] = []
    for step, group in itertools.groupby(steps):
        number = len(list(group))
        spread += [step + place / number for place in range(number)]
    return spread


def _begun_anew(after: Sequence[float], count: int) -> list[str]:
    if not after:
        return []
    where = ", ".join(f"{step:,.0f}" for step in after[:3]) + (" …" if after[3:] else "")
    return [
        f"Its steps begin anew after {where}, as after a resume: read as one run of {count:,} "
        "losses, counted on. If they are several runs, give each a file of its own."
    ]


def _twice(shown: Sequence[float]) -> list[str]:
    twice = len(shown) - len(set(shown))
    if not twice:
        return []
    return [
        f"{twice:,} steps were logged twice, as after a resume from an earlier state: the later "
        "losses count, the earlier ones are only drawn."
    ]


def _shared(parts: Sequence[Sequence[float]]) -> list[str]:
    is_shared = any(a == b for part in parts for a, b in itertools.pairwise(part))
    return ["Losses of one step were spread up to the next."] if is_shared else []
