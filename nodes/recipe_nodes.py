"""Glitch Recipe: the experiments of the development log, to connect instead of setting widgets."""

from __future__ import annotations

from comfy_api.latest import io

from ..glitch_train.recipe.experiments import EXPERIMENTS, experiment_named, presets_help
from ..glitch_train.recipe.partial import NO_PRESET, PartialRecipe, combine, parse_settings
from . import host
from .node import GlitchNode
from .sockets import CATEGORY, GlitchRecipeSocket, recipe_outputs, search_words


class GlitchRecipe(GlitchNode):
    """A preset and further settings → GLITCH_RECIPE; recipes chain."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets."""
        titles = [one.title for one in EXPERIMENTS.values()]
        return io.Schema(
            node_id="GlitchRecipe",
            display_name="Glitch Recipe",
            category=CATEGORY,
            **search_words("training preset", "glitch preset"),
            description="One experiment or technique of the development log. Connect it to the "
            "Glitch Dataset Loader and the Glitch LoRA Trainer: what it names wins over their "
            "widgets, everything else stays with them.",
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "preset",
                    options=[*titles, NO_PRESET],
                    default=titles[0],
                    tooltip=presets_help(),
                ),
                io.String.Input(
                    "settings",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Further settings of any node of the run, one name = value per "
                    "line, words in quotes; they win over the preset. A whole recipe, as "
                    "glitch_train recipe prints it, may be pasted too.",
                ),
                GlitchRecipeSocket.Input(
                    "recipe",
                    optional=True,
                    tooltip="A recipe that this one changes or adds to; where both name a setting, "
                    "this one wins.",
                ),
            ],
            outputs=recipe_outputs("the Glitch Dataset Loader, the Glitch LoRA Trainer"),
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def validate_inputs(cls, preset: str = NO_PRESET, settings: str = "") -> bool | str:
        """Refuse an unknown preset or a malformed setting before anything runs."""
        return host.sentence_or_true(lambda: _own_part(preset, settings))

    @classmethod
    def execute(
        cls, preset: str, settings: str = "", recipe: PartialRecipe | None = None
    ) -> io.NodeOutput:
        """Lay this part over the chain so far."""
        combined = combine(recipe or PartialRecipe(), _own_part(preset, settings))
        text = combined.to_markdown()
        host.NodeProgress(cls.hidden.unique_id).say(combined.summary())
        return io.NodeOutput(combined, text, ui={"text": (text,)})


def _own_part(preset: str, settings: str) -> PartialRecipe:
    if preset == NO_PRESET:
        return parse_settings(settings)
    chosen = experiment_named(preset)
    return combine(chosen.to_partial(), parse_settings(settings, f"settings beside {chosen.title}"))
