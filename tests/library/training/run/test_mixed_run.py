"""A whole run on several datasets: how long an epoch is, and that it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import Counted, make_run, stop_after
from tiny import picture

pytestmark = pytest.mark.slow


def test_an_epoch_has_each_folders_repeats(tmp_path: Path) -> None:
    """Catches a mix that is trained by the repeats of its first part, or not gone on with."""
    for name, colour in (("2_red", "red"), ("1_blue", "blue")):
        folder = tmp_path / "root" / name
        folder.mkdir(parents=True)
        picture(folder / "a.png", colour=colour)
    settings = {"steps": 5, "batch_size": 1, "save_every": 2}
    stop_after(make_run(tmp_path, tmp_path / "root", Counted(), **settings), 2)
    run = make_run(tmp_path, tmp_path / "root", Counted(), "must", **settings)
    list(run.events())
    assert run.record.columns["epoch"] == [1, 1, 1, 2, 2]
