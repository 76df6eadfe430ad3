"""The runs of a sweep, planned: which, in which order, with which settings."""

from __future__ import annotations

import dataclasses
import json
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from glitch_train.cli.command import main
from glitch_train.cli.sweep import WORKFLOWS
from glitch_train.comfyui.errors import RequestRefused, ServerLost
from glitch_train.comfyui.events import Event, Executed, Finished
from glitch_train.comfyui.graph import GraphError, load_graph, nodes_of
from glitch_train.comfyui.our_nodes import GRID, TRAINER
from glitch_train.errors import DiskError, GridError, RecipeError
from glitch_train.recipe.experiments import EXPERIMENTS, with_slug
from glitch_train.recipe.partial import parse_settings
from glitch_train.sweep.doses import Dose
from glitch_train.sweep.hostless import Made
from glitch_train.sweep.plan import Job, find_workflows, plan_sweep
from glitch_train.sweep.ray import plan_jobs, run_sweep_on_ray
from glitch_train.sweep.ray_engine import RunResult
from glitch_train.sweep.reasons import read_reasons
from glitch_train.sweep.results import read_done
from glitch_train.sweep.run import SweepOutcome, run_sweep


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def _experiment(slug: str) -> dict[str, dict[str, Any]]:
    return {
        "1": _node("GlitchRecipe", preset="SD1.5 standard", settings=""),
        "2": _node("GlitchDatasetLoader", folder="?", recipe=["1", 0]),
        "3": _node("GlitchLoraTrainer", dataset=["2", 0], recipe=["1", 0], output_name=slug),
        "4": _node("GlitchLossGraph", loss_map=["3", 3], filename_prefix=f"glitch/{slug}_loss"),
        "5": _node("GlitchGrid", seeds="5-7", steps="20", lora=["3", 2]),
        "6": _node("GlitchReport", base=["5", 2], glitched=["5", 3]),
    }


@pytest.fixture
def workflows(tmp_path: Path) -> Path:
    """Two experiments, one of the user's own, and a workflow that is none."""
    folder = tmp_path / "workflows"
    folder.mkdir()
    for slug in ("overtrain", "sd15_standard", "mine"):
        (folder / f"{slug}.json").write_text(json.dumps(_experiment(slug)))
    (folder / "demo.json").write_text(json.dumps({"1": _node("KSampler", steps=3)}))
    return folder


def test_the_logs_experiments_are_the_default(workflows: Path) -> None:
    """Catches the demo in the matrix, and an order that changes with the file system."""
    assert list(find_workflows(workflows)) == ["sd15_standard", "overtrain"]
    assert list(find_workflows(workflows, ["mine", "overtrain"])) == ["overtrain", "mine"]
    assert list(find_workflows(workflows, ["sd1.5 Standard", "Overtrain"])) == [
        "sd15_standard",
        "overtrain",
    ]
    with pytest.raises(GraphError, match=r"no workflow overtrein.json; did you mean 'overtrain'"):
        find_workflows(workflows, ["overtrein"])
    with pytest.raises(GraphError, match="no workflow of an experiment"):
        find_workflows(workflows / "nowhere")


def test_every_experiment_with_every_seed(workflows: Path, tmp_path: Path) -> None:
    """Catches a whole experiment done before the next begins, and one folder for two runs."""
    jobs = plan_sweep(find_workflows(workflows), [4, 5, 4], tmp_path / "out")
    assert [job.folder.relative_to(tmp_path / "out").as_posix() for job in jobs] == [
        "sd15_standard/seed4", "overtrain/seed4", "sd15_standard/seed5", "overtrain/seed5"
    ]  # fmt: skip
    assert len({job.key for job in jobs}) == 4
    for job in jobs:
        trainer = job.graph["3"]["inputs"]
        assert (trainer["seed"], trainer["output_name"]) == (job.seed, f"{job.slug}_seed{job.seed}")
        named = parse_settings(job.graph[trainer["recipe"][0]]["inputs"]["settings"]).values
        assert named == {"seed": job.seed, "output_name": f"{job.slug}_seed{job.seed}"}
        assert job.graph["5"]["inputs"]["seeds"] == "5-7", "all draw the same pictures"
        prefix = f"glitch/{job.slug}_loss_seed{job.seed}"
        assert job.graph["4"]["inputs"]["filename_prefix"] == prefix


def test_results_that_nodes_keep_are_watched(workflows: Path, tmp_path: Path) -> None:
    """Catches base and glitched pictures exchanged, and a host without a node that is used."""
    (job, *_) = plan_sweep(find_workflows(workflows), [1], tmp_path)
    watched = {role: job.graph[node] for role, node in job.roles.items()}
    links = {role: next(v for v in node["inputs"].values() if isinstance(v, list))
             for role, node in watched.items()}  # fmt: skip
    assert links == {
        "base": ["5", 2], "glitched": ["5", 3], "grid_settings": ["5", 4], "verdict": ["4", 3]
    }  # fmt: skip
    older = {"SaveImage": {"input": {}}}
    (job, *_) = plan_sweep(find_workflows(workflows), [1], tmp_path, object_info=older)
    assert set(job.roles) == {"base", "glitched"}


def test_a_setting_of_one_experiment_wins(workflows: Path, tmp_path: Path) -> None:
    """Catches an experiment's own setting given to all, or lost to the general one."""
    settings = ["overtrain.steps=30", "steps=10", "overtrain.GlitchGrid.steps=4"]
    jobs = plan_sweep(find_workflows(workflows), [1], tmp_path, settings)
    steps = {job.slug: (job.graph["3"]["inputs"]["steps"], job.graph["5"]["inputs"]["steps"])
             for job in jobs}  # fmt: skip
    assert steps == {"sd15_standard": (10, "20"), "overtrain": (30, "4")}


def test_doses_are_runs_of_their_own(workflows: Path, tmp_path: Path) -> None:
    """Catches doses that take each other's place on the disk or in the host's folder of LoRAs."""
    found = find_workflows(workflows, ["overtrain"])
    doses = [f"overtrain.steps={steps}" for steps in (20, 40)]
    jobs = plan_sweep(found, [1, 2], tmp_path, ["steps=10"], doses=doses)
    assert len({job.folder for job in jobs}) == len({job.key for job in jobs}) == 6
    trainers = [job.graph["3"]["inputs"] for job in jobs]
    assert len({trainer["output_name"] for trainer in trainers}) == 6
    assert [trainer["steps"] for trainer in trainers] == [10, 20, 40] * 2
    assert [job.name for job in jobs[:2]] == [
        "overtrain, seed 1", "overtrain with steps=20, seed 1"
    ]  # fmt: skip
    assert [(job.dose.own, job.dose.standard) for job in jobs if job.dose] == [("10", "10")] * 4
    jobs = plan_sweep(found, [1], tmp_path, [], doses=["overtrain.steps=20"])
    assert jobs[-1].dose == Dose("overtrain", "steps", "20", own="6000", standard="2000")


@pytest.mark.parametrize("dose", ["steps=20", "nowhere.steps=20", "overtrain.steps"])
def test_a_dose_of_nothing_is_refused(dose: str, workflows: Path, tmp_path: Path) -> None:
    """Catches a dose that is dropped without a word."""
    found = find_workflows(workflows, ["overtrain"])
    with pytest.raises(RecipeError, match="--dose"):
        plan_sweep(found, [1], tmp_path, doses=[dose])


def test_a_changed_setting_changes_the_key(workflows: Path, tmp_path: Path) -> None:
    """Catches results of other settings kept, and all done anew because a title changed."""
    found = find_workflows(workflows, ["overtrain"])
    (before,) = plan_sweep(found, [1], tmp_path, ["steps=10"])
    graph = _experiment("overtrain")
    graph["3"]["_meta"] = {"title": "Another title"}
    (workflows / "overtrain.json").write_text(json.dumps(graph))
    (titled,) = plan_sweep(found, [1], tmp_path, ["steps=10"])
    (changed,) = plan_sweep(found, [1], tmp_path, ["steps=11"])
    assert before.key == titled.key
    assert before.key != changed.key


def test_what_is_no_experiment_is_refused(workflows: Path, tmp_path: Path) -> None:
    """Catches a KeyError in the middle of a sweep."""
    with pytest.raises(GraphError, match="demo.json is no experiment: it has no GlitchLoraTrainer"):
        plan_sweep(find_workflows(workflows, ["demo"]), [1], tmp_path)


class _Broken:
    """A host that is gone."""

    asked = 0

    def queue(self, graph: Any) -> str:
        self.asked += 1
        raise ServerLost("ComfyUI went away.")


def test_a_lost_host_ends_the_sweep(tmp_path: Path) -> None:
    """Catches one failure for each run that is still to come."""
    jobs = [Job("a", seed, {}, tmp_path / str(seed), "key", {}) for seed in (1, 2)]
    host = _Broken()
    outcome = run_sweep(host, jobs, lambda job: nullcontext(print), lambda: None)  # type: ignore[arg-type]
    assert outcome.error == "ComfyUI went away."
    assert outcome.failed == {}
    assert host.asked == 1


def test_ctrl_c_as_a_run_gets_into_its_place(
    workflows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a run that is there whole, and is missing in what the sweep says it did."""
    jobs = plan_sweep(find_workflows(workflows), [1], tmp_path)

    def pressed(*_: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("glitch_train.sweep.run.read_run", pressed)
    outcome = run_sweep(_Host(), jobs, lambda job: nullcontext(print), lambda: None, {})  # type: ignore[arg-type]
    assert (outcome.interrupted, outcome.done) == (True, [jobs[0].name])


class _Refusing(_Broken):
    """A host that answers every workflow with an error of its own."""

    def queue(self, graph: Any) -> str:
        self.asked += 1
        raise RequestRefused("ComfyUI answered 500 to POST /prompt.", 500)


def test_a_refused_request_ends_one_run(tmp_path: Path) -> None:
    """Catches a whole night's sweep ended by one answer."""
    jobs = [Job("a", seed, {}, tmp_path / str(seed), "key", {}) for seed in (1, 2)]
    host = _Refusing()
    outcome = run_sweep(host, jobs, lambda job: nullcontext(print), lambda: None)  # type: ignore[arg-type]
    assert list(outcome.failed) == ["a, seed 1", "a, seed 2"]
    assert host.asked == 2
    assert outcome.error.startswith("a, seed 1 failed: ComfyUI answered 500 to POST /prompt.")


class _Host:
    """A ComfyUI that has the results of every workflow at once."""

    refused: set[str] = set()
    damaged: set[str] = set()

    def __init__(self, *_: Any) -> None:
        self.name = ""

    def __enter__(self) -> _Host:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def object_info(self) -> dict[str, Any]:
        return {}

    def queue(self, graph: Any) -> str:
        self.name = graph["3"]["inputs"]["output_name"]
        if self.name in self.refused:
            raise RequestRefused("ComfyUI answered 500 to POST /prompt.", 500)
        return "it"

    def events(self, prompt_id: str) -> Iterator[Event]:
        for node in ("4", "5", "6"):
            yield Executed(node, {"images": [{"filename": f"{node}.png"}]})
        yield Finished()

    def download(self, filename: str, **_: str) -> bytes:
        contents = {
            "4.csv": b"x" if self.name in self.damaged else b"step,loss\n1,0.5\n2,0.4\n",
            "6.json": b'{"runs": [{"effects": {}, "pairs": 2}]}',
        }
        return contents.get(filename, b"?")


def _sweep(workflows: Path, out: Path, capsys: Any, *seeds: str) -> tuple[int, dict[str, Any], str]:
    command = ["sweep", "--workflows", str(workflows), "--out", str(out), "--json"]
    code = main([*command, "--seeds", *seeds])
    said = capsys.readouterr()
    return code, json.loads(said.out), said.err


def test_what_is_damaged_is_told_apart(
    workflows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Catches a sweep ended by one bad file, and a run counted both as done and as failed."""
    monkeypatch.setattr("glitch_train.comfyui.client.ComfyClient", _Host)
    out = tmp_path / "out"
    code, told, _ = _sweep(workflows, out, capsys, "1", "9")
    assert (code, len(told["done"])) == (0, 4)
    for run in ("overtrain/seed1", "overtrain/seed9"):  # the second one is not asked for again
        (out / run / "losses.csv").write_text("x")
    monkeypatch.setattr(_Host, "refused", {"overtrain_seed2"})
    monkeypatch.setattr(_Host, "damaged", {"sd15_standard_seed3"})
    code, told, said = _sweep(workflows, out, capsys, "1", "2", "3")
    assert code == 1
    assert told["kept"] == ["sd15_standard, seed 1"]
    assert told["done"] == ["sd15_standard, seed 2", "overtrain, seed 3"]
    advice = "losses.csv is damaged: remove the folder"
    expected = {
        "overtrain, seed 1": f"overtrain/seed1/{advice}",
        "overtrain, seed 2": "ComfyUI answered 500 to POST /prompt.",
        "sd15_standard, seed 3": f"sd15_standard/seed3/{advice}",
        "overtrain, seed 9": f"overtrain/seed9/{advice}",
    }
    assert list(told["failed"]) == list(expected)
    assert all(sentence in told["failed"][name] for name, sentence in expected.items())
    assert "(and 3 more runs failed)" in said.splitlines()[-1]
    seeds = {slug: row["seeds"] for slug, row in told["experiments"].items()}
    assert seeds == {"sd15_standard": [1, 2, 9], "overtrain": [3]}
    assert (out / "matrix.md").is_file()


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ((), "not part of this installation: clone the pack and give its folder with --workflows"),
        (("--workflows", "elsewhere"), "There is no folder elsewhere: give one of workflows"),
    ],
    ids=["none installed", "not there"],
)
def test_a_missing_folder_of_workflows_is_one_sentence(
    more: tuple[str, ...],
    why: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Catches a place inside the installed package that nobody made, and work begun before."""

    class NotAsked:
        def __init__(self, *_: Any) -> None:
            raise AssertionError("The host was asked.")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("glitch_train.cli.sweep.WORKFLOWS", tmp_path / "site-packages" / "api")
    monkeypatch.setattr("glitch_train.comfyui.client.ComfyClient", NotAsked)
    assert main(["sweep", "overtrain", *more, "--out", "out"]) == 1
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wide", "The engine ray needs the package ray, which is not installed; run pip install"),
        ("wied", "There is no preset 'wied'; did you mean 'wide'?"),
    ],
)
def test_without_ray_nothing_is_written(
    name: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Catches a folder left behind by a sweep that cannot begin."""
    monkeypatch.setitem(sys.modules, "ray", None)
    out = tmp_path / "out"
    command = ["sweep", name, "--engine", "ray", "--out", str(out)]
    assert main([*command, "--set", "ckpt=a.safetensors", "folder=b"]) == 1
    assert why in capsys.readouterr().err
    assert not out.exists()


def test_an_unreadable_record_fails_one_run_on_ray(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches the results of all other runs lost with those of one."""
    for seed, content in ((1, "x"), (2, "step,loss\n1,0.5\n2,0.4\n")):
        made = tmp_path / str(seed) / "sweep"
        made.mkdir(parents=True)
        (made / "losses.csv").write_text(content)

    def results(*_: Any, **__: Any) -> Iterator[RunResult]:
        for seed in (1, 2):
            made = Made(tmp_path / "a.safetensors", tmp_path / str(seed) / "losses.csv")
            yield RunResult(f"wide_seed{seed}", made)
        yield RunResult("wide_seed3", error="It broke.")

    monkeypatch.setattr("glitch_train.sweep.ray_engine.run_all", results)
    outcome = SweepOutcome()
    jobs = plan_jobs(["wide"], [1, 2, 3], ["ckpt=a", "folder=b"], tmp_path / "out", outcome)
    run_sweep_on_ray(jobs, tmp_path / "out", outcome)
    assert outcome.done == ["wide, seed 2"]
    assert list(outcome.failed) == ["wide, seed 1", "wide, seed 3"]
    assert "losses.csv is damaged: remove the folder" in outcome.failed["wide, seed 1"]
    assert outcome.failed["wide, seed 3"] == "It broke."


def test_a_run_with_other_settings_is_told(tmp_path: Path) -> None:
    """Catches results of other settings passed off as these, and hours of training unexplained."""
    for seed, key in ((1, "key"), (2, "other")):
        (tmp_path / str(seed)).mkdir()
        done = json.dumps({"experiment": "a", "seed": seed, "key": key, "files": []})
        (tmp_path / str(seed) / "done.json").write_text(done)
        (tmp_path / str(seed) / "losses.csv").write_text("step,loss\n1,0.5\n")
    jobs = [Job("a", seed, {}, tmp_path / str(seed), "key", {}) for seed in (1, 2, 3)]
    outcome = run_sweep(_Broken(), jobs, lambda job: nullcontext(print), lambda: None)  # type: ignore[arg-type]
    assert (outcome.kept, outcome.changed) == (["a, seed 1"], ["a, seed 2"])


def test_several_failures_are_one_sentence() -> None:
    """Catches a wall of text, or only the first failure told."""
    outcome = SweepOutcome(failed={"a, seed 1": "It broke.", "b, seed 1": "Too."})
    assert outcome.error == "a, seed 1 failed: It broke. (and 1 more run failed)"


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"files": 5}',
        '{"files": []}',
        '{"experiment": "a", "seed": "x", "key": "", "files": []}',
        '{"experiment": "a", "seed": 1, "key": "", "files": ["gone.txt"]}',
    ],  # fmt: skip
)
def test_a_broken_note_is_no_note(content: str, tmp_path: Path) -> None:
    """Catches a crash on a note that a full disk left empty, and a run whose files are gone."""
    (tmp_path / "done.json").write_text(content)
    assert read_done(tmp_path) is None


def test_a_note_that_cannot_be_opened_is_not_a_missing_one(tmp_path: Path) -> None:
    """Catches a finished run trained anew, and its folder replaced, because of a permission."""
    assert read_done(tmp_path) is None
    (tmp_path / "done.json").mkdir()  # what not even root can open as a file
    with pytest.raises(DiskError, match=r"^Cannot read .*done.json: "):
        read_done(tmp_path)


def test_presets_as_recipes(tmp_path: Path) -> None:
    """Catches a technique that is not laid over its standard run, and a seed that does not come."""
    outcome = SweepOutcome()
    settings = ["ckpt=/m.safetensors", f"folder={tmp_path}", "steps=7", "wide.network_dim=8"]
    names = ["wide", "overtrain_compression", "mismatched_base"]
    jobs = plan_jobs(names, [3], settings, tmp_path, outcome)
    by_slug = {job.slug: job.order.recipe for job in jobs}
    assert list(by_slug) == ["overtrain_compression", "wide"]
    assert outcome.left_out == [
        "mismatched_base is left out: its LoRA is worn by a model of another family, which needs "
        "ComfyUI."
    ]
    wide, crushed = by_slug["wide"], by_slug["overtrain_compression"]
    assert (wide.train.network_dim, wide.train.network_alpha, wide.train.steps) == (8, 96.0, 7)
    assert (wide.origins["repeats"], wide.origins["network_alpha"]) == (
        "SD1.5 standard",
        "wide (dim 192)",
    )
    assert (crushed.dataset.framing, crushed.dataset.repeats) == ("stretch", 900)
    assert (wide.train.seed, wide.train.output_name) == (3, "wide_seed3")
    assert (wide.checkpoint, wide.dataset.folder) == ("/m.safetensors", str(tmp_path))
    assert len(plan_jobs([], [1, 2], settings, tmp_path, SweepOutcome())) == 30
    assert jobs[0].folder == tmp_path / "overtrain_compression" / "seed3"
    with pytest.raises(RecipeError, match="no preset 'wied'; did you mean 'wide'"):
        plan_jobs(["wied"], [1], settings, tmp_path, outcome)
    with pytest.raises(RecipeError, match=r"needs ckpt=FILE.safetensors and folder=DIR"):
        plan_jobs(["wide"], [1], ["steps=3"], tmp_path, outcome)


def test_rays_grid_is_that_of_the_workflow() -> None:
    """Catches other pictures on a cluster than on a host, and settings of the grid that get lost.

    The shipped workflows say what a sweep on a host draws.
    """
    base = ["ckpt=m", "folder=f"]
    for job in plan_jobs([], [1], base, Path(), SweepOutcome()):
        graph = load_graph(WORKFLOWS / f"{job.slug}.json")
        (node,) = nodes_of(graph, GRID.node_id)
        told = {name: value for name, value in graph[node]["inputs"].items()}
        grid = dataclasses.asdict(job.order.grid)
        assert {name: told[name] for name in grid if name in told}.items() <= grid.items()
        assert {"prompts", "seeds", "steps", "cfg", "sizes", "scheduler"} <= grid.keys() & told
    settings = [
        *base, "cfg=3", "steps=9", "GlitchGrid.steps=4", "wide.GlitchGrid.seeds=7", "seeds=1",
        "GlitchGridSettings.negative=blur", "prompts=a=b",
    ]  # fmt: skip
    wide, short = plan_jobs(["short", "wide"], [1], settings, Path(), SweepOutcome())[::-1]
    assert (wide.slug, wide.order.grid.seeds, short.order.grid.seeds) == ("wide", "7", "1")
    grid = short.order.grid
    assert (grid.cfg, grid.steps, grid.negative, grid.prompts) == ("3", "4", "blur", "a=b")
    assert short.order.recipe.train.steps == 9
    assert short.key != wide.key
    with pytest.raises(RecipeError, match="A Glitch Grid has no setting 'sed'; did you mean"):
        plan_jobs(["wide"], [1], [*base, "GlitchGrid.sed=1"], Path(), SweepOutcome())
    with pytest.raises(GridError, match="heun with scheduler karras needs ComfyUI"):
        plan_jobs(["wide"], [1], [*base, "sampler_name=heun"], Path(), SweepOutcome())


def test_the_shipped_experiments_are_all_there(tmp_path: Path) -> None:
    """Catches an experiment without its workflow, or one of which a sweep can set nothing."""
    found = find_workflows(WORKFLOWS)
    assert list(found) == list(EXPERIMENTS)
    settings = ["ckpt=x.safetensors", "folder=faces", "steps=10", "GlitchGrid.sizes=128x128"]
    jobs = plan_sweep(found, [1], tmp_path, settings)
    for job in jobs:
        (trainer,) = (e["inputs"] for e in job.graph.values() if e["class_type"] == TRAINER.node_id)
        assert (trainer["steps"], trainer["seed"]) == (10, 1), job.slug
        assert trainer["output_name"] == f"{job.slug}_seed1"
        assert set(job.roles) == {"base", "glitched", "grid_settings", "verdict"}


@pytest.mark.not_on_windows(reason="links need a privilege there")
def test_a_link_to_itself_is_planned_and_told_later(tmp_path: Path) -> None:
    """Catches a traceback of Python 3.12 and older; the run says that there is no such file."""
    (tmp_path / "round").symlink_to(tmp_path / "round")
    settings = [f"ckpt={tmp_path / 'round'}", f"folder={tmp_path / 'round'}"]
    (job,) = plan_jobs(["wide"], [1], settings, tmp_path, SweepOutcome())
    recipe = job.order.recipe
    assert (recipe.checkpoint, recipe.dataset.folder) == (str(tmp_path / "round"),) * 2


def test_experiments_by_title_wherever_they_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Catches a title that names an experiment and none of its settings, doses and reasons."""
    assert with_slug("SD1.5 standard.GlitchGrid.cfg=1.5") == "sd15_standard.GlitchGrid.cfg=1.5"
    assert with_slug("Overtrain (> 5000 steps).steps=9") == "overtrain.steps=9"
    for as_it_is in (
        "overtrain.steps=9",
        "steps=9",
        "Overtrain=1.5",
        "nosuch.steps=9",
        "*.cfg=1.5",
    ):
        assert with_slug(as_it_is) == as_it_is
    monkeypatch.setitem(sys.modules, "ray", None)
    titled = ["sweep", "Wide", "--engine", "ray", "--out", str(tmp_path / "out"), "--dose"]
    named = ["Wide.network_dim=4", "--set", "ckpt=a", "folder=b", "WIDE.steps=7"]
    assert main([*titled, *named]) == 1  # planned, and then there is no Ray
    assert "run pip install ray" in capsys.readouterr().err
    reasons = tmp_path / "reasons.toml"
    reasons.write_text('["High learning rate"]\ntexture = "none"\n')
    assert read_reasons(reasons) == {"high_learning_rate": {"texture": "none"}}


def test_a_setting_of_an_experiment_that_is_not_run() -> None:
    """Catches a setting that is passed over without a word."""
    settings = ["ckpt=a", "folder=b", "overtrain.steps=5"]
    with pytest.raises(RecipeError, match="does not run 'overtrain'; name it too"):
        plan_jobs(["wide"], [1], settings, Path(), SweepOutcome())
