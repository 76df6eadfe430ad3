"""A checkpoint read without the host is what the host makes of the same file."""

from __future__ import annotations

import copy
import gc
import re
import weakref
from importlib import import_module

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from glitch_train.model.checkpoint_file import load_checkpoint, tokenize
from glitch_train.model.vae import FileVae
from glitch_train.training.encode import _in_fp32, encode_prompt

pytestmark = pytest.mark.host

CPU = torch.device("cpu")
CAPTIONS = [
    "",
    "a portrait (of a smiling astronaut:1.2), naïve CAFÉ, 日本語 🙂 don't",
    " ".join(f"word{number}, soft light;" for number in range(60)),
]


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    """Seeded noise, wider than high."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def both(pack, loaded, checkpoint) -> tuple:
    """Return (base, encoders) from the host's objects and from the file."""
    weights = pack("nodes.weights")
    theirs = weights.base_model(*loaded[:2]), weights.encoders(*loaded)
    return theirs, load_checkpoint(checkpoint, CPU)


MEANS_MORE_IN_PROMPTS = st.sampled_from(
    [
        *("embedding:nosuch", "embedding:", "EMBEDDING:a", "<|endoftext|>", "<|startoftext|>"),
        *(
            "(word:1.3)",
            "((word))",
            r"\(series\)",
            "\\",
            "[a|b]",
            "{a}",
            "a:1.2",
            ")(",
            "\0\1",
            "\0\2",
        ),
    ]
)
WORDS = st.text(max_size=12) | st.sampled_from(["a", "portrait,", "naïve", "日本語", "🙂", "don't"])


@pytest.fixture(scope="module")
def node_tokenize(pack, loaded):
    """Return what turns a caption into tokens in the node, and the host's CLIP."""
    return pack("nodes.weights").encoders(*loaded).tokenize, loaded[1]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(MEANS_MORE_IN_PROMPTS | WORDS, max_size=30).map(" ".join))
def test_the_node_and_the_command_line_see_the_same_tokens(node_tokenize, caption: str) -> None:
    """Catches an embedding's name that the node drops and the command line trains, and the like."""
    tokenize_in_node, clip = node_tokenize
    theirs = tokenize_in_node(caption)
    mine = tokenize(caption, len(theirs))
    assert all(map(torch.equal, theirs, mine))
    assert len(theirs) == len(clip.tokenize(""))
    for chunks in theirs:  # literal text: no special token but start, end and padding
        inner = [token for chunk in chunks.tolist() for token in chunk[1 : chunk.index(49407)]]
        assert not {49406, 49407} & set(inner)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(WORDS, max_size=120).map(" ".join))
def test_tokens_of_plain_captions_are_those_of_prompts(node_tokenize, caption: str) -> None:
    """Catches a word that is trained as other tokens than a prompt with the same word has."""
    assume(not re.search(r"[()\\\0\1\2]|embedding:|<\|", caption))
    tokenize_in_node, clip = node_tokenize
    prompt = clip.tokenize(caption)
    for name, chunks in zip("lg", tokenize_in_node(caption), strict=False):
        assert chunks.tolist() == [[token for token, _ in chunk] for chunk in prompt[name]]


# Before the tests that hold the same checkpoint twice: a training needs the room.
def test_the_node_and_the_command_line_lose_alike(
    pack, loaded, checkpoint, tmp_path, monkeypatch
) -> None:
    """Catches anything that makes a recipe mean something else without the host."""
    import folder_paths

    from glitch_demo.photos import demo_photos, write_picture_folder
    from glitch_train.dataset.recipe import DatasetRecipe
    from glitch_train.losses.record import StepReport
    from glitch_train.recipe.recipe import Recipe
    from glitch_train.recipe.train import TrainRecipe
    from glitch_train.training.run.standalone import prepare_run

    monkeypatch.setattr(folder_paths, "get_output_directory", lambda: str(tmp_path / "host"))
    monkeypatch.setattr(folder_paths, "get_folder_paths", lambda _: [str(tmp_path / "host")])
    monkeypatch.setattr(folder_paths, "get_temp_directory", lambda: str(tmp_path / "temp"))
    write_picture_folder(tmp_path / "pictures", demo_photos()[:2], pictures_per_photo=1)
    recipe = Recipe(
        DatasetRecipe(folder=str(tmp_path / "pictures"), width=64, height=64, framing="stretch"),
        TrainRecipe(steps=3, batch_size=2, network_dim=4, learning_rate=1e-3, probe_every=0),
        str(checkpoint),
    )
    free = prepare_run(recipe, tmp_path / "free", device="cpu")
    mine = [event.loss for event in free.events() if isinstance(event, StepReport)]
    del free  # its weights: the host's own are in memory too
    theirs_recipe = pack("glitch_train.recipe.recipe").Recipe.from_dict(recipe.to_dict())
    dataset = pack("glitch_train.dataset.load").load_dataset(theirs_recipe.dataset)
    with torch.inference_mode():  # as the host's executor does
        run = pack("nodes.training").prepare_run(*loaded, dataset, theirs_recipe, "never")
        list(run.events())
    assert len(mine) == 3
    assert mine == pytest.approx(run.record.loss, rel=1e-4)


def test_the_tokenizers_keep_no_text_encoder(checkpoint) -> None:
    """Catches encoders that stay in memory when training has let them go."""
    import_module("diffusers.models").UNet2DConditionModel  # noqa: B018  pytest keeps its warnings
    base, encoders = load_checkpoint(checkpoint, CPU)
    towers = [weakref.ref(encoder.model) for encoder in base.text_encoders]
    base.text_encoders = ()
    gc.collect()
    assert len(encoders.tokenize("a cat")) == len(towers)
    assert not any(tower() for tower in towers)


@pytest.mark.parametrize("caption", CAPTIONS, ids=["empty", "odd", "long"])
def test_tokens(both, caption: str) -> None:
    """Catches another vocabulary, chunking or padding than the host's tokenizers."""
    (_, theirs), (_, mine) = both
    for expected, got in zip(theirs.tokenize(caption), mine.tokenize(caption), strict=True):
        assert torch.equal(got, expected)


def test_latents_and_back(both, loaded, picture) -> None:
    """Catches a wrong VAE, latent scale or range of pixels."""
    (base, theirs), (_, mine) = both
    got = mine.encode_picture(picture)
    with torch.inference_mode():  # as the host's executor does
        expected = theirs.encode_picture(picture)
        pixels = loaded[2].decode(expected[None] / base.family.latent_scale)[0].numpy() * 255
    assert torch.allclose(got, expected, rtol=1e-4, atol=1e-4)
    decoded = mine.encode_picture.__self__.decode(expected)
    assert decoded.size == picture.size
    assert np.abs(np.asarray(decoded) - pixels).max() < 0.6  # rounded


def test_text_and_unet(both) -> None:
    """Catches towers or UNet weights in the wrong place, and another layer than the host takes."""
    (theirs, _), (mine, _) = both
    assert mine.family.name == theirs.family.name
    assert mine.prediction_type == theirs.prediction_type
    chunks = tokenize(CAPTIONS[2], len(mine.text_encoders))
    stream = torch.Generator().manual_seed(1)
    latents, timesteps = torch.randn(1, 4, 8, 8, generator=stream), torch.tensor([321])

    def output(base) -> torch.Tensor:  # one base after the other in fp32, then let go
        with torch.no_grad():
            with _in_fp32(base.text_encoders, CPU):
                prompt = encode_prompt(base.text_encoders, chunks)
            extra = None
            if prompt.pooled_prompt_embeds is not None:
                pooled = prompt.pooled_prompt_embeds[None]
                extra = {"text_embeds": pooled, "time_ids": torch.full((1, 6), 64.0)}
            unet = copy.deepcopy(base.unet).float()
            text = prompt.prompt_embeds[None].clone()
            return unet(latents, timesteps, text, added_cond_kwargs=extra).sample

    assert torch.allclose(output(theirs), output(mine), rtol=1e-4, atol=1e-4)


def test_autoencoder_kl(host_modules, picture) -> None:
    """Catches a layer of Stable Diffusion's own VAE in the wrong place."""
    import comfy.sd
    from comfy.ldm.models.autoencoder import AutoencoderKL

    config = {
        "double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3,
        "ch": 32, "ch_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_resolutions": [],
        "dropout": 0.0,
    }  # fmt: skip
    torch.manual_seed(4)
    weights = AutoencoderKL(ddconfig=config, embed_dim=4).state_dict()
    for value in weights.values():
        value.normal_(0.02, 0.1)
    theirs = comfy.sd.VAE(sd=dict(weights), config={"params": {"ddconfig": config, "embed_dim": 4}})
    mine = FileVae(weights, 0.5, CPU)
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255)[None]
    with torch.inference_mode():
        expected = theirs.encode(pixels)[0]
        drawn = theirs.decode(expected[None])[0].numpy() * 255
    assert torch.allclose(mine.encode(picture), expected * 0.5, rtol=1e-3, atol=1e-3)
    assert np.abs(np.asarray(mine.decode(expected * 0.5)) - drawn).max() < 1
