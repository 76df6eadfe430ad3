"""Two hosts that share their models and the cache of encoded pictures."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from graphs import GraphBuilder
from safetensors.numpy import load_file

from glitch_demo.host import Host, link_or_copy
from glitch_demo.photos import demo_photos, write_picture_folder
from glitch_train.comfyui.client import ComfyClient
from glitch_train.lora.file import read_metadata

pytestmark = [pytest.mark.host, pytest.mark.slow, pytest.mark.usefixtures("room")]

FOLDER = "shared_pictures"
SHARED = """
first:
  base_path: {models}
  is_default: true
  checkpoints: checkpoints
  loras: loras
  glitch_cache: cache
"""


def trained(host: Host, seed: int, found: dict[int, Any]) -> None:
    """Train under a name that the other host uses too; keep the LoRA's path, or what went wrong."""
    try:
        with ComfyClient(host.address) as client:
            builder = GraphBuilder(client)
            base = builder.add("CheckpointLoaderSimple", ckpt_name="pocket_sd15.safetensors")
            data = builder.add(
                "GlitchDatasetLoader", folder=FOLDER, width=64, height=64, cache="keep"
            )
            trainer = builder.add(
                "GlitchLoraTrainer", model=(base, 0), clip=(base, 1), vae=(base, 2),
                dataset=(data, "dataset"), steps=2, network_dim=2, seed=seed, output_name="shared",
            )  # fmt: skip
            found[seed] = Path(client.run(builder.nodes)[trainer]["text"][0])
    except Exception as error:
        found[seed] = error


def test_nothing_is_lost_or_mixed(tmp_path: Path) -> None:
    """Catches one LoRA written over another of the same name, and a cache torn by two writers."""
    from glitch_demo.pocket import pocket_sd15  # imports torch: only where needed

    models = tmp_path / "models"
    checkpoint = pocket_sd15()
    link_or_copy(checkpoint, models / "checkpoints" / checkpoint.name)
    paths = tmp_path / "paths.yaml"
    paths.write_text(SHARED.format(models=models), "utf-8")
    hosts = [
        Host(tmp_path / name, extra_args=("--extra-model-paths-config", str(paths)))
        for name in ("one", "two")
    ]
    for one in hosts:
        write_picture_folder(one.base_dir / "input" / FOLDER, demo_photos()[:2])
    with hosts[0], hosts[1]:
        found: dict[int, Any] = {}
        jobs = [(one, seed) for seed, one in enumerate(hosts * 2)]
        runs = [threading.Thread(target=trained, args=(*job, found)) for job in jobs]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
    assert all(isinstance(one, Path) for one in found.values()), found
    assert len(set(found.values())) == 4
    for seed, lora in found.items():
        assert lora.parent == models / "loras"
        assert read_metadata(lora)["ss_seed"] == str(seed)
        assert all(abs(tensor).max() < 1e3 for tensor in load_file(lora).values())
    cached = [one for one in (models / "cache").rglob("*") if one.is_file()]
    assert cached
    assert not [one for one in cached if one.suffix != ".safetensors"]
