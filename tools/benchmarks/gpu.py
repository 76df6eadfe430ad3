"""Training steps on one GPU: time, memory and waits, against the least, diffusers and ComfyUI.

Rows in order of value, each in a process of its own, until the time is used up; what is left out is
said. Weights are seeded and made on the device: no network, no checkpoint. A row that runs out of
memory is a result. OUT/gpu.md and OUT/gpu.json are written after every row.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ._gpu_rows import ROWS, Row

# The targets on a card; figures beside them are marked where they miss.
SHARE_LIMIT, FASTER_LIMIT, SYNCS_LIMIT, ESTIMATE_LIMIT = 1.15, 1.5, 1.0, 0.1
_PEAK_LIMIT_MB = {32: 8_000, 128: 12_000}
"""By rank, of SDXL at batch 1 with its base in fp8: cards of 8 and 12 GB."""
_PACKAGES = ("torch", "diffusers", "peft", "bitsandbytes")
Results = list[dict[str, Any]]
Measure = Callable[[Row, float], dict[str, Any]]


def main(arguments: Sequence[str]) -> None:
    """Measure row by row and write the results."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmark_output"))
    parser.add_argument("--minutes", type=float, default=8.0, help="time for all rows (8)")
    parser.add_argument("--steps", type=int, default=8, help="timed steps of each kind (8)")
    parser.add_argument("--comfyui", type=Path, default=os.environ.get("COMFYUI_PATH") or None,
                        help="a ComfyUI folder, for the rows of TrainLoraNode")  # fmt: skip
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes: tries the command")
    parser.add_argument("--row", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.row is not None:
        print(json.dumps(measure_here(ROWS[options.row], options)))
        return
    _check(options)
    measure = _in_a_process(options)
    run_rows(ROWS, measure, options, describe_machine(options.device))


def run_rows(
    rows: Sequence[Row], measure: Measure, options: argparse.Namespace, machine: dict[str, str]
) -> Results:
    """Measure rows until the time is used up; return all of them, the left out ones too.

    Args:
        rows: in order of value.
        measure: takes a row and the seconds that are left, and gives its figures.
        options: ``out``, ``minutes`` and ``comfyui``.
        machine: what the results are of.
    """
    end = time.monotonic() + 60 * options.minutes
    results: Results = []
    for row in rows:
        left_s = end - time.monotonic()
        if row.by == "TrainLoraNode" and options.comfyui is None:
            found = {"left_out": "no ComfyUI: give --comfyui FOLDER"}
        elif left_s <= 0:
            found = {"left_out": f"the {options.minutes:g} minutes were used up"}
        else:
            found = measure(row, left_s)
        results.append({**dataclasses.asdict(row), "title": row.title, **found})
        write_results(options.out, results, machine)
        print(f"{row.title}, {row.by}: {_in_words(results[-1])}", file=sys.stderr)
    return results


def measure_here(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Measure a row in this process; what keeps it from that is its result."""
    import torch

    from glitch_train.errors import GlitchTrainError
    from glitch_train.training.memory import is_out_of_memory

    from ._gpu_host import measure_host
    from ._gpu_measure import measure

    device = torch.device(options.device)
    try:
        if row.by == "TrainLoraNode":
            return measure_host(row, device, options)
        with tempfile.TemporaryDirectory(prefix="glitch_gpu_") as folder:
            return measure(row, device, options.steps, options.tiny, Path(folder))
    except GlitchTrainError as error:
        if not is_out_of_memory(error.__context__ or error):
            return {"failed": str(error)}
    except Exception as error:  # torch raises many kinds
        if not is_out_of_memory(error):
            return {"failed": f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}"}
    return {"out_of_memory": True}


def _in_a_process(options: argparse.Namespace) -> Measure:
    def measure(row: Row, left_s: float) -> dict[str, Any]:
        command = [sys.executable, "-m", "benchmarks", "gpu", "--row", str(ROWS.index(row))]
        command += ["--device", options.device, "--steps", str(options.steps)]
        command += ["--tiny"] * options.tiny
        command += ["--comfyui", str(options.comfyui)] if options.comfyui else []
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, encoding="utf-8", timeout=left_s
            )
        except subprocess.TimeoutExpired:
            return {"left_out": f"the {options.minutes:g} minutes ended while it ran"}
        try:
            return json.loads(done.stdout.splitlines()[-1])
        except (IndexError, ValueError):
            said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
            return {"failed": said[-1]}

    return measure


def _check(options: argparse.Namespace) -> None:
    import torch

    if options.device.startswith("cuda") and not torch.cuda.is_available():
        raise SystemExit("There is no GPU here; --tiny --device cpu only tries the command.")
    if options.comfyui and not (Path(options.comfyui) / "main.py").is_file():
        raise SystemExit(f"There is no ComfyUI in {options.comfyui}; --comfyui names its folder.")


def describe_machine(device: str) -> dict[str, str]:
    """Return what figures are of: the device, and the packages' versions."""
    import torch

    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else "CPU"
    found = {"device": name, "python": platform.python_version(), "system": platform.platform()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def write_results(out: Path, results: Results, machine: dict[str, str]) -> None:
    """Write ``gpu.json`` and ``gpu.md`` with what there is so far."""
    out.mkdir(parents=True, exist_ok=True)
    whole = {"machine": machine, "rows": results}
    (out / "gpu.json").write_text(json.dumps(whole, indent=2) + "\n", "utf-8")
    (out / "gpu.md").write_text(to_markdown(results, machine), "utf-8")


def to_markdown(results: Results, machine: dict[str, str]) -> str:
    """Return the results as a table; what misses a target is bold."""
    lines = [
        "# Training steps on a GPU",
        "",
        ", ".join(f"{name} {value}" for name, value in machine.items()) + ".",
        "",
        f"Targets: a step at most {SHARE_LIMIT} × the least (forward and gradient of the input), "
        f"{FASTER_LIMIT} × as fast as diffusers + peft, with one wait; the estimate within "
        f"{ESTIMATE_LIMIT:.0%} of the peak. Bold misses one.",
        "",
        "| row | by | s a step | steps/s | over the least | peak MB | estimate MB | waits a step "
        "| against this pack |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    ours: dict[str, float] = {}
    for one in results:
        if one["by"] == "this pack" and "step_s" in one:
            ours[one["title"]] = one["step_s"]
        lines.append(_line(one, ours.get(one["title"])))
    return "\n".join(lines) + "\n"


def _line(one: dict[str, Any], ours_s: float | None) -> str:
    if "step_s" not in one:
        return f"| {one['title']} | {one['by']} | {_in_words(one)} | | | | | | |"
    step, least, estimate = one["step_s"], one.get("least_s"), one.get("estimate_mb")
    peak, syncs = one["peak_mb"], one.get("syncs_per_step")
    cells = [f"{step:.3f}", f"{1 / step:.2f}"]
    cells.append("" if least is None else _marked(step / least, step / least <= SHARE_LIMIT))
    is_limited = (one["family"], one["batch"], one["base_precision"]) == ("SDXL", 1, "fp8")
    fits = not is_limited or peak <= _PEAK_LIMIT_MB[one["rank"]]
    cells.append(_marked(peak, fits, ",.0f"))
    is_close = estimate is not None and abs(estimate / peak - 1) <= ESTIMATE_LIMIT
    cells.append("" if estimate is None else _marked(estimate, is_close, ",.0f"))
    cells.append("" if syncs is None else _marked(syncs, syncs <= SYNCS_LIMIT, ".1f"))
    against = ""
    if ours_s is not None and one["by"] != "this pack":
        is_met = not one["by"].startswith("diffusers") or step / ours_s >= FASTER_LIMIT
        against = f"{_marked(step / ours_s, is_met)} × its time"
    return f"| {one['title']} | {one['by']} | {' | '.join(cells)} | {against} |"


def _marked(value: float, is_met: bool, form: str = ".2f") -> str:
    return f"{value:{form}}" if is_met else f"**{value:{form}}**"


def _in_words(one: dict[str, Any]) -> str:
    if one.get("out_of_memory"):
        return "out of memory"
    if "left_out" in one:
        return f"left out: {one['left_out']}"
    if "failed" in one:
        return f"failed: {one['failed']}"
    return f"{one['step_s']:.3f} s a step"
