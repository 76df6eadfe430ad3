"""Find out before a run that the disk would not hold what it writes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from .errors import DiskError
from .wording import size_text


def check_space(needs: Mapping[Path, int], advice: str) -> None:
    """Compare what would be written with what is free, disk by disk.

    Args:
        needs: folder to bytes that would be written below it; folders may not exist yet.
        advice: what to do when there is too little, in the imperative.

    Raises:
        DiskError: one sentence with both figures.
    """
    disks: dict[int, list[Path]] = {}
    for folder in needs:
        disks.setdefault(os.stat(nearest_existing(folder)).st_dev, []).append(folder)
    for folders in disks.values():
        needed = sum(needs[folder] for folder in folders)
        free = shutil.disk_usage(nearest_existing(folders[0])).free
        if needed > free:
            places = " and ".join(map(str, folders))
            raise DiskError(
                f"This run would write {size_text(needed)} to {places}, where {size_text(free)} "
                f"are free; {advice}."
            )


def nearest_existing(folder: Path) -> Path:
    """Return a folder, or what there is of the way to it."""
    return next(place for place in (folder, *folder.absolute().parents) if place.exists())
