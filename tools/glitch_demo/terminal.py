"""What the demo shows in the terminal: lines for what begins, one bar for what takes long."""

import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from glitch_train.comfyui.bar import WorkflowBar

# A log file gets a line every ten seconds rather than ten lines every second.
REFRESH_S = 0.2 if sys.stderr.isatty() else 10.0


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


def training_bar(steps: Mapping[str, int], titles: Mapping[str, str]) -> WorkflowBar:
    """Return a bar for the nodes that train, and lines for others.

    Args:
        steps: Number of training steps by id, of the nodes that train.
        titles: Title by id, of the nodes whose beginning is worth a line.
    """

    def phase(node: str, maximum: int) -> tuple[str, bool] | None:
        """The trainer's preparations have a bar too, which goes when they end."""
        if node not in steps:
            return None
        is_training = maximum == steps[node]
        return ("  Training" if is_training else "  Encoding"), is_training

    lines = {node: f"  {title}" for node, title in titles.items()}
    return WorkflowBar(phase, refresh_s=REFRESH_S, say=say, titles=lines)
