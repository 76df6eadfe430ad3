"""Tables of losses as other tools write them, CSV of any locale and JSON, taken apart into rows."""

from __future__ import annotations

import contextlib
import csv
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..plain_json import parse_json
from .tags import VALUES, column, loss_tags

Cell = float | str | None
"""A number, words that are none, or nothing."""

Row = dict[str, Cell]
"""Heading to cell, in the order of the columns; what is not in a row was not written."""

HEADER_WITHIN = 20
"""Titles and comments come before the header in no more lines than this."""

SURELY_A_TIME = 1e8
"""No step is so large: seconds since 1970 are, as TensorBoard writes them."""

CUT_AFTER = 8
"""Losses it takes to know how long one is, so that the last can be seen to be cut off."""

_NOTHING = {"", "none", "null", "na", "n/a", "-", "--"}
_SPACES = str.maketrans({"\u2212": "-", **dict.fromkeys("\u00a0\u202f\u2009'\u2019 ")})
_COMMA = re.compile(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?")
_POINT = re.compile(r"[-+]?\d*\.\d+(?:[eE][-+]?\d+)?")
_COMMA_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_POINT_GROUPS = re.compile(r"[-+]?[1-9]\d{0,2}(?:\.\d{3})+(?:,\d*)?")


def csv_rows(text: str) -> tuple[list[Row], list[str]]:
    """Return the rows of a CSV and what a person should know of how they were read.

    Raises:
        ValueError: what is missing, as words that go on a sentence about the file.
        csv.Error: it is no CSV.
    """
    lines, delimiter = _cells(text)
    comma = _decimal_comma(lines, delimiter)
    notes: list[str] = []
    rows: list[Row] = []
    heading: list[str] = []
    wider = 0
    for place, line in enumerate(lines):
        if (heading or place < HEADER_WITHIN) and _is_heading(line, comma):
            heading = _unique(line)
        elif heading and any(line):
            rows.append({name: _value(cell, comma) for name, cell in zip(heading, line)})  # noqa: B905 - a cut row is short
            wider += any(line[len(heading) :])
    if not heading:
        rows, note = _without_heading([[_value(cell, comma) for cell in line] for line in lines])
        notes.append(note)
    if wider > len(rows) / 2:
        raise ValueError(
            "as many cells in a row as in its header (commas inside numbers cannot be told from "
            "those between them; write it with semicolons)"
        )
    if wider:
        notes.append(f"{wider:,} rows have more cells than the header; those were left out.")
    if comma:
        notes.append("Its commas were read as decimal points.")
    if rows and not text.endswith(("\n", "\r")) and _is_cut(lines, rows):
        rows.pop()
        notes.append("Its last line is cut off, as while a tool still writes, and was left out.")
    return rows, notes


def json_rows(content: Any) -> list[Row]:
    """Return the rows in a JSON of another tool; none where it holds no table.

    Args:
        content: what the JSON says: rows as objects, columns as lists or objects (pandas), a
            Trainer's state, Keras' history, TensorBoard's ``[[wall time, step, value], …]``, pairs
            of step and loss, or bare numbers.
    """
    match content:
        # Of transformers' trainer_state.json; of Keras, as people save it.
        case {"log_history": list(history)} | {"history": dict(history) | list(history)}:
            return json_rows(history)
        case [dict(), *_]:
            return [_flat(row) for row in content if isinstance(row, dict)]
        case [[_, _] | [_, _, _] as first, *_]:
            names = ("wall time", "step", "value")[-len(first) :]
            lists = [row for row in content if isinstance(row, list) and len(row) == len(names)]
            return [_flat(dict(zip(names, row, strict=True))) for row in lists]
        case [int() | float(), *_]:
            return [{"loss": _plain(value)} for value in content]
        case dict() if content and all(isinstance(_plain(str(key)), float) for key in content):
            return [{"step": float(key), "loss": _plain(value)} for key, value in content.items()]
        case dict():
            return _columns_as_rows(content)
    return []


def json_lines(text: str) -> tuple[list[Row], list[str]]:
    """Return the rows of a file with one JSON object a line.

    Raises:
        ValueError: a line before the last is no JSON.
    """
    rows: list[Row] = []
    lines = [line for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        try:
            row = parse_json(line)
        except ValueError as error:
            if 1 < number == len(lines):
                cut = "Its last line is cut off, as while a tool still writes, and was left out."
                return rows, [cut]
            raise ValueError(f"line {number}: {error}") from error
        if isinstance(row, dict):
            rows.append(_flat(row))
    return rows, []


def _cells(text: str) -> tuple[list[list[str]], str]:
    """Return the cells of every line that is not empty, and what stands between them."""
    told = re.match(r"sep=(.)\r?\n?", text)  # a line for Excel
    body = text[told.end() :] if told else text
    sample = [re.sub(r'"[^"]*"', "", line) for line in body.splitlines() if line.strip()]
    sample = sample[:HEADER_WITHIN]
    marks = [mark for mark in "\t;|," if 2 * sum(mark in line for line in sample) > len(sample)]
    words = sample[0].lstrip("# ").split() if sample and not told else []
    if len(words) > 1 and (not marks or (marks[0] not in sample[0] and _is_heading(words, False))):
        return [line.lstrip("# ").split() for line in body.splitlines() if line.strip()], " "
    delimiter = told[1] if told else (marks or [","])[0]
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter)
    lines = [[cell.strip() for cell in line] for line in reader]
    for line in lines[:HEADER_WITHIN]:
        line[:1] = [cell.lstrip("# ") for cell in line[:1]]
    return [line for line in lines if any(line) and not _is_rule(line)], delimiter


def _is_rule(line: Sequence[str]) -> bool:
    """Say whether a line only rules off a header, as in Markdown."""
    cells = [cell for cell in line if cell]
    return all(re.fullmatch(r":?-{3,}:?|[-+=]{4,}", cell) for cell in cells)


def _decimal_comma(lines: Sequence[Sequence[str]], delimiter: str) -> bool:
    """Say whether a file writes 0,5 for a half. 1,000 alone is a thousand between commas only."""
    cells = [cell for line in lines for cell in line]
    commas = [cell for cell in cells if "," in cell and _COMMA.fullmatch(cell)]
    if any(not _COMMA_GROUPS.fullmatch(cell) for cell in commas):
        return True
    points = (_POINT.fullmatch(cell) and not _POINT_GROUPS.fullmatch(cell) for cell in cells)
    return bool(commas) and delimiter != "," and not any(points)


def _value(cell: str, comma: bool) -> Cell:
    if not comma:
        with contextlib.suppress(ValueError):
            return float(cell)
    text = cell.strip().translate(_SPACES)
    if text.lower() in _NOTHING:
        return None
    if comma:
        text = (text.replace(".", "") if _POINT_GROUPS.fullmatch(text) else text).replace(",", ".")
    elif _COMMA_GROUPS.fullmatch(text):
        text = text.replace(",", "")
    try:
        return float(text)
    except ValueError:
        return cell


def _is_heading(line: Sequence[str], comma: bool) -> bool:
    if any(isinstance(_value(cell, comma), float) for cell in line):
        return False
    tags = [column(cell).tag for cell in line]
    return bool(loss_tags(tags) or set(tags) & set(VALUES))


def _unique(names: Sequence[str]) -> list[str]:
    """Number headings that come twice, so that no column hides another."""
    return [
        f"{name} ({names[:place].count(name) + 1})" if name in names[:place] else name
        for place, name in enumerate(names)
    ]


def _without_heading(lines: list[list[Cell]]) -> tuple[list[Row], str]:
    """Tell the columns of a table of bare numbers apart, where that can be done."""
    width = {len(line) for line in lines}
    if lines and all(isinstance(cell, float) for cell in lines[0]):
        first, second = ([line[at : at + 1] for line in lines] for at in (0, 1))
        if width == {1}:
            return [{"loss": line[0]} for line in lines], "It has no header: losses in order."
        if width <= {1, 2} and _counts(first):
            named = "It has no header: read as step and loss."
            return [_bare(("step", "loss"), line) for line in lines], named
        if width <= {1, 2} and _counts(second):
            named = "It has no header: read as loss and step."
            return [_bare(("loss", "step"), line) for line in lines], named
        if width == {3} and all(_is_time(line[0]) for line in lines) and _counts(second):
            named = "It has no header: read as TensorBoard's wall time, step and value."
            return [_bare(("wall time", "step", "value"), line) for line in lines], named
    raise ValueError("a header with the columns step and loss")


def _bare(names: Sequence[str], line: Sequence[Cell]) -> Row:
    return dict(zip(names, line))  # noqa: B905 - a cut row is short


def _counts(cells: Sequence[Sequence[Cell]]) -> bool:
    """Say whether a column counts: whole numbers, mostly growing."""
    numbers = [cell[0] for cell in cells if cell and isinstance(cell[0], float)]
    grown = sum(a < b for a, b in zip(numbers, numbers[1:], strict=False))
    return all(one == math.floor(one) for one in numbers if math.isfinite(one)) and grown >= 0.5 * (
        len(numbers) - 1
    )


def _is_time(cell: Cell) -> bool:
    return isinstance(cell, float) and cell > SURELY_A_TIME


def _is_cut(lines: Sequence[Sequence[str]], rows: Sequence[Row]) -> bool:
    """Say whether a last line without an end lacks cells, or has a last one that is too short."""
    if len(rows) < 2:
        return False
    if len(rows[-1]) < len(rows[-2]):
        return True
    lengths = [len(line[-1]) for line in lines[-len(rows) :] if line]
    return len(rows) > CUT_AFTER and lengths[-1] < min(lengths[:-1])


def _flat(row: Mapping[str, Any], under: str = "") -> Row:
    """Return an object as a row; what stands in objects in it is named with slashes."""
    flat: Row = {}
    for key, value in row.items():
        name = f"{under}{key}"
        flat |= _flat(value, f"{name}/") if isinstance(value, Mapping) else {name: _plain(value)}
    return flat


def _plain(value: Any) -> Cell:
    if isinstance(value, str):
        return _value(value, False)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number that no float can hold
        return math.inf


def _columns_as_rows(content: Mapping[str, Any]) -> list[Row]:
    """Return columns of one length as rows: lists, or objects from row number to value."""
    lists = {
        name: list(values.values()) if isinstance(values, dict) else values
        for name, values in content.items()
        if isinstance(values, (list, dict)) and values
    }
    tags = {name: column(name).tag for name in lists}
    losses = loss_tags(tags.values())
    length = next((len(lists[name]) for name in lists if tags[name] in losses[:1]), 0)
    return list(_zipped({name: v for name, v in lists.items() if len(v) == length}, length))


def _zipped(columns: Mapping[str, Sequence[Any]], length: int) -> Iterator[Row]:
    for place in range(length):
        yield {name: _plain(values[place]) for name, values in columns.items()}
