"""Glitch Loss Graph: loss records become a picture, a verdict and tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..glitch_train.drawing.style import LINES, STYLES, X_AXES, Y_AXES
from . import host, made_files
from .node import FileMakingNode
from .sockets import CATEGORY, LossMapSocket, search_words

MAX_RUNS = 6


class GlitchLossGraph(FileMakingNode):
    """Draws losses over steps and says what they mean."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchLossGraph",
            display_name="Glitch Loss Graph",
            category=CATEGORY,
            **search_words("plot loss", "loss curve", "overfitting"),
            description="Draws loss over steps, raw and smoothed, for one or several runs, and "
            "judges them: convergence, fit, stability, and what to do next. Saves the graph and "
            "the numbers in the output folder.",
            is_output_node=True,
            inputs=[
                LossMapSocket.Input(
                    "loss_map", tooltip="From the Glitch LoRA Trainer or the host's Train LoRA."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="glitch/loss_graph",
                    tooltip="Where in the output folder the files go, and how they begin.",
                ),
                io.Int.Input(
                    "width", default=1200, min=200, max=8000, tooltip="Width of the graph, pixels."
                ),
                io.Int.Input(
                    "height",
                    default=700,
                    min=150,
                    max=8000,
                    tooltip="Height of the graph, pixels; the verdict comes on top of it.",
                ),
                *_looks(),
                *(
                    LossMapSocket.Input(
                        f"loss_map_{number}",
                        optional=True,
                        tooltip="Another run, drawn over the first.",
                    )
                    for number in range(2, MAX_RUNS + 1)
                ),
            ],
            outputs=[
                io.Image.Output(display_name="graph", tooltip="The graph as a picture."),
                io.String.Output(
                    display_name="csv_path", tooltip="Path of the CSV with the first run's losses."
                ),
                io.String.Output(
                    display_name="verdict",
                    tooltip="Table, paragraph and advice for each run, as Markdown.",
                ),
                io.String.Output(
                    display_name="verdict_json",
                    tooltip="The same as JSON, with the numbers behind it: a list, one per run.",
                ),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        loss_map: Any,
        filename_prefix: str,
        width: int,
        height: int,
        table: bool = True,
        save_svg: bool = False,
        **more: Any,
    ) -> io.NodeOutput:
        """Judge, draw and save."""
        from ..glitch_train.drawing.figures import save_figure, to_image
        from ..glitch_train.drawing.style import GraphOptions, GraphSize
        from ..glitch_train.files import write_text
        from ..glitch_train.losses.graph.draw import draw_losses
        from ..glitch_train.losses.verdict.diagnose import diagnose
        from ..glitch_train.losses.verdict.text import to_markdown

        records = _records(loss_map, more)
        verdicts = [diagnose(record) for record in records]
        looks = {key: value for key, value in more.items() if not key.startswith("loss_map")}
        options = GraphOptions(table=table, **looks)
        figure = draw_losses(records, GraphSize(width, height), options, verdicts)
        folder, name, subfolder = host.output_place(filename_prefix)
        pictures = [Path(folder) / f"{name}.{kind}" for kind in ("png", "svg")[: 1 + save_svg]]
        for path in pictures:
            save_figure(figure, path, host.png_texts(cls) if path.suffix == ".png" else None)
        tables = [Path(folder) / f"{name}{f'_{n}' if n else ''}.csv" for n in range(len(records))]
        for path, record in zip(tables, records, strict=True):
            write_text(path, record.to_csv())
        made_files.remember([*pictures, *tables])
        text = "\n".join(to_markdown(verdict) for verdict in verdicts)
        shown = {"filename": f"{name}.png", "subfolder": subfolder, "type": "output"}
        return io.NodeOutput(
            host.to_image_tensor([to_image(figure)]),
            str(tables[0]),
            text,
            json.dumps([verdict.to_dict() for verdict in verdicts], indent=2, ensure_ascii=False),
            ui={"images": [shown], "text": [text]},
        )


def _looks() -> list[io.Input]:
    """Return the widgets of GraphOptions, optional so that older API graphs stay valid."""
    return [
        io.Combo.Input(
            "style", options=list(STYLES), default="dark", optional=True, tooltip="Dark or light."
        ),
        io.Combo.Input(
            "y_axis",
            options=list(Y_AXES),
            default="linear",
            optional=True,
            tooltip="log shows small losses beside large ones.",
        ),
        io.Combo.Input(
            "x_axis",
            options=list(X_AXES),
            default="steps",
            optional=True,
            tooltip="epochs compares runs on folders of different size; a LOSS_MAP without "
            "epochs is drawn in steps.",
        ),
        io.Combo.Input(
            "line",
            options=list(LINES),
            default="ema",
            optional=True,
            tooltip="The bold line. ema: debiased exponential average. epoch average: mean over "
            "the last epoch, as kohya's loss/average.",
        ),
        io.Boolean.Input(
            "marks",
            default=True,
            optional=True,
            tooltip="Mark where the loss became flat, spikes and snapshots.",
        ),
        io.Boolean.Input(
            "table", default=True, optional=True, tooltip="Draw the verdict under the graph."
        ),
        io.Boolean.Input(
            "save_svg",
            default=False,
            optional=True,
            tooltip="Save the graph as SVG too, for print.",
        ),
    ]


def _records(loss_map: Any, more: dict[str, Any]) -> list[Any]:
    """Return the connected records in the order of their sockets."""
    from ..glitch_train.losses.record import LossRecord

    others = (f"loss_map_{number}" for number in range(2, MAX_RUNS + 1))
    maps = [loss_map, *(more[key] for key in others if more.get(key) is not None)]
    return [
        LossRecord.from_loss_map(one, name=f"run {number}")
        for number, one in enumerate(maps, start=1)
    ]
