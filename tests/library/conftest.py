"""A tiny checkpoint, and a recipe with its pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import picture
from tiny_checkpoint import write_tiny_checkpoint
from train_verb import RECIPE


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny SD1.5."""
    return write_tiny_checkpoint(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A recipe and three pictures."""
    (tmp_path / "recipe.toml").write_text(RECIPE)
    (tmp_path / "pictures").mkdir()
    for name, colour in [("a", "red"), ("b", "green"), ("c", "blue")]:
        picture(tmp_path / "pictures" / f"{name}.png", colour=colour)
        (tmp_path / "pictures" / f"{name}.txt").write_text(f"a {colour} square")
    return tmp_path
