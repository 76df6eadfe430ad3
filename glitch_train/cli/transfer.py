"""``glitch_train transfer``: a LoRA of one model family carried over to another."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..settings import declared
from ..transfer.recipe import TransferRecipe
from .options import add_json_option, check_output, check_overwrites_none


def add_verb(verbs: Any) -> None:
    """Declare the verb."""
    parser = verbs.add_parser("transfer", help="carry a LoRA over to another model family")
    parser.add_argument(
        "lora", type=Path, help="LoRA, LoCon or DoRA: .safetensors, or peft's folder"
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="sd15|sd21|sdxl|ssd1b|vega|CHECKPOINT",
        help="the family, or a .safetensors checkpoint, whose weights are then measured",
    )
    parser.add_argument(
        "--from",
        dest="source",
        metavar="CHECKPOINT",
        help="the model the LoRA was trained on; told by the LoRA's names when left out",
    )
    for name, (field, setting) in declared(TransferRecipe).items():
        parser.add_argument(
            f"--{name}",
            type=type(field.default),
            default=field.default,
            choices=setting.choices or None,
            help=f"{setting.help} (default: {field.default})".replace("%", "%%"),
        )
    parser.add_argument("-o", "--out", type=Path, required=True, help=".safetensors to write")
    parser.add_argument("--map", type=Path, help="draw the map of patched blocks: .png or .svg")
    add_json_option(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> dict[str, Any]:
    from ..drawing.figures import figure_format, save_figure
    from ..lora.read import read_lora_file
    from ..model.tensor_file import write_tensors
    from ..transfer.base import find_base
    from ..transfer.transfer import transfer

    inputs = [Path(one) for one in (options.lora, options.to, options.source) if one]
    check_output(options.out, ".safetensors", inputs)
    if options.map:
        figure_format(options.map)
        check_overwrites_none([options.map], inputs, option="--map")
    recipe = TransferRecipe(**{name: getattr(options, name) for name in declared(TransferRecipe)})
    target = find_base(options.to)
    source = find_base(options.source) if options.source else None
    lora = read_lora_file(options.lora)
    carried = transfer(lora, target, recipe, source=source)
    write_tensors(options.out, carried.state, carried.metadata)
    if options.map:
        from ..transfer.map_picture import draw_map

        save_figure(draw_map(carried.report), options.map)
    return {
        "text": f"{carried.report.to_markdown()}\n{options.out}",
        **carried.report.to_dict(),
        "out": str(options.out),
    }
