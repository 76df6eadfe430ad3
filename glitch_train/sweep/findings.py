"""Which effect of an experiment stands clear of its standard run, in sentences."""

from __future__ import annotations

import dataclasses
import math

from ..measure.measurement import EFFECTS
from ..wording import percent
from .matrix import Matrix, MatrixRow, Spread

MORE, LESS, UNCLEAR, ALONE, UNTOLD = "more", "less", "unclear", "no standard", "not measured"
TOO_FEW = "too few"
UNFINISHED = ("too_short", "still_falling")
"""States of a verdict on losses that would go on falling."""
SLIGHT = 0.05
"""Below a twentieth of the reference a difference is called slight, however sure."""


@dataclasses.dataclass(frozen=True)
class Moved:
    """One effect of one experiment against its standard run.

    Attributes:
        effect: a key of :data:`..measure.measurement.EFFECTS`.
        state: ``more`` or ``less`` where the two ranges do not touch, ``unclear`` where they do,
            ``too few`` where one seed has too few pairs for a range, ``no standard`` where there
            is nothing to compare with, ``not measured``.
        here: the experiment's index.
        there: the standard run's.
    """

    effect: str
    state: str
    here: Spread | None = None
    there: Spread | None = None

    @property
    def numbers(self) -> str:
        """Both means with their ranges."""
        if self.here is None:
            return ""
        if self.there is None:
            return shown(self.here)
        return f"{shown(self.here)} against {shown(self.there)}"

    @property
    def is_slight(self) -> bool:
        """Whether the means are close, sure or not."""
        both = self.here is not None and self.there is not None
        return both and abs(self.here.mean - self.there.mean) < SLIGHT  # type: ignore[union-attr]


def compare(matrix: Matrix, row: MatrixRow, effect: str) -> Moved:
    """Return whether an effect of an experiment is clear of its standard run's."""
    here = row.spread(effect)
    if here is None:
        return Moved(effect, UNTOLD)
    standard = matrix.standard_of(row)
    there = standard.spread(effect) if standard else None
    if there is None:
        return Moved(effect, ALONE, here)
    if here.ends is None or there.ends is None:
        return Moved(effect, TOO_FEW, here, there)
    if here.ends[0] > there.ends[1]:
        return Moved(effect, MORE, here, there)
    if here.ends[1] < there.ends[0]:
        return Moved(effect, LESS, here, there)
    return Moved(effect, UNCLEAR, here, there)


def sentences(matrix: Matrix, row: MatrixRow) -> list[str]:
    """Return what came of the log's expectation, and what else moved."""
    experiment = row.experiment
    if not row.runs or not any(run.effects for run in row.runs):
        return ["It was trained without drawing pictures, so no effect was measured."]
    if not experiment.against:
        return ["This is what the others are compared with."]
    if matrix.standard_of(row) is None:
        return [f"It is compared with {experiment.against}, of which this sweep has no run."]
    lines = [_of_expected(row, compare(matrix, row, effect)) for effect in experiment.expected]
    if not experiment.expected:
        lines.append("The log expects no glitch of it.")
    others = [compare(matrix, row, e) for e in matrix.effects if e not in experiment.expected]
    for state, word in ((MORE, "More"), (LESS, "Less")):
        moved = [f"{_title(one)} ({one.numbers})" for one in others if one.state == state]
        if moved:
            lines.append(f"{word} than the standard run besides: {'; '.join(moved)}.")
    if any(one.state == UNCLEAR for one in others) and not any(
        one.state in (MORE, LESS) for one in others
    ):
        lines.append("Nothing else is clear of the standard run.")
    return lines


def outcome(matrix: Matrix) -> tuple[list[str], list[str]]:
    """Return what appeared of all that was expected, and what did not, with what is known why."""
    appeared, missing = [], []
    for row in matrix.rows:
        for effect in row.experiment.expected:
            one = compare(matrix, row, effect)
            title = f"**{row.experiment.title}**: {_title(one).lower()}"
            if one.state == MORE:
                told = _told(matrix, row, effect) if one.is_slight else ""
                slight, why = ", slightly" * one.is_slight, f"; {told}" * bool(told)
                appeared.append(f"{title}{slight}, {one.numbers}{why}.")
            elif one.state == TOO_FEW:
                missing.append(f"{title}: one seed with so few pairs does not tell, {one.numbers}.")
            elif one.here is not None and one.there is not None:
                missing.append(f"{title}, {one.numbers}; {_why_not(matrix, row, effect)}.")
            else:
                missing.append(f"{title}: {row.untold(effect) or 'nothing to compare it with.'}")
    return appeared, missing


def _told(matrix: Matrix, row: MatrixRow, effect: str) -> str:
    return str(matrix.asked.get("reasons", {}).get(row.slug, {}).get(effect, ""))


def _why_not(matrix: Matrix, row: MatrixRow, effect: str) -> str:
    """Return what a person measured, or else the runs say, of an effect that stayed away."""
    if told := _told(matrix, row, effect):
        return told
    states = row.states("convergence")
    if 2 * sum(state in UNFINISHED for state in states) > len(states):
        return "its losses had not settled when the training ended"
    moved = [compare(matrix, row, one) for one in matrix.effects]
    instead = [
        _title(one).lower() for one in moved
        if one.state == MORE and not one.is_slight and one.effect not in row.experiment.expected
    ]  # fmt: skip
    if instead:
        return f"it shows {', '.join(instead)} instead"
    return "nothing else of it stands clear of the standard run either"


def how_sure(matrix: Matrix) -> str:
    """Return what "clear" means in this sweep, and how often it would come by chance."""
    most = max((len(row.runs) for row in matrix.rows), default=0)
    if most < 2:
        return (
            "An effect is called clear where its 95 % interval over pairs of pictures does not "
            "touch the standard run's. There is one training seed each, so nothing here tells how "
            "much another seed would change."
        )
    chance = chance_of_order(most, most)
    tested = sum(
        compare(matrix, row, effect).state in (MORE, LESS, UNCLEAR)
        for row in matrix.rows
        for effect in matrix.effects
    )
    return (
        f"An effect is called clear where all its training seeds lie above, or all below, all of "
        f"the standard run's. With {most} seeds each, that happens by chance in "
        f"{percent(2 * chance)} of comparisons, about {2 * chance * tested:.0f} of the {tested} "
        "made here: a single clear cell is a hint, not a proof."
    )


def chance_of_order(ours: int, theirs: int) -> float:
    """Return how often all of ours would lie above all of theirs if there were no difference.

    Args:
        ours: number of training seeds here.
        theirs: number of training seeds there.
    """
    return 1.0 / math.comb(ours + theirs, ours)


def shown(spread: Spread) -> str:
    """Return an index with its range."""
    if spread.ends is None:
        return f"{spread.mean:.2f}"
    return f"{spread.mean:.2f} [{spread.ends[0]:.2f}, {spread.ends[1]:.2f}]"


def _of_expected(row: MatrixRow, one: Moved) -> str:
    title = _title(one)
    if one.state == UNTOLD:
        why = row.untold(one.effect) or "the report had no model to measure it with."
        return f"**{title}** was expected and not measured: {why[:1].lower()}{why[1:]}"
    if one.state == MORE:
        slight = ", though slightly" if one.is_slight else ""
        return f"**{title}** was expected and appeared{slight}: {one.numbers}."
    if one.state == LESS:
        return f"**{title}** was expected and did not appear; there is less of it: {one.numbers}."
    if one.state == ALONE:
        return f"**{title}** was expected; the standard run has no such number: {one.numbers}."
    if one.state == TOO_FEW:
        return (
            f"**{title}** was expected, and one seed with so few pairs does not tell: "
            f"{one.numbers}."
        )
    return f"**{title}** was expected and did not appear: {one.numbers}, which overlap."


def _title(one: Moved) -> str:
    return EFFECTS[one.effect].title
