"""Recipes: validated on construction, the same after a round trip, clear when wrong."""

import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import RecipeError
from glitch_train.recipe.experiments import EXPERIMENTS, combined_presets
from glitch_train.recipe.in_vain import settings_in_vain
from glitch_train.recipe.recipe import Recipe, read_recipe
from glitch_train.recipe.text import RECIPE_VERSION
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import declared, nearest


@given(
    steps=st.integers(1, 10_000_000),
    learning_rate=st.floats(0, 10, exclude_min=True),
    seed=st.integers(0, 2**64 - 1),
    name=st.sampled_from(["a", "Mode 3", "été", "x" * 200]),
)
def test_round_trip_through_json(steps: int, learning_rate: float, seed: int, name: str) -> None:
    """Catches a field that JSON loses or changes, such as a 64-bit seed."""
    train = TrainRecipe(steps=steps, learning_rate=learning_rate, seed=seed, output_name=name)
    recipe = Recipe(DatasetRecipe(folder="été \U0001f4f7"), train)
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_rate_of_0_is_refused() -> None:
    """Catches hours of training that change nothing, after a widget made 0 of 0.0001."""
    with pytest.raises(RecipeError, match="learning_rate must be above 0"):
        TrainRecipe(learning_rate=0.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"network_dim": 0}, "network_dim must be 1 to 512, got 0."),
        ({"steps": 1.5}, "steps must be a whole number, got 1.5."),
        ({"steps": True}, "steps must be a whole number, got True."),
        ({"learning_rate": float("nan")}, "learning_rate must be a number, got nan."),
        ({"precision": "int8"}, "precision must be one of auto, fp32, bf16, fp16; got 'int8'."),
        ({"output_name": "a/b"}, "without path separators"),
        ({"output_name": "..\\b"}, "without path separators"),
        ({"output_name": ".."}, "without path separators"),
        ({"output_name": "  "}, "output_name is empty"),
        ({"output_name": "é" * 101}, "longer than 200 bytes"),
        (
            {"sample_prompts": "a\n" + "\n".join(map(str, range(100)))},
            "at most 100 prompts, got 101",
        ),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_bad_setting_is_named(values: dict, said: str) -> None:
    """Catches a setting that reaches the trainer out of range."""
    with pytest.raises(RecipeError, match=said.replace("(", r"\(").replace(".", r"\.")):
        TrainRecipe(**values)


@pytest.mark.parametrize("recipe_type", [DatasetRecipe, TrainRecipe])
@pytest.mark.parametrize("character", ["\ud800", "\0"], ids=ascii)
def test_a_character_that_no_file_holds_is_named(recipe_type: type, character: str) -> None:
    """Catches a run that ends in a traceback when it writes its recipe or opens its folder."""
    texts = [name for name, (_, setting) in declared(recipe_type).items() if setting.text]
    assert texts
    for name in texts:
        with pytest.raises(RecipeError) as caught:
            recipe_type(**{name: f"a {character}"})
        wanted = f"{name} has {character!r} as character 3, which no file can hold; replace it."
        assert str(caught.value) == wanted


@pytest.mark.parametrize("part", ['"checkpoint": "\\ud800"', '"origins": {"steps": "\\ud800"}'])
def test_such_a_character_beside_the_settings(part: str) -> None:
    """Catches the same in what a recipe holds that is no setting."""
    with pytest.raises(RecipeError, match=r"has '\\ud800' as character 1"):
        Recipe.from_json(f"{{{part}}}")


def test_picture_sides_are_multiples_of_eight() -> None:
    """Catches a shape the VAE cannot encode."""
    with pytest.raises(RecipeError, match="width must be a multiple of 8, got 100"):
        DatasetRecipe(width=100)


def test_what_is_in_a_recipe_decides_how_it_is_read(tmp_path: Path) -> None:
    """Catches JSON refused as bad TOML because a person sent it into a file of that name."""
    recipe = Recipe(train=TrainRecipe(steps=7))
    for name in ("a.toml", "a.json", "a"):
        (tmp_path / name).write_text(recipe.to_json())
        assert read_recipe(tmp_path / name) == recipe
    (tmp_path / "b").write_text("[train]\nsteps = 7\n")
    assert read_recipe(tmp_path / "b").train.steps == 7


def test_a_newer_version_is_refused() -> None:
    """Catches a recipe of tomorrow being half understood."""
    with pytest.raises(RecipeError, match="update the pack"):
        Recipe.from_dict({"version": RECIPE_VERSION + 1})


def test_an_unknown_name_offers_the_nearest() -> None:
    """Catches a typing error that would silently keep the default."""
    with pytest.raises(RecipeError, match="did you mean 'learning_rate'"):
        Recipe.from_dict({"train": {"learnin_rate": 1}})


def test_a_sentence_about_an_unknown_name_has_one_stop() -> None:
    """Catches ``did you mean 'framing'?.``, and a sentence without an end where nothing is near."""
    assert nearest("framig", ["framing", "folder"]) == "; did you mean 'framing'?"
    assert nearest("xyz", ["framing", "folder"]) == "."
    assert nearest("xyz", ["framing"], "; there is framing.") == "; there is framing."
    assert nearest("framig", ["framing"], "; there is framing.") == "; did you mean 'framing'?"


def test_toml_and_json_files_say_the_same(tmp_path: Path) -> None:
    """Catches a difference between the two file formats."""
    toml, as_json = tmp_path / "a.toml", tmp_path / "a.json"
    toml.write_text('[train]\nsteps = 7\nlearning_rate = 2e-4\n[dataset]\nfolder = "x"\n')
    as_json.write_text(json.dumps({"train": {"steps": 7, "learning_rate": 2e-4},
                                   "dataset": {"folder": "x"}}))  # fmt: skip
    assert read_recipe(toml) == read_recipe(as_json)
    assert read_recipe(toml).train.steps == 7


DEEP, NUMBER = 100_000 * "[", 5000 * "1"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("r.toml", " \n", "The recipe {} is empty; write settings, or choose another file."),
        ("r.json", "{", "The recipe {} is not valid JSON: Expecting"),
        ("r.json", "[]", "The recipe {} is not a JSON object with names and values, {{…}}."),
        ("r.json", DEEP, "The recipe {} is not valid JSON: it is nested more than 100 deep."),
        ("r.json", NUMBER, "The recipe {} is not valid JSON: "),
        ("r.toml", "[", "The recipe {} is not valid TOML: "),
        ("r.toml", f"a = {DEEP}", "The recipe {} is not valid TOML: it is nested too deep; write"),
        ("r.toml", f"a = {NUMBER}", "The recipe {} is not valid TOML: "),
        ("r.toml", "- **short**: x", "The recipe {} is not valid TOML: "),
        ("r.json", "steps = 0", "{}: steps must be "),
        ("r", "stpes = 5", "{}: There is no setting called 'stpes'; did you mean 'steps'?"),
        (
            "r.yaml",
            "steps = 5\n[dataset]\n",
            "{}: A recipe has the parts dataset, train, origins, mix,",
        ),
        ("r.json", '{"settings": {"stpes": 5}}', "{}: There is no setting called 'stpes'"),
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "deep",
        "number",
        "toml",
        "deep toml",
        "toml number",
        "for reading",
        "flat",
        "flat name",
        "half flat",
        "settings",
    ],
)
def test_what_is_no_recipe_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    """Catches a traceback, and a sentence that leaves one to guess which file is meant."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(said.format(path))
    assert "\n" not in str(caught.value)


def test_a_preset_is_no_file() -> None:
    """Catches a person left with "no such file" who named what the other verbs take."""
    said = "No such file or directory; to print the preset of that name: recipe --preset overtrain"
    with pytest.raises(RecipeError, match=said):
        read_recipe(Path("overtrain"))


@pytest.mark.parametrize("name", ["r.toml", "r.json", "r", "r.txt"])
@pytest.mark.parametrize(
    "text",
    [
        '{"train": {"steps": 7}, "dataset": {"width": 64}}',
        "[train]\nsteps = 7\n[dataset]\nwidth = 64\n",
        "steps = 7\nwidth = 64\n",
        '{"settings": {"steps": 7, "width": 64}, "sources": {}, "presets": {}, "collisions": []}',
    ],
    ids=["JSON", "TOML", "settings alone", "presets as printed"],
)
def test_a_recipe_of_any_name_and_form_is_read(tmp_path: Path, name: str, text: str) -> None:
    """Catches a recipe refused for what its file is called, or for what our own command printed."""
    (tmp_path / name).write_text(text)
    recipe = read_recipe(tmp_path / name)
    assert (recipe.train.steps, recipe.dataset.width) == (7, 64)


def test_presets_as_printed_keep_their_names(tmp_path: Path) -> None:
    """Catches what `recipe --preset NAME --json` prints read without where it comes from."""
    path = tmp_path / "p.json"
    path.write_text(json.dumps(combined_presets(["short"]).to_dict()))
    recipe = read_recipe(path)
    assert recipe.train.steps == 1200
    assert recipe.origins == {"steps": "short (1200 steps)"}


@pytest.mark.parametrize("text", ["{", "[]", '{"train": {"steps": 0}}'])
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str) -> None:
    """Catches a traceback where a sentence belongs."""
    path = tmp_path / "r.json"
    path.write_text(text)
    with pytest.raises(RecipeError) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["r.toml", "r.json"])
def test_a_file_that_is_no_text_is_named(tmp_path: Path, name: str) -> None:
    """Catches a traceback over a LoRA or picture given as a recipe under another name."""
    (tmp_path / name).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match=f"{name} cannot be read as text: .*; give a"):
        read_recipe(tmp_path / name)


def test_recipes_cannot_be_changed() -> None:
    """Catches a recipe that differs from what was validated."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        TrainRecipe().steps = 3


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"steps": 6, "lr_scheduler": "cosine", "warmup_steps": 100},
            "warmup_steps 100 does not end within the run of 6 steps, so the learning rate never "
            "reaches 0.0001.",
        ),
        ({"warmup_steps": 10}, "warmup_steps 10 is set, but lr_scheduler is constant."),
        (
            {"steps": 6, "save_every": 7},
            "save_every 7 is longer than the run of 6 steps, so there are no snapshots.",
        ),
        ({"lr_cycles": 3}, "lr_cycles 3 is set, but lr_scheduler is not cosine_with_restarts."),
        (
            {"text_encoder_lr": 1e-3},
            "text_encoder_lr 0.001 is set, but no text encoder is trained.",
        ),
        ({"conv_alpha": 1.0}, "conv_alpha 1.0 is set, but conv_dim is 0."),
        ({"sample_steps": 9}, "sample_steps 9 is set, but sample_every is 0."),
        (
            {"validation_split": 0.2, "probe_every": 0},
            "validation_split 0.2 is set, but probe_every is 0, so the pictures held out are never "
            "measured.",
        ),
        (
            {"text_encoder_only": True, "unet_blocks": "mid"},
            "unet_blocks mid is set, but text_encoder_only leaves the UNet alone.",
        ),
        ({"lr_scheduler": "cosine", "steps": 6, "warmup_steps": 5}, None),
        ({"steps": 6, "save_every": 6, "sample_every": 99, "probe_every": 99}, None),
        ({}, None),
    ],
)
def test_a_setting_that_cannot_take_effect(settings: dict, said: str | None) -> None:
    """Catches a setting carried out in vain without a word, and a note where all is well."""
    found = settings_in_vain(TrainRecipe(**settings))
    assert found == ([f"Without effect: {said}"] if said else [])


def test_no_experiment_has_a_setting_in_vain() -> None:
    """Catches a preset of which a part does nothing."""
    for one in EXPERIMENTS.values():
        train = one.to_partial().over(TrainRecipe, {})
        assert settings_in_vain(TrainRecipe(**train)) == [], one.title
