"""``glitch_train inspect``: what a LoRA file is."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..wording import number
from .options import add_json_option

# What other tools write into a LoRA and people look for.
_TOLD = (
    "ss_sd_model_name",
    "ss_base_model_version",
    "ss_network_dim",
    "ss_network_alpha",
    "ss_steps",
    "ss_learning_rate",
    "ss_training_comment",
    "modelspec.architecture",
    "modelspec.title",
)

_MOST_SHOWN = 3


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("inspect", help="say what a LoRA file is")
    parser.add_argument("lora", type=Path, help=".safetensors file, or a folder that peft saved")
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..lora.family import source_network
    from ..lora.foreign import NotCarriedOver
    from ..lora.read import read_lora_file
    from ..transfer.report import describe_lora

    try:
        lora = read_lora_file(options.lora)
        network = source_network(lora)
    except NotCarriedOver as error:
        refused = {"what": error.what, "transferable": False, "reason": str(error)}
        return {"text": str(error), "name": options.lora.name, **refused}
    found = describe_lora(lora, network)
    found["alphas"] = sorted({m.alpha for m in lora.modules.values() if m.alpha is not None})
    found["metadata"] = {key: lora.metadata[key] for key in _TOLD if key in lora.metadata}
    found["embeddings"] = list(lora.embeddings)
    found["other_entries"] = len(lora.extras)
    found["unread"] = dict(lora.unread)
    found["notes"] = list(lora.notes)
    found |= {"what": f"a LoRA for {network.family.name}", "transferable": True}
    return {"text": _as_text(found), **found}


def _as_text(found: dict[str, Any]) -> str:
    modules = ", ".join(f"{count} in {part}" for part, count in found["modules"].items())
    lines = [
        f"{found['name']}: {' + '.join(found['kinds'])} for {found['family']}",
        f"format    {found['format']}",
        f"modules   {modules}",
        f"ranks     {', '.join(map(str, found['ranks']))}",
        f"alphas    {', '.join(f'{alpha:g}' for alpha in found['alphas']) or 'none (scale 1)'}",
        f"norm      {number(found['norm'], 6)}  (‖ΔW‖ over all modules)",
    ]
    left = [f"left out  {name} ({kind})" for name, kind in found["unread"].items()]
    if found["embeddings"]:
        lines.append(f"embedded  {', '.join(found['embeddings'])} (textual inversions)")
    if found["other_entries"]:
        lines.append(f"others    {found['other_entries']} entries that are no low-rank factors")
    unknown = found["unknown_modules"]
    if unknown:
        rest = f" and {len(unknown) - _MOST_SHOWN} more" if len(unknown) > _MOST_SHOWN else ""
        names = ", ".join(unknown[:_MOST_SHOWN]) + rest
        lines.append(f"unknown   {len(unknown)} modules that {found['family']} lacks: {names}")
    told = [f"{key}  {value}" for key, value in found["metadata"].items()]
    return "\n".join([*lines, *left, *told, *found["notes"]])
