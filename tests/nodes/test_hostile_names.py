"""Every text and choice of every node, given names that lead elsewhere or that nothing can hold."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hostile_names import HOSTILE

from glitch_train.training.run.folder import claim_run

pytestmark = pytest.mark.host

Pack = Callable[[str], ModuleType]


@pytest.fixture
def places(host_modules: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The host's input, output and LoRA folders within a folder that has a secret beside them."""
    import folder_paths

    for name in ("input", "output", "loras", "outside"):
        (tmp_path / name).mkdir()
    (tmp_path / "outside" / "secret").mkdir()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path / "input"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    loras = ([str(tmp_path / "loras")], {".safetensors"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", loras)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


@pytest.fixture
def linked(places: Path) -> Path:
    """The same, with links that lead out, and to themselves."""
    for name in ("input", "output", "loras"):
        (places / name / "round").symlink_to(places / name / "round")
        (places / name / "link_out").symlink_to(places / "outside", target_is_directory=True)
    return places


def answers(node: Any, name: str, value: str) -> Any:
    """Return what a node's ``validate_inputs`` says of one input, the others at their defaults."""
    from comfy_api.latest import io

    check = node.validate_inputs
    if check.__func__ is io.ComfyNode.validate_inputs.__func__:
        return True  # the node has no check of its own
    known = inspect.signature(check).parameters
    takes_all = [one for one, told in known.items() if told.kind is told.VAR_KEYWORD]
    if name not in known and not takes_all:
        return True  # a choice that the host holds against its list, or a text for people
    required = (one for one, told in known.items() if told.default is told.empty)
    needed = {one: "none" for one in required if one not in takes_all}
    return check(**needed | {name: value})


def test_no_fingerprint_raises(pack: Pack, places: Path) -> None:
    """Catches a name that ends the thread of the host which runs workflows, as it is printed."""
    asked = 0
    for node in pack("nodes").NODES:
        known = inspect.signature(node.fingerprint_inputs).parameters
        for described in node.define_schema().inputs:
            if described.id in known and described.io_type in ("STRING", "COMBO"):
                for name in HOSTILE:
                    node.fingerprint_inputs(**{described.id: name})
                    asked += 1
    assert asked >= 4 * len(HOSTILE)


def test_every_text_and_choice_is_answered_in_a_sentence(pack: Pack, places: Path) -> None:
    """Catches a check that ends in a traceback, walking all inputs by the nodes' own schemas."""
    asked = 0
    for node in pack("nodes").NODES:
        for described in node.define_schema().inputs:
            if described.io_type not in ("STRING", "COMBO"):
                continue
            for name in HOSTILE:
                said = answers(node, described.id, name)
                assert said is True or (isinstance(said, str) and said), (node, described.id, name)
                assert said is True or "\n" not in said, said
                asked += 1
    assert asked > 40 * 20
    assert sorted(os.listdir(places)) == ["input", "loras", "output", "outside"]


@pytest.mark.not_on_windows(reason="links need a privilege there")
@pytest.mark.parametrize("name", [*HOSTILE, "round"])
def test_what_is_let_through_stays_inside(pack: Pack, linked: Path, name: str) -> None:
    """Catches a name that passes the check and then leads out, or that no disk takes."""
    nodes = {node.define_schema().node_id: node for node in pack("nodes").NODES}
    output = linked / "output"
    for owner in ("GlitchLossGraph", "GlitchGrid", "GlitchReport"):
        said = answers(nodes[owner], "filename_prefix", name)
        if said is True:
            folder, stem, _ = pack("nodes.host").output_place(name)
            file = Path(folder, f"{stem}.png")
            file.touch()
            assert output in file.resolve().parents
        else:
            with pytest.raises(pack("glitch_train.errors").GlitchTrainError):
                pack("nodes.host").output_place(name)
    if answers(nodes["GlitchLoraTrainer"], "output_name", name) is True:
        paths = claim_run(name, output / "glitch", linked / "loras")
        paths.lora.touch()
        assert paths.folder.resolve().parent == output / "glitch"
        assert paths.lora.resolve().parent == linked / "loras"
    if answers(nodes["GlitchDatasetLoader"], "folder", name) is True:
        folder = pack("nodes.folders").resolve(name)
        assert folder == linked / "input" or linked / "input" in folder.parents
    for owner in ("GlitchCrossModelLoraApplier", "GlitchGrid"):
        said = answers(nodes[owner], "lora_name", name)
        assert said is not True or not name, (owner, said)  # no name is no LoRA
    assert [p.name for p in (linked / "outside").rglob("*")] == ["secret"]
