"""Variants of a picture: seeded, the same whatever the threads, encoded once."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from pathlib import Path

import pytest
import torch
from pictures_on_disk import gradient, jpeg, photo_folder
from PIL import Image

from glitch_train.cache import TensorCache
from glitch_train.cli.prepare import write_prepared
from glitch_train.dataset.captions import split_parts
from glitch_train.dataset.corruptions.chain import parse_chain
from glitch_train.dataset.dataset import GlitchDataset, Sample
from glitch_train.dataset.framing import FramePlan
from glitch_train.dataset.load import load_dataset
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.errors import TrainingError
from glitch_train.training.batches import BatchSource
from glitch_train.training.encode import captions_to_encode, encode_pictures
from glitch_train.training.items import CaptionDropout, TrainingItem, training_items

EVERYTHING = {
    "framing_mix": "random_crop, bucket, letterbox, tile",
    "min_bucket_reso": 64,
    "random_flip": True,
    "letterbox_fill": "blur",
    "corruption": "datamosh_blocks probability=0.7; bitstream probability=0.5;"
    "pixel_sort amount=0.4; jpeg_crush generations=2 shift_px=1; channel_shift;"
    "scanline probability=0.5",
    "caption_part_dropout": 0.3,
    "caption_word_dropout": 0.1,
    "caption_swap": 0.3,
    "caption_dropout": 0.2,
    "caption_shuffle": True,
    "variants_per_picture": 4,
}


def load(folder: Path, **settings: object) -> GlitchDataset:
    """Load a folder at 64×64."""
    return load_dataset(DatasetRecipe(folder=str(folder), **{"width": 64, "height": 64} | settings))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five small photographs with captions."""
    return photo_folder(tmp_path / "pictures", 5)


class CountingVae:
    """Encodes to the mean colour of 8×8 pixels and counts."""

    def __init__(self) -> None:
        """Nothing is encoded yet."""
        self.calls = 0

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Return latents (4, H/8, W/8)."""
        self.calls += 1
        small = image.convert("RGBA").reduce(8)
        values = torch.tensor(list(small.tobytes()), dtype=torch.float32)
        return values.view(small.height, small.width, 4).permute(2, 0, 1)


def digests(folder: Path) -> dict[str, str]:
    """Return name to SHA-256 of the files in a folder."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())}


def test_prepared_files_are_the_same_whatever_the_threads(folder: Path, tmp_path: Path) -> None:
    """Catches a draw that depends on who comes first: 1, 2 and 7 threads, and a second time."""
    results = []
    for run, workers in enumerate((1, 2, 7, 7)):
        out = tmp_path / f"out{run}"
        write_prepared(load(folder, **EVERYTHING), out, workers)
        results.append(digests(out))
    assert len(results[0]) == 5 * 4 * 2
    assert all(result == results[0] for result in results)
    other = tmp_path / "other"
    write_prepared(load(folder, **EVERYTHING, data_seed=1), other)
    assert digests(other) != results[0]


def test_variants_differ_and_adding_one_leaves_the_others(folder: Path) -> None:
    """Catches variants that are copies, or that move when more are asked for."""
    dataset = load(folder, **EVERYTHING)
    sample = dataset.samples[0]
    shown = {dataset.prepare(sample, variant).image.tobytes() for variant in range(4)}
    assert len(shown) == 4
    more = load(folder, **EVERYTHING | {"variants_per_picture": 6})
    assert more.prepare(sample, 3).image.tobytes() == dataset.prepare(sample, 3).image.tobytes()
    assert more.caption(0, 3) == dataset.caption(0, 3)


def test_nothing_random_means_one_variant(folder: Path) -> None:
    """Catches the same picture encoded many times over."""
    assert load(folder, variants_per_picture=9).recipe.variants == 1
    assert load(folder, variants_per_picture=9, random_flip=True).recipe.variants == 9


def test_a_mix_keeps_its_weights(folder: Path) -> None:
    """Catches shares that are off: 500 variants, 70 % and 30 %."""
    settings = {"framing_mix": "70 stretch, 30 letterbox", "variants_per_picture": 100}
    dataset = load(folder, **settings)
    counts = Counter(
        dataset.plan(sample, variant).framing
        for sample in dataset.samples
        for variant in range(100)
    )
    assert counts["stretch"] == pytest.approx(350, abs=45)
    assert counts["stretch"] + counts["letterbox"] == 500


def test_landscape_pictures_may_have_their_own_shape(folder: Path) -> None:
    """Catches the shapes exchanged: landscape sources are 96×64."""
    (folder / "tall.jpg").write_bytes(jpeg(gradient(64, 96)))
    settings = {"width": 64, "height": 128, "landscape_width": 136, "landscape_height": 72}
    dataset = load(folder, **settings)
    shapes = {sample.name: dataset.prepare(sample).image.size for sample in dataset.samples}
    assert shapes == {f"{i}.jpg": (136, 72) for i in range(5)} | {"tall.jpg": (64, 128)}


BUCKETS = {"framing": "bucket", "min_bucket_reso": 64, "width": 128, "height": 128}

# Every setting with a value of its own: does it change pictures, and may the cache hit?
PICTURE_SETTINGS = {
    "width": 72,
    "height": 72,
    "landscape_width": 80,
    "framing": "stretch",
    "framing_mix": "tile",
    "letterbox_fill": "edge",
    "background": "black",
    "corruption": "posterize",
}
OTHER_SETTINGS = {
    "size_conditioning": "lie",
    "caption_source": "fixed",
    "fixed_caption": "x",
    "trigger_word": "x",
    "caption_dropout": 0.5,
    "repeats": 3,
    "data_seed": 9,
    "bucket_no_upscale": True,
}


@pytest.mark.parametrize("name", [*PICTURE_SETTINGS, *OTHER_SETTINGS])
def test_the_cache_misses_exactly_when_pixels_change(folder: Path, name: str) -> None:
    """Catches a setting left out of the key, and one in it that changes nothing."""
    values = {name: (PICTURE_SETTINGS | OTHER_SETTINGS)[name]}
    if name == "landscape_width":
        values["landscape_height"] = 64
    before, after = load(folder), load(folder, **values)
    same = before.picture_key(before.samples[0]) == after.picture_key(after.samples[0])
    assert same == (name in OTHER_SETTINGS)


@pytest.mark.parametrize(
    ("base", "change"),
    [
        (BUCKETS, {"bucket_no_upscale": True}),
        (BUCKETS, {"bucket_reso_steps": 8}),
        ({"framing": "random_crop"}, {"data_seed": 1}),
        ({"random_flip": True, "variants_per_picture": 8}, {"data_seed": 1}),
        ({"corruption": "bitstream"}, {"data_seed": 1}),
        ({"corruption": "posterize"}, {"corruption": "posterize bits=3"}),
        ({"corruption": "posterize;scanline"}, {"corruption": "scanline;posterize"}),
    ],
)
def test_the_cache_misses_when_a_draw_or_option_changes(folder: Path, base, change) -> None:
    """Catches random or chained settings that the key does not hold."""

    def keys(dataset: GlitchDataset) -> list[str]:
        return [
            dataset.picture_key(sample, variant)
            for sample in dataset.samples
            for variant in range(dataset.recipe.variants)
        ]

    assert keys(load(folder, **base)) != keys(load(folder, **base | change))


def test_datamoshing_depends_on_the_other_pictures(folder: Path) -> None:
    """Catches blocks of a picture that is no longer there."""
    before = load(folder, corruption="datamosh_blocks")
    (folder / "4.jpg").write_bytes(jpeg(gradient(64, 64)))
    after = load(folder, corruption="datamosh_blocks")
    assert before.picture_key(before.samples[0]) != after.picture_key(after.samples[0])


def test_the_second_run_encodes_nothing(folder: Path, tmp_path: Path) -> None:
    """Catches a cache that misses; a renamed picture hits, an edited one and another VAE miss."""
    cache, vae = TensorCache(tmp_path / "cache"), CountingVae()

    def run(vae_key: str = "vae") -> int:
        vae.calls = 0
        keys = list(encode_pictures(load(folder, **EVERYTHING), vae, vae_key, cache))
        assert len(keys) == 20
        return vae.calls

    assert run() == 20
    assert run() == 0
    assert run("another") == 20
    (folder / "0.txt").write_text("another caption")
    assert run() == 0


def test_renaming_hits_and_editing_misses(folder: Path, tmp_path: Path) -> None:
    """Catches a key made of names or dates instead of content."""
    cache, vae = TensorCache(tmp_path / "cache"), CountingVae()
    list(encode_pictures(load(folder), vae, "vae", cache))
    (folder / "0.jpg").rename(folder / "zz.jpg")
    (folder / "1.jpg").touch()
    list(encode_pictures(load(folder), vae, "vae", cache))
    assert vae.calls == 5
    (folder / "1.jpg").write_bytes((folder / "1.jpg").read_bytes() + b"\0")
    list(encode_pictures(load(folder), vae, "vae", cache))
    assert vae.calls == 6


def test_interrupted_encoding_resumes(folder: Path, tmp_path: Path) -> None:
    """Catches work done twice, or a cache that an interruption leaves broken."""
    cache, vae = TensorCache(tmp_path / "cache"), CountingVae()
    dataset = load(folder, **EVERYTHING)
    running = encode_pictures(dataset, vae, "vae", cache)
    done = [next(running) for _ in range(7)]
    running.close()
    assert vae.calls == 7
    everything = list(encode_pictures(dataset, vae, "vae", cache))
    assert everything[:7] == done
    assert vae.calls == 20
    assert not list((tmp_path / "cache").rglob("*.part"))


def test_cache_keys_stay_what_they_are(folder: Path) -> None:
    """Catches everybody's cache being made anew because a class or field got another name."""
    plan = FramePlan("bucket", (96, 64), (97, 65), (64, 63), (16, 1), True)
    assert plan.cache_key == (
        "FramePlan(framing='bucket', original_size=(96, 64), resized=(97, 65), size=(64, 63), "
        "corner=(16, 1), flip=True)"
    )
    chain = parse_chain("jpeg_crush probability=0.5; pixel_sort low=61; bitstream start=1e-9")
    assert [step.cache_key for step in chain] == [
        "CorruptionStep(kind='jpeg_crush', settings=JpegCrush(amount=1.0, probability=0.5, "
        "quality_low=5, quality_high=30, generations=1, shift_px=0, subsampling='4:2:0'))",
        "CorruptionStep(kind='pixel_sort', settings=PixelSort(amount=1.0, probability=1.0, low=61, "
        "high=220, direction='vertical'))",
        "CorruptionStep(kind='bitstream', settings=Bitstream(amount=1.0, probability=1.0, "
        "flips=12, quality=75, start=1e-09))",
    ]
    sample = Sample("anywhere", "a.png", "", (96, 64), "content")
    recipe = load(folder, **EVERYTHING).recipe
    dataset = GlitchDataset(recipe, (sample,))
    assert dataset.picture_key(sample, 3) == (
        "d6373a147bdf0dd4e688ab912e8a1f5ca2a3df8062a6c103777fddb3a91e680c"
    )


def test_two_runs_share_a_cache(folder: Path, tmp_path: Path) -> None:
    """Catches half-written files and different results: two runs at once on one empty cache."""
    dataset = load(folder, **EVERYTHING)
    results: list[list[str]] = []

    def run() -> None:
        cache = TensorCache(tmp_path / "cache")
        keys = []
        for key in encode_pictures(dataset, CountingVae(), "vae", cache):
            assert cache.load(key)["latents"].shape[0] == 4
            keys.append(key)
        results.append(keys)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    assert results[0] == results[1] == results[2]


def test_a_damaged_cache_file_is_removed_with_a_sentence(tmp_path: Path) -> None:
    """Catches a run that fails for ever on one bad file."""
    cache = TensorCache(tmp_path)
    cache.store("abc", {"latents": torch.ones(4, 2, 2)})
    (path,) = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(TrainingError, match="missing or damaged.*run again"):
        cache.load("abc")
    assert "abc" not in cache


def test_items_join_pictures_and_captions(folder: Path, tmp_path: Path) -> None:
    """Catches a caption at the wrong picture or variant, and a size that is not the latents'."""
    dataset = load(folder, **EVERYTHING)
    cache = TensorCache(tmp_path / "cache")
    keys = list(encode_pictures(dataset, CountingVae(), "vae", cache))
    prompts = {caption: f"key of {caption}" for caption in captions_to_encode(dataset)}
    items = training_items(dataset, keys, prompts)
    assert [item.picture for item in items] == [i for i in range(5) for _ in range(4)]
    for number, item in enumerate(items):
        index, variant = divmod(number, 4)
        assert item.prompt_key == f"key of {dataset.caption(index, variant)}"
        assert tuple(cache.load(item.latents_key)["latents"].shape[-2:]) == item.latents_size
        assert item.add_time_ids[:2] == (64, 96)
    assert "" in prompts


def test_captions_alone_may_vary(folder: Path, tmp_path: Path) -> None:
    """Catches pictures encoded anew for each caption variant."""
    dataset = load(folder, caption_part_dropout=0.5, variants_per_picture=3)
    vae = CountingVae()
    keys = list(encode_pictures(dataset, vae, "vae", TensorCache(tmp_path / "cache")))
    prompts = {caption: caption for caption in captions_to_encode(dataset)}
    items = training_items(dataset, keys, prompts)
    assert vae.calls == len(keys) == 5
    assert len(items) == 15
    assert len({item.latents_key for item in items[:3]}) == 1
    assert len({item.prompt_key for item in items[:3]}) > 1


def test_a_swap_exchanges_captions_between_pictures(folder: Path) -> None:
    """Catches a caption that is lost, or nobody swapping."""
    dataset = load(folder, caption_swap=1.0)
    own = [sample.caption for sample in dataset.samples]
    given = [dataset.caption(index) for index in range(5)]
    assert sorted(given) == sorted(own)
    assert all(a != b for a, b in zip(given, own, strict=True))


def test_variants_are_taken_in_turns_over_epochs() -> None:
    """Catches variants that are never trained: 2 repeats of 5 variants need 3 epochs."""
    cache = TensorCache(Path("unused"))
    items = [TrainingItem(f"p{p}v{v}", "", (8, 8), (0,) * 6, p) for p in (0, 1) for v in range(5)]
    source = BatchSource(items, cache, cache, batch_size=1, repeats=2, seed=0)
    seen: list[set[str]] = []
    for _ in range(5):
        source.epoch += 1
        seen.append({item.latents_key for batch in source._plan_epoch() for item in batch})
    assert seen[0] == {"p0v0", "p0v1", "p1v0", "p1v1"}
    assert seen[2] == {"p0v4", "p0v0", "p1v4", "p1v0"}
    assert set.union(*seen) == {item.latents_key for item in items}


def test_caption_dropout_is_kohyas(folder: Path) -> None:
    """Catches dropout that is fixed per picture, or at another rate: 3 pictures seen 600 times."""
    dataset = load(folder, caption_dropout=0.25)
    cache = TensorCache(Path("unused"))
    items = [TrainingItem("", f"prompt{p}", (8, 8), (0,) * 6, p) for p in range(3)]
    dropout = CaptionDropout(dataset.caption_dropped, "empty")
    source = BatchSource(items, cache, cache, batch_size=2, repeats=20, seed=0, dropout=dropout)
    seen = Counter()
    for _ in range(30):
        source.epoch += 1
        seen.update(item.prompt_key for batch in source._plan_epoch() for item in batch)
    assert seen["empty"] == pytest.approx(450, abs=70)
    assert all(seen[f"prompt{p}"] == pytest.approx(450, abs=60) for p in range(3))


def test_shown_captions_are_the_first_ones_trained(folder: Path) -> None:
    """Catches a preview that hides whole dropout."""
    dataset = load(folder, caption_dropout=1.0, trigger_word="glz")
    assert [dataset.shown_caption(index) for index in range(5)] == [""] * 5
    dataset = load(folder, caption_part_dropout=0.5, trigger_word="glz")
    assert all(split_parts(dataset.shown_caption(i))[0].text == "glz" for i in range(5))
