"""What ``--set`` does to a workflow."""

from typing import Any

import pytest

from glitch_train.comfyui.graph import GraphError
from glitch_train.comfyui.overrides import with_overrides
from glitch_train.errors import RecipeError
from glitch_train.recipe.partial import parse_settings

INFO = {
    "KSampler": {"input": {"required": {"steps": ["INT", {}], "cfg": ["FLOAT", {}]}}},
    "Combo": {"input": {"required": {"n": ["COMBO", {"options": [1, 2]}]}, "optional": {
        "extra": ["STRING", {}], "late": ["BOOLEAN", {}]}}},
}  # fmt: skip


def _node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs, "_meta": {"title": title or class_type}}


def _graph() -> dict[str, dict[str, Any]]:
    """A chain of two recipes into loader and trainer, two samplers and a graph."""
    return {
        "1": _node("GlitchRecipe", preset="uncropped", settings="steps = 50"),
        "2": _node("GlitchRecipe", preset="caption dropout", settings="", recipe=["1", 0]),
        "3": _node("GlitchDatasetLoader", folder="a", width=512, recipe=["2", 0]),
        "4": _node("GlitchLoraTrainer", "Train", dataset=["3", 0], steps=9, recipe=["2", 0]),
        "5": _node("KSampler", "Base", steps=20, cfg=1, seed=11),
        "6": _node("KSampler", "v1.5 glitched", steps=20, cfg=1, seed=11),
        "9": _node("CheckpointLoaderSimple", ckpt_name="x.safetensors"),
        "10": _node("GlitchLossGraph", loss_map=["4", 3], width=1200),
    }


def _values(graph: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    return {n: e["inputs"][name] for n, e in graph.items() if name in e["inputs"]}


def test_an_input_is_set_wherever_it_is() -> None:
    """Catches one of two nodes left out, the given graph changed, and an alias not understood."""
    given = _graph()
    changed = with_overrides(given, ["cfg=7.5", "ckpt=y.safetensors"])
    assert _values(changed, "cfg") == {"5": 7.5, "6": 7.5}
    assert _values(changed, "ckpt_name") == {"9": "y.safetensors"}
    assert given == _graph()


def test_a_training_setting_leaves_samplers_and_graphs_alone() -> None:
    """Catches training steps that become sampling steps, and a loss graph 64 pixels wide."""
    changed = with_overrides(_graph(), ["steps=3", "width=64", "seed=5"])
    assert _values(changed, "steps") == {"4": 3, "5": 20, "6": 20}
    assert _values(changed, "width") == {"3": 64, "10": 1200}
    assert _values(changed, "seed") == {"4": 5, "5": 11, "6": 11}, "also where it is not written"
    everywhere = with_overrides(_graph(), ["*.steps=4"])
    assert _values(everywhere, "steps") == {"4": 4, "5": 4, "6": 4}


@pytest.mark.parametrize("where", ["6", "v1.5 glitched"], ids=["id", "title with a dot"])
def test_one_node_is_meant(where: str) -> None:
    """Catches an assignment that reaches the neighbour too."""
    assert _values(with_overrides(_graph(), [f"{where}.cfg=4"]), "cfg") == {"5": 1, "6": 4}


def test_a_class_is_meant() -> None:
    """Catches a class taken for a title."""
    changed = with_overrides(_graph(), ["KSampler.steps=2"])
    assert _values(changed, "steps") == {"4": 9, "5": 2, "6": 2}


def test_a_setting_wins_over_the_recipe() -> None:
    """Catches the widget set in vain: what a connected recipe names wins over widgets."""
    changed = with_overrides(
        _graph(), ["steps=3", "learning_rate=2e-4", "random_flip=true", 'trigger_word=a "b"\\ü']
    )
    link = changed["4"]["inputs"]["recipe"]
    assert changed["3"]["inputs"]["recipe"] == link, "one node for both"
    last = changed[link[0]]
    assert last["inputs"]["recipe"] == ["2", 0], "the chain is still there"
    assert parse_settings(last["inputs"]["settings"]).values == {
        "random_flip": True,
        "trigger_word": 'a "b"\\ü',
        "steps": 3,
        "learning_rate": 2e-4,
    }
    assert set(changed) - set(_graph()) == {link[0]}


def test_a_setting_without_a_widget_comes_with_a_recipe() -> None:
    """Catches a setting put where the host drops it: it is a widget of a setting node now."""
    graph = _graph()
    for node in ("3", "4"):
        del graph[node]["inputs"]["recipe"]
    changed = with_overrides(graph, ["conv_dim=8", "cache=keep", "framing_mix=1 tile", "steps=3"])
    assert not {"conv_dim", "cache", "framing_mix"} & {*changed["3"]["inputs"],
                                                       *changed["4"]["inputs"]}  # fmt: skip
    assert changed["4"]["inputs"]["steps"] == 3
    named = {
        node: parse_settings(changed[changed[node]["inputs"]["recipe"][0]]["inputs"]["settings"])
        for node in ("3", "4")
    }
    assert named["3"].values == {"cache": "keep", "framing_mix": "1 tile"}
    assert named["4"].values == {"conv_dim": 8}
    assert not any("recipe" in changed[node]["inputs"] for node in set(changed) - set(graph))


def test_a_setting_wins_over_a_setting_node() -> None:
    """Catches a value put into the node of a chain that a later one undoes."""
    graph = _graph()
    graph["7"] = _node("GlitchNetwork", conv_dim=4, recipe=["2", 0])
    graph["4"]["inputs"]["recipe"] = ["7", 0]
    changed = with_overrides(graph, ["conv_dim=8"])
    last = changed[changed["4"]["inputs"]["recipe"][0]]["inputs"]
    assert (last["settings"], last["recipe"]) == ("conv_dim = 8", ["7", 0])
    meant = with_overrides(graph, ["GlitchNetwork.conv_dim=8"])
    assert (meant["7"]["inputs"]["conv_dim"], set(meant)) == (8, set(graph))


def test_a_graph_of_an_older_pack_keeps_its_setting_in_its_place() -> None:
    """Catches a second value beside the one that such a graph still sends with the trainer."""
    graph = _graph()
    graph["4"]["inputs"] = {"conv_dim": 4}
    graph["11"] = _node("GlitchGrid", columns="seed")
    changed = with_overrides(graph, ["conv_dim=8", "columns=steps", "GlitchGrid.max_cells=9"])
    assert changed["4"]["inputs"] == {"conv_dim": 8}
    assert changed["11"]["inputs"] == {"columns": "steps", "max_cells": 9}


def test_a_setting_of_one_trainer_leaves_the_shared_recipe_alone() -> None:
    """Catches a second trainer on the same recipe that trains with the first one's setting."""
    graph = _graph()
    graph["7"] = _node("GlitchLoraTrainer", "Other", dataset=["3", 0], steps=9, recipe=["2", 0])
    changed = with_overrides(graph, ["Train.steps=3", "Other.seed=8"])
    ends = [changed[changed[node]["inputs"]["recipe"][0]]["inputs"] for node in ("4", "7")]
    assert [end["settings"] for end in ends] == ["steps = 3", "seed = 8"]
    assert changed["3"]["inputs"]["recipe"] == ["2", 0]


def test_a_folder_is_no_matter_of_recipes() -> None:
    """Catches a folder written into a recipe, which the node refuses."""
    changed = with_overrides(_graph(), ["folder=b c"])
    assert set(changed) == set(_graph())
    assert _values(changed, "folder") == {"3": "b c"}


def test_the_host_says_what_a_value_is() -> None:
    """Catches 1 for 1.0 refused, an option that becomes text, and inputs not written down."""
    graph = {"1": _node("Combo", n=1), "2": _node("KSampler", steps=1, cfg=1)}
    changed = with_overrides(graph, ["n=2", "extra=1", "late=yes", "cfg=2"], INFO)
    assert changed["1"]["inputs"] == {"n": 2, "extra": "1", "late": True}
    assert changed["2"]["inputs"] == {"steps": 1, "cfg": 2.0}
    with pytest.raises(RecipeError, match="steps must be a whole number, got '1.5'"):
        with_overrides(graph, ["steps=1.5"], INFO)


@pytest.mark.parametrize(
    "described",
    [
        None,
        [],
        {},
        {"input": None},
        {"input": []},
        {"input": {"required": []}},
        {"input": {"required": {"steps": None}}},
        {"input": {"required": {"steps": []}}},
        {"input": {"required": {"steps": "INT"}}},
        {"input": {"required": {"steps": [{}]}}},
        {"input": {"required": {"steps": ["ODD", []]}}},
    ],
    ids=str,
)
def test_what_a_host_describes_oddly_is_not_described(described: Any) -> None:
    """Catches a traceback over one custom node; the value is of the type that is there."""
    graph = {"1": _node("KSampler", steps=1)}
    changed = with_overrides(graph, ["steps=3"], {"KSampler": described, "Other": described})
    assert changed["1"]["inputs"] == {"steps": 3}


@pytest.mark.parametrize("about", [[], {"options": 5}, {"options": None}, None], ids=str)
def test_a_choice_without_options_takes_anything(about: Any) -> None:
    """Catches a traceback where the host has nothing to choose from, or does not say it."""
    info = {"Combo": {"input": {"required": {"n": ["COMBO", about]}}}}
    changed = with_overrides({"1": _node("Combo", n=1)}, ["n=2"], info)
    assert changed["1"]["inputs"] == {"n": "2"}


@pytest.mark.parametrize(
    ("assignment", "sentence"),
    [
        ("stepz=1", "no input 'stepz' in the workflow; did you mean 'steps'"),
        ("Trein.steps=1", "title, class or id 'Trein'; did you mean 'Train'"),
        ("Base.width=1", "no input 'width' in Base."),
        ("dataset=1", "'dataset' of node 4 \"Train\" is connected: set it in node 3"),
        ("steps", "takes NAME=VALUE, got 'steps'"),
        ("=3", "takes NAME=VALUE, got '=3'"),
        ("steps=many", "steps must be a whole number, got 'many'"),
        ("steps=-1", "steps must be 1 to"),
        ("network_dim=0", "network_dim must be 1 to 512, got 0"),
        ("output_name=a/b", "output_name must be a plain file name"),
        ("Train.output_name=../b", "output_name must be a plain file name"),
        ("background=loud", "background must be a colour name"),
    ],
)
def test_what_cannot_be_set_is_said(assignment: str, sentence: str) -> None:
    """Catches a setting that silently goes nowhere, or a traceback."""
    with pytest.raises((GraphError, RecipeError), match=sentence):
        with_overrides(_graph(), [assignment])
