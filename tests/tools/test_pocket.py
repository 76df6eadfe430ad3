"""The pocket checkpoints and the demo's photographs, without any training."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

pytest.importorskip("skimage", reason="the demo's photographs come with scikit-image")

from glitch_demo.photos import demo_photos, load, write_picture_folder
from glitch_demo.pocket import cached_checkpoint, take_input_for_noise
from glitch_demo.pocket_unet import SD15_SHAPE, SDXL_SHAPE, PocketUNet
from glitch_demo.pocket_vae import make_decoder, make_encoder, vae_state
from glitch_demo.pocket_weights import (
    BASIS,
    CONTEXT_WIDTH,
    FAINT,
    NARROW_SHAPE,
    WEIGHTS,
    DamagedWeightsError,
    for_prompts,
    part,
    quantised,
    shipped_weights,
    widen,
)

MOST_BYTES = 6_000_000


class CountingBuild:
    """A build that only notes how often it ran."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, on_progress):
        self.runs += 1
        on_progress("stub", 1.0)
        return {"weight": torch.full((3,), float(self.runs))}


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


def test_photos_are_distinct():
    """Catches a picture or a caption used twice, and one that cannot be shown."""
    photos = demo_photos()
    assert len(photos) >= 12
    assert len({photo.caption for photo in photos}) == len(photos)
    assert all(len(photo.caption.split()) >= 4 for photo in photos)
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


@pytest.fixture(scope="module")
def weights():
    return shipped_weights()


def test_shipped_weights_are_small_and_of_this_code(weights):
    """Catches a weights file that grew, or of another shape than the code that reads it."""
    assert WEIGHTS.stat().st_size <= MOST_BYTES
    with torch.device("meta"):
        names = set(PocketUNet(NARROW_SHAPE).state_dict())
    assert set(part(weights, "unet.")) == names
    assert weights[BASIS].shape == (CONTEXT_WIDTH, 768)


def test_other_weights_are_refused(tmp_path):
    """Catches a damaged download that makes a checkpoint of noise."""
    content = WEIGHTS.read_bytes()
    (tmp_path / "other").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedWeightsError, match=r"other is not the file that was trained"):
        shipped_weights(tmp_path / "other")


def test_eight_bits_lose_little():
    """Catches a scale over the wrong side, and a channel of zeros that divides by them."""
    weight = torch.randn(6, 5, 3, 3) * torch.logspace(-3, 1, 6).view(-1, 1, 1, 1)
    weight[2] = 0.0
    packed = quantised({"layer.weight": weight, "layer.bias": weight[:, 0, 0, 0]})
    again = packed["layer.weight"].float() * packed["layer.weight.scale"].float()
    assert packed["layer.weight"].dtype == torch.int8
    assert ((again - weight).abs().amax((1, 2, 3)) <= weight.abs().amax((1, 2, 3)) / 240).all()


@pytest.mark.parametrize(("faint", "atol"), [(0.0, 1e-5), (FAINT, 0.01)])
def test_wide_unet_computes_what_the_narrow_one_does(faint, atol):
    """Catches weights put where a norm, a skip or a gate mixes them with zeros."""
    torch.manual_seed(4)
    narrow, wide = PocketUNet(NARROW_SHAPE), PocketUNet(SD15_SHAPE)
    for parameter in narrow.parameters():
        torch.nn.init.normal_(parameter, std=0.06 if parameter.ndim > 1 else 0.3)
    basis = torch.randn(CONTEXT_WIDTH, 768) / 28
    widen(wide, for_prompts(narrow.state_dict(), basis), faint)
    latents, context = torch.randn(2, 4, 16, 16), torch.randn(2, 77, 768)
    timesteps = torch.tensor([10, 800])
    with torch.no_grad():
        expected = narrow(latents, timesteps, context @ basis.T)
        found = wide(latents, timesteps, context)
    assert expected.std() > 0.1
    assert torch.allclose(found, expected, atol=atol)
    if faint:  # which DoRA asks for
        assert all(w.flatten(1).any(1).all() for w in wide.state_dict().values() if w.ndim > 1)


def test_untrained_unet_takes_its_input_for_noise():
    """Catches a block that leaks into the channels that carry x: pictures would blow up."""
    torch.manual_seed(3)
    unet = PocketUNet(SDXL_SHAPE)
    take_input_for_noise(unet)
    noise = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        found = unet(
            noise, torch.tensor([120, 999]), torch.randn(2, 77, 2048), torch.randn(2, 2816)
        )
    expected = noise / noise.square().mean((1, 2, 3), keepdim=True).sqrt()
    assert (found - expected).square().mean() < 0.2
    assert (found - expected).square().mean() > 1e-4  # prompts count, or a LoRA learns nothing


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
