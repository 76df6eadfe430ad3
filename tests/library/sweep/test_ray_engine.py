"""Orders for a Ray cluster before it is asked, and what it tells."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import TrainingError
from glitch_train.recipe.recipe import Recipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.sweep import ray_engine
from glitch_train.sweep.hostless import Made, Order, made_before, note_done
from glitch_train.sweep.ray_board import Row, view
from glitch_train.sweep.ray_engine import run_all
from glitch_train.sweep.ray_work import Share, brought, taken


def test_the_view_of_all_runs() -> None:
    """Catches runs that nobody hears of, and those that ended shown as if they went on."""
    rows = {
        "a": Row("one", 1, "loss 0.1000, step", 3, 9),
        "b": Row("two", 2, "measuring", 0, 0),
        "c": Row("one", 1, "measuring", 0, 0),
    }
    assert view(rows, dict.fromkeys("abd"), 5) == [
        "2 of 5 runs ended, 2 at work, 1 waiting.",
        "  a: loss 0.1000, step 3 of 9 (on one)",
        "  b: measuring (on two, worker 2)",
    ]
    assert view(rows, {}, 5) == ["5 of 5 runs ended, 0 at work."]


def test_one_name_for_two(tmp_path: Path) -> None:
    """Catches two runs that go on with each other's state."""
    order = Order(Recipe(DatasetRecipe(), TrainRecipe(output_name="same")))
    with pytest.raises(TrainingError, match="Two recipes have the output_name 'same'"):
        list(run_all([order, order], tmp_path))


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"recipe": {}, "lora": 1}'])
def test_a_damaged_note_is_no_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """Catches a traceback over a note that a full disk left in half."""
    (tmp_path / "a_00001").mkdir()
    (tmp_path / "a_00001" / "done.json").write_text(content)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(TrainingError, match="run pip install ray"):  # it would train again
        list(run_all([Order(Recipe(DatasetRecipe(), TrainRecipe(output_name="a")))], tmp_path))


def test_what_is_sent_arrives_under_a_free_name(tmp_path: Path) -> None:
    """Catches a file lost on its way, a LoRA written over, and a run that is done anew."""
    order = Order(Recipe(DatasetRecipe(), TrainRecipe(output_name="a")))
    there, here = tmp_path / "there", tmp_path / "here"
    made = Made(there / "a_00001.safetensors", there / "a_00001" / "losses.csv")
    (made.results / "base").mkdir(parents=True)
    made.lora.write_bytes(b"theirs")
    made.losses.write_text("step,loss\n")
    (made.results / "base" / "01.png").write_bytes(b"picture")
    note_done(order.recipe, made)
    here.mkdir()
    (here / "a_00001.safetensors").write_bytes(b"ours")
    arrived = brought(order, taken(made), here)
    assert not list(there.iterdir()), "nothing is left on the other machine"
    assert (here / "a_00001.safetensors").read_bytes() == b"ours"
    assert arrived.lora == here / "a_00002.safetensors"
    assert arrived.lora.read_bytes() == b"theirs"
    assert (arrived.results / "base" / "01.png").read_bytes() == b"picture"
    assert made_before(order, here) == arrived


@pytest.mark.parametrize("gpus", [-1.0, 1.5, float("nan"), float("inf")])
def test_gpus_that_no_machine_has(gpus: float) -> None:
    """Catches Ray's own traceback over a share that it does not take."""
    with pytest.raises(TrainingError, match="takes 0 GPUs, a fraction of one, or a whole number"):
        Share(gpus=gpus)
    assert Share(gpus=0.5).gpus == 0.5


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM")
def test_a_request_to_end_reaches_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches Ray's own handler, which ends the process before anything is told or written."""
    handlers: list[object] = []
    ray = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: signal.signal(signal.SIGTERM, lambda *_: handlers.append("Ray's")),
    )
    monkeypatch.setattr(ray_engine, "find_ray", lambda: ray)
    before = signal.signal(signal.SIGTERM, lambda *_: handlers.append("ours"))
    try:
        assert ray_engine._join(None) == (ray, True)
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert handlers == ["ours"]
