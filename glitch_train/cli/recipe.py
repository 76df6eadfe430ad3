"""``glitch_train recipe``: the recipe of a LoRA, a file or presets, checked and printed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .options import add_json_option


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser(
        "recipe", help="print the recipe of a LoRA, a recipe file or presets; or list the presets"
    )
    parser.add_argument(
        "file",
        type=Path,
        nargs="?",
        help=".safetensors of this pack, .json or .toml; without it, presets",
    )
    parser.add_argument(
        "--preset",
        action="append",
        default=[],
        metavar="NAME",
        help="a preset of the Glitch Recipe node; several are combined in this order",
    )
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..errors import RecipeError
    from ..lora.file import read_recipe_of
    from ..recipe.experiments import EXPERIMENTS, combined_presets, presets_help
    from ..recipe.recipe import read_recipe

    if options.preset and options.file:
        raise RecipeError("Give either a file or presets, not both.")
    if options.preset:
        named = combined_presets(options.preset)
        return {"text": named.to_markdown(), **named.to_dict()}
    if options.file is None:
        listed = {
            one.title: {"reason": one.reason, "settings": dict(one.settings)}
            for one in EXPERIMENTS.values()
        }
        return {"text": presets_help(), "presets": listed}
    is_lora = options.file.suffix.lower() == ".safetensors"
    return (read_recipe_of(options.file) if is_lora else read_recipe(options.file)).to_dict()
