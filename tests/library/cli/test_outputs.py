"""Where verbs write: a name that lies is refused, and nothing that is read is overwritten."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from glitch_train.cli.command import main


@pytest.fixture
def material(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in with an input of every kind."""
    monkeypatch.chdir(tmp_path)
    for name in ("base", "run"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (64, 64), "red").save(tmp_path / name / "a.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "workflow_api.json").write_text("{}")
    (tmp_path / "losses.csv").write_text("step,loss\n1,0.5\n2,0.4\n")
    (tmp_path / "losses.svg").write_text("step,loss\n1,0.5\n2,0.4\n")
    (tmp_path / "taken").write_text("a file")
    (tmp_path / "peft").mkdir()
    name = "base_model.model.mid_block.attentions.0.proj_in"
    state = {f"{name}.lora_{f}.weight": torch.ones(2, 2) for f in "AB"}
    for path in (tmp_path / "lora.safetensors", tmp_path / "peft" / "adapter_model.safetensors"):
        save_file(state, path)
    return tmp_path


LIES = [
    "transfer lora.safetensors --to sd15 -o x.pt",
    "transfer lora.safetensors --to sd15 -o x",
    "report base run -o x.txt",
    "report base run -o x.png",
    "graph losses.csv -o x.txt",
    "calibrate -o x.png",
    "calibrate -o taken",
    "prepare base --out x.png",
    "prepare base --out taken",
    "queue out/workflow_api.json --out x.json",
    "sweep sd15_standard --out x.md",
    "sweep sd15_standard --out x --page x.html",
    "matrix out --page x.html",
    "train lora.safetensors --out x.safetensors",
    "train lora.safetensors --out taken",
]
OVERWRITES = [
    "transfer lora.safetensors --to sd15 -o lora.safetensors",
    "transfer lora.safetensors --to sd15 -o ./out/../lora.safetensors",
    "transfer lora.safetensors --to sd15 -o new/../lora.safetensors",
    "graph losses.svg -o new/../losses.svg",
    "transfer lora.safetensors --to lora.safetensors -o lora.safetensors",
    "transfer peft --to sd15 -o peft/adapter_model.safetensors",
    "report base run -o base/a",
    "report base run -o run/a",
    "graph losses.svg -o losses.svg",
    "queue out/workflow_api.json --out out",
]


@pytest.mark.parametrize("line", [*LIES, *OVERWRITES])
def test_nothing_is_written_where_it_should_not(
    line: str, material: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an input lost, and a file that is another than its name says, for every verb."""
    before = {path: path.read_bytes() for path in material.rglob("*") if path.is_file()}
    assert main(line.split()) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    lies = ("a file's ending", "a name that ends in", "not a folder", "Cannot save a picture as")
    wanted = ("would overwrite what is read",) if line in OVERWRITES else lies
    assert any(words in said for words in wanted), said
    assert {path: path.read_bytes() for path in material.rglob("*") if path.is_file()} == before
