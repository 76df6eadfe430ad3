"""A real ComfyUI with this pack and the pocket checkpoints, started once for all tests here."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from glitch_demo.host import Host, link_or_copy
from glitch_train.comfyui.client import ComfyClient

sys.path[:0] = map(str, Path(__file__).parents[:2])  # for ``graphs`` and ``shortened``

from fewer_layers import place_smaller_sdxl  # noqa: E402

WINDOWS = Path(__file__).parents[1] / "helpers" / "windows_host"
POCKET_SD15 = "pocket_sd15.safetensors"

_shared: list[Host] = []
"""The shared host, while it runs."""


@pytest.fixture(scope="package")
def host(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Host]:
    """The pack in a real host, with a checkpoint of each family among its models.

    Windows' rules hold in its process as they do here, unless --windows-rules is off.
    """
    from glitch_demo.pocket import pocket_sd15  # imports torch: only where needed

    host = Host(tmp_path_factory.mktemp("host"), extra_args=("--preview-method", "latent2rgb"))
    checkpoints: Path = host.base_dir / "models" / "checkpoints"
    link_or_copy(pocket_sd15(), checkpoints / POCKET_SD15)
    place_smaller_sdxl(host)
    if request.config.getoption("--windows-rules") == "on":
        link_or_copy(WINDOWS, host.base_dir / "custom_nodes" / WINDOWS.name)
    with host:
        _shared.append(host)
        yield host
        _shared.remove(host)


@pytest.fixture
def room() -> None:
    """Have the shared host, if it runs, let its models go: others are about to start beside it."""
    for host in _shared:
        host.free_memory()


@pytest.fixture
def client(host: Host) -> Iterator[ComfyClient]:
    """A client of the host."""
    with ComfyClient(host.address) as client:
        yield client


@pytest.fixture(scope="package")
def bare_host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A host without this pack and without models, for tests of the host and client alone."""
    with Host(tmp_path_factory.mktemp("bare_host"), pack=None) as host:
        yield host


@pytest.fixture
def bare_client(bare_host: Host) -> Iterator[ComfyClient]:
    """A client of the bare host."""
    with ComfyClient(bare_host.address) as client:
        yield client
