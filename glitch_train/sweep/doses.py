"""Dose and response: an experiment with one setting at several strengths."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import RecipeError
from ..settings import nearest

DOSES = "doses"
"""In a sweep's folder: the runs of doses, as DOSES/EXPERIMENT/DOSE/seedN."""
_TAG_LETTERS = 40


@dataclasses.dataclass(frozen=True)
class Dose:
    """One strength of one setting of an experiment.

    Attributes:
        slug: the experiment's name.
        setting: what is varied, as ``--set`` names it.
        value: the strength, as ``--set`` takes it.
        own: the strength that the experiment has without it; empty where that is not named.
        standard: the same of the run that the experiment is compared with.
    """

    slug: str
    setting: str
    value: str
    own: str = ""
    standard: str = ""

    @property
    def assignment(self) -> str:
        """As ``--set`` takes it, without the experiment."""
        return f"{self.setting}={self.value}"

    @property
    def tag(self) -> str:
        """A file name for it."""
        plain = plain_tag(self.assignment)
        if plain == re.sub("[=_]", "-", self.assignment) and len(plain) <= _TAG_LETTERS:
            return plain
        digest = hashlib.sha256(self.assignment.encode()).hexdigest()[:6]
        return f"{plain[:_TAG_LETTERS]}-{digest}"

    @property
    def strength(self) -> tuple[float, ...]:
        """The numbers in its value, by which doses are put in order."""
        return tuple(float(one) for one in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", self.value))


def plain_tag(text: str) -> str:
    """Return a text with nothing in it that a file name could trip over."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-.")


def read_doses(texts: Iterable[str], slugs: Collection[str]) -> list[Dose]:
    """Return doses as ``--dose`` takes them: ``EXPERIMENT.NAME=VALUE``.

    Args:
        texts: what was given.
        slugs: the experiments of the sweep.

    Raises:
        RecipeError: one is written in another way, or of an experiment that is not run.
    """
    doses = []
    for text in dict.fromkeys(texts):
        name, equals, value = text.partition("=")
        slug, dot, setting = name.partition(".")
        if not (slug and dot and setting and equals and value):
            raise RecipeError(f"--dose takes EXPERIMENT.NAME=VALUE, got {text!r}.")
        if slug not in slugs:
            raise RecipeError(
                f"--dose {text}: this sweep does not run {slug!r}{nearest(slug, slugs)}"
            )
        doses.append(Dose(slug, setting, value))
    return doses


def noted_dose(done: Mapping[str, Any]) -> Dose | None:
    """Return the dose that the note of a complete run names, or None."""
    match done.get("dose"):
        case {"slug": str(slug), "setting": str(setting), "value": str(value), **others}:
            own, standard = (str(others.get(name, "")) for name in ("own", "standard"))
            return Dose(slug, setting, value, own, standard)
    return None


def run_folder(out: Path, slug: str, dose: Dose | None, seed: int) -> Path:
    """Return where a run's results go.

    Args:
        out: the sweep's folder.
        slug: the experiment's name.
        dose: what it is run with, if it is one.
        seed: of the training.
    """
    place = out / DOSES / slug / dose.tag if dose else out / slug
    return place / f"seed{seed}"


def run_name(slug: str, dose: Dose | None, seed: int) -> str:
    """Return how a run is called."""
    return f"{slug}{f' with {dose.assignment}' if dose else ''}, seed {seed}"


def each_run(
    slugs: Sequence[str], doses: Sequence[Dose], seeds: Iterable[int]
) -> list[tuple[str, Dose | None, int]]:
    """Return experiment, dose and seed of every run: all of the first seed, then of the second."""
    kinds: list[tuple[str, Dose | None]] = [(slug, None) for slug in slugs]
    kinds += [(dose.slug, dose) for dose in doses]
    return [(slug, dose, seed) for seed in dict.fromkeys(seeds) for slug, dose in kinds]
