"""Recipes and logs made of anything: read, or refused in a sentence; quick, and small in memory.

Seeded, so that every run tries the same; bounded by the number of examples.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glitch_train.errors import GlitchTrainError
from glitch_train.losses.read import read_records
from glitch_train.recipe.partial import parse_settings
from glitch_train.recipe.recipe import read_recipe
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import declared

pytestmark = pytest.mark.slow

EVENTS = Path(__file__).parents[1] / "data" / "tensorboard" / "tensorboardX"
MB = 1 << 20

fuzzed = settings(
    max_examples=100,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

names = st.sampled_from([*declared(TrainRecipe), "folder", "version", "step", "loss", "é", ""])
plain = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20),
    st.sampled_from([2**64, -1, 1e308, math.nan, math.inf, "\ud800", "\0", "9" * 5000]),
)  # fmt: skip
values = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)
parts = st.sampled_from(["dataset", "train", "origins", "version", "checkpoint", "loss", "x"])
recipes = st.dictionaries(parts, st.dictionaries(names, values, max_size=5) | values, max_size=4)
cells = st.one_of(
    st.floats().map(str), st.integers().map(str), st.text(max_size=8),
    st.sampled_from(["", "loss", "step", "0,5", '"', "nan", "1e999", "9" * 400, "\0", "-0", "1_0"]),
)  # fmt: skip
tables = st.tuples(
    st.lists(st.lists(cells, max_size=5), max_size=12), st.sampled_from([",", ";", "\t", "  "])
).map(lambda made: "\n".join(made[1].join(row) for row in made[0]))
encodings = st.sampled_from(["utf-8", "utf-16", "utf-32", "utf-8-sig", "cp1252", "utf-16-le"])


def read_or_refuse(read: Callable[[], Any]) -> Any:
    """Call what may refuse its input in a sentence, and do nothing else."""
    try:
        return read()
    except GlitchTrainError as error:
        sentence = str(error)
    assert "\n" not in sentence
    assert len(sentence) < 2000
    return None


@pytest.fixture
def bounded():
    """Refuse memory beyond a gigabyte more than there is in use."""
    resource = pytest.importorskip("resource", reason="Windows has no limit to set")
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = Path("/proc/self/statm")
    if used.is_file():
        pages = int(used.read_text("utf-8").split()[0])
        limit = pages * resource.getpagesize() + 1024 * MB
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@fuzzed
@given(content=recipes.map(json.dumps) | st.text() | st.binary(), encoding=encodings)
def test_recipes_of_anything(
    tmp_path: Path, bounded: None, content: str | bytes, encoding: str
) -> None:
    """Catches a traceback for a recipe that a person or another program wrote."""
    raw = content if isinstance(content, bytes) else content.encode(encoding, "replace")
    for ending in ("json", "toml"):
        path = tmp_path / f"recipe.{ending}"
        path.write_bytes(raw)
        recipe = read_or_refuse(lambda path=path: read_recipe(path))
        assert recipe is None or json.loads(recipe.to_json())


@fuzzed
@given(lines=st.lists(st.tuples(names, values), max_size=4), more=st.text(max_size=30))
def test_settings_of_anything(bounded: None, lines: list[tuple[str, Any]], more: str) -> None:
    """Catches a traceback for what is typed into the Glitch Recipe."""
    text = "\n".join(f"{name} = {json.dumps(value)}" for name, value in lines)
    read_or_refuse(lambda: parse_settings(text))
    read_or_refuse(lambda: parse_settings(text + more))


@fuzzed
@given(content=tables | st.binary() | values.map(json.dumps), encoding=encodings)
def test_logs_of_anything(
    tmp_path: Path, bounded: None, content: str | bytes, encoding: str
) -> None:
    """Catches a traceback for a table or a JSON of losses."""
    raw = content if isinstance(content, bytes) else content.encode(encoding, "replace")
    for name in ("log.csv", "log.json", "log.jsonl", "log.txt"):
        (tmp_path / name).write_bytes(raw)
        for record in read_or_refuse(lambda name=name: read_records(tmp_path / name)) or ():
            assert len(record.steps) == len(record.loss) > 0


@fuzzed
@given(data=st.data())
def test_event_files_that_are_damaged(tmp_path: Path, bounded: None, data: st.DataObject) -> None:
    """Catches a length in a damaged file believed, which takes the memory or never ends."""
    raw = bytearray((next(EVENTS.iterdir())).read_bytes()[:600])
    for place in data.draw(st.lists(st.integers(0, len(raw) - 1), max_size=6)):
        raw[place] = data.draw(st.integers(0, 255))
    raw = raw[: data.draw(st.integers(0, len(raw)))]
    path = tmp_path / "events.out.tfevents.1"
    path.write_bytes(bytes(raw))
    read_or_refuse(lambda: read_records(path))
