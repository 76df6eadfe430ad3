"""Glitch Dataset Mix: several datasets become one, in a stated proportion."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...glitch_train.errors import DatasetError
from .. import host
from ..node import GlitchNode
from ..sockets import CATEGORY, GlitchDatasetSocket, search_words

MOST = 6


class GlitchDatasetMix(GlitchNode):
    """Two to six GLITCH_DATASETs with weights → one."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchDatasetMix",
            display_name="Glitch Dataset Mix",
            category=CATEGORY,
            **search_words("combine datasets", "merge datasets", "regularization", "proportion"),
            description="Trains several datasets as one, each with its own framing, corruption and "
            "captions: such as 70 parts clean and 30 parts crushed. An epoch has as many samples "
            "as the datasets have by themselves, shared out by weight.",
            inputs=[
                *(
                    GlitchDatasetSocket.Input(
                        f"dataset_{number}",
                        optional=number > 2,
                        tooltip="From a Glitch Dataset Loader, a Glitch Dataset from Images, or "
                        "another mix, which keeps its own proportions within its share.",
                    )
                    for number in range(1, MOST + 1)
                ),
                *(
                    io.Float.Input(
                        f"weight_{number}",
                        default=1.0,
                        min=0.001,
                        max=100_000.0,
                        step=0.1,
                        round=False,
                        optional=True,
                        tooltip=f"How much of every epoch is dataset_{number}: this over the sum "
                        "of the weights of all connected datasets.",
                    )
                    for number in range(1, MOST + 1)
                ),
            ],
            outputs=[
                GlitchDatasetSocket.Output(
                    display_name="dataset", tooltip="For the Glitch LoRA Trainer."
                ),
                io.String.Output(
                    display_name="report",
                    tooltip="The proportions, and what each dataset holds (Markdown).",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(cls, **inputs: Any) -> io.NodeOutput:
        """Put the datasets together."""
        from ...glitch_train.dataset.mix import mix_datasets
        from ...glitch_train.dataset.mix_report import MixReport

        numbers = range(1, MOST + 1)
        unused = [
            f"weight_{number}"
            for number in numbers
            if inputs.get(f"dataset_{number}") is None and inputs.get(f"weight_{number}", 1.0) != 1
        ]
        if unused:
            raise DatasetError(
                f"{unused[0]} is set, but nothing is connected to "
                f"{unused[0].replace('weight', 'dataset')}; connect a dataset, or set it to 1."
            )
        mixed = mix_datasets(
            [
                (inputs.get(f"weight_{number}", 1.0), inputs[f"dataset_{number}"])
                for number in numbers
                if inputs.get(f"dataset_{number}") is not None
            ]
        )
        report = MixReport.of(mixed)
        said = report.summary
        host.NodeProgress(cls.hidden.unique_id).say(said)
        return io.NodeOutput(mixed, report.to_markdown(), ui={"text": (said,)})
