"""Glitch Loss Graph: one or several loss records become a picture and a table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from . import host
from .sockets import CATEGORY, LossMapSocket

MAX_RUNS = 6


class GlitchLossGraph(io.ComfyNode):
    """Draws losses over steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchLossGraph",
            display_name="Glitch Loss Graph",
            category=CATEGORY,
            description="Draws loss over steps, raw and smoothed, for one or several runs, and "
            "saves the graph as PNG and the numbers as CSV in the output folder.",
            is_output_node=True,
            inputs=[
                LossMapSocket.Input(
                    "loss_map", tooltip="From the Glitch LoRA Trainer or the host's Train LoRA."
                ),
                io.String.Input(
                    "filename_prefix",
                    default="glitch/loss_graph",
                    tooltip="Where in the output folder PNG and CSV go, and how they begin.",
                ),
                io.Int.Input(
                    "width", default=1200, min=200, max=8000, tooltip="Width of the graph, pixels."
                ),
                io.Int.Input(
                    "height", default=700, min=150, max=8000, tooltip="Height of the graph, pixels."
                ),
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
            ],
        )

    @classmethod
    def execute(
        cls, loss_map: Any, filename_prefix: str, width: int, height: int, **more: Any
    ) -> io.NodeOutput:
        """Draw and save."""
        from ..glitch_train.files import write_text
        from ..glitch_train.plots import GraphSize, draw_losses, save_figure, to_image
        from ..glitch_train.record import LossRecord

        maps = [loss_map, *(more[key] for key in sorted(more) if more[key] is not None)]
        records = [
            LossRecord.from_loss_map(one, name=f"run {number}")
            for number, one in enumerate(maps, start=1)
        ]
        figure = draw_losses(records, GraphSize(width, height))
        folder, name, subfolder = host.output_place(filename_prefix)
        save_figure(figure, Path(folder) / f"{name}.png")
        tables = [Path(folder) / f"{name}{f'_{n}' if n else ''}.csv" for n in range(len(records))]
        for table, record in zip(tables, records, strict=True):
            write_text(table, record.to_csv())
        shown = {"filename": f"{name}.png", "subfolder": subfolder, "type": "output"}
        return io.NodeOutput(
            host.to_image_tensor([to_image(figure)]), str(tables[0]), ui={"images": [shown]}
        )
