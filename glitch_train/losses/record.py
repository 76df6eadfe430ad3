"""The loss record of a run: one type, written while it trains, read by graph and verdict.

Reading records of every kind is in ``losses.read``, writing ours in ``losses.writer``.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import RecordError
from .about import About
from .smoothing import Floats, RunningAverage, smoothing_window

STEP_COLUMNS = (
    "step",
    "loss",
    "smoothed",
    "learning_rate",
    "text_encoder_lr",
    "grad_norm",
    "lora_norm",
    "epoch",
    "seconds",
    "peak_memory_mb",
)
"""One value per optimizer step; NaN where a run has none."""

PROBE_COLUMNS = ("probe_loss", "train_probe_loss")
"""Loss on fixed noise and timesteps: on held-out pictures, and on training pictures. Measured
every N steps, NaN in between. With ``_t0_249`` behind the name: of the timesteps 0 to 249."""

FURTHER_COLUMNS = ("drift", "not_finite")
"""drift: how far the predictions are from the base model's, measured with the probe. not_finite: 1
where loss or gradient was NaN or infinite, so that nothing was changed; NaN elsewhere."""

_PROBE_BAND = re.compile(r"(train_)?probe_loss_t\d+_\d+")


def is_column(name: str) -> bool:
    """Say whether a record may have a column of this name."""
    return name in STEP_COLUMNS + PROBE_COLUMNS + FURTHER_COLUMNS or bool(
        _PROBE_BAND.fullmatch(name)
    )


@dataclasses.dataclass
class LossRecord:
    """What a run left behind, one entry per optimizer step.

    Attributes:
        name: the run's name, for legends.
        columns: column name to values, all equally long; ``step`` and ``loss`` are always there.
        about: what else is known of the run.
    """

    name: str
    columns: dict[str, list[float]]
    about: About = dataclasses.field(default_factory=About)
    _average: RunningAverage | None = dataclasses.field(default=None, repr=False, compare=False)

    @property
    def steps(self) -> list[float]:
        """Step numbers."""
        return self.columns["step"]

    @property
    def loss(self) -> list[float]:
        """Raw loss of each step."""
        return self.columns["loss"]

    def __len__(self) -> int:
        return len(self.loss)

    def array(self, column: str) -> Floats:
        """Return a column as numbers, all NaN where the record lacks it."""
        if column not in self.columns:
            return np.full(len(self), np.nan)
        return np.asarray(self.columns[column], dtype=float)

    @classmethod
    def empty(cls, name: str, about: About | None = None) -> LossRecord:
        """Return a record to append to."""
        return cls(name, {column: [] for column in STEP_COLUMNS}, about or About())

    def append(self, report: StepReport, **probes: float) -> None:
        """Add one step.

        Args:
            report: the step.
            probes: values of further columns measured after it.
        """
        if self._average is None:
            self._average = RunningAverage(smoothing_window(report.steps))
            for loss in self.loss:  # of a run that goes on
                self._average.add(loss)
        if not getattr(report, "finite", True):
            probes["not_finite"] = 1
        values = {name: float(getattr(report, name, math.nan)) for name in STEP_COLUMNS}
        values["step"], values["epoch"] = report.step, report.epoch
        values["smoothed"] = self._average.add(report.loss)
        for column in probes:
            if column not in self.columns:
                self.columns[column] = [math.nan] * len(self)
        for column, entries in self.columns.items():
            entries.append(probes.get(column, values.get(column, math.nan)))

    def restore(self, columns: Mapping[str, Sequence[float]], about: Mapping[str, Any]) -> None:
        """Take over the columns of a run that was stopped, to append to them.

        Args:
            columns: its columns.
            about: what was known of it, as plain values; what this run knows comes first.
        """
        self.columns = {name: list(values) for name, values in columns.items()}
        self.about = About.from_dict({**about, **self.about.to_dict()})
        self._average = None

    def last(self, column: str) -> float:
        """Return the newest number in a column, NaN where it has none."""
        values = reversed(self.columns.get(column, ()))
        return next((value for value in values if not math.isnan(value)), math.nan)

    def last_row(self) -> dict[str, float]:
        """Return the newest value of every column."""
        return {column: values[-1] for column, values in self.columns.items()}

    def to_loss_map(self) -> dict[str, Any]:
        """Return the host's LOSS_MAP: a dict with ``loss``, and our columns beside it."""
        columns = {key: list(values) for key, values in self.columns.items()}
        return {"name": self.name, "about": self.about.to_dict(), **columns}

    @classmethod
    def from_loss_map(cls, loss_map: Mapping[str, Any], name: str = "run") -> LossRecord:
        """Read a LOSS_MAP, ours or the host's own trainer's.

        Args:
            loss_map: a dict with ``loss``, a list of numbers.
            name: the legend where the map has none.

        Raises:
            RecordError: when there is no list of numbers called ``loss``.
        """
        loss = _numbers(loss_map.get("loss")) if isinstance(loss_map, Mapping) else None
        if loss is None:
            raise RecordError(
                "A LOSS_MAP needs a list of numbers called 'loss'; this one has none."
            )
        if not loss:
            raise RecordError("The LOSS_MAP is empty; train for at least one step.")
        columns: dict[str, list[float]] = {"step": list(range(1, len(loss) + 1)), "loss": loss}
        for column in filter(is_column, map(str, loss_map)):
            values = _numbers(loss_map[column])
            if values is not None and len(values) == len(loss):
                columns[column] = values
        about = About.from_dict(loss_map.get("about"))
        return cls(str(loss_map.get("name", name)), columns, about)

    def to_csv(self) -> str:
        """Return the record as CSV text with a header line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        for row in zip(*self.columns.values(), strict=True):
            writer.writerow(map(cell_text, self.columns, row))
        return text.getvalue()

    def to_json(self) -> str:
        """Return the record as JSON text; what is not finite is a word ("nan", "inf")."""
        columns = {
            name: [value if math.isfinite(value) else str(float(value)) for value in values]
            for name, values in self.columns.items()
        }
        about = self.about.to_dict()
        return json.dumps({"name": self.name, "about": about, "columns": columns})


def cell_text(column: str, value: float) -> str:
    """Return a CSV cell: empty where nothing was measured, but a lost loss is said."""
    if isinstance(value, int):
        return str(value)
    return "" if math.isnan(value) and column != "loss" else f"{value:.9g}"


def _numbers(values: Any) -> list[float] | None:
    """Return a list of plain numbers, or None where a value is none."""
    if isinstance(values, (str, bytes, Mapping)) or not isinstance(values, (Sequence, np.ndarray)):
        return None
    try:
        numbers = [one if isinstance(one, (int, float)) else float(one) for one in values]
        np.asarray(numbers, dtype=float)  # refuses a whole number that no float can hold
        return numbers
    except (TypeError, ValueError, OverflowError):
        return None


@dataclasses.dataclass(frozen=True)
class StepReport:
    """What one optimizer step did.

    Attributes:
        step: optimizer steps done, from 1.
        steps: optimizer steps in all.
        epoch: epoch the step's last batch belongs to, from 1.
        loss: mean loss over the step's samples.
        learning_rate: of the UNet at this step; NaN when it is left alone.
        grad_norm: norm of the LoRA's gradient before clipping.
        seconds: wall time of the step.
        lora_norm: L2 norm of the up factors before the step; they start at zero, so it says how
            far training has moved the model.
        peak_memory_mb: most memory in use so far, in MiB; NaN where it is not known.
        text_encoder_lr: of the text encoders at this step; NaN when they are left alone.
        finite: whether loss and gradient were finite numbers; where not, nothing was changed.
        skipped: whether fp16's loss scale skipped the update: the gradient was out of its range.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    learning_rate: float
    grad_norm: float
    seconds: float
    lora_norm: float = math.nan
    peak_memory_mb: float = math.nan
    text_encoder_lr: float = math.nan
    finite: bool = True
    skipped: bool = False
