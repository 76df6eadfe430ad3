"""The widgets that the frontend is told of: their order, and which are kept out of sight."""

from __future__ import annotations

import pytest

from glitch_train.comfyui.client import ComfyClient
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.grid.plan import GridRecipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import declared

pytestmark = pytest.mark.host

IN_SIGHT = 14
"""More rows than this and a node no longer fits a screen beside others."""


@pytest.mark.parametrize(
    ("node", "recipe"),
    [
        ("GlitchLoraTrainer", TrainRecipe),
        ("GlitchDatasetLoader", DatasetRecipe),
        ("GlitchGrid", GridRecipe),
    ],
)
def test_advanced_settings_are_said_to_be(client: ComfyClient, node: str, recipe: type) -> None:
    """Catches a flag lost on its way to the frontend, and one on a widget of every day."""
    about = client.object_info()[node]["input"]
    told = {
        name: spec[1].get("advanced", False)
        for group in about.values()
        for name, spec in group.items()
        if len(spec) > 1
    }
    for name, (_, setting) in declared(recipe).items():
        assert told[name] is setting.advanced, name
    in_sight = [name for name in declared(recipe) if not told[name]]
    assert 5 <= len(in_sight) <= IN_SIGHT
    assert len(in_sight) < len(declared(recipe)) - 3


@pytest.mark.parametrize(
    ("node", "recipe", "apart"),
    [
        ("GlitchLoraTrainer", TrainRecipe, ()),
        ("GlitchDatasetLoader", DatasetRecipe, ("folder",)),
        ("GlitchGrid", GridRecipe, ("sampler_name", "scheduler")),
    ],
)
def test_widgets_stand_in_the_order_of_the_recipe(
    client: ComfyClient, node: str, recipe: type, apart: tuple[str, ...]
) -> None:
    """Catches an order of its own: saved workflows keep widgets by position."""
    about = client.object_info()[node]["input"]
    shown = [name for group in about.values() for name in group]
    expected = [name for name in declared(recipe) if name not in apart]
    assert [name for name in shown if name in expected] == expected


def test_every_node_is_found_by_other_words(client: ComfyClient) -> None:
    """Catches a trainer that nobody finds who types "train lora"."""
    info = client.object_info()
    ours = {name: node for name, node in info.items() if name.startswith("Glitch")}
    assert len(ours) == 16
    if not any("search_aliases" in node for node in info.values()):
        pytest.skip("this ComfyUI has no search aliases; 0.33.0 has")
    assert "train lora" in ours["GlitchLoraTrainer"]["search_aliases"]
    assert all(node["search_aliases"] for node in ours.values())
