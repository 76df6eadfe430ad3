"""Going on: byte for byte what an uninterrupted run gives, however the first part ended."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
import torch
from runs import RESUMED, STEPS, Counted, going_on, make_run, start, stop_after, weights
from tiny_checkpoint import process_environment

from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import TrainingError
from glitch_train.lora.file import read_metadata
from glitch_train.losses.read import read_csv
from glitch_train.losses.record import LossRecord, StepReport
from glitch_train.model.noise_schedule import zero_terminal_alphas
from glitch_train.recipe.recipe import Recipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.run.endings import RunProgress
from glitch_train.training.run.folder import choose_run
from glitch_train.training.run.run import TrainingRun
from glitch_train.training.run.state import load_state, save_state

pytestmark = pytest.mark.slow


@pytest.fixture
def uninterrupted(tmp_path: Path, folder: Path) -> TrainingRun:
    """A run that was left alone."""
    run = going_on(tmp_path / "whole", folder)
    list(run.events())
    return run


@pytest.mark.parametrize(
    ("stops", "train_text_encoder"),
    [((1,), False), ((3, 4, 11), False), ((5,), True)],
    ids=["once", "three times", "with text encoder"],
)
def test_cancelled_and_continued_equals_uninterrupted(
    tmp_path: Path,
    folder: Path,
    stops: tuple[int, ...],
    train_text_encoder: bool,
) -> None:
    """Catches a generator, optimizer, schedule or position that is not restored."""
    settings = {"train_text_encoder": train_text_encoder, "text_encoder_lr": 1e-3}
    whole = going_on(tmp_path / "whole", folder, **settings)
    list(whole.events())
    for stop in stops:
        stop_after(going_on(tmp_path / "parts", folder, **settings), stop)
    last = going_on(tmp_path / "parts", folder, **settings)
    list(last.events())
    assert last.paths.name == "glitch_lora_00001"
    assert weights(last.paths.lora) == weights(whole.paths.lora)
    assert read_metadata(last.paths.lora)["ss_steps"] == str(STEPS)
    one, two = (read_csv(run.paths.losses).columns for run in (whole, last))
    for column in ("step", "loss", "smoothed", "learning_rate", "grad_norm", "epoch"):
        assert one[column] == two[column], column
    assert str(one["probe_loss"]) == str(two["probe_loss"])  # with its gaps


def test_a_host_under_inference_mode_goes_on_too(tmp_path: Path, folder: Path) -> None:
    """Catches optimizer moments read as inference tensors, which no step can change."""
    stop_after(going_on(tmp_path, folder), 3)
    last = going_on(tmp_path, folder)
    with torch.inference_mode():
        list(last.events())
    assert read_metadata(last.paths.lora)["ss_steps"] == str(STEPS)


@pytest.mark.parametrize(
    "network",
    [
        {"network_type": "dora", "conv_dim": 2},
        {"network_type": "rslora", "conv_dim": 2, "unet_blocks": "up"},
        {"unet_layers": "feed_forward"},
    ],
    ids=["dora", "rslora", "feed-forward"],
)
def test_every_network_type_goes_on(tmp_path: Path, folder: Path, network: dict) -> None:
    """Catches a magnitude or convolution that is not part of the state."""
    whole = going_on(tmp_path / "whole", folder, **network)
    list(whole.events())
    stop_after(going_on(tmp_path / "parts", folder, **network), 5)
    last = going_on(tmp_path / "parts", folder, **network)
    assert last.paths.name == "glitch_lora_00001"
    list(last.events())
    assert weights(last.paths.lora) == weights(whole.paths.lora)


FORKING = """
import os, sys
from pathlib import Path
import peft
import torch; torch.set_num_threads(1)
from diffusers import UNet2DConditionModel
from runs import going_on
for _ in sys.stdin:
    child = os.fork()
    if not child:
        print(os.getpid(), flush=True)
        for _ in going_on(Path({place!r}), Path({folder!r}), save_every=1).events():
            print("event", flush=True)
        print("done", flush=True)
        os._exit(0)
    os.waitpid(child, 0)
    print("ended", flush=True)
"""
"""Trains in a new process for each line it reads; only the first one has to import torch."""


@pytest.mark.not_on_windows(reason="kills by SIGKILL")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="without fork, each process takes many seconds")
def test_killed_at_random_moments_equals_uninterrupted(
    tmp_path: Path,
    folder: Path,
) -> None:
    """Catches a half-written state or LoRA: ten kills -9, most of them while saving."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    whole = going_on(tmp_path / "whole", folder)
    list(whole.events())
    torch.set_num_threads(threads)
    code = FORKING.format(place=str(tmp_path / "parts"), folder=str(folder))
    chance = random.Random(0)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "env": process_environment()}
    with subprocess.Popen([sys.executable, "-c", code], text=True, **pipes) as forking:
        for _ in range(10):
            print(file=forking.stdin, flush=True)
            child = int(forking.stdout.readline())
            said = iter(forking.stdout.readline, "ended\n")
            for _ in zip(range(chance.randint(1, 9)), said, strict=False):
                pass
            time.sleep(chance.uniform(0, 0.03))
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            for _ in said:
                pass
        print(file=forking.stdin, flush=True)
        done = forking.communicate()[0].splitlines()
    assert done[-2:] == ["done", "ended"]
    loras = sorted((tmp_path / "parts" / "loras").glob("*.safetensors"))
    assert weights(loras[-1]) == weights(whole.paths.lora)


def test_snapshots_are_kept(tmp_path: Path, folder: Path) -> None:
    """Catches snapshots that overwrite each other, or are of the wrong step."""
    run = going_on(tmp_path, folder, save_every=5)
    list(run.events())
    kept = sorted(path.name for path in run.paths.snapshot(0).parent.iterdir())
    assert kept == ["glitch_lora_00001_step000005.safetensors",
                    "glitch_lora_00001_step000010.safetensors"]  # fmt: skip
    assert read_metadata(run.paths.snapshot(5))["ss_steps"] == "5"
    assert run.record.about.snapshots == [5, 10]


def test_marks_of_snapshots_outlive_a_stop(tmp_path: Path, folder: Path) -> None:
    """Catches a graph that shows only the snapshots since the last stop."""
    for stop in (3, 5):
        stop_after(going_on(tmp_path, folder, save_every=2), stop)
    last = going_on(tmp_path, folder, save_every=2)
    list(last.events())
    assert last.record.about.snapshots == [2, 4, 6, 8, 10, 12]


def test_a_state_without_marks_goes_on(tmp_path: Path, folder: Path) -> None:
    """Catches a state of before they were kept that ends in a KeyError."""
    first = going_on(tmp_path, folder, save_every=2)
    stop_after(first, 3)
    state = torch.load(first.paths.state, weights_only=True)
    del state["about"]
    torch.save(state, first.paths.state)
    last = going_on(tmp_path, folder, save_every=2)
    list(last.events())
    assert last.paths.name == first.paths.name
    assert last.record.about.snapshots == [4, 6, 8, 10, 12]
    assert last.record.about.family == "SD1.5"


def test_a_finished_run_goes_on_when_steps_are_raised(
    tmp_path: Path,
    folder: Path,
) -> None:
    """Catches overtraining that has to start from nothing."""
    settings = {"lr_scheduler": "constant", "save_every": 100}
    list(going_on(tmp_path, folder, **settings).events())
    longer = going_on(tmp_path, folder, **settings, steps=STEPS + 3)
    steps = [e.step for e in longer.events() if isinstance(e, StepReport)]
    assert steps == [13, 14, 15]
    again = going_on(tmp_path, folder, **settings, steps=STEPS + 3)
    assert again.paths.name == "glitch_lora_00002"


def test_a_finished_run_leaves_no_state(
    tmp_path: Path, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Catches gigabytes left behind by every run; and one that begins anew without a word."""
    stop_after(going_on(tmp_path, folder), 3)
    run = going_on(tmp_path, folder)
    assert run.paths.state.is_file()
    list(run.events())
    assert run.paths.lora.is_file()
    assert not run.paths.state.exists()
    assert going_on(tmp_path, folder).paths.name == "glitch_lora_00002"
    assert "is finished" not in caplog.text
    longer = going_on(tmp_path, folder, steps=STEPS + 3)
    assert longer.paths.name == "glitch_lora_00003"
    assert "glitch_lora_00001 is finished and kept no state" in caplog.text


def test_a_state_is_written_once_a_step(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches gigabytes written twice where a snapshot, samples and the end fall on one step."""
    written = []

    def counted(path: Path, training, *args: object, **kwargs: object) -> None:
        written.append(training.step)
        save_state(path, training, *args, **kwargs)

    monkeypatch.setattr("glitch_train.training.run.files.save_state", counted)
    settings = {"save_every": 2, "sample_every": 2, "sample_steps": 1, "sample_prompts": "a"}
    stop_after(going_on(tmp_path, folder, **settings), 4)
    assert written == [2, 4]
    assert load_state(tmp_path / "runs" / "glitch_lora_00001" / "state.pt")["training"]["step"] == 4


def test_a_state_is_not_built_in_memory(tmp_path: Path) -> None:
    """Catches a second copy of LoRA and moments beside the first while they are written."""
    training = start(tmp_path / "cache", network_dim=128, steps=1)
    list(training)
    path = tmp_path / "state.pt"
    tracemalloc.start()
    save_state(path, training, LossRecord.empty("a"), RunProgress(1), material="m", base="b")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < path.stat().st_size / 4


def test_other_settings_begin_a_new_run(tmp_path: Path, folder: Path) -> None:
    """Catches a run that goes on with another learning rate than it began with."""
    stop_after(going_on(tmp_path, folder), 3)
    assert going_on(tmp_path, folder, learning_rate=1e-5).paths.name == "glitch_lora_00002"
    assert going_on(tmp_path, folder, resume="never").paths.name != "glitch_lora_00001"


@pytest.mark.parametrize("other", ["weights", "prediction", "noise schedule"])
def test_another_base_begins_a_new_run(tmp_path: Path, folder: Path, other: str) -> None:
    """Catches a LoRA that goes on upon another checkpoint, or another sampling, than it began."""
    stop_after(going_on(tmp_path, folder), 3)
    run = make_run(tmp_path, folder, Counted(), **RESUMED)
    base = run.setup.base
    if other == "weights":
        base.unet.conv_out.weight.data *= 1.01
    elif other == "prediction":
        base.prediction_type = "v_prediction"
    else:
        base.alphas_cumprod = zero_terminal_alphas()
    paths = choose_run(run.recipe, "auto", base.key, tmp_path / "runs", tmp_path / "loras")
    assert paths.name != "glitch_lora_00001"


def test_must_refuses_to_begin(tmp_path: Path) -> None:
    """Catches a long training lost because a new one began in its place."""
    recipe = Recipe(DatasetRecipe(), TrainRecipe())
    with pytest.raises(TrainingError, match="no unfinished run of 'glitch_lora'"):
        choose_run(recipe, "must", "base", tmp_path / "runs", tmp_path / "loras")


def test_changed_pictures_are_noticed(tmp_path: Path, folder: Path) -> None:
    """Catches a position in a list of pictures that is not the same list any more."""
    stop_after(going_on(tmp_path, folder), 3)
    (folder / "a.txt").write_text("another caption")
    with pytest.raises(TrainingError, match="changed since glitch_lora_00001 was stopped"):
        list(going_on(tmp_path, folder).events())


def test_a_damaged_state_is_one_sentence(tmp_path: Path) -> None:
    """Catches a pickle being run, or a traceback."""
    path = tmp_path / "state.pt"
    path.write_bytes(b"not a state")
    with pytest.raises(TrainingError, match="cannot be read.*set resume to never"):
        load_state(path)


def test_a_state_that_cannot_be_opened_is_not_called_damaged(tmp_path: Path) -> None:
    """Catches the advice to begin anew where the run's state is whole."""
    path = tmp_path / "state.pt"
    path.mkdir()  # what not even root can open as a file
    with pytest.raises(TrainingError, match="^Cannot read the state "):
        load_state(path)
