"""LoRA files of every format become the same modules; what cannot be read gets its sentence."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from loras import dense, everything, lora_state, some
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from glitch_train.errors import LoraFileError
from glitch_train.lora.family import named_modules, source_network
from glitch_train.lora.file import read_metadata
from glitch_train.lora.foreign import NotCarriedOver
from glitch_train.lora.read import product_energy, read_lora, read_lora_file
from glitch_train.model.families import SD2, SD15, SDXL, SSD1B, TRANSFERABLE, VEGA
from glitch_train.model.network import Module, Network, build_network, reference_network
from glitch_train.model.unet_names import UNetLayout
from glitch_train.model.unet_shapes import LAYOUTS

ONE_BLOCK = some(["down_blocks.1.attentions.0"])


def _kohya_diffusers(network: Network, module: Module) -> str:
    return f"lora_unet_{module.diffusers.replace('.', '_')}"


def _kohya_ldm(network: Network, module: Module) -> str:
    return f"lora_unet_{module.ldm.replace('.', '_')}"


def _processor(network: Network, module: Module) -> str:
    name = module.diffusers.replace(".to_", ".processor.to_")
    return "unet." + (name[:-2] if name.endswith("to_out.0") else name)


FORMATS = {
    "kohya ldm": (_kohya_ldm, (".lora_down.weight", ".lora_up.weight")),
    "kohya diffusers": (_kohya_diffusers, (".lora_down.weight", ".lora_up.weight")),
    "lycoris": (
        lambda n, m: f"lycoris_{m.diffusers.replace('.', '_')}",
        (".lora_down.weight", ".lora_up.weight"),
    ),
    "peft": (lambda n, m: f"unet.{m.diffusers}", (".lora_A.weight", ".lora_B.weight")),
    "peft, saved by itself": (
        lambda n, m: f"base_model.model.{m.diffusers}",
        (".lora_A.weight", ".lora_B.weight"),
    ),
    "diffusers": (lambda n, m: f"unet.{m.diffusers}", (".lora.down.weight", ".lora.up.weight")),
    "old diffusers": (_processor, ("_lora.down.weight", "_lora.up.weight")),
    "bare diffusers": (lambda n, m: m.diffusers, (".lora_A.weight", ".lora_B.weight")),
    "host": (
        lambda n, m: f"diffusion_model.{m.ldm}",
        (".lora_down.weight", ".lora_up.weight"),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("family", [SD15, SDXL], ids=lambda family: family.name)
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_the_same_lora(name: str, family) -> None:
    """Catches a format whose names, factors or alpha are read as another module's."""
    naming, factors = FORMATS[name]
    network = reference_network(family)
    state = lora_state(family, keep=ONE_BLOCK, name=naming, factors=factors, alpha=0.5)
    plain = lora_state(family, keep=ONE_BLOCK, name=_kohya_ldm, alpha=0.5)
    lora = read_lora(state, "x")
    assert source_network(lora) is network
    found = named_modules(lora, network)
    assert set(found) == {key for key, m in network.modules.items() if ONE_BLOCK(m)}
    for key, module in found.items():
        up, down = module.factors()
        expected = dense(plain, _kohya_ldm(network, network.modules[key])).flatten(1)
        torch.testing.assert_close((up @ down).double() * module.scale, expected)
        assert module.scale == 0.25


@pytest.mark.parametrize(
    ("prefix", "key"),
    [
        ("lora_te_text_model_encoder_layers_3_mlp_fc1", "te1"),
        ("lora_te1_text_model_encoder_layers_3_mlp_fc1", "te1"),
        ("text_encoder.text_model.encoder.layers.3.mlp.fc1", "te1"),
        ("text_encoders.clip_l.transformer.text_model.encoder.layers.3.mlp.fc1", "te1"),
    ],
    ids=["kohya sd", "kohya xl", "diffusers", "host"],
)
def test_text_encoder_names(prefix: str, key: str) -> None:
    """Catches a text encoder's module lost among formats."""
    state = {
        f"{prefix}.lora_down.weight": torch.ones(1, 768),
        f"{prefix}.lora_up.weight": torch.ones(3072, 1),
    }
    lora = read_lora(state, "x")
    assert list(named_modules(lora, source_network(lora))) == [
        f"{key}.text_model.encoder.layers.3.mlp.fc1"
    ]


@pytest.mark.parametrize(
    ("stated", "scale"),
    [
        ({}, 1.0),
        ({"unet.lora_alpha": 8}, 4.0),
        ({"unet.lora_alpha": 8, "unet.use_rslora": True}, 8 / 2**0.5),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 1}}, 0.5),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"ttn1.to_q": 1}}, 4.0),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {".*attn1.to_(q|k)": 6, "to_q": 1}}, 3.0),
    ],
    ids=["no alpha", "lora_alpha", "rslora", "alpha_pattern", "half a word", "regex, first wins"],
)
def test_pefts_alpha_is_in_the_metadata(stated: dict, scale: float) -> None:
    """Catches a peft LoRA taken at the wrong strength: its alpha is no tensor."""
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {
        f"{name}.lora_A.weight": torch.ones(2, 320),
        f"{name}.lora_B.weight": torch.ones(320, 2),
    }
    lora = read_lora(state, "x", {"lora_adapter_metadata": json.dumps(stated)})
    assert lora.modules[name].scale == pytest.approx(scale)


def test_locon_with_a_middle_factor() -> None:
    """Catches a Tucker LoCon whose middle is dropped or transposed, against the dense product."""
    name = "lora_unet_down_blocks_0_resnets_0_conv1"
    stream = torch.Generator().manual_seed(0)
    up = torch.randn(320, 4, 1, 1, generator=stream)
    mid = torch.randn(4, 3, 3, 3, generator=stream)
    down = torch.randn(3, 320, 1, 1, generator=stream)
    state = {
        f"{name}.lora_up.weight": up,
        f"{name}.lora_mid.weight": mid,
        f"{name}.lora_down.weight": down,
    }
    module = read_lora(state, "x").modules[name]
    assert module.shape == (320, 320, 3, 3)
    expected = torch.einsum("oaxy,abkl,bijz->oikl", up, mid, down)
    factors = module.factors()
    built = (factors[0] @ factors[1].flatten(1)).reshape(320, 320, 3, 3)
    torch.testing.assert_close(built, expected, rtol=1e-4, atol=1e-4)
    assert module.energy == pytest.approx(float(expected.square().sum()), rel=1e-4)


def test_energy_is_that_of_the_product() -> None:
    """Catches a wrong Gram trick, against the product itself."""
    up, down = torch.randn(50, 7), torch.randn(7, 30, 3, 3)
    product = up @ down.flatten(1)
    assert product_energy(up, down) == pytest.approx(float(product.square().sum()), rel=1e-5)


@pytest.mark.parametrize("family", TRANSFERABLE, ids=lambda family: family.name)
def test_families_are_told_apart_by_names_and_shapes(family) -> None:
    """Catches a Vega LoRA taken for SDXL, whose names and shapes include all of Vega's."""
    lora = read_lora(lora_state(family, rank=1), "x")
    assert source_network(lora) is reference_network(family)
    hinted = source_network(lora, [reference_network(SDXL), reference_network(SD15)])
    assert hinted is reference_network(family)


POCKETS = {
    "sd15": (SD15, UNetLayout((320, 320), 1, ((1,), (1,)), ((1, 1), (1, 1)), 1)),
    "vega": (VEGA, UNetLayout((320, 320, 320), 2, ((0, 0), (1, 1), (2, 2)),
                              ((2, 2, 2), (1, 1, 1), (0, 0, 0)), 2)),
    "two levels of three": (SD15, UNetLayout((64, 128, 256), 2, ((1, 1), (1, 1), (0, 0)),
                                             ((0, 0, 0), (1, 1, 1), (1, 1, 1)), 1)),
    "ssd": (SSD1B, LAYOUTS[SSD1B]),
}  # fmt: skip


@pytest.mark.parametrize("naming", [_kohya_ldm, _kohya_diffusers], ids=["ldm", "diffusers"])
@pytest.mark.parametrize("name", POCKETS)
def test_a_network_of_unknown_size_is_read_off_its_lora(name: str, naming) -> None:
    """Catches levels, sites and depths miscounted when no published network fits."""
    family, layout = POCKETS[name]
    network = build_network(family, layout, ())
    found = source_network(read_lora(lora_state(network, name=naming), "x"))
    assert found.family is family
    assert found.layout.down_depths == layout.down_depths
    assert found.layout.up_depths == layout.up_depths
    assert found.layout.mid_depth == layout.mid_depth
    attends = [level for level, depths in enumerate(layout.down_depths) if any(depths)]
    assert [found.layout.channels[i] for i in attends] == [layout.channels[i] for i in attends]


@pytest.mark.parametrize(("version", "family"), [("sd_v2_v", SD2), ("sd_v1", SD15)])
def test_metadata_decides_where_names_and_shapes_do_not(version: str, family) -> None:
    """Catches an SD2.x LoRA without cross-attention taken for SD1.5."""
    state = lora_state(SD15, keep=some(["attn1"]))
    lora = read_lora(state, "x", {"ss_base_model_version": version})
    assert source_network(lora).family is family


PAIR = {
    "lora_unet_conv_in.lora_down.weight": torch.ones(2, 4, 3, 3),
    "lora_unet_conv_in.lora_up.weight": torch.ones(320, 2, 1, 1),
}


def _pair(name: str, **changed: torch.Tensor) -> dict[str, torch.Tensor]:
    whole = {"down": torch.ones(2, 320), "up": torch.ones(320, 2)} | changed
    return {f"{name}.lora_{key}.weight": value for key, value in whole.items()}


FLUX = "lora_unet_double_blocks_0_img_attn_qkv"
Q = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
K = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
REFUSED = {
    "no factors": ({"a.weight": torch.ones(2)}, "x holds no LoRA factors"),
    "only down": ({f"{Q}.lora_down.weight": torch.ones(2, 320)}, "down factor but no up factor"),
    "only up": ({f"{Q}.lora_up.weight": torch.ones(320, 2)}, "up factor but no down factor"),
    "zero rank": (_pair(Q, down=torch.ones(0, 320), up=torch.ones(320, 0)), "has rank 0"),
    "ranks differ": (_pair(Q, up=torch.ones(320, 3)), "do not fit together"),
    "flags": (_pair(Q, up=torch.ones(320, 2, dtype=torch.bool)), "is bool; LoRA factors must"),
    "two adapters": (
        {f"unet.mid_block.attentions.0.proj_in.lora_{f}.{a}.weight": torch.ones(2, 2)
         for f in "AB" for a in ("one", "two")}, "two LoRAs for .*a file of its own"),
    "NaN": (_pair(Q, up=torch.full((320, 2), torch.nan)), "holds NaN"),
    "infinite": (_pair(Q, up=torch.full((320, 2), torch.inf)), "holds NaN or infinite"),
    "alphas": ({**_pair(Q), f"{Q}.alpha": torch.ones(2)}, "alpha of .* where one number belongs"),
    "vectors": (_pair(Q, up=torch.ones(320)), "must be matrices"),
    "LoHa": ({f"{Q}.hada_w1_a": torch.ones(2, 2)}, "x is a LoHa .*convert it to LoRA"),
    "LoKr": ({f"{Q}.lokr_w1": torch.ones(2, 2)}, "x is a LoKr"),
    "checkpoint": ({"model.diffusion_model.out.2.weight": torch.ones(1)}, "is a full checkpoint"),
    "host's names twice": (_pair("model.diffusion_model.input_blocks.1.1.proj_in"),
                           "is a LoRA whose modules are called model.diffusion_model.*rename"),
    "embedding": ({"emb_params": torch.ones(1, 768)}, "is a textual inversion"),
    "Flux": (_pair(FLUX), "LoRA for Flux .*SD1.5, SD2.x, SDXL, SSD-1B, Vega"),
    "SD3": (_pair("transformer.transformer_blocks.0.attn.to_q"), "diffusion transformer"),
    "refiner": (_pair(K, down=torch.ones(2, 1280)), "SDXL refiner"),
    "unknown": (_pair("what_is_this"), "unknown family"),
    "T5 of SD3": (_pair("text_encoder_3.encoder.block.0.layer.0.SelfAttention.q"),
                  "a LoRA for T5, a text encoder of Flux and SD3"),
    "T5 of Flux": (_pair("lora_te2_encoder_block_0_layer_0_SelfAttention_q"), "a LoRA for T5"),
    "Llama": (_pair("lora_te1_model_layers_0_self_attn_q_proj"), "a LoRA for a language model"),
    "CLIP of no family": (_pair("lora_te_text_model_encoder_layers_0_self_attn_q_proj",
                                down=torch.ones(2, 64)), "no text encoder of SD1.5, SD2.x, SDXL"),
    "a product of gigabytes": (_pair(Q, down=torch.ones(40_000, 1), up=torch.ones(1, 40_000)),
                               "fits no published network"),
    "a middle of gigabytes": (_pair(Q, up=torch.ones(1, 20_000), down=torch.ones(1, 20_000),
                                    mid=torch.ones(20_000, 1, 1, 1)), "larger than any of Stable"),
    "a hundred levels": ({**_pair("lora_unet_down_blocks_0_attentions_0_proj_in"),
                          **_pair("lora_unet_up_blocks_99_attentions_0_proj_in")},
                         "100 levels .* no Stable Diffusion UNet"),
    "a line break": (_pair("lora_unet_\n"), "called 'lora_unet_.*no module's name"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_carried_over_gets_its_sentence(name: str) -> None:
    """Catches a traceback, or a silent pass, for a broken or foreign LoRA."""
    state, said = REFUSED[name]
    with pytest.raises(LoraFileError, match=said) as caught:
        source_network(read_lora(state, "x"))
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(".")


NO_LORAS = {
    "SDXL embedding": (("clip_l", "clip_g"), "a textual inversion"),
    "diffusers' embedding": (("<cat-toy>",), "a textual inversion"),
    "embeddings bundled": (("bundle_emb.mytoken.emb_params",), "a textual inversion"),
    "VAE": (("encoder.conv_in.weight", "decoder.mid.attn_1.k.weight"), "a VAE"),
    "diffusers' VAE": (("encoder.down_blocks.0.resnets.0.conv1.weight",
                        "decoder.mid_block.attentions.0.to_k.weight"), "a VAE"),
    "IP-Adapter": (("image_proj.proj.weight", "ip_adapter.1.to_k_ip.weight"), "an IP-Adapter"),
    "FaceID": (("image_proj.proj.weight", "ip_adapter.0.to_q_lora.down.weight",
                "ip_adapter.0.to_q_lora.up.weight"), "an IP-Adapter"),
    "ControlNet": (("input_hint_block.0.weight", "input_blocks.0.0.weight"), "a ControlNet"),
    "ControlNet of A1111": (("control_model.input_hint_block.0.weight",), "a ControlNet"),
    "diffusers' ControlNet": (("controlnet_cond_embedding.conv_in.weight",
                               "down_blocks.0.resnets.0.conv1.weight"), "a ControlNet"),
    "T2I-Adapter": (("adapter.body.0.resnets.0.block1.weight",), "a T2I-Adapter"),
    "checkpoint": (("first_stage_model.encoder.conv_in.weight",
                    "model.diffusion_model.out.2.weight"), "a full checkpoint"),
    "UNet": (("conv_in.weight", "down_blocks.0.resnets.0.conv1.weight"), "the UNet of"),
    "CLIP": (("text_model.embeddings.token_embedding.weight",
              "text_model.encoder.layers.0.mlp.fc1.weight"), "a text encoder"),
    "CLIP vision": (("vision_model.encoder.layers.0.mlp.fc1.weight",), "a CLIP vision model"),
    "Flux": (("double_blocks.0.img_attn.qkv.weight",), "a model or text encoder of its own"),
    "motion module": (("down_blocks.0.motion_modules.0.norm.weight",), "a motion module"),
    "differences": (("diffusion_model.input_blocks.0.0.diff",), "a file of whole differences"),
    "latent": (("latent_tensor", "latent_format_version_0"), "a saved latent"),
    "upscaler": (("model.1.sub.0.RDB1.conv1.0.weight",), "an upscale model"),
}  # fmt: skip


@pytest.mark.parametrize("name", NO_LORAS)
def test_a_file_of_another_kind_is_called_what_it_is(name: str) -> None:
    """Catches "holds no LoRA factors" for a file that any user would know by its kind."""
    keys, what = NO_LORAS[name]
    with pytest.raises(NotCarriedOver, match=f"^x is {what}.*; ") as caught:
        read_lora({key: torch.ones(1, 1) for key in keys}, "x")
    assert caught.value.what.startswith(what)


def test_a_file_without_a_tensor() -> None:
    """Catches a traceback for a file that holds nothing."""
    with pytest.raises(LoraFileError, match="holds no LoRA factors \\(it is empty\\)"):
        read_lora({}, "x")


def _truncated(path: Path) -> None:
    save_file(PAIR, path)
    path.write_bytes(path.read_bytes()[:-100])


def _continued(path: Path) -> None:
    save_file(PAIR, path)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(SafetensorError):  # the host's own reader
        load_file(path)


def _cut_header(path: Path) -> None:
    save_file(PAIR, path)
    path.write_bytes(path.read_bytes()[:40])


def _lying_header(path: Path) -> None:
    save_file(PAIR, path)
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"F16"'))


def _pickled(path: Path) -> None:
    path.write_bytes(pickle.dumps({"a": 1}))


FILES = {
    "truncated": (_truncated, "is cut short: its header promises"),
    "continued": (_continued, "has 4 bytes after its last tensor"),
    "cut in the header": (_cut_header, "is cut short inside its header"),
    "wrong sizes": (_lying_header, "is damaged"),
    "pickle inside": (_pickled, "is a pickle, which can run code"),
    "torch.save": (lambda path: torch.save(PAIR, path), "is a pickle"),
    "empty": (lambda path: path.write_bytes(b""), "is empty, not a safetensors file; download"),
    "page": (lambda path: path.write_text("\n<!doctype html><html>"), "is a saved web page"),
    "JSON": (
        lambda path: path.write_text('{"error": "Access denied"}'),
        "is JSON text .*Access denied.* download the file again",
    ),
    "LFS": (
        lambda path: path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n"),
        "is a Git LFS pointer.*git lfs pull",
    ),
    "message": (lambda path: path.write_text("Entry not\nfound"), "text that begins with 'Entry n"),
    "vast header": (
        lambda path: path.write_bytes((17_000_000).to_bytes(8, "little") + b"{" * 17_000_001),
        "has a header of .*more than any model has",
    ),
    "no header": (lambda path: path.write_bytes(b"\x04" + b"\0" * 7 + b"abcd"), "is not a safe"),
    "no JSON": (lambda path: path.write_bytes(b"\x04" + b"\0" * 7 + b"{bcd"), "not JSON"),
    "infinite shape": (
        lambda path: path.write_bytes(
            (60).to_bytes(8, "little")
            + b'{"a":{"dtype":"F32","shape":[1e999],"data_offsets":[0,4]}}  1234'
        ),
        "no valid entry for 'a'",
    ),
    "missing": (lambda path: None, "Cannot read .*No such file"),
}


@pytest.mark.parametrize("name", FILES)
def test_broken_files_get_their_sentence(name: str, tmp_path: Path) -> None:
    """Catches a library's own error text, or a pickle being opened."""
    write, said = FILES[name]
    path = tmp_path / "broken.safetensors"
    write(path)
    with pytest.raises(LoraFileError, match=said):
        read_lora_file(path)


def test_a_name_that_lies_is_said(tmp_path: Path) -> None:
    """Catches a file that the host would open as a pickle, or one called a pickle that is none."""
    path = tmp_path / "lora.pt"
    save_file(PAIR, path)
    said = "lora.pt is a safetensors file, but .* rename it to lora.safetensors"
    with pytest.raises(LoraFileError, match=said):
        read_lora_file(path)


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580])
def test_a_header_as_long_as_a_pickles_first_bytes_is_read(length: int, tmp_path: Path) -> None:
    """Catches a valid file called a pickle for the length of its header."""
    path = tmp_path / "padded.safetensors"
    save_file(PAIR, path, {"pad": ""})
    short = int.from_bytes(path.read_bytes()[:8], "little")
    header = json.loads(path.read_bytes()[8 : 8 + short])
    header["__metadata__"]["pad"] = "x" * (length - len(json.dumps(header)))
    data = path.read_bytes()[8 + short :]
    path.write_bytes(length.to_bytes(8, "little") + json.dumps(header).encode() + data)
    assert load_file(path).keys() == PAIR.keys()
    assert len(read_lora_file(path).modules) == 1


@pytest.mark.parametrize(
    "metadata",
    [[1, 2], "text", 7, None, {"ss_base_model_version": 1.5, "ss_steps": None, "a": {"b": [1]}}],
    ids=["list", "string", "number", "null", "other values"],
)
def test_metadata_of_any_type_is_read(metadata: object, tmp_path: Path) -> None:
    """Catches a traceback for metadata that is no object of texts."""
    path = tmp_path / "odd.safetensors"
    with_metadata(path, metadata)
    lora = read_lora_file(path)
    assert source_network(lora).family is SD15
    assert all(isinstance(value, str) for value in lora.metadata.values())
    assert read_metadata(path) == lora.metadata


def with_metadata(path: Path, metadata: object) -> None:
    """Write a LoRA of one module with any ``__metadata__``."""
    save_file(_pair(Q), path)
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length]) | {"__metadata__": metadata}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


def test_a_whole_network_with_text_encoders_is_read(tmp_path: Path) -> None:
    """Catches kinds and parts left out of what is read, from a real file."""
    path = tmp_path / "whole.safetensors"
    save_file(lora_state(SD15, keep=everything, rank=1), path)
    lora = read_lora_file(path)
    assert lora.kinds == ("LoRA", "LoCon")
    assert {module.part for module in lora.modules.values()} == {"unet", "te1"}
    assert lora.format == "kohya, diffusers names"
    assert len(lora.modules) == len(reference_network(SD15).modules)


@pytest.mark.parametrize("name", ["odd.weight", f"{Q}.lora_mid.weight"], ids=["beside", "factor"])
def test_an_entry_of_an_unknown_number_format(name: str, tmp_path: Path) -> None:
    """Catches a whole file refused for one odd entry, or a factor left out without a word."""
    path = tmp_path / "odd.safetensors"
    save_file({**_pair(Q), name: torch.ones(4)}, path)
    odd = path.read_bytes().replace(b'"F32","shape":[4]', b'"F6X","shape":[4]')
    path.write_bytes(odd)
    if name.startswith(Q):
        with pytest.raises(LoraFileError, match=r"lora_mid\.weight is in F6X, .* save it again"):
            read_lora_file(path)
        return
    lora = read_lora_file(path)
    assert list(lora.modules) == [Q]
    assert lora.unread == {"odd.weight": "F6X"}


@pytest.mark.parametrize(
    "stated",
    [
        {"unet.alpha_pattern": [1]},
        {"unet.alpha_pattern": {"(": 1}},
        {"unet.lora_alpha": "8"},
        {"unet.lora_alpha": 10**400},
        {"unet.alpha_pattern": {"(.*)*proj_on": 1}},
    ],
    ids=["list", "no regex", "text", "huge", "endless"],
)
def test_odd_peft_settings_are_one_sentence(stated: dict) -> None:
    """Catches a traceback, or a strength that is guessed."""
    name = "unet.mid_block.attentions.0.proj_in"
    state = {f"{name}.lora_{f}.weight": torch.ones(2, 2) for f in "AB"}
    with pytest.raises(LoraFileError, match="x: peft's settings give .* peft does not write; save"):
        read_lora(state, "x", {"lora_adapter_metadata": json.dumps(stated)})


@pytest.mark.parametrize(
    ("folder", "width", "part"), [("text_encoder", 768, "te1"), ("text_encoder_2", 1280, "te2")]
)
def test_a_peft_folders_settings_count(folder: str, width: int, part: str, tmp_path: Path) -> None:
    """Catches a peft folder read at scale 1, and its text encoder taken for a UNet."""
    path = tmp_path / folder / "adapter_model.safetensors"
    path.parent.mkdir()
    name = "base_model.model.text_model.encoder.layers.0.self_attn.q_proj"
    factors = {"A": torch.ones(4, width), "B": torch.ones(width, 4)}
    save_file({f"{name}.lora_{f}.weight": value for f, value in factors.items()}, path)
    path.with_name("adapter_config.json").write_text('{"r": 4, "lora_alpha": 16}')
    lora = read_lora_file(path)
    assert (lora.modules[name].scale, lora.modules[name].part) == (4.0, part)
    network = source_network(lora)
    assert list(named_modules(lora, network)) == [
        f"{part}.text_model.encoder.layers.0.self_attn.q_proj"
    ]


@pytest.mark.parametrize("stated", ["{", "[1]", '"a"'])
def test_broken_peft_settings_are_said(stated: str) -> None:
    """Catches a strength taken for granted without a word."""
    state = {f"unet.mid_block.attentions.0.proj_in.lora_{f}.weight": torch.ones(2, 2) for f in "AB"}
    lora = read_lora(state, "x", {"lora_adapter_metadata": stated})
    assert lora.notes == (
        "Its lora_adapter_metadata is no JSON object; factors without an alpha are taken at "
        "scale 1.",
    )


def test_a_renamed_peft_file_keeps_its_settings(tmp_path: Path) -> None:
    """Catches a file taken at scale 1 because of its name, or at the scale of another's."""
    name = "base_model.model.mid_block.attentions.0.proj_in"
    state = {f"{name}.lora_{f}.weight": torch.ones(2, 2) for f in "AB"}
    save_file(state, tmp_path / "mine.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 2, "lora_alpha": 8}')
    lora = read_lora_file(tmp_path / "mine.safetensors")
    assert lora.modules[name].scale == 4.0
    assert "strength was read from the adapter_config.json" in " ".join(lora.notes)
    save_file(state, tmp_path / "other.safetensors")
    lora = read_lora_file(tmp_path / "mine.safetensors")
    assert lora.modules[name].scale == 1.0
    assert "may be another file's" in " ".join(lora.notes)


def test_a_peft_folder_without_its_settings(tmp_path: Path) -> None:
    """Catches a peft LoRA of unknown strength taken at scale 1 without a word, or a traceback."""
    name = "base_model.model.mid_block.attentions.0.proj_in"
    path = tmp_path / "adapter_model.safetensors"
    with pytest.raises(LoraFileError, match=r"a folder without an adapter_model\.safetensors"):
        read_lora_file(tmp_path)
    save_file({f"{name}.lora_{f}.weight": torch.ones(2, 2) for f in "AB"}, path)
    assert "no adapter_config.json beside" in read_lora_file(path).notes[0]
    with pytest.raises(LoraFileError, match=r"Cannot read .*adapter_config\.json.* copy it there"):
        read_lora_file(tmp_path)
    path.with_name("adapter_config.json").write_text("{")
    for place in (path, tmp_path):
        with pytest.raises(LoraFileError, match=r"adapter_config\.json is no JSON object"):
            read_lora_file(place)


def test_integers_are_said() -> None:
    """Catches quantised factors taken for plain numbers, as the host does, without a word."""
    factors = {"down": torch.ones(2, 320).to(torch.int8), "up": torch.ones(320, 2).to(torch.int8)}
    (note,) = read_lora(_pair(Q, **factors), "x").notes
    assert note.startswith("The factors of 1 modules are int8: taken as plain numbers")


@pytest.mark.parametrize("scale", [".scale_weight", ".weight.scale_weight", ".weight_scale"])
def test_scales_beside_fp8_factors_are_said(scale: str) -> None:
    """Catches fp8 factors whose scales are left out without a word."""
    factors = {"down": torch.ones(2, 320), "up": torch.ones(320, 2)}
    pair = _pair(Q, **{key: one.to(torch.float8_e4m3fn) for key, one in factors.items()})
    scales = {f"{Q}.lora_{factor}{scale}": torch.tensor(0.5) for factor in factors}
    lora = read_lora({**pair, **scales}, "x")
    (note,) = lora.notes
    assert "1 modules are float8_e4m3fn: taken as plain numbers" in note
    assert "beside them (2 do) is not applied" in note
    assert len(lora.extras) == 2


@pytest.mark.parametrize("adapter", ["my_style", "default_0", "default"])
def test_adapter_names_in_keys(adapter: str) -> None:
    """Catches a peft LoRA that was saved with its adapter's name called no LoRA."""
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
    state = {
        f"{name}.lora_A.{adapter}.weight": torch.ones(2, 320),
        f"{name}.lora_B.{adapter}.weight": torch.ones(320, 2),
        f"{name}.lora_magnitude_vector.{adapter}.weight": torch.ones(320),
    }
    lora = read_lora(state, "x")
    assert list(lora.modules) == [name]
    assert lora.kinds == ("LoRA", "DoRA")
    assert not lora.extras


@pytest.mark.parametrize("old", ["q", "k", "v", "out"])
def test_old_diffusers_names_of_text_attention(old: str) -> None:
    """Catches text encoders dropped from files of diffusers up to 0.20."""
    name = f"text_encoder.text_model.encoder.layers.3.self_attn.to_{old}"
    state = {
        f"{name}_lora.down.weight": torch.ones(1, 768),
        f"{name}_lora.up.weight": torch.ones(768, 1),
    }
    lora = read_lora(state, "x")
    assert list(named_modules(lora, source_network(lora))) == [
        f"te1.text_model.encoder.layers.3.self_attn.{old}_proj"
    ]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8])
def test_factors_in_small_formats_are_plain_numbers(dtype: torch.dtype, tmp_path: Path) -> None:
    """Catches fp8 and int8 factors refused; the host casts them and nothing else."""
    path = tmp_path / "small.safetensors"
    stream = torch.Generator().manual_seed(0)
    pair = _pair(Q, down=torch.randn(2, 320, generator=stream).mul(4).to(dtype))
    pair[f"{Q}.lora_up.weight"] = torch.randn(320, 2, generator=stream).mul(4).to(dtype)
    save_file(pair, path)
    up, down = read_lora_file(path).modules[Q].factors()
    assert torch.equal(up, pair[f"{Q}.lora_up.weight"].to(torch.float32))
    assert torch.equal(down, pair[f"{Q}.lora_down.weight"].to(torch.float32))


def test_an_embedding_beside_a_lora_is_named() -> None:
    """Catches a LoRA refused for the textual inversion that OneTrainer put into its file."""
    lora = read_lora({**_pair(Q), "bundle_emb.mytoken.emb_params": torch.ones(1, 768)}, "x")
    assert list(lora.modules) == [Q]
    assert lora.embeddings == ("mytoken",)
