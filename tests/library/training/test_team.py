"""Several processes train what one trains at the same global batch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_base, tiny_source
from tiny_checkpoint import HELPERS, process_environment
from train_verb import arguments, train

from glitch_train.errors import TrainingError
from glitch_train.lora.file import read_metadata
from glitch_train.losses.read import read_csv
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.loop import LoraTraining
from glitch_train.training.team import ALONE, Team, join_team

pytestmark = pytest.mark.slow

LAUNCH = [
    sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2",
    "--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no",
]  # fmt: skip


class OneOf(Team):
    """A process of several whose sums are taken by the test."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size


def launch(*command: str, port: int) -> subprocess.CompletedProcess:
    """Run ``glitch_train`` on two processes."""
    where = ["--main_process_port", str(port), "-m", "glitch_train"]
    return subprocess.run(
        [*LAUNCH, *where, *command, "--device", "cpu"],
        capture_output=True,
        text=True,
        env=process_environment(),
    )


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_rows_cover_a_batch_once(size: int) -> None:
    """Catches a sample trained twice, or left out."""
    for count in range(1, 9):
        rows = [list(range(count))[OneOf(rank, size).rows(count)] for rank in range(size)]
        assert sum(rows, []) == list(range(count))
        assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_shares_add_up_to_the_whole(tmp_path: Path) -> None:
    """Catches noise drawn per process, a wrong weight, and an uneven or empty share."""
    recipe = TrainRecipe(
        steps=3, network_dim=2, multires_noise_iterations=2, min_snr_gamma=5.0,
        input_perturbation=0.1,
    )  # fmt: skip

    def training(team: Team) -> LoraTraining:
        source = tiny_source(tmp_path, batch_size=3, count=3, tokens=(77, 154))
        return LoraTraining(tiny_base(), source, recipe, torch.device("cpu"), team)

    alone, parts = training(ALONE), [training(OneOf(rank, 4)) for rank in range(4)]
    for layers in [alone, *parts]:  # up factors of zero would hide the down factors' gradient
        for index, layer in enumerate(layers.lora.unet.values()):
            layer.up.data.fill_(0.01 * (index % 3))
    loss = alone._accumulate()
    shares = [part._accumulate() for part in parts]
    assert shares[0] == 0  # three samples for four processes
    assert torch.allclose(sum(shares), loss, rtol=1e-5)
    for whole, *some in zip(alone.parameters, *(part.parameters for part in parts), strict=True):
        summed = sum(one.grad for one in some if one.grad is not None)
        assert torch.allclose(summed, whole.grad, rtol=1e-3, atol=1e-6)


def test_alone_without_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a plain run that waits for others."""
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert join_team() is ALONE


def test_two_processes_lose_what_one_loses(place: Path, checkpoint: Path, capsys) -> None:
    """Catches gradients that are not averaged, other draws, and two processes writing one file."""
    settings = ["--set", "steps=5", "batch_size=3", "learning_rate=1e-3", "noise_offset=0.1",
                "probe_every=2", "save_every=2", "train_text_encoder=true",
                "sample_every=3", "sample_steps=1"]  # fmt: skip
    one = train(capsys, *arguments(place, checkpoint, "--cache", str(place / "a"), *settings))
    here = [*arguments(place, checkpoint, "--cache", str(place / "b"), *settings)]
    here[here.index("--out") + 1] = str(place / "two")
    done = launch(*here, port=29611)
    assert done.returncode == 0, done.stderr
    two = json.loads(done.stdout)  # one object, from one process
    ours, theirs = (read_csv(Path(run["losses"])) for run in (one, two))
    assert theirs.loss == pytest.approx(ours.loss, rel=1e-4)
    assert theirs.columns["grad_norm"] == pytest.approx(ours.columns["grad_norm"], rel=1e-3)
    first, second = load_file(one["lora"]), load_file(two["lora"])
    assert first.keys() == second.keys()
    names = [sorted(p.name for p in (place / out).rglob("*") if p.is_file())
             for out in ("out", "two")]  # fmt: skip
    assert names[0] == names[1]
    assert "strip.png" in names[1]
    done = launch(*(word.replace("steps=5", "steps=7") for word in here), port=29612)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["name"] == two["name"]
    settings[1] = "steps=7"
    whole = train(capsys, *arguments(place, checkpoint, *settings))
    again = read_csv(Path(two["losses"]))
    assert again.loss == pytest.approx(read_csv(Path(whole["losses"])).loss, rel=1e-4)


def test_an_error_ends_all(place: Path, checkpoint: Path) -> None:
    """Catches a process that waits forever for one that failed."""
    done = launch(*arguments(place, checkpoint, "--set", "batch_size=1"), port=29613)
    assert done.returncode == 1
    assert "batch_size 1 cannot be shared by 2 processes" in done.stderr


def test_what_one_process_has_to_say_reaches_the_other(tmp_path: Path) -> None:
    """Catches an error, a stop or a gradient that stays in the process it came up in."""
    script = str(HELPERS / "team_member.py")
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29614"}
    members = [
        subprocess.Popen(
            [sys.executable, script], stdout=subprocess.PIPE, text=True,
            env=process_environment(RANK=str(rank), LOCAL_RANK=str(rank), **common),
        )
        for rank in range(2)
    ]  # fmt: skip
    main, other = (member.communicate()[0].splitlines() for member in members)
    assert main[:3] == ["0 of 2", "True", "False"]
    assert other[:3] == ["1 of 2", "True", "False"]
    assert "another of the processes failed" in main[3]
    assert other[3] == "a picture is gone"
    assert main[4:6] == other[4:6] == ["a picture is gone", "from 0"]
    assert main[6:] == other[6:] == ["[3.0, 3.0, 3.0]", "[1.0, 1.0, 1.0, 1.0]"]


def test_a_signal_to_one_process_stops_all(place: Path, checkpoint: Path) -> None:
    """Catches a process that trains on alone, and a LoRA that is not saved."""
    command = arguments(place, checkpoint, "--set", "steps=100000", "--device", "cpu")
    where = ["--main_process_port", "29615", "-m", "glitch_train"]
    launcher = subprocess.Popen(
        [*LAUNCH, *where, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=process_environment(),
    )  # fmt: skip
    losses = place / "out" / "glitch_lora_00001" / "losses.csv"
    while launcher.poll() is None and not (
        losses.is_file() and losses.read_text("utf-8").count("\n") > 3
    ):
        time.sleep(0.1)
    workers = psutil.Process(launcher.pid).children()
    second = next(worker for worker in workers if worker.environ().get("RANK") == "1")
    second.send_signal(signal.SIGINT)
    out, err = launcher.communicate()
    stopped = json.loads(out[: out.rindex("}") + 1])
    assert stopped["interrupted"], err
    assert int(read_metadata(Path(stopped["lora"]))["ss_steps"]) == stopped["steps"] >= 3


@pytest.mark.parametrize("values", [{"WORLD_SIZE": "all"}, {"WORLD_SIZE": "2", "LOCAL_RANK": "x"}])
def test_variables_that_no_launcher_sets(monkeypatch: pytest.MonkeyPatch, values: dict) -> None:
    """Catches the traceback of a number that is none."""
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(TrainingError, match="unset WORLD_SIZE to train alone"):
        join_team("cuda")
