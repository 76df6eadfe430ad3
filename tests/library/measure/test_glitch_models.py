"""What models tell a report: drift, the caption's hold, features, weights; monotone in strength."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from glitch_train.errors import ReportError
from glitch_train.lora.read import read_lora
from glitch_train.measure.context import ModelContext, measure_context
from glitch_train.measure.pairs import pairs_of_arrays
from glitch_train.measure.report import report_run
from glitch_train.measure.text import PROBE_PROMPTS
from glitch_train.measure.weights import block_of, compare_weights, lora_loudness, total_loudness
from glitch_train.transfer.base import Base, find_base

STRENGTHS = (0.1, 0.3, 0.6, 1.0)


def told(context: ModelContext) -> dict:
    """Return the context's measurements by effect."""
    return {one.effect: one for one in measure_context(context)}


def test_drift_grows_to_another_prompt() -> None:
    """Catches a scale that is off: a prompt moved onto another is as far as that prompt lies."""
    rng = np.random.default_rng(0)
    base = [rng.normal(size=(tokens, 32)) for tokens in (5, 5, 5, 9, 7, 5)]
    still = told(ModelContext(base_prompts=base, glitched_prompts=base))["semantic_drift"]
    assert (still.index, still.interval) == (0.0, (0.0, 0.0))
    found = []
    for share in STRENGTHS:
        moved = [(1 - share) * one + share * other for one, other in
                 zip(base[:3], [base[1], base[2], base[0]], strict=True)]  # fmt: skip
        context = ModelContext(base_prompts=base[:3], glitched_prompts=moved)
        found.append(told(context)["semantic_drift"].index)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1.0, abs=0.05)


def test_the_nearest_prompt_is_the_yardstick() -> None:
    """Catches a drift lost against far prompts: half of the way to a neighbour is 0.5."""
    base = [np.array([[10.0 * far, near]]) for far in range(3) for near in (0.0, 1.0)]
    moved = [one + [[0.0, 0.5]] for one in base]
    drift = told(ModelContext(base_prompts=base, glitched_prompts=moved))["semantic_drift"]
    assert drift.index == pytest.approx(0.5)
    pairs = zip(PROBE_PROMPTS[::2], PROBE_PROMPTS[1::2], strict=True)
    for one, other in pairs:
        words = zip(one.split(), other.split(), strict=True)
        assert sum(here != there for here, there in words) == 1


def test_hold_is_lost_with_the_captions() -> None:
    """Catches a hold that ignores captions: 0 as in base, 1 when they say nothing any more."""
    rng = np.random.default_rng(0)
    texts = np.linalg.qr(rng.normal(size=(64, 10)))[0].T
    base = texts + 0.05 * rng.normal(size=texts.shape)
    noise = rng.normal(size=texts.shape)
    noise -= noise @ texts.T @ texts
    prompts = tuple(f"prompt {n}" for n in range(10))
    found = []
    for share in (0.0, *STRENGTHS):
        glitched = (1 - share) * base + share * noise
        context = ModelContext(
            prompts=prompts, base_pictures=base, glitched_pictures=glitched, captions=texts
        )
        found.append(told(context)["caption_hold"].index)
    assert found[0] == 0.0
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1.0, abs=0.05)


def test_a_hold_that_base_does_not_have_is_not_lost() -> None:
    """Catches a ratio of two noises."""
    rng = np.random.default_rng(1)
    tables = [rng.normal(size=(8, 32)) for _ in range(3)]
    context = ModelContext(
        prompts=tuple("abcdefgh"), base_pictures=tables[0], glitched_pictures=tables[1],
        captions=tables[2],
    )  # fmt: skip
    one = told(context)["caption_hold"]
    assert one.index is None
    assert "no hold to lose" in one.sentence
    same = told(ModelContext(prompts=("a",) * 8, base_pictures=tables[0],
                             glitched_pictures=tables[1], captions=tables[2]))  # fmt: skip
    assert "2 different" in same["caption_hold"].sentence


def _drawn(kinds: int, seeds: int, share: float = 0.0) -> np.ndarray:
    """Return pictures of several subjects, each with its own noise, fading into one for all."""
    rng = np.random.default_rng(3)
    subjects = rng.random((kinds, 8, 8, 3)).repeat(6, axis=1).repeat(6, axis=2)
    mixed = (1 - share) * subjects + share * rng.random((8, 8, 3)).repeat(6, 0).repeat(6, 1)
    pictures = mixed.repeat(seeds, axis=0)
    return np.clip(pictures + 0.1 * rng.normal(size=pictures.shape), 0, 1).astype(np.float32)


def test_hold_is_told_by_the_bases_own_pictures_without_a_vision_model() -> None:
    """Catches an effect that no SD1.5 checkpoint can show: the hold needed CLIP's projection."""
    base, prompts = _drawn(4, 3), tuple(f"prompt {n // 3}" for n in range(12))
    found = []
    for share in (0.0, *STRENGTHS):
        pairs = pairs_of_arrays("run", base, _drawn(4, 3, share))
        found.append(report_run(pairs, ModelContext(prompts=prompts)).of("caption_hold").index)
    assert found[0] == pytest.approx(0.0, abs=0.02)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1.0, abs=0.1)
    same = report_run(pairs_of_arrays("run", base, base), ModelContext(prompts=prompts))
    assert same.of("caption_hold").index_interval == (0.0, 0.0)
    moved = report_run(
        pairs_of_arrays("run", base, np.roll(base, 3, 0)), ModelContext(prompts=prompts)
    )
    assert moved.of("caption_hold").index > 1.0


@pytest.mark.parametrize("prompts", [tuple("aaaaaaaaaaaa"), tuple("abcdefghijkl")])
def test_hold_without_two_prompts_of_two_seeds_says_what_it_needs(prompts: tuple[str, ...]) -> None:
    """Catches a picture compared with nothing but itself."""
    base = _drawn(4, 3)
    one = report_run(pairs_of_arrays("run", base, base), ModelContext(prompts=prompts))
    assert one.of("caption_hold").index is None
    assert "2 different prompts, each with 2 seeds" in one.of("caption_hold").sentence


def test_features_of_another_picture_are_one() -> None:
    """Catches a perceptual distance with another yardstick than the base's own pictures."""
    base = np.random.default_rng(0).normal(size=(12, 32))
    same = told(ModelContext(base_pictures=base, glitched_pictures=base))["perceptual"]
    assert (same.index, same.interval) == (0.0, (0.0, 0.0))
    moved = told(ModelContext(base_pictures=base, glitched_pictures=np.roll(base, 1, 0)))
    assert moved["perceptual"].index == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    ("context", "says"),
    [
        (ModelContext(base_prompts=[np.ones(3)], glitched_prompts=[np.ones(3)]), "at least 2"),
        (ModelContext(base_prompts=[np.ones(3)] * 2, glitched_prompts=[np.ones(3)]), "encode the"),
        (ModelContext(base_prompts=[np.ones(3)] * 2, glitched_prompts=[np.ones(3)] * 2), "same"),
        (
            ModelContext(base_prompts=[*np.eye(3)], glitched_prompts=[*np.ones((3, 4))]),
            "different sizes",
        ),
        (
            ModelContext(base_pictures=np.ones((3, 2)), glitched_pictures=np.ones((4, 2))),
            "do not pair up",
        ),
    ],
)
def test_what_does_not_pair_up_is_refused(context: ModelContext, says: str) -> None:
    """Catches a number made of texts or features that do not belong together."""
    with pytest.raises(ReportError, match=says):
        measure_context(context)


def test_weights_are_compared_block_by_block() -> None:
    """Catches a block in the wrong place, or a norm that is not Frobenius'."""
    torch.manual_seed(0)
    first = torch.randn(8, 6)
    change = torch.randn(8, 6)
    change *= 0.05 * first.norm() / change.norm()
    names = ("diffusion_model.output_blocks.3.1.proj_in.weight",
             "clip_l.transformer.text_model.encoder.layers.7.mlp.fc1.weight")  # fmt: skip
    blocks = compare_weights((name, first, first + change) for name in names)
    assert [row.block for row in blocks] == ["clip_l layer 7", "output_blocks.3"]
    assert [row.loudness for row in blocks] == pytest.approx([0.05, 0.05], rel=1e-4)
    one = told(ModelContext(blocks=blocks))["weight_loudness"]
    assert one.index == pytest.approx(0.5, rel=1e-4)
    assert told(ModelContext(blocks=()))["weight_loudness"].index == 0.0
    with pytest.raises(ReportError, match="same family"):
        compare_weights([(names[0], first, first[:4])])


def test_a_loras_loudness_is_that_of_its_product(tmp_path: Path) -> None:
    """Catches a loudness that forgets alpha, or the weight it is measured against."""
    torch.manual_seed(0)
    path = "down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    up, down = torch.randn(320, 4), torch.randn(4, 320)
    state = {
        f"lora_unet_{path}.lora_up.weight": up,
        f"lora_unet_{path}.lora_down.weight": down,
        f"lora_unet_{path}.alpha": torch.tensor(2.0),
    }
    network = find_base("sd15").network
    base = Base(network, lambda module: 100.0)
    blocks, left = lora_loudness(read_lora(state, "a LoRA"), base)
    assert left == 0
    assert [row.block for row in blocks] == ["input_blocks.1"]
    expected = float((up @ down * 0.5).norm()) / 100.0
    assert total_loudness(blocks) == pytest.approx(expected, rel=1e-4)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ReportError, match="checkpoint file"):
        lora_loudness(read_lora(state, "a LoRA"), find_base("sd15"))


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("model.diffusion_model.middle_block.1.norm.weight", "middle_block"),
        ("te2.text_model.encoder.layers.11.mlp.fc1", "te2 layer 11"),
        ("diffusion_model.time_embed.0.weight", "other"),
    ],
)
def test_blocks_are_read_off_names(name: str, block: str) -> None:
    """Catches a weight that is counted in the wrong block."""
    assert block_of(name) == block
