"""Tensors on disk, found again by what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .environment import system_advice
from .errors import TrainingError
from .file_names import check_path_lengths
from .files import atomic_path, is_held, nearest_existing

if TYPE_CHECKING:
    import torch


class TensorCache:
    """A folder of safetensors files, one per key.

    Reading maps the file into memory, so the cache's size does not matter to the process. Files
    appear whole or not at all: several runs may share a folder, and an interrupted run leaves
    what it finished.
    """

    def __init__(self, folder: Path) -> None:
        """Use ``folder``, which is created when the first tensor is stored.

        Raises:
            DiskError: when the paths of its files would be too long.
        """
        self.folder = folder
        check_path_lengths(self._path(content_key()))

    def check_place(self) -> None:
        """Find out whether tensors could be stored, without making the folder.

        Raises:
            TrainingError: says why not.
        """
        try:
            with tempfile.TemporaryFile(dir=nearest_existing(self.folder)):
                pass
        except OSError as error:
            raise TrainingError(
                f"Cannot write to the cache {self.folder}: {error.strerror}; choose another folder."
            ) from error

    def __contains__(self, key: str) -> bool:
        return self._path(key).is_file()

    def holds(self, key: str, name: str) -> bool:
        """Say whether a tensor of a name is stored under a key, by a look at the file's header.

        One that is damaged or another file is to be made anew; :meth:`load` says why one that is
        there cannot be opened.
        """
        from safetensors import SafetensorError, safe_open

        if key not in self:
            return False
        try:
            with safe_open(self._path(key), "pt") as opened:
                return name in opened.keys()  # noqa: SIM118
        except SafetensorError:
            return False
        except OSError:
            return True

    def load(self, key: str) -> dict[str, torch.Tensor]:
        """Return the tensors stored under a key, on the CPU.

        Raises:
            TrainingError: when the file cannot be read; a damaged one is removed.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self._path(key)
        try:
            with path.open("rb"):  # says why not, where safetensors only says "no such file"
                pass
            return load_file(path)
        except (FileNotFoundError, SafetensorError) as error:
            if isinstance(error, SafetensorError):
                with contextlib.suppress(PermissionError):  # another run has it open
                    path.unlink(missing_ok=True)
            raise TrainingError(
                f"The cached file {path} is missing or damaged ({error}); "
                "run again to encode it anew."
            ) from error
        except (OSError, RuntimeError) as error:  # the latter is torch's, which maps the file
            raise TrainingError(
                f"Cannot read the cached file {path}: {getattr(error, 'strerror', None) or error}."
            ) from error

    def store(self, key: str, tensors: Mapping[str, torch.Tensor]) -> None:
        """Store tensors under a key.

        Raises:
            TrainingError: when the disk does not take them.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        try:
            with atomic_path(self._path(key)) as part:
                save_file(
                    {name: t.detach().cpu().contiguous() for name, t in tensors.items()}, part
                )
        except (OSError, SafetensorError) as error:
            if is_held(error) and key in self:  # by a run that has stored and mapped the same
                return
            raise TrainingError(
                f"Cannot write to the cache {self.folder}: "
                f"{getattr(error, 'strerror', None) or error}; "
                f"{system_advice(error) or 'free space there, or choose another folder'}."
            ) from error

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


_IN_MEMORY = 2**30
"""Bytes: a thousand pictures of 1024² with their captions, as SDXL sees them."""

_MOST_HELD = 30_000
"""Linux maps 65,530 files into a process. Source: kernel.org, admin-guide/sysctl/vm.rst."""


class KeptTensors(TensorCache):
    """A cache to train from: what was read stays in memory, or mapped where that is much."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``; nothing is read yet."""
        super().__init__(folder)
        self._held: dict[str, dict[str, torch.Tensor]] = {}
        self._in_memory = 0

    def load(self, key: str) -> dict[str, torch.Tensor]:
        """Return the tensors stored under a key, on the CPU; they must not be written to.

        Raises:
            TrainingError: when the file is read for the first time and cannot be.
        """
        import torch

        if key in self._held:
            return self._held[key]
        with torch.inference_mode(False):
            tensors = super().load(key)
            size = sum(value.nbytes for value in tensors.values())
            if self._in_memory + size <= _IN_MEMORY:
                tensors = {name: value.clone() for name, value in tensors.items()}
                self._in_memory += size
        if len(self._held) < _MOST_HELD:
            self._held[key] = tensors
        return tensors


def content_key(*parts: str | bytes) -> str:
    """Return a name for the content made from ``parts``: their SHA-256, in hexadecimal."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode(errors="surrogatepass") if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.hexdigest()


def sampled_key(model: torch.nn.Module, values_each: int = 64) -> str:
    """Return a name for a model made from a few values of each weight: fast, to tell models apart.

    Args:
        model: on any device.
        values_each: values read of each parameter.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().reshape(-1)
        sample = flat[:: max(1, flat.numel() // values_each)][:values_each]
        digest.update(f"{name}{tuple(parameter.shape)}".encode())
        digest.update(sample.float().cpu().numpy().tobytes())
    return digest.hexdigest()


def weights_key(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a name for a set of weights: the SHA-256 of their names, shapes and values."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
