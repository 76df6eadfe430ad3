"""A real ComfyUI as a context manager, for the demo and for the tests."""

import functools
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from glitch_demo.host_tree import HostError, host_tree

__all__ = ["PACK_NAME", "REPO_ROOT", "Host", "HostError", "host_tree"]

REPO_ROOT = Path(__file__).resolve().parents[2]
PACK_NAME = "glitching-the-gaze"
START_TIMEOUT_S = 600.0  # about 12 s on two idle cores; a busy machine needs many times that
STOP_TIMEOUT_S = 10.0
_HOST_PROCESS = Path(__file__).resolve().parent / "host_process.py"
_SHIM_FOLDER = Path(__file__).resolve().parent / "torchvision_shim"
_BASE_FOLDERS = (
    "custom_nodes",
    "input",
    "output",
    "temp",
    "user",
    *(
        f"models/{kind}"
        for kind in (
            "checkpoints",
            "clip",
            "clip_vision",
            "configs",
            "controlnet",
            "diffusion_models",
            "embeddings",
            "loras",
            "text_encoders",
            "unet",
            "upscale_models",
            "vae",
            "vae_approx",
        )
    ),
)
# What a copy of the pack leaves out, where the system has no symlinks: also what tools write there
# meanwhile.
_NOT_PART_OF_THE_PACK = shutil.ignore_patterns(
    ".*", "__pycache__", "tests", "*_output", "*.egg-info"
)
_PROBE = """
import json, torch
shim = False
if torch.version.cuda is None:
    try:
        import torchvision
    except RuntimeError as error:
        shim = "torchvision::nms does not exist" in str(error)
    except ImportError:
        pass
print(json.dumps({"cuda": torch.cuda.is_available(), "shim": shim}))
"""


class Host:
    """A running ComfyUI with this pack, on 127.0.0.1 and a free port.

    Used as a context manager; `start` and `stop` may also be called.
    """

    def __init__(
        self,
        base_dir: Path,
        *,
        pack: Path | None = REPO_ROOT,
        python: str = sys.executable,
        extra_args: Sequence[str] = (),
        log_path: Path | None = None,
        front_end_root: Path | None = None,
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        """Lay out the base folder; nothing runs yet.

        Args:
            base_dir: The host's own folder for models, input, output and custom nodes.
            pack: The node pack to put into custom_nodes, or None for a bare host.
            python: The interpreter that has ComfyUI's requirements.
            extra_args: More arguments for ComfyUI's main.py.
            log_path: Where the host's output goes; `base_dir/comfyui.log` by default.
            front_end_root: A front end's static folder, instead of the installed one.
            start_timeout_s: How long to wait for the first answer, in seconds.
        """
        self.base_dir = Path(base_dir).resolve()
        self.python = python
        self.extra_args = tuple(extra_args)
        self.log_path = Path(log_path) if log_path else self.base_dir / "comfyui.log"
        self.front_end_root = front_end_root
        self.start_timeout_s = start_timeout_s
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None
        for folder in _BASE_FOLDERS:
            (self.base_dir / folder).mkdir(parents=True, exist_ok=True)
        if pack is not None:
            link_or_copy(pack, self.base_dir / "custom_nodes" / PACK_NAME)

    def __enter__(self) -> "Host":
        """Start the host and wait until it answers."""
        self.start()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the host, whatever happened."""
        self.stop()

    @property
    def address(self) -> str:
        """Host and port, as `ComfyClient` takes them."""
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        """The address for a browser, without a slash at the end."""
        return f"http://{self.address}"

    @property
    def pid(self) -> int:
        """The process id of the host.

        Raises:
            HostError: It was never started.
        """
        if self._process is None:
            raise HostError("ComfyUI has not been started: call start() first.")
        return self._process.pid

    def is_alive(self) -> bool:
        """Return whether the host's process runs."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return everything the host has written so far."""
        if not self.log_path.exists():
            return ""
        return self.log_path.read_text("utf-8", errors="replace")

    def start(self) -> None:
        """Start the process and wait until it answers.

        Raises:
            HostError: It died or did not answer in time; the message ends with its last lines.
        """
        if self.is_alive():
            return
        tree = host_tree()
        self.port = _free_port()
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.log_path.open("wb") as log:
                self._process = subprocess.Popen(
                    self._command(tree),
                    cwd=tree,
                    env=host_environment(self.python),
                    stdin=subprocess.PIPE,  # stays open as long as this process lives
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,  # Ctrl-C in the terminal is ours to handle, not its
                )
            self._wait_until_it_answers()
        except BaseException:
            self.stop()
            raise

    def free_memory(self) -> None:
        """Have it let go of its models and results, as the button in its frontend does."""
        wish = json.dumps({"unload_models": True, "free_memory": True}).encode()
        header = {"Content-Type": "application/json"}
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/free", wish, header)).close()

    def stop(self) -> None:
        """End the host and everything it started; do nothing when it is not running."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            _signal_group(process, signal.SIGTERM)
            try:
                process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
        if hasattr(os, "killpg"):
            _signal_group(process, signal.SIGKILL)  # children that outlived their parent
        process.wait()
        _close_input(process)

    def kill(self) -> None:
        """End the host at once, without a chance to say goodbye, as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            _close_input(self._process)

    def _command(self, tree: Path) -> list[str]:
        command = [self.python, "-u", str(_HOST_PROCESS), str(tree / "main.py")]
        command += ["--listen", "127.0.0.1", "--port", str(self.port)]
        command += ["--base-directory", str(self.base_dir)]
        command += ["--disable-api-nodes", "--disable-auto-launch"]
        command += ["--database-url", "sqlite:///:memory:"]
        if not _probe(self.python)["cuda"]:
            command.append("--cpu")
        if self.front_end_root is not None:
            command += ["--front-end-root", str(self.front_end_root)]
        return [*command, *self.extra_args]

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + self.start_timeout_s
        while time.monotonic() < deadline:
            if not self.is_alive():
                code = self._process.returncode if self._process else None
                raise HostError(self._failure(f"ComfyUI ended with code {code} while starting"))
            if _answers(f"{self.url}/system_stats"):
                return
            time.sleep(0.2)
        waited = f"ComfyUI did not answer within {self.start_timeout_s:.0f} s"
        raise HostError(self._failure(waited))

    def _failure(self, what: str) -> str:
        tail = "\n".join(self.log().splitlines()[-25:])
        return f"{what}; the whole log is {self.log_path}, its last lines:\n{tail}"


def host_environment(python: str = sys.executable) -> dict[str, str]:
    """Return the environment variables for a process that imports ComfyUI's modules.

    Args:
        python: The interpreter that has ComfyUI's requirements.

    Raises:
        HostError: It cannot run ComfyUI.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"}
    if _probe(python)["shim"]:
        paths = [str(_SHIM_FOLDER), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    return environment


def link_or_copy(source: Path, target: Path) -> None:
    """Make `target` show `source`: a symlink, or a copy where symlinks cannot be made.

    Args:
        source: A file or folder.
        target: The path to make; what is there already is replaced.
    """
    if target.is_symlink() or target.is_file():
        target.unlink()
    elif target.is_dir():
        shutil.rmtree(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    source = source.resolve()
    try:
        target.symlink_to(source, target_is_directory=source.is_dir())
    except OSError:
        if source.is_dir():
            shutil.copytree(source, target, ignore=_NOT_PART_OF_THE_PACK)
        else:
            shutil.copy2(source, target)


@functools.cache
def _probe(python: str) -> dict[str, bool]:
    """Ask an interpreter whether its torch has a GPU, and whether torchvision needs the shim."""
    result = subprocess.run(
        [python, "-c", _PROBE], capture_output=True, encoding="utf-8", errors="replace", check=False
    )
    if result.returncode != 0:
        last = (result.stderr.strip().splitlines() or ["no message"])[-1]
        raise HostError(
            f"{python} cannot run ComfyUI ({last}): run `make env`, and start from its `.venv`."
        )
    answer: dict[str, bool] = json.loads(result.stdout.strip().splitlines()[-1])
    return answer


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(url: str) -> bool:
    # No proxy: the address is always on this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _close_input(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        process.stdin.close()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, number)  # its own session: the group has the process's id
        else:
            process.send_signal(number)
    except ProcessLookupError:
        pass
