"""What all corruptions of pictures share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image

from ...settings import number, validate

Draws = np.random.Generator
"""Where everything random about one step comes from."""

Donor = Callable[[Draws, tuple[int, int]], Image.Image | None]
"""Gives another picture of the folder in a given (width, height), or None when there is none."""


@dataclasses.dataclass(frozen=True)
class Corruption:
    """The options of one corruption, and how it is carried out."""

    amount: float = number(
        1.0, 0.0, 1.0, "How strong: 0 changes nothing, 1 is what the options say."
    )
    probability: float = number(1.0, 0.0, 1.0, "Chance that a variant of a picture gets it.")

    def __post_init__(self) -> None:
        validate(self)

    def apply(self, image: Image.Image, draws: Draws, donor: Donor) -> Image.Image:
        """Return the corrupted picture, RGB of the same size.

        Args:
            image: RGB; not changed.
            draws: everything random comes from here.
            donor: gives another picture of the folder, if any.
        """
        raise NotImplementedError
