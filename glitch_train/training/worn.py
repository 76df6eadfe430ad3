"""A base model that wears a LoRA of this pack, and the pictures it draws, without a host."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from PIL import Image

from ..cache import KeptTensors, TensorCache
from ..errors import GridError
from ..grid.plan import GridPlan, GridRecipe, Shot
from ..lora.file import from_kohya
from ..lora.layers import without_lora
from ..model.checkpoint_file import load_checkpoint
from ..model.tensor_file import TensorFile
from ..recipe.recipe import Recipe
from ..recipe.train import SAMPLERS
from .base_storage import store_base
from .devices import resolve_precision
from .encode import encode_captions, encode_prompt
from .inject import inject
from .memory import free_unused
from .predictor import Predictor
from .sampling import Drawing, drawn


def sampler_of(grid: GridRecipe) -> str:
    """Return the sampler, as a recipe's ``sample_sampler`` calls it, that a grid asks for.

    Raises:
        GridError: the grid asks for what only a host can draw.
    """
    schedule = "" if grid.scheduler == "normal" else f"_{grid.scheduler}"
    name = f"{grid.sampler_name}{schedule}"
    if name not in SAMPLERS:
        raise GridError(
            f"sampler_name {grid.sampler_name} with scheduler {grid.scheduler} needs ComfyUI; "
            "without a host choose dpmpp_2m with normal or karras, or euler with normal."
        )
    if grid.denoise != 1:
        raise GridError(
            f"denoise is {grid.denoise:g}, which needs ComfyUI; without a host it is 1."
        )
    return name


class WornModel:
    """A base model with a LoRA in it, which can be left out.

    It computes as the training did, so that its pictures are the run's sample pictures where the
    file holds the factors unrounded.
    """

    def __init__(
        self,
        recipe: Recipe,
        lora: Path,
        texts: Sequence[str],
        device: torch.device,
        cache: Path,
    ) -> None:
        """Read the base model and put the LoRA into it.

        Args:
            recipe: that of the LoRA; names its checkpoint.
            lora: the file.
            texts: every prompt that will be asked for.
            device: where to compute.
            cache: where prompt embeddings are kept.

        Raises:
            GlitchTrainError: says which file cannot be used, and why.
        """
        train = recipe.train
        self._base, self._encoders = load_checkpoint(Path(recipe.checkpoint), device)
        self._device, self._cache = device, KeptTensors(cache)
        towers = self._base.text_encoders
        self._keys = dict(
            encode_captions(
                dict.fromkeys(texts), self._encoders.tokenize, towers, TensorCache(cache), device
            )
        )
        self._has_text = train.trains_text_encoder
        if not self._has_text:
            self._base.text_encoders = ()
        dtype = resolve_precision(train.precision, device)
        with torch.inference_mode(False):
            if train.base_precision == "as precision":
                torch.nn.Module.to(self._base.unet, device=device, dtype=dtype)
            self._lora = inject(self._base, train, device, dtype)
            if train.base_precision != "as precision":
                store_base(self._base.unet, train.base_precision, device, dtype)
        self._file = TensorFile(lora)
        self._predictor = Predictor(self._base, train, device, dtype)
        self._strength = 0.0
        self._wear(1.0)

    def pictures(
        self, plan: GridPlan, on_step: Callable[[int, int], object] = lambda done, total: None
    ) -> Iterator[tuple[Shot, Image.Image]]:
        """Yield every picture of a plan whose one variant is this LoRA.

        Args:
            plan: what to draw.
            on_step: called with (denoising steps done, total) after each; it may raise.
        """
        shots = plan.shots()
        total = sum(shot.steps for shot in shots)
        done = itertools.count(1)
        for shot in shots:
            self._wear(1.0 if shot.strength is None else shot.strength)
            with self._as_worn(bare=shot.lora is None, bare_text=not plan.recipe.patch_clip):
                for latents in self._drawn(shot, plan.recipe):
                    on_step(next(done), total)
                    last = latents
            yield shot, self._encoders.decode_picture(last)
        self._encoders.leave_device()
        free_unused(self._device)

    def embedding(self, text: str, *, bare: bool) -> torch.Tensor:
        """Return a prompt as the UNet sees it, (77 · chunks, C), with or without the LoRA."""
        if not self._has_text:
            return self._cache.load(self._keys[text])["prompt_embeds"]
        chunks = self._encoders.tokenize(text)
        with self._as_worn(bare=bare), torch.no_grad():
            return encode_prompt(self._base.text_encoders, chunks).prompt_embeds.float().cpu()

    def _wear(self, strength: float) -> None:
        if strength != self._strength:
            from_kohya(self._lora, self._base, self._file, strength)
            self._strength = strength

    @contextlib.contextmanager
    def _as_worn(self, *, bare: bool, bare_text: bool = False) -> Iterator[None]:
        towers = [encoder.model for encoder in self._base.text_encoders]
        left_out = [*([self._base.unet] if bare else []), *(towers if bare or bare_text else [])]
        with without_lora(*left_out):
            yield

    def _drawn(self, shot: Shot, recipe: GridRecipe) -> Iterator[torch.Tensor]:
        drawing = Drawing(
            prompt_key=self._keys[shot.prompt],
            negative_key=self._keys[recipe.negative],
            size=shot.size,
            seed=shot.seed,
            sampler=sampler_of(recipe),
            steps=shot.steps,
            cfg=shot.cfg,
        )
        return drawn(self._predictor, drawing, self._cache, with_tokens=self._has_text)
