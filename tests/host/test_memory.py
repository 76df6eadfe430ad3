"""Runs one after the other in one host: what training took is given back, however it ended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from graphs import GraphBuilder

from glitch_demo.host import Host, link_or_copy
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import RunFailed, RunInterrupted
from glitch_train.comfyui.events import Event, Progress

pytestmark = [pytest.mark.host, pytest.mark.slow]

psutil = pytest.importorskip("psutil")

WARM_UP = 3
RUNS = 20
GROWTH = 0.05
FOLDER = "memory_pictures"
ENDLESS = 10_000


@pytest.fixture
def fresh_host(tmp_path: Path) -> Iterator[Host]:
    """A host of its own, in which nothing else ran."""
    from glitch_demo.pocket import pocket_sd15

    host = Host(tmp_path / "host")
    checkpoint = pocket_sd15()
    link_or_copy(checkpoint, host.base_dir / "models" / "checkpoints" / checkpoint.name)
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])
    with host:
        yield host


def train(client: ComfyClient, name: str, **settings: object) -> None:
    """Train for two steps, or as the settings say."""
    builder = GraphBuilder(client)
    base = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
    data = builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=64)
    trainer = builder.add(
        "GlitchLoraTrainer",
        model=(base, 0), clip=(base, 1), vae=(base, 2), dataset=(data, "dataset"),
        **{"steps": 2, "network_dim": 4, "probe_every": 0, "output_name": name} | settings,
    )  # fmt: skip

    def cancel(event: Event) -> None:
        if isinstance(event, Progress) and event.node == trainer and event.maximum == ENDLESS:
            client.interrupt()

    client.run(builder.nodes, on_event=cancel)


def one_run(host: Host, client: ComfyClient, number: int) -> None:
    """Train once: to the end, cancelled, or failing at the first snapshot, in turns."""
    name = f"run{number}"
    if number % 3 == 0:
        train(client, name)
    elif number % 3 == 1:
        with pytest.raises(RunInterrupted):
            train(client, name, steps=ENDLESS)
    else:
        in_the_way = host.base_dir / "models" / "loras" / f"{name}_00001"
        in_the_way.write_text("a file where the folder of the snapshots should be")
        with pytest.raises(RunFailed, match=in_the_way.name):
            train(client, name, save_every=1)


def test_twenty_runs_give_their_memory_back(fresh_host: Host) -> None:
    """Catches a run that stays in memory after success, Cancel or an error."""
    process = psutil.Process(fresh_host.pid)
    resident = []
    with ComfyClient(fresh_host.address) as client:
        for number in range(WARM_UP + RUNS):
            one_run(fresh_host, client, number)
            resident.append(process.memory_info().rss)
    before, after = resident[WARM_UP - 1], resident[-1]
    in_mb = [round(bytes_ / 2**20) for bytes_ in resident]
    assert after < before * (1 + GROWTH), in_mb
