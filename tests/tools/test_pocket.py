"""The pocket checkpoints and the demo's photographs, without any training."""

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image")

from glitch_demo.photos import demo_photos, load, write_picture_folder
from glitch_demo.pocket import cached_checkpoint
from glitch_demo.pocket_start import (
    alphas_cumprod,
    noise_divisors,
    painted_channels,
    set_starting_weights,
    sigmas,
)
from glitch_demo.pocket_text import (
    PROMPT_TOKENS,
    clip_l_weights,
    encode_clip_l,
    prompt_token_ids,
)
from glitch_demo.pocket_train import fit_pictures
from glitch_demo.pocket_unet import SD15_SHAPE, SDXL_SHAPE, PocketUNet
from glitch_demo.pocket_vae import (
    PatchStatistics,
    make_decoder,
    make_encoder,
    set_pca_encoder,
    vae_state,
)


class CountingBuild:
    """A build that only notes how often it ran."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, on_progress):
        self.runs += 1
        on_progress("stub", 1.0)
        return {"weight": torch.full((3,), float(self.runs))}


@pytest.fixture(scope="module")
def sd15_unet() -> PocketUNet:
    torch.manual_seed(3)
    unet = PocketUNet(SD15_SHAPE)
    set_starting_weights(unet)
    return unet


def test_sound_checkpoint_is_not_built_again(tmp_path):
    """Catches a cache that never hits: minutes of fitting at every start of the demo."""
    build = CountingBuild()
    first = cached_checkpoint("stub", 1, build, tmp_path)
    second = cached_checkpoint("stub", 1, build, tmp_path)
    assert first == second == tmp_path / "stub.safetensors"
    assert build.runs == 1


@pytest.mark.parametrize("damage", ["flip a byte", "cut short", "no note", "broken note"])
def test_damaged_checkpoint_is_built_again(tmp_path, damage):
    """Catches trusting a file that a full disk or a killed process left half written."""
    build = CountingBuild()
    path = cached_checkpoint("stub", 1, build, tmp_path)
    content = path.read_bytes()
    if damage == "flip a byte":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif damage == "cut short":
        path.write_bytes(content[:-1])
    elif damage == "no note":
        path.with_suffix(".json").unlink()
    else:
        path.with_suffix(".json").write_text("{", encoding="utf-8")
    cached_checkpoint("stub", 1, build, tmp_path)
    assert build.runs == 2
    assert load_file(path)["weight"][0] == 2


def test_checkpoint_that_cannot_be_opened_is_not_called_damaged(tmp_path):
    """Catches minutes of fitting, and a sound file replaced, because of a permission."""
    build = CountingBuild()
    path = cached_checkpoint("stub", 1, build, tmp_path)
    path.with_suffix(".json").unlink()
    path.with_suffix(".json").mkdir()  # what not even root can open as a file
    with pytest.raises(OSError, match="stub.json"):
        cached_checkpoint("stub", 1, build, tmp_path)
    assert build.runs == 1


def test_other_recipe_is_built_again(tmp_path):
    """Catches a checkpoint of an older recipe surviving an update of the code."""
    build = CountingBuild()
    path = cached_checkpoint("stub", 1, build, tmp_path)
    cached_checkpoint("stub", 2, build, tmp_path)
    assert build.runs == 2
    assert json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))["recipe"] == 2


def test_failed_build_leaves_the_folder_clean(tmp_path):
    """Catches unfinished files piling up, or one being taken for a checkpoint."""

    def fail(on_progress):
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        cached_checkpoint("stub", 1, fail, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} <= {".stub.lock"}


def test_two_at_once_build_once(tmp_path):
    """Catches minutes of fitting done twice, each in the other's way, by two test processes."""
    build = CountingBuild()

    def slow(on_progress):
        time.sleep(0.3)
        return build(on_progress)

    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(cached_checkpoint, "stub", 1, slow, tmp_path) for _ in range(2)]
    assert {one.result() for one in both} == {tmp_path / "stub.safetensors"}
    assert build.runs == 1


def test_photos_are_distinct_and_have_tokens():
    """Catches a caption that was reworded without its token ids, or a picture used twice."""
    photos = demo_photos()
    assert 4 <= len(photos) <= 6
    assert {photo.caption for photo in photos} | {""} == set(PROMPT_TOKENS)
    assert len({load(photo, 16).tobytes() for photo in photos}) == len(photos)
    assert all(load(photo, 40).size == (40, 40) for photo in photos)
    assert all(load(photo, 40).mode == "RGB" for photo in photos)


def test_picture_folder_is_deterministic_with_captions(tmp_path):
    """Catches an unseeded crop, a missing caption, or a quality that crushes nothing."""
    photos = demo_photos()[:2]
    first = write_picture_folder(tmp_path / "a", photos, pictures_per_photo=4, size_px=96)
    second = write_picture_folder(tmp_path / "b", photos, pictures_per_photo=4, size_px=96)
    assert [path.name for path in first] == [path.name for path in second]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert len({path.read_bytes() for path in first}) == 8
    for path in first:
        photo = next(p for p in photos if path.name.startswith(p.name))
        assert path.with_suffix(".txt").read_text(encoding="utf-8").strip() == photo.caption
        assert path.stat().st_size < 4000
        with Image.open(path) as picture:
            assert picture.size == (96, 96)


def test_start_takes_all_of_the_input_for_noise(sd15_unet):
    """Catches a block that leaks into the channels that carry x, or a clock that is off."""
    for timestep in (120, 400, 999):
        noise = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(timestep))
        with torch.no_grad():
            predicted = sd15_unet(noise, torch.full((2,), timestep), torch.randn(2, 77, 768))
        scale = (1 + sigmas()[timestep] ** 2).sqrt() / noise_divisors()[timestep]
        expected = scale * noise
        assert torch.allclose(predicted, expected, rtol=0.06, atol=0.01)


def test_canvas_ignores_noise_and_scales_with_sigma(sd15_unet):
    """Catches noise or timestep leaking into the features that the pictures are fitted to."""
    embeds = torch.randn(1, 77, 768, generator=torch.Generator().manual_seed(1))
    scaled = []
    for timestep in (400, 640, 940):
        features = sd15_unet.features(torch.randn(1, 4, 8, 8), torch.tensor([timestep]), embeds)
        scaled.append(features[:, painted_channels()].detach() * noise_divisors()[timestep])
    for other in scaled[1:]:
        assert (other - scaled[0]).norm() < 0.03 * scaled[0].norm()


@pytest.mark.slow
def test_fit_draws_the_pictures_from_pure_noise():
    """Catches a wrong sign, scale or channel order in the least squares."""
    torch.manual_seed(5)
    unet = PocketUNet(SD15_SHAPE)
    set_starting_weights(unet)
    latents, embeds = torch.randn(2, 4, 8, 8), torch.randn(2, 77, 768)
    assert fit_pictures(unet, latents, embeds, lambda part: None) < 0.2
    alpha = alphas_cumprod()[700]
    noise = torch.randn(2, 4, 8, 8)
    noisy_latents = alpha.sqrt() * latents + (1 - alpha).sqrt() * noise
    with torch.no_grad():
        predicted = unet(noisy_latents, torch.full((2,), 700), embeds)
    drawn = (noisy_latents - (1 - alpha).sqrt() * predicted) / alpha.sqrt()
    assert (drawn - latents).square().mean() < 0.3 * latents.square().mean()


def test_encoder_is_a_whitened_pca():
    """Catches swapped pixels or colours in the encoder: its latents must have unit variance."""
    pictures = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    encoder = make_encoder()
    set_pca_encoder(encoder, PatchStatistics(pictures))
    with torch.no_grad():
        latents = encoder(pictures)
    flat = latents.transpose(0, 1).flatten(1)
    assert torch.allclose(flat.mean(dim=1), torch.zeros(4), atol=1e-3)
    assert torch.allclose(torch.cov(flat, correction=0), torch.eye(4), atol=1e-2)


@pytest.mark.parametrize(
    ("shape", "depths", "projection_rank"),
    [(SD15_SHAPE, [1, 1], 4), (SDXL_SHAPE, [0, 0, 1, 1, 2, 2], 2)],
    ids=["sd15", "sdxl"],
)
def test_unet_has_the_shape_that_hosts_detect(shape, depths, projection_rank):
    """Catches a renamed or resized weight, by which a host would take it for another family."""
    with torch.device("meta"):
        state = PocketUNet(shape).state_dict()
    assert state["input_blocks.0.0.weight"].shape == (320, 4, 3, 3)
    assert state["out.2.weight"].shape == (4, 320, 3, 3)
    assert ("label_emb.0.0.weight" in state) == (shape.vector_width > 0)
    found = []
    for index in range(1, 20):
        if f"input_blocks.{index}.0.in_layers.0.weight" in state:
            prefix = f"input_blocks.{index}.1.transformer_blocks."
            found.append(len({k[len(prefix) :][0] for k in state if k.startswith(prefix)}))
    assert found == depths
    assert state["middle_block.1.proj_in.weight"].ndim == projection_rank
    context = state["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1]
    assert context == shape.context_width


def test_vae_state_carries_scale_and_both_halves():
    """Catches a VAE that a host would load with the wrong latent scale."""
    state = vae_state(make_encoder(), make_decoder(), 0.25)
    assert state["vae_scale"] == 0.25
    assert state["vae_shift"] == 0.0
    assert state["taesd_decoder.1.weight"].shape == (64, 4, 3, 3)
    assert state["taesd_encoder.14.weight"].shape == (4, 64, 3, 3)


@pytest.mark.slow
def test_text_encoder_agrees_with_transformers():
    """Catches our CLIP differing from the one that hosts run, so that prompts would not match."""
    transformers = pytest.importorskip("transformers")
    state = {name: tensor.float() for name, tensor in clip_l_weights(4).items()}
    config = transformers.CLIPTextConfig(
        hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12
    )
    reference = transformers.CLIPTextModel(config).eval()
    names = set(reference.state_dict())
    if "embeddings.token_embedding.weight" in names:  # transformers 5 dropped the prefix
        state_for_it = {k.removeprefix("text_model."): v for k, v in state.items()}
    else:
        state_for_it = state
    reference.load_state_dict(state_for_it, strict=False)
    assert names - set(state_for_it) <= {k for k in names if k.endswith("position_ids")}
    ids = torch.stack([prompt_token_ids(prompt) for prompt in list(PROMPT_TOKENS)[:2]])
    with torch.no_grad():
        expected = reference(input_ids=ids).last_hidden_state
    assert torch.allclose(encode_clip_l(state, ids), expected, rtol=1e-3, atol=1e-3)


def test_token_ids_are_what_the_tokenizer_says():
    """Catches a caption whose written-down token ids are not those that a host computes."""
    root = os.environ.get("COMFYUI_PATH")
    if not root or not (Path(root) / "comfy" / "sd1_tokenizer").is_dir():
        pytest.skip("needs COMFYUI_PATH")
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(Path(root) / "comfy" / "sd1_tokenizer")
    for prompt, tokens in PROMPT_TOKENS.items():
        assert tuple(tokenizer(prompt)["input_ids"][1:-1]) == tokens


def test_unknown_prompt_is_refused():
    """Catches a new caption silently trained under the empty prompt's tokens."""
    with pytest.raises(KeyError, match="Add it to PROMPT_TOKENS"):
        prompt_token_ids("a dog")
