"""Train the runs whose recorded losses lie in this folder: ``python make_real_curves.py [NAME…]``.

Needs what ``make demo`` needs (a ComfyUI and the pocket SD1.5 checkpoint, both made or found as
the demo does) and about an hour on two cores. Every run goes through a real ComfyUI's HTTP API.
"""

import csv
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))

from glitch_demo.host import Host, link_or_copy  # noqa: E402
from glitch_demo.photos import demo_photos, write_picture_folder  # noqa: E402
from glitch_demo.pocket import pocket_sd15  # noqa: E402
from glitch_train.comfyui.client import ComfyClient  # noqa: E402

CHECKPOINT = "pocket_sd15.safetensors"
COLUMNS = ("step", "loss", "learning_rate", "lora_norm", "epoch", "probe_loss", "train_probe_loss")
NORMAL: dict[str, Any] = {
    "folder": "20_pictures",
    "size_px": 128,
    "steps": 400,
    "learning_rate": 2e-4,
    "batch_size": 2,
    "repeats": 10,
    "min_snr_gamma": 1.0,
    "probe_every": 20,
    "validation_split": 0.2,
}
# The pocket model knows pictures of 128 px only; at 64 px it begins with a loss above 10.
STRANGE_SIZE: dict[str, Any] = {**NORMAL, "size_px": 64, "batch_size": 4, "probe_every": 25}
RUNS = {
    "normal": NORMAL,
    "lr_x100": {**NORMAL, "learning_rate": 2e-2, "steps": 200},
    "lr_over_1000": {**NORMAL, "learning_rate": 2e-7},
    "lr_x100_strange_size": {**STRANGE_SIZE, "learning_rate": 2e-2},
    # Twelve pictures: two are held out, ten are trained on.
    "ten_pictures_3000_steps": {
        **NORMAL,
        "folder": "12_pictures",
        "steps": 3000,
        "batch_size": 1,
        "repeats": 300,
        "validation_split": 2 / 12,
        "probe_every": 50,
    },
}


def graph(name: str, settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the workflow of one run."""
    settings = dict(settings)
    size_px = settings.pop("size_px")
    dataset = {
        "folder": settings.pop("folder"),
        "width": size_px,
        "height": size_px,
        "framing": "stretch",
    }
    train = {
        "network_dim": 16,
        "network_alpha": 16.0,
        "gradient_accumulation": 1,
        "precision": "auto",
        "gradient_checkpointing": "off",
        "seed": 3,
        "output_name": name,
        "save_precision": "fp16",
    }
    loader = {"ckpt_name": CHECKPOINT}
    return {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": loader},
        "2": {
            "class_type": "GlitchDatasetLoader",
            "inputs": {**dataset, "repeats": settings.pop("repeats"), "preview_count": 1},
        },
        "3": {
            "class_type": "GlitchLoraTrainer",
            "inputs": {
                "model": ["1", 0],
                "clip": ["1", 1],
                "vae": ["1", 2],
                "dataset": ["2", 0],
                **settings,
                **train,
            },
        },
        "4": {
            "class_type": "GlitchLossGraph",
            "inputs": {
                "loss_map": ["3", 3],
                "filename_prefix": f"graph/{name}",
                "width": 900,
                "height": 500,
            },
        },
    }


def keep(record: Path, target: Path) -> None:
    """Copy the columns that matter, with five digits."""
    with (
        record.open(encoding="utf-8", newline="") as source,
        target.open("w", encoding="utf-8", newline="") as written,
    ):
        writer = csv.writer(written, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in csv.DictReader(source):
            writer.writerow(f"{float(row[c]):.5g}" if row.get(c) else "" for c in COLUMNS)


def main(names: list[str]) -> None:
    """Train the named runs, or all."""
    with tempfile.TemporaryDirectory() as folder:
        host = Host(Path(folder))
        link_or_copy(pocket_sd15(), host.base_dir / "models/checkpoints" / CHECKPOINT)
        inputs = host.base_dir / "input"
        write_picture_folder(inputs / "20_pictures", demo_photos(), pictures_per_photo=4)
        write_picture_folder(inputs / "12_pictures", demo_photos()[:4], pictures_per_photo=3)
        with host, ComfyClient(host.address) as client:
            for name in names or RUNS:
                try:
                    client.run(graph(name, RUNS[name]))
                finally:
                    for record in (host.base_dir / "output/glitch").glob(f"{name}_*/losses.csv"):
                        keep(record, HERE / f"{name}.csv")


if __name__ == "__main__":
    main(sys.argv[1:])
