"""`python -m pocket_maker`: train the pocket checkpoint's weights anew, and pack them.

    python -m pocket_maker WORK autoencoder
    python -m pocket_maker WORK decoder
    python -m pocket_maker WORK unet --tokenizer COMFYUI/comfy/sd1_tokenizer
    python -m pocket_maker WORK pack

Each goes on where it was stopped. `pack` replaces tools/glitch_demo/pocket_weights.safetensors and
prints the checksum for glitch_demo/pocket_weights.py.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from glitch_demo.photos import demo_photos
from glitch_demo.pocket import SEED
from glitch_demo.pocket_text import clip_l_weights
from glitch_demo.pocket_unet import PocketUNet
from glitch_demo.pocket_weights import BASIS, NARROW_SHAPE, WEIGHTS, quantised

from .autoencoder import autoencoder, train_autoencoder
from .prompts import prompt_embeddings
from .state import averaged
from .unet import context_basis, latent_bank, train_unet


def main(arguments: list[str] | None = None) -> None:
    """Run one stage.

    Args:
        arguments: the command line without the program's name; `sys.argv` if None.
    """
    parser = argparse.ArgumentParser(prog="python -m pocket_maker", description=__doc__)
    parser.add_argument("work", type=Path, help="folder for what is half done")
    parser.add_argument("stage", choices=("autoencoder", "decoder", "unet", "pack"))
    parser.add_argument("--tokenizer", type=Path, help="folder of CLIP's tokenizer, for unet")
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    first, decoder, unet, prompts = (
        options.work / f"{name}.pt" for name in ("autoencoder", "decoder", "unet", "prompts")
    )
    photos = demo_photos()
    if options.stage == "autoencoder":
        train_autoencoder(photos, first)
    elif options.stage == "decoder":
        train_autoencoder(photos, decoder, keep_encoder_of=first)
    elif options.stage == "unet":
        if not prompts.exists():
            captions = [*(photo.caption for photo in photos), ""]
            torch.save(
                prompt_embeddings(captions, options.tokenizer, clip_l_weights(SEED)), prompts
            )
        embeddings = torch.load(prompts)
        encoder = averaged(autoencoder(), first)["encoder"]
        bank = latent_bank(encoder, photos)
        train_unet(bank, embeddings @ context_basis(embeddings).T, unet)
    else:
        weights: dict[str, Tensor] = {BASIS: context_basis(torch.load(prompts))}
        weights |= averaged(autoencoder(), decoder).state_dict()
        narrow = averaged(PocketUNet(NARROW_SHAPE), unet).state_dict()
        weights |= {f"unet.{name}": weight for name, weight in narrow.items()}
        save_file(
            {name: weight.contiguous() for name, weight in quantised(weights).items()}, WEIGHTS
        )
        sys.stdout.write(hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() + "\n")


if __name__ == "__main__":
    main()
