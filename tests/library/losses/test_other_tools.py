"""Logs of other tools are read as what they are, and what was chosen or left out is said."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from glitch_train.cli.command import main
from glitch_train.errors import RecordError
from glitch_train.losses.read import read_record, read_records
from glitch_train.losses.record import LossRecord
from glitch_train.losses.verdict.diagnose import diagnose

EVENTS = Path(__file__).parents[2] / "data" / "tensorboard" / "tensorboardX"
STATE = {
    "global_step": 30,
    "log_history": [
        {"epoch": 0.1, "learning_rate": 1e-4, "loss": 0.5, "step": 10},
        {"epoch": 0.2, "learning_rate": 1e-4, "loss": 0.25, "step": 20},
        {"epoch": 0.2, "eval_loss": 0.6, "step": 20},
        {"epoch": 0.3, "learning_rate": 1e-5, "loss": 0.125, "step": 30},
        {"epoch": 0.3, "train_loss": 0.29, "train_runtime": 9.0, "step": 30},
    ],
}
WANDB = '"Step","fox - {0}","fox - {0}__MIN","fox - {0}__MAX"\n'
ROWS = '"10","0.5","0.4","0.6"\n"20","0.25","0.2","0.3"\n"30","0.125","0.1","0.2"\n'


def written(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a log as a tool would."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def said(record: LossRecord) -> str:
    """Return everything that is said of how a record was read."""
    return " ".join(diagnose(record).to_dict()["notes"])


PLAIN = "step,loss\n10,0.5\n20,0.25\n30,0.125\n"
SAME_LOSSES = {
    "german.csv": "step;loss\n10;0,5\n20;0,25\n30;0,125\n",
    "french header.csv": "étape;loss\n10;0,5\n20;0,25\n30;0,125\n".encode("cp1252"),
    "quoted commas.csv": '"step","loss"\n"10","0,5"\n"20","0,25"\n"30","0,125"\n',
    "tabs.tsv": "step\tloss\n10\t0,5\n20\t0,25\n30\t0,125\n",
    "exponents.csv": "step;loss\n10;5,0E-1\n20;2,5E-1\n30;1,25E-1\n",
    "utf16.csv": PLAIN.replace(",", "\t").encode("utf-16"),
    "utf16 big endian.csv": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "utf16 without mark.csv": PLAIN.encode("utf-16-le"),
    "old mac.csv": PLAIN.replace("\n", "\r"),
    "excel sep.csv": "sep=;\r\n" + PLAIN.replace(",", ";"),
    "spaces.txt": "# step loss\n10 0.5\n20 0.25\n30 0.125\n",
    "title.csv": "my run\n\n" + PLAIN,
    "no header.csv": "10,0.5\n20,0.25\n30,0.125\n",
    "no header, german.csv": "10;0,5\n20;0,25\n30;0,125\n",
    "index.csv": ",step,loss\n0,10,0.5\n1,20,0.25\n2,30,0.125\n",
    "global step.csv": "step,global_step,loss\n1,10,0.5\n1,20,0.25\n2,30,0.125\n",
    "kohya.csv": "step,loss/current,loss/average\n10,0.5,1\n20,0.25,1\n30,0.125,1\n",
    "onetrainer.csv": "smooth_loss/train_step,step,loss/train_step\n"
    "1,10,0.5\n1,20,0.25\n1,30,0.125\n",
    "unlisted.csv": "step,unet_loss_avg,unet_loss,val_unet_loss\n"
    "10,1,0.5,2\n20,1,0.25,2\n30,1,0.125,2\n",
    "lightning.csv": "epoch,step,train_loss_epoch,train_loss_step,val_loss\n"
    "0,10,,0.5,\n0,20,,0.25,\n0,20,0.4,,\n0,20,,,0.6\n1,30,,0.125,\n",
    "mlflow.csv": "metric,step,value\nloss,10,0.5\nlr,10,0.01\nloss,20,0.25\nlr,20,0.01\n"
    "loss,30,0.125\n",
    "wandb.csv": WANDB.format("loss/current") + ROWS,
    "tensorboard.csv": "Wall time,Step,Value\n1.7e9,10,0.5\n1.7e9,20,0.25\n1.7e9,30,0.125\n",
    "tensorboard.json": "[[1.7e9, 10, 0.5], [1.7e9, 20, 0.25], [1.7e9, 30, 0.125]]",
    "trainer_state.json": json.dumps(STATE),
    "history.json": json.dumps(STATE["log_history"]),
    "pandas.json": '{"step": {"0": 10, "1": 20, "2": 30}, '
    '"loss": {"0": 0.5, "1": 0.25, "2": 0.125}}',
    "by step.json": '{"10": 0.5, "20": 0.25, "30": 0.125}',
    "lines.jsonl": '{"step": 10, "loss": 0.5}\n{"step": 20, "loss": 0.25}\n'
    '{"step": 20, "val": {"loss": 2}}\n{"step": 30, "loss": 0.125}\n',
    "splits.csv": "split,step,loss\ntrain,10,0.5\ntrain,20,0.25\nval,20,2\ntrain,30,0.125\n",
    "modes.jsonl": '{"mode": "train", "iter": 10, "loss": 0.5}\n'
    '{"mode": "train", "iter": 20, "loss": 0.25}\n{"mode": "val", "iter": 1, "loss": 2}\n'
    '{"mode": "train", "iter": 30, "loss": 0.125}\n',
    "ranks.csv": "rank,step,loss\n0,10,0.5\n1,10,2\n0,20,0.25\n1,20,2\n0,30,0.125\n1,30,2\n",
    "markdown.md": "| step | loss |\n|---|---:|\n| 10 | 0.5 |\n| 20 | 0.25 |\n| 30 | 0.125 |\n",
    "megatron.csv": "iteration,loss scale,lm loss\n10,65536,0.5\n20,65536,0.25\n30,65536,0.125\n",
    "detectron.csv": "iteration,loss_cls,loss_box,total_loss\n10,1,1,0.5\n20,1,1,0.25\n"
    "30,1,1,0.125\n",
    "deviation.csv": "step,loss_std,loss_mean\n10,1,0.5\n20,1,0.25\n30,1,0.125\n",
}


@pytest.mark.parametrize("name", SAME_LOSSES)
def test_every_tools_log_is_the_same_three_losses(tmp_path: Path, name: str) -> None:
    """Catches a locale, encoding or column that is refused or taken for another number."""
    record = read_record(written(tmp_path, name, SAME_LOSSES[name]))
    assert record.steps == [10, 20, 30]
    assert record.loss == [0.5, 0.25, 0.125]


def test_a_trainers_state_brings_its_other_columns(tmp_path: Path) -> None:
    """Catches a held-out loss that is lost or taken for the training loss."""
    record = read_record(written(tmp_path, "trainer_state.json", json.dumps(STATE)))
    np.testing.assert_array_equal(record.array("probe_loss"), [np.nan, 0.6, np.nan])
    assert record.columns["learning_rate"] == [1e-4, 1e-4, 1e-5]
    assert record.columns["epoch"] == [0.1, 0.2, 0.3]


def test_the_hosts_loss_map_as_json(tmp_path: Path) -> None:
    """Catches a LOSS_MAP refused because it was saved as it is, alone or with others."""
    assert read_record(written(tmp_path, "a.json", '{"loss": [0.5, 0.25]}')).loss == [0.5, 0.25]
    assert read_record(written(tmp_path, "b.json", "[0.5, 0.25]")).steps == [1, 2]
    with pytest.raises(RecordError, match="holds 2 runs"):
        read_record(written(tmp_path, "c.json", '[{"loss": [0.5]}, {"loss": [0.4]}]'))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("kohya.csv", ["loss is loss/current", "loss/average was left out"]),
        ("onetrainer.csv", ["loss is loss/train_step", "smooth_loss/train_step was left out"]),
        ("unlisted.csv", ["loss is unet_loss;", "unet_loss_avg was left out"]),
        ("german.csv", ["commas were read as decimal points"]),
        ("no header.csv", ["no header: read as step and loss"]),
        ("splits.csv", ["Rows whose split is val were left out."]),
        ("ranks.csv", ["Rows whose rank is 1 were left out."]),
        ("french header.csv", ["steps were read from étape"]),
    ],
)
def test_what_was_chosen_is_said(tmp_path: Path, name: str, words: list[str]) -> None:
    """Catches a choice made without a word: in the verdict's JSON, its text and a LOSS_MAP."""
    record = read_record(written(tmp_path, name, SAME_LOSSES[name]))
    again = LossRecord.from_loss_map(record.to_loss_map())
    for word in words:
        assert word in said(record)
        assert word in said(again)


def test_commas_inside_numbers_between_commas(tmp_path: Path) -> None:
    """Catches a half read as 0, and cells beyond the header dropped without a word."""
    with pytest.raises(RecordError, match="commas inside numbers cannot be told from"):
        read_record(written(tmp_path, "a.csv", "step,loss\n1,0,5\n2,0,4\n"))
    record = read_record(written(tmp_path, "b.csv", "step,loss\n1,0.5,odd\n2,0.4\n3,0.3\n"))
    assert record.loss == [0.5, 0.4, 0.3]
    assert "1 rows have more cells" in said(record)


def test_what_a_program_printed_is_no_table(tmp_path: Path) -> None:
    """Catches "train for at least one step" of a run that trained for many."""
    printed = "".join(f"epoch 1, step {step}, loss=0.{step}\n" for step in range(1, 9))
    with pytest.raises(RecordError, match="no rows of numbers below its header; give a table or"):
        read_record(written(tmp_path, "console.log", printed))


def test_a_file_far_too_large_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a checkpoint given by mistake, read whole and taken apart for minutes."""
    monkeypatch.setattr("glitch_train.files.MOST_BYTES", 1 << 20)
    with pytest.raises(RecordError, match="is not a text file: it has more than 1 MiB; give a CSV"):
        read_record(written(tmp_path, "model.bin", b"a" * (1 << 20) + b"b"))
    with pytest.raises(RecordError, match="is no TensorBoard event file"):
        read_record(written(tmp_path, "events.out.tfevents.1", bytes(1 << 20)))


def test_thousands_are_no_decimals(tmp_path: Path) -> None:
    """Catches step 1.000 or 1,000 read as one."""
    german = written(tmp_path, "a.csv", "step;loss\n999;0,5\n1.000;0,25\n")
    english = written(tmp_path, "b.csv", 'step,loss\n999,0.5\n"1,000",0.25\n')
    assert read_record(german).steps == read_record(english).steps == [999, 1000]


def test_only_an_average_is_judged_with_a_word(tmp_path: Path) -> None:
    """Catches a moving average judged as if its noise were the losses'."""
    record = read_record(written(tmp_path, "a.csv", "step,loss/average\n1,0.5\n2,0.4\n"))
    assert "loss/average is an average" in said(record)


def test_rows_that_sum_the_others_up(tmp_path: Path) -> None:
    """Catches a mean below the table taken for the last loss, and a time for one that broke."""
    rows = "step,loss\n10,0.5\n20,0.25\n30,0.125\n"
    record = read_record(written(tmp_path, "a.csv", rows + "mean,0.29\n\nTotal time,3 h\n"))
    assert record.columns["loss"] == [0.5, 0.25, 0.125]
    assert record.about.notes == [
        "Rows whose step is no number (mean, Total time) were left out: 2."
    ]
    record = read_record(written(tmp_path, "b.csv", "step,loss\n1/3,0.5\n2/3,0.25\n3/3,0.125\n"))
    assert record.columns["loss"] == [0.5, 0.25, 0.125]


def test_words_in_the_loss(tmp_path: Path) -> None:
    """Catches a graph of nothing where the column holds words, and single ones unsaid."""
    with pytest.raises(RecordError, match=r"a\.csv needs numbers in its column loss.*'abc'"):
        read_record(written(tmp_path, "a.csv", "step,loss\n1,abc\n2,def\n"))
    record = read_record(written(tmp_path, "b.csv", "step,loss\n1,0.5\n2,oops\n3,0.4\n"))
    np.testing.assert_array_equal(record.array("loss"), [0.5, np.nan, 0.4])
    assert "1 loss cell is no number ('oops')" in said(record)


def rows(*parts: Sequence[int], every: float = 1.0) -> str:
    """Return CSV rows whose loss is unique to each row."""
    steps = [step for part in parts for step in part]
    return "".join(f"{step},{0.001 * n + every}\n" for n, step in enumerate(steps, 1))


@pytest.mark.parametrize("header_again", [False, True])
@pytest.mark.parametrize("every", [1, 10])
def test_steps_that_begin_anew_go_on(tmp_path: Path, header_again: bool, every: int) -> None:
    """Catches a resumed run whose beginning the rest replaces, or whose second header is a loss."""
    one, two = range(every, 601 * every, every), range(every, 401 * every, every)
    middle = "step,loss\n" if header_again else ""
    text = "step,loss\n" + rows(one) + middle + rows(two, every=2.0)
    record = read_record(written(tmp_path, "a.csv", text))
    assert record.steps == list(range(every, 1001 * every, every))
    assert len(diagnose(record).reading.curve) == 1000
    assert f"begin anew after {600 * every:,}" in said(record)


def test_a_run_resumed_from_an_earlier_state(tmp_path: Path) -> None:
    """Catches losses of steps trained twice dropped without a word, or moved to other steps."""
    text = "step,loss\n" + rows(range(1, 101), range(81, 181))
    record = read_record(written(tmp_path, "a.csv", text))
    assert len(record) == 200
    assert record.steps[-1] == 180
    assert "20 steps were logged twice" in said(record)
    curve = diagnose(record).reading.curve
    assert curve.values[80] == pytest.approx(1.101)  # the later one of step 81


def test_rows_in_another_order(tmp_path: Path) -> None:
    """Catches a table with the newest row first taken for a hundred resumes."""
    text = "step,loss\n" + rows(range(100, 0, -1))
    record = read_record(written(tmp_path, "a.csv", text))
    assert record.steps == list(range(1, 101))
    assert record.loss[0] == pytest.approx(1.1)
    assert "sorted by step" in said(record)


@pytest.mark.parametrize("a_step", [2, 4, 8])
def test_the_newest_row_first_and_several_losses_a_step(tmp_path: Path, a_step: int) -> None:
    """Catches a table with the newest row first taken for a resume at every step."""
    text = "step,loss\n" + rows([n // a_step for n in range(801 * a_step - 1, a_step - 1, -1)])
    record = read_record(written(tmp_path, "a.csv", text))
    assert record.steps == [n / a_step for n in range(a_step, 801 * a_step)]
    assert record.loss == sorted(record.loss, reverse=True)
    assert "sorted by step" in said(record)
    assert "anew" not in said(record)


@pytest.mark.parametrize("a_step", [1, 4])
def test_rows_in_no_order(tmp_path: Path, a_step: int) -> None:
    """Catches an unsorted export, of several processes say, taken for many resumes."""
    steps = [n // a_step for n in range(a_step, 401 * a_step)]
    random.Random(0).shuffle(steps)
    record = read_record(written(tmp_path, "a.csv", "step,loss\n" + rows(steps)))
    assert record.steps == [n / a_step for n in range(a_step, 401 * a_step)]
    assert "sorted by step" in said(record)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"step,loss\n1,0.5\n2,0.25\n" + b"\0" * 400),
        ("a.json", b'{"history": {"loss": [0.5, 0.25], "val_loss": [1, 1]}, "epoch": [1, 2]}'),
        ("a.json", b"[[1, 0.5], [2, 0.25]]"),
    ],
    ids=["zeros of a crash", "Keras", "pairs"],
)
def test_what_else_holds_losses(tmp_path: Path, name: str, content: bytes) -> None:
    """Catches a log that is refused though any person sees its losses."""
    record = read_record(written(tmp_path, name, content))
    assert (record.steps, record.loss) == ([1, 2], [0.5, 0.25])


@pytest.mark.parametrize("an_epoch", [2, 3, 5])
def test_steps_that_are_counted_in_each_epoch(tmp_path: Path, an_epoch: int) -> None:
    """Catches a counter of short epochs taken for unsorted rows."""
    text = "step,loss\n" + rows(*[range(1, an_epoch + 1)] * 40)
    record = read_record(written(tmp_path, "a.csv", text))
    assert record.steps == list(range(1, 40 * an_epoch + 1))
    assert record.loss == sorted(record.loss)


def test_several_losses_of_one_step(tmp_path: Path) -> None:
    """Catches three of four batches of a step dropped because they share its number."""
    text = "step,loss\n" + "".join(f"{n // 4},{n}\n" for n in range(4, 44))
    record = read_record(written(tmp_path, "a.csv", text))
    assert record.steps[:5] == [1, 1.25, 1.5, 1.75, 2]
    assert len(diagnose(record).reading.curve) == 40


@pytest.mark.parametrize(
    "text",
    [
        "step,loss\n" + rows(range(1, 30)) + "30,1",
        "step,loss\n" + rows(range(1, 30)) + "3",
        "".join(f'{{"step": {n}, "loss": 1.{n:03}}}\n' for n in range(1, 30)) + '{"step": 30, "lo',
    ],
)
def test_a_file_that_is_still_written(tmp_path: Path, text: str) -> None:
    """Catches a number that is cut off taken for a loss, or a refusal over it."""
    record = read_record(written(tmp_path, "a.txt", text))
    assert len(record) == 29
    assert "last line is cut off" in said(record)
    whole = read_record(written(tmp_path, "b.csv", "step,loss\n" + rows(range(1, 30)).rstrip()))
    assert len(whole) == 29  # many tools end no file with a line


def verdicts(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, dict]:
    """Return the verdicts of the command line by name."""
    capsys.readouterr()
    assert main(["verdict", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    return {one["name"]: one for one in told.get("runs", [told])}


def test_every_run_of_a_folder_has_its_own_verdict(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches several runs spliced to one curve, whichever tool laid them down."""
    (events,) = EVENTS.iterdir()
    for run in ("one", "two", "three"):
        (tmp_path / "tb" / run).mkdir(parents=True)
        shutil.copy(events, tmp_path / "tb" / run)
        written(tmp_path, f"ours/{run}/losses.csv", PLAIN)
        written(tmp_path, f"lightning/{run}/metrics.csv", SAME_LOSSES["lightning.csv"])
    for kind in ("tb", "ours", "lightning"):
        assert verdicts(tmp_path / kind, capsys).keys() == {"one", "two", "three"}
        with pytest.raises(RecordError, match=r"holds 3 runs \(one, three, two\)"):
            read_record(tmp_path / kind)


def test_runs_below_a_run_are_read_too(tmp_path: Path) -> None:
    """Catches runs left out without a word because the folder above them is a run itself."""
    (tmp_path / "run" / "second").mkdir(parents=True)
    written(tmp_path / "run", "losses.csv", "step,loss\n" + rows(range(1, 11)))
    written(tmp_path / "run" / "second", "losses.csv", "step,loss\n" + rows(range(1, 21)))
    written(tmp_path / "run", "metrics.csv", "step,loss\n1,2\n")
    first, second = read_records(tmp_path / "run")
    assert (first.name, len(first), second.name, len(second)) == ("run", 10, "second", 20)
    assert "Read from losses.csv; not from metrics.csv beside it." in said(first)


def test_several_runs_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches the runs of one table spliced, and where one ended taken for lost losses."""
    wide = "Step,fox - loss,owl - loss\n1,0.5,0.7\n2,0.4,\n3,,0.6\n"
    long = "run_id,key,value,step\nfox,loss,0.5,1\nowl,loss,0.7,1\nfox,loss,0.4,2\nowl,loss,0.6,3\n"
    for text in (wide, long):
        found = verdicts(written(tmp_path, "a.csv", text), capsys)
        assert {name: (one["start"], one["final"]) for name, one in found.items()} == {
            "a: fox": (0.5, 0.4),
            "a: owl": (0.7, 0.6),
        }
        assert {one["stability"]["state"] for one in found.values()} == {"stable"}


def test_event_files_of_one_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches runs that each begin at step 1 spliced because their files lie side by side."""
    (events,) = EVENTS.iterdir()
    for number in range(2):
        shutil.copy(events, tmp_path / f"events.out.tfevents.{number}")
    found = verdicts(tmp_path, capsys)
    assert len(found) == 2
    assert all("One of 2 runs" in " ".join(one["notes"]) for one in found.values())


def test_checkpoints_of_one_run_are_one_run(tmp_path: Path) -> None:
    """Catches every checkpoint's state, which holds all before it, taken for a run."""
    history = STATE["log_history"]
    for count, step in ((1, 10), (4, 30)):
        state = json.dumps({"log_history": history[:count]})
        written(tmp_path, f"checkpoint-{step}/trainer_state.json", state)
    record = read_record(tmp_path)
    assert record.steps == [10, 20, 30]
    assert record.name == tmp_path.name


def test_a_folder_of_other_tables_says_what_to_do(tmp_path: Path) -> None:
    """Catches a refusal that does not name the files that lie there."""
    written(tmp_path, "history.csv", PLAIN)
    with pytest.raises(RecordError, match=r"history\.csv hold.*give the files themselves"):
        read_record(tmp_path)


@pytest.mark.parametrize("content", ["{}", "5", '[["a"]]', '{"loss": ["a"]}', '{"loss": 3}'])
def test_a_json_without_losses_is_named(tmp_path: Path, content: str) -> None:
    """Catches a refusal without the file's name, or a traceback."""
    with pytest.raises(RecordError, match=r"a\.json"):
        read_record(written(tmp_path, "a.json", content))


def test_start_and_final_lie_among_the_losses() -> None:
    """Catches a fitted shape's end given out as a level that no loss ever had, even a negative."""
    draw = np.random.default_rng(7)
    steps = np.arange(800)
    hump = np.where((steps >= 300) & (steps < 500), 1.0, 0.05)
    cliff = np.where(steps < 1, 0.1, 1e6)
    burst = 0.1 * np.exp(np.minimum(steps, 60) / 4)
    explosion = np.minimum(0.1 * np.exp(np.minimum(steps / 8, 40)), 1e6)
    for shape in (hump, cliff, burst, explosion, hump[::-1], 1 / (1 + steps)):
        loss = shape * draw.gamma(20, 1 / 20, len(steps))
        verdict = diagnose(LossRecord("run", {"step": list(steps + 1), "loss": list(loss)}))
        numbers = verdict.levels.evidence
        for level in (numbers["start"], numbers["final"]):
            assert loss.min() <= level <= loss.max()
        if verdict.convergence.state == "diverging" and "lowest" in verdict.convergence.evidence:
            assert loss.min() <= verdict.convergence.evidence["lowest"] <= loss.max()
        drop = numbers["start"] - numbers["final"]
        assert numbers["drop"] == pytest.approx(drop, rel=1e-3, abs=1e-9)
