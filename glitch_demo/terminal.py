"""What the demo shows in the terminal: lines for what begins, one bar for what takes long."""

import csv
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from glitch_train.comfy_events import Event, Executing, Progress

# A log file gets a line every ten seconds rather than ten lines every second.
REFRESH_S = 0.2 if sys.stderr.isatty() else 10.0
_TAIL_BYTES = 4096
_BAR = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


def say(line: str) -> None:
    """Write one line to the terminal.

    Args:
        line: Without its end.
    """
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


class StageBar:
    """One bar after another, for work that tells its stage and the fraction done."""

    def __init__(self, heading: str) -> None:
        """Show nothing yet.

        Args:
            heading: The line over the first bar, told only when there is work at all.
        """
        self._heading = heading
        self._bar: tqdm[Any] | None = None

    def __call__(self, stage: str, fraction: float) -> None:
        """Show how far a stage is.

        Args:
            stage: Its name; a new name begins a new bar.
            fraction: 0 to 1.
        """
        if self._heading:
            say(self._heading)
            self._heading = ""
        if self._bar is None or self._bar.desc != stage:
            self.close()
            self._bar = tqdm(
                total=100,
                desc=stage,
                mininterval=REFRESH_S,
                dynamic_ncols=True,
                bar_format="  {desc} {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]",
            )
        self._bar.update(max(0.0, 100 * fraction - self._bar.n))

    def close(self) -> None:
        """Leave the last bar as it is."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class TrainingBar:
    """Shows a workflow's events: a line for each node of interest, one bar for the training."""

    def __init__(
        self,
        steps: Mapping[str, int],
        titles: Mapping[str, str],
        newest_loss: Callable[[], float | None],
    ) -> None:
        """Show nothing yet.

        Args:
            steps: Number of training steps by id, of the nodes that train.
            titles: Title by id, of the nodes whose beginning is worth a line.
            newest_loss: Returns the last recorded loss, or None.
        """
        self.steps = steps
        self.titles = titles
        self.newest_loss = newest_loss
        self._bar: tqdm[Any] | None = None
        self._looked_at = 0.0

    def __enter__(self) -> "TrainingBar":
        """Return itself."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Leave the bar as it is and go to the next line."""
        self._close()

    def __call__(self, event: Event) -> None:
        """Show one event.

        Args:
            event: As it came from the client.
        """
        match event:
            case Executing(node):
                self._close()
                if node in self.titles:
                    say(f"  {self.titles[node]}")
            case Progress(node, value, maximum) if node in self.steps and maximum > 1:
                self._show(int(value), int(maximum), is_training=maximum == self.steps[node])

    def _show(self, step: int, steps: int, is_training: bool) -> None:
        """Move the bar; the trainer's preparations have one too, which goes when they end."""
        if self._bar is None or self._bar.total != steps:
            self._close()
            self._bar = tqdm(
                total=steps,
                desc="  Training" if is_training else "  Encoding",
                mininterval=REFRESH_S,
                dynamic_ncols=True,
                bar_format=_BAR,
                leave=is_training,
            )
        is_last = is_training and step >= steps
        if is_last or (is_training and time.monotonic() - self._looked_at > REFRESH_S):
            self._looked_at = time.monotonic()
            loss = self.newest_loss()
            if loss is not None:
                self._bar.set_postfix_str(f"loss {loss:.4f}", refresh=is_last)
        self._bar.update(step - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def last_loss(record: Path) -> float | None:
    """Return the loss in the last whole line of a record that is still being written.

    Args:
        record: A CSV file with a column `loss`.
    """
    try:
        with record.open("rb") as file:
            names = next(csv.reader([file.readline().decode()]), [])
            start = file.tell()
            file.seek(max(start, record.stat().st_size - _TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines(keepends=True)
    except OSError:
        return None
    for line in reversed(lines):
        values = line.rstrip().split(",")
        if line.endswith("\n") and len(values) == len(names) and "loss" in names:
            try:
                return float(values[names.index("loss")])
            except ValueError:
                continue
    return None
