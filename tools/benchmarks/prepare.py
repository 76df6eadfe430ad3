"""Preparing large JPEGs (decode, frame, crush; no VAE): threads against one, and peak memory.

Every run is a process of its own; runs with one thread and with several take turns, and the best
of each counts.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import PIL
from PIL import Image

SIZE = (4000, 3000)
"""12 megapixels."""

DIFFERENT = 12
"""Pictures that are really different; the others are copies with a byte of their own."""

SETTINGS = {
    "width": 512,
    "height": 512,
    "framing": "random_crop",
    "corruption": "jpeg_crush generations=2",
}


def main(arguments: Sequence[str]) -> None:
    """Measure and print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks prepare", description=__doc__)
    parser.add_argument("--pictures", type=int, default=500)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.measure:
        print(json.dumps(_measure(options.measure, options.workers)))
        return
    with tempfile.TemporaryDirectory(prefix="glitch_benchmark_") as folder:
        _write_pictures(Path(folder), options.pictures)
        runs = [
            _run(Path(folder), workers)
            for _ in range(options.rounds)
            for workers in (1, options.workers)
        ]
    _report(runs, options.pictures, options.workers)


def _write_pictures(folder: Path, count: int) -> None:
    """Write photographs blown up to 12 megapixels, with grain so that they compress like ones."""
    import skimage

    data = Path(skimage.__file__).parent / "data"
    names = ["astronaut.png", "coffee.png", "chelsea.png", "rocket.jpg"]
    streams = []
    for number in range(min(DIFFERENT, count)):
        with Image.open(data / names[number % len(names)]) as opened:
            large = opened.convert("RGB").resize(SIZE, Image.Resampling.BICUBIC)
        grain = np.random.default_rng(number).normal(0, 4, (SIZE[1], SIZE[0], 1))
        pixels = (np.asarray(large) + grain).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=88)
        streams.append(stream.getvalue())
    for number in range(count):
        raw = streams[number % len(streams)] + number.to_bytes(4, "little")
        (folder / f"{number:05}.jpg").write_bytes(raw)


def _run(folder: Path, workers: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks", "prepare"]
    command += ["--measure", str(folder), "--workers", str(workers)]
    result = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    print(f"{workers} thread(s): {result}", file=sys.stderr)
    return result


def _measure(folder: Path, workers: int) -> dict[str, float]:
    from glitch_train.dataset.load import load_dataset
    from glitch_train.dataset.recipe import DatasetRecipe
    from glitch_train.workers import in_order

    began = time.perf_counter()
    dataset = load_dataset(DatasetRecipe(folder=str(folder), **SETTINGS), workers=workers)
    read = time.perf_counter()
    for _ in in_order(lambda sample: dataset.prepare(sample).image, dataset.samples, workers):
        pass
    return {
        "workers": workers,
        "read_s": round(read - began, 2),
        "prepare_s": round(time.perf_counter() - read, 2),
        "cpu_s": round(time.process_time(), 2),
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    """Return this process's peak resident memory; ``ru_maxrss`` would begin with its parent's."""
    status = Path("/proc/self/status").read_text("utf-8")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(line.split()[1]) / 1024, 1)


def _report(runs: list[dict[str, float]], pictures: int, workers: int) -> None:
    one = min(run["prepare_s"] for run in runs if run["workers"] == 1)
    many = min(run["prepare_s"] for run in runs if run["workers"] == workers)
    peak = max(run["peak_mb"] for run in runs)
    print(f"{pictures} JPEGs of {SIZE[0]}×{SIZE[1]} to 512×512, random_crop and jpeg_crush")
    print(f"1 thread {one:.1f} s, {workers} threads {many:.1f} s: {one / many:.2f}× as fast")
    print(f"{pictures / many:.1f} pictures/s, peak memory {peak:.0f} MB")
    print(f"Python {platform.python_version()}, Pillow {PIL.__version__}, {platform.machine()}")
