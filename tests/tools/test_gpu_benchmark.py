"""``python -m benchmarks gpu``, on the CPU with tiny shapes."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu
from benchmarks._gpu_measure import measure
from benchmarks._gpu_rows import ROWS, Row

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("family", "by"),
    [("SDXL", "this pack"), ("SDXL", "diffusers + peft"), ("SD1.5", "diffusers + peft")],
)
def test_a_row_is_measured(tmp_path: Path, family: str, by: str) -> None:
    """Catches a command that fails when at last there is a GPU to run it on."""
    row = Row(family, 2, by, precision="fp32", checkpointing=True, rank=2)
    found = measure(row, CPU, 1, True, tmp_path)
    assert found["step_s"] > 0
    assert found["peak_mb"] > 0
    if by == "this pack":
        assert found["least_s"] > 0
        assert found["reads_per_step"] >= 1  # losses are read
        assert "estimate_mb" in found


def options(out: Path, **more) -> argparse.Namespace:
    """Return options as the command line gives them."""
    given = {"minutes": 8.0, "comfyui": None, "device": "cpu", "steps": 1, "tiny": True}
    return argparse.Namespace(out=out, **given | more)


def test_what_keeps_a_row_from_its_figures_is_its_result(tmp_path: Path, monkeypatch) -> None:
    """Catches the whole run ended by one row that has no memory, package or precision."""
    import benchmarks._gpu_measure as measuring

    said = gpu.measure_here(Row("SD1.5", 1, precision="fp16"), options(tmp_path))
    assert "fp16 needs a GPU" in said["failed"]

    def full(*_):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(measuring, "measure", full)
    assert gpu.measure_here(Row("SD1.5", 1), options(tmp_path)) == {"out_of_memory": True}


def test_rows_end_with_the_time_and_say_so(tmp_path: Path) -> None:
    """Catches rows dropped without a word, and results that are lost with an interrupted run."""
    figures = iter([
        {"step_s": 0.5, "least_s": 0.4, "peak_mb": 9000.0, "estimate_mb": 5000.0,
         "syncs_per_step": 1.0},
        {"step_s": 0.6, "peak_mb": 9500.0},
        {"out_of_memory": True},
    ])  # fmt: skip
    written: list[int] = []

    def measured(row: Row, left_s: float) -> dict:
        if (tmp_path / "gpu.json").is_file():
            written.append(len(json.loads((tmp_path / "gpu.json").read_text())["rows"]))
        given = next(figures)
        if "out_of_memory" in given:
            asked.minutes = 0
        return given

    asked = options(tmp_path)
    rows = [row for row in ROWS if row.by != "TrainLoraNode"][:3]
    found = gpu.run_rows([*rows, Row("SD1.5", 1, "TrainLoraNode")], measured, asked, {"torch": "1"})
    assert written == [1, 2]
    table = (tmp_path / "gpu.md").read_text()
    assert "**1.25**" in table  # 0.5 over 0.4 misses 1.15
    assert "**5,000**" in table  # more than a tenth off the peak
    assert "**1.20** × its time" in table  # diffusers is to take 1.5 × as long
    assert "out of memory" in table
    assert "left out: no ComfyUI: give --comfyui FOLDER" in table
    assert [one["by"] for one in found] == [row.by for row in rows] + ["TrainLoraNode"]
    late = gpu.run_rows(rows, measured, options(tmp_path, minutes=0.0), {})
    assert {one["left_out"] for one in late} == {"the 0 minutes were used up"}


def test_the_rows_are_what_was_asked_for() -> None:
    """Catches a size, precision or storage that nobody measures."""
    assert {(row.family, row.size_px, row.batch) for row in ROWS} == {
        ("SD1.5", 512, 1), ("SD1.5", 512, 4), ("SDXL", 1024, 1), ("SDXL", 1024, 4),
    }  # fmt: skip
    assert {row.precision for row in ROWS} == {"bf16", "fp16"}
    assert {row.base_precision for row in ROWS} == {"as precision", "fp8", "nf4"}
    assert len(ROWS) == len(set(ROWS))
    assert ("SDXL", 128) in {(row.family, row.rank) for row in ROWS}
