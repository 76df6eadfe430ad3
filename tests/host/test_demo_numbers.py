"""What README says of `make demo`: from the record beside its pictures, and from a run today."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glitch_demo.__main__ import WORKFLOW
from glitch_demo.host import REPO_ROOT, Host
from glitch_demo.material import place_pictures
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.graph import load_graph, nodes_of
from glitch_train.comfyui.overrides import with_overrides
from glitch_train.losses.read import read_record
from glitch_train.losses.verdict.diagnose import diagnose
from glitch_train.losses.verdict.text import verdict_rows
from glitch_train.wording import number

KEPT = REPO_ROOT / "docs" / "images" / "demo_losses.csv"
"""The record of the run whose pictures README shows."""

FIRST = 3
"""Steps that are trained anew: no setting of the demo depends on how many there are."""


def test_readme_says_what_the_kept_record_says() -> None:
    """Catches a curve or verdict in README that is another run's."""
    readme = (REPO_ROOT / "README.md").read_text("utf-8")
    shown = re.search(r"curve of that run, ([\d.]+ → [\d.]+): too short to tell", readme)
    verdict = diagnose(read_record(KEPT))
    ends = (number(verdict.levels.evidence[end]) for end in ("start", "final"))
    assert shown
    assert shown[1] == " → ".join(ends)
    states = {row[0]: row[1] for row in verdict_rows(verdict)}
    assert states["Convergence"] == "Too short to tell"
    assert states["Underfitting"] == "No"
    assert states["Overfitting"] == "Cannot be told"


@pytest.mark.host
@pytest.mark.slow
def test_the_demo_trains_as_the_kept_record(client: ComfyClient, host: Host) -> None:
    """Catches a recipe, pictures or training that changed since README's pictures were made."""
    graph = load_graph(WORKFLOW)
    place_pictures(host.base_dir, None)
    graph = with_overrides(graph, [f"steps={FIRST}"], client.object_info())
    drawn = {*nodes_of(graph, "SaveImage"), *nodes_of(graph, "GlitchContactSheet")}
    graph = {node: entry for node, entry in graph.items() if node not in drawn}
    outputs = client.run(graph)
    (trainer,) = nodes_of(graph, "GlitchLoraTrainer")
    name = Path(outputs[trainer]["text"][0]).stem
    today = read_record(host.base_dir / "output" / "glitch" / name / "losses.csv")
    kept = read_record(KEPT)
    assert len(kept) == 60
    for column, rows in (("loss", FIRST), ("learning_rate", FIRST), ("train_probe_loss", 1)):
        # What a sum loses to rounding differs by machine and by number of threads.
        expected = pytest.approx(kept.array(column)[:rows], rel=0.02)
        assert today.array(column)[:rows] == expected, column
