"""Pictures for whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from runs import write_pictures


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one without a caption, one with a long one."""
    return write_pictures(tmp_path)
