"""``glitch_train sweep --engine ray`` on a local Ray with two workers."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from train_verb import train

from glitch_train.cli.command import main
from glitch_train.errors import TrainingError
from glitch_train.lora.file import read_metadata
from glitch_train.losses.read import read_csv
from glitch_train.recipe.recipe import Recipe, read_recipe
from glitch_train.sweep import ray_engine
from glitch_train.sweep.hostless import Order
from glitch_train.sweep.ray_engine import run_all
from glitch_train.sweep.ray_work import Share

pytestmark = [
    pytest.mark.slow,
    pytest.mark.not_on_windows(reason="Ray on Windows is a beta, and absent for some Pythons"),
]

NAMES = ("sd15_standard", "random_crop_and_flip", "mismatched_base")
PROMPTS = "a red square\na blue square"
ONE_CORE = Share(gpus=0, cpus=1)
GRID = ["GlitchGrid.sizes=64x64", "GlitchGrid.steps=2", "GlitchGrid.seeds=5", "cfg=3"]
SAMPLED = [
    f"sample_prompts={PROMPTS}", "sample_seed=5", "sample_steps=2", "sample_cfg=3",
    "sample_width=64", "sample_height=64", "sample_sampler=dpmpp_2m_karras",
]  # fmt: skip


def sweep(place: Path, checkpoint: Path, *more: str, seeds: tuple[int, ...] = (1, 2)) -> list[str]:
    """Return the command line."""
    settings = [f"ckpt={checkpoint}", f"folder={place / 'pictures'}", "steps=3", "width=64"]
    settings += ["height=64", "network_dim=2", "probe_every=0", "repeats=2", "save_precision=fp32"]
    settings += ["learning_rate=0.01", *GRID, f"prompts={PROMPTS}", *more]
    command = ["sweep", *NAMES, "--engine", "ray", "--gpus", "0", "--json"]
    command += ["--seeds", *map(str, seeds), "--out", str(place / "sweep")]
    return [*command, "--set", *settings]


class Killer(threading.Thread):
    """Kills the worker that writes a loss record, once there is a state to go on from."""

    def __init__(self, run: Path) -> None:
        super().__init__(daemon=True)
        self.run_folder = run
        self.killed = 0
        self.give_up = False

    def run(self) -> None:
        """Look for it until it is found."""
        while not self.killed and not self.give_up:
            time.sleep(0.02)
            if (self.run_folder / "state.pt").is_file():
                for process in psutil.Process().children(recursive=True):
                    self._kill_if_it_trains(process)

    def _kill_if_it_trains(self, process: psutil.Process) -> None:
        try:
            opened = [file.path for file in process.open_files()]
            if str(self.run_folder / "losses.csv") in opened:
                process.kill()
                self.killed += 1
        except psutil.Error:  # it ended meanwhile
            pass


def pixels(*paths: Path) -> np.ndarray:
    """Return pictures of one size, (B, H, W, 3)."""
    return np.stack([np.asarray(Image.open(path)) for path in paths])


def check_as_without_ray(run: Path, place: Path, capsys, steps: int) -> None:
    """Hold a run's results against the trainer's and the report's verbs."""
    command = ["train", str(run / "recipe.json"), "--out", str(place / "alone"), "--json", "--set"]
    alone = train(capsys, *command, f"sample_every={steps}", *SAMPLED)
    done = json.loads((run / "done.json").read_text("utf-8"))
    ours, theirs = load_file(done["loras"][0]), load_file(alone["lora"])
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "the LoRA"
    assert read_csv(run / "losses.csv").loss == read_csv(Path(alone["losses"])).loss
    samples = Path(alone["run"]) / "samples"
    for role, step in (("base", 0), ("glitched", steps)):
        wanted = pixels(*(samples / f"step{step:06}_prompt{row:02}.png" for row in (1, 2)))
        assert (pixels(*sorted((run / role).iterdir())) == wanted).all(), role
    folders = [str(run / role) for role in ("base", "glitched")]
    (report,) = train(capsys, "report", *folders, "--json")["runs"]
    kept = json.loads((run / "report.json").read_text("utf-8"))["runs"][0]["effects"]
    assert report["effects"].items() <= kept.items()
    more = {"semantic_drift", "weight_loudness", "caption_hold"}
    assert kept.keys() - report["effects"].keys() == more


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Compute as the workers do: other numbers of threads add up in another order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_as_without_ray(two_workers, one_thread, place: Path, checkpoint: Path, capsys) -> None:
    """Catches a run begun anew or lost with its worker, and other pictures than one machine makes.

    Two experiments, two seeds, two workers, one of which is killed in the middle of a training.
    """
    out = place / "sweep"
    killer = Killer(out / "ray" / "sd15_standard_seed1_00001")
    killer.start()
    code = main(sweep(place, checkpoint, "sd15_standard.steps=30"))
    killer.give_up = True
    killer.join()
    said = capsys.readouterr()
    assert code == 0, said.err
    assert killer.killed == 1
    assert "sd15_standard_seed1: its worker died, another goes on" in said.err
    assert "0 of 4 runs ended, " in said.err
    told = json.loads(said.out)
    runs = {f"{slug}, seed {seed}" for slug in NAMES[:2] for seed in (1, 2)}
    assert set(told["done"]) == runs
    assert told["left_out"][0].startswith("mismatched_base is left out")
    assert len(list((out / "ray").glob("*.safetensors"))) == 4
    assert not list((out / "ray").glob(".shared*"))
    for slug in NAMES[:2]:
        for seed in (1, 2):
            steps = 30 if slug == "sd15_standard" else 3
            check_as_without_ray(out / slug / f"seed{seed}", place, capsys, steps)

    matrix = (out / "matrix.md").read_text("utf-8")
    assert "4 runs, 2 pairs of pictures each." in matrix
    assert "| Composition shift |" in matrix
    assert {slug: row["seeds"] for slug, row in told["experiments"].items()} == {
        slug: [1, 2] for slug in NAMES[:2]
    }
    assert (out / "strip.png").is_file()
    run = out / "random_crop_and_flip" / "seed2"
    for name in ("loss.png", "verdict.md", "grid.png", "grid.json", "radar.png", "report.md"):
        assert (run / name).is_file()

    assert main(sweep(place, checkpoint, "sd15_standard.steps=30")) == 0
    again = json.loads(capsys.readouterr().out)
    assert (set(again["kept"]), again["done"]) == (runs, [])


def test_a_failure_is_told(two_workers, place: Path, checkpoint: Path, capsys) -> None:
    """Catches exit code 0 when a run failed, and the others lost with it."""
    gone = f"sd15_standard.ckpt={place / 'gone.safetensors'}"
    assert main(sweep(place, checkpoint, gone, seeds=(1,))) == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert list(told["failed"]) == ["sd15_standard, seed 1"]
    assert told["done"] == ["random_crop_and_flip, seed 1"]
    assert "gone.safetensors does not exist" in said.err.splitlines()[-1]

    other = [gone, "random_crop_and_flip.GlitchGrid.steps=3"]
    assert main(sweep(place, checkpoint, *other, seeds=(1,))) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["changed"] == told["done"] == ["random_crop_and_flip, seed 1"]
    loras = [path.name for path in (place / "sweep" / "ray").glob("*.safetensors")]
    assert loras == ["random_crop_and_flip_seed1_00001.safetensors"], "drawn anew, not trained"


def named(place: Path, checkpoint: Path, name: str, **train) -> Order:
    """Return an order to train the tests' recipe under a name."""
    recipe = read_recipe(place / "recipe.toml")
    recipe = Recipe(
        dataclasses.replace(recipe.dataset, folder=str(place / "pictures")),
        dataclasses.replace(recipe.train, output_name=name, **train),
        checkpoint=str(checkpoint),
    )
    return Order(recipe)


def test_closing_keeps_what_was_trained(two_workers, place: Path, checkpoint: Path) -> None:
    """Catches work lost when a sweep is stopped, or begun anew when it goes on."""
    out = place / "out"
    short, endless = (
        named(place, checkpoint, name, steps=steps, save_every=2)
        for name, steps in [("short", 30), ("endless", 50_000)]
    )
    running = run_all([short, endless], out, share=ONE_CORE)
    first = next(running)
    assert (first.name, first.error) == ("short", "")
    losses = out / "endless_00001" / "losses.csv"
    while not (losses.is_file() and losses.read_text("utf-8").count("\n") > 3):
        time.sleep(0.1)
    running.close()
    saved = out / "endless_00001.safetensors"
    steps = int(read_metadata(saved)["ss_steps"])
    finite = named(place, checkpoint, "endless", steps=steps + 1, save_every=2)
    (result,) = run_all([finite], out, share=ONE_CORE)
    assert result.made.lora == saved
    assert read_metadata(saved)["ss_steps"] == str(steps + 1)


def test_more_than_any_machine_has(two_workers, place: Path, checkpoint: Path) -> None:
    """Catches a task that waits forever for a GPU that is not there."""
    order = named(place, checkpoint, "one")
    with pytest.raises(TrainingError, match="wants 1 GPU, and no machine"):
        list(run_all([order], place / "out", share=Share(gpus=1)))


def test_without_a_folder_in_common(
    two_workers, workers_home: Path, place: Path, checkpoint: Path, monkeypatch
) -> None:
    """Catches results left on the other machine, or written over a LoRA of the same name."""
    out = place / "out"
    out.mkdir()
    (out / "one_00001.safetensors").write_bytes(b"somebody else's")
    monkeypatch.setattr(ray_engine, "_marked", lambda _: contextlib.nullcontext("not there"))
    (result,) = run_all([named(place, checkpoint, "one")], out, share=ONE_CORE)
    assert not result.error
    assert result.made.lora == out / "one_00002.safetensors"
    assert read_metadata(result.made.lora)["ss_steps"] == "3"
    assert len(read_csv(result.made.losses)) == 3
    assert (out / "one_00001.safetensors").read_bytes() == b"somebody else's"
    (there,) = (workers_home / ".cache" / "glitching-the-gaze" / "ray").iterdir()
    assert [path.name for path in there.iterdir()] == ["cache"], "removed when it was sent"
    (again,) = run_all([named(place, checkpoint, "one")], out, share=ONE_CORE)
    assert again.was_done


def test_a_run_that_kills_its_workers(
    two_workers, place: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run that is begun again and again, as Ray does by itself where memory runs out."""
    monkeypatch.setattr(ray_engine, "TRIES", 0)  # so that the first worker is one too many
    endless = named(place, checkpoint, "endless", steps=1_000_000)
    (result,) = run_all([endless], place / "out", share=ONE_CORE)
    assert "workers died of it; Ray's logs say more" in result.error
