"""Factors brought to other dimensions, against the dense product where there is one."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from glitch_train.transfer.fit import Factors, add_up, fit_factors, fit_rows, truncate
from glitch_train.transfer.recipe import FITS

settings.register_profile("busy machine", deadline=None)
settings.load_profile("busy machine")

SIZES = st.integers(1, 90)
SEEDS = st.integers(0, 2**32)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    """Return seeded normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def product(factors: Factors) -> torch.Tensor:
    """Return ΔW in full."""
    return (factors.up @ factors.down.flatten(1)) * factors.scale


@given(n=SIZES, m=SIZES, width=st.integers(1, 4), seed=SEEDS)
def test_crop_there_and_back_loses_only_the_tail(n: int, m: int, width: int, seed: int) -> None:
    """Catches a crop that shifts, mixes or scales what it keeps."""
    values = draw(n, width, seed=seed)
    back = fit_rows(fit_rows(values, m, fit="crop"), n, fit="crop")
    kept = min(n, m)
    assert torch.equal(back[:kept], values[:kept])
    assert not back[kept:].any()


@given(n=SIZES, m=SIZES, value=st.floats(-5, 5, width=32))
def test_stretch_keeps_constants(n: int, m: int, value: float) -> None:
    """Catches an interpolation that fades at the ends or changes the size of what it stretches."""
    stretched = fit_rows(torch.full((n, 2), value), m, fit="stretch")
    torch.testing.assert_close(stretched, torch.full((m, 2), value))


@given(n=st.integers(2, 60), m=st.integers(2, 90))
def test_stretch_keeps_straight_lines_and_ends(n: int, m: int) -> None:
    """Catches a stretch that moves the first or last channel."""
    line = torch.linspace(-1, 1, n)[:, None]
    expected = torch.linspace(-1, 1, m)[:, None]
    torch.testing.assert_close(fit_rows(line, m, fit="stretch"), expected, atol=1e-5, rtol=0)


@given(n=SIZES, m=SIZES)
def test_tile_repeats(n: int, m: int) -> None:
    """Catches a tile that starts elsewhere."""
    tiled = fit_rows(torch.arange(n).float()[:, None], m, fit="tile")
    assert tiled[:, 0].tolist() == [float(i % n) for i in range(m)]


@given(n=SIZES, m=SIZES, rank=st.integers(1, 6), seed=SEEDS)
def test_project_keeps_norms(n: int, m: int, rank: int, seed: int) -> None:
    """Catches a projection that changes how loud a module is, by 5 percent or more."""
    factors = Factors(draw(n, rank, seed=seed), draw(rank, n + 3, seed=seed + 1), 0.5)
    fitted = fit_factors(factors, m, m + 1, fit="project", seed=seed)
    assert (fitted.up.shape[0], fitted.down.shape[1]) == (m, m + 1)
    assert math.sqrt(fitted.energy) == pytest.approx(math.sqrt(factors.energy), rel=0.05)


@given(n=st.integers(2, 40), more=st.integers(1, 40), seed=SEEDS)
def test_project_up_is_an_isometry(n: int, more: int, seed: int) -> None:
    """Catches a map that is not orthogonal: all angles must survive, not only the norm."""
    basis = fit_rows(torch.eye(n), n + more, fit="project", seed=seed)
    torch.testing.assert_close(basis.T @ basis, torch.eye(n), atol=1e-5, rtol=0)


def test_project_down_keeps_norms_before_any_correction() -> None:
    """Catches a missing √(n / m): at full size, vectors keep their norm within a few percent."""
    vectors = draw(2048, 64)
    ratio = fit_rows(vectors, 768, fit="project").norm(dim=0) / vectors.norm(dim=0)
    assert ratio.mean() == pytest.approx(1.0, abs=0.01)
    assert ratio.sub(1).abs().max() < 0.1


def test_project_is_seeded() -> None:
    """Catches a projection that is the same for every seed, or different for the same."""
    values = draw(20, 3)
    first, again = (fit_rows(values, 30, fit="project", seed=1) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, fit_rows(values, 30, fit="project", seed=2))


@given(n=SIZES, k=SIZES, m=SIZES, rank=st.integers(1, 8), seed=SEEDS)
def test_svd_keeps_the_spectrum(n: int, k: int, m: int, rank: int, seed: int) -> None:
    """Catches singular values changed by the fit, or the wrong ones cut."""
    factors = Factors(draw(n, rank, seed=seed), draw(rank, k, seed=seed + 1))
    fitted = fit_factors(factors, m, m + 2, fit="svd")
    before = torch.linalg.svdvals(product(factors))[: min(rank, n, k, m)]
    after = torch.linalg.svdvals(product(fitted))[: len(before)]
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("kernel", [(), (3, 3)], ids=["linear", "conv"])
def test_every_fit_gives_the_wanted_shape(fit: str, kernel: tuple[int, ...]) -> None:
    """Catches a kernel lost, or a dimension left behind."""
    factors = Factors(draw(8, 4), draw(4, 12, *kernel))
    fitted = fit_factors(factors, 20, 6, fit=fit)
    assert fitted.up.shape == (20, fitted.rank)
    assert fitted.down.shape == (fitted.rank, 6, *kernel)
    assert fitted.energy > 0


@pytest.mark.parametrize("fit", FITS)
def test_what_fits_already_is_left_alone(fit: str) -> None:
    """Catches a fit that touches what needs none."""
    factors = Factors(draw(8, 4), draw(4, 12), 0.3)
    assert fit_factors(factors, 8, 12, fit=fit, seed=3) is factors


@pytest.mark.parametrize("fit", ["crop", "stretch", "tile"])
def test_gated_halves_stay_apart(fit: str) -> None:
    """Catches values stretched into the gates of a gated feed-forward."""
    values, gates = torch.ones(8, 2), torch.full((8, 2), -1.0)
    factors = Factors(torch.cat([values, gates]), draw(2, 5))
    fitted = fit_factors(factors, 8, 5, fit=fit, halves=2)
    assert torch.equal(fitted.up[:4], torch.ones(4, 2))
    assert torch.equal(fitted.up[4:], torch.full((4, 2), -1.0))


def test_sum_is_exact() -> None:
    """Catches a scale lost when factors are put side by side."""
    parts = [Factors(draw(9, r, seed=r), draw(r, 7, seed=9 + r), 0.1 * r) for r in (1, 2, 3)]
    torch.testing.assert_close(product(add_up(parts)), sum(product(part) for part in parts))


@settings(max_examples=40)
@given(n=st.integers(5, 60), m=st.integers(5, 60), rank=st.integers(1, 5), seed=SEEDS)
def test_truncation_is_close_to_the_best(n: int, m: int, rank: int, seed: int) -> None:
    """Catches a range finder that misses directions, against the dense SVD."""
    parts = Factors(draw(n, 20, seed=seed), draw(20, m, seed=seed + 1), 0.7)
    cut = truncate(parts, rank, seed=1)
    left, values, right = torch.linalg.svd(product(parts), full_matrices=False)
    best = (left[:, :rank] * values[:rank]) @ right[:rank]
    assert cut.rank == rank
    error, least = (product(parts) - product(cut)).norm(), (product(parts) - best).norm()
    assert error <= 1.02 * least + 1e-3
