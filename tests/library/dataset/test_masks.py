"""Which part of a picture counts: masks found, checked, and framed as their picture is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pictures_on_disk import gradient
from PIL import Image

from glitch_train.dataset.dataset import GlitchDataset
from glitch_train.dataset.folder import folder_fingerprint
from glitch_train.dataset.framing import FRAMINGS
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe


def load(folder: Path, **settings: object) -> GlitchDataset:
    """Load a folder at 64×96, with the masks beside its pictures."""
    settings = {"width": 64, "height": 96, "masks": "beside", "caption_source": "fixed"} | settings
    return load_dataset(DatasetRecipe(folder=str(folder), **settings))


def remarks(dataset: GlitchDataset) -> dict[str, tuple[bool, str]]:
    """Return file name to whether it is used, and the remark on it."""
    return {file.name: (file.used, file.reason) for file in dataset.files}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shrunk", [1, 2], ids=["same size", "half the size"])
def test_a_mask_is_framed_as_its_picture(tmp_path: Path, framing: str, shrunk: int) -> None:
    """Catches a crop, flip or border that the mask does not follow.

    The picture's red says how far right a pixel was; its mask is that same red, so that wherever
    framing takes them, both must agree.
    """
    picture = gradient(160, 120)
    picture.save(tmp_path / "a.png")
    red = picture.getchannel("R")
    red.resize((160 // shrunk, 120 // shrunk)).save(tmp_path / "a_mask.png")
    dataset = load(
        tmp_path, framing=framing, random_flip=True, letterbox_fill="edge",
        variants_per_picture=6, min_bucket_reso=64,
    )  # fmt: skip
    (sample,) = dataset.samples
    flips = set()
    for variant in range(6):
        framed, mask = dataset.prepare(sample, variant), dataset.mask(sample, variant)
        assert mask is not None
        assert mask.size == framed.image.size
        apart = np.asarray(mask, int) - np.asarray(framed.image.getchannel("R"), int)
        assert np.abs(apart).mean() < 3
        flips.add(framed.plan.flip)
    assert flips == {True, False}


def test_transparency_is_a_mask_by_a_switch(tmp_path: Path) -> None:
    """Catches alpha that is read the wrong way round, or from the flattened picture."""
    picture = gradient(64, 96)
    picture.putalpha(gradient(64, 96).getchannel("G"))
    picture.save(tmp_path / "a.png")
    gradient(64, 96).save(tmp_path / "whole.png")
    dataset = load(tmp_path, masks="alpha")
    clear, whole = dataset.samples
    assert dataset.mask(clear).tobytes() == gradient(64, 96).getchannel("G").tobytes()
    assert dataset.mask(whole) is None
    assert dataset.mask_key(whole) == ""
    assert remarks(dataset)["whole.png"] == (True, "no transparency: all of it counts")
    beside = load(tmp_path)
    assert [beside.mask(sample) for sample in beside.samples] == [None, None]


def test_a_letterboxs_border_counts_where_the_mask_beside_it_does(tmp_path: Path) -> None:
    """Catches a white mask that is not none: the border would count without it."""
    gradient(64, 32).save(tmp_path / "a.png")
    mask = Image.new("L", (64, 32), 0)
    mask.paste(255, (0, 0, 64, 10))
    mask.save(tmp_path / "a_mask.png")
    dataset = load(tmp_path, framing="letterbox", height=64)
    framed = np.asarray(dataset.mask(dataset.samples[0]))
    assert (framed[:16] == 255).all()
    assert (framed[-22:] == 0).all()


def test_every_mask_file_is_used_or_has_a_reason(tmp_path: Path) -> None:
    """Catches a picture trained whole against its mask, and a mask that is lost silently."""
    half = Image.new("L", (64, 32), 0)
    half.paste(255, (0, 0, 32, 32))
    for name in ("two", "none", "black", "shape", "broken", "depth"):
        gradient(64, 32).save(tmp_path / f"{name}.png")
    half.save(tmp_path / "two-masklabel.png")
    half.save(tmp_path / "two_mask.png")
    half.save(tmp_path / "depth-depth.png")
    half.save(tmp_path / "gone-masklabel.png")
    Image.new("L", (64, 32), 0).save(tmp_path / "black-mask.png")
    Image.new("L", (32, 64), 255).save(tmp_path / "shape_mask.png")
    (tmp_path / "broken_mask.png").write_bytes(b"no picture")
    dataset = load(tmp_path)
    said = remarks(dataset)
    assert [sample.name for sample in dataset.samples] == ["depth.png", "none.png", "two.png"]
    assert said["none.png"] == (True, "no mask beside it: all of it counts")
    assert said["two-masklabel.png"] == (True, "")
    assert said["two_mask.png"] == (False, "a mask of two: two-masklabel.png is used instead")
    assert said["gone-masklabel.png"] == (False, "a mask without a picture")
    assert said["depth-depth.png"][1].startswith("a mask or conditioning picture of depth")
    assert (
        said["black.png"][1] == "its mask in black-mask.png is black, so that nothing would count"
    )
    assert said["black-mask.png"] == (False, "its picture black.png is skipped")
    assert "is 32×64, another shape than the picture's 64×32" in said["shape.png"][1]
    assert said["broken.png"][1].startswith("its mask broken_mask.png: not a picture")


def test_a_changed_mask_is_read_again(tmp_path: Path) -> None:
    """Catches a loader that keeps its cached result, or latents' masks, when a mask was painted."""
    gradient(64, 96).save(tmp_path / "a.png")
    Image.new("L", (64, 96), 200).save(tmp_path / "a_mask.png")
    before, seen = load(tmp_path), folder_fingerprint(tmp_path)
    Image.new("L", (64, 96), 100).save(tmp_path / "a_mask.png", compress_level=0)
    after = load(tmp_path)
    assert folder_fingerprint(tmp_path) != seen
    assert before.mask_key(before.samples[0]) != after.mask_key(after.samples[0])
    assert before.picture_key(before.samples[0]) == after.picture_key(after.samples[0])
