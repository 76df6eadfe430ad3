"""The pack in a real host: it loads, and the Host class tells what goes wrong."""

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from glitch_demo.host import PACK_NAME, Host, HostError, host_tree

pytestmark = pytest.mark.host

_STARTS_A_CHILD = """
import pathlib, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(86400)"])
(pathlib.Path(__file__).parents[2] / "child.pid").write_text(str(child.pid))
NODE_CLASS_MAPPINGS = {}
"""
_STARTS_A_HOST = """
import pathlib, sys, time
from glitch_demo.host import Host
with Host(pathlib.Path(sys.argv[1]), pack=None) as host:
    print(host.pid, flush=True)
    time.sleep(86400)
"""
_IMPORT_LINE = re.compile(rf"^[^:\n]*?[0-9.]+ seconds(.*): .*[/\\]{PACK_NAME}$", re.MULTILINE)


def test_the_pack_loads(host: Host) -> None:
    """Catches a pack that fails to load; what loading costs is looked at in tests/nodes."""
    found = _IMPORT_LINE.search(host.log())
    assert found, "ComfyUI's log has no import time for the pack"
    assert "FAILED" not in found[1]


def test_the_log_has_no_complaint_about_the_pack(host: Host) -> None:
    """Catches nodes that are skipped, and web folders that cannot be registered."""
    complaints = ("error", "warning", "skip", "cannot", "failed")
    start = host.log().partition("got prompt")[0]  # later lines belong to other tests' errors
    assert PACK_NAME in start
    for line in start.splitlines():
        if re.search(rf"custom_nodes[/\\]{PACK_NAME}", line):
            assert not any(word in line.lower() for word in complaints), line


def test_a_host_that_dies_shows_the_end_of_its_log(tmp_path: Path) -> None:
    """Catches a start that waits for its time limit although the process is gone."""
    host = Host(tmp_path, pack=None, extra_args=("--no-such-option",), start_timeout_s=120)
    with pytest.raises(HostError, match=r"(?s)ended with code 2.*--no-such-option"):
        host.start()
    assert not host.is_alive()


def test_comfyui_path_without_comfyui(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Catches a wrong COMFYUI_PATH that fails only later, inside a subprocess."""
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(HostError, match="must be a ComfyUI folder with a main.py"):
        host_tree()


def test_stop_leaves_no_process(tmp_path: Path) -> None:
    """Catches a host that goes on running after its context has ended."""
    with Host(tmp_path, pack=None) as host:
        assert host.is_alive()
    assert not host.is_alive()
    host.stop()  # twice is fine


def test_a_host_ends_with_a_process_that_is_killed(tmp_path: Path) -> None:
    """Catches a host, and what it started, that go on when a run of the tests was killed."""
    pack = tmp_path / "custom_nodes" / "starts_a_child"
    pack.mkdir(parents=True)
    (pack / "__init__.py").write_text(_STARTS_A_CHILD)
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTS_A_HOST, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    left = []
    try:
        host, child = starter.stdout.readline(), (tmp_path / "child.pid").read_text()
        left = [psutil.Process(int(pid)) for pid in (host, child)]
        assert all(_lives(process) for process in left)
        starter.kill()
        starter.wait()
        while any(_lives(process) for process in left):
            time.sleep(0.05)
    finally:
        starter.kill()
        starter.wait()
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def _lives(process: psutil.Process) -> bool:
    """Return whether it runs; one that ended may stay listed where nobody waits for it."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return process.status() != psutil.STATUS_ZOMBIE
    return False
