"""``glitch_train recipe``: the recipe inside a LoRA, or in a file, checked and printed."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .cli import add_json_option


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("recipe", help="print the recipe of a LoRA or a recipe file")
    parser.add_argument("file", type=Path, help=".safetensors of this pack, .json or .toml")
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from .lora_file import read_recipe_of
    from .recipe import read_recipe

    is_lora = options.file.suffix.lower() == ".safetensors"
    recipe = read_recipe_of(options.file) if is_lora else read_recipe(options.file)
    return {"text": recipe.to_json(), **recipe.to_dict()}
