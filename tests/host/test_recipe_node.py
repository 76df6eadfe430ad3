"""Glitch Recipe in the real host: what it names reaches the pictures, the LoRA and its file."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import GraphBuilder, pictures_of
from safetensors.torch import load_file

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected, RunFailed
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.lora.file import read_recipe_of
from glitch_train.losses.read import read_csv

pytestmark = pytest.mark.host

FOLDER = "recipe_pictures"
CHECKPOINT = "pocket_sd15.safetensors"
SIZE = {"width": 64, "height": 64}
TRAIN = {"network_dim": 4, "network_alpha": 4.0, "probe_every": 0, "resume": "never"}


@pytest.fixture(autouse=True)
def folder(host: Host) -> Path:
    """Four pictures in the host's input folder."""
    path = host.base_dir / "input" / FOLDER
    if not path.exists():
        write_picture_folder(path, demo_photos()[:1])
    return path


def add_chain(builder: GraphBuilder, *links: tuple[str, str]) -> str:
    """Add Glitch Recipe nodes in a chain; return the last."""
    node = ""
    for preset, settings in links:
        before = {"recipe": (node, 0)} if node else {}
        node = builder.add("GlitchRecipe", preset=preset, settings=settings, **before)
    return node


def train(builder: GraphBuilder, data: dict[str, Any], train: dict[str, Any]) -> tuple[str, str]:
    """Add loader and trainer; return their ids."""
    base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    loader = builder.add("GlitchDatasetLoader", folder=FOLDER, **{**SIZE, **data})
    trainer = builder.add(
        "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
        dataset=(loader, 0), **{**TRAIN, **train},
    )  # fmt: skip
    return loader, trainer


def result(client: ComfyClient, host: Host, builder: GraphBuilder, trainer: str) -> tuple:
    """Run; return the LoRA's path, its losses and the outputs."""
    outputs = client.run(builder.nodes)
    path = Path(outputs[trainer]["text"][0])
    record = read_csv(host.base_dir / "output" / "glitch" / path.stem / "losses.csv")
    return path, record.loss, outputs


def test_a_recipe_goes_through_the_lora_and_comes_back(client: ComfyClient, host: Host) -> None:
    """Catches a setting lost between node, pictures, LoRA file and the recipe read from it."""
    builder = GraphBuilder(client)
    recipe = add_chain(
        builder,
        ("no bucket (stretched)", ""),
        ("JPEG-crushed", ""),
        ("caption dropout", "steps = 3\nseed = 11\nvariants_per_picture = 2"),
    )
    # Both nodes' widgets say otherwise: what the recipe names wins, the rest is theirs.
    loader, trainer = train(
        builder,
        {"framing": "letterbox", "repeats": 3, "recipe": (recipe, 0)},
        {"steps": 50, "seed": 5, "learning_rate": 3e-4, "recipe": (recipe, 0)},
    )
    shown = builder.add("PreviewImage", images=(loader, "pictures"))
    report = builder.add("PreviewAny", source=(loader, "report"))
    path, losses, outputs = result(client, host, builder, trainer)

    found = read_recipe_of(path)
    assert found.dataset.framing == "stretch"
    assert found.dataset.repeats == 3
    assert found.dataset.caption_dropout == 0.3
    assert (found.train.steps, found.train.seed, found.train.learning_rate) == (3, 11, 3e-4)
    assert found.origins == {
        "framing": "no bucket (stretched)",
        "corruption": "JPEG-crushed",
        "caption_dropout": "caption dropout",
        "variants_per_picture": "settings beside caption dropout",
        "steps": "settings beside caption dropout",
        "seed": "settings beside caption dropout",
    }
    in_folder = json.loads(
        (host.base_dir / f"output/glitch/{path.stem}/recipe.json").read_text("utf-8")
    )
    folder = str(host.base_dir / "input" / FOLDER)
    assert in_folder["dataset"].pop("folder") == folder
    told = found.to_dict()
    assert told["dataset"].pop("folder") == FOLDER  # what is shared says no path
    assert in_folder == told

    for said in (outputs[loader]["text"][0], outputs[report]["text"][0]):
        assert "no bucket (stretched): framing = stretch;" in said
        assert "all other settings from the widgets" in said
    assert "settings beside caption dropout: steps = 3, seed = 11;" in outputs[trainer]["text"][-1]
    text = outputs[recipe]["text"][0]
    assert "variants_per_picture: JPEG-crushed says 10" in text
    assert "settings beside caption dropout, wins" in text

    # The recipe from the file, in the library: the same pictures.
    dataset = load_dataset(dataclasses.replace(found.dataset, folder=folder))
    jobs = [(sample, variant) for sample in dataset.samples for variant in (0, 1)]
    expected = np.stack([np.asarray(dataset.prepare(*job).image) for job in jobs])
    assert (pictures_of(client, outputs, shown) == expected).all()

    # And in the host, as plain widgets without a recipe: the same losses and the same LoRA.
    again = GraphBuilder(client)
    widgets = dataclasses.asdict(found.dataset)
    widgets.pop("folder")
    _, trainer = train(again, widgets, dataclasses.asdict(found.train))
    path_again, losses_again, _ = result(client, host, again, trainer)
    assert path_again != path
    assert losses_again == losses
    one, two = load_file(path), load_file(path_again)
    assert one.keys() == two.keys()
    assert all(one[key].equal(two[key]) for key in one)
    assert read_recipe_of(path_again) == found
    assert read_recipe_of(path_again).origins == {}


def test_a_recipe_at_the_trainer_alone_says_what_it_misses(client: ComfyClient, host: Host) -> None:
    """Catches a framing that everyone believes was trained."""
    builder = GraphBuilder(client)
    recipe = add_chain(builder, ("no bucket (stretched)", "steps = 1"))
    loader, trainer = train(builder, {}, {"recipe": (recipe, 0)})
    path, _, outputs = result(client, host, builder, trainer)
    assert read_recipe_of(path).dataset == DatasetRecipe(folder=FOLDER, **SIZE)
    said = outputs[trainer]["text"][-1]
    assert "framing is center_crop, the recipe asks for stretch" in said
    assert loader not in outputs


def test_a_recipe_at_the_loader_alone_says_what_it_misses(client: ComfyClient, host: Host) -> None:
    """Catches a chain of settings that reaches no trainer, and nobody says so."""
    builder = GraphBuilder(client)
    recipe = add_chain(builder, ("no bucket (stretched)", "steps = 3"))
    _, trainer = train(builder, {"recipe": (recipe, 0)}, {"steps": 1, "network_dim": 2})
    path, losses, outputs = result(client, host, builder, trainer)
    assert (read_recipe_of(path).train.steps, len(losses)) == (1, 1)
    said = outputs[trainer]["text"][-1]
    assert "steps is 1, the recipe asks for 3" in said
    assert "framing" not in said


@pytest.mark.parametrize(
    ("preset", "settings", "said"),
    [
        ("no such preset", "", "no such preset"),
        ("uncropped", "framig = 1", "did you mean 'framing'"),
        ("uncropped", "version = 99", "update the pack"),
        ("uncropped", 'output_name = "a/b"', "without path separators"),
        ("uncropped", "framing = stretch", "words in quotes"),
        ("uncropped", "landscape_width = 512", "must both be 0 or both be set"),
    ],
)
def test_a_bad_recipe_is_one_sentence(
    client: ComfyClient, preset: str, settings: str, said: str
) -> None:
    """Catches a recipe that is found wrong after work was done, or in a traceback."""
    builder = GraphBuilder(client)
    recipe = add_chain(builder, (preset, settings))
    loader = builder.add("GlitchDatasetLoader", folder=FOLDER, recipe=(recipe, 0), **SIZE)
    builder.add("PreviewAny", source=(loader, "report"))
    with pytest.raises((PromptRejected, RunFailed), match=said) as caught:
        client.run(builder.nodes)
    assert "\n" not in str(caught.value)
