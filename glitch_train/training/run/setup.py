"""What a run is made of, before anything is done."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from ...dataset.mix import AnyDataset
from ...model.checkpoint import BaseModel
from ...model.encoders import Encoders
from ...recipe.recipe import Recipe
from ..team import ALONE, Team
from .folder import RunPaths


@dataclasses.dataclass(frozen=True)
class RunSetup:
    """What a run is made of.

    Attributes:
        base: the frozen base model.
        base_key: the base's ``key``, which tells base models apart.
        dataset: pictures and captions.
        recipe: the whole recipe, kept with the LoRA.
        encoders: the VAE and the tokenizers.
        paths: where the run's files go.
        cache_folder: where latents and prompt embeddings are kept between runs.
        device: where to train.
        team: the processes that train together; only the main one writes files.
        state_every: steps between two states that are written on the way, beside those that go
            with the recipe's snapshots; 0 for none.
    """

    base: BaseModel
    base_key: str
    dataset: AnyDataset
    recipe: Recipe
    encoders: Encoders
    paths: RunPaths
    cache_folder: Path
    device: torch.device
    team: Team = ALONE
    state_every: int = 0
