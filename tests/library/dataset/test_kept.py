"""Pictures from a graph, kept as a folder: once, whole, and as they were given."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glitch_train.dataset.dataset import GlitchDataset
from glitch_train.dataset.kept import GivenPicture, check_all_used, keep_pictures
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import DatasetError


def pixels(height: int = 64, width: int = 64, channels: int = 3, seed: int = 0) -> np.ndarray:
    """Return noise."""
    stream = np.random.default_rng(seed)
    return stream.integers(0, 256, (height, width, channels), dtype=np.uint8)


def keep(place: Path, *pictures: GivenPicture) -> Path:
    """Keep pictures."""
    return keep_pictures(len(pictures), pictures.__getitem__, place)


def load(folder: Path, **settings: object) -> GlitchDataset:
    """Load kept pictures at 64×64 with their masks."""
    settings = {"width": 64, "height": 64, "masks": "beside"} | settings
    return load_dataset(DatasetRecipe(folder=str(folder), **settings))


def test_pictures_come_back_as_they_were_given(tmp_path: Path) -> None:
    """Catches pixels, order, captions or masks that suffer on their way over the disk."""
    mask = np.full((64, 64), 255, np.uint8)
    mask[:, 32:] = 0
    given = [
        GivenPicture(pixels(seed=1), "two, words\nand a line", mask),
        GivenPicture(pixels(seed=2), ""),
        GivenPicture(pixels(channels=1, seed=3), "grey"),
        *(GivenPicture(pixels(seed=seed), "x") for seed in range(10, 18)),
    ]
    dataset = load(keep(tmp_path, *given))
    assert [sample.caption for sample in dataset.samples][:4] == [
        *("two, words\nand a line", "", "grey", "x"),
    ]
    for picture, sample in zip(given, dataset.samples, strict=True):
        prepared = np.asarray(dataset.prepare(sample).image)
        assert (prepared == picture.pixels).all()
    assert (np.asarray(dataset.mask(dataset.samples[0])) == mask).all()
    assert dataset.samples[1].mask is None


def test_transparency_is_kept(tmp_path: Path) -> None:
    """Catches RGBA that is flattened before the recipe's background or mask can see it."""
    picture = pixels(channels=4)
    dataset = load(keep(tmp_path, GivenPicture(picture)), masks="alpha")
    assert (np.asarray(dataset.mask(dataset.samples[0])) == picture[..., 3]).all()


@pytest.mark.parametrize(
    "other",
    [
        [GivenPicture(pixels(seed=1), "a"), GivenPicture(pixels(seed=2), "c")],
        [GivenPicture(pixels(seed=1), "a"), GivenPicture(pixels(seed=3), "b")],
        [GivenPicture(pixels(seed=2), "b"), GivenPicture(pixels(seed=1), "a")],
        [GivenPicture(pixels(seed=1), "a", pixels()[..., 0]), GivenPicture(pixels(seed=2), "b")],
        [GivenPicture(pixels(seed=1).reshape(32, 128, 3), "a"), GivenPicture(pixels(seed=2), "b")],
    ],
    ids=["caption", "pixels", "order", "mask", "shape"],
)
def test_another_set_is_another_folder(tmp_path: Path, other: list[GivenPicture]) -> None:
    """Catches a folder that two sets share, so that one run's recipe names the other's pictures."""
    first = [GivenPicture(pixels(seed=1), "a"), GivenPicture(pixels(seed=2), "b")]
    assert keep(tmp_path, *first) == keep(tmp_path, *first)
    assert keep(tmp_path, *first) != keep(tmp_path, *other)
    assert keep(tmp_path, *first).name.startswith("pictures_2_")


def test_what_is_there_stays_and_what_is_damaged_is_mended(tmp_path: Path) -> None:
    """Catches a run that cannot go on because its pictures' files were written anew.

    A state knows pictures by their files' bytes, which differ between versions of zlib.
    """
    given = GivenPicture(pixels(), "a")
    folder = keep(tmp_path, given)
    path = folder / "00001.png"
    with Image.open(path) as image:
        image.load()
    image.save(path, compress_level=9)
    packed = path.read_bytes()
    assert keep(tmp_path, given) == folder
    assert path.read_bytes() == packed
    path.write_bytes(packed[: len(packed) // 2])
    keep(tmp_path, given)
    assert (np.asarray(Image.open(path)) == given.pixels).all()


def test_what_does_not_belong_there_is_said(tmp_path: Path) -> None:
    """Catches pictures, captions or masks that slip into a set by lying in its folder."""
    given = GivenPicture(pixels(), None)
    folder = keep(tmp_path, given)
    (folder / ".DS_Store").write_bytes(b"x")
    (folder / "Thumbs.db").write_bytes(b"x")
    keep(tmp_path, given)
    for name in ("2.jpg", "00001.txt", "00001_mask.png"):
        (folder / name).write_bytes(b"x")
        with pytest.raises(DatasetError, match=f"holds {name}, which is not of the pictures"):
            keep(tmp_path, given)
        os.remove(folder / name)


def test_a_picture_that_cannot_be_trained_is_refused(tmp_path: Path) -> None:
    """Catches a picture that is left out of a set nobody looks into: here for a black mask."""
    black = np.zeros((64, 64), np.uint8)
    folder = keep(tmp_path, GivenPicture(pixels()), GivenPicture(pixels(seed=1), None, black))
    with pytest.raises(DatasetError, match=r"Picture 2 cannot be trained: its mask .* is black"):
        check_all_used(load(folder))
