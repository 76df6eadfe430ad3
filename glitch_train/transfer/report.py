"""What a transfer did: counts, energy, the loudest modules and what was left behind."""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from ..lora.family import named_modules
from ..lora.read import LoraFile
from ..model.network import PART_TITLES, UNET, Module, Network
from ..wording import number
from .mapping import namesakes, unused_reason
from .recipe import TransferRecipe

LOUDEST_COUNT = 10


@dataclasses.dataclass(frozen=True)
class Patch:
    """What one target module got.

    Attributes:
        target: the module.
        sources: names of the LoRA's modules that feed it.
        exact: whether one module was taken over in its shape.
        energy: ‖ΔW'‖², at strength 1.
        loudness: ‖ΔW'‖ / ‖W‖, at strength 1.
    """

    target: Module
    sources: tuple[str, ...]
    exact: bool
    energy: float
    loudness: float


@dataclasses.dataclass(frozen=True)
class Skipped:
    """A module of the LoRA that feeds nothing, and why."""

    name: str
    reason: str


@dataclasses.dataclass(frozen=True)
class TransferReport:
    """Everything about a transfer but the factors.

    Attributes:
        lora: the LoRA.
        source: the network it is for.
        target: the network it was carried to.
        recipe: the settings.
        patches: the target's patched modules.
        skipped: the LoRA's modules that feed nothing.
        extras_kept: whether entries that are no factors were kept.
        dora_dropped: target modules that got a DoRA's direction without its magnitude.
        dora_as_read: target modules whose magnitudes are peft's, for want of the weights.
        target_measured: whether the target's weights were at hand.
        source_measured: whether the weights of the LoRA's own base were at hand.
    """

    lora: LoraFile
    source: Network
    target: Network
    recipe: TransferRecipe
    patches: tuple[Patch, ...]
    skipped: tuple[Skipped, ...]
    extras_kept: bool
    dora_dropped: int
    dora_as_read: int
    target_measured: bool
    source_measured: bool

    @property
    def energy_kept(self) -> float:
        """Σ‖ΔW'‖² / Σ‖ΔW‖²."""
        before = self.lora.energy
        after = math.fsum(patch.energy for patch in self.patches)
        return after / before if before > 0.0 else 1.0

    @property
    def loudest(self) -> list[Patch]:
        """The loudest patched modules, loudest first."""
        return sorted(self.patches, key=lambda patch: -patch.loudness)[:LOUDEST_COUNT]

    @property
    def counts(self) -> dict[str, int]:
        """The LoRA's modules by what became of them, and the target's UNet modules.

        ``target_total`` is kohya's default set (Linears and 1×1 convolutions in transformers),
        and all convolutions where the LoRA has some outside transformers.
        """
        fitted = {name for patch in self.patches if not patch.exact for name in patch.sources}
        used = {name for patch in self.patches for name in patch.sources}
        whole = [m for m in self.target.modules.values() if self._counts_as_target(m)]
        reached = {patch.target.key for patch in self.patches}
        return {
            "total": len(self.lora.modules),
            "exact": len(used - fitted),
            "fitted": len(fitted),
            "skipped": len(self.skipped),
            "target_total": len(whole),
            "target_reached": sum(module.key in reached for module in whole),
        }

    def text_counts(self) -> dict[str, int]:
        """Return the target's text encoder modules: all, and those patched."""
        return {
            "target_total": sum(m.role.stage == "text" for m in self.target.modules.values()),
            "target_reached": sum(p.target.role.stage == "text" for p in self.patches),
        }

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {
            "source": self.source.family.name,
            "target": self.target.family.name,
            "lora": describe_lora(self.lora, self.source),
            "settings": dataclasses.asdict(self.recipe),
            "modules": self.counts,
            "text_encoders": self.text_counts(),
            "energy_kept": round(self.energy_kept, 6),
            "weights": {
                "target": "measured" if self.target_measured else "estimated",
                "source": "measured" if self.source_measured else "estimated",
            },
            "dora_magnitudes_left_behind": self.dora_dropped,
            "other_entries": {"count": len(self.lora.extras), "kept": self.extras_kept},
            "dora_magnitudes_as_read": self.dora_as_read,
            "unread_entries": len(self.lora.unread),
            "notes": list(self.lora.notes),
            "loudest": [
                {"name": patch.target.key, "loudness": _short(patch.loudness)}
                for patch in self.loudest
            ],
            "skipped": [dataclasses.asdict(one) for one in self.skipped],
        }

    def to_markdown(self) -> str:
        """Return the report for reading."""
        counts, text = self.counts, self.text_counts()
        lines = [
            f"## {self.lora.title}: {self.source.title} → {self.target.title}",
            "",
            f"mapping **{self.recipe.mapping}** · fit **{self.recipe.fit}** · "
            f"depth **{self.recipe.depth}** · norm **{self._norm_words()}** · "
            f"seed {self.recipe.seed}",
            "",
            "| | modules |",
            "|---|---:|",
            f"| in the LoRA | {counts['total']} |",
            f"| taken over exactly | {counts['exact']} |",
            f"| fitted | {counts['fitted']} |",
            f"| skipped | {counts['skipped']} |",
            f"| of the target's UNet reached | {counts['target_reached']} of "
            f"{counts['target_total']} |",
        ]
        if text["target_total"]:
            lines.append(
                f"| of its text encoders reached | {text['target_reached']} of "
                f"{text['target_total']} |"
            )
        lines += ["", f"Energy kept (Σ‖ΔW'‖² / Σ‖ΔW‖²): **{number(self.energy_kept, 3)}**", ""]
        return "\n".join([*lines, *self._loudest_lines(), *self._skipped_lines(), *self._notes()])

    def _counts_as_target(self, module: Module) -> bool:
        if module.role.is_attention:
            return True
        return module.role.part == UNET and any(m.shape[2:] for m in self.lora.modules.values())

    def _norm_words(self) -> str:
        if self.recipe.norm == "loudness":
            return f"loudness {self.recipe.loudness:g}"
        return self.recipe.norm

    def _loudest_lines(self) -> list[str]:
        lines = ["### Loudest modules", "", "| module | ‖ΔW‖ / ‖W‖ |", "|---|---:|"]
        lines += [f"| {one.target.key} | {number(one.loudness, 3)} |" for one in self.loudest]
        return [*lines, ""]

    def _skipped_lines(self) -> list[str]:
        if not self.skipped:
            return []
        reasons = collections.Counter(_kind(one.reason) for one in self.skipped)
        lines = ["### Skipped", "", "| modules | reason |", "|---:|---|"]
        return [*lines, *(f"| {count} | {reason} |" for reason, count in reasons.most_common()), ""]

    def _notes(self) -> list[str]:
        notes = list(self.lora.notes)
        if not self.target_measured:
            notes.append(
                "The target's weights are not at hand: ‖W‖ is estimated as that of freshly "
                "initialised layers."
            )
        if self.recipe.norm == "match" and not self.source_measured:
            notes.append(
                "The LoRA's own base is not at hand: its weights are taken to have the same gain "
                "per input as the target's."
            )
        if self.dora_dropped:
            notes.append(
                f"DoRA: {self.dora_dropped} modules got the direction only; the magnitudes belong "
                "to the base they were trained on."
            )
        if self.dora_as_read:
            notes.append(
                f"DoRA: {self.dora_as_read} modules keep peft's magnitudes as they are. ComfyUI "
                "takes them against ‖W‖, peft against ‖W + ΔW‖: carry the LoRA to the checkpoint "
                "itself, and both agree."
            )
        if self.lora.extras and not self.extras_kept:
            notes.append(
                f"{len(self.lora.extras)} entries that are no low-rank factors were left behind."
            )
        if self.lora.embeddings and not self.extras_kept:
            notes.append(f"Textual inversions left behind: {', '.join(self.lora.embeddings)}.")
        if self.lora.unread:
            kinds = ", ".join(sorted(set(self.lora.unread.values())))
            notes.append(
                f"{len(self.lora.unread)} entries in a number format that cannot be read ({kinds}) "
                "were left out."
            )
        return [f"- {note}" for note in notes]


def skipped_modules(
    mapping: str,
    lora: LoraFile,
    source: Network,
    target: Network,
    patches: Iterable[Patch],
    offered: Collection[str],
) -> tuple[Skipped, ...]:
    """Return the LoRA's modules that feed nothing, with reasons.

    Args:
        mapping: the mapping used.
        lora: the LoRA.
        source: the network it is for.
        target: the network it goes to.
        patches: what was done.
        offered: names of the modules that the mapping offered to the depth setting.
    """
    used = {name for patch in patches for name in patch.sources}
    key_of = {module.name: key for key, module in named_modules(lora, source).items()}
    by_name = mapping in ("by_name", "strict")
    named = namesakes(mapping, lora, target) if by_name else {}
    names_there = {module.name: target.modules[key] for key, module in named.items()}
    skipped = []
    for name, module in lora.modules.items():
        if name in used:
            continue
        if by_name and name not in names_there:
            reason = "no module of this name in the target"
        elif name in offered:
            reason = "the depth setting takes another block of its group"
        else:
            reason = unused_reason(module, key_of.get(name), names_there.get(name), source, target)
        skipped.append(Skipped(name, reason))
    return tuple(skipped)


def describe_lora(lora: LoraFile, source: Network) -> dict[str, Any]:
    """Return what a LoRA file is, as plain values."""
    parts: Sequence[str] = sorted({m.part or "unknown" for m in lora.modules.values()})
    count = {part: sum(m.part == part for m in lora.modules.values()) for part in PART_TITLES}
    known = {module.name for module in named_modules(lora, source).values()}
    return {
        "name": lora.title,
        "family": source.family.name,
        "published_size": source.is_reference,
        "format": lora.format,
        "kinds": list(lora.kinds),
        "ranks": list(lora.ranks),
        "parts": list(parts),
        "modules": {part: number for part, number in count.items() if number},
        "unknown_modules": [name for name in lora.modules if name not in known],
        "norm": _short(math.sqrt(lora.energy)),
    }


def _kind(reason: str) -> str:
    """Shorten a reason to what many modules share."""
    return "another shape in the target" if reason.startswith("shape:") else reason


def _short(value: float) -> float:
    return float(f"{value:.6g}")
