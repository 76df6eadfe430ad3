"""Names and paths of other systems: told apart, spelt as the host does, refused before work."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny import picture
from windows_rules import LONGEST_FILE, registry, windows_rules

from glitch_train.cache import TensorCache
from glitch_train.cli import main
from glitch_train.comfyui.fetch import fetch_outputs
from glitch_train.comfyui.overrides import with_overrides
from glitch_train.dataset.folder import list_folder
from glitch_train.errors import CheckpointError, DatasetError, DiskError
from glitch_train.file_names import check_path_lengths, longest_path
from glitch_train.files import write_text
from glitch_train.grid.lora_names import chosen_loras
from glitch_train.model.checkpoint_file import load_checkpoint
from glitch_train.sweep.plan import plan_sweep
from glitch_train.training.run.folder import claim_run

SHORT = Path(__file__).parents[2] / "workflows" / "api" / "short.json"


def deep(place: Path, room: int) -> Path:
    """Return a folder in which a path has so many characters left, its separator among them."""
    while len(str(place)) < LONGEST_FILE - room - 60:
        place /= "x" * 50
    return place / ("x" * (LONGEST_FILE - room - len(str(place)) - 1))


def test_long_paths_are_asked_of_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a limit where there is none, or none where there is one."""
    assert longest_path() is None
    for enabled, expected in ((1, None), (0, LONGEST_FILE)):
        monkeypatch.setitem(sys.modules, "winreg", registry(long_paths=enabled))
        assert longest_path() == expected


def test_the_longest_path_can_be_written(tmp_path: Path) -> None:
    """Catches a limit that forgets the name under which a file is written first, or is off."""
    with windows_rules(longest_file=LONGEST_FILE):
        for name in ("a.txt", "x" * 90):
            folder = deep(tmp_path, max(len(name) + 1, 76))
            check_path_lengths(folder / name)
            write_text(folder / name, "a")
            with pytest.raises(DiskError, match="this Windows takes 259: choose a folder nearer"):
                check_path_lengths(folder.with_name(f"{folder.name}x") / name)


@pytest.mark.parametrize(
    "work",
    [
        lambda folder: claim_run("run", folder / "runs", folder / "loras"),
        lambda folder: TensorCache(folder),
        lambda folder: plan_sweep({SHORT.stem: SHORT}, [1], folder),
    ],
    ids=["run", "cache", "sweep"],
)
def test_too_long_is_said_before_work(tmp_path: Path, work) -> None:
    """Catches a run that ends with its first file, or its last."""
    with windows_rules(longest_file=LONGEST_FILE):
        work(tmp_path)
        with pytest.raises(DiskError, match="enable long paths in Windows"):
            work(deep(tmp_path, 60))


def test_prepare_says_it_before_work(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Catches half a folder of prepared pictures."""
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / f"{'a' * 50}.png", colour="red")
    out = deep(tmp_path, 70)
    with windows_rules(longest_file=LONGEST_FILE):
        assert main(["prepare", str(tmp_path / "in"), "--out", str(out)]) == 1
    assert "enable long paths" in capsys.readouterr().err
    assert not out.exists()


def test_runs_that_differ_in_case_are_numbered_apart(tmp_path: Path) -> None:
    """Catches a run that is another one's as soon as its folder lies on Windows or macOS."""
    runs, loras = tmp_path / "runs", tmp_path / "loras"
    assert [claim_run(name, runs, loras).name for name in ("Run", "run", "Run")] == [
        "Run_00001",
        "run_00002",
        "Run_00003",
    ]
    loras.mkdir()
    (loras / "OTHER_00001.safetensors").touch()
    assert claim_run("other", runs, loras).name == "other_00002"


class Host:
    """Has every file."""

    def download(self, filename: str, subfolder: str, type: str) -> bytes:
        return f"{subfolder}/{filename}".encode()


def test_files_of_another_system_are_fetched(tmp_path: Path) -> None:
    """Catches a file lost to one that differs in case, or that Windows cannot hold."""
    told = [("A.png", "x"), ("a.png", "y"), ("con.png", ""), ("b:c.png", ""), ("..\\..\\d.png", "")]
    shown = [{"filename": name, "subfolder": place, "type": "output"} for name, place in told]
    fetched = fetch_outputs(Host(), {}, {"1": {"images": shown}}, tmp_path / "out")
    names = [path.name for path in fetched.all()]
    assert names == ["A.png", "1_a.png", "1_con.png", "1_b_c.png", "d.png"]
    assert {path.parent for path in fetched.all()} == {tmp_path / "out"}
    contents = [path.read_text("utf-8") for path in fetched.all()]
    assert contents == ["x/A.png", "y/a.png", "/con.png", "/b:c.png", f"/{told[-1][0]}"]


@pytest.mark.parametrize("path", ["C:\\Users\\me\\faces", "D:/faces", "\\\\nas\\share\\faces"])
def test_paths_of_windows_are_called_so(
    tmp_path: Path, capsys: pytest.CaptureFixture, path: str
) -> None:
    """Catches a recipe of Windows whose paths are only said to be missing."""
    with pytest.raises(DatasetError, match=r"faces \(a path of Windows\); choose"):
        list_folder(Path(path))
    with pytest.raises(CheckpointError, match=r"faces does not exist \(a path of Windows\); give"):
        load_checkpoint(Path(path), "cpu")
    with pytest.raises(CheckpointError, match="x does not exist; give"):
        load_checkpoint(Path("x" * 300), "cpu")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(f"checkpoint = '{path}'\n[dataset]\nfolder = '{path}'\n", "utf-8")
    assert main(["train", str(recipe), "--out", str(tmp_path / "out")]) == 1
    assert "(a path of Windows)" in capsys.readouterr().err


@pytest.mark.parametrize("listed", ["sub\\a.safetensors", "sub/a.safetensors"])
def test_choices_are_spelt_as_the_host_does(listed: str) -> None:
    """Catches a workflow of Windows that Linux refuses, and the other way round."""
    combos = {"lora_name": [[listed]], "text": ["STRING", {}]}
    info = {"Loader": {"input": {"required": combos}}}
    for written in ("sub\\a.safetensors", "sub/a.safetensors"):
        inputs = {"lora_name": written, "text": "a/b\\c"}
        graph = {"1": {"class_type": "Loader", "inputs": inputs}}
        assert with_overrides(graph, [], info)["1"]["inputs"] == inputs | {"lora_name": listed}
        chosen = with_overrides(graph, [f"lora_name={written}"], info)
        assert chosen["1"]["inputs"]["lora_name"] == listed
        assert chosen_loras(written, "", [listed]) == [listed]
        assert chosen_loras("none", f"{written[:3]}{written[3]}*", [listed]) == [listed]
