"""How long a full-size SDXL LoRA of rank 128 takes to carry over, and how much memory.

Run it on an idle machine: ``python -m benchmarks.transfer [--dim 128] [--depths first each]``.
Every combination runs in a process of its own, from reading the file to the written result; the
file is made once, seeded, in fp16.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from glitch_train.transfer.recipe import DEPTHS, FITS, MAPPINGS

SECONDS_LIMIT, MEGABYTES_LIMIT = 10.0, 2000.0
TARGETS = ("sd15", "vega", "sdxl")


def make_lora(path: Path, rank: int) -> None:
    """Write a seeded fp16 LoRA of all of SDXL's 722 modules."""
    import torch

    from glitch_train.lora.keys import lora_name
    from glitch_train.model.families import SDXL
    from glitch_train.model.network import reference_network
    from glitch_train.model.tensor_file import write_tensors

    network = reference_network(SDXL)
    stream = torch.Generator().manual_seed(0)
    state = {}
    for module in network.modules.values():
        if module.role.is_attention:
            name = lora_name(network, module)
            down = torch.randn(rank, module.n_in, generator=stream) * module.n_in**-0.5
            up = torch.randn(module.n_out, rank, generator=stream) * 0.01
            state[f"{name}.lora_down.weight"] = down.half()
            state[f"{name}.lora_up.weight"] = up.half()
            state[f"{name}.alpha"] = torch.tensor(rank / 2)
    write_tensors(path, state, {})


def measure_here(arguments: list[str]) -> None:
    """Carry over in this process and print seconds and peak memory."""
    began = time.perf_counter()
    from glitch_train.cli.command import build_parser

    options = build_parser().parse_args(["transfer", *arguments])
    loaded = time.perf_counter()
    result = options.run(options)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "seconds": time.perf_counter() - loaded,
        "cpu_seconds": time.process_time(),
        "import_seconds": loaded - began,
        "megabytes": peak,
        "reached": result["modules"]["target_reached"],
    }
    print(json.dumps(figures))


def measure(*arguments: str) -> dict[str, float]:
    """Carry over in a fresh process; return what it measured."""
    return json.loads(run_self("--here", "--", *arguments).splitlines()[-1])


def run_self(*arguments: str) -> str:
    """Run this script in a fresh process; return what it printed."""
    command = [sys.executable, "-m", "benchmarks.transfer", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", check=True
    ).stdout


def main(arguments: list[str] | None = None) -> None:
    """Measure every mapping × fit (× depth) and target, and mark what is over the limits."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--depths", nargs="+", choices=DEPTHS, default=["first"])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS))
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.here:
        measure_here(options.rest)
        return
    if options.make:
        make_lora(options.make, options.dim)
        return
    with tempfile.TemporaryDirectory() as folder:
        lora = Path(folder) / "sdxl.safetensors"
        # In a process of its own: a child's peak memory counts its parent's at the fork.
        run_self("--make", str(lora), "--dim", str(options.dim))
        print(f"{lora.stat().st_size / 2**20:.0f} MiB, rank {options.dim}")
        for target in options.targets:
            for mapping in MAPPINGS:
                if mapping == "strict" and target != "sdxl":
                    continue
                for fit in FITS:
                    for depth in options.depths:
                        report(lora, target, mapping, fit, depth)


def report(lora: Path, target: str, mapping: str, fit: str, depth: str) -> None:
    """Measure one combination and print a line."""
    out = str(lora.with_name("out.safetensors"))
    words = ("--to", target, "--mapping", mapping, "--fit", fit, "--depth", depth)
    got = measure(str(lora), *words, "-o", out)
    over = got["seconds"] > SECONDS_LIMIT or got["megabytes"] > MEGABYTES_LIMIT
    print(
        f"{target:5} {mapping:9} {fit:8} {depth:6} {got['seconds']:6.1f} s "
        f"({got['cpu_seconds']:5.1f} s CPU) {got['megabytes']:6.0f} MB "
        f"{got['reached']:4} modules{'  OVER' if over and fit != 'svd' else ''}",
        flush=True,
    )


if __name__ == "__main__":
    main()
