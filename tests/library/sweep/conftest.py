"""A Ray on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tiny_checkpoint import process_environment


@pytest.fixture(scope="module")
def two_workers() -> Iterator[Any]:
    """A Ray on this machine that runs two tasks at once.

    Its processes end with this one, also when it is killed: they ask Linux for that. Sockets have
    short paths, so the folder is no one of pytest's. Nobody is told that it ran.
    """
    ray = pytest.importorskip("ray", reason="Ray has no release for this system or Python")
    folder = tempfile.mkdtemp(prefix="glitch_ray_")
    os.mkdir(home := f"{folder}/home")
    wanted = {
        "PYTHONPATH": process_environment()["PYTHONPATH"],
        "HOME": home,
        "RAY_USAGE_STATS_ENABLED": "0",
        # A busy machine takes its time to import torch, in each worker.
        "RAY_worker_register_timeout_seconds": "600",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in wanted.items():
            patch.setenv(name, value)
        ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False,
                 object_store_memory=200 << 20, _temp_dir=folder)  # fmt: skip
        yield ray
        ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def workers_home(two_workers: Any) -> Path:
    """What the workers take for their home folder."""
    return Path(two_workers.get(two_workers.remote(lambda: str(Path.home())).remote()))
