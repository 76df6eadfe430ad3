"""Consoles of code pages that lack characters."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from windows_rules import windows_rules

from glitch_train.cli import main
from glitch_train.cli.console import let_consoles_print_all

NAME = "→ × · … ≥ é 漢"


def console(monkeypatch: pytest.MonkeyPatch, encoding: str) -> tuple[io.BytesIO, io.BytesIO]:
    """Return what stdout and stderr of a code page write to."""
    raw = io.BytesIO(), io.BytesIO()
    for name, buffer in zip(("stdout", "stderr"), raw, strict=True):
        stream = io.TextIOWrapper(buffer, encoding, write_through=True)
        monkeypatch.setattr(sys, name, stream)
    return raw


@pytest.mark.parametrize("encoding", ["cp437", "cp1252", "cp932", "ascii", "utf-8"])
def test_what_a_console_lacks(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    """Catches a UnicodeEncodeError, or a character replaced that the console has."""
    out, _ = console(monkeypatch, encoding)
    let_consoles_print_all()
    sys.stdout.write(NAME)
    said = out.getvalue().decode(encoding)
    assert said.replace("→", "->").startswith("->")
    for letter in NAME:
        if letter.encode(encoding, errors="ignore"):
            assert letter in said
    if encoding == "cp437":
        assert said == "-> x \xb7 ... ≥ é \\u6f22"


@pytest.mark.parametrize("encoding", ["cp437", "cp1252", "utf-8"])
def test_json_is_json_on_every_console(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    """Catches JSON that its reader cannot read, for it is no UTF-8."""
    recipe = tmp_path / "a.toml"
    recipe.write_text(f'[dataset]\ntrigger_word = "{NAME}"\n', encoding="utf-8")
    for options in (["--json"], []):
        out, err = console(monkeypatch, encoding)
        with windows_rules():
            assert main(["recipe", str(recipe), *options]) == 0, err.getvalue()
        said = json.loads(out.getvalue().decode("utf-8"))
        assert said["dataset"]["trigger_word"] == NAME


@pytest.mark.parametrize("encoding", ["cp437", "cp1252"])
@pytest.mark.parametrize("verb", [[], ["train"], ["verdict"], ["sweep"], ["transfer"]])
def test_help_and_errors(monkeypatch: pytest.MonkeyPatch, encoding: str, verb: list) -> None:
    """Catches a help text or an error that ends in a traceback."""
    out, err = console(monkeypatch, encoding)
    with pytest.raises(SystemExit) as ended:
        main([*verb, "--help"])
    assert ended.value.code == 0
    assert b"usage" in out.getvalue()
    assert main(["recipe", f"{NAME}.toml"]) == 1
    assert b"Cannot read the recipe" in err.getvalue()
