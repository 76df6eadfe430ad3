"""Graphs: what is drawn, in which style and size, from which thread, and what it may cost."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_checkpoint import process_environment

from glitch_train.cli.command import main
from glitch_train.drawing.figures import save_figure, to_image
from glitch_train.drawing.style import (
    LINES,
    PALETTES,
    STYLES,
    X_AXES,
    Y_AXES,
    GraphOptions,
    GraphSize,
)
from glitch_train.errors import RecordError
from glitch_train.losses.about import About
from glitch_train.losses.graph.draw import draw_losses
from glitch_train.losses.graph.live import LivePreview
from glitch_train.losses.graph.run import MAX_DRAWN_POINTS, epoch_length
from glitch_train.losses.record import LossRecord

PLAIN = GraphOptions(marks=False)


def record(name: str = "run", length: int = 300, **columns) -> LossRecord:
    """Return a settling run with a spike."""
    rng = np.random.default_rng(0)
    loss = (0.08 + 0.04 * np.exp(-np.arange(length) / (length / 10))) * (
        1 + 0.05 * rng.standard_normal(length)
    )
    if length > 100:
        loss[length // 2] *= 9
    base = {"step": np.arange(1, length + 1), "loss": loss, "epoch": 1 + np.arange(length) // 30}
    about = About(snapshots=[length // 3])
    return LossRecord(name, {k: list(v) for k, v in {**base, **columns}.items()}, about)


def labels(figure) -> list[str]:
    """Return the legend's texts."""
    return [text.get_text() for text in figure.axes[0].get_legend().get_texts()]


def texts(figure) -> str:
    """Return every text in the figure."""
    found = [*figure.texts, *figure.axes[0].texts]
    return " ".join(one.get_text() for one in found)


def drawn_points(figure) -> int:
    """Return how many points all lines of the figure have."""
    return sum(len(line.get_xdata()) for line in figure.axes[0].lines)


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("y_axis", Y_AXES)
@pytest.mark.parametrize("x_axis", X_AXES)
@pytest.mark.parametrize("line", LINES)
def test_every_look(style: str, y_axis: str, x_axis: str, line: str) -> None:
    """Catches a combination of options that fails, or that looks like another."""
    options = GraphOptions(style=style, y_axis=y_axis, x_axis=x_axis, line=line, table=True)
    figure = draw_losses([record()], GraphSize(400, 260), options)
    picture = to_image(figure)
    assert picture.width == 400
    assert picture.height > 260  # the table is added, it does not squeeze the graph
    paper = tuple(int(PALETTES[style].paper[i : i + 2], 16) for i in (1, 3, 5))
    assert picture.getpixel((2, 2)) == paper
    axes = figure.axes[0]
    assert axes.get_yscale() == y_axis
    assert axes.get_xlabel() == ("epoch" if x_axis == "epochs" else "optimizer step")
    assert ("average over one epoch" in labels(figure)) == (line == "both")


def test_what_is_marked() -> None:
    """Catches marks that are missing, and marks that are drawn although they are switched off."""
    probe = np.where(np.arange(300) % 20 == 0, 0.09, np.nan)
    run = record(probe_loss=probe, train_probe_loss=probe * 0.9)
    marked = draw_losses([run], options=GraphOptions(table=True))
    assert "flat from" in texts(marked)
    assert "Overfitting" in texts(marked)
    for words in ("1 spike", "snapshots", "held-out probe", "training probe"):
        assert words in labels(marked)
    plain = draw_losses([run], options=PLAIN)
    assert "flat from" not in texts(plain)
    assert "1 spike" not in labels(plain)


@pytest.mark.slow
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("width", [640, 1200])
def test_the_longest_texts_fit_the_picture(style: str, width: int) -> None:
    """Catches a table or legend that runs over the picture's edge or into the next column."""
    run = record("a run with a name as long as people give them, and then the date, 2026-11-27")
    probe = np.where(np.arange(300) % 10 == 0, 3.0 + np.arange(300) / 50, np.nan)
    run.columns |= {"probe_loss": list(probe), "train_probe_loss": list(probe)}
    run.columns["loss"] = [40_000 * one for one in run.columns["loss"]]
    options = GraphOptions(style=style, table=True)
    for runs in ([run], [run, run, record(length=900)]):
        figure = draw_losses(runs, GraphSize(width, 500), options)
        figure.canvas.draw()
        boxes = [text.get_window_extent() for text in figure.texts]
        legend = figure.axes[0].get_legend().get_window_extent()
        assert max(box.x1 for box in (*boxes, legend)) <= figure.bbox.x1
        assert min(box.y0 for box in boxes) >= 0
        for one in boxes:
            for other in boxes:
                apart = one.x1 <= other.x0 or one.y1 <= other.y0 or one.y0 >= other.y1
                assert one is other or other.x0 <= one.x0 or apart


def test_runs_of_equal_names_can_be_told_apart() -> None:
    """Catches two curves with one legend entry, and names matplotlib hides."""
    names = ["a", "a", "_b", "", "a\nc"]
    figure = draw_losses([record(name) for name in names], options=PLAIN)
    shown = [label.split("  ")[0] for label in labels(figure)]
    assert shown == ["a (1)", "a (2)", "b", "run", "a c"]
    lines = [line for line in figure.axes[0].lines if line.get_linewidth() == 2.1]
    assert len({line.get_color() for line in lines}) == 5


def test_mixed_lengths_share_the_axes() -> None:
    """Catches a run cut off at the length of the first."""
    figure = draw_losses([record(length=50), record(length=900)], options=PLAIN)
    assert figure.axes[0].get_xlim()[1] > 900


def test_a_spike_does_not_squeeze_the_curve() -> None:
    """Catches an axis that holds the largest spike, with the curve a flat line below it."""
    run = record(length=2000)
    run.columns["loss"][700] = 50.0
    figure = draw_losses([run])
    assert figure.axes[0].get_ylim()[1] < 0.5
    marks = [line for line in figure.axes[0].lines if line.get_marker() == "v"]
    assert max(marks[0].get_ydata()) < figure.axes[0].get_ylim()[1]


@pytest.mark.parametrize(
    "loss",
    [
        [0.1],
        [0.1] * 200,
        [0.0] * 50,
        [np.nan] * 20,
        [0.1, np.nan, np.inf, -np.inf, 0.2] * 30,
        [-1.0, 1.0] * 30,
        [1e-300, 1e300] * 30,
    ],
    ids=["one", "constant", "zero", "nan", "mixed", "negative", "huge"],
)
@pytest.mark.parametrize("y_axis", Y_AXES)
@pytest.mark.filterwarnings("error")
def test_inputs_that_break_peers(loss: list[float], y_axis: str) -> None:
    """Catches a crash or an endless axis, whatever the losses are."""
    run = LossRecord("run", {"step": list(range(len(loss))), "loss": loss})
    figure = draw_losses([run], GraphSize(300, 200), GraphOptions(y_axis=y_axis, table=True))
    assert to_image(figure).width == 300
    assert np.isfinite(figure.axes[0].get_ylim()).all()


def test_steps_out_of_order_are_drawn() -> None:
    """Catches a crash on a resumed run, whose steps go back."""
    run = record()
    run.columns["step"] = [*range(1, 201), *range(101, 201)]
    to_image(draw_losses([run]))


def test_a_million_points_are_thinned_out() -> None:
    """Catches a graph that draws every point of a long run: minutes and a gigabyte."""
    length = 1_000_000
    loss = np.random.default_rng(0).random(length)
    run = LossRecord("long", {"step": np.arange(length).tolist(), "loss": loss.tolist()})
    assert drawn_points(draw_losses([run])) < 4 * MAX_DRAWN_POINTS


def test_drawing_is_safe_in_threads() -> None:
    """Catches shared state: graphs drawn at once must equal graphs drawn one by one."""
    runs = [record(str(index), 200 + index) for index in range(4)]
    alone = [to_image(draw_losses([run], options=PLAIN)).tobytes() for run in runs]
    together: dict[int, bytes] = {}

    def draw(index: int) -> None:
        together[index] = to_image(draw_losses([runs[index]], options=PLAIN)).tobytes()

    threads = [threading.Thread(target=draw, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [together[index] for index in range(4)] == alone


def test_pyplot_is_never_touched() -> None:
    """Catches pyplot, whose global state leaks figures and breaks threads; and a heavy import."""
    code = (
        "import sys\n"
        "from glitch_train.drawing.figures import to_image\n"
        "from glitch_train.losses.graph.draw import draw_losses\n"
        "assert 'matplotlib' not in sys.modules\n"
        "from glitch_train.losses.record import LossRecord\n"
        "run = LossRecord('r', {'step': [1, 2], 'loss': [1.0, 0.5]})\n"
        "to_image(draw_losses([run]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_png_carries_texts_and_svg_is_svg(tmp_path: Path) -> None:
    """Catches a workflow that is not in the picture, and an SVG with a picture in it."""
    figure = draw_losses([record()])
    save_figure(figure, tmp_path / "a.png", {"prompt": '{"1": "ü"}'})
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.info["prompt"] == '{"1": "ü"}'
        assert picture.size == (1200, 700)
    save_figure(figure, tmp_path / "a.svg", {"prompt": "x"})
    content = (tmp_path / "a.svg").read_text("utf-8")
    assert "<svg" in content
    assert "<image" not in content
    with pytest.raises(RecordError, match=r"use \.png, \.svg or \.pdf"):
        save_figure(figure, tmp_path / "a.txt")


@pytest.mark.parametrize("size", [(200, 150), (640, 400), (8000, 5000)])
def test_sizes_up_to_print(size: tuple[int, int]) -> None:
    """Catches letters that vanish in print, and a size that is off by a pixel."""
    picture = to_image(draw_losses([record()], GraphSize(*size), PLAIN))
    assert picture.size == size
    assert GraphSize(8000, 5000).dpi > 5 * GraphSize(1200, 700).dpi


@pytest.mark.parametrize("field", ["style", "y_axis", "x_axis", "line"])
def test_unknown_looks_are_refused(field: str) -> None:
    """Catches a typing error that silently draws something else."""
    with pytest.raises(RecordError, match=f"{field} must be one of"):
        GraphOptions(**{field: "sideways"})


def test_epochs_are_counted_from_the_record() -> None:
    """Catches an epoch axis that is off: thirty steps are one epoch here."""
    assert epoch_length(record()) == pytest.approx(30)
    bare = LossRecord("host", {"step": [1, 2, 3], "loss": [1.0, 2.0, 3.0]})
    assert epoch_length(bare) == 0
    figure = draw_losses([bare], options=GraphOptions(x_axis="epochs"))
    assert figure.axes[0].get_xlabel() == "optimizer step"


class Clock:
    """Seconds that pass only when told, and by a fixed cost whenever a picture is drawn."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("step_s", "picture_s"), [(0.1, 0.08), (5.0, 0.5), (0.01, 0.3)])
def test_previews_stay_under_two_percent(
    monkeypatch: pytest.MonkeyPatch, step_s: float, picture_s: float
) -> None:
    """Catches previews that slow training down, at any moment of the run; and none at all."""
    clock, spent, drawn = Clock(), 0.0, 0
    blank = Image.new("RGB", (8, 8))

    def draw(_record) -> Image.Image:
        clock.now += picture_s
        return blank

    monkeypatch.setattr("glitch_train.losses.graph.live._draw", draw)
    preview = LivePreview(record(), clock)
    preview.warm_up()
    preview.restart()
    began = clock.now
    for _ in range(3000):
        clock.now += step_s
        before = clock.now
        drawn += preview.picture_if_due() is blank
        spent += clock.now - before
        assert spent <= 0.02 * (clock.now - began) + 1e-9
    assert drawn == pytest.approx(0.02 * 3000 * step_s / picture_s, rel=0.05, abs=2)


def test_the_preview_is_the_same_drawing() -> None:
    """Catches a preview with code of its own."""
    clock = Clock()
    preview = LivePreview(record(), clock)
    clock.now = 1e9
    picture = preview.picture_if_due()
    assert picture is not None
    assert picture.size == (640, 400)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG")


def test_a_format_that_is_none_is_said_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a record read, and a graph drawn, for a file that nothing can write."""
    assert main(["graph", str(tmp_path / "gone.csv"), "-o", str(tmp_path / "a.xyz")]) == 1
    said = capsys.readouterr().err
    assert said == "Cannot save a picture as 'a.xyz'; use .png, .svg or .pdf.\n"


@pytest.mark.slow
def test_a_backend_that_a_notebook_named(tmp_path: Path) -> None:
    """Catches a graph refused in what a notebook started, where its own backend is missing."""
    (tmp_path / "a.csv").write_text("step,loss\n1,0.5\n2,0.4\n")
    named = process_environment(MPLBACKEND="module://a_notebook.of_nobody")
    verb = [sys.executable, "-m", "glitch_train", "graph", "a.csv", "-o"]
    ended = subprocess.run(
        [*verb, "a.png"], cwd=tmp_path, env=named, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert (tmp_path / "a.png").is_file()
