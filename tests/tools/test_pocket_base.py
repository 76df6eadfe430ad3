"""The pocket checkpoint is a base that glitches can be seen on: its autoencoder and its UNet."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image")

from glitch_demo.photos import demo_photos, load
from glitch_demo.pocket import pocket_sd15, shipped_autoencoder
from glitch_demo.pocket_vae import PICTURE_PX
from glitch_demo.pocket_weights import shipped_weights
from glitch_train.cache import TensorCache
from glitch_train.measure.calibration.corruptions import (
    add_noise,
    crush,
    move,
    scale_contrast,
    stretch,
)
from glitch_train.measure.features import read_features
from glitch_train.measure.index import measure_pictures
from glitch_train.measure.pairs import PicturePairs, Pixels
from glitch_train.model.checkpoint_file import load_checkpoint
from glitch_train.model.noise_schedule import TRAIN_TIMESTEPS
from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.batches import with_prompts
from glitch_train.training.encode import encode_captions
from glitch_train.training.predictor import Predictor
from glitch_train.training.sampling import Drawing, drawn

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SEEN = ("composition", "framing", "compression", "texture", "contrast")
CORRUPTIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "composition": lambda picture: move(picture, 0.2),
    "framing": lambda picture: stretch(picture, 1.35),
    "compression": lambda picture: crush(picture, 5),
    "texture": lambda picture: add_noise(picture, 0.1),
    "contrast": lambda picture: scale_contrast(picture, 0.5),
}
LEAST_KEPT, MOST_OF_CLEAN = 0.6, 0.1
BANDS, DRAWS = 5, 2
STEPS = 8
MOST_RIGHT = 0.8


def indices(base: list[Pixels], glitched: list[Pixels]) -> dict[str, float]:
    """Return the glitch index of every effect that pictures tell."""
    names = tuple(map(str, range(len(base))))
    pairs = PicturePairs("pictures", names, lambda place: (base[place], glitched[place]))
    found = measure_pictures(read_features(pairs))
    return {one.effect: float("nan") if one.index is None else one.index for one in found}


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    return [np.asarray(load(photo, PICTURE_PX), np.float32) / 255 for photo in demo_photos()]


@pytest.fixture(scope="module")
def round_trip() -> Callable[[Pixels], Pixels]:
    """What the autoencoder makes of a picture."""
    encoder, decoder = shipped_autoencoder(shipped_weights())

    @torch.no_grad()
    def through(picture: Pixels) -> Pixels:
        pixels = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
        return decoder(encoder(pixels))[0].clamp(0, 1).permute(1, 2, 0).numpy()

    return through


@pytest.fixture(scope="module")
def clean(pictures: list[Pixels], round_trip: Callable[[Pixels], Pixels]) -> list[Pixels]:
    """The pictures as the autoencoder shows them."""
    return [round_trip(picture) for picture in pictures]


def test_clean_pictures_stay_clean(pictures: list[Pixels], clean: list[Pixels]) -> None:
    """Catches an autoencoder that glitches by itself."""
    found = indices(pictures, clean)
    assert {name: found[name] for name in SEEN if not found[name] < MOST_OF_CLEAN} == {}


@pytest.mark.parametrize("effect", SEEN)
def test_the_autoencoder_shows_the_corruption(
    effect: str,
    pictures: list[Pixels],
    clean: list[Pixels],
    round_trip: Callable[[Pixels], Pixels],
) -> None:
    """Catches one that cannot draw what a technique leaves: the matrix would read 0.00 for it."""
    broken = [CORRUPTIONS[effect](picture).astype(np.float32) for picture in pictures]
    plain = indices(pictures, broken)[effect]
    kept = indices(clean, [round_trip(picture) for picture in broken])[effect]
    assert plain > 0.3
    assert kept >= LEAST_KEPT * plain


class Base:
    """The checkpoint as the pack trains and samples it."""

    def __init__(self, cache: TensorCache) -> None:
        self.cache, self.photos = cache, demo_photos()
        self.base, self.encoders = load_checkpoint(pocket_sd15(), CPU)
        self.base.unet.float()
        self.predictor = Predictor(self.base, TrainRecipe(), CPU, torch.float32)
        captions = [photo.caption for photo in self.photos]
        towers = self.base.text_encoders
        keys = dict(encode_captions(captions, self.encoders.tokenize, towers, cache, CPU))
        self.keys = [keys[caption] for caption in captions]

    def draw(self, which: int, seed: int) -> Pixels:
        """Return a picture of a caption."""
        drawing = Drawing(
            self.keys[which], self.keys[which], (PICTURE_PX, PICTURE_PX), seed, "dpmpp_2m", STEPS, 1
        )
        *_, latents = drawn(self.predictor, drawing, self.cache, with_tokens=False)
        return np.asarray(self.encoders.decode_picture(latents), np.float32) / 255


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return Base(TensorCache(tmp_path_factory.mktemp("cache")))


def test_the_unet_predicts_noise_at_every_timestep(base: Base) -> None:
    """Catches a base that predicts worse than nothing (loss 1) somewhere, or knows little."""
    latents = torch.stack(
        [base.encoders.encode_picture(load(photo, PICTURE_PX)) for photo in base.photos]
    )
    size = (PICTURE_PX, PICTURE_PX, 0, 0, PICTURE_PX, PICTURE_PX)
    batch = with_prompts(latents.float(), base.keys, [size] * len(latents), base.cache, False)
    stream = torch.Generator().manual_seed(0)
    losses = torch.zeros(BANDS)
    for band, draw in itertools.product(range(BANDS), range(DRAWS)):
        timestep = round((band + (draw + 0.5) / DRAWS) * TRAIN_TIMESTEPS / BANDS)
        noise = torch.randn(latents.shape, generator=stream)
        timesteps = torch.full((len(latents),), timestep)
        with torch.no_grad():
            measured = base.predictor.measure(batch, noise, timesteps)
        losses[band] += measured.losses.mean() / DRAWS
    assert losses.max() < 1.0
    assert losses.mean() < 0.3


def test_prompts_are_followed_and_seeds_vary(base: Base, pictures: list[Pixels]) -> None:
    """Catches a base that draws one picture for a caption, or the same ones for all captions."""
    both = [[base.draw(which, seed) for which in range(len(pictures))] for seed in (0, 1)]
    known = _rows([*pictures, *(picture[:, ::-1] for picture in pictures)])
    for drawn_now in both:
        nearest = (_rows(drawn_now) @ known.T).argmax(axis=1) % len(pictures)
        right = sum(int(one == place) for place, one in enumerate(nearest))
        assert right >= MOST_RIGHT * len(pictures)
    alike = (_rows(both[0]) * _rows(both[1])).sum(axis=1)
    assert (alike < 0.98).sum() >= len(pictures) / 2


def _rows(pictures: Sequence[Pixels]) -> np.ndarray:
    """Pictures reduced to 8 × 8 colours, as rows of length 1 around 0."""
    small = np.stack(
        [np.asarray(p).reshape(8, 16, 8, 16, 3).mean((1, 3)).ravel() for p in pictures]
    )
    small = small - small.mean(axis=1, keepdims=True)
    return small / np.linalg.norm(small, axis=1, keepdims=True)
