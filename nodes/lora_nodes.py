"""Cross-Model LoRA Applier: a LoRA of one model family on a model of another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io

from ..glitch_train.errors import LoraFileError
from ..glitch_train.grid.lora_names import chosen_loras
from ..glitch_train.transfer.recipe import TransferRecipe
from . import host
from .node import GlitchNode
from .sockets import CATEGORY, LoraModelSocket, search_words, widgets

FROM_SOCKET = "none"
_STRENGTH = {"default": 1.0, "min": -100.0, "max": 100.0, "step": 0.01}


class GlitchCrossModelLoraApplier(GlitchNode):
    """MODEL, CLIP and any Stable Diffusion LoRA → MODEL and CLIP that wear it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchCrossModelLoraApplier",
            display_name="Cross-Model LoRA Applier",
            category=CATEGORY,
            **search_words("load lora", "sdxl lora on sd15", "convert lora"),
            description="Applies a LoRA to a model of another family on purpose: an SDXL LoRA on "
            "SD1.5 and back. Says which module went where, what was lost, and how loud it is.",
            inputs=[
                io.Model.Input("model", tooltip="The model to patch, of any of the families."),
                io.Clip.Input("clip", tooltip="Its text encoders."),
                io.Combo.Input(
                    "lora_name",
                    options=[FROM_SOCKET, *folder_paths.get_filename_list("loras")],
                    tooltip="A file in models/loras. none: use the socket lora.",
                ),
                io.Float.Input(
                    "strength_model",
                    tooltip="How strongly the UNet is patched; 0 leaves it untouched.",
                    **_STRENGTH,
                ),
                io.Float.Input(
                    "strength_clip",
                    tooltip="How strongly the text encoders are patched; 0 leaves them untouched.",
                    **_STRENGTH,
                ),
                *widgets(TransferRecipe),
                LoraModelSocket.Input(
                    "lora",
                    optional=True,
                    tooltip="A LoRA from a trainer; used instead of the file.",
                ),
                io.Model.Input(
                    "source_model",
                    optional=True,
                    tooltip="The model the LoRA was trained on. Not needed: its family is told by "
                    "the LoRA's names. With it, norm = match knows its true weights.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The patched model."),
                io.Clip.Output(display_name="clip", tooltip="The patched text encoders."),
                LoraModelSocket.Output(
                    display_name="lora", tooltip="The LoRA as carried over, for Save LoRA Weights."
                ),
                io.String.Output(display_name="report", tooltip="What went where (Markdown)."),
                io.String.Output(display_name="report_json", tooltip="The same as JSON."),
                io.Image.Output(
                    display_name="map",
                    tooltip="The target network's blocks, coloured by how loud each module is.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, lora_name: str) -> bool | str:
        """Refuse pickles and broken files before anything runs."""
        from ..glitch_train.model.tensor_file import TensorFile

        if lora_name == FROM_SOCKET:
            return True
        return host.sentence_or_true(lambda: TensorFile(_path(lora_name)))

    @classmethod
    def fingerprint_inputs(cls, lora_name: str, **_: Any) -> str:
        """Run again when the file changed."""
        if lora_name == FROM_SOCKET:
            return lora_name

        def state() -> str:
            status = _path(lora_name).stat()
            return f"{lora_name} {status.st_size} {status.st_mtime_ns}"

        return str(host.state_or_sentence(state))

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        lora_name: str,
        strength_model: float,
        strength_clip: float,
        lora: Any = None,
        source_model: Any = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Carry the LoRA over and apply it."""
        from comfy_api.latest import ui

        from ..glitch_train.drawing.figures import to_image
        from ..glitch_train.transfer.map_picture import draw_map
        from ..glitch_train.transfer.transfer import transfer
        from . import lora_bases

        progress = host.NodeProgress(cls.hidden.unique_id)

        def on_progress(done: int, total: int) -> None:
            host.stop_if_interrupted()
            if done == total or done % 20 == 0:
                progress.show(done, total)

        carried = transfer(
            _read(lora_name, lora),
            lora_bases.base(model, clip),
            TransferRecipe(**settings),
            source=lora_bases.base(source_model, None) if source_model is not None else None,
            on_progress=on_progress,
        )
        picture = host.to_image_tensor([to_image(draw_map(carried.report))])
        patched = host.with_lora(model, clip, carried.state, strength_model, strength_clip)
        report = carried.report.to_dict()
        return io.NodeOutput(
            *patched,
            carried.state,
            carried.report.to_markdown(),
            json.dumps(report, indent=2, ensure_ascii=False),
            picture,
            ui=ui.PreviewImage(picture, cls=cls),
        )


def _read(lora_name: str, lora: Any) -> Any:
    from ..glitch_train.lora.read import read_lora, read_lora_file

    if lora is not None:
        return read_lora(lora, "the connected LoRA")
    if lora_name == FROM_SOCKET:
        raise LoraFileError("There is no LoRA: choose a file in lora_name, or connect lora.")
    return read_lora_file(_path(lora_name))


def _path(lora_name: str) -> Path:
    (known,) = chosen_loras(lora_name, "", folder_paths.get_filename_list("loras"))
    return Path(folder_paths.get_full_path_or_raise("loras", known))
