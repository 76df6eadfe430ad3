"""The nodes that settings lie on: few widgets each, none lost, and what a node shows is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from glitch_train.dataset.handling import DatasetHandling
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.grid.plan import GridRecipe
from glitch_train.recipe.partial import partial
from glitch_train.recipe.recipe import Recipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import declared, in_group

pytestmark = pytest.mark.host

Pack = Callable[[str], ModuleType]

MOST_WIDGETS = {"GlitchLoraTrainer": 12, "GlitchDatasetLoader": 9, "GlitchGrid": 10,
                "GlitchReport": 4}  # fmt: skip
MOST_ELSEWHERE = 12
READERS = {
    "GlitchLoraTrainer": (TrainRecipe,),
    "GlitchDatasetLoader": (DatasetRecipe, DatasetHandling),
    "GlitchGrid": (GridRecipe,),
}
DEFAULTS = {"conv_dim": 0, "conv_alpha": 4.0, "network_type": "lora", "unet_blocks": "all",
            "unet_layers": "all", "text_encoder_only": False}  # fmt: skip


@pytest.fixture(autouse=True)
def says_nothing(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no server here to show a line of text on a node."""
    monkeypatch.setattr(pack("nodes.host").NodeProgress, "say", lambda *_: None)


def schemas(pack: Pack) -> dict[str, Any]:
    """Return every node's schema by its id."""
    found = (node.define_schema() for node in pack("nodes").NODES)
    return {schema.node_id: schema for schema in found}


def widget_names(pack: Pack, schema: Any) -> list[str]:
    """Return the inputs of a schema that stand on the node as widgets."""
    from comfy_api.latest import io

    del pack  # which makes the host's modules importable
    return [
        one.id
        for one in schema.inputs
        if isinstance(one, io.WidgetInput) and not one.force_input
    ]  # fmt: skip


def node_of(pack: Pack, name: str, **hidden: Any) -> Any:
    """Return a node's class as the host prepares it for a run."""
    (node,) = (one for one in pack("nodes").NODES if one.define_schema().node_id == name)
    told = {"unique_id": None, "prompt": None, **hidden}
    return type(name, (node,), {"hidden": SimpleNamespace(**told), "__module__": __name__})


def run(node: Any, **inputs: Any) -> Any:
    """Return the recipe that a setting node hands on."""
    return node.execute(**inputs).args[0]


def test_no_node_shows_more_than_a_person_can_take_in(pack: Pack) -> None:
    """Catches the trainer of fifty widgets, and a setting that was added to it again."""
    for name, schema in schemas(pack).items():
        count = len(widget_names(pack, schema))
        assert count <= MOST_WIDGETS.get(name, MOST_ELSEWHERE), (name, count)


@pytest.mark.parametrize("reader", READERS)
def test_every_setting_is_a_widget_of_exactly_one_node(pack: Pack, reader: str) -> None:
    """Catches a setting that can no longer be set, or twice; and one in a group without a node."""
    known = schemas(pack)
    groups = {schema.display_name: name for name, schema in known.items()}
    for recipe_type in READERS[reader]:
        for name, (_, setting) in declared(recipe_type).items():
            place = groups[setting.group] if setting.group else reader
            having = {
                node
                for node in {reader, *(groups[g] for g in _groups(reader))}
                if name in widget_names(pack, known[node])
            }
            assert having == {place}, name


def _groups(reader: str) -> set[str]:
    return {
        setting.group
        for recipe_type in READERS[reader]
        for _, setting in declared(recipe_type).values()
        if setting.group
    }


def test_a_setting_node_names_all_that_it_shows(pack: Pack) -> None:
    """Catches a default on a node that an earlier recipe decides all the same."""
    recipe = run(node_of(pack, "GlitchNetwork"), conv_dim=8)
    assert recipe.values == {**DEFAULTS, "conv_dim": 8}
    assert set(recipe.origins(TrainRecipe).values()) == {"Glitch Network"}
    assert set(recipe.values) == set(in_group(TrainRecipe, "Glitch Network"))


def test_disagreements_are_said_in_both_directions(pack: Pack) -> None:
    """Catches a preset that a setting node silently undoes, and one that undoes it."""
    preset = {"preset": "SDXL standard", "settings": ""}
    before = run(node_of(pack, "GlitchRecipe"), **preset)
    framing = node_of(pack, "GlitchFraming").execute(recipe=before, landscape_width=0)
    recipe, text = framing.args
    assert recipe.values["landscape_width"] == 0
    assert "SDXL standard says 1216, Glitch Framing says 0" in text
    assert "the later in the chain, Glitch Framing, wins" in text
    alone = run(node_of(pack, "GlitchFraming"))
    recipe, text = node_of(pack, "GlitchRecipe").execute(recipe=alone, **preset).args
    assert recipe.values["landscape_width"] == 1216
    assert "Glitch Framing says 0, SDXL standard says 1216" in text
    assert "| landscape_width | 1216 | SDXL standard |" in text
    assert "| random_flip | false | Glitch Framing |" in text


def test_a_title_says_which_of_two_nodes_it_was(pack: Pack) -> None:
    """Catches two nodes of a kind that the recipe's text cannot tell apart."""
    prompt = {"7": {"inputs": {}, "_meta": {"title": "Thin"}}}
    thin = run(node_of(pack, "GlitchNetwork", unique_id="7", prompt=prompt), conv_dim=2)
    assert set(thin.origins(TrainRecipe).values()) == {"Thin (Glitch Network)"}


@pytest.mark.parametrize(
    ("name", "inputs", "said"),
    [
        (
            "GlitchSamples",
            {"sample_prompts": "\n".join(map(str, range(101)))},
            "at most 100 prompts, got 101",
        ),
        ("GlitchFraming", {"framing_mix": "70 bucket, 30 stretched"}, "stretched"),
        ("GlitchFraming", {"background": "greenish"}, "greenish"),
        ("GlitchCorruptionText", {"corruption": "jpeg_crash"}, "jpeg_crush"),
        ("GlitchNetwork", {"conv_dim": 600}, "conv_dim must be 0 to 512, got 600"),
        ("GlitchCache", {"cache": "never"}, "cache must be one of until restart, keep"),
        ("GlitchGridSettings", {"columns": "sede"}, "seed"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    pack: Pack, name: str, inputs: dict[str, Any], said: str
) -> None:
    """Catches a setting that fails in the trainer, after the checkpoint was read."""
    node = node_of(pack, name)
    assert said in node.validate_inputs(**inputs)
    assert node.validate_inputs(**dict.fromkeys(inputs)) is True, "what is linked comes later"


@pytest.mark.parametrize(
    ("at_trainer", "said"),
    [
        (None, "steps is 800, the recipe asks for 3"),
        ({"seed": 1}, "steps is 800, the recipe asks for 3"),
        ({"steps": 800}, ""),
        ({"steps": 3}, ""),
    ],
    ids=["nothing", "another setting", "another value", "the same"],
)
def test_settings_that_reach_the_loader_alone_are_said(
    pack: Pack, tmp_path: Path, at_trainer: dict | None, said: str
) -> None:
    """Catches a chain whose settings reach no trainer, and an alarm where they do or must not."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    recipe = partial({"steps": 3, "seed": 0, "framing": "stretch"})
    reading = pack("nodes.dataset.reading").Reading({}, recipe=recipe)
    dataset, _ = reading.read(tmp_path, pack("nodes.host").NodeProgress(None))
    named = None if at_trainer is None else partial(at_trainer)
    settings = TrainRecipe(**{"steps": 800, **(at_trainer or {})})
    run = SimpleNamespace(
        recipe=Recipe(train=settings), setup=SimpleNamespace(dataset=dataset), record=None
    )
    found = pack("nodes.training")._named_elsewhere(run, named)
    assert said in found
    assert bool(found) == bool(said)


def test_a_setting_of_an_older_graph_is_taken_and_said(pack: Pack) -> None:
    """Catches an input that a graph for the API still sends with the trainer, dropped silently."""
    host = pack("nodes.host")
    places = pack("nodes.sockets").places(TrainRecipe, DatasetHandling)
    inputs = {"conv_dim": 8, "cache": "keep", "steps": 3, "unknown": 1}
    node = node_of(pack, "GlitchLoraTrainer", unique_id="1:2", prompt={"1:2": {"inputs": inputs}})
    sent = host.sent_besides(node, places)
    assert sent == {"conv_dim": 8, "cache": "keep"}
    said = host.said_of_sent(sent, places)
    assert "conv_dim, cache; their place is in Glitch Network, Glitch Cache" in said
    assert host.said_of_sent({}, places) == ""
    inputs["conv_dim"] = ["3", 0]
    with pytest.raises(Exception, match="connect it to a Glitch Network node"):
        host.sent_besides(node, places)
    assert host.sent_besides(node_of(pack, "GlitchLoraTrainer"), places) == {}
