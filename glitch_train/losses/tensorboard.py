"""Read scalars from TensorBoard event files, as kohya's trainer and others write them.

An event file is a sequence of TFRecords, each holding one Event message. Only the wire format's
four types and the few fields that scalars need are read here: the ``tensorboard`` package would
bring a web server and gRPC for it.

Source: tensorflow/core/lib/io/record_writer.h (framing), tensorflow/core/util/event.proto and
framework/summary.proto, tensor.proto (fields); protobuf.dev/programming-guides/encoding (wire).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from ..errors import RecordError

Scalars = dict[str, list[tuple[float, float]]]
"""Tag to (step, value) in the order written."""

_EVENT_STEP, _EVENT_SUMMARY = 2, 5
_SUMMARY_VALUE = 1
_VALUE_TAG, _VALUE_SIMPLE, _VALUE_TENSOR = 1, 2, 8
_TENSOR_DTYPE, _TENSOR_CONTENT, _TENSOR_FLOAT, _TENSOR_DOUBLE = 1, 4, 5, 6
_DTYPE_DOUBLE = 2


def read_scalars(path: Path) -> Scalars:
    """Return every scalar in an event file.

    A last record that is cut off (the run still writes, or crashed) is left out.

    Args:
        path: ``events.out.tfevents.…``.

    Raises:
        RecordError: when the file cannot be read or is no event file.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordError(f"Cannot read {path}: {error.strerror}.") from error
    scalars: Scalars = {}
    try:
        for event in _records(content):
            _collect(event, scalars)
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise RecordError(
            f"{path} is no TensorBoard event file, or it is damaged; "
            "give the file events.out.tfevents.… of one run."
        ) from error
    return scalars


def _records(content: bytes) -> Iterator[bytes]:
    """Yield the payload of each TFRecord: length, its CRC, data, its CRC."""
    place = 0
    while place + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, place)
        if not length:
            raise ValueError("an event without its time")
        end = place + 12 + length
        if end + 4 > len(content):
            if place == 0:
                raise ValueError("the first record is longer than the file")
            return
        yield content[place + 12 : end]
        place = end + 4


def _collect(event: bytes, scalars: Scalars) -> None:
    step, summaries = 0, []
    for field, value in _fields(event):
        if field == _EVENT_STEP and isinstance(value, int):
            step = value
        elif field == _EVENT_SUMMARY and isinstance(value, bytes):
            summaries.append(value)
    for summary in summaries:
        for field, value in _fields(summary):
            if field == _SUMMARY_VALUE and isinstance(value, bytes):
                tag, number = _scalar(value)
                if number is not None:
                    scalars.setdefault(tag, []).append((step, number))


def _scalar(message: bytes) -> tuple[str, float | None]:
    tag, number = "", None
    for field, value in _fields(message):
        if field == _VALUE_TAG and isinstance(value, bytes):
            tag = value.decode("utf-8")
        elif field == _VALUE_SIMPLE and isinstance(value, bytes):
            (number,) = struct.unpack("<f", value)
        elif field == _VALUE_TENSOR and isinstance(value, bytes):
            number = _tensor(value)
    return tag, number


def _tensor(message: bytes) -> float | None:
    """Return the number in a tensor of one float or double."""
    fields = dict(_fields(message))
    form = "<d" if fields.get(_TENSOR_DTYPE) == _DTYPE_DOUBLE else "<f"
    for field in (_TENSOR_CONTENT, _TENSOR_FLOAT, _TENSOR_DOUBLE):
        value = fields.get(field)
        if isinstance(value, bytes) and len(value) == struct.calcsize(form):
            return float(struct.unpack(form, value)[0])
    return None


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield field numbers with their raw values: a varint as int, all else as bytes."""
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        kind = key & 7
        if kind == 0:
            number, place = _varint(message, place)
            yield key >> 3, number
            continue
        if kind == 2:
            length, place = _varint(message, place)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if place + length > len(message):
            raise ValueError("a field is longer than its message")
        yield key >> 3, message[place : place + length]
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = message[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
        if shift > 63:
            raise ValueError("a number is longer than 64 bits")
