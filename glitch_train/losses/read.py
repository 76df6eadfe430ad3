"""Read loss records: a run folder, its CSV or JSON, and the logs of other tools."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path
from typing import Any

from ..encodings import decode
from ..errors import RecordError
from ..files import read_bounded, read_text
from ..plain_json import parse_json
from .about import About
from .record import LossRecord
from .series import Log, logs_of_rows, to_record
from .tables import csv_rows, json_lines, json_rows
from .tensorboard import read_scalars

EVENT_MARK = ".tfevents."
LOSSES = "losses.csv"
METRICS = "metrics.csv"  # Lightning's CSVLogger
STATE = "trainer_state.json"  # transformers' Trainer, one in each of its checkpoint folders

_SNAPSHOT = re.compile(r"[-_]step0*(\d+)\.safetensors$")
_CHECKPOINT = re.compile(r"checkpoint-\d+")


def read_record(path: Path) -> LossRecord:
    """Read the one record in a file or folder, see :func:`read_records`.

    Raises:
        RecordError: says what is missing, or which runs there are where it is more than one.
    """
    records = read_records(path)
    if len(records) > 1:
        names = ", ".join(record.name for record in records[:8])
        raise RecordError(f"{path} holds {len(records)} runs ({names}); give the folder of one.")
    return records[0]


def read_records(path: Path) -> list[LossRecord]:
    """Read every run in a file or folder, each as a record of its own.

    ``about.notes`` of each says how another tool's log was read.

    Args:
        path: a run's folder; a folder with several, with event files, Lightning's metrics.csv or
            trainer_state.json below it; an event file; a CSV, a JSON or lines of JSON of any tool.

    Raises:
        RecordError: says what is missing.
    """
    if path.is_dir():
        return _read_folder(path)
    if EVENT_MARK in path.name:
        return _records(path, path.parent.name or path.stem, [Log(read_scalars(path))])
    text = _text(path)
    if path.suffix.lower() in (".json", ".jsonl", ".ndjson") or text.lstrip()[:1] in ("{", "["):
        return _read_json(path, text)
    return _read_csv(path, text)


def read_csv(path: Path) -> LossRecord:
    """Read a CSV of losses.

    Raises:
        RecordError: when the file, its losses or every row is missing.
    """
    return _read_csv(path, _text(path))[0]


def read_json(path: Path) -> LossRecord:
    """Read what ``LossRecord.to_json`` wrote, a LOSS_MAP, or a JSON of another tool.

    Raises:
        RecordError: when the file is missing, malformed or no record.
    """
    return _read_json(path, _text(path))[0]


def _read_csv(path: Path, text: str) -> list[LossRecord]:
    try:
        rows, notes = csv_rows(text)
        logs = logs_of_rows(rows)
    except csv.Error as error:
        raise RecordError(f"{path} is no CSV of losses: {error}.") from error
    except ValueError as error:
        begins = text.strip()[:60].splitlines()[0] if text.strip() else "nothing"
        raise RecordError(f"{path} needs {error}; it begins with {begins!r}.") from error
    if not rows and len(text.split("\n")) > 2:
        raise RecordError(
            f"{path} has no rows of numbers below its header; give a table or the run's event "
            "file, not what a program printed."
        )
    if not rows:
        raise RecordError(f"{path} has no losses yet; train for at least one step.")
    records = _records(path, _name_for(path), logs, notes)
    if path.name == LOSSES:
        for record in records:
            about = _about(path.parent)
            about.notes += record.about.notes
            record.about = about
    return records


def _read_json(path: Path, text: str) -> list[LossRecord]:
    try:
        content = parse_json(text)
    except ValueError as error:
        try:
            rows, notes = json_lines(text)
        except ValueError:
            raise RecordError(f"{path} is not valid JSON: {error}.") from error
        return _records(path, _name_for(path), logs_of_rows(rows), notes)
    maps = content if isinstance(content, list) else [content]
    if maps and all(map(_is_loss_map, maps)):
        return [_from_map(path, one) for one in maps]
    return _records(path, _name_for(path), _logs_of_json(path, content))


def _logs_of_json(path: Path, content: Any) -> list[Log]:
    rows = json_rows(content)
    if not rows:
        raise RecordError(
            f"{path} holds no losses: it needs a list of numbers called 'loss', or rows with a "
            "step and a loss, as trainers write them."
        )
    try:
        return logs_of_rows(rows)
    except ValueError as error:
        raise RecordError(f"{path} needs {error}.") from error


def _is_loss_map(content: Any) -> bool:
    ours = isinstance(content, dict) and isinstance(content.get("columns"), dict)
    return ours or (isinstance(content, dict) and isinstance(content.get("loss"), list))


def _from_map(path: Path, content: dict[str, Any]) -> LossRecord:
    """Read a LOSS_MAP, or our own JSON, in which "nan" and "inf" stand as words."""
    if isinstance(content.get("columns"), dict):
        content = {key: content[key] for key in ("name", "about") if key in content} | {
            name: _from_words(values) for name, values in content["columns"].items()
        }
    try:
        return LossRecord.from_loss_map(content, _name_for(path))
    except RecordError as error:
        raise RecordError(f"{path}: {error}") from error


def _from_words(values: Any) -> Any:
    """Return a column with numbers for "nan" and "inf"; what else is in it stays."""
    if not isinstance(values, list):
        return values
    return [float(one) if one in ("nan", "inf", "-inf") else one for one in values]


def _read_folder(folder: Path) -> list[LossRecord]:
    """Read the run in a folder and each of those below it."""
    runs: dict[Path, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.name in (LOSSES, METRICS) or EVENT_MARK in path.name or path.name == STATE:
            runs.setdefault(_home(path), []).append(path)
    found: list[LossRecord] = []
    without: list[str] = []
    for home, paths in runs.items():
        try:
            found += _read_run(folder, home, paths)
        except RecordError as error:
            without.append(str(error))
    if not found and without:
        raise RecordError(without[0])
    if not found:
        raise _nothing_in(folder)
    for record in found:
        record.about.notes += [f"Left out: {why}" for why in without]
    return found


def _home(path: Path) -> Path:
    """Return the folder of the run that a file belongs to."""
    return path.parent.parent if _CHECKPOINT.fullmatch(path.parent.name) else path.parent


def _read_run(folder: Path, home: Path, paths: list[Path]) -> list[LossRecord]:
    """Read what one folder holds: the newest state of a Trainer holds all before it."""
    tables = [path for path in paths if path.name in (LOSSES, METRICS)]
    states = [path for path in paths if path.name == STATE]
    own = Path(os.path.realpath(folder)).name
    name = own if home == folder else "/".join(home.relative_to(folder).parts)
    if tables:
        records = _read_csv(tables[0], _text(tables[0]))
        others = ", ".join(sorted({path.name for path in paths} - {tables[0].name}))
        for record in records if others else ():
            record.about.notes.append(f"Read from {tables[0].name}; not from {others} beside it.")
    elif states:
        records = [max((read_json(path) for path in states), key=lambda one: one.steps[-1])]
    else:
        return _records(home, name, _logs_of_events(paths))
    for record in records:
        record.name = name if len(records) == 1 else f"{name}: {record.name}"
    return records


def _logs_of_events(paths: list[Path]) -> list[Log]:
    """Return the runs in the event files of one folder.

    A file that goes on where those before it had come is the same run, resumed; one that begins
    at the first step again is a run of its own.
    """
    logs: list[Log] = []
    for path in paths:
        series = read_scalars(path)
        if not series:
            continue
        first = min(step for values in series.values() for step, _ in values)
        old = logs[-1].series if logs else {}
        if old and first > min(step for values in old.values() for step, _ in values):
            for tag, values in series.items():
                old.setdefault(tag, []).extend(values)
        else:
            logs.append(Log(series, run=path.name))
    for log in logs[1:] and logs:
        log.notes.append(f"One of {len(logs)} runs whose event files lie in one folder.")
    return logs or [Log({})]


def _nothing_in(folder: Path) -> RecordError:
    files = [p.name for p in sorted(folder.iterdir()) if p.suffix in (".csv", ".json", ".jsonl")]
    there = f"; if {', '.join(files[:4])} hold losses, give the files themselves" if files else ""
    return RecordError(f"{folder} has neither {LOSSES} nor a TensorBoard event file{there}.")


def _records(
    path: Path, name: str, logs: list[Log], notes: list[str] | None = None
) -> list[LossRecord]:
    """Return the records of the runs that have losses."""
    records = []
    for log in logs:
        log.notes[:0] = notes or []
        record = to_record(f"{name}: {log.run}" if len(logs) > 1 and log.run else name, log)
        records += [record] if record else []
    if not records:
        have = ", ".join(sorted({tag for log in logs for tag in log.series})[:8]) or "no scalars"
        raise RecordError(f"{path} has no scalar called loss/current; it has {have}.")
    return records


def _about(folder: Path) -> About:
    """Return what the run folder says beside the losses."""
    about: dict[str, Any] = {}
    beside = folder / LOSSES.replace(".csv", ".json")
    for path, key in ((beside, "about"), (folder / "recipe.json", "recipe")):
        try:
            content = parse_json(read_text(path))
        except (OSError, ValueError):
            continue
        if key == "recipe":
            about.setdefault("recipe", content)
        elif isinstance(content, dict) and isinstance(content.get("about"), dict):
            about |= content["about"]
    found = (_SNAPSHOT.search(path.name) for path in folder.rglob("*.safetensors"))
    snapshots = sorted({int(match[1]) for match in found if match})
    return About.from_dict(about | ({"snapshots": snapshots} if snapshots else {}))


def _text(path: Path) -> str:
    try:
        raw = read_bounded(path)
        written = raw.rstrip(b"\0")
        if 0 not in written:  # a crash of the system leaves zeros behind what was written
            raw = written
        # Numbers and tags are ASCII, so that any further letters may be guessed.
        return decode(raw, otherwise="latin-1").text
    except OSError as error:
        raise RecordError(f"Cannot read {path}: {error.strerror}.") from error
    except ValueError as error:
        raise RecordError(
            f"{path} is not a text file: {error}; give a CSV, a JSON, a run folder or an event "
            "file (events.out.tfevents.…)."
        ) from error


def _name_for(path: Path) -> str:
    return Path(os.path.realpath(path)).parent.name if path.stem == "losses" else path.stem
