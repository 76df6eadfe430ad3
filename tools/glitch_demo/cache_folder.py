"""Where things that are made once and used by many runs are kept."""

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the cache folder, made if missing.

    Returns:
        `$GLITCH_CACHE` when set, else `$XDG_CACHE_HOME/glitching-the-gaze`,
        else `~/.cache/glitching-the-gaze`.
    """
    own = os.environ.get("GLITCH_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME")
    if own:
        folder = Path(own).expanduser()
    else:
        base = Path(shared).expanduser() if shared else Path.home() / ".cache"
        folder = base / "glitching-the-gaze"
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()
