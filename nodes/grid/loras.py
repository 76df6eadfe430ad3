"""The LoRAs of a grid: files by name or pattern, and what comes to its sockets."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import folder_paths

from ...glitch_train.grid.lora_names import NO_LORA, chosen_loras, shown_names
from ...glitch_train.grid.plan import BASE

MODEL_2 = "model_2"
"""The socket of an already patched model, which no LoRA may be called as."""


def known_files() -> list[str]:
    """Return the names of the files in models/loras."""
    found: list[str] = folder_paths.get_filename_list("loras")
    return found


def chosen(
    lora_name: str | None, lora_names: str | None, *, yet_to_come: bool = False
) -> list[str]:
    """Return the chosen files; what is linked is None, and counts as nothing.

    Args:
        lora_name: one of them, or :data:`NO_LORA`.
        lora_names: more, one a line, with patterns.
        yet_to_come: whether a pattern may stand for files that are still to be written.

    Raises:
        GridError: a file is not there.
    """
    return chosen_loras(
        lora_name or NO_LORA, lora_names or "", known_files(), yet_to_come=yet_to_come
    )


def check_files(lora_name: str | None, lora_names: str | None) -> None:
    """Refuse pickles, broken files and those that are not there.

    Raises:
        GlitchTrainError: says which.
    """
    from ...glitch_train.model.tensor_file import TensorFile

    # A pattern may stand for snapshots that a trainer of this graph is still to write.
    for name in chosen(lora_name, lora_names, yet_to_come=True):
        TensorFile(path_of(name))


def file_states(lora_name: str, lora_names: str) -> list[tuple[str, int, int]]:
    """Return each chosen file with its size and when it was changed."""
    states = [
        (name, path_of(name).stat()) for name in chosen(lora_name, lora_names, yet_to_come=True)
    ]
    return [(name, state.st_size, state.st_mtime_ns) for name, state in states]


def readers(files: Sequence[str], sockets: Mapping[str, Any]) -> dict[str, Callable[[], Any]]:
    """Return the name in the grid to what reads the LoRA; files are read when their turn comes."""
    shown_as = shown_names(files, taken=(BASE, MODEL_2))
    found: dict[str, Callable[[], Any]] = {
        shown: functools.partial(_read, name) for shown, name in zip(shown_as, files, strict=True)
    }
    for socket, lora in sockets.items():
        if lora is not None:
            shown = socket if socket not in found else f"{socket} (socket)"
            found[shown] = functools.partial(_given, lora)
    return found


def _read(name: str) -> Any:
    import comfy.utils

    return comfy.utils.load_torch_file(str(path_of(name)), safe_load=True)


def _given(lora: Any) -> Any:
    return lora


def path_of(name: str) -> Path:
    """Return where a file of models/loras is."""
    return Path(folder_paths.get_full_path_or_raise("loras", name))
