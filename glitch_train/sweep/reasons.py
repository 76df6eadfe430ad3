"""Reasons, measured by a person, why an effect that was expected stayed away or is slight."""

from __future__ import annotations

from pathlib import Path

from ..errors import ReportError
from ..files import read_text
from ..measure.measurement import EFFECTS
from ..recipe.experiments import EXPERIMENTS, slug_of
from ..recipe.text import parse_toml
from ..settings import nearest
from .findings import MORE, compare
from .matrix import Matrix

Reasons = dict[str, dict[str, str]]
"""Experiment to effect to a sentence without its stop."""


def read_reasons(path: Path) -> Reasons:
    """Read a TOML file: a table for each experiment, with a sentence for each effect.

    Args:
        path: the file.

    Raises:
        RecipeError: it is no TOML.
        ReportError: it cannot be read, names what no matrix has, or holds no sentences.
    """
    try:
        text = read_text(path)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ReportError(f"The reasons in {path} cannot be read: {why}.") from error
    reasons: Reasons = {}
    for name, sentences in parse_toml(path, text).items():
        slug = slug_of(name)
        if slug not in EXPERIMENTS:
            raise ReportError(f"{path} has no experiment {slug!r}{nearest(slug, EXPERIMENTS)}")
        if not isinstance(sentences, dict):
            raise ReportError(f"{path}: [{slug}] holds effects and sentences, got {sentences!r}.")
        for effect, sentence in sentences.items():
            if effect not in EFFECTS:
                raise ReportError(
                    f"{path}: [{slug}] has no effect {effect!r}{nearest(effect, EFFECTS)}"
                )
            if not isinstance(sentence, str) or not sentence.strip():
                raise ReportError(f"{path}: {slug}.{effect} is a sentence, got {sentence!r}.")
            reasons.setdefault(slug, {})[effect] = " ".join(sentence.split()).rstrip(".")
    return reasons


def unused_reasons(matrix: Matrix, reasons: Reasons) -> list[str]:
    """Return which reasons a page does not show, and why, a sentence for each.

    Args:
        matrix: what the page is of.
        reasons: as given.
    """
    said = []
    for slug, sentences in reasons.items():
        row = matrix.row(slug)
        for effect in sentences:
            if row is None:
                said.append(f"{slug} was not run: the reason for its {effect} is not shown.")
            elif effect not in row.experiment.expected:
                said.append(f"{slug} is not expected to show {effect}: no reason is shown.")
            elif (one := compare(matrix, row, effect)).state == MORE and not one.is_slight:
                said.append(f"{slug} did show {effect}: no reason is shown.")
    return said
