"""Many prompts of every kind through one host, in a seeded order: all answered, nothing left.

``GLITCH_SOAK=100`` runs a hundred instead of twenty more than there are kinds.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from graphs import GraphBuilder
from loras import lora_state, some
from safetensors.torch import save_file

from glitch_demo.host import Host, link_or_copy
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import RunFailed, RunInterrupted
from glitch_train.comfyui.events import Event, Progress
from glitch_train.model.families import SDXL

pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.usefixtures("room")]

psutil = pytest.importorskip("psutil")

PROMPTS = int(os.environ.get("GLITCH_SOAK", "29"))
GROWTH = 0.05
HANDLES, THREADS = 4, 2  # what a connection of the client may hold this moment
FOLDER, LORA, CHECKPOINT = "soak_pictures", "soaked.safetensors", "pocket_sd15.safetensors"
ENDLESS = 10_000
PATIENCE_S = 600  # a soak lasts long enough for whatever else a machine has to do


@pytest.fixture
def fresh_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host of its own, whose temporary files lie in ``tmp``."""
    from glitch_demo.pocket import pocket_sd15

    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    host = Host(tmp_path / "host")
    link_or_copy(pocket_sd15(), host.base_dir / "models" / "checkpoints" / CHECKPOINT)
    loras = host.base_dir / "models" / "loras"
    loras.mkdir(parents=True, exist_ok=True)
    save_file(lora_state(SDXL, keep=some(["attn2.to_k"])), loras / LORA)
    write_picture_folder(host.base_dir / "input" / FOLDER, demo_photos()[:1])
    with host:
        yield host


class Soak:
    """The kinds of prompt; each is made a little different by its number."""

    def __init__(self, client: ComfyClient, host: Host) -> None:
        self.client = client
        self.host = host

    def start(self) -> tuple[GraphBuilder, str]:
        """Return a graph with the checkpoint."""
        builder = GraphBuilder(self.client)
        return builder, builder.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)

    def trainer(self, builder: GraphBuilder, base: str, **settings: object) -> str:
        """Add a trainer of two steps."""
        data = builder.add("GlitchDatasetLoader", folder=FOLDER, width=64, height=64)
        few = {"steps": 2, "network_dim": 4, "probe_every": 0, "output_name": "soak"}
        return builder.add(
            "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
            dataset=(data, "dataset"), **few | settings,
        )  # fmt: skip

    def train(self, number: int) -> None:
        """Train to the end."""
        builder, base = self.start()
        self.trainer(builder, base, seed=number)
        self.client.run(builder.nodes)

    def cancel(self, number: int) -> None:
        """Train, and press Cancel."""
        builder, base = self.start()
        trainer = self.trainer(builder, base, seed=number, steps=ENDLESS)

        def press(event: Event) -> None:
            if isinstance(event, Progress) and event.node == trainer and event.maximum == ENDLESS:
                self.client.interrupt()

        with pytest.raises(RunInterrupted):
            self.client.run(builder.nodes, on_event=press)

    def error(self, number: int) -> None:
        """Ask for what a CPU does not do."""
        builder, base = self.start()
        self.trainer(builder, base, seed=number, precision="fp16")
        with pytest.raises(RunFailed, match="fp16 needs a GPU"):
            self.client.run(builder.nodes)

    def break_off(self, number: int) -> None:
        """Fail in the middle of a training: a file is where its snapshots' folder should be."""
        name = f"broken{number}"
        (self.host.base_dir / "models" / "loras" / f"{name}_00001").touch()
        builder, base = self.start()
        self.trainer(builder, base, seed=number, output_name=name, save_every=1)
        with pytest.raises(RunFailed, match=name):
            self.client.run(builder.nodes)

    def free(self, number: int) -> None:
        """Train in a shape of its own, and press what has the host let go of models and results."""
        builder, base = self.start()
        self.trainer(builder, base, seed=number, batch_size=1 + number % 8)
        self.client.run(builder.nodes)
        self.host.free_memory()

    def graph(self, number: int) -> None:
        """Draw a curve."""
        builder, base = self.start()
        losses = (self.trainer(builder, base), "loss_map")
        builder.add("GlitchLossGraph", loss_map=losses, width=400 + number, height=300)
        self.client.run(builder.nodes)

    def transfer(self, number: int) -> None:
        """Carry an SDXL LoRA over to SD1.5."""
        builder, base = self.start()
        applied = builder.add(
            "GlitchCrossModelLoraApplier", model=(base, 0), clip=(base, 1), lora_name=LORA,
            mapping="by_role", seed=number,
        )  # fmt: skip
        builder.add("PreviewAny", source=(applied, "report"))
        self.client.run(builder.nodes)

    def grid(self, number: int, report: bool = False) -> None:
        """Draw base and LoRA."""
        builder, base = self.start()
        trainer = self.trainer(builder, base)
        grid = builder.add(
            "GlitchGrid", model=(base, 0), clip=(base, 1), vae=(base, 2), lora=(trainer, "lora"),
            prompts="a coat", seeds=str(number), steps="1", cfg="1", sizes="64x64",
        )  # fmt: skip
        if report:
            builder.add("GlitchReport", base=(grid, "base"), glitched=(grid, "glitched"))
        self.client.run(builder.nodes)

    def report(self, number: int) -> None:
        """Measure what a grid drew."""
        self.grid(number, report=True)

    def kinds(self) -> list[Callable[[int], None]]:
        """Return one of each."""
        return [self.train, self.cancel, self.error, self.break_off, self.free, self.graph,
                self.transfer, self.grid, self.report]  # fmt: skip


@pytest.mark.timeout(60 * max(PROMPTS, 20))
def test_everything_is_answered_and_nothing_left(fresh_host: Host, tmp_path: Path) -> None:
    """Catches a leak of memory, handles, threads or temporary files, whatever runs after what."""
    process, chance = psutil.Process(fresh_host.pid), random.Random(16)
    measured: list[tuple[int, int, int]] = []
    with ComfyClient(fresh_host.address, timeout_s=PATIENCE_S) as client:
        soak = Soak(client, fresh_host)
        kinds = soak.kinds()
        warm_up = len(kinds)  # each has been once
        order = kinds + chance.choices(kinds, k=max(PROMPTS - warm_up, 1))
        for number, kind in enumerate(order):
            kind(number)
            found = process.memory_info().rss, process.num_fds(), process.num_threads()
            measured.append(found)
        assert client.object_info()
    said = [(rss >> 20, handles, threads) for rss, handles, threads in measured]
    print(f"{len(order)} prompts; MB, handles, threads after each: {said}")  # noqa: T201
    before, after = measured[warm_up - 1], measured[-1]
    assert after[0] < before[0] * (1 + GROWTH), said
    assert after[1] <= before[1] + HANDLES, said
    assert after[2] <= before[2] + THREADS, said
    assert not list(fresh_host.base_dir.rglob("*.part"))
    assert not [one for one in (tmp_path / "tmp").rglob("*") if one.is_file()]
