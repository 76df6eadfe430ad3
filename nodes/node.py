"""What every node of the pack is: its errors are sentences, the environment's too."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..glitch_train.environment import environment_said
from . import host, made_files


class GlitchNode(io.ComfyNode):
    """Base of the pack's nodes."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Have ``execute`` say in a sentence what is wrong with packages, files or drivers."""
        super().__init_subclass__(**options)
        execute = vars(cls).get("execute")
        # The host clones a class for each run, with what it finds in it.
        if execute is not None and not hasattr(execute.__func__, "__wrapped__"):
            cls.execute = classmethod(environment_said()(execute.__func__))


class FileMakingNode(GlitchNode):
    """Base of nodes that number what they make by ``filename_prefix`` in the output folder."""

    @classmethod
    def validate_inputs(cls, filename_prefix: str | None = None) -> bool | str:
        """Refuse a bad place before anything runs."""
        return host.prefix_or_sentence(filename_prefix)

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """Run again when a file that the last result names is gone."""
        return made_files.fingerprint(inputs)
