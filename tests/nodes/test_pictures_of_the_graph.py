"""What a node hands out and takes in: the host's tensors and the library's pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from pictures_on_disk import photo_folder

pytestmark = pytest.mark.host

Pack = Callable[[str], ModuleType]


def test_eight_bits_come_back_the_same(pack: Pack) -> None:
    """Catches a value that is cut instead of rounded: 1/255 × 255 may be a little below 1."""
    values = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1).repeat(3, axis=3)
    image = torch.from_numpy(values.astype(np.float32) / 255.0)
    given = pack("nodes.dataset.given_pictures").GivenPictures.of([image], [""], None)
    assert (given[0].pixels == values[0]).all()
    assert given[0].caption is None
    beyond = pack("nodes.dataset.given_pictures").GivenPictures.of([image * 3 - 1], ["x"], None)
    assert (beyond[0].pixels.min(), beyond[0].pixels.max()) == (0, 255)


def test_batches_lists_and_single_pictures_are_one_row(pack: Pack) -> None:
    """Catches a list of which only the first batch arrives, and captions given to the wrong one."""
    images = [torch.zeros(2, 8, 8, 3), torch.ones(16, 8, 3), torch.zeros(1, 8, 24, 4)]
    masks = [torch.ones(2, 8, 8), torch.zeros(8, 8), torch.ones(1, 8, 24)]
    given = pack("nodes.dataset.given_pictures").GivenPictures.of(images, list("abcd"), masks)
    assert [given[number].pixels.shape for number in range(4)] == [
        *((8, 8, 3), (8, 8, 3), (16, 8, 3), (8, 24, 4)),
    ]
    assert [given[number].caption for number in range(4)] == list("abcd")
    assert [int(given[number].mask.max()) for number in range(4)] == [255, 255, 0, 255]
    one = pack("nodes.dataset.given_pictures").GivenPictures.of(images, ["for all"], masks[:0])
    assert [one[number].caption for number in (0, 3)] == ["for all"] * 2


@pytest.mark.parametrize(
    ("images", "captions", "masks", "said"),
    [
        ([], [], None, "No picture arrived"),
        ([torch.zeros(1, 8, 8, 2)], [], None, "Picture 1 has 2 channels"),
        ([torch.zeros(8, 8)], [], None, "which is no batch of pictures"),
        ([torch.zeros(3, 8, 8, 3)], ["a", "b"], None, "2 captions for 3 pictures"),
        ([torch.zeros(3, 8, 8, 3)], [], [torch.ones(2, 8, 8)], "2 masks for 3 pictures"),
        ([torch.full((1, 8, 8, 3), torch.nan)], [], None, "Picture 1 holds NaN"),
        ([torch.zeros(1, 8, 8, 3)], [], [torch.full((8, 8), torch.inf)], "mask of picture 1 holds"),
    ],
)
def test_what_is_no_picture_is_one_sentence(
    pack: Pack, images: list, captions: list, masks: list | None, said: str
) -> None:
    """Catches pictures or captions that are dropped or guessed at, or a traceback."""
    module = pack("nodes.dataset.given_pictures")
    with pytest.raises(module.DatasetError, match=said):
        module.GivenPictures.of(images, captions, masks)[0]


def test_all_pictures_are_handed_out_with_a_word_on_the_memory(
    pack: Pack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a thousand pictures that fill the memory without a word, or end the host.

    Three pictures of 64 × 64 are 147 kB of fp32.
    """
    reading = pack("nodes.dataset.reading")
    recipe = pack("glitch_train.dataset.recipe").DatasetRecipe(
        folder=str(photo_folder(tmp_path, 3)), width=64, height=64
    )
    dataset = pack("glitch_train.dataset.load").load_dataset(recipe)
    devices = pack("glitch_train.training.devices")
    for free, warned in ((1e9, False), (200e3, True)):
        monkeypatch.setattr(devices, "free_bytes", lambda _, free=free: free)
        out = reading.Previews.of(dataset, 0)
        assert len(out.jobs) == 3
        assert ("147 kB of memory, of which 200 kB are free" in out.warning) is warned
        assert ("147 kB" in out.above("report")) is warned
    assert [picture.shape for picture in out.pictures()] == [(1, 64, 64, 3)] * 3
    monkeypatch.setattr(devices, "free_bytes", lambda _: 100e3)
    with pytest.raises(reading.DatasetError, match="of which 100 kB are free; lower preview_count"):
        reading.Previews.of(dataset, 0)
    assert len(reading.Previews.of(dataset, 1).jobs) == 1
