"""Safetensors files, read one tensor at a time and written the same way every time.

The usual reader maps the whole file and the usual writer orders metadata at random. A LoRA of a
gigabyte is read here with the memory of one module, and the same content gives the same bytes.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ..errors import LoraFileError
from ..files import atomic_path
from ..plain_json import parse_json

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
# Zip archives (torch.save since 1.6) and bare pickle streams.
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE_SUFFIXES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
# The format's own limit. Source: huggingface/safetensors, MAX_HEADER_SIZE.
_MAX_HEADER_BYTES = 100_000_000


class TensorFile(Mapping[str, torch.Tensor]):
    """The tensors of a safetensors file; each look-up reads one from the disk.

    Attributes:
        path: the file.
        metadata: its text metadata.
        shapes: tensor name to shape, known without reading the tensor.
        dtypes: tensor name to dtype.
    """

    def __init__(self, path: Path) -> None:
        """Read the header and check it against the file's size.

        Raises:
            LoraFileError: the file is missing, a pickle, cut short, or not safetensors.
        """
        self.path = path
        try:
            with path.open("rb") as opened:
                self._size = os.fstat(opened.fileno()).st_size
                header, self._start = _read_header(path, opened.read(8), opened)
        except OSError as error:
            raise LoraFileError(f"Cannot read {path}: {error.strerror or error}.") from error
        self.metadata: dict[str, str] = dict(header.pop("__metadata__", None) or {})
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.dtypes: dict[str, torch.dtype] = {}
        self._spans: dict[str, tuple[int, int]] = {}
        for name, entry in header.items():
            self._add(name, entry)

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
            dtype = DTYPES[entry["dtype"]]
            shape = tuple(int(size) for size in entry["shape"])
            begin, end = (int(offset) for offset in entry["data_offsets"])
        except (KeyError, TypeError, ValueError) as error:
            raise LoraFileError(
                f"{self.path.name} is not a readable safetensors file: its header has no valid "
                f"entry for {name!r}; save it again."
            ) from error
        count = 1
        for size in shape:
            count *= size
        if self._start + end > self._size:
            raise LoraFileError(
                f"{self.path.name} is cut short: its header promises {self._start + end} bytes, "
                f"the file has {self._size}; download or copy it again."
            )
        if min(shape, default=0) < 0 or end - begin != count * dtype.itemsize or begin < 0:
            raise LoraFileError(
                f"{self.path.name} is damaged: {name!r} should have {count * dtype.itemsize} "
                f"bytes and has {end - begin}; save or download it again."
            )
        self.shapes[name], self.dtypes[name], self._spans[name] = shape, dtype, (begin, end)


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
        LoraFileError: when the disk does not take it; an older file of that name stays whole.
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
    try:
        with atomic_path(path) as part, part.open("wb") as opened:
            opened.write(len(text).to_bytes(8, "little") + text)
            for name in order:
                flat = tensors[name].detach().cpu().contiguous().reshape(-1)
                opened.write(flat.view(torch.uint8).numpy().data)
    except OSError as error:
        raise LoraFileError(f"Cannot write {path}: {error.strerror or error}.") from error


def _read_header(path: Path, first: bytes, opened: Any) -> tuple[dict[str, Any], int]:
    if path.suffix.lower() in _PICKLE_SUFFIXES or first.startswith(_PICKLE_STARTS):
        raise LoraFileError(
            f"{path.name} is a pickle, which can run code when it is opened and is never read "
            "here; get the file as .safetensors."
        )
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > _MAX_HEADER_BYTES:
        raise LoraFileError(f"{path.name} is not a safetensors file; choose a .safetensors file.")
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
    if not isinstance(header, dict):
        raise LoraFileError(f"{path.name} is not a safetensors file; choose a .safetensors file.")
    return header, 8 + length
