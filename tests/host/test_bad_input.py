"""Bad input in the real host: one sentence on the node and in the API, and the host stays up."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphs import GraphBuilder
from tiny_sd3 import place_tiny_sd3

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected, RunFailed

pytestmark = pytest.mark.host

CHECKPOINT = "pocket_sd15.safetensors"


@pytest.fixture
def inputs(host: Host) -> Iterator[Path]:
    """The host's input folder, emptied of test folders afterwards."""
    folder = host.base_dir / "input"
    yield folder
    for leftover in folder.glob("bad_*"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()


def load_folder(client: ComfyClient, folder: str, **settings: Any) -> dict[str, Any]:
    """Run the dataset loader alone; return what its report says."""
    builder = GraphBuilder(client)
    data = builder.add("GlitchDatasetLoader", folder=folder, width=64, height=64, **settings)
    text = builder.add("PreviewAny", source=(data, "report"))
    return client.run(builder.nodes)[text]["text"][0]


@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("bad_missing", "There is no folder 'bad_missing'"),
        ("../output", "lies outside"),
        ("/etc", "lies outside"),
        ("a\0b", "There is no folder 'a.x00b'"),
        ("\ud800", "There is no folder"),
        ("a" * 300, "There is no folder"),
        ("datasets: x", "There is no folder"),
        ("choose a folder below input/", "No folder is chosen yet"),
        (".", "the older name for everything in .*'all of input/' for all of them"),
    ],
)
def test_a_folder_that_cannot_be_used(client: ComfyClient, folder: str, said: str) -> None:
    """Catches a folder outside the allowed roots being read, or a traceback."""
    with pytest.raises(PromptRejected, match=said):
        load_folder(client, folder)


def test_a_word_that_is_no_choice(client: ComfyClient, inputs: Path) -> None:
    """Catches "never" taken for "until restart": ComfyUI 0.3.75 does not look at such words."""
    write_picture_folder(inputs / "bad_word", demo_photos()[:1], pictures_per_photo=1)
    builder = GraphBuilder(client)
    cache = builder.add("GlitchCache", cache="never")
    builder.add("GlitchDatasetLoader", folder="bad_word", recipe=(cache, "recipe"))
    with pytest.raises(PromptRejected, match="cache must be one of until restart, keep"):
        client.run(builder.nodes)
    with pytest.raises(RunFailed, match="cache must be one of until restart, keep"):
        load_folder(client, "bad_word", cache="never")  # as graphs sent it before it had a node


def test_an_empty_folder(client: ComfyClient, inputs: Path) -> None:
    """Catches a training on nothing."""
    (inputs / "bad_empty").mkdir()
    with pytest.raises(PromptRejected, match="bad_empty is empty; put pictures"):
        load_folder(client, "bad_empty")


def test_no_readable_picture(client: ComfyClient, inputs: Path) -> None:
    """Catches text files taken for pictures."""
    (inputs / "bad_text").mkdir()
    (inputs / "bad_text" / "a.jpg").write_text("not a picture")
    with pytest.raises(RunFailed, match="no readable picture.*a.jpg"):
        load_folder(client, "bad_text")


def test_an_unreadable_picture_is_named_and_skipped(client: ComfyClient, inputs: Path) -> None:
    """Catches one broken file stopping everything, or vanishing without a word."""
    folder = inputs / "bad_one"
    written = write_picture_folder(folder, demo_photos()[:1])
    written[1].write_bytes(written[1].read_bytes()[:600])
    (folder / "zero.png").write_bytes(b"")
    report = load_folder(client, "bad_one")
    assert written[1].name in report
    assert "zero.png" in report
    assert "3 pictures" in report


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("output_name", "../evil", "without path separators"),
        ("output_name", "a/b", "without path separators"),
        ("sample_prompts", "a \ud800", "sample_prompts has"),
        ("steps", 0, "steps"),
        ("network_dim", 513, "network_dim"),
        ("learning_rate", -1.0, "learning_rate"),
        ("precision", "int4", "precision"),
        ("resume", "sometimes", "resume"),
        ("precision", "fp16", "fp16 needs a GPU"),
    ],
)
def test_a_setting_out_of_range(
    client: ComfyClient, inputs: Path, setting: str, value: Any, said: str
) -> None:
    """Catches a setting that is found wrong only after work was done."""
    write_picture_folder(inputs / "bad_not", demo_photos()[:1], pictures_per_photo=1)
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    data = builder.add("GlitchDatasetLoader", folder="bad_not", width=64, height=64)
    builder.add(
        "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
        dataset=(data, "dataset"), **{setting: value},
    )  # fmt: skip
    with pytest.raises((PromptRejected, RunFailed), match=said) as caught:
        client.run(builder.nodes)
    assert "\n" not in str(caught.value)
    assert not list((Path(inputs).parent / "output" / "glitch").glob("*evil*"))


def test_a_side_that_is_not_a_multiple_of_eight(client: ComfyClient, inputs: Path) -> None:
    """Catches a shape the VAE would silently crop."""
    write_picture_folder(inputs / "bad_side", demo_photos()[:1], pictures_per_photo=1)
    builder = GraphBuilder(client)
    data = builder.add("GlitchDatasetLoader", folder="bad_side", width=100, height=64)
    builder.add("PreviewAny", source=(data, "report"))
    with pytest.raises((PromptRejected, RunFailed), match="multiple of 8"):
        client.run(builder.nodes)


def test_a_checkpoint_of_another_family(client: ComfyClient, host: Host, inputs: Path) -> None:
    """Catches a traceback where the message must name the family and what is supported."""
    name, _ = place_tiny_sd3(host.base_dir)
    write_picture_folder(inputs / "bad_family", demo_photos()[:1], pictures_per_photo=1)
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    other = builder.add("UNETLoader", unet_name=name)
    data = builder.add("GlitchDatasetLoader", folder="bad_family", width=64, height=64)
    builder.add(
        "GlitchLoraTrainer", model=(other, 0), clip=(base, 1), vae=(base, 2),
        dataset=(data, "dataset"),
    )  # fmt: skip
    with pytest.raises(RunFailed, match=r"checkpoint is SD3.*SD1\.5, SDXL, SSD-1B, Vega"):
        client.run(builder.nodes)
