"""Pictures from the graph in the real host: any shape, captions and masks, trained and gone on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from graphs import GraphBuilder

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected, RunFailed
from glitch_train.dataset.load import load_dataset
from glitch_train.losses.read import read_csv
from glitch_train.recipe.recipe import Recipe, read_recipe

pytestmark = pytest.mark.host

FOLDER = "image_nodes"
CHECKPOINT = "pocket_sd15.safetensors"


@pytest.fixture
def folder(host: Host) -> Iterator[Path]:
    """Three photographs with captions in the host's input folder."""
    path = host.base_dir / "input" / FOLDER
    write_picture_folder(path, demo_photos()[:3], pictures_per_photo=1)
    yield path
    shutil.rmtree(path)


def from_images(builder: GraphBuilder, size: int = 64, **inputs: Any) -> str:
    """Add the node, on what the host's own Invert Image makes of a list of pictures."""
    source = builder.add("GlitchDatasetLoader", folder=FOLDER, width=size, height=size)
    inverted = builder.add("ImageInvert", image=(source, "pictures"))
    given = {"images": (inverted, 0), "captions": (source, "captions")} | inputs
    return builder.add("GlitchDatasetFromImages", width=size, height=size, **given)


def train(builder: GraphBuilder, dataset: str, **settings: Any) -> str:
    """Add a checkpoint and a trainer."""
    base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    return builder.add(
        "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
        dataset=(dataset, "dataset"),
        **{"network_dim": 4, "batch_size": 1, "output_name": "from images", "save_every": 1}
        | settings,
    )  # fmt: skip


def test_images_of_a_host_node_train_and_go_on(client: ComfyClient, folder: Path) -> None:
    """Catches a dataset that is gone when the run goes on, or whose recipe cannot be repeated.

    The second run is longer, so that it goes on with the first one's state: it must find the same
    pictures. The recipe alone, as on the command line, gives what the node trained.
    """
    runs = []
    for steps in (2, 3):
        builder = GraphBuilder(client)
        mask = builder.add("SolidMask", value=1.0, width=64, height=64)
        trainer = train(builder, from_images(builder, mask=(mask, 0)), steps=steps)
        lora = Path(client.run(builder.nodes)[trainer]["text"][0])
        runs.append(lora)
    assert runs[0] == runs[1]
    run = folder.parents[1] / "output" / "glitch" / lora.stem
    assert len(read_csv(run / "losses.csv").loss) == 3
    recipe = read_recipe(run / "recipe.json")
    kept = Path(recipe.dataset.folder)
    assert kept.parent == folder.parents[1] / "output" / "glitch" / "pictures"
    assert kept.name.startswith("pictures_3_")
    assert recipe.dataset.masks == "beside"
    dataset = load_dataset(recipe.dataset)
    captions = [path.read_text("utf-8").strip() for path in sorted(folder.glob("*.txt"))]
    assert [sample.caption for sample in dataset.samples] == captions
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_deleted_pictures_are_kept_again(client: ComfyClient, folder: Path) -> None:
    """Catches a cached result that names files which somebody deleted."""
    builder = GraphBuilder(client)
    builder.add("PreviewAny", source=(from_images(builder), "report"))
    client.run(builder.nodes)
    place = folder.parents[1] / "output" / "glitch" / "pictures"
    before = {path.name for path in place.rglob("*.png")}
    shutil.rmtree(place)
    client.run(builder.nodes)
    assert {path.name for path in place.rglob("*.png")} <= before
    assert any(place.rglob("00003.png"))


def test_shapes_of_any_kind_and_one_caption_for_all(client: ComfyClient, folder: Path) -> None:
    """Catches a list whose pictures are cut to one shape, and a report without a hash."""
    builder = GraphBuilder(client)
    wide = builder.add("EmptyImage", width=96, height=64, batch_size=2, color=255)
    source = builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=128)
    batch = builder.add("ImageBatch", image1=(wide, 0), image2=(wide, 0))
    tall = builder.add(
        "GlitchDatasetFromImages", images=(source, "pictures"), captions="one for all",
        framing="uncropped", width=64, height=64,
    )  # fmt: skip
    four = builder.add("GlitchDatasetFromImages", images=(batch, 0), width=64, height=64)
    shown = [builder.add("PreviewAny", source=(node, "report")) for node in (tall, four)]
    outputs = client.run(builder.nodes)
    first, second = (outputs[node]["text"][0] for node in shown)
    assert "**3 pictures** from" in first
    assert "3 with a caption, 0 without" in first
    assert "**4 pictures** from" in second
    assert "pictures_4_" in second


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"captions": "two"}, "There are 2 captions for 3 pictures; give one for all"),
        ({"mask": "two"}, "There are 2 masks for 3 pictures"),
        (
            {"mask": "black"},
            "Picture 1 cannot be trained: its mask in 00001-masklabel.png is black",
        ),
        ({"mask": "shape"}, "Picture 1 cannot be trained: its mask .* another shape"),
        ({"framing": "bucket"}, "min_bucket_reso must be at most the shorter side of 64×64"),
    ],
)
def test_bad_inputs_are_one_sentence(
    client: ComfyClient, folder: Path, inputs: dict[str, Any], said: str
) -> None:
    """Catches pictures or captions that are dropped or guessed at without a word."""
    builder = GraphBuilder(client)
    masks = {"two": (64, 64, 2), "black": (64, 64, 1), "shape": (32, 64, 1)}
    if "mask" in inputs:
        width, height, count = masks[inputs["mask"]]
        made = builder.add("EmptyImage", width=width, height=height, batch_size=count, color=0)
        mask = builder.add("ImageToMask", image=(made, 0), channel="red")
        inputs = {"mask": (mask, 0)}
    if inputs.get("captions") == "two":
        other = builder.add(
            "GlitchDatasetLoader", folder=FOLDER, width=64, height=64, preview_count=2
        )
        inputs = {"captions": (other, "captions")}
    builder.add("PreviewAny", source=(from_images(builder, **inputs), "report"))
    with pytest.raises((PromptRejected, RunFailed), match=said):
        client.run(builder.nodes)
