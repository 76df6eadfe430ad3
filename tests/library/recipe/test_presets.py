"""Presets and the recipes made of them: each one place, combined without surprises."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glitch_train.cli.command import main
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import RecipeError
from glitch_train.recipe.experiments import EXPERIMENTS, TECHNIQUES, experiment_named, settings_of
from glitch_train.recipe.partial import PartialRecipe, combine, parse_settings, partial
from glitch_train.recipe.recipe import Recipe
from glitch_train.recipe.text import RECIPE_VERSION
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import declared

TITLES = [one.title for one in EXPERIMENTS.values()]
# Every preset, and what the log's table of techniques must see in use.
USES = {
    "SDXL standard": "overtrain",  # 8000 steps, as the artist has them
    "text encoder drift": "train the text encoder",
    "uncropped": "use uncropped pictures",
    "SD1.5 uncropped portraits": "use uncropped pictures",
    "no bucket (stretched)": "turn buckets off",
    "random crop and flip": "random crop and flip",
    "high learning rate (2e-4)": "raise learning_rate",
    "caption dropout": "drop captions",
    "overtrain (> 5000 steps)": "overtrain",
    "overtrain + compression (900 repeats, 512²)": "overtrain",
    "JPEG-crushed": "put compressed JPEGs",
}


def built(recipe: PartialRecipe) -> Recipe:
    """Return a whole recipe: the defaults under a partial one."""
    halves = {
        "dataset": DatasetRecipe(**recipe.over(DatasetRecipe, {})),
        "train": TrainRecipe(**recipe.over(TrainRecipe, {})),
    }
    return Recipe(**halves)


def test_both_halves_of_a_recipe_have_different_names() -> None:
    """Catches a new setting that would make a partial recipe ambiguous."""
    assert not set(declared(DatasetRecipe)) & set(declared(TrainRecipe))


@pytest.mark.parametrize("title", TITLES)
def test_every_preset_is_a_valid_recipe_and_changes_it(title: str) -> None:
    """Catches a preset whose settings no trainer takes, or that is only a name."""
    recipe = built(experiment_named(title).to_partial())
    if title not in ("mismatched base", "SD1.5 standard"):  # no setting; close to the defaults
        assert recipe != Recipe()
    assert experiment_named(title).reason.endswith(".")


@pytest.mark.parametrize("title", TITLES)
def test_presets_use_the_techniques_they_are_named_after(title: str) -> None:
    """Catches a preset that the verdict would not recognise: it advises the rest only."""
    settings = settings_of(built(experiment_named(title).to_partial()).to_dict())
    used = [t.name for t in TECHNIQUES if "mismatched" not in t.name and t.in_use(settings)]
    wanted = [USES[title]] if title in USES else []
    assert all(any(name.startswith(one) for name in used) for one in wanted), used
    if not wanted:
        assert used == []


def test_an_experiment_is_found_by_its_slug_too() -> None:
    """Catches a name that one verb takes and another does not."""
    assert [experiment_named(slug).slug for slug in EXPERIMENTS] == list(EXPERIMENTS)


def test_a_technique_changes_one_thing() -> None:
    """Catches a technique that hides a second change: the artist compares one at a time."""
    names = {title: set(experiment_named(title).settings) for title in TITLES}
    assert names["no bucket (stretched)"] == names["uncropped"] == {"framing"}
    assert names["caption dropout"] == {"caption_dropout"}
    assert names["high learning rate (2e-4)"] == {"learning_rate"}
    wide = experiment_named("wide (dim 192)").to_partial()
    train, default = built(wide).train, TrainRecipe()
    assert train.network_alpha / train.network_dim == default.network_alpha / default.network_dim


@pytest.mark.parametrize(("one", "two"), itertools.combinations(TITLES, 2))
def test_the_order_matters_only_where_two_presets_collide(one: str, two: str) -> None:
    """Catches an order that decides without a word, or a collision where there is none."""
    first, second = experiment_named(one).to_partial(), experiment_named(two).to_partial()
    there, back = combine(first, second), combine(second, first)
    differ = {
        name
        for name in first.values.keys() & second.values.keys()
        if first.values[name] != second.values[name]
    }
    assert {collision.setting for collision in there.collisions} == differ
    assert (there.values == back.values) == (not differ)
    assert list(there.values) == list(back.values)
    for name in differ:
        assert there.values[name] == second.values[name]
        assert there.settings[name].source == two
        said = next(str(c) for c in there.collisions if c.setting == name)
        assert one in said
        assert f"{two}, wins" in said


@given(st.permutations(["no bucket (stretched)", "caption dropout", "wide (dim 192)"]))
def test_three_that_do_not_collide_give_one_recipe(order: list[str]) -> None:
    """Catches a chain whose result depends on how it was wired."""
    recipe = combine(*(experiment_named(title).to_partial() for title in order))
    assert recipe.values == {
        "framing": "stretch", "caption_dropout": 0.3, "network_dim": 192, "network_alpha": 96.0,
    }  # fmt: skip
    assert recipe.collisions == ()
    assert recipe.settings["framing"].source == "no bucket (stretched)"


def test_chaining_is_associative() -> None:
    """Catches a chain of nodes that gives another recipe than all at once."""
    a, b, c = (
        experiment_named(t).to_partial() for t in ("SDXL standard", "uncropped", "JPEG-crushed")
    )
    assert combine(combine(a, b), c) == combine(a, combine(b, c)) == combine(a, b, c)


def test_what_is_named_wins_and_the_rest_stays() -> None:
    """Catches a recipe that resets what it does not name."""
    recipe = combine(
        experiment_named("no bucket (stretched)").to_partial(), parse_settings("steps=7")
    )
    widgets = {"framing": "tile", "trigger_word": "glz"}
    assert recipe.over(DatasetRecipe, widgets) == {"framing": "stretch", "trigger_word": "glz"}
    assert recipe.over(TrainRecipe, {"steps": 9, "seed": 4}) == {"steps": 7, "seed": 4}
    assert recipe.origins(DatasetRecipe) == {"framing": "no bucket (stretched)"}


def test_settings_that_meet_another_dataset_are_said() -> None:
    """Catches a recipe connected to the trainer alone, whose framing nobody carried out."""
    recipe = experiment_named("no bucket (stretched)").to_partial()
    assert recipe.unmet(DatasetRecipe(), {}) == [
        "framing is center_crop, the recipe asks for stretch"
    ]
    assert recipe.unmet(DatasetRecipe(framing="stretch"), {}) == []
    corrupted = experiment_named("JPEG-crushed").to_partial()
    more = DatasetRecipe(variants_per_picture=10, corruption="jpeg_crush\nposterize")
    assert corrupted.unmet(more, {"corruption": "JPEG-crushed"}) == []


def test_two_nodes_of_one_kind_are_not_taken_for_one() -> None:
    """Catches a Glitch Framing at the trainer that says other than the one at the loader."""
    at_trainer = partial({"background": "black"}, "Glitch Framing")
    assert at_trainer.unmet(DatasetRecipe(), {"background": "Glitch Framing"}) == [
        "background is white, the recipe asks for black"
    ]


@pytest.mark.parametrize(
    ("title", "said"),
    [
        ("stretched", "did you mean 'no bucket (stretched)'?"),
        ("SDLX standard", "did you mean 'SDXL standard'"),
        ("qqq", "use 'SDXL standard', 'SD1.5 standard'"),
    ],
)
def test_an_unknown_preset_offers_the_nearest(title: str, said: str) -> None:
    """Catches a preset that is silently none."""
    with pytest.raises(RecipeError, match="no preset called") as caught:
        experiment_named(title)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("framing = stretch", 'words in quotes: framing = "stretch"'),
        ("lerning_rate = 1e-4", "did you mean 'learning_rate'"),
        ("steps = 0", "steps must be 1 to 10000000, got 0."),
        ("steps = true", "steps must be a whole number"),
        ('folder = "x"', "choose folder in the Glitch Dataset Loader"),
        ('output_name = "a/b"', "output_name must be a plain file name"),
        ('framing_mix = "1 sideways"', "sideways"),
        ('corruption = "rust"', "rust"),
        ('background = "loud"', "background must be a colour name"),
        (r'{"train": {"sample_prompts": "\ud800"}}', "sample_prompts has"),
        (f"version = {RECIPE_VERSION + 1}", "update the pack"),
        (f'{{"version": {RECIPE_VERSION + 1}, "train": {{}}}}', "update the pack"),
        ("version = true", "a whole number from 1 on, got True"),
        ("version = 0", "a whole number from 1 on, got 0"),
        ('{"train": 3}', "holds names and values"),
        ('{"trian": {}}', "no setting called 'trian'"),
        ("{", "not valid JSON"),
    ],
)
def test_settings_that_cannot_be_read(text: str, said: str) -> None:
    """Catches a traceback, or a setting that is silently left out."""
    with pytest.raises(RecipeError) as caught:
        parse_settings(text)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_whole_recipe_can_be_pasted() -> None:
    """Catches a printed recipe that the node does not take back."""
    recipe = Recipe(DatasetRecipe(folder="x", framing="tile"), TrainRecipe(steps=3))
    pasted = parse_settings(recipe.to_json())
    assert built(pasted) == Recipe(dataclasses.replace(recipe.dataset, folder=""), recipe.train)


def test_origins_travel_with_a_recipe_and_change_nothing() -> None:
    """Catches provenance that is lost in a file, or that makes two equal recipes differ."""
    plain = Recipe(train=TrainRecipe(steps=5))
    told = dataclasses.replace(plain, origins={"steps": "short"})
    again = Recipe.from_json(told.to_json())
    assert again.origins == {"steps": "short"}
    assert again == plain == told
    assert settings_of(told.to_dict())["steps"] == 5


def test_recipe_prints_presets_combined(capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a verb that lists what the node does not have."""
    assert main(["recipe", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["presets"]) == TITLES
    wanted = ["--preset", "uncropped", "--preset", "no bucket (stretched)"]
    assert main(["recipe", *wanted, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["settings"] == {"framing": "stretch"}
    assert len(printed["collisions"]) == 1
    assert main(["recipe", "--preset", "uncroped"]) == 1
    assert "did you mean 'uncropped'" in capsys.readouterr().err


def test_prepare_takes_presets(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a preset that prepares other pictures than the settings it names."""
    from PIL import Image
    from tiny import picture

    folder = tmp_path / "in"
    folder.mkdir()
    picture(folder / "a.png", (96, 64))
    base = ["prepare", str(folder), "--width", "64", "--height", "64"]
    assert main([*base, "--preset", "no bucket (stretched)", "--out", str(tmp_path / "p")]) == 0
    assert main([*base, "--framing", "stretch", "--out", str(tmp_path / "q")]) == 0
    one, two = (next((tmp_path / name).glob("*.png")) for name in "pq")
    assert one.read_bytes() == two.read_bytes()
    with Image.open(one) as image:
        assert image.size == (64, 64)
    assert "no bucket (stretched)" in capsys.readouterr().out


def test_a_partial_recipe_is_checked_at_once() -> None:
    """Catches a value that is found wrong only when the trainer gets it."""
    with pytest.raises(RecipeError, match="framing must be one of"):
        partial({"framing": "sideways"})


def test_the_line_on_the_node() -> None:
    """Catches Markdown on the node, which shows it as it is written and cuts it."""
    one = experiment_named("SD1.5 standard").to_partial()
    both = combine(one, parse_settings("steps = 7"))
    assert one.summary() == f"SD1.5 standard: {len(one.settings)} settings"
    assert both.summary() == f"{one.summary()}, in 1 of which the later wins"
    assert parse_settings("steps = 7").summary() == "1 setting"
