"""Several datasets trained as one, each with its own settings and in a stated proportion."""

from __future__ import annotations

import bisect
import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DatasetError, RecipeError, quoted
from ..settings import from_mapping
from .dataset import FileReport, GlitchDataset, Sample
from .recipe import DatasetRecipe


@dataclasses.dataclass(frozen=True)
class MixPart:
    """One dataset of a mix, as a recipe names it.

    Attributes:
        weight: how much of an epoch is its: this over the sum of all weights.
        dataset: its settings.
    """

    weight: float
    dataset: DatasetRecipe

    def __post_init__(self) -> None:
        is_number = isinstance(self.weight, (int, float)) and not isinstance(self.weight, bool)
        if not is_number or not 0 < self.weight < math.inf:
            raise RecipeError(
                f"The weight of a part of a mix must be above 0, got {quoted(self.weight)}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values: the weight, then the settings."""
        return {"weight": self.weight, **dataclasses.asdict(self.dataset)}

    @classmethod
    def from_dict(cls, values: Any, shared: Mapping[str, Any]) -> MixPart:
        """Read what :meth:`to_dict` wrote, or what a person did.

        Args:
            values: a weight, 1 by default, and settings.
            shared: settings that all parts have where they do not say otherwise.

        Raises:
            RecipeError: for an unknown name or a value out of range.
        """
        if not isinstance(values, Mapping):
            raise RecipeError(f"A part of a mix holds names and values, got {quoted(values)}.")
        own = {name: value for name, value in values.items() if name != "weight"}
        return cls(values.get("weight", 1.0), from_mapping(DatasetRecipe, {**shared, **own}))


@dataclasses.dataclass(frozen=True)
class MixedDataset:
    """Several datasets.

    Attributes:
        recipe: the settings that stand for all where one recipe is asked for.
        parts: the datasets; none of them is a mix.
        weights: of the parts; empty where the parts' repeats decide how often each is seen.
        mix: what a recipe says to have it again; empty where ``recipe`` says it by its folder.
        files: what lies beside the folders of the parts; none of it is used.
        subfolders: folders beside those of the parts, with the reason where they have no picture.
    """

    recipe: DatasetRecipe
    parts: tuple[GlitchDataset, ...]
    weights: tuple[float, ...] = ()
    mix: tuple[MixPart, ...] = ()
    files: tuple[FileReport, ...] = ()
    subfolders: tuple[str, ...] = ()

    @property
    def samples(self) -> tuple[Sample, ...]:
        """The pictures of all parts."""
        return tuple(sample for part in self.parts for sample in part.samples)

    @property
    def cache_folder(self) -> Path | None:
        """Where encoded variants are kept: for good if one of the parts says so."""
        return next((part.cache_folder for part in self.parts if part.cache_folder), None)

    @property
    def origins(self) -> dict[str, str]:
        """Who named which setting, where that is the same for all parts."""
        first, *others = (part.origins for part in self.parts)
        return {
            name: who
            for name, who in first.items()
            if all(other.get(name) == who for other in others)
        }

    @property
    def shares(self) -> tuple[float, ...]:
        """The parts' shares of an epoch, as they were asked for; their sum is 1."""
        wanted = self.weights or self.samples_per_epoch()
        return tuple(one / sum(wanted) for one in wanted)

    def samples_per_epoch(self, pictures: Sequence[int] = ()) -> tuple[int, ...]:
        """Return how many samples of each part an epoch has.

        Without weights each part has its pictures times its repeats. With weights an epoch is as
        long as that, too, and is shared out by weight, in whole samples, one at least.

        Args:
            pictures: how many pictures of each part are trained on; all by default.

        Raises:
            DatasetError: when none is left of a part.
        """
        counts = pictures or [len(part.samples) for part in self.parts]
        for part, count in zip(self.parts, counts, strict=True):
            if not count:
                raise DatasetError(
                    f"validation_split holds out every picture of {part.recipe.folder}, a part of "
                    "the mix; lower it, or change seed."
                )
        own = [n * part.recipe.repeats for n, part in zip(counts, self.parts, strict=True)]
        return tuple(shared_out(sum(own), self.weights)) if self.weights else tuple(own)

    def caption_dropped(self, index: int, visit: int) -> bool:
        """Say whether a picture is trained with an empty caption, as its part has it.

        Args:
            index: of the sample, among those of all parts.
            visit: how often it was seen before.
        """
        ends = list(itertools.accumulate(len(part.samples) for part in self.parts))
        number = bisect.bisect_right(ends, index)
        part = self.parts[number]
        return part.caption_dropped(index - (ends[number] - len(part.samples)), visit)


AnyDataset = GlitchDataset | MixedDataset
"""What can be trained on."""


def mix_datasets(weighted: Sequence[tuple[float, AnyDataset]]) -> MixedDataset:
    """Return several datasets as one; mixes among them are taken apart, in proportion.

    Args:
        weighted: weight and dataset of each.

    Raises:
        RecipeError: for a weight that is not above 0.
    """
    parts: list[GlitchDataset] = []
    weights: list[float] = []
    mix: list[MixPart] = []
    for weight, dataset in weighted:
        parts += dataset.parts
        weights += [weight * share for share in dataset.shares]
        named = dataset.mix or (MixPart(1.0, dataset.recipe),)
        total = sum(one.weight for one in named)
        mix += [MixPart(weight * one.weight / total, one.dataset) for one in named]
    rest = [one for _, one in weighted if isinstance(one, MixedDataset)]
    return MixedDataset(
        mix[0].dataset,
        tuple(parts),
        tuple(weights),
        tuple(mix),
        tuple(file for one in rest for file in one.files),
        tuple(name for one in rest for name in one.subfolders),
    )


def training_captions(dataset: AnyDataset) -> Iterator[str]:
    """Yield each different caption once, part by part, in order of first use."""
    seen: set[bytes] = set()
    for part in dataset.parts:
        variants = part.recipe.variants if part.recipe.varies_captions else 1
        for variant, index in itertools.product(range(variants), range(len(part.samples))):
            caption = part.caption(index, variant)
            digest = hashlib.sha256(caption.encode(errors="replace")).digest()
            if digest not in seen:
                seen.add(digest)
                yield caption


def shared_out(total: int, weights: Sequence[float]) -> list[int]:
    """Divide a number into whole parts by weight, each at least 1, by largest remainders.

    Args:
        total: what is divided.
        weights: above 0.
    """
    exact = [total * weight / sum(weights) for weight in weights]
    whole = [max(1, int(part)) for part in exact]
    order = sorted(range(len(exact)), key=lambda i: (whole[i] - exact[i], i))
    for index in order[: max(0, total - sum(whole))]:
        whole[index] += 1
    return whole
