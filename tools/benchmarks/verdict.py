"""How often the verdict on convergence is right, by shape and kind of noise, on a seed of its own.

``python -m benchmarks verdict [--curves 200] [--seed N]`` prints the table; without a seed, one is
drawn that nothing was ever tuned on.
"""

import argparse
import collections
import secrets

from benchmarks._curves import CLEAR, NOISES, SHAPES, Drawn, drawn, falling
from glitch_train.losses.record import LossRecord
from glitch_train.losses.verdict.diagnose import Verdict, diagnose

CANNOT_TELL = "too_short"
UNCLEAR = 3.0
"""Standard errors of a drop that is only just there."""


def judge(curve: Drawn) -> Verdict:
    """Return the verdict of a drawn curve."""
    columns = {"step": list(range(1, len(curve.loss) + 1)), "loss": curve.loss.tolist()}
    if curve.probe is not None:
        columns["probe_loss"] = curve.probe.tolist()
    return diagnose(LossRecord("drawn", columns))


def main(arguments: list[str] | None = None) -> None:
    """Print one row a shape and one column a kind of noise."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--curves", type=int, default=200, help="per shape and kind of noise")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    options = parser.parse_args(arguments)
    seeds = [options.seed * options.curves + one for one in range(options.curves)]
    print(
        f"{options.curves} curves a cell, seed {options.seed}; right / cannot tell / wrong in %\n"
    )
    print("| shape |", " | ".join(NOISES), "|\n|", " | ".join(["---"] * (1 + len(NOISES))), "|")
    for make in SHAPES:
        _row(
            make.__name__,
            [[judged(make, noise, seed, CLEAR) for seed in seeds] for noise in NOISES],
        )
    rest = [[judged(falling, noise, seed, UNCLEAR) for seed in seeds] for noise in NOISES]
    _row("falling, hardly to be seen", rest)
    called = sum(state == "converged" for cell in rest for state, _ in cell)
    print(f"\nof the last row's {sum(map(len, rest))} called converged: {called}")


def judged(make: object, noise: str, seed: int, clear: float) -> tuple[str, str]:
    """Return the state that was found and the right one."""
    curve = drawn(make, noise, seed, clear)
    return judge(curve).convergence.state, curve.convergence


def _row(name: str, cells: list[list[tuple[str, str]]]) -> None:
    words = []
    for cell in cells:
        counts = collections.Counter(
            "right" if found == right else "open" if found == CANNOT_TELL else "wrong"
            for found, right in cell
        )
        shares = [100 * counts[key] / len(cell) for key in ("right", "open", "wrong")]
        words.append(" / ".join(f"{share:.3g}" for share in shares))
    print(f"| {name} | {' | '.join(words)} |", flush=True)
