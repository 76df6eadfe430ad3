"""One node per group of settings, made from their declarations: what it shows is what is trained.

They chain with Glitch Recipe nodes, before and behind; the later in the chain wins, and says so.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from comfy_api.latest import io

from ..glitch_train.dataset import handling
from ..glitch_train.dataset import recipe as dataset
from ..glitch_train.recipe import train
from ..glitch_train.recipe.partial import PartialRecipe, combine, partial
from ..glitch_train.settings import declared, in_group
from . import host
from .node import GlitchNode
from .sockets import CATEGORY, GlitchRecipeSocket, recipe_outputs, search_words, widgets


@dataclasses.dataclass(frozen=True)
class Group:
    """One node's settings.

    Attributes:
        title: the group's name, which is the node's.
        recipe_type: whose settings they are.
        reader: the nodes that it is for.
        about: what the settings decide.
        words: by which a search finds the node, too.
    """

    title: str
    recipe_type: type
    reader: str
    about: str
    words: tuple[str, ...]


_TRAINER, _LOADER = "the Glitch LoRA Trainer", "the Glitch Dataset Loader and the trainer"

GROUPS = (
    Group(
        train.NETWORK,
        train.TrainRecipe,
        _TRAINER,
        "Which parts of the model get a LoRA, and of which kind",
        ("lora rank", "dora", "locon", "unet blocks"),
    ),
    Group(
        train.OPTIMIZER,
        train.TrainRecipe,
        _TRAINER,
        "Optimizer, the learning rate's schedule, and passes per step",
        ("adamw", "prodigy", "lr scheduler", "warmup"),
    ),
    Group(
        train.NOISE,
        train.TrainRecipe,
        _TRAINER,
        "Which timesteps are trained, with which noise, and how errors are weighed",
        ("timesteps", "noise offset", "min snr", "huber"),
    ),
    Group(
        train.SAMPLES,
        train.TrainRecipe,
        _TRAINER,
        "What the sample pictures show that sample_every draws while it trains",
        ("sample prompts", "preview pictures"),
    ),
    Group(
        train.STOPPING,
        train.TrainRecipe,
        _TRAINER,
        "When a run ends before its steps are done, and what is measured on the way",
        ("epochs", "validation", "probe", "early stopping"),
    ),
    Group(
        train.MEMORY,
        train.TrainRecipe,
        _TRAINER,
        "Number formats and memory",
        ("precision", "fp8", "vram", "gradient checkpointing"),
    ),
    Group(
        dataset.FRAMING,
        dataset.DatasetRecipe,
        _LOADER,
        "How pictures meet the training shape, in detail",
        ("crop", "buckets", "letterbox", "flip"),
    ),
    Group(
        dataset.CAPTIONS,
        dataset.DatasetRecipe,
        _LOADER,
        "Where captions come from, and how they are broken",
        ("caption dropout", "shuffle captions", "tags"),
    ),
    Group(
        dataset.CORRUPTION,
        dataset.DatasetRecipe,
        _LOADER,
        "Corruptions written down, one per line, as the Glitch Corruption nodes chain them",
        ("databend", "corruption list"),
    ),
    Group(
        handling.CACHE,
        handling.DatasetHandling,
        "the Glitch Dataset Loader",
        "How long encoded pictures stay on disk, and how many are handed out to look at",
        ("cache latents", "preview pictures"),
    ),
)
"""In the order in which the menu shows them."""


class SettingNode(GlitchNode):
    """GLITCH_RECIPE so far → GLITCH_RECIPE that names every setting of a group."""

    group: ClassVar[Group]

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Return the node's sockets and widgets, made from the settings' declarations."""
        group = cls.group
        return io.Schema(
            node_id=cls.__name__,
            display_name=group.title,
            category=f"{CATEGORY}/settings",
            **search_words("training settings", *group.words),
            description=f"{group.about}. Connect it to {group.reader}, alone or in a chain with "
            "Glitch Recipe and other setting nodes: what it shows is what is trained.",
            is_output_node=True,
            inputs=[
                *widgets(group.recipe_type, group=group.title),
                GlitchRecipeSocket.Input(
                    "recipe",
                    optional=True,
                    tooltip="What comes before in the chain; where both name a setting, this node "
                    "wins.",
                ),
            ],
            outputs=recipe_outputs(group.reader),
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
        )

    @classmethod
    def validate_inputs(cls, **settings: Any) -> bool | str:
        """Refuse what does not fit before anything runs; what is linked is None here."""
        return host.sentence_or_true(lambda: cls._named(settings))

    @classmethod
    def execute(cls, recipe: PartialRecipe | None = None, **settings: Any) -> io.NodeOutput:
        """Lay all settings of the group over the chain so far."""
        combined = combine(recipe or PartialRecipe(), cls._named(settings))
        host.NodeProgress(cls.hidden.unique_id).say(combined.summary())
        text = combined.to_markdown()
        return io.NodeOutput(combined, text, ui={"text": (text,)})

    @classmethod
    def _named(cls, settings: dict[str, Any]) -> PartialRecipe:
        group = cls.group
        known = declared(group.recipe_type)
        values = {name: known[name][0].default for name in in_group(group.recipe_type, group.title)}
        given = {name: settings[name] for name in values if settings.get(name) is not None}
        title = host.title_of(cls)
        called = group.title if title in ("", group.title) else f"{title} ({group.title})"
        return partial({**values, **given}, called)


def _node(group: Group) -> type[io.ComfyNode]:
    name = "".join(word[0].upper() + word[1:] for word in group.title.split())
    return type(name, (SettingNode,), {"group": group, "__module__": __name__})


SETTING_NODES = [_node(group) for group in GROUPS]
"""In the order in which the menu shows them."""
