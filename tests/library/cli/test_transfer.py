"""``transfer`` and ``inspect`` on the command line: what they print, write and refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from loras import everything, is_attention, lora_state, some
from safetensors.torch import save_file

from glitch_train.cli.command import main
from glitch_train.errors import CheckpointError
from glitch_train.lora.read import read_lora_file
from glitch_train.model.families import SD15, SDXL, VEGA, Family
from glitch_train.model.network import build_network
from glitch_train.model.unet_names import UNetLayout
from glitch_train.transfer.base import FAMILIES, find_base

COUNTS = {"total", "exact", "fitted", "skipped", "target_total", "target_reached"}


def run(capsys: pytest.CaptureFixture[str], *arguments: Any) -> tuple[int, Any]:
    """Run a verb with ``--json``; return its exit code and what it printed, or its sentence."""
    code = main([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return code, captured.err if code else json.loads(captured.out)


@pytest.fixture
def xl_lora(tmp_path: Path) -> Path:
    """A LoRA of all of SDXL's 722 modules, rank 1."""
    path = tmp_path / "an xl lora.safetensors"
    save_file(lora_state(SDXL, rank=1, keep=is_attention, dtype=torch.float16), path)
    return path


def test_transfer_prints_what_it_did(
    xl_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a key renamed, and a file that is not what the numbers say."""
    out = tmp_path / "deep" / "out.safetensors"
    arguments = ("transfer", xl_lora, "--to", "sd15", "--mapping", "by_role", "--fit", "crop")
    code, told = run(capsys, *arguments, "--seed", 3, "-o", out, "--map", tmp_path / "map.png")
    assert code == 0
    assert (told["source"], told["target"]) == ("SDXL", "SD1.5")
    assert told["modules"].keys() == COUNTS
    assert told["modules"]["target_reached"] == told["modules"]["target_total"] == 192
    assert len(told["skipped"]) == told["modules"]["skipped"]
    assert told["skipped"][0].keys() == {"name", "reason"}
    assert 0 < told["energy_kept"] < 1
    assert (tmp_path / "map.png").read_bytes()[:4] == b"\x89PNG"
    carried = read_lora_file(out)
    assert len(carried.modules) == 192
    assert json.loads(carried.metadata["glitch_transfer"])["seed"] == 3
    assert carried.metadata["ss_base_model_version"] == "sd_v1"
    _, seen = run(capsys, "inspect", out)
    assert seen["family"] == "SD1.5"
    assert seen["ranks"] == [1]


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_every_short_name_is_a_family(
    name: str, xl_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a family that works in the library only."""
    code, told = run(capsys, "transfer", xl_lora, "--to", name, "-o", tmp_path / "o.safetensors")
    assert code == 0
    assert told["target"] == FAMILIES[name].name
    assert told["modules"]["target_reached"] == told["modules"]["target_total"]


def test_same_arguments_same_bytes(
    xl_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a file that differs from run to run."""
    files = [tmp_path / f"{i}.safetensors" for i in range(2)]
    for path in files:
        run(capsys, "transfer", xl_lora, "--to", "vega", "--fit", "project", "-o", path)
    assert files[0].read_bytes() == files[1].read_bytes()


def small_checkpoint(family: Family, layout: UNetLayout) -> dict[str, torch.Tensor]:
    """Return the weights of a small checkpoint in the original format, norm weights included."""
    state = {}
    stream = torch.Generator().manual_seed(0)
    for module in build_network(family, layout, ()).modules.values():
        weight = torch.randn(module.shape, generator=stream)
        state[f"model.diffusion_model.{module.ldm}.weight"] = weight
        for norm, piece in (("norm1", "attn1.to_q"), ("in_layers.0", "in_layers.2")):
            if module.ldm.endswith(piece):
                name = module.ldm.replace(piece, norm)
                state[f"model.diffusion_model.{name}.weight"] = torch.ones(module.n_in)
    return state


SMALL = UNetLayout((16, 32), 1, ((1,), (1,)), ((1, 1), (1, 1)), 1)


def test_a_checkpoints_weights_are_measured(
    xl_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches norms taken from the wrong weight, or a prefix not found."""
    state = small_checkpoint(SD15, SMALL)
    layers = "cond_stage_model.transformer.text_model.encoder.layers"
    for layer in range(2):
        state[f"{layers}.{layer}.layer_norm1.weight"] = torch.ones(768)
    state[f"{layers}.1.mlp.fc1.weight"] = torch.full((3072, 768), 2.0)
    path = tmp_path / "small.safetensors"
    save_file(state, path)
    base = find_base(str(path))
    for module in base.network.modules.values():
        if module.role.part == "unet":
            weight = state[f"model.diffusion_model.{module.ldm}.weight"]
            assert base.measured(module) == pytest.approx(float(weight.norm()), rel=1e-6)
    fc1 = base.network.modules["te1.text_model.encoder.layers.1.mlp.fc1"]
    assert base.measured(fc1) == pytest.approx(2.0 * (3072 * 768) ** 0.5, rel=1e-4)
    out = tmp_path / "o.safetensors"
    code, told = run(
        capsys,
        "transfer",
        xl_lora,
        "--to",
        path,
        "--norm",
        "loudness",
        "--loudness",
        0.2,
        "-o",
        out,
    )
    assert code == 0
    assert told["weights"]["target"] == "measured"
    assert {one["loudness"] for one in told["loudest"]} == {0.2}


def test_packed_open_clip_weights(tmp_path: Path) -> None:
    """Catches q, k and v of OpenCLIP's packed weight confused."""
    state = small_checkpoint(VEGA, UNetLayout((16, 16, 32), 1, ((0,), (1,), (2,)),
                                              ((2, 2), (1, 1), (0, 0)), 0))  # fmt: skip
    head = "conditioner.embedders.1.model.transformer.resblocks.0"
    state[f"{head}.ln_1.weight"] = torch.ones(8)
    packed = [torch.full((8, 8), value) for value in (1.0, 2.0, 3.0)]
    state[f"{head}.attn.in_proj_weight"] = torch.cat(packed)
    path = tmp_path / "xl.safetensors"
    save_file(state, path)
    base = find_base(str(path))
    for value, job in enumerate("qkv", start=1):
        module = base.network.modules[f"te2.text_model.encoder.layers.0.self_attn.{job}_proj"]
        assert base.measured(module) == pytest.approx(8.0 * value)


@pytest.mark.parametrize(
    ("state", "what"),
    [
        (lora_state(SD15, keep=some(["mid_block"])), "a LoRA for SD1.5"),
        ({"lora_unet_double_blocks_0_x.lora_down.weight": torch.ones(1, 4),
          "lora_unet_double_blocks_0_x.lora_up.weight": torch.ones(4, 1)},
         "a LoRA for Flux or HunyuanVideo"),
        ({"a.lokr_w1": torch.ones(1)}, "a LoKr (LyCORIS)"),
        ({"model.diffusion_model.out.2.weight": torch.ones(1)}, "a full checkpoint"),
    ],
    ids=["sd15", "flux", "lokr", "checkpoint"],
)  # fmt: skip
def test_inspect_says_what_a_file_is(
    state: dict, what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches an inspection that fails where it should answer."""
    path = tmp_path / "file.safetensors"
    save_file(state, path)
    code, told = run(capsys, "inspect", path)
    assert code == 0
    assert told["what"] == what
    assert told["transferable"] == (what == "a LoRA for SD1.5")


def test_inspect_counts_what_no_family_knows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches modules that the transfer leaves behind, and inspect does not mention."""
    state = lora_state(SD15, keep=some(["mid_block"]))
    foreign = [f"clip_l.text_model.encoder.layers.{number}.mlp.fc1" for number in range(4)]
    for name in foreign:
        state |= {f"{name}.lora_down.weight": torch.ones(1, 768),
                  f"{name}.lora_up.weight": torch.ones(3072, 1)}  # fmt: skip
    path = tmp_path / "file.safetensors"
    save_file(state, path)
    assert run(capsys, "inspect", path)[1]["unknown_modules"] == foreign
    assert main(["inspect", str(path)]) == 0
    assert f"4 modules that SD1.5 lacks: {', '.join(foreign[:3])} and 1 more" in (
        capsys.readouterr().out
    )


def test_inspect_for_reading(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a text output that lacks what the JSON has."""
    path = tmp_path / "file.safetensors"
    save_file(lora_state(SD15, keep=everything, rank=3), path, {"ss_steps": "1200"})
    assert main(["inspect", str(path)]) == 0
    text = capsys.readouterr().out
    for piece in ("LoRA + LoCon for SD1.5", "ranks     3", "alphas    1", "ss_steps  1200"):
        assert piece in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "flux"), "There is no checkpoint flux; give one of sd15, sd21, sdxl"),
        (("--to", "sd15", "--mapping", "strict"), "is a LoRA for SDXL and the model is SD1.5"),
        (("--to", "sd15", "--loudness", "99"), "loudness must be 0.0 to 10.0, got 99.0"),
        (("--to", "sd15", "--map", "x.xyz"), "Cannot save a picture as 'x.xyz'; use .png, .svg or"),
        (("--to", "sd15", "--map", "x"), "Cannot save a picture as 'x'; use .png, .svg or .pdf."),
    ],
    ids=["base", "strict", "range", "map", "no suffix"],
)
def test_bad_input_is_one_sentence(
    arguments: tuple, said: str, xl_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a traceback, or a file written although the work failed."""
    out = tmp_path / "o.safetensors"
    code, told = run(capsys, "transfer", xl_lora, *arguments, "-o", out)
    assert code == 1
    assert said in told
    assert told.count("\n") == 1
    assert not out.exists()


def test_a_lora_is_no_base(xl_lora: Path) -> None:
    """Catches a LoRA given as the checkpoint to carry over to."""
    with pytest.raises(CheckpointError, match="This model is of an unknown architecture"):
        find_base(str(xl_lora))


@pytest.mark.not_on_windows(reason="links need a privilege there")
def test_an_output_never_overwrites_an_input(
    xl_lora: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a LoRA lost by ``-o``, also by way of a link, and a name whose ending lies."""
    before = xl_lora.read_bytes()
    link = tmp_path / "link.safetensors"
    link.symlink_to(xl_lora)
    for out in (xl_lora, link):
        code, told = run(capsys, "transfer", xl_lora, "--to", "sd15", "-o", out)
        assert (code, "would overwrite what is read" in told) == (1, True)
    code, told = run(capsys, "transfer", xl_lora, "--to", "sd15", "-o", tmp_path / "x.pt")
    assert (code, "ends in .safetensors" in told) == (1, True)
    assert xl_lora.read_bytes() == before
    assert not (tmp_path / "x.pt").exists()
