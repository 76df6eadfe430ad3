"""Samples the pictures of a grid with the host's own sampler."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import comfy.sample
import numpy as np
import torch

import nodes as host_nodes

from ...glitch_train.errors import GridError
from ...glitch_train.grid.plan import GridPlan, GridRecipe, Shot
from ...glitch_train.model.tensor_file import TensorFile
from .. import host

Models = tuple[Any, Any]
"""MODEL and CLIP."""

Picture = np.ndarray
"""(height, width, 3) uint8."""


def pictures(
    plan: GridPlan,
    base: Models,
    loras: Mapping[str, Callable[[], Any]],
    patched: Mapping[str, Models],
    vae: Any,
    on_step: Callable[[int, int], None],
) -> Iterator[tuple[Shot, Picture]]:
    """Yield every picture of a plan, each as KSampler, VAE Decode and Save Image would make it.

    A LoRA is read and patched once per strength, a prompt encoded once per patched CLIP, and what
    grids before drew of the same base is taken from them.

    Args:
        plan: what to sample.
        base: the models without a LoRA.
        loras: variant's name to what reads its LoRA.
        patched: variant's name to models that are sampled as they are.
        vae: decodes.
        on_step: called with (pictures done, sampling steps done in the next one); it may raise.
    """
    recipe = plan.recipe
    drawn = _base_pictures.of([*base, vae], recipe)
    done = 0
    for name, of_lora in itertools.groupby(plan.shots(), key=lambda shot: shot.lora):
        state = loras[name]() if name in loras else None
        for strength, group in itertools.groupby(of_lora, key=lambda shot: shot.strength):
            models = patched.get(name or "", base)
            if state is not None:
                clip_strength = strength if recipe.patch_clip else 0.0
                models = host.with_lora(*models, state, strength, clip_strength)
            encode = _Encoder(models[1])
            shots = list(group)
            before = drawn if models is base else {}
            missing = [shot for shot in shots if shot not in before]
            for text in dict.fromkeys(
                text for shot in missing for text in (recipe.negative, shot.prompt)
            ):
                on_step(done, 0)
                encode(text)
            for shot in shots:
                on_step(done, 0)
                picture = before.get(shot)
                if picture is None:
                    conditions = encode(shot.prompt), encode(recipe.negative)
                    latent = _sampled(models[0], *conditions, shot, recipe, done, on_step)
                    picture = _decoded(vae, latent)
                    if models is base:
                        _base_pictures.add(shot, picture)
                yield shot, picture
                done += 1


class _BasePictures:
    """What grids drew last of one base, while the host still holds the very same models."""

    MOST_BYTES = 256 << 20

    def __init__(self) -> None:
        self._drawn_with: tuple[Any, ...] = ()
        self._pictures: dict[Shot, Picture] = {}

    def of(self, models: Sequence[Any], recipe: GridRecipe) -> Mapping[Shot, Picture]:
        """Return what was drawn with these objects, none of them changed, and these settings."""
        patched = [getattr(getattr(one, "patcher", one), "patches_uuid", None) for one in models]
        sampling = (recipe.negative, recipe.sampler_name, recipe.scheduler, recipe.denoise)
        drawn_with = (*map(weakref.ref, models), *patched, *sampling)
        if drawn_with != self._drawn_with:
            self._drawn_with, self._pictures = drawn_with, {}
        return self._pictures

    def add(self, shot: Shot, picture: Picture) -> None:
        """Keep a picture, and let go of the oldest where there is no room."""
        self._pictures[shot] = picture
        while sum(one.nbytes for one in self._pictures.values()) > self.MOST_BYTES:
            del self._pictures[next(iter(self._pictures))]


_base_pictures = _BasePictures()


class _Encoder:
    """Encodes each text once."""

    def __init__(self, clip: Any) -> None:
        self._clip = clip
        self._known: dict[str, Any] = {}

    def __call__(self, text: str) -> Any:
        if text not in self._known:
            self._known[text] = host_nodes.CLIPTextEncode().encode(self._clip, text)[0]
        return self._known[text]


def _sampled(
    model: Any,
    positive: Any,
    negative: Any,
    shot: Shot,
    recipe: GridRecipe,
    done: int,
    on_step: Callable[[int, int], None],
) -> torch.Tensor:
    """Do what the host's ``common_ksampler`` does, with the grid's progress in place of its own."""
    latent = host_nodes.EmptyLatentImage().generate(*shot.size)[0]["samples"]
    latent = comfy.sample.fix_empty_latent_channels(model, latent)
    return comfy.sample.sample(
        model,
        comfy.sample.prepare_noise(latent, shot.seed),
        shot.steps,
        shot.cfg,
        recipe.sampler_name,
        recipe.scheduler,
        positive,
        negative,
        latent,
        denoise=recipe.denoise,
        callback=lambda step, *_: on_step(done, step + 1),
        disable_pbar=True,
        seed=shot.seed,
    )


def _decoded(vae: Any, latent: torch.Tensor) -> Picture:
    image = host_nodes.VAEDecode().decode(vae, {"samples": latent})[0][0]
    # As Save Image rounds: down, not to the nearest.
    return np.clip(255.0 * image.cpu().numpy(), 0, 255).astype(np.uint8)


def refuse_strangers(files: Mapping[str, Path], model: Any, clip: Any) -> None:
    """Refuse LoRA files of which the host's loader would apply nothing, and only log it.

    Args:
        files: what a file is called to where it lies.
        model: MODEL.
        clip: CLIP.

    Raises:
        GridError: names the first.
    """
    import comfy.lora

    if not files:
        return
    names = comfy.lora.model_lora_keys_unet(model.model, {})
    names = comfy.lora.model_lora_keys_clip(clip.cond_stage_model, names)
    for called, path in files.items():
        if not any(stem in names for key in TensorFile(path) for stem in _stems(key)):
            raise GridError(
                f"{called} names no module that ComfyUI's loader knows in this model, so all its "
                "pictures would be the base model's; carry it over with the Cross-Model LoRA "
                "Applier first, or choose another file."
            )


def _stems(key: str) -> Iterator[str]:
    """Yield what may be a module's name in a key, whatever factor follows it."""
    pieces = key.split(".")
    for end in range(1, len(pieces)):
        yield ".".join(pieces[:end]).removesuffix("_lora")
