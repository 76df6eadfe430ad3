"""The names by which the library knows this pack's nodes, against the nodes themselves."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from glitch_train.comfyui.errors import RequestRefused
from glitch_train.comfyui.fetch import fetch_outputs
from glitch_train.comfyui.our_nodes import LOSS_GRAPH, OUR_NODES, REPORT, OurNode

pytestmark = pytest.mark.host

Pack = Callable[[str], ModuleType]


@pytest.mark.parametrize("node", OUR_NODES, ids=lambda node: node.node_id)
def test_names_are_those_of_the_schema(node: OurNode, pack: Pack) -> None:
    """Catches an output that moved, so that a sweep saves another one's pictures."""
    schemas = {one.node_id: one for one in (n.define_schema() for n in pack("nodes").NODES)}
    schema = schemas[node.node_id]
    assert [output.display_name for output in schema.outputs] == list(node.outputs)
    assert set(node.inputs) <= {one.id for one in schema.inputs}


def _loss_map(loss: float) -> dict[str, Any]:
    return {"loss": [loss, loss / 2, loss / 3]}


def _pictures(seed: int) -> torch.Tensor:
    return torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("node", "inputs", "linked"),
    [
        (
            LOSS_GRAPH,
            {"loss_map": _loss_map(0.5), "loss_map_3": _loss_map(0.4), "width": 300, "height": 200,
             "save_svg": True},
            {"loss_map": ["1", 3], "loss_map_3": ["2", 3]},
        ),
        (
            REPORT,
            {"base": _pictures(1), "glitched": _pictures(2)},
            {"base": ["1", 2], "glitched": ["1", 3]},
        ),
    ],
    ids=["loss graph", "report"],
)  # fmt: skip
def test_every_file_of_a_node_is_fetched(
    node: OurNode,
    inputs: dict[str, Any],
    linked: Mapping[str, Any],
    pack: Pack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Catches a file that a node writes and no client asks for, and one asked for in vain."""
    import folder_paths

    output = tmp_path / "output"
    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(output))
    (made,) = (one for one in pack("nodes").NODES if one.define_schema().node_id == node.node_id)
    hidden = SimpleNamespace(unique_id=None, prompt=None, extra_pnginfo=None)
    monkeypatch.setattr(made, "hidden", hidden)
    shown = made.execute(**inputs, filename_prefix="a/b").ui

    class Client:
        def download(self, filename: str, subfolder: str, **_: str) -> bytes:
            path = output / subfolder / filename
            if not path.is_file():
                raise RequestRefused(f"There is no {path}.", 404)
            return path.read_bytes()

    graph = {"4": {"class_type": node.node_id, "inputs": {**inputs, **linked}}}
    files = {"images": shown["images"]}
    fetched = fetch_outputs(Client(), graph, {"4": files}, tmp_path / "here")  # type: ignore[arg-type]
    assert fetched.missing == []
    assert {path.name for path in fetched.all()} == {path.name for path in (output / "a").iterdir()}
    assert {path.suffix for path in fetched.all()} >= set(node.files)
