"""Corruptions of pictures: the registry, the text form of a chain, and carrying it out.

A chain is text, one corruption per line (or separated by semicolons), carried out in that order:

    resolution_crush width=128 height=128
    jpeg_crush probability=0.5 quality_low=3 quality_high=12 generations=4 shift_px=1

Every corruption takes ``amount`` (0 does nothing, 1 is what its options say) and ``probability``
(the chance that a variant gets it). Everything random is drawn from a generator of its own per
step, so that changing one step leaves the others' draws alone.
"""

from __future__ import annotations

import dataclasses
import functools
import re

from PIL import Image

from ...errors import RecipeError
from ...seeds import array_draws
from ...settings import declared, nearest
from .base import Corruption, Donor
from .jpeg import Bitstream, JpegCrush
from .pixels import ChannelShift, DatamoshBlocks, PixelSort, Posterize, ResolutionCrush, Scanline

CORRUPTIONS: dict[str, type[Corruption]] = {
    "jpeg_crush": JpegCrush,
    "resolution_crush": ResolutionCrush,
    "posterize": Posterize,
    "channel_shift": ChannelShift,
    "pixel_sort": PixelSort,
    "scanline": Scanline,
    "datamosh_blocks": DatamoshBlocks,
    "bitstream": Bitstream,
}
"""Name to settings; every name is one corruption."""


@dataclasses.dataclass(frozen=True)
class CorruptionStep:
    """One link of a chain.

    Attributes:
        kind: a key of :data:`CORRUPTIONS`.
        settings: its options.
    """

    kind: str
    settings: Corruption

    def to_text(self) -> str:
        """Return the line this step is read from; settings at their defaults are left out."""
        changed = {
            name: getattr(self.settings, name)
            for name, (field, _) in declared(type(self.settings)).items()
            if getattr(self.settings, name) != field.default
        }
        return " ".join([self.kind, *(f"{name}={value}" for name, value in changed.items())])

    @property
    def cache_key(self) -> str:
        """All values as text; its words stay what they are, or every cache is made anew."""
        settings = declared(type(self.settings))
        values = ", ".join(f"{name}={getattr(self.settings, name)!r}" for name in settings)
        camel_case = self.kind.title().replace("_", "")
        return f"CorruptionStep(kind={self.kind!r}, settings={camel_case}({values}))"


@functools.lru_cache(maxsize=64)
def parse_chain(text: str) -> tuple[CorruptionStep, ...]:
    """Read a chain of corruptions.

    Args:
        text: one ``kind option=value …`` per line; ``#`` begins a comment.

    Raises:
        RecipeError: for an unknown corruption or option, or a value out of range.
    """
    lines = (line.partition("#")[0].strip() for line in re.split(r"[;\n]", text))
    return tuple(_parse_step(line) for line in lines if line)


def chain_text(*chains: str) -> str:
    """Join chains, one step per line, in their normal form.

    Raises:
        RecipeError: as :func:`parse_chain`.
    """
    return "\n".join(step.to_text() for chain in chains for step in parse_chain(chain))


def corrupt(
    image: Image.Image,
    chain: tuple[CorruptionStep, ...],
    seed: int,
    picture: str,
    variant: int,
    donor: Donor,
) -> Image.Image:
    """Carry out a chain on one variant of a picture.

    Args:
        image: RGB, in its training shape.
        chain: the steps, in order.
        seed: the dataset's seed.
        picture: identifies the picture's content.
        variant: number of the variant, from 0.
        donor: where ``datamosh_blocks`` takes other pictures from.

    Returns:
        RGB of the same size.
    """
    for number, step in enumerate(chain):
        draws = array_draws(seed, "corruption", number, step.kind, picture, variant)
        if draws.random() < step.settings.probability and step.settings.amount > 0:
            image = step.settings.apply(image, draws, donor)
    return image


def _parse_step(line: str) -> CorruptionStep:
    kind, *options = re.sub(r"\s*=\s*", "=", line.replace(",", " ")).split()
    if kind not in CORRUPTIONS:
        raise RecipeError(
            f"There is no corruption called {kind!r} among {', '.join(CORRUPTIONS)}"
            f"{nearest(kind, CORRUPTIONS)}"
        )
    known = declared(CORRUPTIONS[kind])
    values: dict[str, object] = {}
    for option in options:
        name, equals, value = option.partition("=")
        if name not in known or not equals:
            raise RecipeError(
                f"{kind} has no option {option!r}; write name=value with one of "
                f"{', '.join(known)}{nearest(name, known)}"
            )
        values[name] = _value(kind, name, value, type(known[name][0].default))
    try:
        return CorruptionStep(kind, CORRUPTIONS[kind](**values))  # type: ignore[arg-type]
    except RecipeError as error:
        raise RecipeError(f"{kind}: {error}") from error


def _value(kind: str, name: str, text: str, wanted: type) -> object:
    if wanted is bool:
        words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
        if text.lower() not in words:
            raise RecipeError(f"{kind}: {name} must be true or false, got {text!r}.")
        return words[text.lower()]
    try:
        return wanted(text)
    except ValueError:
        kind_of_number = "a whole number" if wanted is int else "a number"
        raise RecipeError(f"{kind}: {name} must be {kind_of_number}, got {text!r}.") from None
