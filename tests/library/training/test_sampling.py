"""Sampling while training: diffusers' pictures, and a training that does not notice."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image
from runs import Counted, make_run, start, weights
from safetensors.torch import load_file
from tiny import tiny_base
from tiny_checkpoint import process_environment

from glitch_train.errors import RecipeError
from glitch_train.losses.graph.live import LivePreview
from glitch_train.losses.record import LossRecord, StepReport
from glitch_train.recipe.train import SAMPLERS, TrainRecipe
from glitch_train.training.batches import Batch, with_prompts
from glitch_train.training.encode import encode_prompt
from glitch_train.training.predictor import Predictor
from glitch_train.training.run import samples
from glitch_train.training.run.run import TrainingRun
from glitch_train.training.run.samples import Sampling
from glitch_train.training.sampling import denoised, sample_noise

pytestmark = pytest.mark.slow

SETTINGS = {
    "steps": 6, "learning_rate": 3e-3, "save_precision": "fp32", "probe_every": 4,
    "noise_offset": 0.1, "validation_split": 0.3,
}  # fmt: skip
SAMPLING = {
    "sample_every": 2, "sample_steps": 3, "sample_cfg": 3.0, "sample_seed": 5,
    "sample_prompts": "a red square\na green one that is told of at some length, as captions are",
}  # fmt: skip


def reference(training, batch, *, is_xl: bool, sampler: str, prediction: str, steps: int, cfg):
    """Return latents of diffusers' own pipeline on the same weights, prompts and noise."""
    common = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
        "prediction_type": prediction,
    }  # fmt: skip
    scheduler = (
        EulerDiscreteScheduler(**common)
        if sampler == "euler"
        else DPMSolverMultistepScheduler(**common, use_karras_sigmas=sampler.endswith("karras"))
    )
    vae = AutoencoderKL(block_out_channels=(32,), down_block_types=("DownEncoderBlock2D",),
                        up_block_types=("UpDecoderBlock2D",))  # fmt: skip
    parts = {"vae": vae, "text_encoder": None, "tokenizer": None, "unet": training.base.unet}
    noise = batch.latents[:1]
    side = noise.shape[-1]
    call = {
        "prompt_embeds": batch.prompt_embeds[:1], "negative_prompt_embeds": batch.prompt_embeds[1:],
        "num_inference_steps": steps, "guidance_scale": cfg, "output_type": "latent",
        "latents": noise,
    }  # fmt: skip
    if is_xl:
        pipe = StableDiffusionXLPipeline(
            **parts, text_encoder_2=None, tokenizer_2=None, scheduler=scheduler,
            add_watermarker=False,
        )  # fmt: skip
        # The pipeline reads the width of the pooled embedding from a text encoder.
        pipe._get_add_time_ids = lambda *sizes, dtype, **_: torch.tensor(
            [[*sizes[0], *sizes[1], *sizes[2]]], dtype=dtype
        )
        size = (side * 8, side * 8)
        call |= {
            "pooled_prompt_embeds": batch.pooled_prompt_embeds[:1],
            "negative_pooled_prompt_embeds": batch.pooled_prompt_embeds[1:],
            "original_size": size, "target_size": size,
        }  # fmt: skip
    else:
        pipe = StableDiffusionPipeline(
            **parts, scheduler=scheduler, safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    scale = pipe.vae_scale_factor
    return pipe(height=side * scale, width=side * scale, **call).images


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("is_xl", [False, True], ids=["sd15", "sdxl"])
def test_latents_equal_diffusers_pipeline(
    tmp_path: Path, is_xl: bool, sampler: str, prediction: str
) -> None:
    """Catches another schedule, guidance, conditioning or start than diffusers' pipeline's."""
    training = start(tmp_path, is_xl=is_xl, prediction=prediction, learning_rate=1e-2)
    list(training)  # with a LoRA that does something
    ids = (64, 64, 0, 0, 64, 64)
    noise = sample_noise(7, 64, 64).expand(2, -1, -1, -1)
    cache = training.source.prompts
    batch = with_prompts(noise, ["prompt0", "prompt1"], [ids, ids], cache, False)
    *_, mine = denoised(training.predictor, batch, sampler=sampler, steps=8, cfg=4.5)
    expected = reference(
        training, batch, is_xl=is_xl, sampler=sampler, prediction=prediction, steps=8, cfg=4.5
    )
    torch.testing.assert_close(mine, expected[0], rtol=1e-4, atol=1e-4)


def test_noise_is_ksamplers() -> None:
    """Catches pictures that cannot be compared with the host's at the same seed."""
    expected = torch.randn(1, 4, 8, 12, generator=torch.manual_seed(9))
    assert sample_noise(9, 64, 96).equal(expected[0])


def test_without_guidance_the_empty_prompt_is_not_computed(tmp_path: Path) -> None:
    """Catches a pass too many, and a guidance of 1 that differs from none."""
    training = start(tmp_path)
    ids = (64, 64, 0, 0, 64, 64)
    noise, cache = sample_noise(7, 64, 64), training.source.prompts
    alone = with_prompts(noise[None], ["prompt0"], [ids], cache, False)
    both = with_prompts(
        noise.expand(2, -1, -1, -1), ["prompt0", "prompt1"], [ids] * 2, cache, False
    )
    options = {"sampler": "euler", "steps": 4}
    *_, one = denoised(training.predictor, alone, cfg=1.0, **options)
    *_, two = denoised(training.predictor, both, cfg=1.0, **options)
    torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def follow(run: TrainingRun) -> list:
    """Follow a run to its end, keeping the events."""
    return list(run.events())


@pytest.mark.parametrize("train_text_encoder", [False, True], ids=["unet", "with text encoder"])
def test_the_training_does_not_notice(
    tmp_path: Path,
    folder: Path,
    train_text_encoder: bool,
) -> None:
    """Catches a draw, mode or gradient that sampling leaves behind: all is equal bit for bit."""
    settings = SETTINGS | {"train_text_encoder": train_text_encoder}
    states = []
    for name, more in (("plain", {}), ("sampled", SAMPLING)):
        run = make_run(tmp_path / name, folder, Counted(), **settings, **more)
        torch.manual_seed(99)
        with torch.inference_mode():  # as the host follows it
            for _ in run.events():
                assert torch.is_inference_mode_enabled()
        states.append((run, torch.get_rng_state()))
    (plain, before), (sampled, after) = states
    assert before.equal(after)
    one, two = plain.record.columns, sampled.record.columns
    for column in one.keys() - {"seconds", "peak_memory_mb"}:
        assert str(one[column]) == str(two[column]), column  # as text: NaN is NaN
    assert weights(plain.paths.lora) == weights(sampled.paths.lora)
    assert not plain.paths.samples.exists()


def test_pictures_strip_and_events(tmp_path: Path, folder: Path) -> None:
    """Catches a picture in the wrong cell, a column left out, or an end said too early."""
    run = make_run(tmp_path, folder, Counted(), **SETTINGS | {"steps": 5}, **SAMPLING)
    finished, order = [], []
    for event in run.events():
        if isinstance(event, Sampling):
            order.append((event.step, event.done, event.total))
            if event.done == event.total:
                finished.append((event.step, run.paths.strip.stat().st_mtime_ns))
        elif isinstance(event, StepReport):
            order.append(event.step)
    columns = [step for step, _ in finished]
    assert columns == [0, 2, 4, 5]  # and the last step, which is not a multiple
    assert order[:8] == [*((0, done, 6) for done in range(1, 7)), 1, 2]
    names = sorted(path.name for path in run.paths.samples.glob("step*.png"))
    assert names == [f"step{s:06}_prompt{p:02}.png" for s in columns for p in (1, 2)]
    strip = Image.open(run.paths.strip)
    places = []
    for number, name in enumerate(names):
        cell = Image.open(run.paths.samples / name).convert("RGB")
        assert cell.size == (64, 64)
        places.append((number % 2, number // 2, find(strip, cell)))
    lefts = {column: {place[0] for _, c, place in places if c == column} for column in range(4)}
    tops = {row: {place[1] for r, _, place in places if r == row} for row in range(2)}
    assert all(len(values) == 1 for values in [*lefts.values(), *tops.values()])
    assert sorted(lefts[c].copy().pop() for c in range(4)) == [min(lefts[c]) for c in range(4)]
    assert min(tops[0]) < min(tops[1])


def test_a_run_that_goes_on_keeps_its_columns(tmp_path: Path, folder: Path) -> None:
    """Catches columns lost or made again, and work lost by a Cancel between two denoising steps."""
    plain = make_run(tmp_path / "plain", folder, Counted(), **SETTINGS)
    follow(plain)
    settings = SETTINGS | SAMPLING
    first = make_run(tmp_path / "parts", folder, Counted(), **settings)
    with contextlib.closing(first.events()) as events:
        for event in events:
            if isinstance(event, Sampling) and (event.step, event.done) == (4, 5):
                break  # in the middle of the second prompt
    assert first.record.about.ended.rule == "cancel"
    times = {path.name: path.stat().st_mtime_ns for path in first.paths.samples.glob("step*")}
    assert len(times) == 5
    last = make_run(tmp_path / "parts", folder, Counted(), "must", **settings)
    steps = [event.step for event in follow(last) if isinstance(event, StepReport)]
    assert steps == [5, 6]
    after = {path.name: path.stat().st_mtime_ns for path in last.paths.samples.glob("step*")}
    assert len(after) == 8
    assert all(after[name] == when for name, when in times.items())
    strip = Image.open(last.paths.strip)
    for name in after:
        find(strip, Image.open(last.paths.samples / name).convert("RGB"))
    assert weights(plain.paths.lora) == weights(last.paths.lora)


def test_other_pictures_do_not_make_another_run(tmp_path: Path, folder: Path) -> None:
    """Catches a long run that cannot go on because a prompt was added; the base is drawn for it."""
    first = make_run(tmp_path, folder, Counted(), **SETTINGS | SAMPLING)
    with contextlib.closing(first.events()) as events:
        while len(first.record) < 3:
            next(events)
    changes = SAMPLING | {"sample_prompts": "a red square\na blue one"}
    last = make_run(tmp_path, folder, Counted(), "must", **SETTINGS | changes)
    events = [e for e in follow(last) if isinstance(e, Sampling) and e.done == e.total]
    assert [event.step for event in events] == [0, 4, 6]
    fresh = make_run(tmp_path / "fresh", folder, Counted(), **SETTINGS | changes | {"steps": 1})
    follow(fresh)
    name = "step000000_prompt02.png"  # the base, although its LoRA has been trained for three steps
    one, two = (Image.open(run.paths.samples / name) for run in (last, fresh))
    assert one.tobytes() == two.tobytes()


def test_the_first_captions_stand_in_for_prompts(tmp_path: Path, folder: Path) -> None:
    """Catches pictures of the empty prompt where none was named, and a size of its own."""
    settings = SAMPLING | {"sample_prompts": " \n", "sample_width": 128, "sample_every": 100}
    run = make_run(tmp_path, folder, Counted(), **SETTINGS | settings | {"steps": 1})
    follow(run)
    pictures = [Image.open(path) for path in sorted(run.paths.samples.glob("step000001*"))]
    captions = [run.setup.dataset.caption(index, 0) for index in range(3)]
    assert [json.loads(one.info["glitch_sample"])["prompt"] for one in pictures] == captions
    assert {one.size for one in pictures} == {(128, 64)}


def test_the_text_encoder_is_used_as_it_stands(tmp_path: Path, folder: Path) -> None:
    """Catches pictures that show words as they were before the training."""
    settings = {
        "text_encoder_only": True, "text_encoder_lr": 0.05, "sample_every": 100, "sample_cfg": 1.0,
        "sample_prompts": "a red square",
    }  # fmt: skip
    counted = Counted()
    run = make_run(tmp_path, folder, counted, **SETTINGS | SAMPLING | settings)
    decoded: list[torch.Tensor] = []
    keep = lambda latents: decoded.append(latents) or counted.decode_picture(latents)  # noqa: E731
    encoders = dataclasses.replace(run.setup.encoders, decode_picture=keep)
    run.setup = dataclasses.replace(run.setup, encoders=encoders)
    follow(run)
    prompt = encode_prompt(run.setup.base.text_encoders, counted.tokenize("a red square"))
    noise = sample_noise(5, 64, 64)[None]
    batch = Batch(noise, prompt.prompt_embeds.detach()[None], None, None, None)
    plain = Predictor(tiny_base(), run.recipe.train, torch.device("cpu"), torch.float32)
    *_, expected = denoised(plain, batch, sampler="dpmpp_2m", steps=3, cfg=1.0)
    torch.testing.assert_close(decoded[-1], expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(decoded[0], expected, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("error", [RuntimeError("CUDA out of memory"), OSError(28, "disk full")])
def test_no_room_for_pictures_does_not_end_the_run(
    tmp_path: Path,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    """Catches a training lost to a picture, in silence, or a note lost when it goes on."""
    plain = make_run(tmp_path / "plain", folder, Counted(), **SETTINGS)
    follow(plain)
    run = make_run(tmp_path / "short", folder, Counted(), **SETTINGS | SAMPLING)

    def fail(*_: object, **__: object) -> None:
        raise error

    where = (samples, "drawn") if isinstance(error, RuntimeError) else (Image.Image, "save")
    monkeypatch.setattr(*where, fail)
    with contextlib.closing(run.events()) as events, caplog.at_level(logging.WARNING):
        while len(run.record) < 5:
            next(events)
    assert "No sample pictures after step 2, training goes on" in caplog.text
    monkeypatch.undo()
    last = make_run(tmp_path / "short", folder, Counted(), "must", **SETTINGS | SAMPLING)
    follow(last)
    assert last.record.about.samples_missing == [2, 4]  # the base was made up for
    assert weights(plain.paths.lora) == weights(last.paths.lora)


def test_another_error_is_not_hidden(tmp_path: Path, folder: Path, monkeypatch) -> None:
    """Catches a fault of the program taken for a lack of room."""
    run = make_run(tmp_path, folder, Counted(), **SETTINGS | SAMPLING)
    monkeypatch.setattr(samples, "drawn", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        follow(run)


CHILD = """
import os
from pathlib import Path
from runs import Counted
from runs import make_run
run = make_run(Path({place!r}), Path({folder!r}), Counted(), **{settings!r})
for event in run.events():
    if type(event).__name__ == "Sampling" and event.step == 6 and event.done == 4:
        os.kill(os.getpid(), 9)
"""


def test_killed_in_the_last_pictures_the_lora_is_there(tmp_path: Path, folder: Path) -> None:
    """Catches a finished training that is lost because its last pictures took too much."""
    plain = make_run(tmp_path / "plain", folder, Counted(), **SETTINGS)
    follow(plain)
    code = CHILD.format(
        place=str(tmp_path / "killed"), folder=str(folder), settings=SETTINGS | SAMPLING
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=process_environment()
    )
    assert child.returncode == -9, child.stderr
    (lora,) = (tmp_path / "killed" / "loras").glob("*.safetensors")
    one, two = load_file(plain.paths.lora), load_file(lora)
    assert all(torch.allclose(one[key], two[key], rtol=1e-4, atol=1e-6) for key in one)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sample_sampler": "ddim"}, "sample_sampler must be one of dpmpp_2m, dpmpp_2m_karras"),
        ({"sample_width": 32}, "sample_width must be 0 or 64 to 4096, got 32"),
        ({"sample_height": 100}, "sample_height must be a multiple of 8"),
        ({"sample_steps": 0}, "sample_steps must be 1 to 1000"),
    ],
)
def test_bad_settings_are_refused_before_anything_runs(settings: dict, said: str) -> None:
    """Catches a run that stops at its first picture."""
    with pytest.raises(RecipeError, match=said):
        TrainRecipe(**settings)


def test_stop_at_minutes_means_minutes_of_training(tmp_path: Path, folder: Path) -> None:
    """Catches pictures that shorten a run which is limited by time."""
    now = [0.0]
    run = make_run(tmp_path, folder, Counted(), **SETTINGS | SAMPLING | {"stop_at_minutes": 1.0})
    run._clock = lambda: now[0]
    for event in run.events():
        now[0] += 10.0 if isinstance(event, StepReport) else 1000.0
    assert len(run.record) == 6


def test_the_preview_shows_samples_below_the_curve() -> None:
    """Catches a strip that waits for the curve's turn, covers it, or is gone with the next one."""
    now = [0.0]
    record = LossRecord("run", {"step": [], "loss": []})
    preview = LivePreview(record, lambda: now[0])
    assert preview.picture_if_due() is None
    strip = Image.new("RGB", (320, 100), "red")
    preview.show_samples(strip)
    assert preview.picture_if_due() is strip  # before there is a curve
    record.columns.update(step=[1.0, 2.0], loss=[1.0, 0.5])
    preview.show_samples(strip)
    for _ in range(2):
        both = preview.picture_if_due()
        assert both.size == (640, 400 + 200)
        assert both.getpixel((5, 595)) == (255, 0, 0)
        assert both.getpixel((5, 5)) != (255, 0, 0)
        now[0] += 1e6  # the next one is due by itself


def find(whole: Image.Image, part: Image.Image) -> tuple[int, int]:
    """Return where a picture lies in another one, pixel by pixel."""
    import numpy as np

    big, small = np.asarray(whole.convert("RGB")), np.asarray(part)
    height, width = small.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(big[..., 0], (height, width))
    match = np.argwhere((windows[:, :, ::9, ::9] == small[::9, ::9, 0]).all(axis=(2, 3)))
    found = [
        (int(left), int(top))
        for top, left in match
        if (big[top : top + height, left : left + width] == small).all()
    ]
    assert len(found) == 1, found
    return found[0]
