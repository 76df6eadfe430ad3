"""What a mix holds and in which proportions: as Markdown for people, as JSON for programs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from ..wording import percent, shown_name
from .mix import AnyDataset, MixedDataset
from .report import DatasetReport, files_of, listed


@dataclasses.dataclass(frozen=True)
class MixReport:
    """What will be trained of each part of a mix.

    Attributes:
        dataset: the mix.
        parts: a report of each part.
    """

    dataset: MixedDataset
    parts: tuple[DatasetReport, ...]

    @classmethod
    def of(cls, dataset: MixedDataset) -> MixReport:
        """Look through a mix; no picture is opened."""
        return cls(dataset, tuple(map(DatasetReport.of, dataset.parts)))

    @property
    def proportions(self) -> list[dict[str, Any]]:
        """Of each part: folder, pictures, repeats, weight asked for, samples per epoch, share."""
        samples = self.dataset.samples_per_epoch()
        weights = self.dataset.weights or (None,) * len(samples)
        return [
            {
                "folder": part.recipe.folder,
                "pictures": len(part.samples),
                "repeats": part.recipe.repeats,
                "weight": weight,
                "samples_per_epoch": count,
                "share": count / sum(samples),
            }
            for part, weight, count in zip(self.dataset.parts, weights, samples, strict=True)
        ]

    @property
    def summary(self) -> str:
        """The proportions in one line."""
        parts = (
            f"{shown_name(Path(one['folder']).name)} {percent(one['share'])}"
            for one in self.proportions
        )
        return f"of every epoch: {', '.join(parts)}"

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        parts = [
            {**proportion, **report.to_dict(), "samples_per_epoch": proportion["samples_per_epoch"]}
            for proportion, report in zip(self.proportions, self.parts, strict=True)
        ]
        return {
            "pictures": sum(part["pictures"] for part in parts),
            "variants": sum(part["variants"] for part in parts),
            "samples_per_epoch": sum(part["samples_per_epoch"] for part in parts),
            "files": files_of(self.dataset.files),
            "subfolders": [shown_name(name) for name in self.dataset.subfolders],
            "mix": parts,
        }

    def to_markdown(self) -> str:
        """Return the report as Markdown: the proportions, then each part's own report."""
        shares, unread = self.proportions, self.dataset.subfolders
        pictures = sum(one["pictures"] for one in shares)
        samples = sum(one["samples_per_epoch"] for one in shares)
        lines = [
            f"**{pictures} pictures** in a mix of {len(shares)}, {samples} samples per epoch",
            "",
            "| part | folder | pictures | repeats | weight | samples per epoch | share |",
            "|---|---|---|---|---|---|---|",
        ]
        for number, one in enumerate(shares, start=1):
            weight = "by repeats" if one["weight"] is None else f"{one['weight']:g}"
            lines.append(
                f"| {number} | {shown_name(Path(one['folder']).name)} | {one['pictures']} | "
                f"{one['repeats']} | {weight} | {one['samples_per_epoch']} | "
                f"{percent(one['share'])} |"
            )
        if not self.dataset.weights:
            lines += ["", "Repeats are the numbers in the folders' names; the setting is not used."]
        if unread:
            lines += ["", f"Subfolders, not read: {', '.join(map(shown_name, unread))}"]
        if self.dataset.files:
            lines += ["", *listed("files beside the parts' folders, skipped", self.dataset.files)]
        for number, report in enumerate(self.parts, start=1):
            lines += ["", f"### Part {number}", "", report.to_markdown()]
        return "\n".join(lines)


def report_of(dataset: AnyDataset) -> DatasetReport | MixReport:
    """Return the report of a dataset or a mix."""
    if isinstance(dataset, MixedDataset):
        return MixReport.of(dataset)
    return DatasetReport.of(dataset)
