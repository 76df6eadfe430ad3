"""``glitch_train sweep`` on a real host: stopped after the first run, gone on with, changed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from graphs import GraphBuilder
from PIL import Image

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.cli.command import main
from glitch_train.comfyui.client import ComfyClient
from glitch_train.lora.file import read_metadata

pytestmark = pytest.mark.host

EXPERIMENTS = {"sd15_standard": "SD1.5 standard", "high_learning_rate": "high learning rate (2e-4)"}
RUNS = [f"{slug}, seed {seed}" for seed in (1, 2) for slug in EXPERIMENTS]
FILES = {
    "loss.png", "losses.csv", "verdict.json", "verdict.md", "grid.png", "grid.json", "radar.png",
    "report.json", "report.csv", "report.md", "workflow_api.json",
    "base/01.png", "base/02.png", "glitched/01.png", "glitched/02.png",
}  # fmt: skip


@pytest.fixture(scope="module")
def workflows(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two experiments, laid out as the shipped ones are."""
    write_picture_folder(host.base_dir / "input" / "sweep_photos", demo_photos()[:2])
    folder = tmp_path_factory.mktemp("workflows")
    with ComfyClient(host.address) as client:
        for slug, preset in EXPERIMENTS.items():
            graph = _experiment(GraphBuilder(client), slug, preset)
            (folder / f"{slug}.json").write_text(json.dumps(graph))
    return folder


def _experiment(graph: GraphBuilder, slug: str, preset: str) -> dict[str, dict]:
    recipe = graph.add("GlitchRecipe", preset=preset)
    dataset = graph.add("GlitchDatasetLoader", folder="?", recipe=(recipe, 0))
    base = graph.add("CheckpointLoaderSimple", ckpt_name="?")
    parts = {"model": (base, "MODEL"), "clip": (base, "CLIP"), "vae": (base, "VAE")}
    trainer = graph.add(
        "GlitchLoraTrainer", dataset=(dataset, 0), recipe=(recipe, 0), output_name=slug, **parts
    )
    graph.add("GlitchLossGraph", loss_map=(trainer, "loss_map"), filename_prefix=f"s/{slug}_loss")
    grid = graph.add("GlitchGrid", prompts="a cat", seeds="5, 6", lora=(trainer, "lora"), **parts)
    graph.add("GlitchReport", base=(grid, "base"), glitched=(grid, "glitched"))
    return graph.nodes


def _command(host: Host, workflows: Path, out: Path, *more: str) -> list[str]:
    settings = ["ckpt=pocket_sd15.safetensors", "folder=sweep_photos", "steps=2", "width=64"]
    settings += ["height=64", "network_dim=4", "GlitchGrid.sizes=64x64", "GlitchGrid.steps=1"]
    settings += ["probe_every=0", "GlitchGrid.cfg=1"]
    command = ["sweep", "--server", host.address, "--workflows", str(workflows), "--json"]
    return [*command, "--out", str(out), "--seeds", "1", "2", "--set", *settings, *more]


@pytest.mark.timeout(3600)  # six runs, each a minute and more where others share the cores
def test_a_sweep_goes_on_where_it_stopped(
    host: Host, workflows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches work done twice or left out, results mixed up, and a change that goes unseen."""
    out = tmp_path / "out"
    first = out / "sd15_standard" / "seed1" / "done.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "glitch_train", *_command(host, workflows, out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job begins with Ctrl-C ignored, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    while not first.is_file():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    told, said = process.communicate()
    assert process.returncode == 130, said
    before = json.loads(told)["done"]
    assert RUNS[0] in before
    assert len(before) < len(RUNS)
    written = first.stat().st_mtime_ns

    assert main(_command(host, workflows, out)) == 0, capsys.readouterr().err
    told = json.loads(capsys.readouterr().out)
    assert told["kept"] == before
    assert told["done"] == RUNS[len(before) :]
    assert first.stat().st_mtime_ns == written
    _check_results(out)

    other = ["high_learning_rate.steps=3", "sd15_standard.folder=gone"]
    changed = _command(host, workflows, out, *other, "--seeds", "1")
    assert main(changed) == 1
    said = capsys.readouterr()
    told = json.loads(said.out)
    assert (told["done"], list(told["failed"])) == ([RUNS[1]], [RUNS[0]])
    assert told["changed"] == RUNS[:2]
    assert "sd15_standard, seed 1 failed: ComfyUI does not accept the workflow: node 2" in said.err
    (lora,) = json.loads((out / "high_learning_rate/seed1/done.json").read_text("utf-8"))["loras"]
    assert read_metadata(Path(lora))["ss_steps"] == "3"
    assert first.stat().st_mtime_ns == written, "the older results are still there"


def _check_results(out: Path) -> None:
    loras = set()
    grids = []
    for seed in (1, 2):
        for slug in EXPERIMENTS:
            folder = out / slug / f"seed{seed}"
            assert {name for name in FILES if (folder / name).is_file()} == FILES
            done = json.loads((folder / "done.json").read_text("utf-8"))
            (lora,) = done["loras"]
            assert Path(lora).name == f"{slug}_seed{seed}_00001.safetensors"
            about = read_metadata(Path(lora))
            assert (about["ss_seed"], about["ss_steps"]) == (str(seed), "2")
            assert float(about["ss_learning_rate"]) == (2e-4 if "high" in slug else 1e-4)
            loras.add(lora)
            grids.append(json.loads((folder / "grid.json").read_text("utf-8"))["pairs"])
    assert len(loras) == 4
    assert all(grid == grids[0] for grid in grids), "the same pictures are drawn for all"
    base = [Image.open(out / slug / "seed1/base/01.png").tobytes() for slug in EXPERIMENTS]
    assert base[0] == base[1]
    matrix = json.loads((out / "matrix.json").read_text("utf-8"))["experiments"]
    assert {slug: row["seeds"] for slug, row in matrix.items()} == dict.fromkeys(
        EXPERIMENTS, [1, 2]
    )
    assert "composition" in matrix["high_learning_rate"]["effects"]
    for name in ("matrix.csv", "matrix.md", "matrix.png", "strip.png"):
        assert (out / name).is_file()


def test_what_cannot_be_set_queues_nothing(
    host: Host, workflows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a sweep of hours that finds out at its last experiment."""
    command = _command(host, workflows, tmp_path / "out", "high_learning_rate.stepz=3")
    assert main(command) == 1
    assert "no input 'stepz' in the workflow; did you mean 'steps'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
