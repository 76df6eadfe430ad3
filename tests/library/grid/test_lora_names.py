"""Which LoRAs a grid compares: names, patterns and separators of both systems."""

from __future__ import annotations

import pytest

from glitch_train.errors import GridError
from glitch_train.grid.lora_names import NO_LORA, chosen_loras, shown_names

LINUX = [
    "faces.safetensors",
    "glitch/run_1.safetensors",
    "glitch/run_10.safetensors",
    "glitch/run_2.v2.safetensors",
    "old/faces.safetensors",
]
WINDOWS = [name.replace("/", "\\") for name in LINUX]


@pytest.mark.parametrize(
    ("lora_name", "lora_names", "places"),
    [
        (NO_LORA, "", []),
        ("old/faces.safetensors", "", [4]),
        (NO_LORA, "faces", [0]),
        (NO_LORA, "faces.safetensors\n\n  glitch/run_1  ", [0, 1]),
        (NO_LORA, "glitch/run_2.v2", [3]),
        (NO_LORA, "glitch/run_*", [1, 2, 3]),
        (NO_LORA, "glitch/run_?", [1]),
        (NO_LORA, "*faces*", [0, 4]),
        (NO_LORA, "*/run_1[0-9].safetensors", [2]),
        ("glitch/run_1.safetensors", "old/*\nglitch/run_1*\nold/faces", [1, 4, 2]),
    ],
)
@pytest.mark.parametrize("known", [LINUX, WINDOWS], ids=["Linux", "Windows"])
@pytest.mark.parametrize("separator", ["/", "\\"])
def test_names_and_patterns(
    lora_name: str, lora_names: str, places: list[int], known: list[str], separator: str
) -> None:
    """Catches a file missed for its separator or suffix, one taken twice, and another order."""
    written = (text.replace("/", separator) for text in (lora_name, lora_names))
    assert chosen_loras(*written, known) == [known[place] for place in places]


@pytest.mark.parametrize("known", [LINUX, WINDOWS], ids=["Linux", "Windows"])
@pytest.mark.parametrize(
    ("lora_name", "lora_names", "said"),
    [
        ("facs.safetensors", "", "lora_name: models/loras has no 'facs.safetensors'; did you mean"),
        ("faces", "", "lora_name: models/loras has no 'faces'"),  # a combo has whole names
        (NO_LORA, "facez.safetensors", "is called 'facez.safetensors'; did you mean 'faces.safe"),
        (NO_LORA, "Faces", "lora_names: no file in models/loras is called 'Faces'"),
        (NO_LORA, "glitch/run_7*", r"lora_names: no file in models/loras is called 'glitch/run_7"),
        (NO_LORA, "run_1", "lora_names: no file in models/loras is called 'run_1'"),
    ],
)
def test_what_no_file_answers_to(
    lora_name: str, lora_names: str, said: str, known: list[str]
) -> None:
    """Catches a slip that leaves a LoRA out of the grid without a word."""
    with pytest.raises(GridError, match=said) as caught:
        chosen_loras(lora_name, lora_names, known)
    assert "\n" not in str(caught.value)


def test_a_pattern_may_be_early_but_a_name_may_not() -> None:
    """Catches a graph refused for snapshots that its own trainer writes, or a name never found."""
    assert chosen_loras(NO_LORA, "new/*_step*\nfaces", LINUX, yet_to_come=True) == [LINUX[0]]
    with pytest.raises(GridError, match="is called 'new/it'"):
        chosen_loras(NO_LORA, "new/it", LINUX, yet_to_come=True)


def test_a_host_without_files() -> None:
    """Catches a grid of the base alone that needs a LoRA to be there."""
    assert chosen_loras(NO_LORA, "", []) == []


@pytest.mark.parametrize("files", [LINUX, WINDOWS], ids=["Linux", "Windows"])
def test_short_names_unless_two_are_alike(files: list[str]) -> None:
    """Catches two rows of one name, and a LoRA that is taken for the base."""
    chosen = [*files[:2], files[4], "base.safetensors"]
    assert shown_names(chosen, ["base"]) == [files[0], "run_1", files[4], "base.safetensors"]
    assert shown_names(files[2:4], []) == ["run_10", "run_2.v2"]


@pytest.mark.parametrize(
    ("chosen", "listed", "said"),
    [
        ("a_1.safetensors", "", "models/loras has no 'a_1.safetensors'"),
        (NO_LORA, "a_1.safetensors", "no file in models/loras is called 'a_1.safetensors'"),
        (NO_LORA, "b", "no file in models/loras is called 'b'"),
    ],
)
def test_an_unknown_lora_offers_the_nearest(chosen: str, listed: str, said: str) -> None:
    """Catches a missing file told without the one that was meant, or with two stops."""
    end = r"\." if listed == "b" else r"; did you mean 'a_0001.safetensors'\?"
    with pytest.raises(GridError, match=f"{said}{end}$"):
        chosen_loras(chosen, listed, ["a_0001.safetensors"])
