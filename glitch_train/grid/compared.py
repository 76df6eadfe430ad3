"""The pictures that every experiment is compared by: one set of prompts and seeds for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

PROMPTS = (
    "a fashion photograph of a woman in a long red coat walking through a street after rain, her "
    "whole figure in the frame, neon signs and wet asphalt behind her",
    "a studio portrait of a young man in a white shirt and a grey jacket, soft light from a "
    "window on the left, a plain background",
    "two models in black evening dresses sitting on a sofa in an empty hotel lobby, their hands "
    "in their laps, both looking at the camera, flash light, hard shadows on the wall",
)

COMPARED: Mapping[str, Any] = {
    "prompts": "\n".join(PROMPTS),
    "seeds": "0-2",
    "scheduler": "karras",
}
"""What the grid of an experiment names beside its sizes; all else are a grid's defaults."""
