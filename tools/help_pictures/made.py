"""What a node does, made by it: a short run of the pocket checkpoint in a real host."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from safetensors.torch import save_file

from glitch_demo.host import Host, link_or_copy
from glitch_demo.material import place_pictures
from glitch_demo.pocket import pocket_sd15
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.graph import Graph
from glitch_train.losses.read import read_csv
from glitch_train.model.families import SDXL

from .drawn import drift, lora_of, row

FOLDER = "glitch_demo_pictures"
FOREIGN = "sdxl_example.safetensors"
PROMPTS = "a portrait of a smiling astronaut in an orange suit\na ginger cat looking at the camera"
GRID = {"prompts": PROMPTS, "seeds": "11-12", "steps": "12", "cfg": "1.5", "sizes": "128x128"}
BASE: dict[str, Any] = {"model": ["1", 0], "clip": ["1", 1], "vae": ["1", 2]}


@dataclasses.dataclass(frozen=True)
class Made:
    """What one node made.

    Attributes:
        page: The node's class.
        picture: What it shows.
    """

    page: str
    picture: Image.Image


def place_material(host: Host) -> None:
    """Put checkpoint, photographs and a LoRA of another family into a host's folders.

    Args:
        host: A running host.
    """
    checkpoint = pocket_sd15()
    link_or_copy(checkpoint, host.base_dir / "models" / "checkpoints" / checkpoint.name)
    place_pictures(host.base_dir, None)
    save_file(lora_of(SDXL), host.base_dir / "models" / "loras" / FOREIGN)


def run(host: Host) -> Iterator[Made]:
    """Train, draw, measure; yield the picture of each node.

    Args:
        host: A running host with the material.
    """
    graph = _graph()
    with ComfyClient(host.address) as client:
        outputs = client.run(graph)

        def pictures(node: str) -> list[Image.Image]:
            files = outputs[node]["images"]
            return [Image.open(io.BytesIO(client.download(**file))) for file in files]

        curve, strip = pictures("5")
        yield Made("GlitchLoraTrainer", curve)
        yield Made("GlitchSamples", strip)
        yield Made("GlitchContactSheet", pictures("6")[0])
        yield Made("GlitchLossGraph", pictures("7")[0])
        yield Made("GlitchGrid", pictures("8")[0])
        light = pictures("10")[0]
        yield Made("GlitchGridSettings", row([("columns: empty", pictures("8")[0]),
                                              ("columns: cfg, style: light", light)]))  # fmt: skip
        yield Made("GlitchReport", pictures("11")[0])
        yield Made("GlitchCrossModelLoraApplier", pictures("13")[0])
        prepared = pictures("14")
        yield Made("GlitchCache", row([(f"{n + 1}", one) for n, one in enumerate(prepared)]))
        name = Path(outputs["5"]["text"][0]).stem
    record = read_csv(host.base_dir / "output" / "glitch" / name / "losses.csv")
    rows = [
        (step, probe, far)
        for step, probe, far in zip(
            record.steps,
            record.columns["train_probe_loss"],
            record.columns["drift"],
            strict=True,
        )
        if far == far  # measured
    ]
    step, probe, far = (list(column) for column in zip(*rows, strict=True))
    yield Made("GlitchStopping", drift({"step": step, "probe_loss": probe, "drift": far}))


def _graph() -> Graph:
    size = {"sample_width": 128, "sample_height": 128}
    inputs: dict[str, tuple[str, dict[str, Any]]] = {
        "1": ("CheckpointLoaderSimple", {"ckpt_name": pocket_sd15().name}),
        "2": ("GlitchSamples", {"sample_prompts": PROMPTS, "sample_steps": 12, "sample_cfg": 1.5,
                                "sample_seed": 11, **size}),
        "3": ("GlitchStopping", {"probe_every": 10, "recipe": ["2", 0]}),
        "15": ("GlitchCache", {"preview_count": 6, "recipe": ["3", 0]}),
        "16": ("GlitchCorruptJpegCrush", {"quality_low": 4, "quality_high": 12, "generations": 2,
                                          "shift_px": 1}),
        "4": ("GlitchDatasetLoader", {"folder": FOLDER, "width": 128, "height": 128,
                                      "framing": "stretch", "variants_per_picture": 4,
                                      "recipe": ["15", 0], "corruption_chain": ["16", 0]}),
        "5": ("GlitchLoraTrainer", {**BASE, "dataset": ["4", 0], "recipe": ["15", 0], "steps": 60,
                                    "network_dim": 16, "network_alpha": 16.0, "batch_size": 4,
                                    "seed": 7, "sample_every": 15, "output_name": "help"}),
        "6": ("GlitchContactSheet", {"dataset": ["4", 0], "pictures": 3, "variants": 3,
                                     "cell_px": 192, "caption_lines": 2}),
        "7": ("GlitchLossGraph", {"loss_map": ["5", 3], "filename_prefix": "help/loss",
                                  "width": 1200, "height": 800}),
        "8": ("GlitchGrid", {**BASE, **GRID, "lora": ["5", 2], "filename_prefix": "help/grid"}),
        "9": ("GlitchGridSettings", {"columns": "cfg", "style": "light"}),
        "10": ("GlitchGrid", {**BASE, **GRID, "prompts": PROMPTS.split("\n")[1], "seeds": "11",
                              "cfg": "1, 2, 4", "lora": ["5", 2], "settings": ["9", 0],
                              "filename_prefix": "help/cfg"}),
        "11": ("GlitchReport", {"base": ["8", 2], "glitched": ["8", 3], "lora": ["5", 2],
                                "base_model": ["1", 0], "base_clip": ["1", 1],
                                "filename_prefix": "help/report"}),
        "12": ("GlitchCrossModelLoraApplier", {"model": ["1", 0], "clip": ["1", 1],
                                               "lora_name": FOREIGN, "strength_model": 1.0,
            "strength_clip": 1.0}),
        "13": ("PreviewImage", {"images": ["12", 5]}),
        "14": ("PreviewImage", {"images": ["4", 1]}),
    }  # fmt: skip
    return {node: {"class_type": kind, "inputs": given} for node, (kind, given) in inputs.items()}
