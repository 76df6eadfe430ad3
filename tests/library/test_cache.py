"""The cache of tensors: what is damaged goes, what only cannot be read this moment stays."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from windows_rules import windows_rules

from glitch_train import cache as tensor_cache
from glitch_train import files
from glitch_train.cache import KeptTensors, TensorCache
from glitch_train.errors import TrainingError

TENSORS = {"latents": torch.arange(64.0).reshape(4, 4, 4)}


@pytest.fixture
def cache(tmp_path: Path) -> TensorCache:
    """A cache that holds one entry, ``abc``."""
    found = TensorCache(tmp_path)
    found.store("abc", TENSORS)
    return found


@contextlib.contextmanager
def files_left(count: int) -> Iterator[None]:
    """Let the process open only so many more files."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as opened:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        opened.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        handles = []
        with contextlib.suppress(OSError):
            while True:
                handles.append(opened.enter_context(open(os.devnull, "rb")))  # noqa: SIM115
        for handle in handles[len(handles) - count :]:
            handle.close()
        yield


@pytest.mark.parametrize("kept", [0, 5, 50, -1])
def test_a_damaged_file_goes(cache: TensorCache, kept: int) -> None:
    """Catches a run that fails for ever on a file that was cut short."""
    (path,) = cache.folder.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(TrainingError, match="missing or damaged.*run again"):
        cache.load("abc")
    assert "abc" not in cache
    with pytest.raises(TrainingError, match="missing or damaged.*run again"):
        cache.load("abc")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EMFILE, errno.EIO])
def test_a_file_that_cannot_be_opened_stays(
    cache: TensorCache, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches hours of encoding thrown away because of a permission or a network disk."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", refuse)
        with pytest.raises(TrainingError, match=rf"^Cannot read .*{os.strerror(number)}\.$"):
            cache.load("abc")
    torch.testing.assert_close(cache.load("abc"), TENSORS)


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_NOFILE")
@pytest.mark.parametrize("count", [0, 1])
def test_too_many_open_files_cost_no_entry(cache: TensorCache, count: int) -> None:
    """Catches a good file removed, or a traceback of torch's, when a process is out of handles."""
    cache.load("abc")  # whatever is imported is imported now
    with (
        files_left(count),
        pytest.raises(TrainingError, match="^Cannot read .*Too many open files"),
    ):
        cache.load("abc")
    torch.testing.assert_close(cache.load("abc"), TENSORS)


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
def test_a_full_disk_is_said_and_leaves_nothing(cache: TensorCache) -> None:
    """Catches safetensors' own error, which is no OSError, as a traceback; or half a file."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(TrainingError, match="^Cannot write to the cache .*too large"):
            cache.store("full", {"latents": torch.ones(1000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "full" not in cache
    assert not list(cache.folder.rglob("*.part"))


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
def test_what_another_run_stored_and_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a run ended because another one stored the same before it, and Windows holds it."""
    monkeypatch.setattr(files.time, "sleep", lambda _: None)
    cache = TensorCache(tmp_path)
    cache.store("ab", {"a": torch.ones(3)})
    mapped = cache.load("ab")
    with windows_rules():
        cache.store("ab", {"a": torch.ones(3)})
    assert mapped["a"].tolist() == [1, 1, 1]
    assert [path.name for path in (tmp_path / "ab").iterdir()] == ["ab.safetensors"]


@pytest.mark.parametrize("in_memory", [2**30, 0], ids=["in memory", "mapped"])
def test_what_was_read_is_not_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: int
) -> None:
    """Catches a file opened at every step, and a tensor of another mode than training's."""
    monkeypatch.setattr(tensor_cache, "_IN_MEMORY", in_memory)
    kept = KeptTensors(tmp_path)
    kept.store("ab", {"latents": torch.arange(6.0)})
    with torch.inference_mode():  # as the host's nodes run
        first = kept.load("ab")["latents"]
    shutil.rmtree(tmp_path)
    assert kept.load("ab")["latents"] is first
    assert first.equal(torch.arange(6.0))
    assert not first.is_inference()


def test_no_more_is_held_than_a_process_may_map(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a folder of a hundred thousand pictures that ends in "too many maps"."""
    monkeypatch.setattr(tensor_cache, "_MOST_HELD", 2)
    kept = KeptTensors(tmp_path)
    for number in range(3):
        kept.store(f"k{number}", {"latents": torch.full((2,), float(number))})
        assert kept.load(f"k{number}")["latents"][0] == number
    shutil.rmtree(tmp_path)
    with pytest.raises(TrainingError, match="k2.safetensors is missing"):
        kept.load("k2")


def test_what_is_damaged_or_another_file_is_to_be_made_anew(cache: TensorCache) -> None:
    """Catches one run refused for each damaged file, or a traceback for one that was exchanged."""
    assert cache.holds("abc", next(iter(TENSORS)))
    assert not cache.holds("abc", "another")
    assert not cache.holds("nothing", "latents")
    path = cache._path("abc")
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"<html>"):
        path.write_bytes(content)
        assert not cache.holds("abc", next(iter(TENSORS)))
