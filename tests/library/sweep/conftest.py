"""A Ray on this machine."""

from __future__ import annotations

import pytest
from tiny_checkpoint import process_environment


@pytest.fixture(scope="module")
def two_workers():
    """A Ray on this machine that runs two tasks at once."""
    ray = pytest.importorskip("ray", reason="the ray engine needs pip install ray")
    environment = {"PYTHONPATH": process_environment()["PYTHONPATH"]}
    ray.init(num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False,
             runtime_env={"env_vars": environment})  # fmt: skip
    yield ray
    ray.shutdown()
