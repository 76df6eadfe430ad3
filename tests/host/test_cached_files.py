"""Files that a cached result names: where one was deleted, the node runs again, and no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from graphs import GraphBuilder

from glitch_demo.host import Host
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import RunFailed
from glitch_train.comfyui.events import Event, Executing

pytestmark = [pytest.mark.host, pytest.mark.slow]

FOLDER = "cached_pictures"
CHECKPOINT = "pocket_sd15.safetensors"
MAKERS = ("GlitchLoraTrainer", "GlitchLossGraph", "GlitchReport", "GlitchGrid")


def whole_graph(client: ComfyClient, **train: Any) -> GraphBuilder:
    """Return a graph in which every node that writes files runs."""
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    data = builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=64)
    trainer = builder.add(
        "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
        dataset=(data, "dataset"), steps=2, network_dim=2, probe_every=0, output_name="cached",
        **train,
    )  # fmt: skip
    builder.add(
        "GlitchLossGraph",
        loss_map=(trainer, "loss_map"),
        filename_prefix="kept/graph",
        save_svg=True,
    )
    grid = builder.add(
        "GlitchGrid", model=(base, 0), clip=(base, 1), vae=(base, 2), lora=(trainer, "lora"),
        prompts="a coat", seeds="1", steps="1", cfg="1", sizes="64x64",
        filename_prefix="kept/grid",
    )  # fmt: skip
    builder.add(
        "GlitchReport", base=(grid, "base"), glitched=(grid, "glitched"),
        filename_prefix="kept/report",
    )  # fmt: skip
    return builder


def run(client: ComfyClient, builder: GraphBuilder) -> tuple[list[str], dict[str, Any]]:
    """Run a graph; return the classes of our nodes that ran, and the outputs."""
    ran = []

    def note(event: Event) -> None:
        if isinstance(event, Executing) and event.node:
            ran.append(builder.nodes[event.node]["class_type"])

    outputs = client.run(builder.nodes, on_event=note)
    return [kind for kind in MAKERS if kind in ran], outputs


@pytest.fixture
def pictures(host: Host) -> None:
    """A folder for the loader."""
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])


def lora_of(builder: GraphBuilder, outputs: dict[str, Any]) -> Path:
    """Return the path that the trainer hands on."""
    (trainer,) = (n for n, one in builder.nodes.items() if one["class_type"] == MAKERS[0])
    return Path(outputs[trainer]["text"][0])


def test_what_was_deleted_is_made_again(host: Host, client: ComfyClient, pictures: None) -> None:
    """Catches "done" with the path of a LoRA or picture that is not there, and needless work."""
    builder = whole_graph(client)
    ran, outputs = run(client, builder)
    assert ran == list(MAKERS)
    lora = lora_of(builder, outputs)
    assert run(client, builder)[0] == []
    kept = host.base_dir / "output" / "kept"
    files = {"GlitchLossGraph": "graph_*.svg", "GlitchReport": "report_*.json",
             "GlitchGrid": "grid_*.png"}  # fmt: skip
    for kind, pattern in files.items():
        (made,) = kept.glob(pattern)
        made.unlink()
        assert kind in run(client, builder)[0]
        assert run(client, builder)[0] == []
    before = lora.read_bytes()
    lora.unlink()
    ran, outputs = run(client, builder)
    assert "GlitchLoraTrainer" in ran
    assert lora_of(builder, outputs).is_file()
    assert len(lora_of(builder, outputs).read_bytes()) == len(before)
    assert run(client, builder)[0] == []


def test_an_error_of_the_system_is_a_sentence(
    host: Host, client: ComfyClient, pictures: None
) -> None:
    """Catches an OSError's own words, which say neither where nor what to do."""
    (host.base_dir / "output" / "in_the_way").write_text("a file where a folder should be")
    builder = whole_graph(client, seed=5)
    grid = next(one for one in builder.nodes.values() if one["class_type"] == "GlitchGrid")
    grid["inputs"]["filename_prefix"] = "in_the_way/grid"
    with pytest.raises(
        RunFailed, match=r"in_the_way.*: (File exists|Not a directory); choose another"
    ):
        run(client, builder)
