"""The ordinary road: clone into custom_nodes, pip install -r requirements.txt, start ComfyUI."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from graphs import GraphBuilder

from glitch_demo.host import Host, host_tree, link_or_copy
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_demo.pocket import pocket_sd15
from glitch_train.comfyui.client import ComfyClient

pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.usefixtures("room")]

REPO = Path(__file__).parents[2]
HOST_OWNS = {
    "torch", "torchvision", "torchaudio", "numpy", "pillow", "safetensors", "transformers",
    "tokenizers", "einops", "scipy", "aiohttp", "pyyaml", "tqdm", "psutil", "kornia", "spandrel",
}  # fmt: skip


def run(*command: object) -> str:
    """Run a command and return what it printed."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def versions(python: Path) -> dict[str, str]:
    """Return the installed packages of an environment."""
    lines = run(python, "-m", "pip", "list", "--format=freeze").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def host_requirements() -> list[str]:
    """Return what the host that is tested needs, as pip's arguments.

    Of a ComfyUI of one's own: what its requirements.txt names, at the versions that it runs with
    here.
    """
    if not os.environ.get("COMFYUI_PATH"):
        return ["-r", str(REPO / "requirements-host.txt")]
    found = []
    for line in (host_tree() / "requirements.txt").read_text().splitlines():
        name = re.match(r"[\w.-]*", line)[0]
        with contextlib.suppress(ValueError, importlib.metadata.PackageNotFoundError):
            found.append(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")
    return found


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An environment with what ComfyUI needs and nothing else; its Python."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", folder / "env")
    python = folder / "env" / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--no-compile", *host_requirements())
    yield python
    shutil.rmtree(folder / "env")  # a gigabyte


def test_requirements_name_nothing_the_host_owns() -> None:
    """Catches a requirement that could change a user's torch or numpy."""
    lines = (REPO / "requirements.txt").read_text().splitlines()
    names = {re.split(r"[<>=~!;\[ ]", line)[0].lower() for line in lines if line and line[0] != "#"}
    assert names
    assert not names & HOST_OWNS
    assert not any("==" in line.split(";")[0] or "<" in line.split(";")[0] for line in lines)


def test_a_clone_works_in_a_clean_host(clean: Path, tmp_path: Path) -> None:
    """Catches a missing requirement, or an install that changes what the host had."""
    before = versions(clean)
    assert "diffusers" not in before
    clone = tmp_path / "clone"
    run("git", "clone", "-q", REPO, clone)
    run(clean, "-m", "pip", "install", "-q", "-r", clone / "requirements.txt")
    after = versions(clean)
    assert {name: after[name] for name in before} == before
    host = Host(tmp_path / "base", pack=clone, python=str(clean))
    link_or_copy(pocket_sd15(), host.base_dir / "models" / "checkpoints" / "pocket.safetensors")
    write_picture_folder(host.base_dir / "input" / "pictures", demo_photos()[:1], 2)
    with host, ComfyClient(host.address) as client:
        builder = GraphBuilder(client)
        base = builder.add("CheckpointLoaderSimple", ckpt_name="pocket.safetensors")
        data = builder.add("GlitchDatasetLoader", folder="pictures", width=64, height=64)
        trainer = builder.add(
            "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
            dataset=(data, "dataset"), steps=1, network_dim=2,
        )  # fmt: skip
        graph = builder.add("GlitchLossGraph", loss_map=(trainer, "loss_map"))
        outputs = client.run(builder.nodes)
    assert Path(outputs[trainer]["text"][0]).is_file()
    assert outputs[graph]["images"]
