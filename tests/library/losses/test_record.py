"""The loss record: written while training, read back from every kind of file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from glitch_train.errors import RecordError
from glitch_train.losses.about import About
from glitch_train.losses.read import read_record
from glitch_train.losses.record import LossRecord
from glitch_train.losses.smoothing import RunningAverage, epoch_average, smooth, smoothing_window
from glitch_train.losses.verdict.diagnose import diagnose
from glitch_train.losses.writer import RecordWriter

NAMES = [*vars(About()), "train", "dataset", "learning_rate", "network_dim", "framing", "rule"]
EVENTS = Path(__file__).parents[2] / "data" / "tensorboard"


def report(step: int, loss: float, **more: float) -> SimpleNamespace:
    """Return what the trainer reports of a step."""
    values = {"steps": 100, "epoch": 1 + step // 10, "learning_rate": 1e-4, "grad_norm": 0.5}
    values |= {"lora_norm": 0.1 * step, "seconds": 0.25, "peak_memory_mb": 512.0}
    return SimpleNamespace(**values | {"step": step, "loss": loss} | more)


def write_run(folder: Path, losses: list[float], probes: dict[int, float]) -> LossRecord:
    """Write a run as the trainer does."""
    record = LossRecord.empty("my run", About("SD1.5", recipe={"train": {"steps": 9}}))
    writer = RecordWriter(record, folder / "losses.csv")
    for step, loss in enumerate(losses, start=1):
        more = {"probe_loss": probes[step], "probe_loss_t0_249": 2.0} if step in probes else {}
        record.append(report(step, loss), **more)
        writer.write_last()
    writer.close()
    return record


def test_what_a_run_says_of_itself_is_read_from_its_csv(tmp_path: Path) -> None:
    """Catches the notes of a run dropped where those on how it was read are added."""
    record = write_run(tmp_path, [1.0] * 5, {})
    record.about.notes.append("Without effect: a setting.")
    (tmp_path / "losses.json").write_text(record.to_json(), "utf-8")
    assert read_record(tmp_path / "losses.csv").about.notes == ["Without effect: a setting."]


def test_a_written_run_reads_back(tmp_path: Path) -> None:
    """Catches a column lost, shifted or rounded away between writing and reading."""
    folder = tmp_path / "my run"
    losses = [0.1 + 0.001 * i for i in range(40)]
    record = write_run(folder, losses, {5: 0.09, 20: 0.08})
    for back in (read_record(folder), read_record(folder / "losses.json")):
        assert back.name == "my run"
        assert set(back.columns) == set(record.columns)
        assert "lora_norm" in back.columns
        assert "peak_memory_mb" in back.columns
        for column in record.columns:
            np.testing.assert_allclose(back.array(column), record.array(column), rtol=1e-8)
        assert back.about.family == "SD1.5"
    assert np.isfinite(read_record(folder).array("probe_loss")).sum() == 2


def test_the_record_can_be_read_while_it_grows(tmp_path: Path) -> None:
    """Catches lines that lie in a buffer, where a crash loses them."""
    record = LossRecord.empty("run")
    writer = RecordWriter(record, tmp_path / "losses.csv")
    for step in range(1, 31):
        record.append(report(step, 0.1))
        writer.write_last()
    assert len(read_record(tmp_path / "losses.csv")) == 30
    assert len(read_record(tmp_path / "losses.json")) >= 20
    writer.close()
    assert len(read_record(tmp_path / "losses.json")) == 30


def test_a_lost_loss_stays_lost_and_a_gap_stays_a_gap(tmp_path: Path) -> None:
    """Catches NaN written as an empty cell, which says that nothing was measured."""
    write_run(tmp_path, [0.1, math.nan, math.inf, 0.1], {})
    text = (tmp_path / "losses.csv").read_text("utf-8")
    assert ",nan," in text
    back = read_record(tmp_path)
    assert math.isnan(back.loss[1])
    assert math.isinf(back.loss[2])
    assert json.loads((tmp_path / "losses.json").read_text("utf-8"))["columns"]["loss"][1] == "nan"


def test_the_hosts_own_loss_map() -> None:
    """Catches a reader that needs our columns: the host's trainer gives a bare list."""
    record = LossRecord.from_loss_map({"loss": [0.3, 0.2, 0.1]})
    assert record.steps == [1, 2, 3]
    assert record.loss == [0.3, 0.2, 0.1]
    again = LossRecord.from_loss_map(record.to_loss_map())
    assert again == record


@pytest.mark.parametrize("broken", [{}, {"loss": "abc"}, {"loss": ["a"]}, None, [], {"loss": 3}])
def test_something_else_than_a_loss_map(broken) -> None:
    """Catches a bare TypeError for a socket that holds something else."""
    with pytest.raises(RecordError, match="list of numbers called 'loss'"):
        LossRecord.from_loss_map(broken)


def test_an_empty_record_is_told(tmp_path: Path) -> None:
    """Catches a graph of nothing, or an IndexError."""
    with pytest.raises(RecordError, match="empty; train for at least one step"):
        LossRecord.from_loss_map({"loss": []})
    (tmp_path / "losses.csv").write_text("step,loss\n")
    with pytest.raises(RecordError, match="no losses yet"):
        read_record(tmp_path)


@pytest.mark.parametrize(
    ("text", "losses"),
    [
        ("step,loss\n1,0.5\n2,0.25\n", [0.5, 0.25]),
        ("\ufeffStep;Loss\n1;0.5\n2;0.25\n", [0.5, 0.25]),
        ("Wall time,Step,Value\n1700000000.5,1,0.5\n1700000001.5,2,0.25\n", [0.5, 0.25]),
        ('"step"\t"loss"\n1\t0.5\n\n2\t0.25\n', [0.5, 0.25]),
        ("step,loss,probe_loss\n1,0.5,\n2,,0.4\n3,0.25,\n", [0.5, 0.25]),
        ("step,loss\n1,0.5\n2,\n3,0.25\n4,0.2\n", [0.5, math.nan, 0.25, 0.2]),
        ("loss,step,note\n0.5,1,warm-up\n0.25,2\n", [0.5, 0.25]),
    ],
    ids=["plain", "excel", "tensorboard", "tabs", "probe rows", "lost", "more columns"],
)
def test_csv_of_other_tools(tmp_path: Path, text: str, losses: list[float]) -> None:
    """Catches CSV dialects that people have: each is one a real tool writes."""
    path = tmp_path / "run.csv"
    path.write_text(text, encoding="utf-8")
    record = read_record(path)
    np.testing.assert_array_equal(record.array("loss"), losses)
    if "probe_loss" in text:
        assert record.columns["probe_loss"][0] == 0.4


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"epoch,value_x\n1,2\n", "columns step and loss"),
        ("a.csv", b"", "columns step and loss"),
        ("a.csv", b"\x89PNG\r\n\x1a\n\x00\xff", "not a text file"),
        ("a.json", b"{", "not valid JSON"),
        ("a.json", b"[]", "list of numbers"),
        ("a.json", b'{"columns": {"step": ["a"], "loss": ["b"]}}', "list of numbers"),
        ("a.json", b'{"columns": {"step": [1], "loss": [null]}}', "list of numbers"),
        ("a.json", b'{"columns": {"step": 5, "loss": 5}}', "list of numbers"),
        ("a.json", b'{"loss": [1%s]}' % (b"0" * 400), "list of numbers"),
        ("a.csv", b"step,loss\n1,%s\n" % (b"9" * 200_000), "no CSV of losses"),
        ("events.out.tfevents.1", b"no such thing at all", "no TensorBoard event file"),
        ("missing.csv", None, "Cannot read"),
    ],
    ids=[
        "columns",
        "empty",
        "binary",
        "json",
        "no record",
        "words",
        "null",
        "no lists",
        "too large",
        "long cell",
        "events",
        "missing",
    ],  # fmt: skip
)
def test_unreadable_records(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    """Catches a traceback where one sentence is due."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=words):
        read_record(tmp_path / name)


def test_snapshots_that_are_none() -> None:
    """Catches a graph that fails over what another node put beside the losses."""
    for told in ("abc", 5, [None], {"a": 1}, [10**400], [math.nan, math.inf, -1]):
        record = LossRecord.from_loss_map({"loss": [1.0], "about": {"snapshots": told}})
        assert record.about.snapshots == []


WHAT_OTHERS_SAY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda one: st.lists(one) | st.dictionaries(st.sampled_from(NAMES), one, max_size=4),
    max_leaves=12,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(WHAT_OTHERS_SAY)
@example({"recipe": {"train": {"learning_rate": "fast", "network_dim": [1], "steps": 10**400}}})
@example({"passed_over": "some", "family": 5, "loss": {}, "ended": {"rule": 1}})
def test_a_loss_map_of_others_may_say_anything(about) -> None:
    """Catches a verdict or record that fails over what another node put beside the losses."""
    loss = [*np.linspace(1.0, 0.5, 300), math.nan]
    record = LossRecord.from_loss_map({"loss": loss, "about": about})
    assert diagnose(record).to_json()
    assert LossRecord.from_loss_map(record.to_loss_map()).about == record.about
    assert json.loads(record.to_json())["about"].keys() <= vars(About()).keys()


def test_what_is_known_of_a_run_stays_as_it_is_in_maps_and_files() -> None:
    """Catches a key of LOSS_MAP or losses.json that is renamed, or lost on the way back."""
    told = {
        "family": "SDXL",
        "loss": "huber",
        "recipe": {"train": {"steps": 9}},
        "snapshots": [3, 6],
        "passed_over": 2,
        "samples_missing": [4],
        "ended": {"rule": "steps", "step": 9, "why": "Finished: all 9 steps are done."},
    }
    record = LossRecord.from_loss_map({"loss": [1.0], "about": told | {"of_others": 1}})
    assert record.to_loss_map()["about"] == told
    assert json.loads(record.to_json())["about"] == told
    assert LossRecord.empty("new").to_loss_map()["about"] == {}


def test_a_folder_without_a_record(tmp_path: Path) -> None:
    """Catches an empty folder taken for an empty run."""
    with pytest.raises(RecordError, match=r"neither losses\.csv nor a TensorBoard"):
        read_record(tmp_path)


@pytest.mark.parametrize("writer", ["tensorboardX", "tensorboard_tensors"])
def test_kohyas_event_files(writer: str) -> None:
    """Catches a wrong field, byte order or tag: real files written with kohya's tags."""
    record = read_record(EVENTS / writer)
    expected = json.loads((EVENTS / "expected.json").read_text("utf-8"))
    assert record.name == writer
    assert record.steps == expected["step"]
    np.testing.assert_allclose(record.array("loss"), expected["loss/current"], rtol=1e-6)
    np.testing.assert_allclose(record.array("learning_rate"), expected["lr/unet"], rtol=1e-6)
    held_out = record.array("probe_loss")
    np.testing.assert_allclose(held_out[np.isfinite(held_out)], expected["validation"], rtol=1e-6)


def test_an_event_file_that_still_grows(tmp_path: Path) -> None:
    """Catches a reader that gives up at the last record, half written."""
    (source,) = (EVENTS / "tensorboardX").iterdir()
    content = source.read_bytes()
    path = tmp_path / "events.out.tfevents.2"
    path.write_bytes(content[:-7])
    assert 1 < len(read_record(path)) < len(read_record(source)) + 1


def test_an_event_file_of_something_else(tmp_path: Path) -> None:
    """Catches an empty record where the scalars have other names: the error lists them."""
    (source,) = (EVENTS / "tensorboardX").iterdir()
    path = tmp_path / "events.out.tfevents.3"
    path.write_bytes(source.read_bytes().replace(b"loss/", b"cost/"))
    with pytest.raises(RecordError, match=r"no scalar called loss/current; it has .*cost/current"):
        read_record(path)


def test_smoothing_is_debiased_and_passes_over_gaps() -> None:
    """Catches an average that starts at zero, and one that a NaN ends."""
    values = [1.0, 1.0, math.nan, 1.0, math.inf, 1.0]
    np.testing.assert_allclose(smooth(values, 10), np.ones(6), rtol=1e-12)
    assert np.isnan(smooth([math.nan, math.nan], 3)).all()
    assert len(smooth([], 3)) == 0


@pytest.mark.parametrize("window", [1, 1.3, 2, 40, 5000])
def test_smoothing_in_sweeps_equals_step_by_step(window: float) -> None:
    """Catches sums that run out of precision, and sweeps that do not join."""
    values = np.random.default_rng(0).random(4000)
    values[[0, 3, 700]] = np.nan
    average = RunningAverage(window)
    one_by_one = [average.add(value) for value in values]
    np.testing.assert_allclose(smooth(values, window), one_by_one, rtol=1e-10)


def test_epoch_average_is_kohyas() -> None:
    """Catches a window of the wrong length: kohya's loss recorder is the reference."""
    values = np.random.default_rng(1).random(50)
    length = 7
    kept: list[float] = []
    expected = []
    for index, value in enumerate(values):  # kohya: a list per epoch, replaced in the next one
        if index < length:
            kept.append(value)
        else:
            kept[index % length] = value
        expected.append(sum(kept) / len(kept))
    np.testing.assert_allclose(epoch_average(values, length), expected, rtol=1e-12)


def test_the_window_grows_with_the_run() -> None:
    """Catches a window that swallows a short run or leaves a long one ragged."""
    assert [smoothing_window(n) for n in (1, 100, 4000, 5000, 100_000)] == [2, 5, 200, 200, 2000]
