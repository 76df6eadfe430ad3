"""The widgets that the frontend is told of: their order and number."""

from __future__ import annotations

import pytest
from graphs import WIDGETS

from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.node_info import described_inputs
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.grid.plan import GridRecipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import in_group

pytestmark = pytest.mark.host

MOST_WIDGETS = {
    "GlitchLoraTrainer": 12, "GlitchDatasetLoader": 9, "GlitchGrid": 10, "GlitchReport": 4,
}  # fmt: skip
MOST_ELSEWHERE = 12
"""More rows than this and a node no longer fits a screen beside others."""


def test_no_node_shows_more_than_a_person_can_take_in(client: ComfyClient) -> None:
    """Catches the trainer of fifty widgets, and a widget that the frontend adds to a seed."""
    ours = {name: one for name, one in client.object_info().items() if name.startswith("Glitch")}
    for name in ours:
        shown = [
            one
            for one in described_inputs(ours, name).values()
            if one.kind in WIDGETS and not one.about.get("forceInput")
        ]
        assert len(shown) <= MOST_WIDGETS.get(name, MOST_ELSEWHERE), name
        assert not any(one.about.get("control_after_generate") for one in shown), name
        assert not any(one.about.get("advanced") for one in shown), name


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
    """Catches a widget that is lost on its way, and an order of its own."""
    about = client.object_info()[node]["input"]
    shown = [name for group in about.values() for name in group]
    expected = [name for name in in_group(recipe, "") if name not in apart]
    assert [name for name in shown if name in expected] == expected


def test_every_node_is_found_by_other_words(client: ComfyClient) -> None:
    """Catches a trainer that nobody finds who types "train lora"."""
    info = client.object_info()
    ours = {name: node for name, node in info.items() if name.startswith("Glitch")}
    assert len(ours) == 29
    if not any("search_aliases" in node for node in info.values()):
        pytest.skip("this ComfyUI has no search aliases; 0.33.0 has")
    assert "train lora" in ours["GlitchLoraTrainer"]["search_aliases"]
    assert all(node["search_aliases"] for node in ours.values())
