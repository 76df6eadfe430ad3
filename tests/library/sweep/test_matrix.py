"""A sweep's folder summed up: which technique moved which effect, and how sure that is."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glitch_train.cli.command import main
from glitch_train.errors import ReportError
from glitch_train.measure.measurement import EFFECTS
from glitch_train.recipe.experiments import EXPERIMENTS
from glitch_train.sweep.doses import Dose
from glitch_train.sweep.findings import chance_of_order, compare, how_sure, sentences
from glitch_train.sweep.matrix import read_matrix
from glitch_train.sweep.page import doses_by_setting, write_page
from glitch_train.sweep.pictures import draw_doses
from glitch_train.sweep.tables import matrix_csv, matrix_dict

STANDARD = "sd15_standard"


def _run(out: Path, slug: str, seed: int, pictures: bool = True, **indices: float | None) -> Path:
    """Write a complete run with these indices."""
    folder = out / slug / f"seed{seed}"
    (folder / "base").mkdir(parents=True)
    (folder / "glitched").mkdir()
    verdict = {
        "start": 0.2, "final": 0.1 + seed / 100, "convergence": {"state": "converged"},
        "stability": {"state": "stable"}, "fit": {"state": "cannot_tell"},
    }  # fmt: skip
    effects = {
        key: {"index": index, "index_low": index and index - 0.1, "sentence": "Told.",
              "index_high": index and index + 0.1}
        for key, index in indices.items()
    }  # fmt: skip
    contents: dict[str, Any] = {"verdict.json": [verdict]}
    if pictures:
        contents["report.json"] = {"runs": [{"effects": effects, "pairs": 2}]}
        for number in (1, 2):
            for place, color in (("base", (90, 90, 90)), ("glitched", (seed * 60, 0, 0))):
                picture = Image.new("RGB", (64, 96), color)
                picture.save(folder / place / f"{number:02}.png")
    (folder / "losses.csv").write_text("step,loss\n1,0.3\n2,0.2\n3,0.15\n")
    for name, content in contents.items():
        (folder / name).write_text(json.dumps(content))
    done = {"experiment": slug, "seed": seed, "key": "k", "files": list(contents), "loras": []}
    (folder / "done.json").write_text(json.dumps(done))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A sweep of four experiments and three seeds."""
    for seed, base in ((1, 0.10), (2, 0.20), (3, 0.30)):
        _run(tmp_path, STANDARD, seed, texture=base, contrast=base, composition=base)
        _run(tmp_path, "high_learning_rate", seed, texture=base + 0.5, contrast=base + 0.1)
        _run(tmp_path, "random_crop_and_flip", seed, composition=base - 0.25, texture=base + 0.21)
        _run(tmp_path, "wide", seed, pictures=False)
    return tmp_path


def test_every_expectation_is_of_a_preset_and_an_effect() -> None:
    """Catches a renamed effect or experiment that leaves an expectation in the air."""
    for slug, one in EXPERIMENTS.items():
        assert set(one.expected) <= set(EFFECTS), slug
        assert one.against in EXPERIMENTS or one.against == ""


def test_an_effect_appears_only_when_its_range_is_clear(out: Path) -> None:
    """Catches means compared without their ranges, and a fall told as an appearance."""
    matrix = read_matrix(out)
    high, crop = matrix.row("high_learning_rate"), matrix.row("random_crop_and_flip")
    assert high
    assert crop
    states = {
        effect: compare(matrix, row, effect).state
        for row, effect in [(high, "texture"), (high, "contrast"), (crop, "composition")]
    }
    assert states == {"texture": "more", "contrast": "unclear", "composition": "less"}
    assert compare(matrix, high, "composition").state == "not measured"
    assert compare(matrix, matrix.rows[0], "texture").state == "no standard"
    found = high.spread("texture")
    assert found
    assert found.mean == pytest.approx(0.7)
    assert found.ends == pytest.approx((0.6, 0.8))


def test_the_sentences_are_honest(out: Path) -> None:
    """Catches an expected effect that did not appear and is passed over."""
    matrix = read_matrix(out)
    told = {row.slug: " ".join(sentences(matrix, row)) for row in matrix.rows}
    high = told["high_learning_rate"]
    assert "**Texture glitch** was expected and appeared: 0.70 [0.60, 0.80] against 0.20" in high
    assert "**Collapsed contrast** was expected and did not appear: 0.30 [0.20, 0.40]" in high
    crop = told["random_crop_and_flip"]
    assert "**Composition shift** was expected and did not appear; there is less of it" in crop
    assert "More than the standard run besides: Texture glitch (0.41" in crop
    assert told["wide"].startswith("It was trained without drawing pictures")
    assert told[STANDARD].startswith("This is what the others are compared with")
    assert "happens by chance in 10 % of comparisons" in how_sure(matrix)
    assert chance_of_order(3, 3) == pytest.approx(1 / 20)


def test_what_was_not_measured_says_why(tmp_path: Path) -> None:
    """Catches a missing model told as a missing effect."""
    _run(tmp_path, STANDARD, 1, caption_hold=0.1)
    folder = _run(tmp_path, "caption_dropout", 1, caption_hold=None, overall=0.5)
    report = json.loads((folder / "report.json").read_text("utf-8"))
    report["runs"][0]["effects"]["caption_hold"]["sentence"] = "It needs a vision model."
    (folder / "report.json").write_text(json.dumps(report))
    matrix = read_matrix(tmp_path)
    row = matrix.row("caption_dropout")
    assert row
    (first, second, *_) = sentences(matrix, row)
    assert first.endswith("was expected and not measured: it needs a vision model.")
    assert "was expected; the standard run has no such number: 0.50 [0.40, 0.60]" in second
    assert "one training seed each" in how_sure(matrix)


def test_one_seed_is_judged_by_its_pairs(tmp_path: Path) -> None:
    """Catches a single seed taken for certain."""
    _run(tmp_path, STANDARD, 1, texture=0.10)
    _run(tmp_path, "high_learning_rate", 1, texture=0.25)
    _run(tmp_path, "jpeg_crushed", 1, texture=0.40)
    matrix = read_matrix(tmp_path)
    states = {row.slug: compare(matrix, row, "texture").state for row in matrix.rows[1:]}
    assert states == {"high_learning_rate": "unclear", "jpeg_crushed": "more"}


def test_too_few_pairs_tell_nothing(tmp_path: Path) -> None:
    """Catches a difference of two pictures called an absence."""
    for slug in (STANDARD, "high_learning_rate"):
        folder = _run(tmp_path, slug, 1, texture=0.5)
        report = json.loads((folder / "report.json").read_text("utf-8"))
        report["runs"][0]["effects"]["texture"] |= {"index_low": None, "index_high": None}
        (folder / "report.json").write_text(json.dumps(report))
    matrix = read_matrix(tmp_path)
    (first, *_) = sentences(matrix, matrix.rows[1])
    assert "one seed with so few pairs does not tell: 0.50 against 0.50." in first


def test_matrix_writes_its_files(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Catches a table with experiments or seeds lost on the way."""
    assert main(["matrix", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {Path(path).name for path in told["files"]} == {
        "matrix.json", "matrix.csv", "matrix.md", "matrix.png", "strip.png"
    }  # fmt: skip
    rows = list(csv.DictReader(io.StringIO((out / "matrix.csv").read_text("utf-8"))))
    high = {row["effect"]: row for row in rows if row["experiment"] == "high_learning_rate"}
    assert (high["texture"]["expected"], high["texture"]["moved"]) == ("True", "more")
    assert float(high["texture"]["mean"]) == pytest.approx(0.7)
    (wide,) = [row for row in rows if row["experiment"] == "wide"]
    assert (wide["effect"], wide["seeds"], wide["loss_final"]) == ("", "1 2 3", "0.12")
    table = (out / "matrix.md").read_text("utf-8")
    assert "| high_learning_rate | – | **0.70 [0.60, 0.80]** | **0.30 [0.20, 0.40]** |" in table
    assert "| wide | 0.2000 → 0.1200 | – | converged | stable | cannot tell |" in table


def test_the_strip_holds_every_seed(out: Path) -> None:
    """Catches pictures in a wrong column, or of another pair."""
    main(["matrix", str(out)])
    with Image.open(out / "strip.png") as strip:
        colors = [color for _, color in strip.convert("RGB").getcolors(strip.width * strip.height)]
    assert {(90, 90, 90), (60, 0, 0), (120, 0, 0), (180, 0, 0)} <= set(colors)


def test_a_page_for_readers(out: Path, tmp_path: Path) -> None:
    """Catches a page whose pictures are missing, absolute or heavy."""
    asked = {"commands": ["python -m glitch_train sweep --seeds 1 2 3"]}
    (out / "sweep.json").write_text(json.dumps(asked))
    page = tmp_path / "docs" / "matrix.md"
    assert main(["matrix", str(out), "--page", str(page)]) == 0
    text = page.read_text("utf-8")
    assert "    python -m glitch_train sweep --seeds 1 2 3\n" in text
    links = [part.partition(")")[0] for part in text.split("](")[1:]]
    of_each = [
        f"{slug}{kind}"
        for slug in (STANDARD, "random_crop_and_flip", "high_learning_rate")
        for kind in (".jpg", "_loss.png")
    ]
    named = ["overview.jpg", "index.png", *of_each, "wide_loss.png"]  # the last one has no pictures
    assert links == [f"images/matrix/{name}" for name in named]
    assert all((page.parent / link).is_file() for link in links)
    assert str(tmp_path) not in text
    assert "was expected and did not appear" in text


def test_the_page_begins_with_the_pictures_and_what_came_of_them(out: Path, tmp_path: Path) -> None:
    """Catches a page that makes its reader search, and an effect that stayed away unexplained."""
    page = tmp_path / "matrix.md"
    assert main(["matrix", str(out), "--page", str(page)]) == 0
    text = page.read_text("utf-8")
    places = [text.index(one) for one in ("overview.jpg", "## What appeared", "## What did not",
                                          "## How it was measured", "index.png")]  # fmt: skip
    assert places == sorted(places)
    appeared, missing = text[places[1] : places[2]], text[places[2] : places[3]]
    assert "**high learning rate (2e-4)**: texture glitch, 0.70 [0.60, 0.80] against" in appeared
    assert "**high learning rate (2e-4)**: collapsed contrast, 0.30" in missing
    assert "it shows texture glitch instead" in missing  # random crop, without its composition
    with Image.open(page.parent / "images" / "matrix" / "overview.jpg") as picture:
        assert picture.height > 3 * 64  # a row per experiment with pictures


def test_doses_become_a_curve(out: Path, tmp_path: Path) -> None:
    """Catches doses counted as experiments, put in order as text, or left off page and table."""
    high = "high_learning_rate"
    for value, index in (("2e-3", 0.9), ("4e-4", 0.6), ("1e-4", 0.2)):
        for seed in (1, 2):
            dose = Dose(high, "learning_rate", value, own="2e-4", standard="1e-4")
            _run(out, f"doses/{high}/{dose.tag}", seed, texture=index + seed / 100)
            done = out / "doses" / high / dose.tag / f"seed{seed}" / "done.json"
            note = json.loads(done.read_text()) | {"experiment": high, "dose": vars(dose)}
            done.write_text(json.dumps(note))
    matrix = read_matrix(out)
    assert len(matrix.rows) == 4
    assert [dose.value for dose, _ in matrix.doses] == ["1e-4", "4e-4", "2e-3"]
    files = write_page(matrix, tmp_path / "page" / "matrix.md")
    assert "## Dose and response" in files[0].read_text("utf-8")
    curve = tmp_path / "page" / "images" / "matrix" / f"{high}_learning-rate.png"
    assert curve in files
    (drawn,) = doses_by_setting(matrix)
    # The experiment's own strength between them; the standard's was given as a dose.
    assert [one.value for one, _ in drawn] == ["1e-4", "2e-4", "4e-4", "2e-3"]
    assert [row for _, row in drawn][1] == matrix.row(high)
    axes = draw_doses(matrix.doses).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["1e-4", "4e-4", "2e-3"]
    assert list(axes.containers[0][0].get_ydata()) == pytest.approx([0.215, 0.615, 0.915])
    told = [one["effects"]["texture"]["mean"] for one in matrix_dict(matrix)["doses"]]
    assert told == pytest.approx([0.215, 0.615, 0.915])
    lines = list(csv.DictReader(io.StringIO(matrix_csv(matrix))))
    assert {line["dose"] for line in lines} == {
        "", "learning_rate=1e-4", "learning_rate=4e-4", "learning_rate=2e-3",
    }  # fmt: skip


def test_the_standard_run_is_a_dose_where_nothing_else_differs(out: Path) -> None:
    """Catches a curve that lays the standard run beside what differs from it in more than one."""
    matrix = read_matrix(out)
    high, crop = (matrix.row(slug) for slug in ("high_learning_rate", "random_crop_and_flip"))
    standard = matrix.row("sd15_standard")
    assert high
    assert crop
    doses = (
        (Dose("high_learning_rate", "learning_rate", "4e-4", "2e-4", "1e-4"), high),
        (Dose("random_crop_and_flip", "variants_per_picture", "3", "10", "1"), crop),
    )
    found = doses_by_setting(dataclasses.replace(matrix, doses=doses))
    assert [[(one.value, row) for one, row in rows] for rows in found] == [
        [("1e-4", standard), ("2e-4", high), ("4e-4", high)],
        [("3", crop), ("10", crop)],
    ]


def test_small_records_make_the_same_page(out: Path, tmp_path: Path) -> None:
    """Catches a page that nobody can make again without the trained runs."""
    kept, pages = tmp_path / "kept", [tmp_path / name / "matrix.md" for name in ("a", "b")]
    dose = Dose("high_learning_rate", "steps", "9")
    _run(out, f"doses/high_learning_rate/{dose.tag}", 1, texture=0.4)
    note = out / "doses" / "high_learning_rate" / dose.tag / "seed1" / "done.json"
    about = {"experiment": "high_learning_rate", "dose": vars(dose)}
    note.write_text(json.dumps(json.loads(note.read_text()) | about))
    assert main(["matrix", str(out), "--page", str(pages[0]), "--keep", str(kept)]) == 0
    assert main(["matrix", str(kept), "--page", str(pages[1])]) == 0
    assert pages[0].read_text("utf-8") == pages[1].read_text("utf-8")
    names = [{path.name for path in page.parent.rglob("*.*")} for page in pages]
    assert names[0] == names[1]
    assert matrix_csv(read_matrix(kept)) == matrix_csv(read_matrix(out))
    assert {path.suffix for path in kept.glob("**/seed*/**/*") if path.is_file()} == {
        ".csv", ".json", ".jpg",
    }  # fmt: skip


def test_a_measured_reason_stands_beside_what_stayed_away(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a reason that is lost on the way to the page or its records."""
    page, kept, reasons = tmp_path / "a.md", tmp_path / "kept", tmp_path / "reasons.toml"
    command = ["matrix", str(out), "--page", str(page)]
    assert main(command) == 0
    assert "high learning rate (2e-4)**: collapsed contrast" in page.read_text("utf-8")
    reasons.write_text(
        '[high_learning_rate]\ncontrast = "the rate is\\n too low for it."\n'
        'texture = "none"\nburn = "none"\n[overtrain]\nmode_collapse = "none"\n'
    )
    capsys.readouterr()
    assert main([*command, "--reasons", str(reasons), "--keep", str(kept), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    text = page.read_text("utf-8")
    (line,) = [one for one in text.splitlines() if "**: collapsed contrast" in one]
    assert line.endswith("; the rate is too low for it.")
    assert "none" not in text
    assert [sentence.split(":")[0] for sentence in told["reasons_not_shown"]] == [
        "high_learning_rate did show texture",
        "high_learning_rate is not expected to show burn",
        "overtrain was not run",
    ]
    again = tmp_path / "b" / "a.md"
    assert main(["matrix", str(kept), "--page", str(again)]) == 0
    assert again.read_text("utf-8") == text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[jpeg_crush]\n", "has no experiment 'jpeg_crush'; did you mean 'jpeg_crushed'?"),
        ("[overtrain]\ncollapse = 'x'\n", "[overtrain] has no effect 'collapse'"),
        ("[overtrain]\nmode_collapse = 3\n", "overtrain.mode_collapse is a sentence, got 3."),
        ("overtrain = 'x'\n", "[overtrain] holds effects and sentences, got 'x'."),
        ("[", "is not valid TOML"),
        (None, "cannot be read: No such file or directory."),
    ],
)
def test_odd_reasons_are_refused(
    out: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, sentence: str
) -> None:
    """Catches a reason for what no matrix has, left out without a word or after hours of runs."""
    path = tmp_path / "reasons.toml"
    if content is not None:
        path.write_text(content)
    for command in (["matrix", str(out)], ["sweep", "--out", str(out), "--server", "127.0.0.1:1"]):
        assert main([*command, "--reasons", str(path)]) == 1
        assert sentence in capsys.readouterr().err


def test_records_in_the_sweep_s_own_folder_are_refused(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches runs replaced by what is kept of them, and a refusal after hours of runs."""
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    assert main(["matrix", str(out), "--keep", str(out)]) == 1
    assert main(["sweep", "--out", str(out), "--keep", str(out), "--server", "127.0.0.1:1"]) == 1
    assert capsys.readouterr().err.count("is the sweep itself") == 2
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_run_that_lost_a_file_is_not_complete(out: Path) -> None:
    """Catches half a run taken for a whole one."""
    (out / "wide" / "seed2" / "verdict.json").unlink()
    wide = read_matrix(out).row("wide")
    assert wide
    assert [run.seed for run in wide.runs] == [1, 3]


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    """Catches a traceback, or an empty table."""
    with pytest.raises(ReportError, match="has no complete run of a sweep: run glitch_train sweep"):
        read_matrix(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("report.json", "{"),
        ("report.json", "[]"),
        ("report.json", '{"runs": []}'),
        ("verdict.json", "{"),
        ("verdict.json", "[]"),
        ("verdict.json", '{"convergence": 5}'),
        ("losses.csv", "x"),
        ("glitched/01.png", "x"),
    ],
)
def test_a_damaged_run_is_named(out: Path, capsys, name: str, content: str) -> None:
    """Catches a traceback over one bad file among many good runs, or not saying which."""
    (out / STANDARD / "seed2" / name).write_text(content)
    assert main(["matrix", str(out)]) == 1
    said = capsys.readouterr().err
    assert f"seed2/{name} is damaged: remove the folder" in said
    assert said.count("\n") == 1


def test_a_page_that_cannot_be_written_is_named(out: Path, tmp_path: Path, capsys) -> None:
    """Catches the sweep's folder named instead of the page's place."""
    (tmp_path / "file").write_text("")
    assert main(["matrix", str(out), "--page", str(tmp_path / "file" / "page.md")]) == 1
    assert f"Cannot write {tmp_path / 'file' / 'images'}" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{", "[]", '{"commands": 5}', '{"reasons": {"wide": 5}}'])
def test_a_damaged_list_of_commands_is_named(out: Path, content: str) -> None:
    """Catches a traceback where removing one small file helps."""
    (out / "sweep.json").write_text(content)
    with pytest.raises(ReportError, match=r"sweep\.json is damaged: remove it"):
        read_matrix(out)
