"""The loss record of a run: written while it trains, read back for graphs."""

from __future__ import annotations

import csv
import dataclasses
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from .errors import RecordError

if TYPE_CHECKING:
    from .train import StepReport

COLUMNS = ("step", "loss", "learning_rate", "grad_norm", "epoch", "seconds")


@dataclasses.dataclass
class LossRecord:
    """What a run left behind, one entry per optimizer step.

    Attributes:
        name: the run's name, for legends.
        columns: column name to values, all equally long; ``step`` and ``loss`` are always there.
    """

    name: str
    columns: dict[str, list[float]]

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

    @classmethod
    def empty(cls, name: str) -> LossRecord:
        """Return a record to append to."""
        return cls(name, {column: [] for column in COLUMNS})

    def append(self, report: StepReport) -> None:
        """Add one step."""
        for column in COLUMNS:
            self.columns[column].append(getattr(report, column))

    def to_loss_map(self) -> dict[str, Any]:
        """Return the host's LOSS_MAP: a dict with ``loss``, and our columns beside it."""
        return {"name": self.name, **{key: list(values) for key, values in self.columns.items()}}

    @classmethod
    def from_loss_map(cls, loss_map: Mapping[str, Any], name: str = "run") -> LossRecord:
        """Read a LOSS_MAP, ours or the host's own trainer's.

        Args:
            loss_map: a dict with ``loss``, a list of numbers.
            name: the legend where the map has none.

        Raises:
            RecordError: when there is no list of numbers called ``loss``.
        """
        loss = loss_map.get("loss") if isinstance(loss_map, Mapping) else None
        if not isinstance(loss, Sequence) or not all(isinstance(v, (int, float)) for v in loss):
            raise RecordError(
                "A LOSS_MAP needs a list of numbers called 'loss'; this one has none."
            )
        if not loss:
            raise RecordError("The LOSS_MAP is empty; train for at least one step.")
        columns = {"step": list(range(1, len(loss) + 1))} | {
            column: list(loss_map[column])
            for column in COLUMNS
            if isinstance(loss_map.get(column), Sequence) and len(loss_map[column]) == len(loss)
        }
        return cls(str(loss_map.get("name", name)), columns)

    def to_csv(self) -> str:
        """Return the record as CSV text with a header line."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows(zip(*self.columns.values(), strict=True))
        return text.getvalue()

    @classmethod
    def from_csv(cls, path: Path) -> LossRecord:
        """Read a CSV with at least the columns ``step`` and ``loss``.

        Raises:
            RecordError: when the file or one of the two columns is missing.
        """
        try:
            with path.open(encoding="utf-8-sig", newline="") as opened:
                rows = list(csv.DictReader(opened))
        except OSError as error:
            raise RecordError(f"Cannot read {path}: {error.strerror}.") from error
        if not rows or not {"step", "loss"} <= set(rows[0]):
            raise RecordError(f"{path} needs a header with the columns step and loss.")
        columns = {
            column: [_number(row.get(column)) for row in rows]
            for column in COLUMNS
            if column in rows[0]
        }
        return cls(path.parent.name or path.stem, columns)


class RecordWriter:
    """Appends steps to a CSV file that can be read while training goes on."""

    def __init__(self, path: Path) -> None:
        """Create the file with its header."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: TextIO = path.open("w", encoding="utf-8", newline="")
        self._file.write(",".join(COLUMNS) + "\n")
        self._file.flush()

    def append(self, report: StepReport) -> None:
        """Write one step; the line is handed to the system at once."""
        self._file.write(",".join(_cell(getattr(report, column)) for column in COLUMNS) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def smooth(values: Iterable[float], window: float) -> list[float]:
    """Return the debiased exponential moving average.

    Args:
        values: raw values; those that are not finite are passed over.
        window: time constant, in values.

    Returns:
        As many values. Source: Kingma & Ba 2015, the bias correction of Adam's moments.
    """
    decay = 1 - 1 / max(1.0, window)
    total = weight = 0.0
    smoothed = []
    for value in values:
        if math.isfinite(value):
            total = decay * total + (1 - decay) * value
            weight = decay * weight + (1 - decay)
        smoothed.append(total / weight if weight else math.nan)
    return smoothed


def smoothing_window(length: int) -> float:
    """Return a window for a run of that many steps: a twentieth of it, 2 to 200 steps."""
    return min(200.0, max(2.0, length / 20))


def _cell(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.9g}"


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return math.nan
