"""The demo's parts that need no host: its workflow, its material, its results."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from glitch_demo.__main__ import WORKFLOW, main
from glitch_demo.contact_sheet import CELL_PX, Row, contact_sheet
from glitch_demo.host import link_or_copy
from glitch_demo.material import place_pictures, suit_own_checkpoint, suit_own_pictures
from glitch_demo.results import newest_record
from glitch_train.comfyui.graph import (
    Graph,
    GraphError,
    load_graph,
    nodes_of,
    picture_caption,
    set_input,
)


def _graph() -> Graph:
    def node(class_type: str, **inputs: Any) -> dict[str, Any]:
        return {"class_type": class_type, "inputs": inputs}

    return {
        "1": node("CLIPTextEncode", text="a cat", clip=["9", 1]),
        "2": node("CLIPTextEncode", text="blurry", clip=["9", 1]),
        "3": node("KSampler", positive=["1", 0], negative=["2", 0], seed=7, model=["9", 0]),
        "4": node("VAEDecode", samples=["3", 0], vae=["9", 2]),
        "5": node("SaveImage", images=["4", 0], filename_prefix="demo_base"),
        "9": node("CheckpointLoaderSimple", ckpt_name="?"),
    }


def test_set_input_reaches_every_node_of_the_class() -> None:
    """Catches one of two nodes left as it was, and a change of the graph that was given."""
    graph = _graph()
    changed = set_input(graph, "CLIPTextEncode", "text", "a dog")
    assert [changed[node]["inputs"]["text"] for node in "12"] == ["a dog", "a dog"]
    assert graph == _graph()


def test_set_input_names_what_is_missing() -> None:
    """Catches a setting that silently goes nowhere."""
    with pytest.raises(GraphError, match="must have a node Trainer, got CLIPTextEncode, "):
        set_input(_graph(), "Trainer", "steps", 1)
    with pytest.raises(GraphError, match="no input 'steps' in the workflow, only positive, "):
        set_input(_graph(), "KSampler", "steps", 1)


def test_the_editors_format_is_refused(tmp_path: Path) -> None:
    """Catches a workflow of the wrong kind, which would fail later with a KeyError."""
    (tmp_path / "a.json").write_text('{"nodes": [], "links": []}')
    with pytest.raises(GraphError, match="must be in API format"):
        load_graph(tmp_path / "a.json")


def test_a_picture_is_captioned_with_its_own_prompt() -> None:
    """Catches the negative prompt, or another sampler's seed, under a picture."""
    assert picture_caption(_graph(), "5") == "seed 7: a cat"


def test_the_record_of_an_earlier_run_does_not_count(tmp_path: Path) -> None:
    """Catches the loss of yesterday's run on today's bar."""
    record = tmp_path / "output" / "glitch" / "run_00001" / "losses.csv"
    record.parent.mkdir(parents=True)
    record.touch()
    changed = record.stat().st_mtime
    assert newest_record(tmp_path, since=changed) == record
    assert newest_record(tmp_path, since=changed + 60) is None


def test_a_contact_sheet_holds_every_picture(tmp_path: Path) -> None:
    """Catches pictures in the wrong row or column, or cut off."""
    colors = [(200, 0, 0), (0, 200, 0), (0, 0, 200), (200, 200, 0)]
    files = []
    for number, color in enumerate(colors):
        files.append(tmp_path / f"{number}.png")
        Image.new("RGB", (64, 96), color).save(files[-1])
    rows = [Row("Without", files[:2]), Row("With", files[2:])]
    sheet = Image.open(contact_sheet(rows, ["one", "two " * 99], tmp_path / "a" / "sheet.png"))
    centres = [
        sheet.getpixel((sheet.width * (2 * column + 1) // 4, 56 + CELL_PX // 2 + row * 376))
        for row in range(2)
        for column in range(2)
    ]
    assert centres == colors


def test_pictures_are_copied_with_their_captions(tmp_path: Path) -> None:
    """Catches captions left behind, and an earlier run's pictures mixed in."""
    own = tmp_path / "my pictures"
    (own / "set").mkdir(parents=True)
    for name in ("a.JPG", "a.txt", "set/b.png", "notes.docx"):
        (own / name).touch()
    stale = tmp_path / "base" / "input" / "my pictures" / "old.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert place_pictures(tmp_path / "base", own) == "my pictures"
    found = {p.relative_to(stale.parent).as_posix() for p in stale.parent.rglob("*.*")}
    assert found == {"a.JPG", "a.txt", "set/b.png"}


def test_a_link_replaces_what_was_there(tmp_path: Path) -> None:
    """Catches a link made inside the folder of the same name, or a refusal to go on."""
    source, target = tmp_path / "pack", tmp_path / "custom_nodes" / "pack"
    source.mkdir()
    (source / "__init__.py").touch()
    target.mkdir(parents=True)
    for _ in range(2):
        link_or_copy(source, target)
        assert [p.name for p in target.iterdir()] == ["__init__.py"]


def test_a_copy_leaves_out_what_tools_write_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a copy, where links cannot be made, that fails because a test run tidies up."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("A required privilege is not held by the client")

    source, target = tmp_path / "pack", tmp_path / "custom_nodes" / "pack"
    for name in ("__init__.py", "nodes/a.py", ".hypothesis/b", ".git/c", "demo_output/d"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    monkeypatch.setattr(Path, "symlink_to", refuse)
    link_or_copy(source, target)
    copied = {p.relative_to(target).as_posix() for p in target.rglob("*") if p.is_file()}
    assert copied == {"__init__.py", "nodes/a.py"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        pytest.param(
            ["--checkpoint", "no.safetensors"],
            "CHECKPOINT must be the path of a .safetensors or .ckpt file, got 'no.safetensors' "
            "(no such file).",
            id="no checkpoint",
        ),
        pytest.param(
            ["--pictures", "nowhere"],
            "PICTURES must be the path of a folder, got 'nowhere'.",
            id="no folder",
        ),
        pytest.param(
            ["--workflow", "no.json"], "The workflow no.json is missing", id="no workflow"
        ),
    ],
)
def test_the_demo_says_what_is_wrong(
    arguments: list[str],
    sentence: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Catches a traceback, or exit status 0, for what the user got wrong."""
    for name in ("CHECKPOINT", "PICTURES", "STEPS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "out").exists(), "nothing is made before the check"


def test_own_material_gets_its_own_size_and_prompts(tmp_path: Path) -> None:
    """Catches a full checkpoint being asked for 128 pixels, or for the demo's astronaut."""
    graph = load_graph(WORKFLOW)
    (tmp_path / "a.txt").write_text("a blue hat\n")
    (tmp_path / "b.txt").write_text("")
    (tmp_path / "c.txt").write_text("a green hat")
    suited = suit_own_pictures(suit_own_checkpoint(graph), tmp_path)
    sizes = {suited[node]["inputs"]["width"] for node in nodes_of(suited, "EmptyLatentImage")}
    texts = [suited[node]["inputs"]["text"] for node in nodes_of(suited, "CLIPTextEncode")]
    assert sizes == {512}
    assert texts == ["a blue hat", "", "a green hat", ""] * 2  # with the LoRA, without
    assert graph == load_graph(WORKFLOW)
