"""The metadata of a trained LoRA: what kohya's scripts and model browsers look for."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..dataset.dataset import GlitchDataset
from ..dataset.mix import AnyDataset
from ..model.checkpoint import BaseModel
from ..recipe.recipe import Recipe
from ..recipe.train import CLIP_NORM, TrainRecipe
from .file import RECIPE_KEY, LoraStateDict

# Who else reads and trains such a network.
_NETWORK_MODULES = {"lora": "networks.lora", "dora": "lycoris.kohya", "rslora": "lycoris.kohya"}

# What kohya's huber is by default, and ours always.
_HUBER = {"ss_huber_schedule": "snr", "ss_huber_c": 0.1, "ss_huber_scale": 1.0}


def metadata(
    recipe: Recipe,
    base: BaseModel,
    dataset: AnyDataset,
    state: LoraStateDict,
    *,
    steps_done: int,
    epochs_done: int,
    started: float,
) -> dict[str, str]:
    """Return what kohya's scripts and model browsers look for, and the recipe itself.

    Args:
        recipe: the whole run.
        base: the model it was trained on.
        dataset: its pictures.
        state: the weights, for kohya's hashes.
        steps_done: optimizer steps in the file.
        epochs_done: epochs begun.
        started: Unix time at which training began.
    """
    values = {
        **_network(recipe.train, base),
        **_learning(recipe.train),
        **_course(recipe.train, sum(dataset.samples_per_epoch()), steps_done, epochs_done),
        **_pictures(recipe, dataset),
        "ss_training_started_at": started,
        "ss_training_finished_at": time.time(),
        "ss_training_comment": "Glitching the Gaze",
        **_model_spec(recipe, base),
        RECIPE_KEY: recipe.without_paths().to_json(),
    }
    texts = {key: _as_text(value) for key, value in values.items()}
    return texts | _hashes(state, texts)


def _network(train: TrainRecipe, base: BaseModel) -> dict[str, Any]:
    """Return which network it is, on which model."""
    return {
        "ss_sd_model_name": base.name,
        "ss_base_model_version": base.family.kohya_base,
        "ss_v2": False,
        "ss_zero_terminal_snr": base.is_zero_terminal,
        "ss_network_module": _NETWORK_MODULES[train.network_type],
        "ss_network_dim": train.network_dim,
        "ss_network_alpha": train.network_alpha,
        "ss_network_args": _network_args(train) or None,
    }


def _learning(train: TrainRecipe) -> dict[str, Any]:
    """Return what it learns by: rates, optimizer, loss and noise."""
    return {
        "ss_learning_rate": train.learning_rate,
        "ss_unet_lr": train.learning_rate if train.trains_unet else None,
        "ss_text_encoder_lr": train.text_encoder_lr if train.trains_text_encoder else None,
        "ss_optimizer": train.optimizer,
        "ss_lr_scheduler": train.lr_scheduler,
        "ss_lr_warmup_steps": train.warmup_steps,
        "ss_loss_type": train.loss_type,
        **(_HUBER if train.loss_type == "huber" else {}),
        "ss_min_snr_gamma": train.min_snr_gamma or None,
        "ss_noise_offset": train.noise_offset or None,
        "ss_multires_noise_iterations": train.multires_noise_iterations or None,
        "ss_multires_noise_discount": train.multires_noise_discount,
        "ss_ip_noise_gamma": train.input_perturbation or None,
    }


def _course(train: TrainRecipe, samples: int, steps_done: int, epochs_done: int) -> dict[str, Any]:
    """Return how long it trained, with how many samples an epoch, and in what batches."""
    return {
        "ss_num_train_images": samples,
        "ss_num_reg_images": 0,
        "ss_num_epochs": epochs_done,
        "ss_epoch": epochs_done,
        "ss_max_train_steps": train.steps,
        "ss_steps": steps_done,
        "ss_batch_size_per_device": train.batch_size,
        "ss_total_batch_size": train.batch_size * train.gradient_accumulation,
        "ss_gradient_accumulation_steps": train.gradient_accumulation,
        "ss_gradient_checkpointing": train.gradient_checkpointing,
        "ss_mixed_precision": train.precision,
        "ss_max_grad_norm": CLIP_NORM,
    }


def _pictures(recipe: Recipe, dataset: AnyDataset) -> dict[str, Any]:
    """Return what it trained on: how the first part is prepared, folders and tags of all."""
    data = dataset.parts[0].recipe
    folders: dict[str, dict[str, int]] = {}
    tags: dict[str, dict[str, int]] = {}
    for part in dataset.parts:
        folder = name = Path(part.recipe.folder).name
        while name in folders:  # the same pictures, prepared in another way
            name = f"{folder} ({len(folders) + 1})"
        folders[name] = {"n_repeats": part.recipe.repeats, "img_count": len(part.samples)}
        tags[name] = _tag_frequency(part)
    return {
        "ss_resolution": f"({data.width}, {data.height})",
        "ss_enable_bucket": "bucket" in data.framing_weights,
        "ss_min_bucket_reso": data.min_bucket_reso,
        "ss_max_bucket_reso": data.max_bucket_reso,
        "ss_bucket_no_upscale": data.bucket_no_upscale,
        "ss_random_crop": "random_crop" in data.framing_weights,
        "ss_flip_aug": data.random_flip,
        "ss_shuffle_caption": data.caption_shuffle,
        "ss_caption_dropout_rate": data.caption_dropout,
        "ss_caption_tag_dropout_rate": data.caption_part_dropout,
        "ss_seed": recipe.train.seed,
        "ss_output_name": recipe.train.output_name,
        "ss_dataset_dirs": folders,
        "ss_tag_frequency": tags,
    }


def _model_spec(recipe: Recipe, base: BaseModel) -> dict[str, Any]:
    """Return what Stability AI's model specification asks for."""
    stability = "https://github.com/Stability-AI/generative-models"
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": base.family.architecture,
        "modelspec.implementation": stability if base.family.is_xl else "diffusers",
        "modelspec.title": recipe.train.output_name,
        "modelspec.resolution": f"{recipe.dataset.width}x{recipe.dataset.height}",
        "modelspec.prediction_type": base.prediction_type.removesuffix("_prediction"),
        "modelspec.date": time.strftime("%Y-%m-%dT%H:%M:%S"),
    }


def _network_args(train: TrainRecipe) -> dict[str, Any]:
    """Return what kohya's and LyCORIS' ``network_args`` say about a network like this one."""
    args: dict[str, Any] = {}
    if train.network_type != "lora":
        args["algo"] = "lora"
    if train.network_type == "dora":
        args |= {"dora_wd": True, "wd_on_output": True}
    if train.network_type == "rslora":
        args["rs_lora"] = True
    if train.conv_dim and train.trains_unet:
        args |= {"conv_dim": train.conv_dim, "conv_alpha": train.conv_alpha}
    if train.trains_unet:
        chosen = {"unet_blocks": train.unet_blocks, "unet_layers": train.unet_layers}
        args |= {name: value for name, value in chosen.items() if value != "all"}
    return args


def _tag_frequency(dataset: GlitchDataset) -> dict[str, int]:
    counts: dict[str, int] = {}
    for sample in dataset.samples:
        for tag in filter(None, (part.strip() for part in sample.caption.split(","))):
            counts[tag] = counts.get(tag, 0) + 1
    return counts


def _hashes(state: LoraStateDict, texts: Mapping[str, str]) -> dict[str, str]:
    """Return by what Civitai and the web UIs know a LoRA: hashes of a file with ``ss_…`` alone.

    Source: kohya-ss/sd-scripts, library/train_util.py, precalculate_safetensors_hashes: SHA-256 of
        what follows the header; and, older, of 64 KiB from 1 MiB on.
    """
    from safetensors.torch import save

    file = save(state, {key: text for key, text in texts.items() if key.startswith("ss_")})
    tensors = memoryview(file)[8 + int.from_bytes(file[:8], "little") :]
    return {
        "sshs_model_hash": hashlib.sha256(tensors).hexdigest(),
        "sshs_legacy_hash": hashlib.sha256(file[0x100000:0x110000]).hexdigest()[:8],
    }


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
