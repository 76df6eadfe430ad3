"""``--json`` prints JSON and nothing else, in every verb, whatever libraries print meanwhile."""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from loras import lora_state, some
from PIL import Image
from safetensors.torch import save_file
from tiny_checkpoint import process_environment
from train_verb import arguments

from glitch_train.cli import command
from glitch_train.cli.command import VERB_MODULES, main
from glitch_train.errors import ReportError
from glitch_train.model.families import SD15

FAILS = {"calibrate", "queue"}
"""Verbs that need minutes or a ComfyUI: they say a sentence here, on stderr."""


@pytest.fixture
def commands(place: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list]:
    """A small command line of every verb."""
    monkeypatch.chdir(place)
    lora, log = place / "a.safetensors", place / "a.csv"
    save_file(lora_state(SD15, keep=some(["attn1.to_q"])), lora)
    log.write_text("step,loss\n" + "".join(f"{n},{0.3 + n % 7 / 99}\n" for n in range(99)))
    for folder in ("base", "glitched"):
        (place / folder).mkdir()
        for number in range(2):
            picture = Image.new("RGB", (64, 64), (90, 40 * number, 9 * len(folder)))
            picture.save(place / folder / f"{number}.png")
    run = place / "sweep" / "sd15_standard" / "seed1"
    run.mkdir(parents=True)
    (run / "losses.csv").write_text(log.read_text())
    verdict = {"start": 0.2, "final": 0.1, "convergence": {"state": "converged"},
               "stability": {"state": "stable"}, "fit": {"state": "cannot_tell"}}  # fmt: skip
    (run / "verdict.json").write_text(json.dumps([verdict]))
    done = {"experiment": "sd15_standard", "seed": 1, "key": "k", "files": [], "loras": []}
    (run / "done.json").write_text(json.dumps(done))
    (place / "graph.json").write_text('{"1": {"class_type": "A", "inputs": {}}}')
    prodigy = ("--set", "optimizer=Prodigy", "learning_rate=1")
    return {
        "train": arguments(place, checkpoint, *prodigy),
        "prepare": ["prepare", "pictures", "--out", "prepared", "--width", 64, "--height", 64],
        "recipe": ["recipe", "recipe.toml"],
        "graph": ["graph", log, "-o", "graph.png"],
        "verdict": ["verdict", log],
        "transfer": ["transfer", lora, "--to", "sdxl", "-o", "to_xl.safetensors"],
        "inspect": ["inspect", lora],
        "report": ["report", "base", "glitched"],
        "calibrate": ["calibrate"],
        "queue": ["queue", "graph.json", "--server", "127.0.0.1:9"],
        "sweep": ["sweep", "--summary-only", "--out", "sweep"],
        "matrix": ["matrix", "sweep"],
    }


def make_noise() -> None:
    """Print as libraries do: from Python, past Python, and from a buffer of C's."""
    print("noise of Python")  # noqa: T201
    os.write(1, b"noise of a descriptor\n")
    if sys.platform != "win32":
        ctypes.CDLL(None).printf(b"noise of C\n")


@pytest.mark.slow
def test_every_verb(
    commands: dict[str, list], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Catches a verb whose output a script cannot read because a library printed into it."""
    parser = command.build_parser()
    as_usual = parser.parse_args

    def noisily(words: list[str], options: argparse.Namespace) -> argparse.Namespace:
        options = as_usual(words, options)
        verb = options.run

        def run(options: argparse.Namespace) -> Any:
            make_noise()
            return verb(options)

        options.run = run
        return options

    def minutes() -> None:
        raise ReportError("Not in a test.")

    monkeypatch.setattr(parser, "parse_args", noisily)
    monkeypatch.setattr(command, "build_parser", lambda: parser)
    monkeypatch.setattr("glitch_train.measure.calibration.corruptions.photographs", minutes)
    assert commands.keys() == set(VERB_MODULES)
    for verb, words in commands.items():
        code = main([*map(str, words), "--json"])
        said = capfd.readouterr()
        assert code == (verb in FAILS), (verb, said.err)
        assert "noise of a descriptor" in said.err, verb
        told = json.loads(said.out)
        assert ("error" in told) == bool(code), verb
        assert not code or told["error"] == said.err.splitlines()[-1], verb


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["verdict", "nosuch.csv"], 1, "Cannot read nosuch.csv"),
        (["verdict"], 2, "arguments are required: record"),
        (["train", "a.toml", "--resume", "soon"], 2, "invalid choice: 'soon'"),
        (["nosuch"], 2, "invalid choice: 'nosuch'"),
        ([], 2, "arguments are required: VERB"),
    ],
)
def test_errors_are_json_too(
    capsys: pytest.CaptureFixture[str], words: list[str], code: int, said: str
) -> None:
    """Catches a script that finds nothing to read where a verb did not do its work."""
    assert main([*words, "--json"]) == code
    told, err = capsys.readouterr()
    assert json.loads(told) == {"error": err.splitlines()[-1]}
    assert said in err
    assert main(words) == code
    assert capsys.readouterr() == ("", err)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="closes descriptors as a Unix shell does")
def test_streams_that_were_closed_from_the_start(tmp_path: Path) -> None:
    """Catches a traceback, or a picture not drawn, for want of a stdout or stderr."""
    (tmp_path / "a.csv").write_text("step,loss\n1,0.5\n2,0.4\n")
    verb = f'"{sys.executable}" -m glitch_train graph a.csv -o'
    for closed in (">&-", "2>&-", "<&- >&- 2>&-"):
        ended = subprocess.run(
            ["sh", "-c", f"{verb} a.png {closed}"], cwd=tmp_path, env=process_environment(),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (ended.returncode, ended.stderr) == (0, ""), closed
        (tmp_path / "a.png").unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGTERM")
def test_a_request_to_end_is_ctrl_c(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a verb that ends without a word, and leaves half of a file under another name."""
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")

    def end(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Image.Image, "save", end)
    words = ["prepare", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "1", "--json"]
    before = signal.getsignal(signal.SIGTERM)
    assert main(words) == 130
    assert json.loads(capsys.readouterr().out) == {"error": "Interrupted."}
    assert not list((tmp_path / "out").glob(".*"))
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.slow
@pytest.mark.not_on_windows(reason="removes the working folder")
@pytest.mark.skipif(sys.platform == "win32", reason="removes the working folder")
def test_a_working_folder_that_is_gone(tmp_path: Path) -> None:
    """Catches a library that ends the process, in words of its own or none."""
    gone = tmp_path / "gone"
    gone.mkdir()
    verb = f'rmdir "{gone}"; exec "{sys.executable}" -m glitch_train inspect a.safetensors --json'
    ended = subprocess.run(
        ["sh", "-c", verb], cwd=gone, env=process_environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "change to one that is there" in json.loads(ended.stdout)["error"]


def test_prints_of_python_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Catches a stdout that is no descriptor, as in a notebook, left open to libraries."""
    from glitch_train.cli.console import stdout_kept

    with stdout_kept():
        make_noise()
    assert capsys.readouterr().out == ""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs /dev/full")
def test_a_stdout_that_takes_nothing() -> None:
    """Catches a traceback, and a result that is lost while the exit code says 0."""
    words = [sys.executable, "-m", "glitch_train", "recipe", "--json"]
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        ended = subprocess.run(
            words, stdout=full, stderr=subprocess.PIPE, text=True, env=process_environment(),
            check=False,
        )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == "No space left on device (stdout): free space there.\n"
    reads_a_line = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=process_environment()
    )
    reads_a_line.stdout.close()
    assert reads_a_line.stderr.read() == ""
    assert reads_a_line.wait() == 0
