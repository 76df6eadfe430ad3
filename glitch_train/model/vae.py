"""The VAE inside a checkpoint file: pictures become latents, and latents pictures."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from ..cache import weights_key
from ..errors import CheckpointError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL, AutoencoderTiny

Weights = Mapping[str, torch.Tensor]


class FileVae:
    """A frozen VAE; it works in fp32, because SDXL's overflows in fp16.

    Attributes:
        key: identifies its weights, for the cache.
    """

    def __init__(self, weights: Weights, latent_scale: float, device: torch.device) -> None:
        """Build the VAE around a checkpoint's weights.

        Args:
            weights: below ``first_stage_model.``: AutoencoderKL in the LDM layout, or TAESD as
                ``taesd_encoder.*`` and ``taesd_decoder.*``.
            latent_scale: the family's factor on the VAE's latents.
            device: where it works; it is moved there when it is first used.

        Raises:
            CheckpointError: when the weights are of neither kind or incomplete.
        """
        self.key = weights_key(weights)
        self._device = device
        self._scale, self._shift = latent_scale, 0.0
        self._vae: AutoencoderKL | AutoencoderTiny
        if "taesd_encoder.0.weight" in weights:
            self._vae = _tiny_vae(weights)
            # TAESD speaks in scaled latents already; its own scale says what it left undone.
            self._scale /= float(weights.get("vae_scale", torch.tensor(1.0)))
            self._shift = latent_scale * float(weights.get("vae_shift", torch.tensor(0.0)))
        else:
            self._vae = _kl_vae(weights)

    def encode(self, image: Image.Image) -> torch.Tensor:
        """Return a picture's latents, the mean of what the VAE allows.

        Args:
            image: RGB, sides multiples of 8.

        Returns:
            (4, H/8, W/8) fp32 on the CPU, scaled by the family's latent scale.
        """
        pixels = torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255.0)
        with torch.inference_mode(False), torch.no_grad():
            vae = self._vae.to(self._device)
            encoded = vae.encode((pixels.permute(2, 0, 1)[None] * 2 - 1).to(self._device))
            latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
            return (latents[0] * self._scale + self._shift).cpu()

    def decode(self, latents: torch.Tensor) -> Image.Image:
        """Return the picture of latents.

        Args:
            latents: (4, H/8, W/8), scaled by the family's latent scale.

        Returns:
            RGB, H × W pixels.
        """
        with torch.inference_mode(False), torch.no_grad():
            vae = self._vae.to(self._device)
            unscaled = (latents[None].to(self._device, torch.float32) - self._shift) / self._scale
            pixels = vae.decode(unscaled).sample[0].clamp(-1, 1).add(1).mul(127.5).round()
            return Image.fromarray(pixels.byte().permute(1, 2, 0).cpu().numpy())

    def leave_device(self) -> None:
        """Go back to the CPU; the next picture brings it back."""
        self._vae.to("cpu")


def _tiny_vae(weights: Weights) -> AutoencoderTiny:
    """Build diffusers' TAESD. Source of the names: madebyollin/taesd, taesd.py."""
    from diffusers import AutoencoderTiny

    renamed = {}
    for name, value in weights.items():
        part, _, rest = name.partition(".")
        number, _, leaf = rest.partition(".")
        if part == "taesd_encoder":
            renamed[f"encoder.layers.{rest}"] = value
        elif part == "taesd_decoder":  # its layer 0 is a clamp, which diffusers keeps elsewhere
            renamed[f"decoder.layers.{int(number) - 1}.{leaf}"] = value
    return _filled(AutoencoderTiny(), renamed)


def _kl_vae(weights: Weights) -> AutoencoderKL:
    from diffusers import AutoencoderKL
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    config = _kl_config(weights)
    return _filled(AutoencoderKL(**config), convert_ldm_vae_checkpoint(dict(weights), config))


def _kl_config(weights: Weights) -> dict[str, Any]:
    """Read the layout off the weights, as the UNet's is."""
    blocks = [re.match(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv1\.weight$", n) for n in weights]
    found = [(int(match[1]), int(match[2])) for match in blocks if match]
    latents = weights.get("decoder.conv_in.weight")
    if not found or latents is None or latents.shape[1] != 4:
        raise CheckpointError(
            "This checkpoint holds no VAE with 4 latent channels (first_stage_model); use a whole "
            "checkpoint with UNet, text encoders and VAE."
        )
    levels, layers = 1 + max(level for level, _ in found), 1 + max(block for _, block in found)
    channels = [
        weights[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)
    ]
    return {
        "block_out_channels": tuple(channels),
        "layers_per_block": layers,
        "down_block_types": ("DownEncoderBlock2D",) * levels,
        "up_block_types": ("UpDecoderBlock2D",) * levels,
        "latent_channels": 4,
    }


def _filled(vae: Any, weights: Weights) -> Any:
    missing, _ = vae.load_state_dict(
        {name: value.float() for name, value in weights.items()}, strict=False, assign=True
    )
    if missing:
        raise CheckpointError(
            f"The VAE of this checkpoint lacks {missing[0]} ({len(missing)} missing); it may be "
            "damaged."
        )
    return vae.eval().requires_grad_(False)
