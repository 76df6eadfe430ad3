"""Several datasets as one: proportions, kohya's folders, and what a recipe says of them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import pytest
from pictures_on_disk import photo_folder

from glitch_train.cache import TensorCache
from glitch_train.cli.prepare import write_prepared
from glitch_train.dataset.contact_sheet import SheetStyle, contact_sheet
from glitch_train.dataset.dataset import GlitchDataset
from glitch_train.dataset.folder import folder_fingerprint
from glitch_train.dataset.load import check_folder, load_dataset, load_parts
from glitch_train.dataset.mix import MixedDataset, MixPart, mix_datasets, shared_out
from glitch_train.dataset.mix_report import report_of
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import DatasetError, RecipeError
from glitch_train.recipe.assignments import with_assignments
from glitch_train.recipe.recipe import Recipe, read_recipe
from glitch_train.training.batches import BatchSource
from glitch_train.training.encode import captions_to_encode
from glitch_train.training.items import training_items
from glitch_train.training.probe import split_items


def load(folder: Path, **settings: object) -> GlitchDataset:
    """Load a folder at 64×64, each picture seen once an epoch."""
    settings = {"width": 64, "height": 64, "repeats": 1} | settings
    return load_dataset(DatasetRecipe(folder=str(folder), **settings))


@pytest.fixture
def clean(tmp_path: Path) -> Path:
    """Four photographs."""
    return photo_folder(tmp_path / "clean", 4)


def items_of(dataset: MixedDataset | GlitchDataset) -> list:
    """Return what is trained, with keys that say which prepared picture it is."""
    keys = [
        f"{part.picture_key(sample, variant)}"
        for part in dataset.parts
        for sample in part.samples
        for variant in range(part.recipe.variants if part.recipe.varies_pictures else 1)
    ]
    prompts = {caption: caption for caption in captions_to_encode(dataset)}
    return training_items(dataset, keys, prompts)


def epochs(dataset: MixedDataset, count: int) -> list[list]:
    """Return the items of each of some epochs, as a run sees them."""
    items = items_of(dataset)
    per_epoch = dict(enumerate(dataset.samples_per_epoch()))
    nothing = TensorCache(Path())
    source = BatchSource(
        items, nothing, nothing, batch_size=2, repeats=1, seed=3, per_epoch=per_epoch
    )
    return [
        [item for group in source.in_epoch(number).values() for item in group]
        for number in range(1, count + 1)
    ]


@pytest.mark.parametrize(
    ("weights", "repeats", "expected"),
    [
        ((70.0, 30.0), (10, 10), (56, 24)),
        ((1.0, 1.0), (1, 9), (20, 20)),
        ((1.0, 2.0), (1, 1), (3, 5)),
        ((1000.0, 1.0), (1, 1), (7, 1)),
    ],
)
def test_an_epoch_is_shared_out_by_weight(
    clean: Path, weights: tuple, repeats: tuple, expected: tuple
) -> None:
    """Catches proportions that follow the number of pictures, or an epoch of another length."""
    parts = [load(clean, repeats=number, trigger_word=str(number)) for number in repeats]
    mixed = mix_datasets(list(zip(weights, parts, strict=True)))
    assert mixed.samples_per_epoch() == expected
    seen = Counter(item.part for item in epochs(mixed, 1)[0])
    assert (seen[0], seen[1]) == expected


def test_every_picture_is_seen_in_turn(clean: Path) -> None:
    """Catches a part that always shows its first pictures where an epoch has not room for all.

    Its four pictures share three samples an epoch, so that four epochs show each of them three
    times, and each of its two variants in turn.
    """
    few = load(clean, framing="random_crop", variants_per_picture=2)
    mixed = mix_datasets([(3.0, few), (5.0, load(clean))])
    assert mixed.samples_per_epoch() == (3, 5)
    shown = [[item for item in epoch if item.part == 0] for epoch in epochs(mixed, 8)]
    assert [len(epoch) for epoch in shown] == [3] * 8
    assert Counter(item.picture for epoch in shown[:4] for item in epoch) == dict.fromkeys(
        range(4), 3
    )
    variants = Counter((item.picture, item.latents_key) for epoch in shown for item in epoch)
    assert len(variants) == 8
    assert set(variants.values()) == {3}


def test_what_is_shared_out_is_whole() -> None:
    """Catches samples that rounding loses or invents."""
    for total in range(3, 60):
        for weights in ((1.0, 1.0, 1.0), (0.5, 0.3, 0.2), (97.0, 2.0, 1.0)):
            parts = shared_out(total, weights)
            exact = [total * weight / sum(weights) for weight in weights]
            assert all(part >= 1 for part in parts)
            if min(exact) >= 1:
                assert sum(parts) == total
                assert all(abs(p - e) < 1 for p, e in zip(parts, exact, strict=True))


def test_each_part_keeps_its_own_settings(clean: Path) -> None:
    """Catches a mix that prepares all parts like the first, or mistakes whose picture it is."""
    plain = load(clean, caption_dropout=1.0)
    crushed = load(clean, corruption="jpeg_crush quality_low=2 quality_high=4", trigger_word="crsh")
    mixed = mix_datasets([(1.0, plain), (1.0, crushed)])
    items = items_of(mixed)
    assert [item.part for item in items] == [0] * 4 + [1] * 4
    assert [item.picture for item in items] == list(range(8))
    assert items[4].prompt_key.startswith("crsh, Picture 0")
    assert items[0].latents_key == plain.picture_key(plain.samples[0])
    assert items[4].latents_key == crushed.picture_key(crushed.samples[0])
    assert [mixed.caption_dropped(index, 0) for index in range(8)] == [True] * 4 + [False] * 4
    assert "" in captions_to_encode(mixed)


def test_one_picture_in_two_parts_is_held_out_of_both(clean: Path) -> None:
    """Catches a held-out picture whose crushed twin is trained on."""
    crushed = load(clean, corruption="posterize bits=2")
    items = items_of(mix_datasets([(1.0, load(clean)), (1.0, crushed)]))
    split = split_items(items, 0.25, 0)
    assert len(split.held_out) == 2
    assert len({item.picture % 4 for item in split.held_out}) == 1
    assert sorted(item.part for item in split.held_out) == [0, 1]


def test_mixes_within_mixes_keep_their_proportions(clean: Path) -> None:
    """Catches an inner mix that counts once for each of its parts."""
    inner = mix_datasets([(3.0, load(clean)), (1.0, load(clean, framing="stretch"))])
    outer = mix_datasets([(1.0, inner), (1.0, load(clean, framing="tile"))])
    assert outer.shares == pytest.approx((0.375, 0.125, 0.5))
    assert [part.weight for part in outer.mix] == pytest.approx([0.75, 0.25, 1.0])
    again = load_parts(outer.recipe, outer.mix)
    assert again.shares == pytest.approx(outer.shares)
    assert [part.recipe for part in again.parts] == [part.recipe for part in outer.parts]


def test_a_recipe_says_a_mix_and_reads_it_back(clean: Path, tmp_path: Path) -> None:
    """Catches a mix that is lost in recipe.json, or whose parts forget what [dataset] says."""
    text = f"""
        [dataset]
        width = 64
        height = 64
        folder = '{clean}'
        [[mix]]
        weight = 70
        [[mix]]
        weight = 30
        corruption = "posterize bits=2"
        [train]
        steps = 7
    """
    (tmp_path / "mix.toml").write_text(text)
    recipe = read_recipe(tmp_path / "mix.toml")
    assert [part.weight for part in recipe.mix] == [70, 30]
    assert [part.dataset.width for part in recipe.mix] == [64, 64]
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert load_parts(recipe.dataset, recipe.mix).shares == pytest.approx((0.7, 0.3))
    changed = with_assignments(recipe, ["framing=stretch"])
    assert [part.dataset.framing for part in changed.mix] == ["stretch", "stretch"]
    hidden = recipe.without_paths()
    assert [part.dataset.folder for part in hidden.mix] == ["clean", "clean"]
    assert "mix" not in Recipe().to_dict()


@pytest.mark.parametrize(
    ("mix", "said"),
    [
        ([{"weight": 0}], "weight of a part of a mix must be above 0, got 0"),
        ([{"weight": "much"}], "must be above 0, got 'much'"),
        ([{"wieght": 2}], "no setting called 'wieght'"),
        ([3], "A part of a mix holds names and values, got 3"),
        ({"weight": 1}, "mix of a recipe is a list"),
    ],
)
def test_a_mix_that_cannot_be_is_one_sentence(mix: object, said: str) -> None:
    """Catches a traceback, or a part that is dropped without a word."""
    with pytest.raises(RecipeError, match=said):
        Recipe.from_dict({"mix": mix})


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """kohya's layout: two folders that are trained, and others."""
    root = tmp_path / "root"
    photo_folder(root / "2_sks dog", 2)
    photo_folder(root / "10_a cat", 3)
    photo_folder(root / "notes", 1)
    photo_folder(root / "0_off", 1)
    (root / "5_empty").mkdir()
    (root / "2_sks dog" / "1.txt").unlink()
    return root


def test_kohyas_folders_are_a_mix_by_repeats(numbered: Path) -> None:
    """Catches repeats, captions by the folder's name, or other folders read in another way.

    The reference is kohya's DreamBooth layout: ``<repeats>_<class tokens>``.
    """
    mixed = load(numbered)
    assert [part.recipe.repeats for part in mixed.parts] == [10, 2]
    assert mixed.samples_per_epoch() == (30, 4)
    assert mixed.subfolders[::2] == ("0_off", "notes")
    assert "5_empty is empty" in mixed.subfolders[1]
    dog = mixed.parts[1]
    assert [sample.caption for sample in dog.samples][1] == "sks dog"
    assert (
        "the folder's name is its caption" in next(f for f in dog.files if f.name == "1.jpg").reason
    )
    (numbered / "metadata.jsonl").write_text('{"file_name": "10_a cat/0.jpg", "text": "x"}')
    (numbered / "0.txt").write_text("a caption")
    mixed = load(numbered)
    assert [(file.name, file.used) for file in mixed.files] == [
        ("0.txt", False), ("metadata.jsonl", False)
    ]  # fmt: skip
    assert (mixed.recipe.folder, mixed.mix) == (str(numbered), ())
    check_folder(numbered)
    again = mix_datasets([(1.0, mixed), (1.0, load(numbered / "notes"))])
    assert again.shares == pytest.approx((30 / 68, 4 / 68, 0.5))
    assert (again.files, again.subfolders) == (mixed.files, mixed.subfolders)


def test_a_root_with_pictures_of_its_own_is_a_folder(numbered: Path) -> None:
    """Catches a plain folder that is turned into a mix by a subfolder's name."""
    photo_folder(numbered, 1)
    assert isinstance(load(numbered), GlitchDataset)


def test_a_change_below_a_root_is_seen(numbered: Path) -> None:
    """Catches a loader that keeps its cached result when a picture is added below the root."""
    before = folder_fingerprint(numbered)
    photo_folder(numbered / "notes", 2)
    assert folder_fingerprint(numbered) == before
    photo_folder(numbered / "10_a cat", 4)
    assert folder_fingerprint(numbered) != before


def test_numbered_folders_without_pictures_are_said(tmp_path: Path) -> None:
    """Catches an empty mix, or a sentence that does not say where to look."""
    (tmp_path / "10_x").mkdir()
    with pytest.raises(DatasetError, match=r"10_x is empty"):
        load(tmp_path)
    photo_folder(tmp_path / "999999_y", 1)
    with pytest.raises(DatasetError, match=r"999999_y: repeats must be 1 to 100000"):
        load(tmp_path)


def test_the_report_shows_the_proportions(clean: Path, numbered: Path) -> None:
    """Catches a report of the first part alone, or shares that are not those trained."""
    crushed = load(clean, corruption="posterize bits=3")
    mixed = mix_datasets([(3.0, load(clean)), (1.0, crushed)])
    report = report_of(mixed)
    text = report.to_markdown()
    assert "**8 pictures** in a mix of 2, 8 samples per epoch" in text
    assert "| 1 | clean | 4 | 1 | 3 | 6 | 75 % |" in text
    assert "| 2 | clean | 4 | 1 | 1 | 2 | 25 % |" in text
    assert "posterize bits=3" in text
    told = report.to_dict()
    assert (told["samples_per_epoch"], [part["share"] for part in told["mix"]]) == (8, [0.75, 0.25])
    assert report.summary == "of every epoch: clean 75 %, clean 25 %"
    (numbered / "0.tags").write_text("1girl")
    beside = report_of(load(numbered))
    by_repeats = beside.to_markdown()
    assert "- 1 files beside the parts' folders, skipped:\n  - 0.tags: not read" in by_repeats
    assert "Repeats are the numbers in the folders' names" in by_repeats
    assert [file["name"] for file in beside.to_dict()["files"]] == ["0.tags"]
    assert "| 1 | 10_a cat | 3 | 10 | by repeats | 30 | 88 % |" in by_repeats
    assert "Subfolders, not read: 0_off, 5_empty (The folder" in by_repeats


def test_a_mix_is_prepared_and_drawn_whole(numbered: Path, tmp_path: Path) -> None:
    """Catches pictures of later parts that are neither written nor shown."""
    mixed = load(numbered)
    written = write_prepared(mixed, tmp_path / "out")
    assert [path.name for path in written] == [
        *("00001_0.png", "00002_1.png", "00003_2.png", "00004_0.png", "00005_1.png"),
    ]
    assert (tmp_path / "out" / "00005_1.txt").read_text("utf-8") == "sks dog"
    seen: list[tuple[int, int]] = []
    contact_sheet(mixed, SheetStyle(cell_px=64), lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)


def test_parts_are_not_told_apart_by_their_order_alone(clean: Path) -> None:
    """Catches a weight that is taken for another part's when a recipe is written."""
    parts = (MixPart(2.0, load(clean).recipe), MixPart(1.0, load(clean, framing="tile").recipe))
    recipe = Recipe(parts[0].dataset, mix=parts)
    back = Recipe.from_dict(recipe.to_dict())
    assert [(one.weight, one.dataset.framing) for one in back.mix] == [
        *((2.0, "center_crop"), (1.0, "tile")),
    ]
    assert dataclasses.replace(recipe, mix=()) != recipe
