"""Help pages and README say what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from glitch_train.cli.command import VERB_MODULES
from glitch_train.dataset.handling import DatasetHandling
from glitch_train.dataset.recipe import DatasetRecipe
from glitch_train.grid.plan import GridRecipe
from glitch_train.recipe.experiments import EXPERIMENTS
from glitch_train.recipe.train import TrainRecipe
from glitch_train.settings import declared

REPO = Path(__file__).parents[2]
MOST_BYTES = 90_000
"""Of a picture in a help page: the whole pack is downloaded with all of them."""
PAGES = ["README.md", *(f"docs/{path.name}" for path in sorted((REPO / "docs").glob("*.md")))]


READERS = {
    "GlitchLoraTrainer": TrainRecipe,
    "GlitchDatasetLoader": DatasetRecipe,
    "GlitchGrid": GridRecipe,
}
DOCS = REPO / "web" / "docs"


def pages_of_settings() -> dict[str, list[str]]:
    """Return every page of a node with settings, and the settings that lie on the node."""
    found: dict[str, list[str]] = {}
    for node, recipe in [*READERS.items(), ("", DatasetHandling)]:
        for name, (_, setting) in declared(recipe).items():
            words = setting.group.split()
            page = "".join(word[0].upper() + word[1:] for word in words) or node
            found.setdefault(page, []).append(name)
    return found


@pytest.mark.parametrize(("page", "settings"), pages_of_settings().items())
def test_a_help_page_names_every_setting(page: str, settings: list[str]) -> None:
    """Catches a setting that was added without a word in its help page."""
    text = (DOCS / f"{page}.md").read_text("utf-8")
    assert [name for name in settings if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("page", sorted(path.stem for path in DOCS.glob("*.md")))
def test_a_help_page_shows_the_node_and_what_it_does(page: str) -> None:
    """Catches a page of words alone, a picture that is not shipped, and pages of many megabytes."""
    text = (DOCS / f"{page}.md").read_text("utf-8")
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert pictures[:2] == [f"images/{page}.webp", f"images/{page}_effect.webp"]
    assert all((DOCS / picture).stat().st_size < MOST_BYTES for picture in pictures)


@pytest.mark.parametrize("page", sorted(path.name for path in DOCS.glob("*.md")))
def test_no_table_of_a_help_page_is_torn(page: str) -> None:
    """Catches a blank line in a table: what follows is shown as text full of strokes."""
    text = (DOCS / page).read_text("utf-8")
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    assert [table for table in tables if not re.search(r"^\|[-:| ]+\|$", table, re.MULTILINE)] == []


def test_the_recipes_page_names_every_preset() -> None:
    """Catches a preset that was added without a word in the help page."""
    text = (DOCS / "GlitchRecipe.md").read_text("utf-8")
    assert [one.title for one in EXPERIMENTS.values() if f"| {one.title} |" not in text] == []


def test_the_architecture_has_a_line_for_every_room() -> None:
    """Catches a package at the library's top that the map does not show, or the reverse."""
    text = (REPO / "docs" / "architecture.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?`) \|", text.split("## Tests")[0], re.MULTILINE)
    told = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    library = REPO / "glitch_train"
    there = {path.stem for path in library.iterdir() if not path.stem.startswith("_")}
    assert told == there


def test_readme_names_every_verb() -> None:
    """Catches a command-line verb that nobody is told about."""
    text = (REPO / "README.md").read_text("utf-8")
    assert [verb for verb in VERB_MODULES if f"`{verb}" not in text] == []


def test_readme_links_lead_somewhere() -> None:
    """Catches a picture or page that README promises and the repository lacks."""
    text = (REPO / "README.md").read_text("utf-8")
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    assert [link for link in links if not (REPO / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_files_that_pages_name_are_there(page: str) -> None:
    """Catches a page that still names a file by where it lay before it was moved."""
    text = (REPO / page).read_text("utf-8")
    named = re.findall(
        r"`((?:docs|glitch_train|nodes|tests|tools|web|workflows)/[\w/]+\.\w+)`", text
    )
    assert [path for path in named if not (REPO / path).exists()] == []


def test_the_oldest_host_is_the_one_that_is_claimed() -> None:
    """Catches a registry entry that promises a ComfyUI which the page of hosts does not name."""
    entry = (REPO / "pyproject.toml").read_text("utf-8")
    (claimed,) = re.findall(r'^requires-comfyui = ">=([\d.]+)"', entry, re.MULTILINE)
    page = (REPO / "docs" / "hosts.md").read_text("utf-8")
    tried = re.findall(r"^\| (\d+\.\d+\.\d+) \|", page, re.MULTILINE)
    assert min(tried, key=lambda version: [int(part) for part in version.split(".")]) == claimed
