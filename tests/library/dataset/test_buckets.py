"""Buckets against kohya's own choices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glitch_train.dataset.buckets import BucketRule, cover_size

# What BucketManager.select_bucket of kohya-ss/sd-scripts answers, bucket_reso_steps 64 and
# min_bucket_reso 256: (picture, area, max_bucket_reso, no_upscale, bucket, resized).
KOHYA = [
    ((4961, 3508), 512**2, 1024, False, (576, 448), (634, 448)),
    ((4961, 3508), 512**2, 1024, True, (512, 384), (543, 384)),
    ((4961, 3508), 1024**2, 2048, False, (1216, 832), (1216, 860)),
    ((4961, 3508), 1024**2, 2048, True, (1152, 832), (1177, 832)),
    ((3508, 4961), 512**2, 1024, False, (448, 576), (448, 634)),
    ((3508, 4961), 512**2, 1024, True, (384, 576), (407, 576)),
    ((832, 1216), 1024**2, 2048, False, (832, 1216), (832, 1216)),
    ((832, 1216), 512**2, 1024, True, (384, 576), (394, 576)),
    ((1000, 800), 1024**2, 2048, False, (1152, 896), (1152, 922)),
    ((1000, 800), 1024**2, 2048, True, (960, 768), (1000, 800)),
    ((600, 400), 512**2, 1024, True, (576, 384), (600, 400)),
    ((600, 400), 1024**2, 2048, False, (1216, 832), (1248, 832)),
    ((1411, 1411), 512**2, 1024, False, (512, 512), (512, 512)),
    ((300, 900), 512**2, 1024, False, (256, 832), (277, 832)),
    ((300, 900), 1024**2, 2048, True, (256, 896), (300, 900)),
]


@pytest.mark.parametrize(("size", "area", "longest", "no_upscale", "bucket", "resized"), KOHYA)
def test_the_choice_is_kohyas(size, area, longest, no_upscale, bucket, resized) -> None:
    """Catches another rounding, another nearest aspect, or upscaling where it is forbidden."""
    rule = BucketRule(area, longest=longest, no_upscale=no_upscale)
    assert rule.choose(size) == (bucket, resized)


def test_the_list_is_kohyas() -> None:
    """Catches a bucket over the area, off the step, or one orientation missing."""
    listed = BucketRule(512 * 512).resolutions
    assert listed == (
        *((256, 832), (256, 896), (256, 960), (256, 1024), (320, 704), (320, 768)),
        *((384, 640), (448, 576), (512, 512), (576, 448), (640, 384), (704, 320)),
        *((768, 320), (832, 256), (896, 256), (960, 256), (1024, 256)),
    )


@given(
    st.tuples(st.integers(1, 40_000), st.integers(1, 40_000)),
    st.sampled_from([256, 512, 832, 1024]),
    st.booleans(),
)
def test_any_size_has_a_bucket(size: tuple[int, int], side: int, no_upscale: bool) -> None:
    """Catches a crash, a side of 0, or a resized picture that does not cover its bucket."""
    rule = BucketRule(side * side, longest=2048, no_upscale=no_upscale)
    bucket, resized = rule.choose(size)
    assert min(bucket) >= 64
    assert bucket[0] % 64 == bucket[1] % 64 == 0
    assert resized[0] >= bucket[0]
    assert resized[1] >= bucket[1]


@given(
    st.tuples(st.integers(1, 9000), st.integers(1, 9000)),
    st.tuples(st.integers(64, 2048), st.integers(64, 2048)),
)
def test_cover_covers_and_no_more(size: tuple[int, int], target: tuple[int, int]) -> None:
    """Catches a cover that leaves a gap, or enlarges both sides beyond the target."""
    covered = cover_size(size, target)
    assert covered[0] >= target[0]
    assert covered[1] >= target[1]
    assert covered[0] == target[0] or covered[1] == target[1]
