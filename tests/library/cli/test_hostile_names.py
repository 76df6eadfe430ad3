"""Every verb, given names that lead elsewhere or that nothing can hold, for every path it takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from hostile_names import HOSTILE

from glitch_train.cli.command import VERB_MODULES, main

COMMANDS = (
    "train @", "train recipe.toml --checkpoint @", "train recipe.toml --folder @",
    "train recipe.toml --out @", "train recipe.toml --cache @", "train recipe.toml --set @",
    "train recipe.toml --set output_name=@", "prepare @ --out=out", "prepare pictures --out=@",
    "prepare pictures --out=out --recipe=@", "prepare pictures --out=out --preset=@", "recipe @",
    "recipe --preset=@", "graph @ -o=out.png", "graph losses.csv -o=@", "verdict @",
    "transfer @ --to=sdxl -o=out.safetensors", "inspect @", "report @ pictures",
    "report pictures @", "calibrate --style=@", "queue @", "queue graph.json --server=@",
    "sweep @ --out=out", "matrix @",
)  # fmt: skip
"""Files that are asked for are there; a checkpoint, a LoRA and a ComfyUI are not."""

WORKING = ("prepare pictures --out=@", "graph losses.csv -o=@", "graph @ -o=out.png")
"""They get to their end with some of the names."""


@pytest.fixture(autouse=True)
def _material(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "losses.csv").write_text("step,loss\n1,0.5\n2,0.4\n", "utf-8")
    (place / "graph.json").write_text('{"1": {"class_type": "A", "inputs": {}}}', "utf-8")
    monkeypatch.chdir(place)


def test_every_verb_is_asked() -> None:
    """Catches a verb that came later."""
    assert {command.split()[0] for command in COMMANDS} == set(VERB_MODULES)


@pytest.mark.parametrize(
    "command",
    [pytest.param(one, marks=[pytest.mark.slow] if one in WORKING else []) for one in COMMANDS],
)
def test_a_verb_answers_in_a_sentence(command: str, capsys: pytest.CaptureFixture) -> None:
    """Catches a traceback, or more than one line for what is wrong."""
    for name in HOSTILE:
        writes = "--out=@" in command or "-o=@" in command
        if writes and Path(name).is_absolute():
            continue  # a person who names a place of their own gets it
        arguments = [part.replace("@", name) for part in command.split()]
        try:
            code = main(arguments)
        except SystemExit as ended:  # argparse, which says it below the usage
            code = ended.code
        said = capsys.readouterr().err
        assert code in (0, 1, 2), (name, code)
        assert code != 1 or len(said.strip().split("\n")) == 1, (name, said)
        assert code == 0 or said.strip(), name
        assert "Traceback" not in said, (name, said)
