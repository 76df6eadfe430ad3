"""Series of numbers by step, whatever tool logged them, become loss records."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence

from .about import About
from .record import LossRecord, is_column
from .steps import Place, counted_on
from .tables import SURELY_A_TIME, Cell, Row
from .tags import (
    NAMES,
    RANKS,
    RUNS,
    SPLITS,
    STEPS,
    TAGS,
    VALUES,
    choose,
    column,
    found_in,
    is_average,
    is_training,
    loss_tags,
)
from .tensorboard import Scalars

NAMED = 3
"""Of several things left out so many are named."""


@dataclasses.dataclass
class Log:
    """What a file says of one run.

    Attributes:
        series: tag to (step, value) in the order written.
        notes: what a person should know of how it was read.
        run: its name in the file, empty where there is none.
    """

    series: Scalars
    notes: list[str] = dataclasses.field(default_factory=list)
    run: str = ""


def logs_of_rows(rows: Sequence[Row]) -> list[Log]:
    """Return the runs in a table, in its order: those of a run column, or of its headings.

    Args:
        rows: wide (a column for each number) or long (a column that names the number).
    """
    headings = list(dict.fromkeys(name for row in rows for name in row))
    tags = {name: column(name) for name in headings}
    by_tag = {tag.tag: name for name, tag in reversed(tags.items())}
    rows, notes = _of_training(rows, by_tag)
    runs = by_tag.get(found_in(by_tag, RUNS), "")
    parts: dict[str, list[Row]] = {}
    for row in rows:
        parts.setdefault(_words(row.get(runs)) if runs else "", []).append(row)
    names = by_tag.get(found_in(by_tag, NAMES), "")
    value = by_tag.get(found_in(by_tag, VALUES), "")
    step = [by_tag[tag] for tag in STEPS if tag in by_tag]
    if not step and (counting := next((n for n in headings if _counts(rows, n, tags[n].tag)), "")):
        step = [counting]
        notes.append(f"Its steps were read from {counting}.")
    is_long = names and value and not loss_tags(by_tag)
    logs = []
    for run, part in parts.items():
        found = [_long(part, names, value, step)] if is_long else _wide(part, headings, step)
        logs += [
            dataclasses.replace(log, run=", ".join(filter(None, (run, log.run)))) for log in found
        ]
    for log in logs:
        log.notes[:0] = notes
        log.run = log.run if len(logs) > 1 else ""
    return logs


def _of_training(rows: Sequence[Row], by_tag: Mapping[str, str]) -> tuple[Sequence[Row], list[str]]:
    """Return the rows of the training, where a column tells them from others, and what to say.

    Rows that sum the others up or belong to a validation are left out, and of several processes
    the first one's stay.
    """
    notes = []
    for counting in filter(None, map(by_tag.get, STEPS)):
        summing = [row for row in rows if isinstance(row.get(counting), str)]
        if 0 < 2 * len(summing) < len(rows):
            rows = [row for row in rows if not isinstance(row.get(counting), str)]
            called = ", ".join(dict.fromkeys(_words(row[counting])[:40] for row in summing[:NAMED]))
            notes.append(
                f"Rows whose {counting} is no number ({called}) were left out: {len(summing):,}."
            )
    for kinds, taken in ((SPLITS, is_training), (RANKS, None)):
        name = by_tag.get(found_in(by_tag, kinds), "")
        words = [_words(row.get(name)) for row in rows] if name else []
        found = sorted(set(filter(None, words)))
        kept = {one for one in found if taken(one)} if taken else set(found[:1])
        if kept and kept != set(found):
            rows = [row for row, word in zip(rows, words, strict=True) if word in {"", *kept}]
            others = ", ".join(one for one in found if one not in kept)
            notes.append(f"Rows whose {name} is {others} were left out.")
    return rows, notes


def _counts(rows: Sequence[Row], name: str, tag: str) -> bool:
    """Say whether a column of another name counts steps: whole numbers, always growing."""
    values = [row.get(name) for row in rows]
    numbers = [value for value in values if isinstance(value, float)]
    return (
        tag not in TAGS["epoch"]
        and len(numbers) == len(values) > 1
        and all(value.is_integer() and value < SURELY_A_TIME for value in numbers)
        and all(a < b for a, b in itertools.pairwise(numbers))
    )


def to_record(name: str, log: Log) -> LossRecord | None:
    """Join a run's series on the steps of its training loss; None where it has none.

    Others are NaN where they have no value. A probe logged between two losses goes to the one
    before it, as other tools log them.
    """
    losses = [tag for tag in loss_tags(log.series) if log.series[tag]]
    losses = losses or [tag for tag in VALUES if log.series.get(tag)]
    if not losses:
        return None
    places, steps, notes = counted_on([step for step, _ in log.series[losses[0]]])
    columns = {"step": steps, "loss": [value for _, value in log.series[losses[0]]]}
    ours = {tag: tag for tag in log.series if is_column(tag) and tag not in columns}
    for name_of, tag in (choose(log.series) | ours).items():
        columns[name_of] = _joined(places, log.series[tag])
    if steps != sorted(steps):
        order = sorted(range(len(steps)), key=steps.__getitem__)
        columns = {key: [values[place] for place in order] for key, values in columns.items()}
    return LossRecord(name, columns, About(notes=[*_which(losses), *log.notes, *notes]))


def _which(losses: Sequence[str]) -> list[str]:
    """Say which of several losses was taken."""
    taken, *others = losses
    notes = [f"The training loss is {taken}; {', '.join(others)} was left out."] if others else []
    if is_average(taken):
        notes.append(f"{taken} is an average: its noise is smaller than the losses' own.")
    return notes


def _long(rows: Sequence[Row], names: str, value: str, steps: Sequence[str]) -> Log:
    series: Scalars = {}
    for row in rows:
        number = row.get(value)
        if isinstance(number, float):
            tag = column(_words(row.get(names))).tag
            series.setdefault(tag, []).append((_step(row, steps), number))
    return Log(series)


def _wide(rows: Sequence[Row], headings: Sequence[str], steps: Sequence[str]) -> list[Log]:
    """Return one log for every run that the headings name, or the one that they do not."""
    tags = {name: column(name) for name in headings if name not in steps}
    runs = dict.fromkeys(tag.run for tag in tags.values() if loss_tags([tag.tag]))
    at = [_step(row, steps) for row in rows]
    logs = []
    for run in runs or [""]:
        log = Log({}, run=run)
        here = {name: tag.tag for name, tag in tags.items() if tag.run in ("", run)}
        losses = loss_tags(here.values())
        for name, tag in here.items():
            is_loss = tag in losses or tag in VALUES
            log.series[tag] = _series(rows, at, name, is_loss and len(runs) < 2)
            if losses[:1] == [tag]:
                log.notes += _no_numbers(name, [row.get(name) for row in rows])
        logs.append(log)
    return logs


def _series(
    rows: Sequence[Row], at: Sequence[float], name: str, may_be_lost: bool
) -> list[tuple[float, float]]:
    """Return a column's numbers by step; of a loss, lost ones are NaN.

    An empty cell is a gap where most are, or where the row holds what rows with a loss do not (a
    probe); else it is a lost number, as some tools write NaN.
    """
    cells = [row.get(name) for row in rows]
    lost: set[int] = set()
    if may_be_lost and not all(isinstance(cell, float) for cell in cells):
        filled = [row for row, cell in zip(rows, cells, strict=True) if cell is not None]
        often = Counter(key for row in filled for key, cell in row.items() if cell is not None)
        usual = {key for key, count in often.items() if 2 * count >= len(filled)}
        for place, row in enumerate(rows):
            measured = {key for key, other in row.items() if other is not None}
            is_empty = name in row and cells[place] is None and 2 * len(filled) >= len(rows)
            if isinstance(cells[place], str) or (is_empty and measured <= usual):
                lost.add(place)
    return [
        (at[place], cell if isinstance(cell, float) else math.nan)
        for place, cell in enumerate(cells)
        if isinstance(cell, float) or place in lost
    ]


def _no_numbers(heading: str, cells: Sequence[Cell]) -> list[str]:
    """Say how many cells of the loss hold words.

    Raises:
        ValueError: all of them do.
    """
    words = [cell for cell in cells if isinstance(cell, str)]
    if words and not any(isinstance(cell, float) for cell in cells):
        raise ValueError(f"numbers in its column {heading}, which holds {words[0][:40]!r}")
    many = "cell is no number" if len(words) == 1 else "cells are no numbers"
    return [f"{len(words):,} {heading} {many} ({words[0][:40]!r})."] if words else []


def _step(row: Row, steps: Sequence[str]) -> float:
    return next((cell for name in steps if isinstance(cell := row.get(name), float)), math.nan)


def _words(cell: Cell) -> str:
    return "" if cell is None else f"{cell:g}" if isinstance(cell, float) else cell.strip()


def _joined(places: Sequence[Place], series: Sequence[tuple[float, float]]) -> list[float]:
    """Return a series' values beside the losses, NaN where it has none."""
    values = [math.nan] * len(places)
    order = sorted(range(len(places)), key=places.__getitem__)
    ordered = [places[place] for place in order]
    known = {place: number for number, place in enumerate(ordered)}
    begun, before = 0, -math.inf
    for row, (logged, value) in enumerate(series):
        step = row + 1.0 if math.isnan(logged) else logged  # without steps, losses are counted too
        begun = min(begun + (step < before), places[-1][0])
        before = step
        at = known.get((begun, step))
        at = bisect.bisect_right(ordered, (begun, step)) - 1 if at is None else at
        values[order[max(0, at)]] = value
    return values
