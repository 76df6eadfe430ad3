"""LoRA files that nobody vouches for: any bytes, headers, names, shapes and metadata."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from glitch_train.errors import GlitchTrainError
from glitch_train.lora.family import source_network
from glitch_train.lora.keys import lora_name
from glitch_train.lora.read import read_lora_file
from glitch_train.model.families import SD15
from glitch_train.model.network import reference_network
from glitch_train.transfer.base import Base
from glitch_train.transfer.recipe import TransferRecipe
from glitch_train.transfer.report import describe_lora
from glitch_train.transfer.transfer import transfer

BYTES = {"F32": 4, "F16": 2, "BF16": 2, "F64": 8, "I8": 1, "F8_E4M3": 1, "F8_E5M2": 1}
ODD_BYTES = {"I64": 8, "BOOL": 1, "U16": 2, "F4": 1, "": 1}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)
NUMBER = st.sampled_from([0, 0, 1, 1, 2, 3, 9, 99, 9999999])
PATHS = st.builds(
    lambda path, n, m, k: path.format(n=n, m=m, k=k),
    st.sampled_from([
        "down_blocks.{n}.attentions.{m}.transformer_blocks.{k}.attn1.to_q",
        "up_blocks.{n}.attentions.{m}.transformer_blocks.{k}.attn2.to_k",
        "input_blocks.{n}.1.transformer_blocks.{k}.ff.net.0.proj",
        "output_blocks.{n}.1.proj_in",
        "mid_block.attentions.0.transformer_blocks.{k}.attn1.to_out.0",
        "down_blocks.{n}.resnets.{m}.conv1",
        "text_model.encoder.layers.{n}.self_attn.q_proj",
        "conv_in", "text_projection", "\n\ud800",
    ]),
    NUMBER, NUMBER, NUMBER,
)  # fmt: skip
HEADS = st.sampled_from(
    ["lora_unet_", "lora_te_", "lora_te2_", "unet.", "text_encoder.", "base_model.model.", "",
     "diffusion_model.", "bundle_emb.a."]
)  # fmt: skip
TAILS = st.sampled_from([
    (".lora_down.weight", ".lora_up.weight", ".lora_mid.weight"),
    (".lora_A.weight", ".lora_B.weight", ".lora_magnitude_vector"),
    (".lora_A.a.weight", ".lora_B.b.weight", ".dora_scale"),
    (".lora.down.weight", ".lora.up.weight", ".alpha"),
])  # fmt: skip
SHAPES = st.sampled_from([(320, 320), (640, 768), (1280, 320, 1, 1), (320, 320, 3, 3)])
SD = reference_network(SD15)
MODULES = st.sampled_from([module for module in SD.modules.values() if module.n_out < 1280])
ODD_SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 4, 320]), max_size=5)


@st.composite
def lora_like(draw: Callable) -> tuple[dict[str, Any], bytes]:
    """Return a header as LoRAs have it, but for an oddity here and there, and its bytes."""
    header: dict[str, Any] = {}
    at = 0
    oddity = draw(st.integers(0, 12))  # which entry is another than it should be
    for number in range(draw(st.integers(1, 3))):
        rank, module = draw(st.sampled_from([1, 2])), draw(st.none() | MODULES)
        if module:
            name, (wide, width, *kernel) = lora_name(SD, module), module.shape
        else:
            name, (wide, width, *kernel) = draw(HEADS) + draw(PATHS), draw(SHAPES)
            name = name.replace(".", "_") if name.startswith("lora_") else name
        shapes = ((rank, width, *kernel), (wide, rank, *[1 for _ in kernel]), (wide,))
        for place, (tail, shape) in enumerate(zip(draw(TAILS), shapes, strict=True)):
            kinds, shape = BYTES, (1,) if tail == ".alpha" else shape
            if tail == ".lora_mid.weight":
                continue
            if 3 * number + place == oddity:
                kinds, shape = BYTES | ODD_BYTES, draw(ODD_SHAPES)
            kind = draw(st.sampled_from(sorted(kinds)))
            size = kinds[kind] * math.prod(shape)
            entry = {"dtype": kind, "shape": list(shape), "data_offsets": [at, at + size]}
            header[name + tail] = entry
            at += size
    if draw(st.booleans()):
        header["__metadata__"] = draw(JSON | st.fixed_dictionaries({}, optional=KNOWN))
    return header, draw(st.sampled_from([b"\0", b"\1", b"\x3c"])) * at


PATTERN = st.sampled_from(["attn1.to_q", "(a|a)*b", ".*.*.*.*x", "(", "x{99999999999}", "to_(q|k)"])
KNOWN = {
    "ss_base_model_version": JSON, "glitch_recipe": JSON,
    "lora_adapter_metadata": JSON | JSON.map(json.dumps) | st.fixed_dictionaries({}, optional={
        "unet.lora_alpha": JSON, "unet.use_rslora": JSON,
        "unet.alpha_pattern": JSON | st.dictionaries(PATTERN, JSON | st.just(10**400)),
    }).map(json.dumps),
}  # fmt: skip


def file_bytes(header: Any, data: bytes = b"") -> bytes:
    """Return a safetensors file of a header."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


LORAS = lora_like().map(lambda made: file_bytes(*made))
FILES = (
    st.binary(max_size=64)
    | st.binary(max_size=64).map(lambda raw: len(raw).to_bytes(8, "little") + b"{" + raw)
    | JSON.map(file_bytes)
    | st.dictionaries(st.text(max_size=8), JSON, max_size=3).map(file_bytes)
)


@pytest.mark.slow
@settings(
    max_examples=150, derandomize=True, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
@given(
    raw=st.booleans().flatmap(lambda odd: FILES if odd else LORAS),
    mapping=st.sampled_from(["by_role", "by_name", "shuffled"]),
)
def test_any_file_is_read_or_gets_one_sentence(raw: bytes, mapping: str, tmp_path: Path) -> None:
    """Catches a traceback anywhere between a file's first byte and the LoRA that is made of it."""
    path = tmp_path / "any.safetensors"
    path.write_bytes(raw)
    try:
        lora = read_lora_file(path)
        json.dumps(describe_lora(lora, source_network(lora)))
        carried = transfer(lora, Base(SD), TransferRecipe(mapping=mapping))
        assert carried.report.to_markdown()
        json.dumps(carried.report.to_dict())
    except GlitchTrainError as error:
        said = str(error)
        assert said.isprintable(), said
        assert len(said) < 1200
