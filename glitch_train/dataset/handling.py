"""What a node does with a dataset beside training on it."""

from __future__ import annotations

import dataclasses

from ..settings import choice, integer, validate

CACHES = ("until restart", "keep")

CACHE = "Glitch Cache"
"""A group of settings, called as the node that shows it."""


@dataclasses.dataclass(frozen=True)
class DatasetHandling:
    """What a node does with a dataset beside training on it: it is in no run's recipe."""

    cache: str = choice(
        "until restart",
        CACHES,
        "How long encoded pictures and captions stay on disk: in ComfyUI's temp folder until it "
        "starts again, or for good in output/glitch/cache (or glitch_cache of "
        "extra_model_paths.yaml).",
        group=CACHE,
    )
    preview_count: int = integer(
        32,
        0,
        1_000_000,
        "How many prepared pictures and captions are sent out, to look at or to work on. 0: all of "
        "them, as far as the memory goes. All pictures are trained on.",
        group=CACHE,
    )

    def __post_init__(self) -> None:
        validate(self)

    @property
    def keeps_cache(self) -> bool:
        """Whether what is encoded stays on disk for good."""
        return self.cache == CACHES[1]
