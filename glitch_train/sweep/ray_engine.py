"""Many recipes on a Ray cluster: one run per GPU, without a host.

Every run is a Ray task on a machine that has room for it. A machine must see the checkpoints, the
pictures and the folder for the results under the same paths, as on a shared disk.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..errors import GlitchTrainError, TrainingError
from ..files import read_object, write_text
from ..recipe.recipe import Recipe

DONE = "done.json"
"""Written into a run's folder when it has come to its end."""


@dataclasses.dataclass(frozen=True)
class Share:
    """What one run gets of a machine.

    Attributes:
        gpus: GPUs; 0 trains on the CPU, a fraction shares one.
        cpus: cores, which are also the threads that a run on the CPU uses.
    """

    gpus: float = 1.0
    cpus: int = 1


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What became of one recipe.

    Attributes:
        name: the recipe's output_name.
        lora: the LoRA; None when the run failed.
        losses: its record as CSV; None when the run failed.
        error: one sentence when the run failed, else empty.
        was_done: whether an earlier call had finished it already.
    """

    name: str
    lora: Path | None = None
    losses: Path | None = None
    error: str = ""
    was_done: bool = False


def run_all(
    recipes: Sequence[Recipe], out: Path, *, share: Share | None = None, address: str | None = None
) -> Generator[RunResult, None, None]:
    """Train recipes on a Ray cluster, as many at once as there is room for.

    What an earlier call with the same ``out`` finished is not trained again, and what it left
    unfinished goes on from its last state. A run that fails does not stop the others. Closing the
    iterator cancels what is under way; each keeps its LoRA and state.

    Args:
        recipes: each with a checkpoint, a folder and an output_name of its own.
        out: where run folders and LoRA files go, as ``glitch_train train --out``.
        share: what one run gets; one GPU by default where the cluster has any, else one core.
        address: of the cluster, such as ``auto`` or ``ray://head:10001``; a Ray of its own on
            this machine by default.

    Yields:
        One result for each recipe, in the order in which they end.

    Raises:
        TrainingError: when Ray is not installed or not reached, or two recipes have one name.
    """
    check_names(recipes)
    out = Path(os.path.realpath(out))
    waiting = []
    for recipe in recipes:
        before = _finished(recipe, out)
        if before:
            yield before
        else:
            waiting.append(recipe)
    if waiting:
        yield from _on_ray(waiting, out, share, address)


def _on_ray(
    recipes: Sequence[Recipe], out: Path, share: Share | None, address: str | None
) -> Iterator[RunResult]:
    ray, started_here = _join(address)
    try:
        share = share or Share(gpus=min(1.0, ray.cluster_resources().get("GPU", 0.0)))
        _check_room(ray, share)
        train = ray.remote(num_gpus=share.gpus, num_cpus=share.cpus, max_retries=0)(_train)
        under_way = {train.remote(recipe.to_dict(), str(out), share): recipe for recipe in recipes}
        try:
            while under_way:
                (task,), _ = ray.wait(list(under_way), num_returns=1)
                yield _result(ray, task, under_way.pop(task), out)
        finally:
            for task in under_way:
                ray.cancel(task)
            if under_way:  # each saves what it has
                ray.wait(list(under_way), num_returns=len(under_way), timeout=60)
    finally:
        if started_here:
            ray.shutdown()


def _train(recipe: dict[str, Any], out: str, share: Share) -> dict[str, str]:
    """Do one run; this is what a machine of the cluster is sent."""
    import contextlib

    import torch

    from ..training.run.standalone import prepare_run
    from ..training.run.stop_signal import StopSignal

    if not share.gpus:
        torch.set_num_threads(share.cpus)
    device = "cuda" if share.gpus else "cpu"
    run = prepare_run(Recipe.from_dict(recipe), Path(out), device=device)
    with StopSignal() as stop, contextlib.closing(run.events()) as events:  # how Ray cancels
        for _ in events:
            if stop.asked:
                raise TrainingError(f"{run.paths.name} was cancelled.")
    done = {"lora": str(run.lora_path), "losses": str(run.paths.losses)}
    write_text(run.paths.folder / DONE, json.dumps({"recipe": recipe, **done}))
    return done


def _result(ray: Any, task: Any, recipe: Recipe, out: Path) -> RunResult:
    name = recipe.train.output_name
    try:
        done = ray.get(task)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, GlitchTrainError):
            return RunResult(name, error=str(cause))
        first = str(cause).strip().split("\n")[0]
        return RunResult(name, error=f"{type(cause).__name__}: {first}")
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[0]
        return RunResult(name, error=f"The run was lost with its process: {first}")
    return RunResult(name, Path(done["lora"]), Path(done["losses"]))


def _finished(recipe: Recipe, out: Path) -> RunResult | None:
    """Return the result of an earlier run of the very same recipe, if it came to its end."""
    import glob

    for path in sorted(out.glob(f"{glob.escape(recipe.train.output_name)}_[0-9]*/{DONE}")):
        done = read_object(path)
        files = all(isinstance(done.get(one), str) for one in ("lora", "losses"))
        if files and done.get("recipe") == recipe.to_dict() and Path(done["lora"]).is_file():
            name = recipe.train.output_name
            return RunResult(name, Path(done["lora"]), Path(done["losses"]), was_done=True)
    return None


def check_names(recipes: Sequence[Recipe]) -> None:
    """Refuse two recipes of one name: they would go on with each other's run.

    Raises:
        TrainingError: names it.
    """
    names = [recipe.train.output_name for recipe in recipes]
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
    ray = find_ray()
    if ray.is_initialized():
        return ray, False
    try:
        if address is None:
            ray.init(address="local", include_dashboard=False, log_to_driver=False)
        else:
            ray.init(address=address, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        first = str(error).strip().splitlines()[0]
        raise TrainingError(f"The Ray cluster {address!r} cannot be reached: {first}") from error
    return ray, True
