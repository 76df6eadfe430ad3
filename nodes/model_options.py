"""What a MODEL carries beside weights and sampling: training goes without it, and says so."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..glitch_train.errors import CheckpointError

# Source: ComfyUI comfy/model_patcher.py (set_model_…) and comfy/patcher_extension.py, WrappersMP.
_FORWARD = ("model_function_wrapper",)
_FORWARD_OF_BLOCKS = ("patches", "patches_replace", "optimized_attention_override", "rope_options")
_FORWARD_WRAPPERS = ("apply_model", "diffusion_model")
_GUIDANCE = (
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
    "denoise_mask_function",
)
_READ_ELSEWHERE = ("model_sampling", "manual_cast_dtype")
"""Object patches: the noise schedule is :func:`.weights.noise_of`'s, the precision the recipe's."""


def check_injections(*patchers: Any) -> None:
    """Refuse weights that come only while the host samples: LoRAs in bypass mode.

    Raises:
        CheckpointError: names what is injected.
    """
    for patcher in patchers:
        injected = [key for key, layers in getattr(patcher, "injections", {}).items() if layers]
        if injected:
            raise CheckpointError(
                f"MODEL or CLIP carries layers that are added while it samples "
                f"({', '.join(map(str, injected))}), which cannot be trained on; take them off, or "
                "load that LoRA without bypass mode."
            )


def left_out(model: Any, *, samples: bool) -> list[str]:
    """Return what is to be said of a MODEL's options; nothing where it has none.

    Args:
        model: the host's MODEL.
        samples: whether the run draws sample pictures, which guidance would change.
    """
    options = model.model_options
    blocks = options.get("transformer_options", {})
    objects = getattr(model, "object_patches", {})
    forward = [
        *_names([options.get(name) for name in _FORWARD]),
        *_names([blocks.get(name) for name in _FORWARD_OF_BLOCKS]),
        *_names(list(_wrappers(model, blocks))),
        *(name for name in objects if name not in _READ_ELSEWHERE),
        *(["LoRA hooks"] if getattr(model, "hook_patches", None) else []),
    ]
    guidance = [*_names([options.get(name) for name in _GUIDANCE])]
    said = []
    if forward:
        said.append(
            f"It is trained without what MODEL adds to its layers ({_listed(forward)}); the MODEL "
            "that comes out has it again."
        )
    if guidance and samples:
        said.append(f"Sample pictures are made without MODEL's guidance ({_listed(guidance)}).")
    return said


def _wrappers(model: Any, blocks: Mapping[str, Any]) -> Iterator[Any]:
    for kinds in (getattr(model, "wrappers", {}), blocks.get("wrappers", {})):
        for kind in _FORWARD_WRAPPERS:
            # What compiles the model computes the same.
            yield [f for key, f in kinds.get(kind, {}).items() if "compile" not in str(key)]


def _names(value: Any) -> Iterator[str]:
    """Yield what each function in lists and dicts is called: by the node that made it."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for one in value:
            yield from _names(one)
    elif value is not None:
        called = getattr(value, "__qualname__", type(value).__qualname__).partition(".")[0]
        # The host wraps functions of the old style in one of its own.
        yield called if called != "ModelPatcher" and "<" not in called else "a node's function"


def _listed(names: list[str]) -> str:
    return ", ".join(dict.fromkeys(names))
