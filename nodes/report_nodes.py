"""Glitch Report: paired pictures, and models where given, become one index per effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..glitch_train.drawing.style import STYLES
from ..glitch_train.measure.text import PROBE_PROMPTS
from . import host, made_files, report_models
from .node import FileMakingNode
from .sockets import CATEGORY, LoraModelSocket, search_words

MAX_RUNS = 6
_MORE = tuple(f"glitched_{number}" for number in range(2, MAX_RUNS + 1))


class GlitchReport(FileMakingNode):
    """Says how glitched pictures differ from their base, one measure per effect."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchReport",
            display_name="Glitch Report",
            category=CATEGORY,
            **search_words("measure", "metrics", "compare images"),
            description="Compares pictures of the base with glitched ones of the same prompts and "
            "seeds, and says in numbers and words what changed: composition, stretch, compression, "
            "texture, contrast, diversity; with models also meaning, captions and weights.",
            is_output_node=True,
            inputs=[
                io.Image.Input("base", tooltip="Pictures of the base model."),
                io.Image.Input(
                    "glitched",
                    tooltip="Pictures of the same prompts and seeds, in the same order, with the "
                    "LoRA.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="glitch/report",
                    tooltip="Where in the output folder the report goes, and how it begins.",
                ),
                io.String.Input(
                    "names",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="What to call the runs, one per line: glitched, glitched_2 …",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="The prompt of each pair, one per line, for the caption's hold: from "
                    "Glitch Grid. With clip_vision, and base_clip with a text projection, captions "
                    "themselves are compared; else base's pictures of each prompt, 2 seeds each.",
                ),
                io.Combo.Input(
                    "style",
                    options=list(STYLES),
                    default=STYLES[0],
                    optional=True,
                    tooltip="Of the radar: dark or light.",
                ),
                LoraModelSocket.Input(
                    "lora",
                    optional=True,
                    tooltip="The LoRA of the first run, instead of glitched_model and "
                    "glitched_clip: base_model and base_clip wear it.",
                ),
                io.Model.Input(
                    "base_model", optional=True, tooltip="The base, for the weights' loudness."
                ),
                io.Clip.Input(
                    "base_clip", optional=True, tooltip="The base's text encoder, for drift."
                ),
                *(
                    io.Image.Input(
                        name, optional=True, tooltip="Another run's pictures, side by side."
                    )
                    for name in _MORE
                ),
                io.ClipVision.Input(
                    "clip_vision",
                    optional=True,
                    tooltip="CLIP, SigLIP or DINO, for a distance as a vision model sees it, and "
                    "with CLIP and prompts the caption's hold.",
                ),
                io.Model.Input(
                    "glitched_model", optional=True, tooltip="The model of the first run."
                ),
                io.Clip.Input(
                    "glitched_clip", optional=True, tooltip="The text encoder of the first run."
                ),
                io.String.Input(
                    "probe_prompts",
                    default="\n".join(PROBE_PROMPTS),
                    multiline=True,
                    optional=True,
                    force_input=True,  # a socket: it is hardly ever changed, and takes much room
                    tooltip="Prompts whose meaning is compared under both text encoders, one per "
                    "line; at least 2, some alike: the nearest other prompt is the yardstick. "
                    "Empty: six pairs that one word tells apart.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="report", tooltip="Table and sentences (Markdown)."),
                io.String.Output(
                    display_name="report_json", tooltip="Every number, with intervals, as JSON."
                ),
                io.Image.Output(display_name="radar", tooltip="The indices as a picture."),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        base: Any,
        glitched: Any,
        filename_prefix: str,
        names: str = "",
        style: str = STYLES[0],
        **more: Any,
    ) -> io.NodeOutput:
        """Measure, draw and save."""
        from ..glitch_train.drawing.figures import to_image
        from ..glitch_train.measure.pairs import pairs_of_arrays
        from ..glitch_train.measure.radar import draw_radar
        from ..glitch_train.measure.report import RunReport, report_run, run_names, side_by_side
        from ..glitch_train.measure.report_files import save_report, to_json

        batches = [glitched, *(more[name] for name in _MORE if more.get(name) is not None)]
        called = run_names(names, len(batches))
        runs = [
            pairs_of_arrays(name, base, batch) for name, batch in zip(called, batches, strict=True)
        ]
        more = dict(report_models.wearing(more))
        report_models.check(more)
        place = host.output_place(filename_prefix)
        contexts = report_models.contexts(base, batches, more)
        progress = host.NodeProgress(cls.hidden.unique_id)
        total = sum(len(pairs) for pairs in runs)
        found: list[RunReport] = []
        for pairs, context in zip(runs, contexts, strict=True):
            before = sum(one.pairs for one in found)

            def on_progress(done: int, _: int, before: int = before) -> None:
                host.stop_if_interrupted()
                progress.show(before + done, total)

            found.append(report_run(pairs, context, on_progress))
        report = side_by_side(found)
        radar = draw_radar(report, style=style)
        stem = Path(place[0]) / place[1]
        files = save_report(report, stem, metadata=host.png_texts(cls), radar=radar)
        made_files.remember(files)
        shown = {"filename": f"{place[1]}.png", "subfolder": place[2], "type": "output"}
        text = report.to_markdown()
        return io.NodeOutput(
            text,
            to_json(report),
            host.to_image_tensor([to_image(radar)]),
            ui={"images": [shown], "text": [text]},
        )
