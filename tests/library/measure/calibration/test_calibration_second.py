"""A second set of corruptions and photographs that the measures were not made on.

Everything here is other code than the calibration's: JPEG's quantisation by SciPy's DCT, noise,
tones and warps by scikit-image and SciPy, photographs of matplotlib's and scikit-image's that the
calibration does not use. Nothing was tuned on the results; docs/calibration.md reports them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import skimage
from skimage import color, exposure, io, transform, util

from glitch_train.measure.calibration.calibration import UNRELATED_LIMIT
from glitch_train.measure.calibration.corruptions import PHOTOS
from glitch_train.measure.pairs import pairs_of_arrays
from glitch_train.measure.report import report_run

SIDE = 240
FILES = (
    Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg",
    *(
        Path(skimage.__file__).parent / "data" / name
        for name in (
            "hubble_deep_field.jpg", "ihc.png", "moon.png", "clock_motion.png", "gravel.png",
            "motorcycle_right.png",
        )
    ),
)  # fmt: skip

# The luminance table of Annex K of the JPEG standard.
TABLE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56], [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)  # fmt: skip


def photograph(path: Path) -> np.ndarray:
    """Return the middle of a picture, (SIDE, SIDE, 3) float."""
    picture = io.imread(path)
    picture = np.stack([picture] * 3, axis=2) if picture.ndim == 2 else picture[..., :3]
    short = min(picture.shape[:2])
    top, left = ((side - short) // 2 for side in picture.shape[:2])
    square = picture[top : top + short, left : left + short]
    return transform.resize(square, (SIDE, SIDE), order=3, anti_aliasing=True).clip(0, 1)


def quantise(picture: np.ndarray, coarseness: float) -> np.ndarray:
    """Quantise each channel's 8×8 DCT as JPEG does luma."""
    blocks = picture.reshape(SIDE // 8, 8, SIDE // 8, 8, 3).transpose(0, 2, 4, 1, 3) * 255 - 128
    coefficients = scipy.fft.dctn(blocks, axes=(3, 4), norm="ortho")
    step = TABLE * coarseness
    back = scipy.fft.idctn(np.round(coefficients / step) * step, axes=(3, 4), norm="ortho")
    return ((back + 128) / 255).transpose(0, 3, 1, 4, 2).reshape(SIDE, SIDE, 3).clip(0, 1)


def taller(picture: np.ndarray, factor: float) -> np.ndarray:
    """Stretch about the centre in height by an affine warp."""
    centre = (SIDE - 1) / 2
    matrix = np.array([[1, 0, 0], [0, 1 / factor, centre - centre / factor], [0, 0, 1]])
    return transform.warp(picture, matrix, order=3, mode="reflect").clip(0, 1)


def narrow_tones(picture: np.ndarray, width: float) -> np.ndarray:
    """Squeeze all tones into this share of the range about the middle."""
    ends = (0.5 - width / 2, 0.5 + width / 2)
    return exposure.rescale_intensity(picture, in_range=(0, 1), out_range=ends)


def wide_tones(picture: np.ndarray, lost: float) -> np.ndarray:
    """Stretch a picture's own tones over the range, and clip this share of them at each end."""
    ends = tuple(np.quantile(picture, [lost, 1 - lost]))
    return exposure.rescale_intensity(picture, in_range=ends, out_range=(0, 1))


def saturate(picture: np.ndarray, times: float) -> np.ndarray:
    """Multiply HSV's saturation."""
    hsv = color.rgb2hsv(picture)
    hsv[..., 1] = (hsv[..., 1] * times).clip(0, 1)
    return color.hsv2rgb(hsv)


def pepper(picture: np.ndarray, amount: float) -> np.ndarray:
    """Set random values to black or white."""
    return util.random_noise(picture, mode="s&p", amount=amount, rng=7)


def slide(picture: np.ndarray, share: float) -> np.ndarray:
    """Slide up and left; what leaves comes in on the other side."""
    by = (-round(SIDE * share), -round(SIDE * share * 0.7), 0)
    return scipy.ndimage.shift(picture, by, order=0, mode="grid-wrap")


def mixed_with_first(batch: list[np.ndarray], share: float) -> list[np.ndarray]:
    """Draw every picture of a batch towards its first."""
    return [(1 - share) * picture + share * batch[0] for picture in batch]


def each(change: Callable[[np.ndarray, float], np.ndarray]) -> Callable:
    """Return the batch form of a picture's corruption."""
    return lambda batch, strength: [change(picture, strength) for picture in batch]


SETS = {
    "compression": (each(quantise), (1.0, 2.5, 5.0, 10.0)),
    "framing": (each(taller), (1.08, 1.15, 1.25, 1.4)),
    "contrast": (each(narrow_tones), (0.8, 0.6, 0.45, 0.25)),
    "burn": (each(wide_tones), (0.02, 0.08, 0.16, 0.3)),
    "texture": (each(pepper), (0.005, 0.02, 0.06, 0.15)),
    "composition": (each(slide), (0.04, 0.1, 0.18, 0.28)),
    "mode_collapse": (mixed_with_first, (0.3, 0.5, 0.75, 1.0)),
}


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Return photographs that the calibration does not know."""
    assert not {path.name for path in FILES} & set(PHOTOS)
    return [photograph(path) for path in FILES]


def indices(effect: str, base: list[np.ndarray], strength: float) -> dict[str, float | None]:
    """Return every index of a corruption."""
    change, _ = SETS[effect]
    run = report_run(pairs_of_arrays(effect, base, change(base, strength)))
    return {one.effect: one.index for one in run.measurements}


@pytest.mark.slow
@pytest.mark.parametrize("effect", SETS)
def test_other_corruptions_of_other_photographs(effect: str, photographs: list) -> None:
    """Catches measures that only know the corruptions they were made on."""
    rows = [indices(effect, photographs, strength) for strength in SETS[effect][1]]
    own = [row[effect] for row in rows]
    assert all(strong > weak for weak, strong in itertools.pairwise([0.0, *own]))
    # A batch drawn towards one picture has another composition too, as the calibration says, and
    # the stronger tones of that one.
    drawn = effect == "mode_collapse"
    related = {effect, "overall", *(["composition", "burn"] if drawn else [])}
    for row in rows:
        told = {key: value for key, value in row.items() if value is not None}
        rivals = told.keys() - {"overall", *(["burn"] if drawn else [])}
        assert max(rivals, key=told.__getitem__) == effect
        assert all(told[key] < UNRELATED_LIMIT for key in told.keys() - related), told


def test_colour_that_grows_alone_is_a_burn(photographs: list) -> None:
    """Catches saturated colours read as nothing, because no tone is wider."""
    coloured = [one for one in photographs if np.ptp(one, axis=2).mean() > 0.05]
    found = []
    for times in (1.5, 2.5, 4.0):
        glitched = [saturate(one, times) for one in coloured]
        run = report_run(pairs_of_arrays("saturated", coloured, glitched))
        found.append({one.effect: one.index for one in run.measurements})
    own = [row["burn"] for row in found]
    assert own == sorted(own)
    assert own[0] > 0.1
    assert all(row["contrast"] == 0 for row in found)
