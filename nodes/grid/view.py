"""What the Glitch Grid shows while it samples."""

from __future__ import annotations

from typing import Any

from PIL import Image

from ...glitch_train.grid.plan import GridPlan, Shot
from ...glitch_train.grid.sheet import paste_shot, preview_picture
from .. import host


class LiveGrid:
    """The node's bar, text line and growing picture."""

    def __init__(self, progress: host.NodeProgress, plan: GridPlan) -> None:
        """Show the plan's pictures, once they come, on the node behind ``progress``."""
        self._progress, self._plan = progress, plan
        self._shots = plan.shots()
        self._steps_before = [0]
        for shot in self._shots:
            self._steps_before.append(self._steps_before[-1] + shot.steps)
        self._picture = preview_picture(plan)
        self.say = progress.say

    def step(self, done: int, steps: int) -> None:
        """Move the bar; raises when the person pressed Cancel."""
        host.stop_if_interrupted()
        self._progress.show(self._steps_before[done] + steps, self._steps_before[-1])
        if steps == 0 or done == 0:
            self.say(f"picture {done + 1}/{len(self._shots)}")

    def add(self, shot: Shot, picture: Any) -> None:
        """Show a finished picture in its place."""
        paste_shot(self._picture, self._plan, shot, Image.fromarray(picture))
        done = self._shots.index(shot) + 1
        total = self._steps_before[-1]
        self._progress.show(self._steps_before[done], total, self._picture.image)
        self.say(f"picture {min(done + 1, len(self._shots))}/{len(self._shots)}")
