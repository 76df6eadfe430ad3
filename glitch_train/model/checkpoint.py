"""Original (LDM) weights become diffusers and transformers modules that share their memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from ..cache import content_key, sampled_key
from ..errors import CheckpointError
from .clip_tokens import END_TOKEN
from .families import Family, detect_family
from .quantised import packed
from .unet_names import UNetLayout, read_layout, rename, to_diffusers_names

if TYPE_CHECKING:
    from diffusers import UNet2DConditionModel
    from transformers import CLIPTextModelWithProjection

Weights = Mapping[str, torch.Tensor]

_XL_HEAD_CHANNELS = 64
_SD15_HEADS = 8
# The usual schedule ends at 0.0047; rescaled ones at 5e-8 (ComfyUI), 6e-8 (diffusers) or 0.
_NOISE_ALONE = 1e-6
# hidden_size -> (attention heads, activation): OpenAI's CLIP-L and OpenCLIP's bigG and H.
_CLIP_TOWERS = {768: (12, "quick_gelu"), 1280: (20, "gelu"), 1024: (16, "gelu")}


@dataclasses.dataclass
class TextEncoder:
    """One CLIP text tower, and which of its outputs conditions the UNet.

    Attributes:
        model: the tower; its projection is used for pooled embeddings only.
        hidden_layer: None for the last hidden state after the final norm, else a negative index
            of the layer whose output is taken (-2 is SDXL's and "clip skip 2").
        final_layer_norm: whether that layer's output passes the final norm (SD1.5 clip skip).
    """

    model: CLIPTextModelWithProjection
    hidden_layer: int | None
    final_layer_norm: bool


@dataclasses.dataclass
class BaseModel:
    """A frozen base model, ready to be trained on.

    Attributes:
        family: its family.
        layout: the skeleton of its UNet.
        unet: the UNet, frozen.
        text_encoders: one (SD1.5) or two (SDXL: CLIP-L, then CLIP-G) towers, frozen.
        prediction_type: what the UNet predicts, ``epsilon`` or ``v_prediction``.
        name: file name of the checkpoint where known, for the LoRA's metadata.
        alphas_cumprod: (1000,) its own noise schedule, see :mod:`.noise_schedule`; None where it
            is Stable Diffusion's.
    """

    family: Family
    layout: UNetLayout
    unet: UNet2DConditionModel
    text_encoders: tuple[TextEncoder, ...]
    prediction_type: str = "epsilon"
    name: str = ""
    alphas_cumprod: torch.Tensor | None = None

    @property
    def is_zero_terminal(self) -> bool:
        """Whether its schedule ends in noise alone (zero terminal SNR)."""
        return self.alphas_cumprod is not None and bool(self.alphas_cumprod[-1] < _NOISE_ALONE)

    @property
    def key(self) -> str:
        """Tell base models apart: by samples of the weights, and by what they predict of what."""
        weights = sampled_key(self.unet)
        if self.prediction_type == "epsilon" and self.alphas_cumprod is None:
            return weights
        own = b"" if self.alphas_cumprod is None else self.alphas_cumprod.numpy().tobytes()
        return content_key(weights, self.prediction_type, own)

    @property
    def device(self) -> torch.device:
        """Where the UNet lives."""
        return next(self.unet.parameters()).device


def build_unet(
    weights: Weights, called: str = ""
) -> tuple[UNet2DConditionModel, UNetLayout, Family]:
    """Build diffusers' UNet around original weights, without copying them.

    Args:
        weights: LDM parameters of the UNet, without ``model.diffusion_model.``; any dtype and
            device, all the same.
        called: what the loader calls the model, for the error of an unsupported family.

    Returns:
        The frozen UNet whose parameters are the given tensors, its layout and its family.

    Raises:
        CheckpointError: for an unsupported family or a damaged checkpoint.
    """
    from diffusers import UNet2DConditionModel

    shapes = {name: tuple(value.shape) for name, value in weights.items()}
    family = detect_family(shapes, called)
    layout = read_layout(shapes)
    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(shapes, layout, family))
    names = to_diffusers_names(layout, weights)
    _assign(unet, rename(weights, names), "UNet")
    unet.eval()
    return unet, layout, family


def unet_config(
    shapes: Mapping[str, tuple[int, ...]], layout: UNetLayout, family: Family
) -> dict[str, Any]:
    """Return the arguments of ``UNet2DConditionModel`` for an LDM UNet."""
    attends_down = [any(depths) for depths in layout.down_depths]
    attends_up = [any(depths) for depths in layout.up_depths]
    config: dict[str, Any] = {
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": layout.channels,
        "layers_per_block": layout.layers_per_block,
        "cross_attention_dim": family.context_dim,
        "down_block_types": tuple(
            "CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attends_down
        ),
        "up_block_types": tuple(
            "CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in attends_up
        ),
        "mid_block_type": "UNetMidBlock2DCrossAttn" if layout.mid_depth else "UNetMidBlock2D",
        # diffusers calls the number of heads attention_head_dim here.
        "attention_head_dim": _SD15_HEADS,
    }
    if family.is_xl:
        down = [list(depths) if any(depths) else 1 for depths in layout.down_depths]
        up = [list(depths) if any(depths) else 1 for depths in layout.up_depths]
        if layout.mid_depth:
            _check_mid_depth(layout)
        config |= {
            "attention_head_dim": tuple(c // _XL_HEAD_CHANNELS for c in layout.channels),
            "transformer_layers_per_block": down,
            "reverse_transformer_layers_per_block": up,
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": shapes["label_emb.0.0.weight"][1],
        }
    return config


def build_text_encoder(
    weights: Weights, *, hidden_layer: int | None, final_layer_norm: bool
) -> TextEncoder:
    """Build a transformers CLIP text tower around existing weights, without copying them.

    Args:
        weights: parameters named ``text_model.…`` and, where there is one,
            ``text_projection.weight``.
        hidden_layer: see :class:`TextEncoder`.
        final_layer_norm: see :class:`TextEncoder`.

    Raises:
        CheckpointError: when the tower is of no known size or incomplete.
    """
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    embedding = weights.get("text_model.embeddings.token_embedding.weight")
    if embedding is None or embedding.shape[1] not in _CLIP_TOWERS:
        raise CheckpointError(
            "The text encoder is not one of CLIP-L, OpenCLIP-H or OpenCLIP-bigG; "
            "load CLIP from the same checkpoint as MODEL."
        )
    width = embedding.shape[1]
    heads, activation = _CLIP_TOWERS[width]
    projection = weights.get("text_projection.weight")
    config = CLIPTextConfig(
        vocab_size=embedding.shape[0],
        hidden_size=width,
        intermediate_size=weights["text_model.encoder.layers.0.mlp.fc1.weight"].shape[0],
        projection_dim=width if projection is None else projection.shape[0],
        num_hidden_layers=_count_layers(weights),
        num_attention_heads=heads,
        hidden_act=activation,
        eos_token_id=END_TOKEN,
    )
    with torch.device("meta"):
        model = CLIPTextModelWithProjection(config)
    known = {name: weights[name] for name in model.state_dict() if name in weights}
    if projection is None:
        known["text_projection.weight"] = torch.eye(width).to(embedding)
    _assign(model, known, "text encoder")
    _restore_position_ids(model)
    model.eval()
    return TextEncoder(model, hidden_layer, final_layer_norm)


def share(tensor: torch.Tensor) -> torch.Tensor:
    """Return a normal tensor on the same memory, also for tensors made in inference mode.

    Autograd refuses to save inference tensors for a backward pass; a second view of the storage
    made outside inference mode is an ordinary tensor.
    """
    if not tensor.is_inference():
        return tensor.detach()
    with torch.inference_mode(False):
        fresh = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
        return fresh.set_(
            tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride()
        )


def _assign(module: torch.nn.Module, weights: Weights, what: str) -> None:
    """Make the given tensors the module's parameters, frozen and without a copy."""
    for value in weights.values():
        if not value.is_floating_point():
            raise packed(f"The {what} of this checkpoint", f"{value.dtype} numbers")
    with torch.inference_mode(False):
        shared = {name: share(value) for name, value in weights.items()}
        missing, unexpected = module.load_state_dict(shared, strict=False, assign=True)
    if missing or unexpected:
        problem = f"lacks {missing[0]}" if missing else f"has an unknown {unexpected[0]}"
        raise CheckpointError(
            f"The {what} of this checkpoint {problem} "
            f"({len(missing)} missing, {len(unexpected)} unknown); it may be damaged."
        )
    module.requires_grad_(False)


def _check_mid_depth(layout: UNetLayout) -> None:
    # diffusers builds the middle as deep as the first block of the coarsest level.
    if layout.mid_depth != layout.down_depths[-1][0]:
        raise CheckpointError(
            f"The UNet's middle is {layout.mid_depth} transformer blocks deep and its coarsest "
            f"level {layout.down_depths[-1][0]}; only equal depths are supported."
        )


def _count_layers(weights: Weights) -> int:
    marker = "text_model.encoder.layers."
    return 1 + max(int(name[len(marker) :].split(".")[0]) for name in _starting(weights, marker))


def _starting(weights: Weights, prefix: str) -> Iterator[str]:
    return (name for name in weights if name.startswith(prefix))


def _restore_position_ids(model: torch.nn.Module) -> None:
    """Fill the one buffer that is not a weight; building on the meta device left it empty."""
    for module in model.modules():
        if "position_ids" in module._buffers:
            positions: torch.nn.Embedding = module.get_submodule("position_embedding")  # type: ignore[assignment]
            module._buffers["position_ids"] = torch.arange(positions.num_embeddings)[None]
