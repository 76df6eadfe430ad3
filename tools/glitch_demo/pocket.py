"""Pocket checkpoints: complete, tiny Stable Diffusion models for a demo without downloads.

`pocket_sd15` draws the demo's photographs for their captions, each seed another crop of them; its
weights ship with the demo. `pocket_sdxl` has the SDXL family's shape and an untrained UNet. Hosts
load both as what they are shaped like. Built once, then kept in the cache folder.

    python -m glitch_demo.pocket sd15
"""

import argparse
import hashlib
import json
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from filelock import FileLock
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from glitch_demo.cache_folder import cache_folder
from glitch_demo.pocket_text import clip_l_weights, open_clip_g_weights
from glitch_demo.pocket_unet import (
    CHANNELS,
    GROUP_WIDTH,
    LATENT_CHANNELS,
    SD15_SHAPE,
    SDXL_SHAPE,
    PocketUNet,
)
from glitch_demo.pocket_vae import make_decoder, make_encoder, vae_state
from glitch_demo.pocket_weights import BASIS, FAINT, for_prompts, part, shipped_weights, widen

OnProgress = Callable[[str, float], None]
"""Called with the name of the stage and how much of it is done, 0 to 1."""
Build = Callable[[OnProgress], dict[str, Tensor]]

SEED = 20240607
SD15_LATENT_SCALE, SDXL_LATENT_SCALE = 0.18215, 0.13025
# Raise a recipe's number whenever its weights would come out differently: old files are rebuilt.
SD15_RECIPE, SDXL_RECIPE = 5, 4
# Not zero, or a LoRA would get no gradient.
SDXL_OUTPUT_STD = 0.01
HASH_CHUNK_BYTES = 1 << 22


def pocket_sd15(cache_dir: Path | None = None, on_progress: OnProgress | None = None) -> Path:
    """Return a checkpoint of SD1.5's layout that draws the demo's photographs.

    Args:
        cache_dir: where it is kept; the user's cache folder if None.
        on_progress: told the stage and its fraction done, while building.

    Returns:
        Path of the .safetensors file, built if it was missing, damaged or of an older recipe.
    """
    return cached_checkpoint("pocket_sd15", SD15_RECIPE, build_sd15, cache_dir, on_progress)


def pocket_sdxl(cache_dir: Path | None = None, on_progress: OnProgress | None = None) -> Path:
    """Return an untrained checkpoint of the SDXL family's layout.

    Args:
        cache_dir: where it is kept; the user's cache folder if None.
        on_progress: told the stage and its fraction done, while building.

    Returns:
        Path of the .safetensors file, built if it was missing, damaged or of an older recipe.
    """
    return cached_checkpoint("pocket_sdxl", SDXL_RECIPE, build_sdxl, cache_dir, on_progress)


def cached_checkpoint(
    name: str,
    recipe: int,
    build: Build,
    cache_dir: Path | None = None,
    on_progress: OnProgress | None = None,
) -> Path:
    """Return a cached checkpoint, building it unless a sound one of this recipe is there.

    Args:
        name: file name without suffix.
        recipe: number of the way it is built, noted beside the file.
        build: makes the state dict.
        cache_dir: where it is kept; the user's cache folder if None.
        on_progress: passed on to `build`.

    Returns:
        Path of the .safetensors file; `.json` beside it holds its sha256 and recipe.
    """
    folder = cache_folder() if cache_dir is None else Path(cache_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    with FileLock(folder / f".{name}.lock"):  # a second process waits, and finds it built
        return _found_or_built(path, recipe, build, on_progress or _ignore_progress)


def _found_or_built(path: Path, recipe: int, build: Build, on_progress: OnProgress) -> Path:
    note = path.with_suffix(".json")
    if _is_sound(path, note, recipe):
        return path
    state = build(on_progress)
    unfinished = path.with_name(f".{path.stem}.unfinished")
    try:
        save_file({key: t.contiguous() for key, t in state.items()}, unfinished)
        digest = _sha256(unfinished)
        note.unlink(missing_ok=True)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
    note.write_text(json.dumps({"sha256": digest, "recipe": recipe}) + "\n", encoding="utf-8")
    return path


def build_sd15(on_progress: OnProgress) -> dict[str, Tensor]:
    """Put the SD1.5 pocket checkpoint together from the shipped weights.

    Args:
        on_progress: told the stage and its fraction done.

    Returns:
        The whole checkpoint under its original names, fp16.
    """
    on_progress("drawing weights", 0.0)
    text = clip_l_weights(SEED)
    on_progress("unpacking weights", 0.5)
    weights = shipped_weights()
    unet = PocketUNet(SD15_SHAPE)
    widen(unet, for_prompts(part(weights, "unet."), weights[BASIS]), FAINT)
    autoencoder = shipped_autoencoder(weights)
    on_progress("unpacking weights", 1.0)
    return {
        **_prefixed("model.diffusion_model", unet.state_dict()),
        **_prefixed("cond_stage_model.transformer", text),
        **_prefixed("first_stage_model", vae_state(*autoencoder, SD15_LATENT_SCALE)),
    }


def build_sdxl(on_progress: OnProgress) -> dict[str, Tensor]:
    """Draw the SDXL-family pocket checkpoint: its UNet takes all of its input for noise.

    Args:
        on_progress: told the stage and its fraction done.

    Returns:
        The whole checkpoint under its original names, fp16.
    """
    on_progress("drawing weights", 0.0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        unet = PocketUNet(SDXL_SHAPE)
        take_input_for_noise(unet)
    text_l = clip_l_weights(SEED)
    on_progress("drawing weights", 0.2)
    text_g = open_clip_g_weights(SEED)
    autoencoder = shipped_autoencoder(shipped_weights())
    on_progress("drawing weights", 1.0)
    return {
        **_prefixed("model.diffusion_model", unet.state_dict()),
        **_prefixed("conditioner.embedders.0.transformer", text_l),
        **_prefixed("conditioner.embedders.1.model", text_g),
        **_prefixed("first_stage_model", vae_state(*autoencoder, SDXL_LATENT_SCALE)),
    }


def shipped_autoencoder(weights: Mapping[str, Tensor]) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the shipped encoder and decoder, as wide as hosts expect them.

    Args:
        weights: from `shipped_weights`.
    """
    encoder, decoder = make_encoder(), make_decoder()
    widen(encoder, part(weights, "encoder."))
    widen(decoder, part(weights, "decoder."))
    return encoder, decoder


@torch.no_grad()
def take_input_for_noise(unet: PocketUNet) -> None:
    """Let an untrained UNet predict its input, at unit variance, and a little of everything else.

    A group of channels carries x and -x from the first convolution over the last skip to the last
    norm; silu(x) - silu(-x) = x. Right at high noise, wrong at low, and it does not blow up.

    Args:
        unet: freshly made; changed in place. Draws from the global random generator.
    """
    pairs, group = 2 * LATENT_CHANNELS, slice(GROUP_WIDTH)
    eye = torch.eye(LATENT_CHANNELS)
    signs = torch.cat([eye, -eye])
    entry, last_block, last = unet.input_blocks[0][0], unet.output_blocks[-1][0], unet.out[2]
    entry.weight[group], entry.bias[group] = 0.0, 0.0
    entry.weight[:pairs, :, 1, 1] = signs
    skip = last_block.skip_connection
    skip.weight[group], skip.bias[group] = 0.0, 0.0
    skip.weight[group, CHANNELS : CHANNELS + GROUP_WIDTH, 0, 0] = torch.eye(GROUP_WIDTH)
    last_block.out_layers[3].weight[group], last_block.out_layers[3].bias[group] = 0.0, 0.0
    nn.init.normal_(last.weight, std=SDXL_OUTPUT_STD)
    last.weight[:, group] = 0.0
    # Two of the group's ten channels are zero: its norm makes the others too large by 10 / 8.
    last.weight[:, :pairs, 1, 1] = signs.T * math.sqrt(pairs / GROUP_WIDTH)
    last.bias.zero_()


def _prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{key}": tensor.half() for key, tensor in state.items()}


def _is_sound(path: Path, note: Path, recipe: int) -> bool:
    """Whether the file is there, of this recipe, and byte for byte what was written."""
    try:
        noted = json.loads(note.read_text(encoding="utf-8"))
        return noted == {"sha256": _sha256(path), "recipe": recipe}
    except (FileNotFoundError, ValueError):
        return False


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(HASH_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _ignore_progress(stage: str, fraction: float) -> None:
    """Progress that nobody watches."""


def main(arguments: list[str] | None = None) -> None:
    """Build a pocket checkpoint from the command line and write its path to standard output.

    Args:
        arguments: command line without the program's name; `sys.argv` if None.
    """
    builders = {"sd15": pocket_sd15, "sdxl": pocket_sdxl}
    parser = argparse.ArgumentParser(prog="python -m glitch_demo.pocket", description=__doc__)
    parser.add_argument("family", choices=sorted(builders), help="which checkpoint to build")
    parser.add_argument("--cache-dir", type=Path, help="where to keep it; default: user's cache")
    options = parser.parse_args(arguments)
    with tqdm(total=100, unit="%", leave=False) as bar:

        def show(stage: str, fraction: float) -> None:
            bar.set_description(stage, refresh=False)
            bar.n = round(100 * fraction)
            bar.refresh()

        path = builders[options.family](options.cache_dir, show)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
