"""``glitch_train queue`` on a real host: outputs, failures, Ctrl-C, a host that dies."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from graphs import GraphBuilder

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.cli.command import main
from glitch_train.comfyui.client import ComfyClient
from glitch_train.lora.file import read_metadata

pytestmark = pytest.mark.host

Graph = dict[str, dict[str, Any]]


def _node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}}


def _picture(name: str, color: int = 1) -> Graph:
    return {
        "1": _node("EmptyImage", "Canvas", width=64, height=64, batch_size=1, color=color),
        "2": _node("SaveImage", images=["1", 0], filename_prefix=name),
    }


def _slow(name: str, blurs: int = 60) -> Graph:
    """Save a picture, then blur for minutes."""
    graph = _picture(name)
    graph["9"] = _node("EmptyImage", width=1024, height=1024, batch_size=1, color=len(name))
    for number in range(10, 10 + blurs):
        graph[str(number)] = _node(
            "ImageBlur", image=[str(number - 1), 0], blur_radius=31, sigma=10.0
        )
    graph["end"] = _node("PreviewImage", images=[str(9 + blurs), 0])
    return graph


def _write(graph: Graph, folder: Path) -> str:
    path = folder / "workflow.json"
    path.write_text(json.dumps(graph))
    return str(path)


def _start(host: Host, graph: Graph, folder: Path) -> subprocess.Popen[str]:
    """Run the verb as a process of its own, which can be sent signals."""
    out = str(folder / "out")
    return subprocess.Popen(
        [sys.executable, "-m", "glitch_train", "queue", _write(graph, folder),
         "--server", host.address, "--out", out, "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job begins with Ctrl-C ignored, and so would this process.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def _wait_for(what: Callable[[], Any], process: subprocess.Popen[str]) -> None:
    while not what():
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def test_queue_to_the_end(
    bare_host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a setting that does not arrive, outputs that stay away, and noise in a log file."""
    out = tmp_path / "out"
    command = ["queue", _write(_picture("end"), tmp_path), "--server", bare_host.address]
    assert main([*command, "--out", str(out), "--json", "--set", "Canvas.width=96"]) == 0
    said = capsys.readouterr()
    told = json.loads(said.out)
    (picture,) = told["files"]["2"]
    from PIL import Image

    assert Image.open(picture).size == (96, 64)
    assert Path(picture).parent == out
    assert json.loads((out / "workflow_api.json").read_text("utf-8"))["1"]["inputs"]["width"] == 96
    assert told["interrupted"] is False
    assert said.err == ""


def test_a_failing_node_speaks(
    bare_host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches exit code 0, or another sentence than the node's; what was made is kept."""
    (bare_host.base_dir / "input" / "broken.png").write_bytes(b"no picture")
    graph = _picture("fails")
    graph["5"] = _node("LoadImage", "Broken", image="broken.png")
    graph["6"] = _node("PreviewImage", images=["5", 0])
    out = tmp_path / "out"
    command = ["queue", _write(graph, tmp_path), "--server", bare_host.address]
    assert main([*command, "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert said.err.startswith('Node 5 "Broken" failed: cannot identify image file')
    assert (out / "workflow_api.json").is_file()


def test_wrong_names(bare_host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches an error without the name that was meant, for a setting and for a file."""
    graph = _picture("wrong")
    size = {"width": 64, "height": 64, "crop": "center"}
    graph["3"] = _node("ImageScale", "Scale", image=["1", 0], upscale_method="area", **size)
    graph["4"] = _node("PreviewImage", images=["3", 0])
    command = ["queue", _write(graph, tmp_path), "--server", bare_host.address]
    command += ["--out", str(tmp_path / "out"), "--set"]
    assert main([*command, "widht=64"]) == 1
    assert "no input 'widht' in the workflow; did you mean 'width'?" in capsys.readouterr().err
    assert main([*command, "upscale_method=bicubik"]) == 1, "though the other half could run"
    assert capsys.readouterr().err == (
        "Node 3 \"Scale\", input upscale_method: this ComfyUI has no 'bicubik'; did you mean "
        "'bicubic'?\n"
    )


def test_ctrl_c_stops_this_workflow_only(
    bare_host: Host, bare_client: ComfyClient, tmp_path: Path
) -> None:
    """Catches a workflow that runs on, another one stopped, and finished pictures left behind."""
    process = _start(bare_host, _slow("stopped"), tmp_path)
    saved = bare_host.base_dir / "output" / "stopped_00001_.png"
    _wait_for(saved.is_file, process)
    other = bare_client.queue(_picture("other", color=77))
    process.send_signal(signal.SIGINT)
    told, said = process.communicate()
    assert process.returncode == 130, said
    result = json.loads(told)
    assert result["interrupted"] is True
    assert [Path(path).name for path in result["files"]["2"]] == [saved.name]
    entry = bare_client.history(result["prompt_id"])
    assert entry is not None, "the host has saved it"
    assert entry["status"]["completed"] is False
    list(bare_client.events(other))
    assert (bare_host.base_dir / "output" / "other_00001_.png").is_file()


def test_a_host_that_dies(tmp_path: Path) -> None:
    """Catches a wait without end, and the workflow lost with the host."""
    with Host(tmp_path / "host", pack=None) as host:
        process = _start(host, _slow("dies"), tmp_path)
        _wait_for((host.base_dir / "output" / "dies_00001_.png").is_file, process)
        host.kill()
        said = process.communicate()[1]
    assert process.returncode == 1
    assert said.startswith(f"ComfyUI at {host.url} went away while the workflow was running")
    assert said.count("\n") == 1
    assert (tmp_path / "out" / "workflow_api.json").is_file()


def test_a_training_with_its_recipe_overridden(
    host: Host, client: ComfyClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a preset's 6000 steps in spite of ``--set steps=2``, and a LoRA that is not told."""
    write_picture_folder(host.base_dir / "input" / "queue_photos", demo_photos()[:1])
    graph = GraphBuilder(client)
    recipe = graph.add("GlitchRecipe", preset="overtrain (> 5000 steps)", settings="width = 512")
    dataset = graph.add(
        "GlitchDatasetLoader", folder="?", height=64, recipe=(recipe, 0), cache="until restart"
    )
    base = graph.add("CheckpointLoaderSimple", ckpt_name="?")
    parts = {"model": (base, "MODEL"), "clip": (base, "CLIP"), "vae": (base, "VAE")}
    trainer = graph.add(
        "GlitchLoraTrainer", dataset=(dataset, "dataset"), recipe=(recipe, 0), **parts
    )
    loss = graph.add("GlitchLossGraph", loss_map=(trainer, "loss_map"))
    out = tmp_path / "out"
    command = ["queue", _write(graph.nodes, tmp_path), "--server", host.address, "--json"]
    settings = ["ckpt=pocket_sd15.safetensors", "folder=queue_photos", "steps=2", "width=64"]
    settings += ["network_dim=4", "output_name=queued"]
    assert main([*command, "--out", str(out), "--set", *settings]) == 0
    told = json.loads(capsys.readouterr().out)
    (lora,) = told["loras"]
    assert read_metadata(Path(lora))["ss_steps"] == "2"
    assert read_metadata(Path(lora))["ss_network_dim"] == "4"
    endings = [Path(path).suffix for path in told["files"][loss]]
    assert endings == [".png", ".csv", ".txt"]
