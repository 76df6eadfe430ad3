"""Files that are no LoRA, told by their keys."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import LoraFileError

BUNDLED = "bundle_emb."
"""What begins the keys of textual inversions that lie beside a LoRA's factors."""

# A piece of a key that only this kind of file has, and what to say about it.
_NOT_LORA = (
    (".hada_w1_a", "a LoHa (LyCORIS), whose product is not low-rank; convert it to LoRA first"),
    (".lokr_w", "a LoKr (LyCORIS), whose product is not low-rank; convert it to LoRA first"),
    (".oft_", "an OFT adapter, which rotates weights; only LoRA, LoCon and DoRA are read"),
    (".on_input", "an (IA)³ adapter; only LoRA, LoCon and DoRA are read"),
    (".a1.weight", "a GLoRA; only LoRA, LoCon and DoRA are read"),
    ("lora_controlnet", "a Control-LoRA; load it as a ControlNet"),
    ("input_hint_block", "a ControlNet; load it as one"),
    ("lllite_", "a ControlNet-LLLite; load it with its own nodes"),
    ("emb_params", "a textual inversion; load it by embedding:name in the prompt"),
    ("model.diffusion_model.", "a full checkpoint, not a LoRA; load it as MODEL"),
    ("first_stage_model.", "a full checkpoint or VAE, not a LoRA; load it as MODEL or VAE"),
    ("cond_stage_model.", "a full checkpoint, not a LoRA; load it as MODEL"),
    ("conditioner.embedders.", "a full checkpoint, not a LoRA; load it as MODEL"),
)


class NotCarriedOver(LoraFileError):
    """A whole file of a kind or family that is recognised, but not carried over."""

    def __init__(self, title: str, what: str, advice: str) -> None:
        """Say what the file called ``title`` is, and what to do."""
        super().__init__(f"{title} is {what}{advice}.")
        self.what = what


def refuse_what_is_no_lora(keys: Iterable[str], title: str) -> None:
    """Refuse the keys of a file that is no LoRA, LoCon or DoRA.

    Raises:
        NotCarriedOver: says what it is instead, and what to do.
    """
    for key in keys:
        if key.startswith(BUNDLED):
            continue
        for piece, what in _NOT_LORA:
            if piece in key:
                kind, mark, advice = re.split("([,;])", what, maxsplit=1)
                raise NotCarriedOver(title, kind, mark + advice)
