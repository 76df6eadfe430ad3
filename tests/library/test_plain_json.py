"""JSON that is not what it should be, wherever a person or a server gives one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glitch_train.cli.command import main
from glitch_train.comfyui.events import EventReader, Finished
from glitch_train.comfyui.graph import GraphError, load_graph
from glitch_train.errors import LoraFileError, RecipeError, RecordError
from glitch_train.lora.file import RECIPE_KEY, read_recipe_of
from glitch_train.losses.read import read_record
from glitch_train.model.tensor_file import TensorFile, write_tensors
from glitch_train.plain_json import MAX_DEPTH, json_object, parse_json
from glitch_train.recipe.partial import parse_settings
from glitch_train.recipe.recipe import read_recipe
from glitch_train.sweep.results import read_done

DEEP = 100_000 * "[" + 100_000 * "]"
DEEP_OBJECT = 100_000 * '{"a":' + "1" + 100_000 * "}"

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_it_is_json(value: object) -> None:
    """Catches a value that comes back as another."""
    assert parse_json(json.dumps(value)) == value


def test_the_deepest_is_read_and_one_more_is_not() -> None:
    """Catches a limit that depends on how deep the caller stands, or on the version of Python."""
    deepest = MAX_DEPTH * "[" + MAX_DEPTH * "]"
    assert json.dumps(parse_json(deepest)) == deepest
    for text in (f"[{deepest}]", f'{{"a": {deepest}}}', 500 * "[" + 500 * "]", DEEP, DEEP_OBJECT):
        with pytest.raises(ValueError, match="^it is nested more than 100 deep$"):
            parse_json(text)


def test_an_object_or_nothing() -> None:
    """Catches a list taken for an object, and a traceback over half a file."""
    assert json_object('{"a": 1}') == {"a": 1}
    assert json_object("[1]") == json_object("{") == json_object(b"\xff") == {}


@pytest.mark.parametrize("text", [DEEP, DEEP_OBJECT], ids=["lists", "objects"])
def test_every_reader_says_it_in_its_own_words(text: str, tmp_path: Path) -> None:
    """Catches a RecursionError where a sentence belongs."""
    path = tmp_path / "done.json"
    path.write_text(text)
    with pytest.raises(GraphError, match=r"done.json is not readable JSON: it is nested"):
        load_graph(path)
    with pytest.raises(RecordError, match=r"done.json is not valid JSON: it is nested"):
        read_record(path)
    with pytest.raises(RecipeError, match="not valid"):
        parse_settings(text)
    assert read_done(tmp_path) is None
    path.write_bytes(len(text).to_bytes(8, "little") + text.encode())
    with pytest.raises(LoraFileError, match="header is not JSON|not a safetensors file"):
        TensorFile(path)


def test_the_recipe_in_a_lora(tmp_path: Path) -> None:
    """Catches a damaged recipe of which nobody knows where it is."""
    write_tensors(tmp_path / "a.safetensors", {}, {RECIPE_KEY: DEEP})
    with pytest.raises(RecipeError, match=r"The recipe in a.safetensors is not valid JSON: it is"):
        read_recipe_of(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "message",
    [DEEP, "{", "[]", '{"type": "executing", "data": []}'],
    ids=["deep", "cut", "list", "no data"],
)
def test_a_servers_message_that_is_none(message: str) -> None:
    """Catches a workflow lost over a message that could be passed over."""
    reader = EventReader("ours")
    assert list(reader.read(message)) == []
    end = {"type": "execution_success", "data": {"prompt_id": "ours"}}
    assert list(reader.read(json.dumps(end))) == [Finished()]


@pytest.mark.parametrize("verb", ["train", "recipe", "graph", "verdict", "queue"])
def test_a_verb_says_one_sentence(verb: str, tmp_path: Path, capsys) -> None:
    """Catches a traceback on the command line."""
    path = tmp_path / "deep.json"
    path.write_text(DEEP)
    out = ["-o", str(tmp_path / "o.png")] if verb == "graph" else []
    assert main([verb, str(path), *out]) == 1
    said = capsys.readouterr().err
    assert "deep.json is not" in said
    assert said.count("\n") == 1
    assert list(tmp_path.iterdir()) == [path]


def test_a_name_that_stands_twice(tmp_path: Path) -> None:
    """Catches a setting or a node that is lost without a word."""
    recipe, graph = tmp_path / "a.json", tmp_path / "b.json"
    recipe.write_text('{"train": {"steps": 2}, "train": {"network_dim": 4}}')
    with pytest.raises(RecipeError, match=r"a\.json is not valid JSON: 'train' stands twice"):
        read_recipe(recipe)
    with pytest.raises(RecipeError, match="'steps' stands twice"):
        parse_settings('{"steps": 2, "steps": 5}')
    graph.write_text('{"1": {"class_type": "A"}, "1": {"class_type": "B"}}')
    with pytest.raises(GraphError, match="'1' stands twice"):
        load_graph(graph)
    assert parse_json('{"a": 1, "a": 2}') == {"a": 2}  # a program's, as it always was
