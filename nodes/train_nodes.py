"""Glitch LoRA Trainer: MODEL, CLIP, VAE and a dataset become a LoRA."""

from __future__ import annotations

import contextlib
from typing import Any

from comfy_api.latest import io

from ..glitch_train.recipe.partial import PartialRecipe
from ..glitch_train.recipe.recipe import Recipe
from ..glitch_train.recipe.train import RESUMES, TrainRecipe
from ..glitch_train.settings import check_choice
from . import host, made_files
from .node import GlitchNode
from .sockets import (
    CATEGORY,
    GlitchDatasetSocket,
    LoraModelSocket,
    LossMapSocket,
    places,
    recipe_input,
    search_words,
    widgets,
)


class GlitchLoraTrainer(GlitchNode):
    """Trains a LoRA on the host's device."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        return io.Schema(
            node_id="GlitchLoraTrainer",
            display_name="Glitch LoRA Trainer",
            category=CATEGORY,
            **search_words("train lora", "lora training", "fine-tune", "kohya"),
            description="Trains a LoRA on the pictures of a Glitch Dataset and saves it to "
            "models/loras. Cancel keeps what was trained so far.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="The model to train on; LoRAs on it are kept."),
                io.Clip.Input("clip", tooltip="Encodes the captions."),
                io.Vae.Input("vae", tooltip="Encodes the pictures."),
                GlitchDatasetSocket.Input("dataset", tooltip="From the Glitch Dataset Loader."),
                *widgets(TrainRecipe, group=""),
                io.Combo.Input(
                    "resume",
                    options=list(RESUMES),
                    default=RESUMES[0],
                    optional=True,
                    tooltip="auto: go on with a run of the same settings that was stopped, or "
                    "(with save_every) whose steps or stop_at rule were raised. never: begin anew. "
                    "must: refuse to begin anew.",
                ),
                recipe_input(),
            ],
            outputs=[
                io.Model.Output(display_name="model", tooltip="The model with the LoRA applied."),
                io.Clip.Output(display_name="clip", tooltip="The CLIP with the LoRA applied."),
                LoraModelSocket.Output(
                    display_name="lora", tooltip="The LoRA, for Save LoRA or Load LoRA Model."
                ),
                LossMapSocket.Output(
                    display_name="loss_map", tooltip="The losses, for the Glitch Loss Graph."
                ),
                io.String.Output(
                    display_name="lora_path", tooltip="Path of the saved .safetensors file."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(
        cls,
        output_name: str = TrainRecipe.output_name,
        resume: str = RESUMES[0],
    ) -> bool | str:
        """Refuse a bad file name or word before anything runs."""

        def check() -> None:
            check_choice("resume", resume, RESUMES)  # ComfyUI 0.3.75 lets any word through
            TrainRecipe(output_name=output_name)

        return host.sentence_or_true(check)

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """Run again when the LoRA that the last run names is gone."""
        return made_files.fingerprint(inputs)

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Any,
        resume: str = RESUMES[0],
        recipe: PartialRecipe | None = None,
        **settings: Any,
    ) -> io.NodeOutput:
        """Train, showing progress, and hand on the result."""
        from . import training

        with training.memory_given_back():
            return cls._train(model, clip, vae, dataset, resume, recipe, settings)

    @classmethod
    def _train(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        dataset: Any,
        resume: str,
        recipe: PartialRecipe | None,
        settings: dict[str, Any],
    ) -> io.NodeOutput:
        from . import training

        named = recipe or PartialRecipe()
        sent = host.sent_besides(cls, places(TrainRecipe))
        whole = Recipe(
            dataset=dataset.recipe,
            mix=dataset.mix,
            train=TrainRecipe(**named.over(TrainRecipe, settings | sent)),
            origins={**dataset.origins, **named.origins(TrainRecipe)},
        )
        run = training.prepare_run(model, clip, vae, dataset, whole, resume)
        said = host.said_of_sent(sent, places(TrainRecipe))
        live = training.LiveView(host.NodeProgress(cls.hidden.unique_id), run, recipe, said)
        with contextlib.closing(run.events()) as events:
            for event in events:
                live.show(event)
                host.stop_if_interrupted()
        made_files.remember([run.lora_path])
        model, clip = host.with_lora(model, clip, run.lora)
        return io.NodeOutput(
            model,
            clip,
            run.lora,
            run.record.to_loss_map(),
            str(run.lora_path),
            ui=live.final_view(cls),
        )
