"""kohya's folders: below one root, ``10_name`` holds pictures that an epoch has ten times each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

_NUMBERED = re.compile(r"(\d+)_(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class NumberedFolder:
    """A folder whose name says how often its pictures are seen.

    Attributes:
        name: its name.
        repeats: the number in front.
        words: what comes behind: the caption of pictures that have none.
    """

    name: str
    repeats: int
    words: str


def numbered_folders(subfolders: Iterable[str]) -> list[NumberedFolder]:
    """Return which folders are called as kohya's are; 0 repeats leave one out.

    Args:
        subfolders: names of the folders below a root.

    Source: kohya-ss/sd-scripts, library/config_util.py,
        generate_dreambooth_subsets_config_by_subdirs.
    """
    found = ((name, _NUMBERED.fullmatch(name)) for name in subfolders)
    folders = [NumberedFolder(name, int(m[1]), m[2].strip()) for name, m in found if m]
    return [folder for folder in folders if folder.repeats]
