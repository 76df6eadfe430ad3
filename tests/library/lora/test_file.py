"""LoRA files: kohya's keys, read back by diffusers, with metadata and the recipe inside."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_base, tiny_unet

from glitch_demo.full_shapes import LAYOUTS, ldm_weights
from glitch_train.dataset.dataset import GlitchDataset, Sample
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import DiskError, LoraFileError
from glitch_train.lora.file import read_metadata, read_recipe_of, save_lora, to_kohya
from glitch_train.lora.layers import LoraLayer, LoraShape, TrainedLora, inject_lora
from glitch_train.lora.metadata import metadata
from glitch_train.lora.targets import unet_targets
from glitch_train.model.checkpoint import BaseModel, build_unet
from glitch_train.recipe.recipe import Recipe
from glitch_train.recipe.train import TrainRecipe


@pytest.fixture
def dataset() -> GlitchDataset:
    """Two samples with tags."""
    samples = (Sample("/pictures/faces", "a.jpg", "red coat, glitch", (10, 20), "0a"),
               Sample("/pictures/faces", "b.jpg", "glitch", (10, 20), "0b"))  # fmt: skip
    return GlitchDataset(DatasetRecipe(folder="/pictures/faces", repeats=7), samples)


def filled(base: BaseModel) -> TrainedLora:
    """Return LoRA layers whose factors are all non-zero."""
    stream = torch.Generator().manual_seed(0)
    targets = unet_targets(base.unet)
    layers = inject_lora(base.unet, targets, LoraShape(4, 2.0), stream)
    stream = torch.Generator().manual_seed(1)
    for layer in layers.values():
        layer.up.data = torch.randn(layer.up.shape, generator=stream) * 0.1
    return TrainedLora(layers)


def test_diffusers_loads_the_file_and_computes_the_same(tmp_path: Path) -> None:
    """Catches wrong keys, alpha or transposed factors: diffusers' own loader is the judge."""
    from diffusers import StableDiffusionPipeline

    base = tiny_base()
    layers = filled(base)
    path = tmp_path / "lora.safetensors"
    save_lora(path, to_kohya(layers, base, save_precision="fp32"), {})
    state, alphas = StableDiffusionPipeline.lora_state_dict(path)[:2]
    plain = tiny_unet()
    StableDiffusionPipeline.load_lora_into_unet(state, alphas, plain)
    latents, prompt = torch.randn(1, 4, 8, 8), torch.randn(1, 77, 24)
    timestep = torch.tensor([300])
    mine = base.unet(latents, timestep, prompt).sample
    theirs = plain(latents, timestep, prompt).sample
    assert not torch.allclose(mine, tiny_unet()(latents, timestep, prompt).sample, atol=1e-3)
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "modules"), [("SD1.5", 192), ("SDXL", 722)])
def test_keys_of_full_size_files(name: str, modules: int) -> None:
    """Catches a count or a naming scheme that kohya's readers would not recognise."""
    family, layout = LAYOUTS[name]
    unet, _, _ = build_unet(ldm_weights(family, layout))
    factor = torch.nn.Parameter(torch.zeros(1, 1))
    layers = {target: LoraLayer(factor, factor, 1.0) for target in unet_targets(unet)}
    state = to_kohya(TrainedLora(layers), BaseModel(family, layout, unet, ()))
    assert len(state) == 3 * modules
    block = "input_blocks_4_1" if family.is_xl else "down_blocks_0_attentions_0"
    assert next(iter(state)) == f"lora_unet_{block}_proj_in.lora_down.weight"


def test_saved_precision(tmp_path: Path) -> None:
    """Catches a file that is not in the chosen number format."""
    base = tiny_base()
    layers = filled(base)
    for precision, dtype in [("fp16", torch.float16), ("bf16", torch.bfloat16)]:
        state = to_kohya(layers, base, save_precision=precision)
        assert {value.dtype for value in state.values()} == {dtype}
        assert {value.item() for key, value in state.items() if key.endswith("alpha")} == {2.0}


def test_metadata_and_recipe(tmp_path: Path, dataset: GlitchDataset) -> None:
    """Catches metadata that other tools could not read, or a recipe that is not the run's."""
    base = tiny_base()
    state = to_kohya(filled(base), base)
    recipe = Recipe(dataset.recipe, TrainRecipe(network_dim=4, network_alpha=2.0, seed=2**63))
    about = metadata(recipe, base, dataset, state, steps_done=9, epochs_done=2, started=1.0)
    path = tmp_path / "lora.safetensors"
    save_lora(path, state, about)
    kept = read_recipe_of(path)
    assert kept.dataset.folder == "faces"
    assert kept == recipe.without_paths()
    read = read_metadata(path)
    assert read["ss_network_dim"] == "4"
    assert read["ss_network_module"] == "networks.lora"
    assert read["ss_steps"] == "9"
    assert read["ss_base_model_version"] == "sd_v1"
    assert read["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert json.loads(read["ss_tag_frequency"]) == {"faces": {"red coat": 1, "glitch": 2}}
    assert json.loads(read["ss_dataset_dirs"]) == {"faces": {"n_repeats": 7, "img_count": 2}}


def test_hashes_are_kohyas(tmp_path: Path, dataset: GlitchDataset) -> None:
    """Catches a LoRA that Civitai and the web UIs do not find: they hash the file as it lies there.

    The older hash is of a file with the ``ss_…`` entries alone, where kohya's scripts take it.
    """
    base = tiny_base()
    state = to_kohya(filled(base), base) | {"filler": torch.rand(600_000)}
    recipe = Recipe(dataset.recipe, TrainRecipe(loss_type="huber"))
    about = metadata(recipe, base, dataset, state, steps_done=9, epochs_done=2, started=1.0)
    path = tmp_path / "lora.safetensors"
    save_lora(path, state, about)
    raw = path.read_bytes()
    header = int.from_bytes(raw[:8], "little")
    assert about["sshs_model_hash"] == hashlib.sha256(raw[8 + header :]).hexdigest()
    save_lora(path, state, {key: text for key, text in about.items() if key.startswith("ss_")})
    with path.open("rb") as opened:
        opened.seek(1 << 20)
        part = opened.read(1 << 16)
    assert len(part) == 1 << 16
    assert about["sshs_legacy_hash"] == hashlib.sha256(part).hexdigest()[:8]
    told = [about[f"ss_{name}"] for name in ("loss_type", "huber_schedule", "huber_c")]
    assert told == ["huber", "snr", "0.1"]


def test_no_path_is_in_the_file(tmp_path: Path) -> None:
    """Catches a shared LoRA that tells the name of its maker's account, in whatever entry."""
    home = "/home/jane doe"
    samples = (Sample(f"{home}/faces", "a.jpg", "red coat", (10, 20), "0a"),)
    dataset = GlitchDataset(DatasetRecipe(folder=f"{home}/faces"), samples)
    base = dataclasses.replace(tiny_base(), name="base.safetensors")
    recipe = Recipe(dataset.recipe, TrainRecipe(), f"{home}/base.safetensors")
    about = metadata(recipe, base, dataset, {}, steps_done=9, epochs_done=2, started=1.0)
    assert [key for key, text in about.items() if "jane" in text or "/home" in text] == []
    assert "faces" in about["glitch_recipe"]
    path = tmp_path / "lora_00001.safetensors"
    save_lora(path, {"a": torch.ones(1)}, about)
    assert read_recipe_of(path).checkpoint == ""
    beside = tmp_path / "lora_00001" / "recipe.json"
    beside.parent.mkdir()
    beside.write_text(dataclasses.replace(recipe, train=TrainRecipe(seed=9)).to_json())
    assert read_recipe_of(path).checkpoint == ""  # another run's folder
    beside.write_text(recipe.to_json())
    assert read_recipe_of(path) == recipe


@pytest.mark.parametrize(
    ("settings", "module", "args"),
    [
        ({}, "networks.lora", None),
        ({"conv_dim": 8}, "networks.lora", {"conv_dim": 8, "conv_alpha": 4.0}),
        ({"network_type": "dora"}, "lycoris.kohya",
         {"algo": "lora", "dora_wd": True, "wd_on_output": True}),
        ({"network_type": "rslora", "unet_blocks": "up"}, "lycoris.kohya",
         {"algo": "lora", "rs_lora": True, "unet_blocks": "up"}),
        ({"conv_dim": 8, "unet_blocks": "up", "text_encoder_only": True}, "networks.lora", None),
    ],
    ids=["lora", "conv", "dora", "rslora", "text"],
)  # fmt: skip
def test_metadata_names_the_network(
    dataset: GlitchDataset, settings: dict, module: str, args: dict | None
) -> None:
    """Catches a file that says it is something else than it is."""
    recipe = Recipe(dataset.recipe, TrainRecipe(**settings))
    base = tiny_base()
    about = metadata(recipe, base, dataset, {}, steps_done=1, epochs_done=1, started=1.0)
    assert about["ss_network_module"] == module
    assert about["ss_network_args"] == (json.dumps(args) if args else "None")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch) -> None:
    """Catches half a LoRA where a whole one was."""
    path = tmp_path / "lora.safetensors"
    save_lora(path, {"a": torch.zeros(2)}, {})

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full_disk)
    with pytest.raises(DiskError, match="No space left"):
        save_lora(path, {"a": torch.ones(2)}, {})
    assert load_file(path)["a"].equal(torch.zeros(2))
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", [b"", b"not safetensors", None], ids=["empty", "text", "none"])
def test_a_broken_file_is_one_sentence(tmp_path: Path, content: bytes | None) -> None:
    """Catches a traceback for a file that is not a LoRA."""
    path = tmp_path / "x.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LoraFileError, match="not a safetensors file|No such file"):
        read_recipe_of(path)
