"""What a sweep found: experiments × effects, over the training seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from ..errors import RecordError, ReportError
from ..files import read_text
from ..losses.read import LOSSES, read_csv
from ..losses.record import LossRecord
from ..measure.measurement import EFFECTS
from ..plain_json import parse_json
from ..recipe.experiments import Experiment, experiment, in_order
from ..wording import plain
from .doses import DOSES, Dose, noted_dose, run_name
from .results import read_done

SWEEP = "sweep.json"
"""In a sweep's folder: what was asked for."""

REPORT, VERDICT = "report.json", "verdict.json"
"""In a run's folder."""


@dataclasses.dataclass(frozen=True)
class SeedRun:
    """One complete run of a sweep.

    Attributes:
        seed: of the training.
        folder: its results.
        verdict: on its losses, as :meth:`..losses.verdict.diagnose.Verdict.to_dict`.
        effects: effect to its measurement, as
            :meth:`..measure.measurement.Measurement.to_dict`; empty for a run without pictures.
        pairs: how many pairs of pictures it rests on.
    """

    seed: int
    folder: Path
    verdict: Mapping[str, Any]
    effects: Mapping[str, Mapping[str, Any]]
    pairs: int


@dataclasses.dataclass(frozen=True)
class Spread:
    """An index over the training seeds of an experiment.

    Attributes:
        seeds: seed to index.
        pairs: seed to the 95 % interval over pairs of pictures, where there is one.
    """

    seeds: Mapping[int, float]
    pairs: Mapping[int, tuple[float, float]]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.seeds.values())

    @property
    def ends(self) -> tuple[float, float] | None:
        """Smallest and largest over the seeds; of one seed its interval over pairs."""
        if len(self.seeds) > 1:
            return min(self.seeds.values()), max(self.seeds.values())
        return next(iter(self.pairs.values()), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        low, high = self.ends or (None, None)
        found: dict[str, Any] = plain(
            {
                "mean": self.mean,
                "low": low,
                "high": high,
                "seeds": {str(seed): index for seed, index in self.seeds.items()},
                "intervals_over_pairs": {str(seed): ends for seed, ends in self.pairs.items()},
            }
        )
        return found


@dataclasses.dataclass(frozen=True)
class MatrixRow:
    """One experiment.

    Attributes:
        slug: its name.
        runs: one per seed.
    """

    slug: str
    runs: tuple[SeedRun, ...]

    @property
    def experiment(self) -> Experiment:
        """What the log says of it."""
        return experiment(self.slug)

    def spread(self, effect: str) -> Spread | None:
        """Return an effect's index over the seeds, or None where no run could tell it."""
        told = {run.seed: run.effects.get(effect, {}) for run in self.runs}
        seeds = {seed: one["index"] for seed, one in told.items() if one.get("index") is not None}
        pairs = {
            seed: (told[seed]["index_low"], told[seed]["index_high"])
            for seed in seeds
            if told[seed].get("index_low") is not None
        }
        return Spread(seeds, pairs) if seeds else None

    def untold(self, effect: str) -> str:
        """Return why an effect could not be told, or empty."""
        told = (run.effects.get(effect) for run in self.runs)
        return next((one["sentence"] for one in told if one and one.get("index") is None), "")

    def states(self, aspect: str) -> list[str]:
        """Return the verdicts' states of an aspect, one per seed."""
        return [str(run.verdict[aspect]["state"]) for run in self.runs]

    def loss(self, where: str) -> float | None:
        """Return the mean over seeds of the loss at ``start`` or ``final``."""
        values = [run.verdict[where] for run in self.runs if run.verdict[where] is not None]
        return fmean(values) if values else None

    def probe(self, where: str) -> float | None:
        """Return the mean over seeds of the probe at ``start`` or ``final``, which all need."""
        probes = [
            run.verdict.get("levels", {}).get("evidence", {}).get("probe") for run in self.runs
        ]
        return fmean(probe[where] for probe in probes) if all(probes) else None


@dataclasses.dataclass(frozen=True)
class Matrix:
    """All experiments of a sweep.

    Attributes:
        rows: in the order of the presets.
        asked: what the sweep was asked for, as :data:`SWEEP` holds it.
        doses: experiments with a setting at other strengths, from the least number up.
    """

    rows: tuple[MatrixRow, ...]
    asked: Mapping[str, Any]
    doses: tuple[tuple[Dose, MatrixRow], ...] = ()

    @property
    def effects(self) -> list[str]:
        """Effects that at least one run could tell, in the order of reports."""
        return [key for key in EFFECTS if any(row.spread(key) for row in self.rows)]

    def row(self, slug: str) -> MatrixRow | None:
        """Return an experiment, or None when it is not there."""
        return next((row for row in self.rows if row.slug == slug), None)

    def standard_of(self, row: MatrixRow) -> MatrixRow | None:
        """Return what an experiment is compared with, or None."""
        return self.row(row.experiment.against)


def read_matrix(
    folder: Path, on_damaged: Callable[[str, ReportError], None] | None = None
) -> Matrix:
    """Read the complete runs of a sweep.

    Args:
        folder: as ``sweep --out`` was given it.
        on_damaged: called with the name of a run that cannot be read, which is left out then.

    Raises:
        ReportError: there is none, or one cannot be read and ``on_damaged`` is not given.
    """
    runs: dict[tuple[str, Dose | None], list[SeedRun]] = {}
    for path in [*folder.glob("*/seed*/"), *folder.glob(f"{DOSES}/*/*/seed*/")]:
        done = read_done(path) if path.is_dir() else None
        if done is None or path.name.startswith("."):
            continue
        slug, seed = str(done["experiment"]), int(done["seed"])
        dose = noted_dose(done)
        try:
            runs.setdefault((slug, dose), []).append(read_run(path, seed))
        except ReportError as error:
            if on_damaged is None:
                raise
            on_damaged(run_name(slug, dose, seed), error)
    rows = {
        kind: MatrixRow(kind[0], tuple(sorted(found, key=lambda run: run.seed)))
        for kind, found in runs.items()
        if found
    }
    if not any(dose is None for _, dose in rows):
        raise ReportError(f"{folder} has no complete run of a sweep: run glitch_train sweep first.")
    slugs = in_order({slug for slug, dose in rows if dose is None})
    doses = sorted(
        ((dose, row) for (_, dose), row in rows.items() if dose is not None),
        key=lambda one: (one[0].slug, one[0].setting, one[0].strength, one[0].value),
    )
    return Matrix(tuple(rows[slug, None] for slug in slugs), read_asked(folder), tuple(doses))


def read_asked(folder: Path) -> dict[str, Any]:
    """Return what a sweep was asked for: the ``commands``, the last one last, and ``about`` it.

    With them the ``reasons`` that were given for its page, experiment to effect to sentence.

    Raises:
        ReportError: the file is damaged.
    """
    asked = _json(folder / SWEEP)
    if asked is None:
        return {}
    whole = asked and isinstance(asked, dict) and isinstance(asked.get("commands", []), list)
    if whole and _are_tables(asked.get("reasons", {})):
        return dict(asked)
    raise ReportError(f"{folder / SWEEP} is damaged: remove it; the results do not need it.")


def _are_tables(content: object) -> bool:
    return isinstance(content, dict) and all(isinstance(one, dict) for one in content.values())


def read_run(folder: Path, seed: int) -> SeedRun:
    """Read one complete run.

    Args:
        folder: its results.
        seed: of the training.

    Raises:
        ReportError: names the file that is damaged.
    """
    effects: dict[str, Any] = {}
    pairs = 0
    match _json(folder / REPORT):
        case None:  # a run without pictures
            pass
        case {"runs": [{"effects": dict(effects), "pairs": int(pairs)}, *_]}:
            pass
        case _:
            raise damaged(folder, REPORT)
    try:
        record = read_csv(folder / LOSSES)
    except RecordError:
        raise damaged(folder, LOSSES) from None
    return SeedRun(seed, folder, _read_verdict(folder, record), effects, pairs)


def _read_verdict(folder: Path, record: LossRecord) -> Mapping[str, Any]:
    verdict = _json(folder / VERDICT)
    if isinstance(verdict, list):  # one per curve of the loss graph
        verdict = next(iter(verdict), {})
    if verdict is None:
        from ..losses.verdict.diagnose import diagnose

        return diagnose(record).to_dict()
    match verdict:
        case {"convergence": {"state": _}, "stability": {"state": _}, "fit": {"state": _},
              "start": _, "final": _}:  # fmt: skip
            return dict(verdict)
    raise damaged(folder, VERDICT)


def _json(path: Path) -> Any:
    if not path.is_file():
        return None
    try:
        return parse_json(read_text(path))
    except ValueError:
        return {}  # which lacks whatever is looked for


def damaged(folder: Path, name: str) -> ReportError:
    """Return the error for a file of a run that cannot be read."""
    return ReportError(
        f"{folder / name} is damaged: remove the folder {folder}, and the sweep runs it again."
    )
