"""The report's reading of the host's CLIP vision models, on a tiny one of the host's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.host

Pack = Callable[[str], ModuleType]
PROMPTS = "a cat\na dog\na house\na tree\na boat\na lamp"


def tiny_vision(folder: Path, width: int) -> Any:
    """Return a CLIP_VISION of the host with two small layers, random and seeded."""
    import comfy.clip_vision

    config = {
        "hidden_size": 32, "image_size": 32, "intermediate_size": 64, "num_attention_heads": 2,
        "num_channels": 3, "num_hidden_layers": 2, "patch_size": 8, "projection_dim": width,
        "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5, "model_type": "clip_vision_model",
        "image_mean": [0.5] * 3, "image_std": [0.25] * 3,
    }  # fmt: skip
    path = folder / "tiny.json"
    path.write_text(json.dumps(config))
    vision = comfy.clip_vision.ClipVisionModel(str(path))
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in vision.model.parameters():
            weight.copy_(torch.randn(weight.shape) * 0.2)
    return vision


def test_features_and_captions(loaded: tuple, pack: Pack, tmp_path: Path) -> None:
    """Catches a vision model that is not asked, or captions compared in a foreign space."""
    models = pack("nodes.report_models")
    context = pack("glitch_train.measure.context")
    _, clip, _ = loaded
    is_xl = hasattr(clip.cond_stage_model, "clip_g")
    with torch.inference_mode():
        vision = tiny_vision(tmp_path, 1280 if is_xl else 768)
        pictures = torch.rand(6, 40, 48, 3)
        given = {"clip_vision": vision, "base_clip": clip, "prompts": PROMPTS}
        tower = getattr(clip.cond_stage_model, "clip_g" if is_xl else "clip_l")
        projection = tower.transformer.text_projection.weight
        before = projection.clone()
        projection.copy_(torch.eye(len(projection)))
        (bare,) = models.contexts(pictures, [pictures], given)
        projection.copy_(torch.randn(projection.shape) * 0.03)
        (full,) = models.contexts(pictures, [1 - pictures], given)
        narrow = {**given, "clip_vision": tiny_vision(tmp_path, 16)}
        (foreign,) = models.contexts(pictures, [pictures], narrow)
        projection.copy_(before)
    effects = {one.effect: one for one in context.measure_context(bare)}
    assert effects["perceptual"].index == 0.0
    assert "no text projection" in effects["caption_hold"].sentence
    assert full.captions.shape == (6, 1280 if is_xl else 768)
    assert full.base_pictures.shape == full.captions.shape
    moved = {one.effect: one for one in context.measure_context(full)}
    assert moved["perceptual"].index > 0.1
    assert "caption_hold" in moved
    assert "do not belong" in foreign.no_captions


def test_prompts_must_pair_up(pack: Pack) -> None:
    """Catches captions that are shifted against their pictures."""
    errors, models = pack("glitch_train.errors"), pack("nodes.report_models")
    with pytest.raises(errors.ReportError, match="prompts has 2 lines for 3 pairs"):
        models.contexts(torch.zeros(3, 8, 8, 3), [None], {"prompts": "a\nb"})
    with pytest.raises(errors.ReportError, match="A MODEL is connected without CLIP"):
        models.check({"base_model": SimpleNamespace()})
