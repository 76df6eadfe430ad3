"""Checkpoint files with quantised weights: made whole where a scale is all, else one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from quantised_files import TOWER, UNET, quantised
from safetensors.torch import load_file, save_file

from glitch_train.errors import CheckpointError
from glitch_train.model.checkpoint_file import load_checkpoint
from glitch_train.model.quantised import whole_weights
from glitch_train.model.tensor_file import TensorFile
from glitch_train.transfer.base import read_base

CPU = torch.device("cpu")
LAYER = f"{UNET}input_blocks.1.1.transformer_blocks.0.attn1.to_q"

KINDS = [
    ("old", torch.float8_e4m3fn),
    ("layers", torch.float8_e4m3fn),
    ("metadata", torch.float8_e4m3fn),
    ("layers", torch.int8),
]


@pytest.mark.parametrize(("kind", "stored"), KINDS, ids=["scaled", "beside", "metadata", "int8"])
def test_weights_are_multiplied_by_their_scales(
    tmp_path: Path, kind: str, stored: torch.dtype
) -> None:
    """Catches scales or marks read as weights, and weights without their scales."""
    stream = torch.Generator().manual_seed(0)
    names = (f"{LAYER}.weight", f"{UNET}out.2.weight", f"{TOWER}text_model.final_layer_norm.bias")
    state = {name: torch.randn(6, 4, generator=stream).half() for name in names[:2]}
    state[names[2]] = torch.randn(6, generator=stream).half()
    made, told, meant = quantised(state, kind, stored)
    file = tmp_path / "quantised.safetensors"
    save_file(made, file, told or None)
    whole = whole_weights(TensorFile(file))
    assert set(whole) == set(names)
    for name, value in meant.items():
        torch.testing.assert_close(whole[name].float(), value, rtol=1e-3, atol=1e-7)


@pytest.mark.slow
def test_a_whole_checkpoint_of_them_is_read(checkpoint: Path, tmp_path: Path) -> None:
    """Catches such a file refused as damaged, by training or by a transfer that measures it."""
    made, told, meant = quantised(load_file(checkpoint), "old", torch.float8_e4m3fn)
    file = tmp_path / "quantised.safetensors"
    save_file(made, file, told or None)
    base, _ = load_checkpoint(file, CPU)
    attention = base.unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1.to_q.weight
    torch.testing.assert_close(attention.float(), meant[f"{LAYER}.weight"], rtol=1e-3, atol=1e-7)
    job = "text_model.encoder.layers.0.mlp.fc1.weight"
    tower = dict(base.text_encoders[0].model.named_parameters())[job]
    torch.testing.assert_close(tower.float(), meant[TOWER + job], rtol=1e-3, atol=1e-7)
    measured = read_base(file)
    module = next(m for m in measured.network.modules.values() if LAYER.endswith(m.ldm))
    norm = meant[f"{LAYER}.weight"].norm().item()
    assert measured.measured(module) == pytest.approx(norm, rel=1e-3)


def test_a_plain_file_is_read_as_it_is(tmp_path: Path) -> None:
    """Catches a mapping in between that copies or renames what has no scales."""
    file = tmp_path / "plain.safetensors"
    save_file({"a.weight": torch.ones(2).to(torch.float8_e5m2)}, file)
    opened = TensorFile(file)
    assert whole_weights(opened) is opened


def conf(**told: object) -> torch.Tensor:
    """Return ComfyUI's description of a quantised layer."""
    return torch.tensor(list(json.dumps(told).encode()), dtype=torch.uint8)


BYTES = torch.zeros(4, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("beside", "said"),
    [
        ({f"{LAYER}.comfy_quant": conf(format="nvfp4")}, "ComfyUI's format nvfp4"),
        ({f"{LAYER}.comfy_quant": conf(format="int8_tensorwise", convrot=True)}, r"\(rotated\)"),
        ({f"{LAYER}.comfy_quant": conf(format="int8_tensorwise", params={"convrot": 1})}, "rotat"),
        ({f"{LAYER}.comfy_quant": conf()}, "format None"),
        ({f"{LAYER}.comfy_quant": BYTES}, "does not say readably"),
        ({f"{LAYER}.weight.absmax": BYTES}, "bitsandbytes' NF4"),
        ({f"{LAYER}.weight.quant_state.bitsandbytes__nf4": BYTES,
          f"{LAYER}.weight.absmax": BYTES}, "bitsandbytes' NF4"),
        ({f"{LAYER}.SCB": BYTES}, "bitsandbytes' int8"),
        ({"single_blocks.0.qweight": BYTES}, "Nunchaku"),
    ],
)  # fmt: skip
def test_other_packings_are_named(tmp_path: Path, beside: dict, said: str) -> None:
    """Catches a traceback or "damaged" for what is whole, in a form that is not read here."""
    file = tmp_path / "packed.safetensors"
    save_file({f"{LAYER}.weight": BYTES + 1, **{n: v.clone() for n, v in beside.items()}}, file)
    with pytest.raises(CheckpointError, match=said) as told:
        load_checkpoint(file, CPU)
    assert "fp16, bf16" in str(told.value)
    assert file.name in str(told.value)


@pytest.mark.parametrize("kind", ["F8_E8M0", "F4", "F6_E2M3", "I3X"])
@pytest.mark.parametrize("read", [lambda file: load_checkpoint(file, CPU), read_base])
def test_number_formats_that_torch_lacks_are_named(tmp_path: Path, kind: str, read) -> None:
    """Catches weights or scales passed over, and then "incomplete" or another family."""
    header = {
        f"{LAYER}.weight": {"dtype": kind, "shape": [4, 2], "data_offsets": [0, 8]},
        f"{UNET}out.2.bias": {"dtype": "F32", "shape": [4], "data_offsets": [8, 24]},
    }
    text = json.dumps(header).encode()
    file = tmp_path / "four_bits.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text + bytes(24))
    said = rf"four_bits.safetensors keeps its weights in .*{kind}.*load the fp16, bf16 or fp8 file"
    with pytest.raises(CheckpointError, match=said):
        read(file)


@pytest.mark.slow
def test_integers_without_a_scale_are_no_weights(checkpoint: Path, tmp_path: Path) -> None:
    """Catches torch's own error about parameters that are no floating point numbers."""
    state = load_file(checkpoint)
    state[f"{LAYER}.weight"] = state[f"{LAYER}.weight"].to(torch.int8)
    file = tmp_path / "int8.safetensors"
    save_file(state, file)
    with pytest.raises(CheckpointError, match="UNet .* keeps its weights in torch.int8 numbers"):
        load_checkpoint(file, CPU)


def test_files_and_folders_of_other_formats_are_named(tmp_path: Path) -> None:
    """Catches "not a safetensors file" for a GGUF, and "unknown architecture" for diffusers'."""
    gguf = tmp_path / "model.safetensors"
    gguf.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(64))
    folder = tmp_path / "diffusers"
    folder.mkdir()
    (folder / "model_index.json").write_text("{}")
    unet = tmp_path / "unet.safetensors"
    names = ("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight")
    save_file({name: torch.zeros(1) for name in names}, unet)
    said = {
        gguf: "is a GGUF file",
        folder: "folder in diffusers' layout",
        unet: "UNet in diffusers",
    }
    for path, words in said.items():
        with pytest.raises(CheckpointError, match=words) as told:
            load_checkpoint(path, CPU)
        assert ".safetensors" in str(told.value)
