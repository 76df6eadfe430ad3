"""What a dataset holds, in numbers: as Markdown for people, as JSON for programs."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Sequence
from typing import Any

from ..drawing.sizes import Size
from ..model.clip_tokens import CHUNK_TOKENS, chunks_of, count_tokens
from ..wording import shown_name, where_from
from .dataset import FileReport, GlitchDataset

MAX_LISTED = 100
"""Longest list of files in the Markdown report; the JSON one has them all."""


@dataclasses.dataclass(frozen=True)
class DatasetReport:
    """What was found and what will be trained.

    Attributes:
        dataset: what it describes.
        buckets: (width, height) of training pictures to number of variants, most frequent first.
        tokens: tokens of each picture's caption in its first variant.
    """

    dataset: GlitchDataset
    buckets: dict[Size, int]
    tokens: tuple[int, ...]

    @classmethod
    def of(cls, dataset: GlitchDataset) -> DatasetReport:
        """Look through a dataset; no picture is opened."""
        variants = range(dataset.recipe.variants)
        sizes = collections.Counter(
            dataset.plan(sample, variant).size for sample in dataset.samples for variant in variants
        )
        tokens = (
            count_tokens(dataset.shown_caption(index)) for index in range(len(dataset.samples))
        )
        return cls(dataset, dict(sizes.most_common()), tuple(tokens))

    @property
    def without_caption(self) -> list[str]:
        """Names of used pictures whose caption is empty as read."""
        return [sample.name for sample in self.dataset.samples if not sample.caption]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        samples = self.dataset.samples
        return {
            "files": files_of(self.dataset.files),
            "subfolders": [shown_name(name) for name in self.dataset.subfolders],
            "remarks": self._remarks(),
            "pictures": len(samples),
            "variants": len(samples) * self.dataset.recipe.variants,
            "samples_per_epoch": len(samples) * self.dataset.recipe.repeats,
            "captions": {
                "with": len(samples) - len(self.without_caption),
                "without": [shown_name(name) for name in self.without_caption],
                "different": len({sample.caption for sample in samples}),
            },
            "sizes": self._sizes(),
            "buckets": {f"{w}x{h}": count for (w, h), count in self.buckets.items()},
            "tokens": self._tokens(),
            "origins": dict(self.dataset.origins),
        }

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        dataset, recipe = self.dataset, self.dataset.recipe
        count, sizes = len(dataset.samples), self._sizes()
        lines = [
            f"**{count} pictures** from `{recipe.folder}`, {recipe.repeats} repeats, "
            f"{count * recipe.repeats} samples per epoch",
            f"- framing: {describe_framing(dataset)}",
            f"- variants per picture: {recipe.variants}",
        ]
        if recipe.corruption_chain:
            steps = " → ".join(step.to_text() for step in recipe.corruption_chain)
            lines.append(f"- corruption: {steps}")
        if dataset.origins:
            lines.append(f"- {where_from(dataset.origins, recipe)}")
        lines += [
            f"- average size {_by(sizes['average'])}, largest {_by(sizes['largest'])}, "
            f"smallest {_by(sizes['smallest'])}",
            f"- {sizes['portrait']} portrait, {sizes['landscape']} landscape, "
            f"{sizes['square']} square",
            f"- {count - len(self.without_caption)} with a caption, "
            f"{len(self.without_caption)} without",
            *(f"- {remark}" for remark in self._remarks()),
            *self._histograms(),
            *listed("used, with a remark", [f for f in dataset.files if f.used and f.reason]),
            *listed("files skipped", dataset.skipped),
        ]
        if dataset.subfolders:
            names = ", ".join(shown_name(name) for name in dataset.subfolders[:MAX_LISTED])
            lines.append(f"- subfolders, not read: {names}")
        return "\n".join(lines)

    def _remarks(self) -> list[str]:
        """Say where fixed_caption and caption_source do not fit each other."""
        recipe = self.dataset.recipe
        if recipe.caption_source == "fixed" and not recipe.fixed_caption:
            return ["caption_source is fixed and fixed_caption empty: every caption is empty"]
        if recipe.caption_source != "fixed" and recipe.fixed_caption:
            return [f"fixed_caption is not used: caption_source is {recipe.caption_source}"]
        return []

    def _sizes(self) -> dict[str, Any]:
        sizes = [sample.size for sample in self.dataset.samples]
        if not sizes:
            return {"average": [], "largest": [], "smallest": [], "different": 0} | dict.fromkeys(
                ("portrait", "landscape", "square"), 0
            )
        by_area = sorted(sizes, key=_area)
        return {
            "average": [round(sum(side) / len(sizes)) for side in zip(*sizes, strict=True)],
            "largest": list(by_area[-1]),
            "smallest": list(by_area[0]),
            "different": len(set(sizes)),
            "portrait": sum(height > width for width, height in sizes),
            "landscape": sum(width > height for width, height in sizes),
            "square": sum(width == height for width, height in sizes),
        }

    def _tokens(self) -> dict[str, Any]:
        tokens = self.tokens or (0,)
        chunks = collections.Counter(map(chunks_of, self.tokens))
        return {
            "average": round(sum(tokens) / len(tokens), 1),
            "most": max(tokens),
            "fewest": min(tokens),
            "histogram": {
                f"{(n - 1) * CHUNK_TOKENS + 1 if n > 1 else 0}-{n * CHUNK_TOKENS}": chunks[n]
                for n in sorted(chunks)
            },
        }

    def _histograms(self) -> list[str]:
        tokens = self._tokens()
        shapes = ", ".join(f"{w}×{h}: {n}" for (w, h), n in list(self.buckets.items())[:MAX_LISTED])
        lengths = ", ".join(f"{span}: {n}" for span, n in tokens["histogram"].items())
        return [
            f"- training shapes: {shapes}",
            f"- caption tokens: {tokens['fewest']} to {tokens['most']}, "
            f"average {tokens['average']} ({lengths})",
        ]


def describe_framing(dataset: GlitchDataset) -> str:
    """Return how pictures are framed, in a few words."""
    recipe = dataset.recipe
    weights = recipe.framing_weights
    mix = ", ".join(
        name if len(weights) == 1 else f"{share:.0%} {name}" for name, share in weights.items()
    )
    shape = f"{recipe.width}×{recipe.height}"
    if recipe.landscape_width:
        shape += f", landscape {recipe.landscape_width}×{recipe.landscape_height}"
    return f"{mix} to {shape}" + (", random flip" if recipe.random_flip else "")


def files_of(files: Sequence[FileReport]) -> list[dict[str, str]]:
    """Return what became of files as plain values for JSON."""
    return [
        {
            "name": shown_name(file.name),
            "status": "used" if file.used else "skipped",
            "reason": file.reason,
        }
        for file in files
    ]


def listed(title: str, files: Sequence[FileReport]) -> list[str]:
    """Return a list of files in Markdown below their number, or nothing where there are none."""
    if not files:
        return []
    lines = [f"- {len(files)} {title}:"]
    lines += [f"  - {shown_name(file.name)}: {file.reason}" for file in files[:MAX_LISTED]]
    more = len(files) - MAX_LISTED
    return [*lines, f"  - … and {more} more"] if more > 0 else lines


def _area(size: Sequence[int]) -> int:
    return size[0] * size[1]


def _by(size: list[int]) -> str:
    return "×".join(map(str, size)) or "none"
