"""A host started as people start theirs: several users, output on another disk, no metadata."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from graphs import GraphBuilder
from PIL import Image

from glitch_demo.host import Host, link_or_copy
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.lora.file import read_recipe_of

pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.usefixtures("room")]

OTHER_DISK = Path("/dev/shm")  # a file system in memory, on every Linux
FOLDER = "option_pictures"


class Ran(NamedTuple):
    """One training, grid and graph in such a host."""

    host: Host
    output: Path
    outputs: dict[str, Any]
    trainer: str
    grid: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """Start the host, train two steps, draw, and leave it running."""
    from glitch_demo.pocket import pocket_sd15  # imports torch: only where needed

    base = tmp_path_factory.mktemp("options")
    if not OTHER_DISK.is_dir() or OTHER_DISK.stat().st_dev == base.stat().st_dev:
        pytest.skip(f"{OTHER_DISK} is no other disk than {base} here")
    with tempfile.TemporaryDirectory(dir=OTHER_DISK) as other:
        options = ("--output-directory", other, "--multi-user", "--disable-metadata")
        host = Host(base, extra_args=options)
        checkpoint = pocket_sd15()
        link_or_copy(checkpoint, base / "models" / "checkpoints" / checkpoint.name)
        write_picture_folder(base / "input" / FOLDER, demo_photos()[:1])
        with host, ComfyClient(host.address) as client:
            yield Ran(host, Path(other), *_run(client, checkpoint.name))


def _run(client: ComfyClient, checkpoint: str) -> tuple[dict[str, Any], str, str]:
    builder = GraphBuilder(client)
    loaded = builder.add("CheckpointLoaderSimple", ckpt_name=checkpoint)
    data = builder.add(
        "GlitchDatasetLoader", folder=FOLDER, width=64, height=64, cache="keep"
    )  # fmt: skip
    base = {"model": (loaded, 0), "clip": (loaded, 1), "vae": (loaded, 2)}
    trainer = builder.add(
        "GlitchLoraTrainer", **base, dataset=(data, "dataset"),
        steps=2, network_dim=2, save_every=1, sample_every=1, sample_steps=1,
        sample_width=64, sample_height=64, output_name="elsewhere",
    )  # fmt: skip
    grid = builder.add(
        "GlitchGrid", **base, lora=(trainer, "lora"),
        prompts="a face", steps="1", cfg="1", strength="1", sizes="64x64", seeds="1",
    )  # fmt: skip
    builder.add("GlitchLossGraph", loss_map=(trainer, "loss_map"))
    return client.run(builder.nodes), trainer, grid


def test_models_stay_and_the_rest_goes_to_the_other_disk(ran: Ran) -> None:
    """Catches a file that is renamed from one disk to another, which no system does (EXDEV)."""
    lora = Path(ran.outputs[ran.trainer]["text"][0])
    assert lora.parent == ran.host.base_dir / "models" / "loras"
    assert lora.stat().st_dev != ran.output.stat().st_dev
    assert read_recipe_of(lora).train.steps == 2
    (run_folder,) = (path.parent for path in ran.output.glob("glitch/*/losses.csv"))
    made = {path.name for path in run_folder.iterdir()}
    assert {"losses.json", "recipe.json"} <= made, made
    assert list(ran.output.glob("glitch/cache/**/*.safetensors")) or list(
        ran.output.glob("glitch/cache/*")
    )
    assert not [path for path in ran.output.rglob("*.part")]
    assert not list((ran.host.base_dir / "output").iterdir())


def test_pictures_hold_no_workflow_where_none_is_wanted(ran: Ran) -> None:
    """Catches a prompt in a picture of a host that was started not to write one."""
    pictures = list(ran.output.rglob("*.png"))
    assert len(pictures) > 2
    for path in pictures:
        with Image.open(path) as picture:
            assert not {"prompt", "workflow"} & set(picture.info), path.name


def test_every_user_finds_the_workflows_and_pages(ran: Ran) -> None:
    """Catches templates and help pages that are served to the one user of a plain host alone."""
    with ComfyClient(ran.host.address) as client:
        listed = client._http.get_json("/api/workflow_templates")
        assert "sd15_standard" in listed["glitching-the-gaze"]
        page = client._http.request("/extensions/glitching-the-gaze/docs/GlitchLoraTrainer.md")
    assert page.startswith(b"#")
