"""The glitch report: several runs side by side, as Markdown, JSON and CSV."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Callable, Sequence
from typing import Any

from ..errors import ReportError
from ..text_lists import lines_of
from ..wording import index_text
from .context import ModelContext, measure_context
from .features import read_features
from .index import measure_pictures
from .measurement import EFFECTS, Measurement
from .pairs import PicturePairs
from .scale import reference

SCHEMA = 1
"""Version of the JSON; grows when a name in it changes its meaning."""

CSV_COLUMNS = (
    "run", "effect", "index", "index_low", "index_high", "value", "value_low", "value_high",
    "count", "sentence", "note",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RunReport:
    """One run against its base.

    Attributes:
        name: what the run is called.
        pairs: how many pairs of pictures it has.
        measurements: one per effect, in the order of :data:`.measurement.EFFECTS`.
        notes: remarks on the material.
    """

    name: str
    pairs: int
    measurements: tuple[Measurement, ...]
    notes: tuple[str, ...] = ()

    def of(self, effect: str) -> Measurement | None:
        """Return the measurement of an effect, or None when the run has none."""
        return next((one for one in self.measurements if one.effect == effect), None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.name,
            "pairs": self.pairs,
            "effects": {one.effect: one.to_dict() for one in self.measurements},
            "notes": list(self.notes),
        }


@dataclasses.dataclass(frozen=True)
class GlitchReport:
    """Runs side by side, all against the same base.

    Attributes:
        runs: one or several.
    """

    runs: tuple[RunReport, ...]

    @property
    def effects(self) -> tuple[str, ...]:
        """Effects that at least one run speaks of, in the order of reports."""
        return tuple(key for key in EFFECTS if any(run.of(key) for run in self.runs))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "schema": SCHEMA,
            "runs": [run.to_dict() for run in self.runs],
            "references": {key: EFFECTS[key].reference for key in self.effects},
            "reference_values": {key: reference().values[key] for key in self.effects},
        }

    def to_markdown(self) -> str:
        """Return a table of indices, and one sentence per effect and run."""
        lines = [
            "## How it glitched",
            "",
            "Glitch index: 0 = base, 1 = the reference named below. Brackets: 95 % interval.",
            "",
            "| effect | " + " | ".join(_cell(run.name) for run in self.runs) + " |",
            "| --- |" + " --- |" * len(self.runs),
        ]
        for key in self.effects:
            cells = [_index_text(run.of(key)) for run in self.runs]
            lines.append(f"| {EFFECTS[key].title} | " + " | ".join(cells) + " |")
        for run in self.runs:
            lines += ["", f"### {run.name} ({_count(run.pairs)})", ""]
            lines += [_sentence(one) for one in run.measurements]
            lines += [f"- {note}" for note in run.notes]
        lines += ["", "### What index 1 means", ""]
        lines += [f"- {EFFECTS[key].title}: {EFFECTS[key].reference}." for key in self.effects]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """Return one row per run and effect."""
        text = io.StringIO()
        table = csv.DictWriter(text, CSV_COLUMNS, lineterminator="\n", extrasaction="ignore")
        table.writeheader()
        for run in self.runs:
            for one in run.measurements:
                table.writerow({"run": run.name, "effect": one.effect, **one.to_dict()})
        return text.getvalue()


def report_run(
    pairs: PicturePairs,
    context: ModelContext | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> RunReport:
    """Measure one run.

    Args:
        pairs: base and glitched pictures.
        context: what models add; features and captions in the order of the pairs.
        on_progress: called with (pairs done, total); may raise to stop.

    Raises:
        ReportError: for pictures or models that cannot be compared.
    """
    context = context or ModelContext()
    features = read_features(pairs, on_progress)
    told = measure_context(context, features) + measure_pictures(features)
    by_effect = {one.effect: one for one in told}
    ordered = tuple(by_effect[key] for key in EFFECTS if key in by_effect)
    return RunReport(pairs.name, len(pairs), ordered, context.notes)


def run_names(text: str, runs: int) -> list[str]:
    """Return what each run is called; those without a line of their own are numbered.

    Args:
        text: names, one a line.
        runs: how many there are.

    Raises:
        ReportError: for more names than runs.
    """
    given = lines_of(text)
    if len(given) > runs:
        raise ReportError(f"names has {len(given)} lines for {runs} runs; one line per run.")
    return given + [f"run {number}" for number in range(len(given) + 1, runs + 1)]


def side_by_side(runs: Sequence[RunReport]) -> GlitchReport:
    """Put runs into one report; names that come twice are numbered.

    Raises:
        ReportError: for no run at all.
    """
    if not runs:
        raise ReportError("There is no run to report on.")
    names = [run.name for run in runs]
    numbered = []
    for place, run in enumerate(runs):
        if names.count(run.name) > 1:
            run = dataclasses.replace(
                run, name=f"{run.name} ({names[: place + 1].count(run.name)})"
            )
        numbered.append(run)
    return GlitchReport(tuple(numbered))


def _index_text(one: Measurement | None) -> str:
    if one is None or one.index is None:
        return "–"
    if one.index_interval is None:
        return f"**{index_text(one.index)}**"
    low, high = one.index_interval
    return f"**{index_text(one.index)}** [{index_text(low)}, {index_text(high)}]"


def _sentence(one: Measurement) -> str:
    note = f" *({one.note.rstrip('.')})*" if one.note else ""
    return f"- **{one.title}.** {one.sentence}{note}"


def _count(pairs: int) -> str:
    return f"{pairs} pair{'s' if pairs != 1 else ''}"


def _cell(name: str) -> str:
    return " ".join(name.split()).replace("|", "\\|")
