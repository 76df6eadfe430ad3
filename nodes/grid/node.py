"""Glitch Grid: base and LoRAs × prompts × steps × CFG × strength × size, in one picture."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import comfy.samplers
from comfy_api.latest import io

from ...glitch_train.grid.lora_names import NO_LORA
from ...glitch_train.grid.plan import GridPlan, GridRecipe, Shot, Variant, plan_grid
from .. import host, made_files
from ..node import GlitchNode
from ..sockets import CATEGORY, LoraModelSocket, places, search_words, tooltip, widgets
from . import loras as lora_files
from .loras import MODEL_2
from .settings import LORA_NAMES, GridSettingsSocket

MAX_LORAS = 4
_LORA_SOCKETS = tuple("lora" if n == 1 else f"lora_{n}" for n in range(1, MAX_LORAS + 1))
_HOSTS_OWN = ("sampler_name", "scheduler")
_PLACES = {**places(GridRecipe), **LORA_NAMES}
"""What is set in a node beside the grid, and in which."""


class GlitchGrid(GlitchNode):
    """MODEL, CLIP, VAE and LoRAs → one labelled picture of everything that was varied."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchGrid",
            display_name="Glitch Grid",
            category=CATEGORY,
            **search_words("xy plot", "xyz plot", "compare loras"),
            description="Samples a grid in one go: base and LoRAs × prompts × steps × CFG × "
            "strength × size, the same seeds down a column. Cancel keeps the finished cells.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The base model."),
                io.Clip.Input("clip", tooltip="Its text encoders."),
                io.Vae.Input("vae", tooltip="Decodes the pictures."),
                *widgets(GridRecipe, group="", without=_HOSTS_OWN),
                *_samplers(),
                io.Combo.Input(
                    "lora_name",
                    options=[NO_LORA, *lora_files.known_files()],
                    default=NO_LORA,
                    optional=True,
                    tooltip="A file in models/loras to compare with the base.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="glitch/grid",
                    optional=True,
                    tooltip="Where in the output folder the picture goes, and how it begins.",
                ),
                *(
                    LoraModelSocket.Input(
                        name, optional=True, tooltip="A LoRA from the Glitch LoRA Trainer."
                    )
                    for name in _LORA_SOCKETS
                ),
                GridSettingsSocket.Input(
                    "settings",
                    optional=True,
                    tooltip="From Glitch Grid Settings: layout, negative prompt, more LoRA files.",
                ),
                io.Model.Input(
                    MODEL_2,
                    optional=True,
                    tooltip="An already patched model, such as the Cross-Model LoRA Applier's; "
                    "sampled as it is, at no strength.",
                ),
                io.Clip.Input(
                    "clip_2",
                    optional=True,
                    tooltip="The text encoders that go with model_2; without them, clip.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="grid", tooltip="The labelled picture."),
                io.Image.Output(
                    display_name="cells",
                    tooltip="Each sampled picture once, row by row; of different sizes, each is "
                    "centred on black in the largest.",
                ),
                io.Image.Output(
                    display_name="base",
                    tooltip="The base's pictures, one for each in glitched: same seed, prompt and "
                    "settings.",
                ),
                io.Image.Output(
                    display_name="glitched", tooltip="The LoRAs' pictures, paired with base."
                ),
                io.String.Output(
                    display_name="settings_json",
                    tooltip="What each cell and pair is, and where it lies in the picture (JSON).",
                ),
                io.String.Output(
                    display_name="prompts",
                    tooltip="The prompt of each pair, one per line, for the Glitch Report.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def validate_inputs(
        cls,
        prompts: str | None = None,
        seeds: str | None = None,
        steps: str | None = None,
        cfg: str | None = None,
        strength: str | None = None,
        sizes: str | None = None,
        lora_name: str | None = None,
        filename_prefix: str | None = None,
    ) -> bool | str:
        """Refuse what cannot be read before anything runs; what is linked is None here."""
        written: dict[str, Any] = {
            "prompts": prompts,
            "seeds": seeds,
            "steps": steps,
            "cfg": cfg,
            "strength": strength,
            "sizes": sizes,
        }

        def check() -> None:
            if filename_prefix is not None:
                host.checked_prefix(filename_prefix)
            GridRecipe(**{name: text for name, text in written.items() if text is not None})
            lora_files.check_files(lora_name, None)

        return host.sentence_or_true(check)

    @classmethod
    def fingerprint_inputs(cls, lora_name: str = NO_LORA, **more: Any) -> list[Any]:
        """Run again when a LoRA's file changed, or the last picture is gone."""
        known = host.state_or_sentence(lambda: lora_files.file_states(lora_name, ""))
        return [known, made_files.fingerprint({**more, "loras": known})]

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        lora_name: str = NO_LORA,
        filename_prefix: str = "glitch/grid",
        settings: Mapping[str, Any] | None = None,
        model_2: Any = None,
        clip_2: Any = None,
        **more: Any,
    ) -> io.NodeOutput:
        """Sample, showing the grid as it grows, and save it; also what Cancel leaves."""
        from .sampling import pictures, refuse_strangers
        from .view import LiveGrid

        sockets = {name: more.pop(name, None) for name in _LORA_SOCKETS}
        sent = host.sent_besides(cls, _PLACES)
        more |= {**sent, **(settings or {})}
        files = lora_files.chosen(lora_name, more.pop("lora_names", ""))
        recipe = GridRecipe(**more)
        refuse_strangers({name: lora_files.path_of(name) for name in files}, model, clip)
        loras = lora_files.readers(files, sockets)
        patched = {}
        if model_2 is not None or clip_2 is not None:
            patched[MODEL_2] = (model_2 or model, clip_2 or clip)
        variants = [*(Variant(name) for name in loras), *(Variant(name, False) for name in patched)]
        plan = plan_grid(recipe, variants)
        host.output_place(filename_prefix)  # refuse a bad one before the work
        view = LiveGrid(host.NodeProgress(cls.hidden.unique_id), plan)
        done: dict[Shot, Any] = {}
        try:
            for shot, picture in pictures(plan, (model, clip), loras, patched, vae, view.step):
                done[shot] = picture
                view.add(shot, picture)
        except BaseException:
            if done:
                name = _save(cls, plan, done, filename_prefix)[2]["filename"]
                view.say(f"stopped · {len(done)} of {len(plan.shots())} pictures kept in {name}")
            raise
        return _results(cls, plan, done, filename_prefix, host.said_of_sent(sent, _PLACES))


def _samplers() -> list[io.Input]:
    """Return the widgets for the host's own sampler and schedule."""
    options = (comfy.samplers.KSampler.SAMPLERS, comfy.samplers.KSampler.SCHEDULERS)
    return [
        io.Combo.Input(
            name,
            options=list(words),
            default=getattr(GridRecipe, name),
            optional=True,
            tooltip=tooltip(GridRecipe, name),
        )
        for name, words in zip(_HOSTS_OWN, options, strict=True)
    ]


def _save(
    node: Any, plan: GridPlan, done: Mapping[Shot, Any], filename_prefix: str
) -> tuple[Any, dict[str, Any], dict[str, str]]:
    """Draw and write the picture; return its image, its settings and how the host calls it."""
    from PIL import Image

    from ...glitch_train.drawing.figures import save_png
    from ...glitch_train.grid.sheet import grid_picture, grid_settings, paste_shot

    picture = grid_picture(plan)
    for shot, pixels in done.items():
        paste_shot(picture, plan, shot, Image.fromarray(pixels))
    folder, stem, subfolder = host.output_place(filename_prefix)
    path = Path(folder) / f"{stem}.png"
    save_png(picture.image, path, host.png_texts(node))
    made_files.remember([path])
    numbers = {shot: number for number, shot in enumerate(plan.in_reading_order(done))}
    shown = {"filename": f"{stem}.png", "subfolder": subfolder, "type": "output"}
    return picture.image, grid_settings(plan, picture, numbers), shown


def _results(
    node: Any, plan: GridPlan, done: dict[Shot, Any], filename_prefix: str, said: str
) -> io.NodeOutput:
    from ...glitch_train.grid.sheet import described

    image, settings, shown = _save(node, plan, done, filename_prefix)
    cells = host.to_padded_batch([done[shot] for shot in plan.in_reading_order(done)])
    pairs = settings["pairs"]
    text = (
        f"{len(done)} pictures · {len(plan.rows)} × {len(plan.columns)} cells · "
        f"{image.width}×{image.height} pixels"
    )
    if settings["scale"] < 1:
        text += f" (cells at {settings['scale']:.0%})"
    return io.NodeOutput(
        host.to_image_tensor([image]),
        cells,
        _picked(cells, [pair["base"] for pair in pairs]),
        _picked(cells, [pair["glitched"] for pair in pairs]),
        json.dumps(settings, indent=2, ensure_ascii=False),
        "\n".join(described("prompt", pair["prompt"]) for pair in pairs),
        ui={"images": [shown], "text": [text, *filter(None, [said])]},
    )


def _picked(cells: Any, numbers: Iterable[int]) -> Any:
    """Return some of a batch; what hangs on an empty choice is refused in a sentence."""
    from comfy_execution.graph_utils import ExecutionBlocker

    chosen = list(numbers)
    if chosen:
        return cells[chosen]
    return ExecutionBlocker(
        "The Glitch Grid has no pairs: switch base on and choose a LoRA with a strength above 0."
    )
