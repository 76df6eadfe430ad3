"""What a step takes of the memory, counted on shapes alone: nothing is computed or allocated."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch.overrides import TorchFunctionMode

from ..model.checkpoint import BaseModel
from ..recipe.train import TrainRecipe
from .batches import Batch
from .predictor import Predictor

META = torch.device("meta")
# Of CLIP, for one chunk of a caption.
_TOKENS = 77


@dataclasses.dataclass
class Block:
    """A part of the UNet that gradient checkpointing recomputes; all in bytes.

    Attributes:
        inputs: what it was given and no block before it.
        kept: what autograd keeps of it beside that.
        after: what autograd keeps between it and the next block.
        gradients: of what is trained in it.
    """

    inputs: int = 0
    kept: int = 0
    after: int = 0
    gradients: int = 0


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """What one forward pass leaves for its backward pass, in bytes.

    Attributes:
        before: what autograd keeps of what comes before the first block.
        blocks: in the order of the forward pass.
        gradients: of everything that is trained.
        largest: the largest tensor that is kept; in the backward pass its gradient is beside it.
    """

    before: int
    blocks: tuple[Block, ...]
    gradients: int
    largest: int

    @property
    def kept(self) -> int:
        """What autograd keeps in all, without checkpointing."""
        return self.before + sum(block.inputs + block.kept + block.after for block in self.blocks)

    def peak(self, checkpointing: bool, *, gradients_stay: bool = False) -> int:
        """Return the most that is there at once: activations, and the gradients so far.

        Args:
            checkpointing: whether only the blocks' inputs are kept, and a block at a time
                recomputed.
            gradients_stay: whether earlier passes of the step left gradients.
        """
        recomputed = sum(block.kept for block in self.blocks) if checkpointing else 0
        held = self.kept - recomputed
        gradients = self.gradients if gradients_stay else 0
        most = held + gradients
        for block in reversed(self.blocks):
            held -= block.after
            most = max(most, held + gradients + (block.kept if checkpointing else 0))
            held -= block.inputs + (0 if checkpointing else block.kept)
            gradients += 0 if gradients_stay else block.gradients
        return max(most + self.largest, self.gradients)


def rehearse(
    base: BaseModel,
    recipe: TrainRecipe,
    dtype: torch.dtype,
    latents_size: tuple[int, int],
    pictures: int,
) -> StepMemory:
    """Count what a forward pass of a training leaves, by doing it on the meta device.

    It takes a second or two for SDXL, once for all trainings alike. The weights are set aside
    meanwhile, and none is touched.

    Args:
        base: with its LoRA layers, wherever it is; not yet stored as NF4.
        recipe: the loss, and what is trained.
        dtype: what is computed in.
        latents_size: (H/8, W/8) of the pictures.
        pictures: how many of them are in the pass.
    """
    models = (base.unet, *(encoder.model for encoder in base.text_encoders))
    how = (recipe.loss_type, recipe.min_snr_gamma > 0, recipe.trains_text_encoder, dtype)
    alike = (*map(_shape_of, models), base.prediction_type, *how, latents_size, pictures)
    if alike not in _REHEARSED:
        predictor = Predictor(base, recipe, META, dtype)
        batch = _batch(base, recipe, dtype, latents_size, pictures)
        _REHEARSED[alike] = _rehearse(predictor, batch, models)
    return _REHEARSED[alike]


_REHEARSED: dict[tuple[Any, ...], StepMemory] = {}
"""What was counted so far in this process."""


def _rehearse(
    predictor: Predictor, batch: Batch, models: tuple[torch.nn.Module, ...]
) -> StepMemory:
    predictor.base.unet.disable_gradient_checkpointing()
    with contextlib.ExitStack() as stack:
        for module in models:
            stack.enter_context(_on_meta(module, predictor.dtype))
        watch = stack.enter_context(_Watch(models))
        stack.enter_context(_FusedAttention())
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        batch = predictor.with_trained_prompts(batch)
        noise = torch.empty_like(batch.latents)
        predictor.loss(batch, noise, torch.zeros(len(batch), dtype=torch.long, device=META))
    return watch.found(sum(map(_gradient_bytes, models)))


def _shape_of(model: Any) -> tuple[Any, ...]:
    weights = ((name, value.shape, value.requires_grad) for name, value in model.named_parameters())
    return str(model.config), *weights


def _batch(
    base: BaseModel,
    recipe: TrainRecipe,
    dtype: torch.dtype,
    latents_size: tuple[int, int],
    pictures: int,
) -> Batch:
    def empty(*shape: int, dtype: torch.dtype = dtype) -> torch.Tensor:
        return torch.empty(pictures, *shape, dtype=dtype, device=META)

    config: Any = base.unet.config
    pooled = time_ids = tokens = None
    if base.family.is_xl:
        sizes = 6 * config.addition_time_embed_dim
        pooled = empty(config.projection_class_embeddings_input_dim - sizes)
        time_ids = empty(6, dtype=torch.float32)
    if recipe.trains_text_encoder:
        ids = torch.zeros(1, _TOKENS, dtype=torch.long, device=META)
        tokens = [(ids,) * len(base.text_encoders)] * pictures
    latents = empty(4, *latents_size, dtype=torch.float32)
    prompts = empty(_TOKENS, config.cross_attention_dim)
    return Batch(latents, prompts, None, pooled, time_ids, tokens)


@contextlib.contextmanager
def _on_meta(model: torch.nn.Module, dtype: torch.dtype) -> Iterator[None]:
    """Let a model's weights be shapes for a while; what is frozen is in ``dtype``."""

    def shape_of(value: torch.Tensor) -> torch.Tensor:
        frozen = value.is_floating_point() and not value.requires_grad
        shape = torch.empty_like(value, device=META, dtype=dtype if frozen else value.dtype)
        return (
            torch.nn.Parameter(shape, value.requires_grad)
            if frozen or value.requires_grad
            else shape
        )

    before = [
        (store, dict(store))
        for module in model.modules()
        for store in (module._parameters, module._buffers)
    ]
    try:
        for store, values in before:
            for name, value in values.items():
                if value is not None:
                    store[name] = shape_of(value)  # type: ignore[assignment]
        yield
    finally:
        for store, values in before:
            store.update(values)  # type: ignore[arg-type]


class _FusedAttention(TorchFunctionMode):
    """Attention as every device does it: queries, keys, values and result are kept, no weights.

    On the meta device torch would take the plain formula, which keeps all weights.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        query, key, value = args[:3]
        mask, causal = kwargs.get("attn_mask"), kwargs.get("is_causal", False)
        return torch.ops.aten._scaled_dot_product_efficient_attention(
            query, key, value, mask, True, 0.0, causal
        )[0]


class _Watch(contextlib.ExitStack):
    """Counts what autograd keeps, and in which block; every storage once, weights never."""

    def __init__(self, models: Iterable[torch.nn.Module]) -> None:
        super().__init__()
        self._models = tuple(models)
        self._known: dict[int, torch.UntypedStorage] = {}
        self._before = self._largest = 0
        self._blocks: list[Block] = []
        self._in_block = False

    def __enter__(self) -> _Watch:
        from diffusers.models.attention import BasicTransformerBlock
        from diffusers.models.resnet import ResnetBlock2D

        super().__enter__()
        for model in self._models:
            for value in model.parameters():
                self._is_new(value)
            for module in model.modules():
                # What diffusers' UNets recompute, each by itself.
                if isinstance(module, (BasicTransformerBlock, ResnetBlock2D)):
                    begin = module.register_forward_pre_hook(self._begin, with_kwargs=True)
                    end = module.register_forward_hook(self._end)
                    self.callback(begin.remove)
                    self.callback(end.remove)
        self.enter_context(torch.autograd.graph.saved_tensors_hooks(self._count, _no_backward))
        return self

    def found(self, gradients: int) -> StepMemory:
        """Return what was counted."""
        return StepMemory(self._before, tuple(self._blocks), gradients, self._largest)

    def _is_new(self, value: torch.Tensor) -> bool:
        storage = value.untyped_storage()
        if storage._cdata in self._known:
            return False
        self._known[storage._cdata] = storage  # held, so that none takes its place
        return True

    def _count(self, value: torch.Tensor) -> None:
        # A tensor handed on would close a circle through C++ that is never freed, models and all.
        if self._is_new(value):
            size = value.untyped_storage().nbytes()
            self._largest = max(self._largest, size)
            if self._in_block:
                self._blocks[-1].kept += size
            elif self._blocks:
                self._blocks[-1].after += size
            else:
                self._before += size

    def _begin(self, module: torch.nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        block = Block(gradients=_gradient_bytes(module))
        for value in (*args, *kwargs.values()):
            if isinstance(value, torch.Tensor) and self._is_new(value):
                # With checkpointing or without, it is there until the block's backward pass.
                block.inputs += value.untyped_storage().nbytes()
        self._blocks.append(block)
        self._in_block = True

    def _end(self, *_: Any) -> None:
        self._in_block = False


def _no_backward(_: None) -> torch.Tensor:
    raise RuntimeError("a rehearsal has no backward pass")


def _gradient_bytes(module: torch.nn.Module) -> int:
    return sum(value.numel() * 4 for value in module.parameters() if value.requires_grad)
