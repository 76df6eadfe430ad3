"""Files that are held when a run wants to write them: on Windows they cannot be replaced."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from runs import Counted, going_on, make_run, stop_after, weights
from safetensors.torch import load_file
from windows_rules import windows_rules

from glitch_train import files
from glitch_train.errors import DiskError
from glitch_train.losses.read import read_csv, read_json
from glitch_train.training.run import files as run_files
from glitch_train.training.run.run import TrainingRun
from glitch_train.training.run.samples import Sampling
from glitch_train.training.run.state import load_state

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc"),
]

SETTINGS = {"steps": 40, "probe_every": 0, "save_precision": "fp32"}


@pytest.fixture(autouse=True)
def _on_windows(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    with windows_rules():
        yield


def follow(run: TrainingRun, steps: int) -> Iterator:
    """Follow a run for some steps; return what is left of it."""
    events = run.events()
    while len(run.record) < steps:
        next(events)
    return events


def test_a_stopped_run_saves_again(tmp_path: Path, folder: Path) -> None:
    """Catches optimizer tensors that stay mapped to the state they came from."""
    whole = going_on(tmp_path / "whole", folder)
    list(whole.events())
    for stop in (3, 7):
        stop_after(going_on(tmp_path / "parts", folder, save_every=12), stop)
    last = going_on(tmp_path / "parts", folder, save_every=12)
    list(last.events())
    assert weights(last.lora_path) == weights(whole.lora_path)
    assert last.record.about.notes == []
    assert load_state(last.paths.state)["training"]["step"] == 12


def test_a_lora_in_use_is_saved_beside(tmp_path: Path, folder: Path) -> None:
    """Catches a session lost because the host keeps the LoRA of the one before mapped."""
    stop_after(make_run(tmp_path, folder, Counted(), **SETTINGS), 2)
    run = make_run(tmp_path, folder, Counted(), "must", **SETTINGS | {"steps": 6})
    tried = load_file(run.paths.lora)
    before = run.paths.lora.read_bytes()
    list(run.events())
    assert run.paths.lora.read_bytes() == before
    assert run.lora_path.name == "glitch_lora_00001_2.safetensors"
    whole = make_run(tmp_path / "whole", folder, Counted(), **SETTINGS | {"steps": 6})
    list(whole.events())
    assert weights(run.lora_path) == weights(whole.lora_path)
    (note,) = read_json(run.paths.losses.with_suffix(".json")).about.notes
    assert note.startswith("glitch_lora_00001.safetensors is in use by a program")
    assert str(run.lora_path) in note
    del tried


def test_two_saves_of_a_session_make_one_file_beside(tmp_path: Path, folder: Path) -> None:
    """Catches one more file with every sample."""
    stop_after(make_run(tmp_path, folder, Counted(), **SETTINGS), 1)
    sampled = {"steps": 4, "sample_every": 1, "sample_steps": 1, "sample_prompts": "a"}
    run = make_run(tmp_path, folder, Counted(), "must", **SETTINGS | sampled)
    tried = load_file(run.paths.lora)
    list(run.events())
    names = sorted(path.name for path in run.paths.lora.parent.glob("*.safetensors"))
    assert names == ["glitch_lora_00001.safetensors", "glitch_lora_00001_2.safetensors"]
    assert len(run.record.about.notes) == 1
    del tried


@pytest.mark.parametrize("steps", [None, 4], ids=["cancelled", "finished"])
def test_a_lora_that_cannot_be_saved_does_not_cost_the_state(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None
) -> None:
    """Catches a session lost with its LoRA, and a finished run that never gets one."""
    settings = SETTINGS | ({"steps": steps} if steps else {})
    run = make_run(tmp_path, folder, Counted(), **settings)
    events = follow(run, 3)
    monkeypatch.setattr(run_files, "save_lora", _refuse)
    with pytest.raises(DiskError, match="no room"):
        list(events) if steps else events.close()
    monkeypatch.undo()
    assert load_state(run.paths.state)["training"]["step"] == len(run.record)
    again = make_run(tmp_path, folder, Counted(), "must", **settings | {"steps": 4})
    list(again.events())
    whole = make_run(tmp_path / "whole", folder, Counted(), **settings | {"steps": 4})
    list(whole.events())
    assert weights(again.lora_path) == weights(whole.lora_path)
    assert again.record.steps == [1, 2, 3, 4]


def _refuse(*_: object) -> None:
    raise DiskError("There is no room.")


@pytest.mark.parametrize("until_end", [False, True], ids=["for a while", "until the end"])
def test_losses_in_use_do_not_end_a_training(tmp_path: Path, folder: Path, until_end: bool) -> None:
    """Catches a training ended by a spreadsheet, rows lost without a word, or one never let go."""
    stop_after(make_run(tmp_path, folder, Counted(), **SETTINGS), 2)
    run = make_run(tmp_path, folder, Counted(), "must", **SETTINGS | {"steps": 8})
    both = run.paths.losses, run.paths.losses.with_suffix(".json")
    with contextlib.ExitStack() as programs:
        for path in both:
            programs.enter_context(path.open("rb"))
        events = follow(run, 5)
        if until_end:
            list(events)
    list(events)
    assert run.lora_path.is_file()
    if until_end:
        assert [note.split()[0] for note in run.record.about.notes] == [one.name for one in both]
        assert len(read_csv(both[0])) == 2
    else:
        assert run.record.about.notes == []
        assert [len(read_csv(both[0])), len(read_json(both[1]))] == [8, 8]


def test_a_strip_in_use_does_not_cost_the_samples(tmp_path: Path, folder: Path) -> None:
    """Catches pictures called missing because a viewer shows the strip of them."""
    sampled = {"steps": 4, "sample_every": 1, "sample_steps": 1, "sample_prompts": "a"}
    run = make_run(tmp_path, folder, Counted(), **SETTINGS | sampled)
    events = run.events()
    while not (isinstance(event := next(events), Sampling) and event.step == 1):
        pass
    with run.paths.strip.open("rb"):
        list(events)
    assert run.record.about.samples_missing == []
    assert len(list(run.paths.samples.glob("step*.png"))) == 5
    (note,) = run.record.about.notes
    assert note.startswith("strip.png is in use")


def test_a_state_in_use_on_the_way_does_not_end_a_training(tmp_path: Path, folder: Path) -> None:
    """Catches a training ended by a scanner that reads the state for longer than a second."""
    run = make_run(tmp_path, folder, Counted(), **SETTINGS | {"steps": 6, "save_every": 2})
    events = follow(run, 3)
    with run.paths.state.open("rb"):
        while len(run.record) < 5:
            next(events)
    list(events)
    assert load_state(run.paths.state)["training"]["step"] == 6


def test_a_state_in_use_at_the_end_does_not_end_a_training(tmp_path: Path, folder: Path) -> None:
    """Catches a finished training called failed because its state could not be removed."""
    stop_after(make_run(tmp_path, folder, Counted(), **SETTINGS | {"steps": 4}), 2)
    run = make_run(tmp_path, folder, Counted(), "must", **SETTINGS | {"steps": 4})
    events = follow(run, 3)
    with run.paths.state.open("rb"):
        list(events)
    assert run.lora_path.is_file()
    (note,) = run.record.about.notes
    assert note.startswith("state.pt is in use")
    assert read_json(run.paths.losses.with_suffix(".json")).about.notes == [note]
