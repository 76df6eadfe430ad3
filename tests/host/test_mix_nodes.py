"""Several datasets as one in the real host: its proportions in the report, trained and gone on."""

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
from glitch_train.dataset.load import load_parts
from glitch_train.lora.file import read_metadata, read_recipe_of
from glitch_train.losses.read import read_csv
from glitch_train.recipe.recipe import read_recipe

pytestmark = pytest.mark.host

FOLDER = "mix_nodes"
CHECKPOINT = "pocket_sd15.safetensors"


@pytest.fixture
def folder(host: Host) -> Iterator[Path]:
    """Two photographs as they are, and two of kohya's folders, in the host's input folder."""
    path = host.base_dir / "input" / FOLDER
    write_picture_folder(path / "plain", demo_photos()[:2], pictures_per_photo=1)
    write_picture_folder(path / "kohya" / "3_a cup", demo_photos()[:1], pictures_per_photo=1)
    write_picture_folder(path / "kohya" / "1_two", demo_photos()[:2], pictures_per_photo=1)
    yield path
    shutil.rmtree(path)


def load(builder: GraphBuilder, place: str = "plain", **settings: Any) -> str:
    """Add a loader at 64×64, each picture seen four times an epoch."""
    given = {"width": 64, "height": 64, "repeats": 4} | settings
    return builder.add("GlitchDatasetLoader", folder=f"{FOLDER}/{place}", **given)


def test_a_mix_shows_its_proportions_and_trains(client: ComfyClient, folder: Path) -> None:
    """Catches a mix whose parts are prepared alike, or that a recipe cannot say and repeat."""
    runs, said = [], ""
    for steps in (2, 3):
        builder = GraphBuilder(client)
        crush = builder.add("GlitchCorruptJpegCrush", quality_low=2, quality_high=4)
        crushed = load(builder, corruption_chain=(crush, 0), trigger_word="crsh")
        mix = builder.add(
            "GlitchDatasetMix", dataset_1=(load(builder), "dataset"), weight_1=3.0,
            dataset_2=(crushed, "dataset"), weight_2=1.0,
        )  # fmt: skip
        builder.add("GlitchContactSheet", dataset=(mix, "dataset"), cell_px=64)
        base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        trainer = builder.add(
            "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
            dataset=(mix, "dataset"), steps=steps, network_dim=4, batch_size=1,
            output_name="a mix", save_every=1,
        )  # fmt: skip
        shown = builder.add("PreviewAny", source=(mix, "report"))
        outputs = client.run(builder.nodes)
        runs.append(Path(outputs[trainer]["text"][0]))
        said = outputs[shown]["text"][0]
        if steps == 2:  # the second time it is cached, and what it showed is there already
            assert outputs[mix]["text"] == ["of every epoch: plain 75 %, plain 25 %"]
    assert "| 1 | plain | 2 | 4 | 3 | 12 | 75 % |" in said
    assert "| 2 | plain | 2 | 4 | 1 | 4 | 25 % |" in said
    assert "jpeg_crush" in said
    assert runs[0] == runs[1]
    run = folder.parents[1] / "output" / "glitch" / runs[0].stem
    assert len(read_csv(run / "losses.csv").loss) == 3
    recipe = read_recipe(run / "recipe.json")
    assert [part.weight for part in recipe.mix] == [3.0, 1.0]
    assert load_parts(recipe.dataset, recipe.mix).samples_per_epoch() == (12, 4)
    shared = read_recipe_of(runs[0])
    assert [one.trigger_word for one in shared.datasets] == ["", "crsh"]
    about = read_metadata(runs[0])
    assert about["ss_num_train_images"] == "16"
    assert '"plain (2)"' in about["ss_dataset_dirs"]


def test_kohyas_folders_are_read_as_a_mix(client: ComfyClient, folder: Path) -> None:
    """Catches a root that the loader refuses, for its pictures lie one deeper."""
    builder = GraphBuilder(client)
    data = load(builder, "kohya")
    pictures = builder.add("PreviewImage", images=(data, "pictures"))
    shown = builder.add("PreviewAny", source=(data, "report"))
    outputs = client.run(builder.nodes)
    assert "| 2 | 3_a cup | 1 | 3 | by repeats | 3 | 60 % |" in outputs[shown]["text"][0]
    assert len(outputs[pictures]["images"]) == 3


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"weight_2": -1.0}, "smaller than min"),
        ({"weight_4": 2.0}, "weight_4 is set, but nothing is connected to dataset_4"),
    ],
)
def test_bad_weights_are_one_sentence(
    client: ComfyClient, folder: Path, inputs: dict[str, Any], said: str
) -> None:
    """Catches a weight that is dropped without a word."""
    builder = GraphBuilder(client)
    data = (load(builder), "dataset")
    mix = builder.add("GlitchDatasetMix", dataset_1=data, dataset_2=data, **inputs)
    builder.add("PreviewAny", source=(mix, "report"))
    with pytest.raises((PromptRejected, RunFailed), match=said):
        client.run(builder.nodes)
