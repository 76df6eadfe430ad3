"""Many runs on a Ray cluster: one per GPU, without a host.

Every run is a Ray task on a machine that has room for it, and must find the checkpoints and
pictures under the same paths as here, as on a shared disk. Where the folder for the results is
shared too, runs leave them there, and one whose machine is lost goes on from its last state on
another. Where it is not, they come back through Ray's object store, and only the same machine knows
the state.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import platform
import signal
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..cache import content_key
from ..errors import TrainingError
from ..files import write_text
from .hostless import Made, Order, made_before
from .ray_board import Board, Row, view
from .ray_work import Answer, Share, Task, brought, work

log = logging.getLogger(__name__)

TRIES = 4
"""How many workers may begin with a run: Ray itself knows no end where memory runs out."""

_GIVEN_UP = f"{TRIES} workers died of it; Ray's logs say more, and the same command tries again."

Watch = Callable[[list[str]], object]
"""Called now and then with a line on all runs and one on each."""


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What became of one order.

    Attributes:
        name: the order's.
        made: the files; None when the run failed.
        error: one sentence when the run failed, else empty.
        was_done: whether an earlier call had finished it already.
    """

    name: str
    made: Made | None = None
    error: str = ""
    was_done: bool = False


def run_all(
    orders: Sequence[Order],
    out: Path,
    *,
    share: Share | None = None,
    address: str | None = None,
    watch: Watch = lambda lines: None,
) -> Generator[RunResult, None, None]:
    """Do runs on a Ray cluster, as many at once as there is room for.

    What an earlier call with the same ``out`` finished is not done again, and what it left
    unfinished goes on from its last state. A run that fails does not stop the others; one whose
    worker dies is given to another. Closing the iterator cancels what is under way; each keeps its
    LoRA and state.

    Args:
        orders: each with an output_name of its own.
        out: where run folders and LoRA files go, as ``glitch_train train --out``.
        share: what one run gets; one GPU by default where the cluster has any, else one core.
        address: of the cluster, such as ``auto`` or ``ray://head:10001``; a Ray of its own on
            this machine by default.
        watch: sees how far the runs are, about once a second.

    Yields:
        One result for each order, in the order in which they end.

    Raises:
        TrainingError: when Ray is not installed or not reached, or two orders have one name.
        DiskError: when the disk does not take the results.
    """
    check_names(orders)
    out = Path(os.path.realpath(out))
    waiting = []
    for order in orders:
        before = made_before(order, out)
        if before:
            yield RunResult(order.name, before, was_done=True)
        else:
            waiting.append(order)
    if waiting:
        ray, started_here = _join(address)
        try:
            yield from _on_ray(ray, waiting, out, share, watch)
        finally:
            if started_here:
                ray.shutdown()


def _on_ray(
    ray: Any, orders: Sequence[Order], out: Path, share: Share | None, watch: Watch
) -> Iterator[RunResult]:
    share = share or Share(gpus=min(1.0, ray.cluster_resources().get("GPU", 0.0)))
    _check_room(ray, share)
    board = ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
    remote = ray.remote(num_gpus=share.gpus, num_cpus=share.cpus, max_retries=TRIES - 1)(work)
    node = platform.node()
    home = content_key(node, str(out))[:16]
    with _marked(out) as mark:
        under_way = {
            remote.remote(Task(order, out, mark, home, share, node), board): order
            for order in orders
        }
        known: dict[str, int] = {}
        try:
            while under_way:
                ended, _ = ray.wait(list(under_way), num_returns=1, timeout=1.0)
                for task in ended:
                    yield _result(ray, task, under_way.pop(task), out)
                rows = _rows(ray, board)
                _tell_deaths(rows, known)
                for task, order in list(under_way.items()):
                    if known.get(order.name, 0) > TRIES:
                        ray.cancel(task, force=True)
                        del under_way[task]
                        yield RunResult(order.name, error=_GIVEN_UP)
                watch(view(rows, {order.name: order for order in under_way.values()}, len(orders)))
        finally:
            for task in under_way:
                ray.cancel(task)
            if under_way:  # each saves what it has
                ray.wait(list(under_way), num_returns=len(under_way), timeout=60)


def _tell_deaths(rows: Mapping[str, Row], known: dict[str, int]) -> None:
    """Say of each run that another worker goes on with it; ``known`` is kept up to date."""
    for name, row in rows.items():
        if row.tries > known.get(name, 1):
            log.warning("%s: its worker died, another goes on from its last state.", name)
        known[name] = row.tries


@contextlib.contextmanager
def _marked(out: Path) -> Iterator[str]:
    """Put a file into a folder, by which they who share it know it again."""
    path = out / f".shared-{uuid.uuid4().hex}"
    write_text(path, "")
    try:
        yield path.name
    finally:
        path.unlink(missing_ok=True)


def _rows(ray: Any, board: Any) -> dict[str, Row]:
    """Return what the runs are doing; nothing while the board is moving to another machine."""
    try:
        rows: dict[str, Row] = ray.get(board.rows.remote(), timeout=5)
    except ray.exceptions.RayError:  # a timeout is one too
        return {}
    return rows


def _result(ray: Any, task: Any, order: Order, out: Path) -> RunResult:
    try:
        answer: Answer = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        last = str(error.cause or error).strip().splitlines()[-1]
        kind = f"{type(error.cause).__name__}: " if error.cause else ""
        return RunResult(order.name, error=f"{kind}{last}")
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        return RunResult(order.name, error=f"The run was lost with its process: {first}")
    if answer.error:
        return RunResult(order.name, error=answer.error)
    return RunResult(order.name, answer.made or brought(order, answer.files, out))


def check_names(orders: Sequence[Order]) -> None:
    """Refuse two orders of one name: they would go on with each other's run.

    Raises:
        TrainingError: names it.
    """
    names = [order.name for order in orders]
    folded = [name.casefold() for name in names]  # as some disks take them
    for name in names:
        if folded.count(name.casefold()) > 1:
            raise TrainingError(
                f"Two recipes have the output_name {name!r}; give each run a name of its own."
            )


def _check_room(ray: Any, share: Share) -> None:
    """Refuse a share that no machine can give: Ray would wait for one forever."""
    for kind, wanted in (("GPU", share.gpus), ("CPU", share.cpus)):
        largest = max(
            (node["Resources"].get(kind, 0.0) for node in ray.nodes() if node["Alive"]), default=0.0
        )
        if wanted > largest:
            raise TrainingError(
                f"A run wants {wanted:g} {kind}, and no machine of the Ray cluster has more than "
                f"{largest:g}; ask for less."
            )


def find_ray() -> Any:
    """Return Ray's module.

    Raises:
        TrainingError: it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise TrainingError(
            "The engine ray needs the package ray, which is not installed; run pip install ray."
        ) from error
    return ray


def _join(address: str | None) -> tuple[Any, bool]:
    """Return Ray, and whether it was started or joined here and is to be left again."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it reports to its makers
    ray = find_ray()
    if ray.is_initialized():
        return ray, False
    ends = signal.getsignal(signal.SIGTERM)
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise TrainingError(f"The Ray cluster {address!r} cannot be reached: {first}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ends)  # Ray's own would end the process without a word
    return ray, True
