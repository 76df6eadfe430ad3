"""The order of the pictures, and one batch at a time from the caches."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from ..cache import TensorCache
from ..model.encoders import TokenChunks
from ..seeds import generator
from .items import CaptionDropout, TrainingItem


@dataclasses.dataclass
class Batch:
    """What one forward pass needs, on the CPU, fp32.

    Attributes:
        latents: (B, 4, H/8, W/8).
        prompt_embeds: (B, T, C), shorter captions padded with zeros.
        prompt_mask: (B, T), 1 for tokens and 0 for padding; None when nothing is padded.
        pooled_prompt_embeds: (B, P) for SDXL, else None.
        add_time_ids: (B, 6) for SDXL, else None.
        tokens: per picture the token ids (chunks, 77) of each text encoder; None unless the text
            encoders are trained.
        loss_mask: (B, 1, H/8, W/8), 1 where a picture counts in the loss and 0 where it does not;
            None where all of them count whole.
    """

    latents: torch.Tensor
    prompt_embeds: torch.Tensor
    prompt_mask: torch.Tensor | None
    pooled_prompt_embeds: torch.Tensor | None
    add_time_ids: torch.Tensor | None
    tokens: list[TokenChunks] | None = None
    loss_mask: torch.Tensor | None = None

    def rows(self, chosen: slice) -> Batch:
        """Return some of the batch's samples."""

        def some(value: torch.Tensor | None) -> torch.Tensor | None:
            return None if value is None else value[chosen]

        return Batch(
            self.latents[chosen],
            self.prompt_embeds[chosen],
            some(self.prompt_mask),
            some(self.pooled_prompt_embeds),
            some(self.add_time_ids),
            None if self.tokens is None else self.tokens[chosen],
            some(self.loss_mask),
        )

    def __len__(self) -> int:
        return len(self.latents)

    def cut(self, size: int) -> Iterator[tuple[slice, Batch]]:
        """Yield the batch in parts of at most ``size`` pictures, each with its place."""
        for start in range(0, len(self), size):
            place = slice(start, start + size)
            yield place, self.rows(place)

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return the batch on a device, features in ``dtype``.

        Latents and mask stay fp32, and so do SDXL's sizes: they are numbers that are embedded
        first, and bf16 has no 1365, only 1368.
        """

        def move(value: torch.Tensor | None, dtype: torch.dtype = dtype) -> torch.Tensor | None:
            return None if value is None else value.to(device, dtype, non_blocking=True)

        return Batch(
            self.latents.to(device, non_blocking=True),
            self.prompt_embeds.to(device, dtype, non_blocking=True),
            move(self.prompt_mask),
            move(self.pooled_prompt_embeds),
            move(self.add_time_ids, torch.float32),
            self.tokens,
            move(self.loss_mask, torch.float32),
        )


class BatchSource:
    """An endless stream of batches: an epoch has every picture ``repeats`` times, shuffled.

    In a mix each part has its own number of samples an epoch, and shows its pictures in turn, over
    the epochs' ends. A picture's variants are taken in turns. Pictures of one size share a batch;
    the last batch of a size may be smaller, as in kohya's buckets.
    """

    def __init__(
        self,
        items: Sequence[TrainingItem],
        latents: TensorCache,
        prompts: TensorCache,
        *,
        batch_size: int,
        repeats: int,
        seed: int,
        dropout: CaptionDropout | None = None,
        with_tokens: bool = False,
        per_epoch: Mapping[int, int] | None = None,
    ) -> None:
        """Prepare the stream; nothing is read yet.

        Args:
            items: what is trained on, all variants of a picture together.
            latents: where latents, and masks, are kept.
            prompts: where prompt embeddings are kept.
            batch_size: most pictures of a batch.
            repeats: how often an epoch has each picture, where ``per_epoch`` does not say.
            seed: the recipe's, for the order.
            dropout: when captions are left out.
            with_tokens: whether batches carry token ids.
            per_epoch: part of a mix to how many samples of it an epoch has.
        """
        self.items = items
        self.latents = latents
        self.prompts = prompts
        self.batch_size = batch_size
        self.repeats = repeats
        self.per_epoch = per_epoch or {}
        self.epoch = 0
        self.dropout = dropout
        self.with_tokens = with_tokens
        self._generator = generator(seed, "order")
        self._plan: Iterator[list[TrainingItem]] = iter(())
        self._epoch_start = self._generator.get_state()
        self._taken = self._planned = 0

    @property
    def epochs_done(self) -> int:
        """Epochs whose last batch was taken."""
        return self.epoch if self._taken == self._planned else self.epoch - 1

    def next(self) -> Batch:
        """Return the next batch, starting a new epoch where one ends."""
        chosen = next(self._plan, None)
        if chosen is None:
            self.epoch += 1
            self._epoch_start, self._taken = self._generator.get_state(), 0
            self._plan = self._plan_epoch()
            chosen = next(self._plan)
        self._taken += 1
        return read_batch(chosen, self.latents, self.prompts, self.with_tokens)

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the stream."""
        return {"epoch": self.epoch, "taken": self._taken, "epoch_start": self._epoch_start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go to the position that :meth:`state_dict` gave, for the same items and settings."""
        self.epoch, self._taken = state["epoch"], state["taken"]
        self._epoch_start = state["epoch_start"]
        self._generator.set_state(self._epoch_start)
        if self.epoch:
            self._plan = itertools.islice(self._plan_epoch(), self._taken, None)
        else:
            self._plan, self._planned = iter(()), 0

    def _plan_epoch(self) -> Iterator[list[TrainingItem]]:
        batches: list[list[TrainingItem]] = []
        for group in self.in_epoch(self.epoch).values():
            order = [group[i] for i in self._shuffled(len(group))]
            batches += [
                order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)
            ]
        self._planned = len(batches)
        return iter([batches[i] for i in self._shuffled(len(batches))])

    def in_epoch(self, epoch: int) -> dict[tuple[int, int], list[TrainingItem]]:
        """Return the samples of an epoch, grouped by size; nothing random happens here.

        Args:
            epoch: its number, from 1.
        """
        groups: dict[tuple[int, int], list[TrainingItem]] = {}
        for part, items in itertools.groupby(self.items, key=lambda item: item.part):
            pictures = [list(one) for _, one in itertools.groupby(items, lambda item: item.picture)]
            samples = self.per_epoch.get(part, self.repeats * len(pictures))
            for number, variants in enumerate(pictures):
                for visit in _visits(number, len(pictures), samples, epoch):
                    item = variants[visit % len(variants)]
                    if self.dropout:
                        item = self.dropout.apply(item, visit)
                    groups.setdefault(item.latents_size, []).append(item)
        return groups

    def _shuffled(self, count: int) -> list[int]:
        return torch.randperm(count, generator=self._generator).tolist()


def _visits(number: int, pictures: int, samples: int, epoch: int) -> range:
    """Return which visits to a picture fall into an epoch, when pictures are seen in turn.

    The sample at place p of all epochs together shows picture ``p % pictures`` for the time
    ``p // pictures``.

    Args:
        number: of the picture.
        pictures: how many there are.
        samples: of an epoch.
        epoch: its number, from 1.
    """
    first, end = (
        -((number - place) // pictures) for place in ((epoch - 1) * samples, epoch * samples)
    )
    return range(first, end)


def read_batch(
    chosen: Sequence[TrainingItem], latents: TensorCache, prompts: TensorCache, with_tokens: bool
) -> Batch:
    """Read the latents and prompt embeddings of items of one size from the caches.

    Args:
        chosen: the items, in the batch's order.
        latents: where latents, and masks, are kept.
        prompts: where prompt embeddings are kept.
        with_tokens: whether the token ids are wanted too.
    """
    stacked = torch.stack([latents.load(item.latents_key)["latents"] for item in chosen])
    time_ids = [item.add_time_ids for item in chosen]
    batch = with_prompts(
        stacked, [item.prompt_key for item in chosen], time_ids, prompts, with_tokens
    )
    batch.loss_mask = _read_masks(chosen, latents)
    return batch


def _read_masks(chosen: Sequence[TrainingItem], cache: TensorCache) -> torch.Tensor | None:
    """Return the masks of a batch, (B, 1, H/8, W/8); None where none of its pictures has one."""
    if not any(item.mask_key for item in chosen):
        return None
    whole = torch.ones(1, *chosen[0].latents_size)
    return torch.stack(
        [cache.load(item.mask_key)["mask"] if item.mask_key else whole for item in chosen]
    )


def with_prompts(
    latents: torch.Tensor,
    prompt_keys: Sequence[str],
    time_ids: Sequence[Sequence[int]],
    prompts: TensorCache,
    with_tokens: bool,
) -> Batch:
    """Return latents as a batch with their prompts.

    Args:
        latents: (B, 4, H/8, W/8).
        prompt_keys: B keys into ``prompts``.
        time_ids: SDXL's six numbers for each, see :class:`.encode.TrainingItem`.
        prompts: where prompt embeddings are kept.
        with_tokens: whether the token ids are wanted too.
    """
    read = [prompts.load(key) for key in prompt_keys]
    embeds, mask = pad_prompts([prompt["prompt_embeds"] for prompt in read])
    pooled = add_time_ids = None
    if "pooled_prompt_embeds" in read[0]:
        pooled = torch.stack([prompt["pooled_prompt_embeds"] for prompt in read])
        add_time_ids = torch.tensor(time_ids, dtype=torch.float32)
    tokens = [_token_chunks(prompt) for prompt in read] if with_tokens else None
    return Batch(latents, embeds, mask, pooled, add_time_ids, tokens)


def _token_chunks(prompt: dict[str, torch.Tensor]) -> TokenChunks:
    return tuple(prompt[name] for name in sorted(prompt) if name.startswith("tokens_"))


def pad_prompts(prompts: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Stack prompt embeddings of different lengths.

    Args:
        prompts: (T_i, C) each.

    Returns:
        (B, max T, C) padded with zeros, and the mask (B, max T) that keeps the padding out of
        attention; None when all are equally long.
    """
    lengths = [prompt.shape[0] for prompt in prompts]
    if len(set(lengths)) == 1:
        return torch.stack(list(prompts)), None
    padded = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
    positions = torch.arange(padded.shape[1])
    return padded, (positions < torch.tensor(lengths)[:, None]).float()
