"""The order of pictures, and captions of different lengths in one batch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import torch
from tiny import tiny_items, tiny_source, tiny_unet

from glitch_train.training.batches import BatchSource, pad_prompts


def test_every_picture_comes_repeats_times_per_epoch(tmp_path: Path) -> None:
    """Catches a picture left out, or drawn with replacement."""
    items, cache = tiny_items(tmp_path, 3)
    source = BatchSource(items, cache, cache, batch_size=2, repeats=5, seed=0)
    seen = Counter()
    for _ in range(8):  # 3 pictures, 5 times, by two
        for latents in source.next().latents:
            seen[latents.sum().item()] += 1
    assert sorted(seen.values()) == [5, 5, 5]
    assert source.epoch == 1
    source.next()
    assert source.epoch == 2


def test_sizes_do_not_mix(tmp_path: Path) -> None:
    """Catches a batch of unequal pictures."""
    items, cache = tiny_items(tmp_path, 4)
    cache.store("wide", {"latents": torch.zeros(4, 8, 16)})
    from dataclasses import replace

    items[0] = replace(items[0], latents_key="wide", latents_size=(8, 16))
    source = BatchSource(items, cache, cache, batch_size=4, repeats=3, seed=0)
    shapes = [tuple(source.next().latents.shape) for _ in range(4)]
    assert sorted(shapes) == [(1, 4, 8, 8), (3, 4, 8, 16), (4, 4, 8, 8), (4, 4, 8, 8)]


def test_order_differs_between_epochs_and_seeds(tmp_path: Path) -> None:
    """Catches an order that is not shuffled anew."""

    def order(seed: int) -> list[float]:
        source = tiny_source(tmp_path, batch_size=1, seed=seed, count=6)
        return [source.next().latents.sum().item() for _ in range(24)]

    one = order(1)
    assert one == order(1)
    assert one != order(2)
    assert one[:12] != one[12:]


def test_padding_changes_nothing_for_the_shorter_caption() -> None:
    """Catches padded tokens that take part in attention."""
    unet = tiny_unet()
    stream = torch.Generator().manual_seed(0)
    short = torch.randn(77, 24, generator=stream)
    long = torch.randn(231, 24, generator=stream)
    latents = torch.randn(2, 4, 8, 8, generator=stream)
    prompts, mask = pad_prompts([short, long])
    timesteps = torch.tensor([100, 700])
    together = unet(latents, timesteps, prompts, encoder_attention_mask=mask).sample
    alone = unet(latents[:1], timesteps[:1], short[None]).sample
    torch.testing.assert_close(together[:1], alone, rtol=1e-4, atol=1e-5)
    assert pad_prompts([short, short])[1] is None
