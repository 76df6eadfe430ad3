"""Hostile names over the API of a real host: it answers each, stays up, and writes nowhere else."""

from __future__ import annotations

import os
from typing import Any

import pytest
from graphs import GraphBuilder
from hostile_names import HOSTILE

from glitch_demo.host import Host
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import PromptRejected

pytestmark = [pytest.mark.host, pytest.mark.slow]

NAMED = {
    "GlitchLoraTrainer": ("output_name",),
    "GlitchDatasetLoader": ("folder",),
    "GlitchCrossModelLoraApplier": ("lora_name",),
    "GlitchGrid": ("lora_name", "filename_prefix"),
    "GlitchGridSettings": ("lora_names",),
    "GlitchReport": ("filename_prefix",),
    "GlitchLossGraph": ("filename_prefix",),
    "GlitchRecipe": ("preset",),
}
"""What takes a path or a name; ``tests/nodes`` asks every text of every node."""

CHOICES = ("folder", "lora_name", "preset")
SENT = [name for name in HOSTILE if name.isprintable() or name.isascii()]
"""Without halves of characters, which no client can send; ``tests/nodes`` asks those too."""


def graph_of(client: ComfyClient, owner: str, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Return a workflow with one node for each hostile name, and the names by the nodes' ids.

    Its checkpoint is missing, so that the host checks all of it and runs nothing.
    """
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name="missing.safetensors")
    model = {"model": (base, 0), "clip": (base, 1)}
    data = builder.add("GlitchDatasetLoader", folder="all of input/", width=64, height=64)
    trained = {**model, "vae": (base, 2), "dataset": (data, 0)}
    grid = builder.add("GlitchGrid", **model, vae=(base, 2))
    linked: dict[str, dict[str, Any]] = {
        "GlitchLoraTrainer": trained,
        "GlitchCrossModelLoraApplier": model,
        "GlitchGrid": {**model, "vae": (base, 2)},
        "GlitchLossGraph": {"loss_map": (builder.add("GlitchLoraTrainer", **trained), "loss_map")},
        "GlitchReport": {"base": (grid, "grid"), "glitched": (grid, "grid")},
    }
    ids = {}
    for value in SENT:
        node = builder.add(owner, **linked.get(owner, {}), **{name: value})
        wants = {"GlitchDatasetLoader": "dataset", "GlitchRecipe": "recipe"}.get(owner)
        if wants:  # of a trainer, which misses its checkpoint too
            builder.add("GlitchLoraTrainer", **trained | {wants: (node, 0)})
        else:
            builder.add("PreviewAny", source=(node, 0))
        ids[node] = value
    return builder.nodes, ids


@pytest.mark.parametrize(("owner", "name"), [(o, n) for o, names in NAMED.items() for n in names])
def test_the_api_answers_every_name(host: Host, client: ComfyClient, owner: str, name: str) -> None:
    """Catches a traceback, a host that ends, a choice from elsewhere, or a file made by a check."""
    places = sorted(os.listdir(host.base_dir.parent))
    before = len(host.log())
    nodes, ids = graph_of(client, owner, name)
    with pytest.raises(PromptRejected) as caught:
        client.queue(nodes)
    refused = {}
    for node, value in ids.items():
        found = caught.value.node_errors.get(node, {}).get("errors", [])
        said = [one for one in found if "input_name" in one.get("extra_info", {})]
        assert not any("exception" in one["type"] for one in found), found
        assert all("\n" not in one["details"].strip() for one in said), said
        if said:
            refused[value] = said
    if name in CHOICES:
        assert {value for value in SENT if value not in refused} <= {"", ".", " "}
    else:
        assert {"../out", "a\x00b", "x" * 300, "C:\\Windows\\win.ini"} <= refused.keys()
    assert host.is_alive()
    assert "!!! Exception" not in host.log()[before:]
    assert sorted(os.listdir(host.base_dir.parent)) == places
