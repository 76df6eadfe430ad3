"""Which LoRA files a grid compares, chosen by name or pattern, and what they are called in it.

A host lists its files with the separator of its system, so ``\\`` and ``/`` mean the same here.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

from ..errors import GridError
from ..settings import nearest
from ..text_lists import names

NO_LORA = "none"
"""The choice of no file."""


def chosen_loras(
    lora_name: str, lora_names: str, known: Sequence[str], *, yet_to_come: bool = False
) -> list[str]:
    """Return the chosen files as the host calls them, each once.

    Args:
        lora_name: one file, or :data:`NO_LORA`.
        lora_names: files, with or without their suffix, and patterns, one a line.
        known: the files in models/loras.
        yet_to_come: whether a pattern may match nothing so far.

    Raises:
        GridError: for a name or a line that no file answers to.
    """
    first = [name for name in known if _slashed(name) == _slashed(lora_name)][:1]
    if not first and lora_name != NO_LORA:
        raise GridError(f"lora_name: models/loras has no {lora_name!r}{nearest(lora_name, known)}")
    found = [] if lora_name == NO_LORA else first
    for line in names(lora_names):
        matching = [name for name in known if _answers(name, line)]
        if not matching and not (yet_to_come and "*" in line):
            raise GridError(
                f"lora_names: no file in models/loras is called {line!r}{nearest(line, known)}"
            )
        found += matching
    return list(dict.fromkeys(found))


def shown_names(files: Sequence[str], taken: Collection[str]) -> list[str]:
    """Return what each file is called in the grid: its stem, or its whole name in case of doubt.

    Args:
        files: as :func:`chosen_loras` returns them.
        taken: names that stand for something else there.
    """
    stems = [PurePosixPath(_slashed(name)).stem for name in files]
    return [
        stem if stems.count(stem) == 1 and stem not in taken else name
        for name, stem in zip(files, stems, strict=True)
    ]


def _answers(name: str, line: str) -> bool:
    path, wanted = _slashed(name), _slashed(line)
    spellings = path, path.rpartition(".")[0]
    return wanted in spellings or any(fnmatch.fnmatchcase(one, wanted) for one in spellings)


def _slashed(name: str) -> str:
    return name.replace("\\", "/")
