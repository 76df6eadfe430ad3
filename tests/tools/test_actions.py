"""The workflow of GitHub Actions does what ``make check`` does, on systems without make."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

REPO = Path(__file__).parents[2]


def test_the_fast_tier_is_make_check() -> None:
    """Catches a check that was added to one of the two only."""
    text = (REPO / ".github" / "workflows" / "fast.yml").read_text("utf-8")
    job = yaml.safe_load(text)["jobs"]["fast"]
    assert {"windows-latest", "macos-latest", "ubuntu-latest"} == set(
        job["strategy"]["matrix"]["os"]
    )
    done = "\n".join(step.get("run", "") for step in job["steps"])
    makefile = (REPO / "Makefile").read_text("utf-8")
    recipe = re.search(r"^check: env\n((?:\t.*\n)+)", makefile, re.MULTILINE)[1]
    for command in recipe.strip().split("\n"):
        plain = command.strip().replace("$(TEST)", "-m pytest -n 2").split("/bin/")[-1]
        assert plain.removeprefix("$(RUN) ") in done
