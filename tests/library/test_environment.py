"""What goes wrong outside the pack is one sentence: packages broken, missing or old; files."""

from __future__ import annotations

import errno
import importlib.metadata
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import glitch_train.environment as environment
from glitch_train.cli.command import main
from glitch_train.environment import NEEDED, check_versions, environment_said, environment_sentence
from glitch_train.errors import EnvironmentFault

PACK = Path(__file__).parents[2]
BREAKS = {
    "not_there": ("import a_package_of_nobody", "a-package-of-nobody is missing"),
    "a_name": ("from json import nothing_of_this_name", "json cannot be loaded (cannot import"),
    "registers": ('raise RuntimeError("operator x::nms does not exist\\nmore")', "operator x::nms"),
    "older": ("import json; json.no_such_function", "has no attribute 'no_such_function'"),
    "library": ('raise OSError("libcudart.so.12: cannot open")', "libcudart.so.12: cannot open"),
}


@pytest.mark.parametrize("kind", BREAKS)
def test_a_package_that_cannot_be_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Catches a traceback where a package is missing, too old or made for another."""
    source, said = BREAKS[kind]
    name = f"broken_{kind}"
    (tmp_path / f"{name}.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    @environment_said()
    def load() -> None:
        try:
            __import__(name)
        except Exception as error:  # as the lazy imports of transformers and diffusers do
            raise RuntimeError("Failed to import\nlook up") from error

    with pytest.raises(EnvironmentFault, match=re.escape(said)) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert "-m pip install" in str(caught.value)


def test_a_mistake_of_the_pack_stays_one() -> None:
    """Catches the environment blamed for what is not its fault, which would hide it."""
    with pytest.raises(AttributeError), environment_said():
        environment.no_such_name  # noqa: B018
    with pytest.raises(ImportError), environment_said():
        from glitch_train.environment import nothing  # noqa: F401


def test_an_old_package_behind_an_odd_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches the traceback of a call that an older version does not know."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.9.4+x")
    said = environment_sentence(TypeError("unexpected keyword argument 'low_cpu'"))
    assert said.startswith(f"diffusers 0.9.4+x is too old, {NEEDED['diffusers']} is needed: run ")
    assert said.endswith(f'-m pip install --upgrade "diffusers>={NEEDED["diffusers"]}".')
    with pytest.raises(EnvironmentFault, match="peft 0.9.4") as caught:
        check_versions("peft", "diffusers")
    assert "diffusers" not in str(caught.value)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: NEEDED[name])
    check_versions(*NEEDED)
    assert environment_sentence(TypeError("unexpected")) == ""


def test_the_torchvision_for_a_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a command that leaves torchvision unfitting; pairs from torchvision's README."""
    pairs = {"2.9.1+cu128": "==0.24.1 .*whl/cu128", "2.5.0": "==0.20.0$", "3.1": "torchvision$"}
    for torch, expected in pairs.items():
        monkeypatch.setattr(importlib.metadata, "version", lambda name, torch=torch: torch)
        assert re.search(expected, environment._install("torchvision"))


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "free space"),
        (errno.EMFILE, "ulimit"),
        (errno.EACCES, "the right to it"),
        (errno.EROFS, "can be written"),
        (errno.EIO, "drive is connected"),
        (errno.ENOTCONN, "drive is connected"),
        (errno.ENOENT, "see that it is there"),
    ],
)
def test_what_the_system_says_of_a_file(number: int, said: str) -> None:
    """Catches a traceback for a disk, a right or a network drive."""
    with pytest.raises(EnvironmentFault, match=said) as caught, environment_said():
        raise OSError(number, os.strerror(number), "/a/file")
    assert "/a/file" in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("can't start new thread"),
        RuntimeError("Found no NVIDIA driver on your system.\nPlease"),
    ],
)
def test_what_the_machine_lacks(error: Exception) -> None:
    """Catches a traceback for memory, threads or a driver."""
    assert re.fullmatch(r"[^\n]+(other programs|use the CPU)\.", environment_sentence(error))


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_NOFILE")
@pytest.mark.not_on_windows(reason="needs RLIMIT_NOFILE")
def test_too_many_open_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a traceback in a verb when no file can be opened; ``--debug`` still shows it."""
    import resource

    (tmp_path / "a.csv").write_text("step,loss\n" + "".join(f"{n},0.5\n" for n in range(99)))
    main(["verdict", str(tmp_path / "a.csv")])  # everything is imported
    capsys.readouterr()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, before[1]))
    held = []
    try:
        while len(held) < 64:
            held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        codes = [main([*more, "verdict", str(tmp_path / "a.csv")]) for more in ([], ["--debug"])]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for one in held:
            os.close(one)
    said = capsys.readouterr().err
    assert codes == [1, 1]
    assert said.splitlines()[0] == said.splitlines()[-1]
    assert "Too many open files" in said.splitlines()[0]
    assert said.count("Traceback") >= 1


@pytest.mark.slow
def test_train_beside_a_torchvision_of_another_build(place: Path, checkpoint: Path) -> None:
    """Catches the 158 lines that diffusers and transformers say of it, from the real ones."""
    (place / "torchvision").mkdir()
    (place / "torchvision" / "__init__.py").write_text(
        'import torch\n@torch.library.register_fake("torchvision::nms")\ndef nms(): ...\n'
    )
    command = [sys.executable, "-m", "glitch_train", "train", str(place / "recipe.toml")]
    more = ["--checkpoint", str(checkpoint), "--folder", str(place / "pictures"), "--json"]
    environ = {**os.environ, "PYTHONPATH": f"{place}{os.pathsep}{PACK}", "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        [*command, *more, "--out", str(place / "out")],
        capture_output=True, text=True, env=environ, check=False,
    )  # fmt: skip
    said = ended.stderr.splitlines()[-1]
    assert (ended.returncode, json.loads(ended.stdout)) == (1, {"error": said})
    assert "torchvision::nms does not exist" in said
    assert re.search(r"-m pip install --force-reinstall --no-deps torchvision==0\.\d+\.\d+", said)
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
@pytest.mark.parametrize("package", ["PIL", "numpy"])
def test_a_package_that_every_verb_needs(tmp_path: Path, package: str) -> None:
    """Catches a traceback for a package that is loaded before a verb is known."""
    (tmp_path / f"{package}.py").write_text(
        f"raise ModuleNotFoundError('No module named {package}', name='{package}')"
    )
    environ = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{PACK}"}
    ended = subprocess.run(
        [sys.executable, "-m", "glitch_train", "recipe"],
        capture_output=True, text=True, env=environ, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert re.fullmatch(r"The package \w+ is missing: run .+\.\n", ended.stderr)


def bounds_in(text: str) -> dict[str, str]:
    """Return package to the version that a text of requirements names with >= or ==."""
    return dict(re.findall(r"^[ \"]*([\w.-]+)[>=]=([\d.]+)", text, re.MULTILINE))


def test_the_bounds_are_those_that_are_tried() -> None:
    """Catches a bound raised in one place only, or promised and never installed."""
    asked = bounds_in((PACK / "requirements.txt").read_text("utf-8"))
    assert {name: bound for name, bound in asked.items() if name != "tomli"} == NEEDED
    for name in ("pyproject.toml", "requirements-host.txt"):
        asked |= bounds_in((PACK / name).read_text("utf-8"))
    tried = (PACK / "tests" / "lower-bounds.txt").read_text("utf-8").split("\n\n")[0]
    for name, version in bounds_in(tried).items():
        assert f"{version}.".startswith(f"{asked[name]}."), name
    assert NEEDED.keys() <= bounds_in(tried).keys()
