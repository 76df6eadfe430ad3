"""One node per corruption, chained in the order in which they are carried out."""

from __future__ import annotations

from typing import Any, ClassVar

from comfy_api.latest import io

from ..glitch_train.dataset.corruptions.chain import CORRUPTIONS, CorruptionStep, chain_text
from .node import GlitchNode
from .sockets import CATEGORY, GlitchCorruptionSocket, search_words, widgets


class CorruptionNode(GlitchNode):
    """GLITCH_CORRUPTION so far → GLITCH_CORRUPTION with one more step."""

    kind: ClassVar[str]

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets, made from the corruption's own settings."""
        settings = CORRUPTIONS[cls.kind]
        return io.Schema(
            node_id=cls.__name__,
            display_name=f"Glitch Corruption: {cls.kind.replace('_', ' ')}",
            category=f"{CATEGORY}/corruption",
            **search_words("databend", "glitch pictures", "degrade"),
            description=settings.__doc__ or "",
            inputs=[
                *widgets(settings),
                GlitchCorruptionSocket.Input(
                    "corruption_chain",
                    optional=True,
                    tooltip="Corruptions that come before this one.",
                ),
            ],
            outputs=[
                GlitchCorruptionSocket.Output(
                    display_name="corruption_chain",
                    tooltip="For the Glitch Dataset Loader, or the next corruption.",
                )
            ],
        )

    @classmethod
    def execute(cls, corruption_chain: str = "", **options: Any) -> io.NodeOutput:
        """Add the step."""
        step = CorruptionStep(cls.kind, CORRUPTIONS[cls.kind](**options))
        return io.NodeOutput(chain_text(corruption_chain, step.to_text()))


def _node(kind: str) -> type[io.ComfyNode]:
    name = "GlitchCorrupt" + "".join(word.capitalize() for word in kind.split("_"))
    return type(name, (CorruptionNode,), {"kind": kind, "__module__": __name__})


CORRUPTION_NODES = [_node(kind) for kind in CORRUPTIONS]
"""In the order in which the menu shows them."""
