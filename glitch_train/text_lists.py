"""What is written for an axis of a grid: "5-21", "5:21:4", "1, 4, 7.5", "1088x896, 1152x896"."""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeVar

from .errors import GridError

MAX_VALUES = 1000
"""Most values of one axis: beyond it, a range was mistyped."""

SIDE_STEP_PX = 8
SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 16, 16384

_NUMBER = r"([+-]?(?:\d+\.?\d*|\.\d+))"
_RANGE = re.compile(rf"{_NUMBER}\s*(?:-|–|:|\.\.)\s*{_NUMBER}(?:\s*:\s*{_NUMBER})?")
_ONE = re.compile(_NUMBER)
_SIZE = re.compile(r"(\d+)(?:\s*[x×*]\s*(\d+))?", re.IGNORECASE)
_RULE = re.compile(r"^\s*-{3,}\s*$", re.MULTILINE)
_DASHED = re.compile(r"(?<=\d)\s*([-–:×x*]|\.\.)\s*(?=[\d.+-])", re.IGNORECASE)

Value = TypeVar("Value")


def whole_numbers(text: str, name: str, low: int, high: int) -> tuple[int, ...]:
    """Return the whole numbers of an axis, in order, each once.

    Args:
        text: numbers and ranges between commas, semicolons or spaces. ``5-21`` and ``5:21`` count
            by one, ``5:21:4`` by four; both ends are included.
        name: the setting, for messages.
        low: smallest allowed.
        high: largest allowed.

    Raises:
        GridError: names the setting and the part that cannot be read.
    """
    numbers = []
    for number in _numbers(text, name, f"whole numbers such as {low + 4}-{low + 20}", low, high):
        if number != int(number):
            raise GridError(f"{name} must be whole numbers, got {number}.")
        numbers.append(int(number))
    return tuple(numbers)


def real_numbers(text: str, name: str, low: float, high: float) -> tuple[float, ...]:
    """Return the numbers of an axis, in order, each once; see :func:`whole_numbers`.

    Raises:
        GridError: names the setting and the part that cannot be read.
    """
    return tuple(float(one) for one in _numbers(text, name, "numbers such as 1, 4, 7.5", low, high))


def sizes(text: str) -> tuple[tuple[int, int], ...]:
    """Return (width, height) in pixels of ``1088x896, 1152x896``; ``512`` is a square.

    Raises:
        GridError: for what is no size, or one that the latent image cannot have.
    """
    found = []
    for part in _parts(text):
        match = _SIZE.fullmatch(part)
        if not match:
            raise GridError(
                f"sizes: {part!r} is not a size; write WIDTHxHEIGHT in pixels, such as 1088x896."
            )
        size = int(match[1]), int(match[2] or match[1])
        for side in size:
            if side % SIDE_STEP_PX or not SMALLEST_SIDE_PX <= side <= LARGEST_SIDE_PX:
                raise GridError(
                    f"sizes: {part!r} has a side of {side}; sides are multiples of {SIDE_STEP_PX} "
                    f"from {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} pixels."
                )
        found.append(size)
    if not found:
        raise GridError("sizes is empty; write at least one size, such as 512x512.")
    return _each_once(found)


def prompts(text: str) -> tuple[str, ...]:
    """Return the prompts: one a line, or blocks between lines of ``---``; at least an empty one.

    A text with a ``---`` line is in blocks throughout, so that a prompt may have paragraphs.
    """
    blocks = _RULE.split(text) if _RULE.search(text) else text.splitlines()
    found = [block.strip() for block in blocks]
    return _each_once(block for block in found if block) or ("",)


def names(text: str) -> tuple[str, ...]:
    """Return the names on the lines of a text, each once."""
    return _each_once(lines_of(text))


def lines_of(text: str) -> list[str]:
    """Return the lines of a text that are not empty, without the space around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _numbers(text: str, name: str, wanted: str, low: float, high: float) -> tuple[Decimal, ...]:
    found: list[Decimal] = []
    for part in _parts(text):
        if match := _RANGE.fullmatch(part):
            found += _range(name, part, *(Decimal(one) if one else None for one in match.groups()))
        elif _ONE.fullmatch(part):
            found.append(Decimal(part))
        else:
            raise GridError(f"{name}: cannot read {part!r}; write {wanted}.")
        if len(found) > MAX_VALUES:
            raise GridError(f"{name}: {part!r} gives more than {MAX_VALUES} values; write fewer.")
    if not found:
        raise GridError(f"{name} is empty; write {wanted}.")
    for number in found:
        if not low <= number <= high:
            raise GridError(f"{name} must be {low} to {high}, got {number}.")
    return _each_once(found)


def _range(
    name: str, part: str, first: Decimal | None, last: Decimal | None, step: Decimal | None
) -> list[Decimal]:
    assert first is not None  # noqa: S101  the pattern has both ends
    assert last is not None  # noqa: S101
    step = Decimal(1) if step is None else abs(step)
    if not step:
        raise GridError(f"{name}: {part!r} has a step of 0; write a step above 0.")
    count = int(abs(last - first) / step) + 1
    if count > MAX_VALUES:
        raise GridError(f"{name}: {part!r} gives more than {MAX_VALUES} values; write fewer.")
    signed = step if last >= first else -step
    return [first + index * signed for index in range(count)]


def _parts(text: str) -> list[str]:
    """Split at commas, semicolons and spaces, but not inside "5 - 21" or "64 x 64"."""
    closed = _DASHED.sub(lambda match: match[1], text)
    return [part for part in re.split(r"[,;\s]+", closed) if part]


def _each_once(values: Iterable[Value]) -> tuple[Value, ...]:
    return tuple(dict.fromkeys(values))
