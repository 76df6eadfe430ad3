"""What index 1 means: the measures of stated corruptions on real photographs, kept in a file."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATH = Path(__file__).with_name("glitch_reference.json")
"""Written by ``python -m glitch_train calibrate --write``; with its provenance inside."""


@dataclasses.dataclass(frozen=True)
class Reference:
    """The scale of the glitch index.

    Attributes:
        values: effect to the value that is index 1.
        match_floor: pictures that match less than this are different pictures, whose stretch
            cannot be told.
        provenance: how the numbers came about.
    """

    values: Mapping[str, float]
    match_floor: float
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


DEFINED = {
    "semantic_drift": 1.0,
    "caption_hold": 1.0,
    "mode_collapse": 1.0,
    "perceptual": 1.0,
    "weight_loudness": 0.1,
}
"""Effects whose index 1 follows from their definition: no photograph is needed to find it."""


@functools.cache
def reference() -> Reference:
    """Return the reference that is shipped."""
    stored = json.loads(PATH.read_text("utf-8"))
    return Reference({**DEFINED, **stored["values"]}, stored["match_floor"], stored["provenance"])
