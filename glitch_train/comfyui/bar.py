"""A workflow's progress on a terminal: what runs, how far it is, the loss."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from .events import Event, Executing, Progress, ProgressText

FORMAT = "{desc} {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_LOSS = re.compile(r"loss [^ ·]+")

Phase = Callable[[str, int], tuple[str, bool] | None]
"""(node, its number of steps) → what its bar is called, and whether the bar stays when it ends."""


class WorkflowBar:
    """Shows a workflow's events: a line for each node of interest, one bar for what takes long."""

    def __init__(
        self,
        phase: Phase,
        *,
        refresh_s: float = 0.2,
        say: Callable[[str], None] | None = None,
        titles: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        """Show nothing yet.

        Args:
            phase: What a node's bar is called; None for none.
            refresh_s: How often the bar is drawn at most, in seconds.
            say: Writes one line.
            titles: Lines by node id, said when the node begins.
            quiet: Show nothing at all.
        """
        self._phase = phase
        self._refresh_s = refresh_s
        self._say = say or (lambda line: None)
        self._titles = titles or {}
        self._quiet = quiet
        self._bar: Any = None
        self._shown = ("", 0)
        self._loss = ""

    def __enter__(self) -> WorkflowBar:
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
                self._loss = ""
                if node in self._titles and not self._quiet:
                    self._say(self._titles[node])
            case Progress(node, value, maximum) if maximum > 1:
                shown = self._phase(node, int(maximum))
                if shown:
                    self._show(int(value), int(maximum), *shown)
            case ProgressText(_, text) if (found := _LOSS.search(text)) is not None:
                self._loss = found[0]

    def _show(self, step: int, steps: int, name: str, stays: bool) -> None:
        from tqdm import tqdm

        if self._bar is None or self._shown != (name, steps):
            self._close()
            self._shown = (name, steps)
            self._bar = tqdm(
                total=steps,
                desc=name,
                mininterval=self._refresh_s,
                dynamic_ncols=True,
                bar_format=FORMAT,
                leave=stays,
                disable=self._quiet,
            )
        if self._loss:
            self._bar.set_postfix_str(self._loss, refresh=stays and step >= steps)
        self._bar.update(step - self._bar.n)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None
