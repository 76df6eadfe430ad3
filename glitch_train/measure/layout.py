"""Where things lie in a picture: composition shift, and stretch told apart from it.

Both pictures of a pair are reduced to small maps, and one is stretched against the other over a
grid of aspects and zooms. What the best stretch cannot undo is a change of composition; the aspect
at which the two match best, wherever it slid to, is the stretch.
"""

from __future__ import annotations

import dataclasses
import functools
import math

import torch

from .pixels import Grey, reduced

SOURCE_SIZE = 96
MAP_SIZE = 48
_MAX_LOG_ASPECT, _LOG_STEP = 0.6, 0.1
_FINE_REACH, _FINE_STEP = 0.08, 0.02
# In pixels of the maps: details below are left out, edges are spread, slow shading is taken out.
_BLUR, _EDGE_BLUR, _SHADE_BLUR = 0.8, 1.9, 3.0
_ASPECT_DOUBT = 0.03
"""A stretch must match better than none by this much per unit of its log aspect."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """How a glitched picture lies on its base.

    Attributes:
        composition: 1 − correlation of tones and edges, after the best stretch; 0 is the same
            composition, about 1 an unrelated one.
        log_aspect: log of how much wider (positive) or taller it was stretched, in steps of 0.02.
        match: correlation of the fine structure at that stretch, 0..1: whether there is anything
            to tell the aspect by.
    """

    composition: float
    log_aspect: float
    match: float


def layout(base: Grey, glitched: Grey) -> Layout:
    """Compare where tones and edges lie.

    Args:
        base: (H, W) luma in 0..1.
        glitched: of the same size.
    """
    with torch.no_grad():
        first, second = (torch.from_numpy(reduced(grey, SOURCE_SIZE)) for grey in (base, glitched))
        coarse = _try(first, second, _coarse_grid())
        fine = _try(first, second, _fine_grid(*coarse.best))
    better = max(coarse, fine, key=lambda trial: trial.score)
    return Layout(min(coarse.composition, fine.composition), better.best[0], better.match)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """The best of a grid of stretches; ``best`` is its (log aspect, log zoom)."""

    composition: float
    best: tuple[float, float]
    match: float

    @property
    def score(self) -> float:
        return self.match - _ASPECT_DOUBT * abs(self.best[0])


def _try(first: torch.Tensor, second: torch.Tensor, grid: torch.Tensor) -> _Trial:
    """Try each (log aspect, log zoom) of the grid (G, 2); what shrinks in one grows in the other.

    Enlarging only, in either picture, leaves no empty margin to compare with.
    """
    log_x, log_y = grid[:, 1] + grid[:, 0] / 2, grid[:, 1] - grid[:, 0] / 2
    wide = _enlarged(first, log_x.clamp(min=0), log_y.clamp(min=0))
    tall = _enlarged(second, (-log_x).clamp(min=0), (-log_y).clamp(min=0))
    distance = (_distance(wide, tall) + _distance(_edges(wide), _edges(tall))) / 2
    stretches = grid[:, 1].abs() <= grid[:, 0].abs() / 2 + 1e-6  # a zoom is a composition
    peak = _peaks(_fine_structure(wide), _fine_structure(tall))
    index = int((peak - _ASPECT_DOUBT * grid[:, 0].abs()).argmax())
    aspect, zoom = grid[index].tolist()
    return _Trial(
        max(0.0, float(distance[stretches].min())),
        (aspect, zoom),
        min(1.0, max(0.0, float(peak[index]))),
    )


@functools.cache
def _coarse_grid() -> torch.Tensor:
    count = round(_MAX_LOG_ASPECT / _LOG_STEP)
    zooms = [_LOG_STEP * n for n in range(-4, 5)]
    grid = []
    for n in range(-count, count + 1):
        aspect = _LOG_STEP * n
        grid += [(aspect, zoom) for zoom in dict.fromkeys((0.0, aspect / 2, -aspect / 2, *zooms))]
    return torch.tensor(grid)


def _fine_grid(aspect: float, zoom: float) -> torch.Tensor:
    count = round(_FINE_REACH / _FINE_STEP)
    grid = []
    for n in range(-count, count + 1):
        near = min(_MAX_LOG_ASPECT, max(-_MAX_LOG_ASPECT, aspect + _FINE_STEP * n))
        grid += [(near, z) for z in dict.fromkeys((0.0, near / 2, -near / 2, zoom))]
    return torch.tensor(grid)


def _enlarged(source: torch.Tensor, log_x: torch.Tensor, log_y: torch.Tensor) -> torch.Tensor:
    """Return (G, 48, 48) maps of a (96, 96) picture, enlarged about its centre."""
    across = torch.stack([_sampling(round(value, 6)) for value in log_x.tolist()])
    down = torch.stack([_sampling(round(value, 6)) for value in log_y.tolist()])
    return down @ source @ across.transpose(1, 2)


@functools.lru_cache(maxsize=2048)
def _sampling(log_scale: float) -> torch.Tensor:
    """Return the matrix (48, 96) that enlarges along one axis, with a Gaussian of fixed width."""
    scale, ratio = math.exp(log_scale), SOURCE_SIZE / MAP_SIZE
    places = (torch.arange(MAP_SIZE) + 0.5 - MAP_SIZE / 2) / scale * ratio + SOURCE_SIZE / 2
    return _gaussian_rows(places, SOURCE_SIZE, _BLUR * ratio / scale)


@functools.cache
def _blurring(width: float) -> torch.Tensor:
    return _gaussian_rows(torch.arange(MAP_SIZE) + 0.5, MAP_SIZE, width)


def _gaussian_rows(places: torch.Tensor, size: int, width: float) -> torch.Tensor:
    away = (torch.arange(size) + 0.5)[None] - places[:, None]
    weight = torch.exp(-0.5 * (away / width) ** 2)
    return weight / weight.sum(dim=1, keepdim=True)


def _blurred(maps: torch.Tensor, width: float) -> torch.Tensor:
    blur = _blurring(width)
    return blur @ maps @ blur.T


def _edges(maps: torch.Tensor) -> torch.Tensor:
    """Return where edges lie: gradient magnitude, spread out."""
    across, down = torch.zeros_like(maps), torch.zeros_like(maps)
    across[..., :-1] = maps.diff(dim=-1)
    down[..., :-1, :] = maps.diff(dim=-2)
    return _blurred((across**2 + down**2).sqrt(), _EDGE_BLUR)


def _fine_structure(maps: torch.Tensor) -> torch.Tensor:
    window = torch.hann_window(MAP_SIZE + 2, periodic=False)[1:-1].sqrt()
    return _unit((maps - _blurred(maps, _SHADE_BLUR)) * window[:, None] * window)


def _unit(maps: torch.Tensor) -> torch.Tensor:
    centred = maps - maps.mean(dim=(-2, -1), keepdim=True)
    norm = centred.flatten(-2).norm(dim=-1)[..., None, None]
    return centred / norm.clamp(min=1e-6)


def _distance(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return 1 − correlation of two stacks of maps, exactly 0 for equal ones."""
    return 0.5 * (_unit(first) - _unit(second)).square().sum(dim=(-2, -1))


def _peaks(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the highest correlation over all shifts, mirrored or not: (G, 48, 48)² → (G,)."""
    size = (2 * MAP_SIZE, 2 * MAP_SIZE)
    spectrum = torch.fft.rfft2(first, s=size)
    found = [
        torch.fft.irfft2(spectrum * torch.fft.rfft2(one, s=size).conj(), s=size).flatten(1).amax(1)
        for one in (second, second.flip(-1))
    ]
    return torch.maximum(*found)
