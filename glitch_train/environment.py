"""What goes wrong outside this pack, each as one sentence: packages, files, memory, drivers.

It is asked at the edges alone, where a verb or a node runs: what is known of the place of an error
(a picture, the cache, a LoRA) is said where it arises, what is left is said here.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import re
import sys
import traceback
from collections.abc import Iterator

from .errors import EnvironmentFault, GlitchTrainError

NEEDED = {"diffusers": "0.32", "peft": "0.14", "matplotlib": "3.9", "websocket-client": "1.6"}
"""The oldest versions that work, as in requirements.txt."""

_PACKAGES = {"PIL": "Pillow", "skimage": "scikit-image", "websocket": "websocket-client"}
"""Modules that pip knows by another name; elsewhere it is the same with a dash."""

_OURS = __name__.partition(".")[0]
"""The host loads the pack under a name of its own."""

_NO_PACKAGES = {"", "__main__", "importlib", "_frozen_importlib", _OURS}

_ADVICE = {
    errno.ENOSPC: "free space there",
    errno.EDQUOT: "free space there",
    errno.EMFILE: "raise the limit (ulimit -n 4096), or close what holds files open",
    errno.ENFILE: "close programs that hold files open",
    errno.EACCES: "give this user the right to it, or choose another place",
    errno.EPERM: "give this user the right to it, or choose another place",
    errno.EROFS: "choose a place that can be written to",
    errno.EFBIG: "choose a drive that takes larger files (FAT32 takes 4 GB)",
    errno.ENOMEM: "close other programs, or ask for less",
    errno.EEXIST: "choose another name, for that one is taken",
    errno.ENOTDIR: "choose another place, for a file is where a folder should be",
    errno.EISDIR: "choose another place, for a folder is where a file should be",
    errno.ENAMETOOLONG: "choose a shorter name",
}
_ADVICE_ELSE = "see that it is there and that its drive is connected"

_NO_ROOM = re.compile(r"can't (start new thread|allocate memory)|not enough memory")
_DRIVER = re.compile(r"NVIDIA driver|CUDA driver|no kernel image|busy or unavailable")


@contextlib.contextmanager
def environment_said() -> Iterator[None]:
    """Turn an error that the environment made into its sentence; others pass as they are.

    Raises:
        EnvironmentFault: the sentence, with the error as its cause.
    """
    try:
        yield
    except GlitchTrainError:
        raise
    except Exception as error:
        if sentence := environment_sentence(error):
            raise EnvironmentFault(sentence) from error
        raise


def environment_sentence(error: BaseException) -> str:
    """Return what is wrong with the environment and what to do; empty where it is not to blame.

    Args:
        error: as it was raised: its traceback says what was being imported. What it was raised
            from comes first.
    """
    chain = [error]
    while chain[-1].__cause__ is not None:
        chain.append(chain[-1].__cause__)
    told = (_of_system(one) or _of_import(one) or _of_machine(one) for one in reversed(chain))
    return next(filter(None, told), "") or _of_version(error)


def _of_system(error: BaseException) -> str:
    """Say what the operating system said of a file."""
    if not isinstance(error, OSError) or error.errno is None:
        return ""
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = f" ({' and '.join(names)})" if names else ""
    advice = system_advice(error) or (_ADVICE_ELSE if names else "try again")
    return f"{error.strerror or error}{where}: {advice}."


def system_advice(error: BaseException) -> str:
    """Return what to do about an error of the operating system; empty where it is not known."""
    number = error.errno if isinstance(error, OSError) else None
    return "" if number is None else _ADVICE.get(number, "")


def _of_import(error: BaseException) -> str:
    """Say which package is missing or does not fit."""
    package = _failed_package(error)
    if not package:
        return ""
    if isinstance(error, ModuleNotFoundError) and error.name == package:
        return f"The package {_pip_name(package)} is missing: run {_install(package)}."
    version = _version(package)
    return (
        f"The package {_pip_name(package)}{f' {version}' if version else ''} cannot be loaded "
        f"({_first_line(error)}): run {_install(package)}."
    )


def _failed_package(error: BaseException) -> str:
    """Return the package whose import an error ended, or that lacks a name; empty otherwise."""
    named = error.name if isinstance(error, ImportError) and error.name else ""
    if named.partition(".")[0] == _OURS:
        return ""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not isinstance(error, ImportError):  # then only what runs while a module is loaded tells
        frames = [frame for frame in frames if frame.f_code.co_name == "<module>"]
    modules = [frame.f_globals.get("__name__", "") for frame in frames] + [named]
    packages = [module.partition(".")[0] for module in modules]
    return next((name for name in reversed(packages) if name not in _NO_PACKAGES), "")


def _of_machine(error: BaseException) -> str:
    """Say that memory, threads or the driver do not suffice."""
    said = _first_line(error)
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and _NO_ROOM.search(said)
    ):
        return f"The system has no memory or threads left ({said}): close other programs."
    if isinstance(error, RuntimeError) and _DRIVER.search(said):
        return f"The GPU cannot be used ({said}): update its driver, or use the CPU."
    return ""


def check_versions(*packages: str) -> None:
    """Refuse packages that are too old before work begins: some fail late, some in silence.

    Args:
        packages: of :data:`NEEDED`.

    Raises:
        EnvironmentFault: names the first, and the command that mends it.
    """
    for sentence in filter(None, map(too_old, packages)):
        raise EnvironmentFault(sentence)


def _of_version(error: BaseException) -> str:
    """Say that a package is too old, where an error looks like that."""
    if not isinstance(error, (AttributeError, TypeError)):
        return ""
    return next(filter(None, map(too_old, NEEDED)), "")


def too_old(package: str) -> str:
    """Return the sentence that a package is older than it must be; empty where it is not.

    Args:
        package: one of :data:`NEEDED`.
    """
    version, needed = _version(package), NEEDED[package]
    if not version or _numbers(version) >= _numbers(needed):
        return ""
    return f"{package} {version} is too old, {needed} is needed: run {_install(package)}."


def _install(package: str) -> str:
    """Return the command that mends a package, for the Python that runs."""
    name, what = _pip_name(package), f"--upgrade {_pip_name(package)}"
    if package == "torchvision" and (torch := _version("torch")):
        what = f"--force-reinstall --no-deps torchvision{_fitting(torch)}"
    elif name in NEEDED:
        what = f'--upgrade "{name}>={NEEDED[name]}"'
    return f'"{sys.executable}" -m pip install {what}'


def _fitting(torch: str) -> str:
    """Return the torchvision for a torch, and where its build lies.

    Source: the table in torchvision's README: torch 2.N.P goes with torchvision 0.(N+15).P.
    """
    number, _, build = torch.partition("+")
    major, minor, patch = (*_numbers(number), 0, 0)[:3]
    version = f"==0.{minor + 15}.{patch}" if major == 2 else ""
    return version + (f" --index-url https://download.pytorch.org/whl/{build}" if build else "")


def _pip_name(package: str) -> str:
    return _PACKAGES.get(package, package.replace("_", "-"))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(_pip_name(package))
    except importlib.metadata.PackageNotFoundError:
        return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".:") if lines else type(error).__name__
