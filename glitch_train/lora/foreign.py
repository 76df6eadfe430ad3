"""Files that are no LoRA, told by their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ..errors import LoraFileError

BUNDLED = "bundle_emb."
"""What begins the keys of textual inversions that lie beside a LoRA's factors."""

# A piece of a key that only another kind of adapter has, and what to say about it.
# Sources: KohakuBlueleaf/LyCORIS, huggingface/peft, tencent-ailab/IP-Adapter, kohya-ss/sd-scripts,
# ComfyUI's comfy/controlnet.py and comfy/sd1_clip.py.
_OTHER_ADAPTERS = (
    (r"\.hada_w1_a", "a LoHa (LyCORIS), whose product is not low-rank; convert it to LoRA first"),
    (r"\.lokr_w", "a LoKr (LyCORIS), whose product is not low-rank; convert it to LoRA first"),
    (r"\.b?oft_", "an OFT adapter, which rotates weights; only LoRA, LoCon and DoRA are read"),
    (r"\.on_input|\.ia3_l", "an (IA)³ adapter; only LoRA, LoCon and DoRA are read"),
    (r"\.vera_lambda", "a VeRA adapter; only LoRA, LoCon and DoRA are read"),
    (r"\.a1\.weight", "a GLoRA; only LoRA, LoCon and DoRA are read"),
    (r"^(image_proj|ip_adapter)\.", "an IP-Adapter; load it with nodes for IP-Adapters"),
    (r"^lora_controlnet$", "a Control-LoRA; load it as a ControlNet"),
    (r"^model\.diffusion_model\..*\.lora[_.](down|A)\b",
     "a LoRA whose modules are called model.diffusion_model.…, and ComfyUI applies none of them; "
     "rename its keys to diffusion_model.…"),
    (r"lllite_", "a ControlNet-LLLite; load it with its own nodes"),
)  # fmt: skip
# The same of whole files, which hold no factors at all; what holds several kinds comes first.
_OTHER_FILES = (
    (r"\.(diff(_b)?|w_norm)$",
     "a file of whole differences, which are not low-rank; extract a LoRA from it first"),
    (r"^control_model\.|input_hint_block|^controlnet_", "a ControlNet; load it as one"),
    (r"^adapter\.body\.|^body\.\d+\.(block1|resnets)\.", "a T2I-Adapter; load it as a ControlNet"),
    (r"^model\.diffusion_model\.|^(cond_stage_model|conditioner\.embedders)\.",
     "a full checkpoint, not a LoRA; load it as MODEL"),
    (r"^(first_stage_model|vae)\.|^(encoder|decoder)\.(conv_(in|out)|mid|mid_block|up|down)\b",
     "a VAE, not a LoRA; load it as VAE"),
    (r"motion_modules\.", "a motion module of AnimateDiff; load it with its own nodes"),
    (r"(^|\.)(input_blocks|down_blocks)\.\d",
     "the UNet of a checkpoint, not a LoRA; load it as MODEL"),
    (r"(^|\.)(vision_model|visual)\.", "a CLIP vision model, not a LoRA; load it as CLIP_VISION"),
    (r"(^|\.)(resblocks|token_embedding)\.|^shared\.weight",
     "a text encoder, not a LoRA; load it as CLIP"),
    (r"(^|\.)(double_blocks|joint_blocks|transformer_blocks|blocks|layers)\.\d",
     "a model or text encoder of its own, not a LoRA; load it as MODEL or CLIP"),
    (r"(^|\.)emb_params$|^clip_[lgh]$|^text_encoders_\d$|^<[^>]+>$|^string_to_param",
     "a textual inversion; load it by embedding:name in the prompt"),
    (r"^latent_tensor$", "a saved latent; load it with Load Latent"),
    (r"\.rdb1\.|\.RDB1\.|^conv_first\.", "an upscale model; load it as one"),
)  # fmt: skip


class NotCarriedOver(LoraFileError):
    """A whole file of a kind or family that is recognised, but not carried over."""

    def __init__(self, title: str, what: str, advice: str) -> None:
        """Say what the file called ``title`` is, and what to do."""
        super().__init__(f"{title} is {what}{advice}.")
        self.what = what


def refuse_other_adapters(keys: Iterable[str], title: str) -> None:
    """Refuse a file with entries of an adapter that is no LoRA, LoCon or DoRA.

    Raises:
        NotCarriedOver: says what it is instead, and what to do.
    """
    _refuse([key for key in keys if not key.startswith(BUNDLED)], title, _OTHER_ADAPTERS)


def refuse_other_files(keys: Sequence[str], title: str) -> None:
    """Refuse a file without factors.

    Raises:
        NotCarriedOver: says what it is, where that can be told, and what to do.
        LoraFileError: says that it is no LoRA.
    """
    _refuse(keys, title, _OTHER_FILES)
    holds = f"its first entry is {keys[0]!r}" if keys else "it is empty"
    raise LoraFileError(
        f"{title} holds no LoRA factors ({holds}); choose a LoRA, LoCon or DoRA file."
    )


def _refuse(keys: Sequence[str], title: str, kinds: Iterable[tuple[str, str]]) -> None:
    for pattern, what in kinds:
        if any(re.search(pattern, key) for key in keys):
            kind, mark, advice = re.split("([,;])", what, maxsplit=1)
            raise NotCarriedOver(title, kind, mark + advice)
