"""Family detection and the two names of every UNet module, against diffusers' own converter."""

from __future__ import annotations

import pytest
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

from glitch_demo.full_shapes import LAYOUTS, ldm_weights
from glitch_train.errors import CheckpointError
from glitch_train.lora.targets import unet_targets
from glitch_train.model.checkpoint import build_unet
from glitch_train.model.families import detect_family
from glitch_train.model.unet_names import (
    read_layout,
    to_diffusers_names,
    to_ldm_modules,
)

TARGETS = {"SD1.5": 192, "SDXL": 722}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout_and_family_are_read_off_the_weights(name: str) -> None:
    """Catches a family taken for another, or a block miscounted."""
    family, layout = LAYOUTS[name]
    shapes = {key: tuple(value.shape) for key, value in ldm_weights(family, layout).items()}
    assert detect_family(shapes) is family
    assert read_layout(shapes) == layout


@pytest.mark.parametrize("name", LAYOUTS)
def test_names_agree_with_diffusers_converter(name: str) -> None:
    """Catches a weight put in the wrong place, against diffusers' single-file converter."""
    family, layout = LAYOUTS[name]
    weights = ldm_weights(family, layout)
    unet, _, _ = build_unet(weights)
    prefixed = {f"model.diffusion_model.{key}": value for key, value in weights.items()}
    reference = convert_ldm_unet_checkpoint(prefixed, dict(unet.config))
    ldm_name = {id(value): key for key, value in weights.items()}
    theirs = {ldm_name[id(value)]: key for key, value in reference.items()}
    assert to_diffusers_names(layout, weights) == theirs


@pytest.mark.parametrize("name", TARGETS)
def test_kohyas_number_of_targets(name: str) -> None:
    """Catches a module missing from, or added to, kohya's default set."""
    family, layout = LAYOUTS[name]
    unet, _, _ = build_unet(ldm_weights(family, layout))
    assert len(unet_targets(unet)) == TARGETS[name]


def test_sdxl_lora_modules_have_ldm_names() -> None:
    """Catches a block counted wrongly in SDXL's LoRA keys (facts from kohya's files)."""
    _, layout = LAYOUTS["SDXL"]
    names = to_ldm_modules(
        layout,
        [
            "down_blocks.1.attentions.0.proj_in",
            "down_blocks.2.attentions.1.transformer_blocks.9.attn2.to_out.0",
            "mid_block.attentions.0.transformer_blocks.3.ff.net.0.proj",
            "up_blocks.0.attentions.2.transformer_blocks.0.attn1.to_q",
            "up_blocks.1.attentions.0.proj_out",
        ],
    )
    assert list(names.values()) == [
        "input_blocks.4.1.proj_in",
        "input_blocks.8.1.transformer_blocks.9.attn2.to_out.0",
        "middle_block.1.transformer_blocks.3.ff.net.0.proj",
        "output_blocks.2.1.transformer_blocks.0.attn1.to_q",
        "output_blocks.3.1.proj_out",
    ]


@pytest.mark.parametrize(
    ("shapes", "called", "said"),
    [
        ({"double_blocks.0.img_attn.norm.key_norm.scale": (128,)}, "Flux", "Flux"),
        ({"joint_blocks.0.context_block.attn.qkv.weight": (1, 1)}, "SD3", "SD3"),
        ({"anything": (1,)}, "HunyuanVideo", "HunyuanVideo"),
        (
            {
                "input_blocks.0.0.weight": (320, 9, 3, 3),
                "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 768),
            },
            "BaseModel",
            "9 input channels",
        ),
        (
            {
                "input_blocks.0.0.weight": (320, 4, 3, 3),
                "input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight": (320, 1024),
            },
            "BaseModel",
            "SD2.x",
        ),
    ],
    ids=["flux", "sd3", "unknown", "inpainting", "sd2"],
)
def test_other_families_are_named(shapes: dict, called: str, said: str) -> None:
    """Catches a checkpoint that would fail later with a traceback."""
    with pytest.raises(CheckpointError, match=f"{said}.*SD1.5, SDXL, SSD-1B, Vega"):
        detect_family(shapes, called)


def test_a_damaged_checkpoint_is_named() -> None:
    """Catches a missing weight being left as uninitialised memory."""
    family, layout = LAYOUTS["SD1.5"]
    weights = ldm_weights(family, layout)
    del weights["middle_block.1.proj_in.weight"]
    with pytest.raises(CheckpointError, match="lacks mid_block.attentions.0.proj_in.weight"):
        build_unet(weights)
