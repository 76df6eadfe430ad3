"""Windows' rules as the tests apply them: each refuses what Windows refuses, and nothing else."""

from __future__ import annotations

import errno
import mmap
import os
import signal
from pathlib import Path

import pytest
from windows_rules import LONGEST_FILE, windows_rules

pytestmark = pytest.mark.not_on_windows(reason="applies the rules itself")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with something in it."""
    path = tmp_path / "a.txt"
    path.write_text("something", encoding="utf-8")
    return path


def test_what_was_opened_to_read_cannot_be_flushed(file: Path) -> None:
    """Catches a rule that lets the commonest way to flush a file pass."""
    with windows_rules():
        with file.open("rb") as opened, pytest.raises(OSError, match="descriptor") as caught:
            os.fsync(opened.fileno())
        assert caught.value.errno == errno.EBADF
        with file.open("r+b") as opened:
            os.fsync(opened.fileno())


@pytest.mark.parametrize("mapped", [False, True], ids=["open", "mapped"])
def test_what_is_held_stays(file: Path, mapped: bool) -> None:
    """Catches a rule that looks at open files only, or refuses for good."""
    other = file.with_name("b.txt")
    other.write_text("other", encoding="utf-8")
    opened = file.open("rb")
    held = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if mapped else opened
    if mapped:
        opened.close()
    with windows_rules():
        for attempt in (lambda: other.replace(file), lambda: file.rename(other), file.unlink):
            with pytest.raises(PermissionError):
                attempt()
        held.close()
        other.replace(file)
    assert file.read_text("utf-8") == "other"


@pytest.mark.parametrize(
    "name", ["CON", "nul.txt", "Com1.safetensors", "aux.tar.gz", "a.", "a ", "a:b", "LPT¹"]
)
def test_names_that_windows_lacks(tmp_path: Path, name: str) -> None:
    """Catches a rule that misses an ending, a case or a place where names are made."""
    with windows_rules():
        for make in (Path.touch, Path.mkdir, lambda path: path.write_bytes(b"")):
            with pytest.raises(OSError, match="incorrect"):
                make(tmp_path / name)
        (tmp_path / "CONTROL.txt").touch()
        (tmp_path / "com.txt").touch()


def test_names_that_differ_in_case(file: Path) -> None:
    """Catches a rule that refuses to write a file again."""
    with windows_rules():
        file.write_text("again", encoding="utf-8")
        with pytest.raises(AssertionError, match="is the file a.txt"):
            file.with_name("A.txt").touch()


def test_long_paths(tmp_path: Path) -> None:
    """Catches a limit that is one off."""
    name = "x" * (LONGEST_FILE - len(str(tmp_path)) - 1)
    with windows_rules(longest_file=LONGEST_FILE):
        (tmp_path / name).touch()
        with pytest.raises(FileNotFoundError, match="too long"):
            (tmp_path / f"{name}x").touch()
        with pytest.raises(FileNotFoundError, match="too long"):
            (tmp_path / name[:-11]).mkdir()


def test_the_pack_names_its_encodings(file: Path) -> None:
    """Catches a text that is UTF-8 here and in the code page there."""
    scope: dict = {}
    module = Path(__file__).parents[2] / "glitch_train" / "some" / "module.py"
    source = "def read(path):\n    return path.read_text()\n"
    exec(compile(source, str(module), "exec"), scope)  # noqa: S102
    with windows_rules(), pytest.raises(EncodingWarning, match="a.txt"):
        scope["read"](file)


def test_what_is_missing_there(file: Path) -> None:
    """Catches a rule that does not hold, or stays when it should be gone."""
    with windows_rules():
        with pytest.raises(ImportError):
            import resource  # noqa: F401
        assert not hasattr(os, "fork")
        assert not hasattr(signal, "SIGKILL")
        with pytest.raises(OSError, match="privilege"):
            file.with_name("link").symlink_to(file)
        file.write_text("é")  # noqa: PLW1514
        assert file.read_bytes() == b"\xe9"
    import resource  # noqa: F811, F401

    assert hasattr(signal, "SIGKILL")
