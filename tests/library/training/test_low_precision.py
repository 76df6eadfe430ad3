"""Numbers that are embedded keep their value on the way through a model of 16 bits."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.embeddings import get_timestep_embedding
from tiny import tiny_base

from glitch_train.recipe.train import TrainRecipe
from glitch_train.training.batches import Batch
from glitch_train.training.predictor import Predictor

SIZES = (2731.0, 4097.0, 341.0, 1027.0, 1365.0, 769.0)
"""bf16 has none of these, fp16 not the first two."""


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize(
    "timestep", [torch.tensor([999]), torch.tensor([713.7])], ids=["int", "float"]
)
def test_sizes_and_timesteps_are_embedded_in_fp32(dtype: torch.dtype, timestep) -> None:
    """Catches sizes or timesteps rounded before they are embedded: another picture's conditioning.

    The embedding's own rounding is 2⁻⁸; of a rounded 1365 it is off by more than a half.
    """
    base = tiny_base(is_xl=True)
    torch.nn.Module.to(base.unet, dtype=dtype)
    seen: dict[str, torch.Tensor] = {}
    for name in ("time_embedding", "add_embedding"):
        base.unet.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs, name=name: seen.update({name: inputs[0].float()})
        )
    stream = torch.Generator().manual_seed(0)
    pooled = torch.randn(1, 16, generator=stream)
    batch = Batch(
        torch.randn(1, 4, 8, 8, generator=stream), torch.randn(1, 77, 24, generator=stream), None,
        pooled, torch.tensor([SIZES]),
    )  # fmt: skip
    predictor = Predictor(base, TrainRecipe(), torch.device("cpu"), dtype)
    with torch.no_grad():
        predictor.predict(batch.to(predictor.device, dtype), batch.latents, timestep)

    def embedded(numbers: torch.Tensor, width: int) -> torch.Tensor:
        return get_timestep_embedding(numbers, width, flip_sin_to_cos=True, downscale_freq_shift=0)

    sizes = embedded(torch.tensor(SIZES), 8).reshape(1, -1)
    added = torch.cat([pooled, sizes], dim=-1)
    torch.testing.assert_close(seen["add_embedding"], added, rtol=2**-7, atol=2**-8)
    torch.testing.assert_close(
        seen["time_embedding"], embedded(timestep, 32), rtol=2**-7, atol=2**-8
    )
