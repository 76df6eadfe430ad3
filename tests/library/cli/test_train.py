"""``glitch_train train``: from a checkpoint file and a folder to a LoRA, as a person starts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny_checkpoint import process_environment
from train_verb import arguments, train

from glitch_train.cli.command import main
from glitch_train.lora.file import read_metadata, read_recipe_of
from glitch_train.losses.read import read_csv, read_json
from glitch_train.wording import size_text

pytestmark = pytest.mark.slow


def test_a_lora_with_its_recipe(place: Path, checkpoint: Path, capsys) -> None:
    """Catches files in another place than said, and a recipe that is not the one trained."""
    result = train(capsys, *arguments(place, checkpoint, "--set", "learning_rate=3e-4", "seed=7"))
    assert result["lora"] == str(place / "out" / "glitch_lora_00001.safetensors")
    assert len(load_file(result["lora"])) > 0
    recipe = read_recipe_of(Path(result["lora"]))
    assert (recipe.train.learning_rate, recipe.train.seed) == (3e-4, 7)
    assert recipe.dataset.folder == str(place / "pictures")
    assert recipe.checkpoint == str(checkpoint)
    assert read_metadata(Path(result["lora"]))["ss_sd_model_name"] == "tiny.safetensors"
    record = read_csv(Path(result["losses"]))
    assert len(record) == result["steps"] == 3
    assert record.loss[-1] == pytest.approx(result["loss"], rel=1e-6)


def test_a_plan_trains_and_writes_nothing(place: Path, checkpoint: Path, capsys) -> None:
    """Catches a plan that encodes or claims a run, or another one than the run then has."""
    planned = train(capsys, *arguments(place, checkpoint, "--plan"))
    assert not (place / "out").exists()
    assert planned["fits"]
    parts = {name: size for name, size in planned["needs"].items() if name != "total"}
    assert planned["needs"]["total"] == sum(parts.values()) < planned["free"]
    result = train(capsys, *arguments(place, checkpoint))
    assert f"about {size_text(planned['needs']['total'])} needed" in result["memory"]
    kept = read_json(Path(result["losses"]).with_suffix(".json"))
    assert kept.about.memory == result["memory"]


def test_a_lora_away_from_its_run_asks_for_the_folder(
    place: Path, checkpoint: Path, capsys, tmp_path: Path
) -> None:
    """Catches a folder of that name that happens to be here, or a traceback for none."""
    first = train(capsys, *arguments(place, checkpoint))
    away = tmp_path / "away" / "shared.safetensors"
    away.parent.mkdir()
    away.write_bytes(Path(first["lora"]).read_bytes())
    assert main(["train", str(away), "--checkpoint", str(checkpoint)]) == 1
    said = capsys.readouterr().err
    assert "folder is called 'pictures'; give --folder FOLDER" in said
    more = ("--folder", str(place / "pictures"), "--out", str(tmp_path / "again"), "--json")
    assert main(["train", str(away), *more]) == 1
    assert "give --checkpoint FILE" in capsys.readouterr().err


def test_sample_pictures(place: Path, checkpoint: Path, capsys) -> None:
    """Catches pictures that nobody is told of, or a VAE of the file that does not decode."""
    more = ("sample_every=2", "sample_steps=2", "sample_prompts=a red square")
    result = train(capsys, *arguments(place, checkpoint, "--set", *more))
    strip = place / "out" / "glitch_lora_00001" / "samples" / "strip.png"
    assert result["samples"] == str(strip)
    assert len(list(strip.parent.glob("step*_prompt01.png"))) == 3
    with Image.open(strip) as image:
        assert len(image.convert("L").getcolors(1 << 16)) > 16  # something is in it
    assert train(capsys, *arguments(place, checkpoint, "--resume", "never"))["samples"] is None


def test_a_lora_is_a_recipe(place: Path, checkpoint: Path, capsys) -> None:
    """Catches a recipe that cannot be used again, from the LoRA or as ``recipe`` prints it."""
    first = train(capsys, *arguments(place, checkpoint, "--set", "noise_offset=0.1"))
    main(["recipe", first["lora"]])
    (place / "again.json").write_text(capsys.readouterr().out)
    for number, recipe in enumerate([Path(first["lora"]), place / "again.json"]):
        again = train(capsys, "train", str(recipe), "--out", str(place / f"out{number}"), "--json")
        assert read_csv(Path(again["losses"])).loss == pytest.approx(
            read_csv(Path(first["losses"])).loss, rel=1e-6
        )


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--set", "learning_rat=1"], "did you mean 'learning_rate'"),
        (["--set", "steps=many"], "steps must be a whole number, got 'many'"),
        (["--set", "random_flip=perhaps"], "random_flip must be true or false"),
        (["--set", "steps"], "--set takes name=value"),
        (["--checkpoint", "gone.safetensors"], "gone.safetensors does not exist"),
        (["--folder", "nowhere"], "nowhere"),
        (["--out", "recipe.toml"], "--out recipe.toml is a file, not a folder; give another"),
        (["--out", "recipe.toml/x"], "Cannot write recipe.toml/x: Not a directory"),
        (["--device", "toaster"], "The device 'toaster' cannot be used here"),
        (["--cache", "recipe.toml"], "Cannot write to the cache recipe.toml: Not a directory"),
        (["--cache", "recipe.toml/a/b"], "Cannot write to the cache recipe.toml/a/b: Not a dir"),
        (["--cache", "a" * 300], "is too long for a file's name; give a shorter one."),
        (["--cache", "/proc/cache"], "Cannot write to the cache /proc/cache: "),
        (["--resume", "must"], "no unfinished run"),
        (["--set", "precision=fp16"], "fp16 needs a GPU"),
        (["--set", "sample_prompts=a \udcff"], "sample_prompts has '\\udcff' as character 3"),
        (["--folder", "caf\udce9"], "folder has '\\udce9'"),
    ],
)
def test_bad_input_is_one_sentence(
    place: Path,
    checkpoint: Path,
    capsys,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    sentence: str,
) -> None:
    """Catches a traceback, a wrong exit code, or work begun before the input was read."""
    monkeypatch.chdir(place)
    assert main(arguments(place, checkpoint, *more)) == 1
    said = capsys.readouterr()
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert json.loads(said.out) == {"error": said.err.strip()}
    assert not (place / "out").exists()


def test_a_setting_is_given_one_value(capsys) -> None:
    """Catches the first of two values dropped without a word."""
    twice = ("--set", "steps=4", "seed=1", "--set", "seed=1", "steps=5", "--json")
    assert main(["train", "recipe.toml", *twice]) == 2
    said = json.loads(capsys.readouterr().out)["error"]
    assert said.endswith("steps is set twice, to 4 and to 5; keep one")


def test_a_file_where_the_cache_should_be(place: Path, checkpoint: Path, capsys) -> None:
    """Catches a run folder left behind by a run that cannot begin."""
    (place / "out").mkdir()
    (place / "out" / "cache").touch()
    assert main(arguments(place, checkpoint)) == 1
    assert "out/cache: Not a directory; choose another folder." in capsys.readouterr().err
    assert [path.name for path in (place / "out").iterdir()] == ["cache"]


@pytest.mark.parametrize("missing", ["first_stage_model.", "cond_stage_model."])
def test_a_checkpoint_that_is_not_whole(
    place: Path, checkpoint: Path, capsys, missing: str
) -> None:
    """Catches a file of a UNet alone failing in the middle."""
    weights = {k: v for k, v in load_file(checkpoint).items() if not k.startswith(missing)}
    save_file(weights, place / "part.safetensors")
    assert main(arguments(place, place / "part.safetensors")) == 1
    assert "use a whole checkpoint" in capsys.readouterr().err


def test_nothing_named(place: Path, capsys) -> None:
    """Catches a run that looks for a model of its own."""
    assert main(["train", str(place / "recipe.toml"), "--out", str(place / "out")]) == 1
    assert "give --checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_the_same_command_goes_on(
    place: Path, checkpoint: Path, capsys, sent: signal.Signals
) -> None:
    """Catches work lost on Ctrl-C, a wrong exit code, or a second run begun from nothing."""
    command = arguments(place, checkpoint, "--set", "steps=100000")
    child = subprocess.Popen(
        [sys.executable, "-m", "glitch_train", *command],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=process_environment(),
    )  # fmt: skip
    losses = place / "out" / "glitch_lora_00001" / "losses.csv"
    while child.poll() is None and not (
        losses.is_file() and losses.read_text("utf-8").count("\n") > 3
    ):
        pass
    child.send_signal(sent)
    out, err = child.communicate()
    assert child.returncode == 130, err
    stopped = json.loads(out)
    assert stopped["interrupted"]
    assert int(read_metadata(Path(stopped["lora"]))["ss_steps"]) == stopped["steps"] >= 3
    steps = stopped["steps"] + 2
    again = train(capsys, *arguments(place, checkpoint, "--set", f"steps={steps}"))
    assert again["name"] == "glitch_lora_00001"
    assert again["steps"] == steps
