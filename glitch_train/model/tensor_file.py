"""Safetensors files, read one tensor at a time and written the same way every time.

The usual reader maps the whole file and the usual writer orders metadata at random. A LoRA of a
gigabyte is read here with the memory of one module, and the same content gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ..errors import LoraFileError
from ..files import atomic_path, disk_errors_said
from ..plain_json import parse_json
from ..wording import size_text
from .file_kind import what_it_is

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
_TOLD_BY_BYTES = 512
# What torch can count, sizes of 0 aside.
_MOST_VALUES, _MOST_SIZES = 2**62, 8
# The format's own limit is 100 MB (huggingface/safetensors, MAX_HEADER_SIZE). A checkpoint has a
# tenth of one, kohya's tags may take a few; lists in lists take thirty times their text in memory.
_MAX_HEADER_BYTES = 16_000_000


class TensorFile(Mapping[str, torch.Tensor]):
    """The tensors of a safetensors file; each look-up reads one from the disk.

    Attributes:
        path: the file.
        metadata: its text metadata; values of other JSON types as JSON.
        unread: names of entries in a number format that torch does not have, to that format.
        shapes: tensor name to shape, known without reading the tensor.
        dtypes: tensor name to dtype.
    """

    def __init__(self, path: Path) -> None:
        """Read the header and check it against the file's size.

        Raises:
            LoraFileError: the file is missing, a pickle, cut short, too long, or not safetensors.
        """
        self.path = path
        try:
            with path.open("rb") as opened:
                self._size = os.fstat(opened.fileno()).st_size
                header, self._start = _read_header(path, opened)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            reason = getattr(error, "strerror", None) or error
            raise LoraFileError(f"Cannot read {path}: {reason}.") from error
        self.metadata = _as_text(header.pop("__metadata__", None))
        self.unread: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        self._end = self._start
        for name, entry in header.items():
            self._add(name, entry)
        if self._end < self._size:
            raise LoraFileError(
                f"{path.name} has {self._size - self._end:,} bytes after its last tensor, which no "
                "loader takes (a download that was begun twice?); download or copy it again."
            )

    def __getitem__(self, name: str) -> torch.Tensor:
        begin, end = self._spans[name]
        raw = bytearray(end - begin)
        with self.path.open("rb") as opened:
            opened.seek(self._start + begin)
            opened.readinto(raw)
        dtype, shape = self.dtypes[name], self.shapes[name]
        if not raw:
            return torch.empty(shape, dtype=dtype)
        return torch.frombuffer(raw, dtype=dtype).reshape(shape)

    def __iter__(self) -> Iterator[str]:
        return iter(self._spans)

    def __len__(self) -> int:
        return len(self._spans)

    def _add(self, name: str, entry: Any) -> None:
        try:
            kind = str(entry["dtype"])
            if not kind.isidentifier():
                raise ValueError(kind)
            shape = tuple(int(size) for size in entry["shape"])
            begin, end = (int(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise LoraFileError(
                f"{self.path.name} is not a readable safetensors file: its header has no valid "
                f"entry for {name[:100]!r}; save it again."
            ) from error
        if self._start + end > self._size:
            raise LoraFileError(
                f"{self.path.name} is cut short: its header promises {self._start + end} bytes, "
                f"the file has {self._size}; download or copy it again."
            )
        self._end = max(self._end, self._start + end)
        dtype = DTYPES.get(kind)
        if dtype is None:
            self.unread[name] = kind
            return
        if not _countable(shape) or end - begin != math.prod(shape) * dtype.itemsize or begin < 0:
            raise LoraFileError(
                f"{self.path.name} is damaged: {name[:100]!r} has {end - begin} bytes for the "
                f"shape {list(shape[:8])} in {kind}; save or download it again."
            )
        self.shapes[name], self.dtypes[name], self._spans[name] = shape, dtype, (begin, end)


def _countable(shape: tuple[int, ...]) -> bool:
    """Say whether a shape is one that a tensor can have."""
    if len(shape) > _MOST_SIZES or min(shape, default=0) < 0:
        return False
    return math.prod(max(size, 1) for size in shape) < _MOST_VALUES


def shape_of(tensors: Mapping[str, torch.Tensor], name: str) -> tuple[int, ...]:
    """Return a tensor's shape, without reading it where it lies in a file."""
    if isinstance(tensors, TensorFile):
        return tensors.shapes[name]
    return tuple(tensors[name].shape)


def dtype_of(tensors: Mapping[str, torch.Tensor], name: str) -> torch.dtype:
    """Return a tensor's dtype, without reading it where it lies in a file."""
    return tensors.dtypes[name] if isinstance(tensors, TensorFile) else tensors[name].dtype


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread for a while, for work that consists of many small products.

    Threads would wait for each other longer than they compute, worst on a busy machine, and sums
    would depend on the number of cores; so the same input gives the same bytes everywhere.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def write_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a safetensors file in one piece; equal content gives equal bytes.

    Args:
        path: the file; its folder is created.
        tensors: written in the order of their names, wide number formats first, so that each
            starts at a multiple of its own size, as readers that map the file expect.
        metadata: written in the order of its keys.

    Raises:
        DiskError: when the disk does not take it; an older file of that name stays whole.
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    offset = 0
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    for name in order:
        tensor = tensors[name]
        end = offset + tensor.numel() * tensor.element_size()
        header[name] = {
            "dtype": _NAMES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with disk_errors_said(path), atomic_path(path) as part, part.open("wb") as opened:
        opened.write(len(text).to_bytes(8, "little") + text)
        for name in order:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            opened.write(flat.view(torch.uint8).numpy().data)


def _as_text(metadata: Any) -> dict[str, str]:
    """Return metadata as the format wants it: text; what is no object says nothing."""
    if not isinstance(metadata, dict):
        return {}
    texts = {
        key: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for key, value in metadata.items()
    }
    # JSON can name halves of characters, which no file can hold.
    return {_whole(key): _whole(value) for key, value in texts.items()}


def _whole(text: str) -> str:
    return text.encode("utf-8", errors="replace").decode("utf-8")


def _read_header(path: Path, opened: BinaryIO) -> tuple[dict[str, Any], int]:
    """Return the header and where the tensors begin.

    The content decides: a valid header whose length looks like a pickle's first bytes is read.
    """
    start = opened.read(_TOLD_BY_BYTES)
    length = int.from_bytes(start[:8], "little")
    # The format wants the header to begin with a brace.
    if start[8:9] == b"{" and _MAX_HEADER_BYTES < length <= os.fstat(opened.fileno()).st_size:
        raise LoraFileError(
            f"{path.name} has a header of {size_text(length)}, more than any model has; download "
            "it again, or save it with less metadata."
        )
    if start[8:9] != b"{" or length > _MAX_HEADER_BYTES:
        raise _refusal(path, start)
    opened.seek(8)
    raw = opened.read(length)
    if len(raw) < length:
        raise LoraFileError(
            f"{path.name} is cut short inside its header ({len(raw)} of {length} bytes); "
            "download or copy it again."
        )
    try:
        header = parse_json(raw)
    except ValueError as error:
        raise LoraFileError(
            f"{path.name} is not a readable safetensors file: its header is not JSON; "
            "download or copy it again."
        ) from error
    if path.suffix.lower() in _PICKLE_SUFFIXES:
        raise LoraFileError(
            f"{path.name} is a safetensors file, but by its name ComfyUI would open it as a "
            f"pickle; rename it to {path.stem}.safetensors."
        )
    return header, 8 + length


def _refusal(path: Path, start: bytes) -> LoraFileError:
    said = what_it_is(path, start)
    is_what = "" if said.startswith(("not ", "a pickle")) else ", not a safetensors file"
    what, mark, advice = said.partition(";")
    return LoraFileError(f"{path.name} is {what}{is_what}{mark}{advice}.")
