"""The runs of a sweep, planned: which, in which order, with which settings."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from glitch_train.api_graph import GraphError
from glitch_train.cli_sweep import WORKFLOWS
from glitch_train.comfy_errors import ServerLost
from glitch_train.errors import RecipeError
from glitch_train.expectations import EXPECTATIONS
from glitch_train.partial_recipe import parse_settings
from glitch_train.presets import PRESETS
from glitch_train.sweep import SweepOutcome, run_sweep
from glitch_train.sweep_plan import TRAINER, Job, find_workflows, plan_sweep
from glitch_train.sweep_ray import plan_recipes
from glitch_train.sweep_results import read_done


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
    settings = ["overtrain.steps=30", "steps=10", "overtrain.GlitchGrid.steps=4", "wide.steps=9"]
    jobs = plan_sweep(find_workflows(workflows), [1], tmp_path, settings)
    steps = {job.slug: (job.graph["3"]["inputs"]["steps"], job.graph["5"]["inputs"]["steps"])
             for job in jobs}  # fmt: skip
    assert steps == {"sd15_standard": (10, "20"), "overtrain": (30, "4")}


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


def test_a_run_with_other_settings_is_told(tmp_path: Path) -> None:
    """Catches results of other settings passed off as these, and hours of training unexplained."""
    for seed, key in ((1, "key"), (2, "other")):
        (tmp_path / str(seed)).mkdir()
        done = json.dumps({"experiment": "a", "seed": seed, "key": key, "files": []})
        (tmp_path / str(seed) / "done.json").write_text(done)
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


def test_presets_as_recipes(tmp_path: Path) -> None:
    """Catches a technique that is not laid over its standard run, and a seed that does not come."""
    outcome = SweepOutcome()
    settings = ["ckpt=/m.safetensors", f"folder={tmp_path}", "steps=7", "wide.network_dim=8"]
    names = ["wide", "overtrain_compression", "mismatched_base"]
    runs = plan_recipes(names, [3], settings, outcome)
    by_slug = {slug: recipe for slug, _, recipe in runs}
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
    assert len(plan_recipes([], [1, 2], settings, SweepOutcome())) == 30
    with pytest.raises(RecipeError, match="no preset 'wied'; did you mean 'wide'"):
        plan_recipes(["wied"], [1], settings, outcome)
    with pytest.raises(RecipeError, match=r"needs ckpt=FILE.safetensors and folder=DIR"):
        plan_recipes(["wide"], [1], ["steps=3"], outcome)


def test_the_shipped_experiments_are_all_there(tmp_path: Path) -> None:
    """Catches an experiment without its workflow, or one of which a sweep can set nothing."""
    found = find_workflows(WORKFLOWS)
    assert list(found) == list(EXPECTATIONS)
    assert {preset.slug: preset.title for preset in PRESETS.values()} == {
        slug: one.preset for slug, one in EXPECTATIONS.items()
    }
    settings = ["ckpt=x.safetensors", "folder=faces", "steps=10", "GlitchGrid.sizes=128x128"]
    jobs = plan_sweep(found, [1], tmp_path, settings)
    for job in jobs:
        (trainer,) = (e["inputs"] for e in job.graph.values() if e["class_type"] == TRAINER)
        assert (trainer["steps"], trainer["seed"]) == (10, 1), job.slug
        assert trainer["output_name"] == f"{job.slug}_seed1"
        assert set(job.roles) == {"base", "glitched", "grid_settings", "verdict"}
