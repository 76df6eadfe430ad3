"""A disk that is full: found before training where it can be, and no whole file is lost."""

from __future__ import annotations

import contextlib
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from runs import Counted, make_run, start, stop_after, weights

from glitch_train.errors import DiskError, TrainingError
from glitch_train.files import check_space
from glitch_train.losses.record import LossRecord
from glitch_train.recipe.train import OPTIMIZERS
from glitch_train.training.optim import state_bytes
from glitch_train.training.run.endings import RunProgress
from glitch_train.training.run.state import load_state, save_state

pytestmark = pytest.mark.slow

SETTINGS = {"steps": 40, "probe_every": 0, "network_dim": 16, "save_precision": "fp32"}
KB = 1000


@contextlib.contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """Let the system refuse to write past so many bytes of a file, as a full disk does."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_two_folders_of_one_disk_share_its_room(tmp_path: Path) -> None:
    """Catches each folder being compared alone, or one that does not exist yet."""
    free = shutil.disk_usage(tmp_path).free
    check_space({tmp_path / "a" / "b": free // 3, tmp_path / "c": free // 3}, "buy one")
    with pytest.raises(DiskError, match=r"would write .* GB to .*a.* and .*c.*free; buy one\."):
        check_space({tmp_path / "a" / "b": free * 2 // 3, tmp_path / "c": free * 2 // 3}, "buy one")


def test_a_run_that_will_not_fit_is_refused(tmp_path: Path, folder: Path) -> None:
    """Catches a disk that fills up after hours: 10 million snapshots have no room anywhere."""
    run = make_run(tmp_path, folder, Counted(), steps=10_000_000, save_every=1, network_dim=64)
    with pytest.raises(DiskError, match="would write .* TB .* free; free space, raise save_every"):
        list(run.events())
    assert len(run.record) == 0


def test_how_many_snapshots_there_will_be(tmp_path: Path, folder: Path) -> None:
    """Catches a run refused for snapshots that its stop_at rule may never let it make."""
    settings = {"steps": 10_000_000, "save_every": 1, "network_dim": 64, "stop_at_epochs": 1}
    run = make_run(tmp_path, folder, Counted(), **settings)
    list(run.events())
    assert run.record.about.ended.rule == "stop_at_epochs"


@pytest.mark.parametrize("optimizer", sorted({*OPTIMIZERS} - {"AdamW8bit"}))
def test_the_estimate_is_near_the_file(tmp_path: Path, optimizer: str) -> None:
    """Catches an optimizer whose state is larger than what is reckoned with."""
    training = start(tmp_path, optimizer=optimizer, network_dim=64, steps=1)
    list(training)
    path = tmp_path / "state.pt"
    save_state(path, training, LossRecord.empty("a"), RunProgress(1), material="m", base="b")
    numbers = sum(parameter.numel() for parameter in training.parameters)
    expected = 4 * numbers + state_bytes(optimizer, [value.shape for value in training.parameters])
    assert path.stat().st_size == pytest.approx(expected, rel=0.15)


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_state_that_breaks_off_leaves_the_old_one(tmp_path: Path) -> None:
    """Catches a half-written state in the place of a whole one, or a part left lying about."""
    training = start(tmp_path / "cache")
    path = tmp_path / "state.pt"
    what = {"material": "m", "base": "b"}
    save_state(path, training, LossRecord.empty("a"), RunProgress(0), **what)
    training.train_step()
    with files_end_at(30 * KB), pytest.raises(DiskError, match="state.pt: File too large"):
        save_state(path, training, LossRecord.empty("a"), RunProgress(1), **what)
    assert load_state(path)["training"]["step"] == 0
    assert [one.name for one in tmp_path.iterdir() if one.is_file()] == ["state.pt"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_run_keeps_its_last_whole_files(tmp_path: Path, folder: Path) -> None:
    """Catches a LoRA cut short, a traceback, or a run that cannot go on once there is room."""
    stop_after(make_run(tmp_path, folder, Counted(), **SETTINGS), 2)
    second = make_run(tmp_path, folder, Counted(), "must", **SETTINGS)
    before = second.paths.lora.read_bytes(), second.paths.state.read_bytes()
    events = second.events()
    while len(second.record) < 4:
        next(events)
    with files_end_at(30 * KB), pytest.raises(DiskError, match="safetensors: .*File too large"):
        events.close()
    assert (second.paths.lora.read_bytes(), second.paths.state.read_bytes()) == before
    settings = SETTINGS | {"steps": 6}
    third = make_run(tmp_path, folder, Counted(), "must", **settings)
    list(third.events())
    whole = make_run(tmp_path / "whole", folder, Counted(), **settings)
    list(whole.events())
    assert weights(third.paths.lora) == weights(whole.paths.lora)
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_losses_that_cannot_be_written_do_not_cost_the_lora(
    tmp_path: Path,
    folder: Path,
) -> None:
    """Catches a full disk under the run folder taking the LoRA on another disk with it."""
    run = make_run(tmp_path, folder, Counted(), **SETTINGS)
    events = run.events()
    while len(run.record) < 3:
        next(events)
    run.paths.losses.with_suffix(".json").mkdir()  # cannot be replaced by a file
    with pytest.raises(DiskError, match=r"losses\.json"):
        for _ in events:
            pass
    assert run.paths.lora.is_file()
    assert torch.load(run.paths.state, weights_only=True)["training"]["step"] >= 3


@pytest.mark.parametrize("content", [[1, 2], {"version": 1}, {"version": 1, "training": {}}, 5])
def test_a_file_that_is_no_state(tmp_path: Path, content: object) -> None:
    """Catches the traceback of a state that another file took the place of."""
    torch.save(content, tmp_path / "state.pt")
    with pytest.raises(TrainingError, match="holds no state of a run; set resume to never"):
        load_state(tmp_path / "state.pt")
