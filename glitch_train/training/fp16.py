"""What fp16 does to a run: updates that its loss scale skips, and what to say of them."""

from __future__ import annotations

import torch


def skipped_in_words(updates: int) -> str:
    """Return the sentence on updates that the loss scale skipped.

    Some at the beginning are how it finds its scale; they are said because they trained nothing.

    Args:
        updates: how many, one or more.
    """
    were = "1 update was" if updates == 1 else f"{updates:,} updates were"
    return (
        f"{were} skipped, because gradients were out of fp16's range; if they are many, choose "
        f"{way_out(is_fp16=True)}."
    )


def way_out(*, is_fp16: bool) -> str:
    """Return the precision to choose against values that are no numbers, and what else to change.

    Args:
        is_fp16: whether the run computes in fp16; there the host's ``--fast fp16_accumulation``
            counts, which adds up in fp16 too.
    """
    if not is_fp16:
        return "precision fp32"
    accumulates = getattr(torch.backends.cuda.matmul, "allow_fp16_accumulation", False)
    without = ", start ComfyUI without --fast fp16_accumulation" if accumulates else ""
    return f"precision bf16 or fp32{without}"
