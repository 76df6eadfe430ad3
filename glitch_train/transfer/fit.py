"""LoRA factors brought to other dimensions, without ever building the full matrix.

The words are those of the dataset's framings, because it is the same idea: a thing that meets a
frame of another size.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from ..lora.read import product_energy
from ..seeds import generator

_POWER_STEPS = 2
_OVERSAMPLING = 8


@dataclasses.dataclass(frozen=True)
class Factors:
    """A low-rank difference, ``ΔW = up @ down * scale``.

    Attributes:
        up: (out, rank), fp32.
        down: (rank, in) or (rank, in, kh, kw), fp32.
        scale: factor on the product.
    """

    up: torch.Tensor
    down: torch.Tensor
    scale: float = 1.0

    @property
    def rank(self) -> int:
        """Inner dimension."""
        return self.up.shape[1]

    @property
    def energy(self) -> float:
        """‖ΔW‖²."""
        return product_energy(self.up, self.down) * self.scale**2


def fit_factors(
    factors: Factors, n_out: int, n_in: int, *, fit: str, seed: int = 0, halves: int = 1
) -> Factors:
    """Bring a difference to another size.

    Args:
        factors: the difference.
        n_out: wanted output width.
        n_in: wanted input width.
        fit: one of :data:`.recipe.FITS`.
        seed: of ``project``.
        halves: into how many equal parts the output falls that are fitted each by itself: 2 for
            a gated feed-forward (values, gates), else 1.

    Returns:
        Factors of the wanted size. A dimension that fits already stays as it is.
    """
    if (factors.up.shape[0], factors.down.shape[1]) == (n_out, n_in):
        return factors
    if fit == "svd":
        return _fit_directions(factors, n_out, n_in, halves)
    up = fit_rows(factors.up, n_out, fit=fit, seed=seed, halves=halves)
    down = fit_rows(factors.down.transpose(0, 1), n_in, fit=fit, seed=seed).transpose(0, 1)
    fitted = Factors(up, down, factors.scale)
    return _as_loud_as(factors, fitted) if fit == "project" else fitted


def fit_rows(
    values: torch.Tensor, count: int, *, fit: str, seed: int = 0, halves: int = 1
) -> torch.Tensor:
    """Bring the first dimension of a tensor to another length.

    Args:
        values: (n, …), fp32.
        count: wanted length of the first dimension.
        fit: ``crop`` (cut, or pad with zeros), ``stretch`` (linear interpolation, ends on ends),
            ``tile`` (repeat from the start) or ``project`` (seeded random orthogonal map).
        seed: of ``project``; equal lengths get equal maps, so that what one module writes into
            a stream of the network, the next one reads.
        halves: see :func:`fit_factors`.
    """
    if values.shape[0] == count:
        return values
    if halves > 1 and values.shape[0] % halves == 0 and count % halves == 0:
        parts = values.chunk(halves)
        return torch.cat([fit_rows(p, count // halves, fit=fit, seed=seed) for p in parts])
    flat = values.flatten(1)
    fitted = _FIT_ROWS[fit](flat, count, seed)
    return fitted.reshape(count, *values.shape[1:])


def add_up(parts: Sequence[Factors]) -> Factors:
    """Return the sum of differences of one size, exactly: their factors side by side."""
    if len(parts) == 1:
        return parts[0]
    up = torch.cat([part.up * part.scale for part in parts], dim=1)
    return Factors(up, torch.cat([part.down for part in parts]))


def truncate(factors: Factors, rank: int, seed: int = 0) -> Factors:
    """Return the closest difference of a smaller rank.

    Randomised range finder with power iterations, on the factors only; the subspace is random
    but seeded, and within a fraction of a percent of the exact truncated SVD.

    Source: Halko, Martinsson and Tropp, "Finding structure with randomness" (2011), algorithm 4.4
    """
    if factors.rank <= rank:
        return factors
    up, down = factors.up, factors.down.flatten(1)
    width = min(rank + _OVERSAMPLING, factors.rank, up.shape[0], down.shape[1])
    probe = torch.randn(down.shape[1], width, generator=generator(seed, "transfer truncate"))
    basis = _orthonormal(up @ (down @ probe))
    for _ in range(_POWER_STEPS):
        basis = _orthonormal(up @ (down @ _orthonormal(down.T @ (up.T @ basis))))
    left, values, right = torch.linalg.svd((basis.T @ up) @ down, full_matrices=False)
    root = values[:rank].sqrt()
    kept = (root[:, None] * right[:rank]).reshape(-1, *factors.down.shape[1:])
    return Factors((basis @ left[:, :rank]) * root, kept, factors.scale)


def _crop(flat: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    if count <= flat.shape[0]:
        return flat[:count]
    return F.pad(flat, (0, 0, 0, count - flat.shape[0]))


def _stretch(flat: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    rows = flat.T.unsqueeze(0)
    return F.interpolate(rows, size=count, mode="linear", align_corners=True)[0].T


def _tile(flat: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    times = -(-count // flat.shape[0])
    return flat.repeat(times, 1)[:count]


def _project(flat: torch.Tensor, count: int, seed: int) -> torch.Tensor:
    """Apply a seeded random orthogonal map from n to ``count`` dimensions.

    Random signs, Hartley transform, random signs, on the larger of the two dimensions: an
    orthogonal matrix that need not be stored. Going up keeps every norm; going down keeps
    a random choice of the coordinates, scaled by √(n / count).

    Source: Ailon and Chazelle, "The fast Johnson-Lindenstrauss transform" (2009)
    """
    n = flat.shape[0]
    size = max(n, count)
    stream = generator(seed, f"transfer project {n} to {count}")
    before, after = (torch.randint(2, (2, size, 1), generator=stream) * 2 - 1).float()
    places = torch.randperm(size, generator=stream)[: min(n, count)].sort().values
    wide = flat
    if n < count:
        wide = flat.new_zeros(count, flat.shape[1])
        wide[places] = flat
    turned = _hartley(wide * before) * after
    return turned if n < count else turned[places] * math.sqrt(n / count)


def _hartley(values: torch.Tensor) -> torch.Tensor:
    """Apply the orthonormal discrete Hartley transform to the columns."""
    spectrum = torch.fft.fft(values, dim=0, norm="ortho")
    return spectrum.real - spectrum.imag


_FIT_ROWS = {"crop": _crop, "stretch": _stretch, "tile": _tile, "project": _project}


def _as_loud_as(before: Factors, after: Factors) -> Factors:
    """Undo the few percent that projecting onto fewer dimensions changes the norm by."""
    reached = after.energy
    if reached <= 0.0:
        return after
    return dataclasses.replace(after, scale=after.scale * math.sqrt(before.energy / reached))


def _fit_directions(factors: Factors, n_out: int, n_in: int, halves: int) -> Factors:
    """Stretch the singular directions and make them orthonormal again: the spectrum stays.

    When a dimension is smaller than the rank, the strongest directions are kept.
    """
    left, values, right = _small_svd(factors)
    keep = min(factors.rank, n_out, n_in)
    left = _aligned(left[:, :keep], n_out, halves)
    right = _aligned(right[:, :keep].unflatten(0, (factors.down.shape[1], -1)), n_in, 1)
    root = values[:keep].sqrt()
    down = (right * root).T.reshape(len(root), n_in, *factors.down.shape[2:])
    return Factors(left * root, down, factors.scale)


def _small_svd(factors: Factors) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return U (out, r), Σ (r,), V (in·k, r) of up @ down from two thin QRs and one r × r SVD."""
    q_up, r_up = torch.linalg.qr(factors.up)
    q_down, r_down = torch.linalg.qr(factors.down.flatten(1).T)
    left, values, right = torch.linalg.svd(r_up @ r_down.T, full_matrices=False)
    return q_up @ left, values, q_down @ right.T


def _aligned(directions: torch.Tensor, count: int, halves: int) -> torch.Tensor:
    """Stretch directions (n, …, r) to ``count``; return the nearest orthonormal set, flattened."""
    stretched = fit_rows(directions, count, fit="stretch", halves=halves)
    flat = stretched.reshape(-1, directions.shape[-1])
    left, _, right = torch.linalg.svd(flat, full_matrices=False)
    return left @ right


def _orthonormal(columns: torch.Tensor) -> torch.Tensor:
    return torch.linalg.qr(columns)[0]
