"""The dataset's nodes in the real host: previews, contact sheet, chains, and a training."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import GraphBuilder, pictures_of
from PIL import Image

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected, RunFailed
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.model.clip_tokens import count_tokens

pytestmark = pytest.mark.host

FOLDER = "dataset_nodes"
CHECKPOINT = "pocket_sd15.safetensors"
LONG = "A cup (of coffee:1.4) \\(black\\), seen from above. " * 40


@pytest.fixture
def folder(host: Host) -> Iterator[Path]:
    """Photographs with captions in the host's input folder, one caption of 600 tokens."""
    path = host.base_dir / "input" / FOLDER
    write_picture_folder(path, demo_photos()[:3], pictures_per_photo=2)
    next(path.glob("*.txt")).write_text(LONG)
    yield path
    shutil.rmtree(path)


def load(builder: GraphBuilder, **settings: Any) -> str:
    """Add a loader at 64×64."""
    return builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=64, **settings)


def test_pictures_and_captions_are_those_of_the_library(client: ComfyClient, folder: Path) -> None:
    """Catches a node setting that does not arrive: everything equals the library's own answer."""
    settings: dict[str, Any] = {
        "framing_mix": "stretch, letterbox",
        "letterbox_fill": "edge",
        "random_flip": True,
        "variants_per_picture": 2,
        "caption_part_dropout": 0.4,
        "trigger_word": "glz",
        "data_seed": 5,
    }
    builder = GraphBuilder(client)
    crush = builder.add("GlitchCorruptJpegCrush", quality_low=3, quality_high=9, generations=2)
    sort = builder.add("GlitchCorruptPixelSort", amount=0.5, corruption_chain=(crush, 0))
    data = load(builder, corruption="posterize bits=4", corruption_chain=(sort, 0), **settings)
    shown = builder.add("PreviewImage", images=(data, "pictures"))
    captions = builder.add("PreviewAny", source=(data, "captions"))
    outputs = client.run(builder.nodes)
    chain = "posterize bits=4\njpeg_crush quality_low=3 quality_high=9 generations=2\n"
    recipe = DatasetRecipe(
        folder=str(folder), width=64, height=64,
        corruption=chain + "pixel_sort amount=0.5", **settings,
    )  # fmt: skip
    dataset = load_dataset(recipe)
    jobs = [(index, variant) for index in range(len(dataset.samples)) for variant in (0, 1)]
    expected = [np.asarray(dataset.prepare(dataset.samples[i], v).image) for i, v in jobs]
    assert (pictures_of(client, outputs, shown) == np.stack(expected)).all()
    assert outputs[captions]["text"] == [dataset.shown_caption(i, v) for i, v in jobs]


def test_the_contact_sheet_is_shown_on_its_node(client: ComfyClient, folder: Path) -> None:
    """Catches a sheet that does not come, or is not a picture of the asked-for size."""
    builder = GraphBuilder(client)
    data = load(builder, random_flip=True, variants_per_picture=2)
    node = builder.add("GlitchContactSheet", dataset=(data, 0), pictures=3, variants=2, cell_px=128)
    (file,) = client.run(builder.nodes)[node]["images"]
    with Image.open(io.BytesIO(client.download(**file))) as sheet:
        assert sheet.width > 3 * 128
        assert sheet.height > 2 * 128
        assert len(set(sheet.convert("RGB").tobytes())) > 200


def test_training_on_a_mix_and_again_from_the_cache(
    client: ComfyClient, host: Host, folder: Path
) -> None:
    """Catches shapes or captions of different lengths that do not train, and a second encoding."""
    kept = host.base_dir / "output" / "glitch" / "cache"

    def train(seed: int) -> set[Path]:
        builder = GraphBuilder(client)
        base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
        data = load(
            builder, framing_mix="60 bucket, 40 uncropped", min_bucket_reso=64,
            corruption="jpeg_crush probability=0.5", variants_per_picture=2, random_flip=True,
            caption_part_dropout=0.3, caption_dropout=0.2, repeats=1, cache="keep",
        )  # fmt: skip
        builder.add(
            "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
            dataset=(data, 0), steps=3, network_dim=4, batch_size=2, seed=seed,
        )  # fmt: skip
        client.run(builder.nodes)
        return set(kept.rglob("*.safetensors"))

    first = train(1)
    times = {path: path.stat().st_mtime_ns for path in first}
    assert len(first) >= 12
    assert train(2) == first
    assert {path: path.stat().st_mtime_ns for path in first} == times


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"corruption": "jpeg_crash"}, "did you mean 'jpeg_crush'"),
        ({"framing_mix": "30 buket"}, "framing_mix must be like"),
        ({"background": "whitish"}, "background must be a colour"),
        ({"framing": "bucket"}, "min_bucket_reso must be at most the shorter side of 64×64"),
        ({"landscape_width": 128}, "must both be 0 or both be set"),
    ],
)
def test_bad_settings_are_one_sentence(
    client: ComfyClient, folder: Path, settings: dict[str, Any], said: str
) -> None:
    """Catches a traceback, or a setting that is silently ignored; the host stays up."""
    builder = GraphBuilder(client)
    builder.add("PreviewAny", source=(load(builder, **settings), "report"))
    with pytest.raises((PromptRejected, RunFailed), match=said):
        client.run(builder.nodes)


def test_tokens_are_counted_as_the_host_does(client: ComfyClient, folder: Path) -> None:
    """Catches a vocabulary or pattern that differs from the host's tokenizer."""
    from glitch_demo.host import host_tree

    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(host_tree() / "comfy" / "sd1_tokenizer")
    for caption in (LONG, "naïve CAFÉ 日本語 🙂 don't 12:34 #tag_x", *map(str, range(50))):
        assert count_tokens(caption) == len(tokenizer(caption)["input_ids"]) - 2
