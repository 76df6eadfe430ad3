"""Which folders may be chosen, and that none outside them can."""

from __future__ import annotations

from pathlib import Path

import pytest

from glitch_train.dataset.folder_choice import (
    ALL_OF_FIRST,
    MAX_CHOICES,
    MAX_DEPTH,
    NOT_CHOSEN,
    Root,
    folder_choices,
    resolve_choice,
)
from glitch_train.errors import DatasetError


@pytest.fixture
def roots(tmp_path: Path) -> list[Root]:
    """The host's input folder and a registered one, with a folder of one name in both."""
    found = [("", tmp_path / "input"), ("datasets: ", tmp_path / "more")]
    for name in ("input/faces/wet", "input/.hidden", "more/faces", "outside"):
        (tmp_path / name).mkdir(parents=True)
    return found


def test_what_is_offered_is_what_is_found(roots: list[Root]) -> None:
    """Catches a folder that is listed and cannot be chosen, or another one of the same name."""
    offered = folder_choices(roots)
    assert offered == [NOT_CHOSEN, "faces", "faces/wet", "datasets: faces", ALL_OF_FIRST]
    (_, first), (_, second) = roots
    wanted = [first / "faces", first / "faces" / "wet", second / "faces", first]
    assert [resolve_choice(one, roots) for one in offered[1:]] == [one.resolve() for one in wanted]


def test_no_folder_is_chosen_until_a_person_does(roots: list[Root]) -> None:
    """Catches a training on everything in input/ because nobody chose a folder."""
    for nothing in (folder_choices(roots)[0], ""):
        with pytest.raises(DatasetError, match="No folder is chosen yet; choose .*input is offer"):
            resolve_choice(nothing, roots)
    for older in (".", "./", "faces/.."):
        with pytest.raises(DatasetError, match="the older name .*, or 'all of input/' for all of"):
            resolve_choice(older, roots)


def test_no_folder_hides_behind_a_name_of_ours(roots: list[Root]) -> None:
    """Catches a real folder called as the whole of input/ is, that trains on everything instead."""
    named = ALL_OF_FIRST.rstrip("/")
    (roots[0][1] / named).mkdir()
    assert resolve_choice(named, roots).name == named
    assert {named, ALL_OF_FIRST} <= set(folder_choices(roots))


@pytest.mark.parametrize("outside", ["..", "faces/../../outside", "datasets: ../outside", "/"])
def test_nothing_outside_the_roots(outside: str, roots: list[Root]) -> None:
    """Catches a workflow of somebody else that reads any folder of the machine."""
    with pytest.raises(DatasetError, match="lies outside"):
        resolve_choice(outside, roots)


@pytest.mark.not_on_windows(reason="links need a privilege there")
def test_a_link_does_not_lead_out(roots: list[Root], tmp_path: Path) -> None:
    """Catches a folder that is inside by its name only."""
    (tmp_path / "input" / "link").symlink_to(tmp_path / "outside")
    assert "link" not in folder_choices(roots)
    with pytest.raises(DatasetError, match=r"is a link to .*outside, which lies outside .*name"):
        resolve_choice("link", roots)


@pytest.mark.not_on_windows(reason="links need a privilege there")
def test_a_link_to_an_allowed_folder_is_followed(roots: list[Root], tmp_path: Path) -> None:
    """Catches a refusal of what may be chosen anyway, and a loop that ends the host's start."""
    (tmp_path / "input" / "link").symlink_to(tmp_path / "more" / "faces")
    (tmp_path / "input" / "loop").symlink_to(tmp_path / "input" / "loop")
    assert folder_choices(roots) == [
        NOT_CHOSEN, "faces", "faces/wet", "link", "datasets: faces", ALL_OF_FIRST,
    ]  # fmt: skip
    assert resolve_choice("link", roots) == tmp_path / "more" / "faces"
    with pytest.raises(DatasetError, match="There is no folder 'loop'"):
        resolve_choice("loop", roots)


@pytest.mark.not_on_windows(reason="links need a privilege there")
def test_a_root_that_is_a_link_to_itself_offers_nothing(roots: list[Root], tmp_path: Path) -> None:
    """Catches a start of the host that one folder of extra_model_paths.yaml ends (Python 3.12)."""
    (tmp_path / "round").symlink_to(tmp_path / "round")
    with_loop = [*roots, ("round: ", tmp_path / "round")]
    assert folder_choices(with_loop) == folder_choices(roots)
    assert resolve_choice("faces", with_loop) == resolve_choice("faces", roots)
    with pytest.raises(DatasetError, match="There is no folder 'round: faces'"):
        resolve_choice("round: faces", with_loop)


@pytest.mark.parametrize("name", ["@eaDir", "#recycle", "$RECYCLE.BIN", ".thumbnails", "__MACOSX"])
def test_folders_of_the_system_are_not_offered(roots: list[Root], name: str) -> None:
    """Catches a NAS's small copies of the pictures in the list, or trained."""
    (roots[0][1] / "faces" / name / "SYNOFILE_THUMB_M.jpg").mkdir(parents=True)
    assert folder_choices(roots) == [
        NOT_CHOSEN, "faces", "faces/wet", "datasets: faces", ALL_OF_FIRST,
    ]  # fmt: skip
    for choice in (f"faces/{name}", f"faces/{name}/SYNOFILE_THUMB_M.jpg"):
        with pytest.raises(DatasetError, match="the system's own"):
            resolve_choice(choice, roots)


def test_a_workflow_of_a_mac_finds_its_folder(roots: list[Root]) -> None:
    """Catches two spellings of one name, é and e with an accent, as two folders."""
    (roots[0][1] / "cafe\u0301").mkdir()
    assert resolve_choice("caf\u00e9", roots).name == "cafe\u0301"


@pytest.mark.parametrize("missing", ["face", "datasets: wet", "a\0b"])
def test_a_missing_folder_is_one_sentence(missing: str, roots: list[Root]) -> None:
    """Catches a traceback for a folder that was renamed, and advice without a place."""
    with pytest.raises(DatasetError, match="There is no folder .* below .*input and") as caught:
        resolve_choice(missing, roots)
    assert "\n" not in str(caught.value)


def test_deep_and_many_folders_end(roots: list[Root]) -> None:
    """Catches a start of the host that walks a whole disk."""
    deepest = "/".join(["d"] * MAX_DEPTH)
    (roots[0][1] / deepest / "too deep").mkdir(parents=True)
    offered = folder_choices(roots)
    assert deepest in offered
    assert f"{deepest}/too deep" not in offered
    for number in range(MAX_CHOICES + 5):
        (roots[1][1] / f"{number}").mkdir()
    assert len(folder_choices(roots)) == MAX_CHOICES
