"""Runs a matrix of experiments on a ComfyUI, and goes on where it stopped."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..comfyui.client import ComfyClient
from ..comfyui.errors import ServerLost, ServerUnreachable
from ..comfyui.graph import nodes_of
from ..comfyui.our_nodes import TRAINER
from ..comfyui.run import Listener, ctrl_c_held_back, run_workflow
from ..errors import DiskError, GlitchTrainError, ReportError
from .matrix import read_run
from .plan import Job
from .results import Planned, collect, read_done

log = logging.getLogger(__name__)


AnyJob = TypeVar("AnyJob", bound=Planned)
ListenerOf = Callable[[Job], contextlib.AbstractContextManager[Listener]]


@dataclasses.dataclass
class SweepOutcome:
    """What became of a sweep.

    Attributes:
        done: names of the runs that were done now.
        kept: names of those that were complete before.
        changed: names of those that were complete with other settings, and had to run again.
        failed: name to sentence.
        left_out: one sentence for each experiment that the engine cannot do.
        interrupted: whether Ctrl-C ended it.
        stopped: why it ended before its last run, otherwise; empty when it did not.
    """

    done: list[str] = dataclasses.field(default_factory=list)
    kept: list[str] = dataclasses.field(default_factory=list)
    changed: list[str] = dataclasses.field(default_factory=list)
    failed: dict[str, str] = dataclasses.field(default_factory=dict)
    left_out: list[str] = dataclasses.field(default_factory=list)
    interrupted: bool = False
    stopped: str = ""

    def fail(self, name: str, why: str) -> None:
        """Note that a run failed, or that what it left cannot be used."""
        if self.failed.get(name) != why:
            log.info("%s failed: %s", name, why)
        self.failed[name] = why
        self.done, self.kept = ([n for n in names if n != name] for names in (self.done, self.kept))

    @property
    def error(self) -> str:
        """One sentence on what did not work, or empty."""
        if self.stopped:
            return self.stopped
        if not self.failed:
            return ""
        name, why = next(iter(self.failed.items()))
        others = len(self.failed) - 1
        more = f" (and {others} more run{'s' if others > 1 else ''} failed)" if others else ""
        return f"{name} failed: {why}{more}"


def run_sweep(
    client: ComfyClient,
    jobs: Sequence[Job],
    listener_of: ListenerOf,
    after_each: Callable[[], object],
    object_info: Mapping[str, Any] | None = None,
) -> SweepOutcome:
    """Do the runs that are missing; a run that fails does not stop the others.

    Args:
        client: of the host.
        jobs: all runs.
        listener_of: opens what shows the events of a run.
        after_each: called when a run's results are there.
        object_info: the host's description of its nodes.

    Raises:
        DiskError: the disk does not take the results.
    """
    outcome = SweepOutcome()
    missing = missing_runs(jobs, outcome)
    begun, steps = time.monotonic(), [_steps(job) for job in missing]
    for number, job in enumerate(missing, 1):
        log.info("Run %d of %d: %s", number, len(missing), job.name)
        try:
            _run(client, job, listener_of, object_info, outcome)
            if job.name in outcome.done:
                with ctrl_c_held_back():
                    after_each()
                if left := sum(steps[number:]):
                    seconds = (time.monotonic() - begun) * left / sum(steps[:number])
                    log.info("About %d min to go, by the steps.", math.ceil(seconds / 60))
        except KeyboardInterrupt:
            outcome.interrupted = True
        if outcome.interrupted or outcome.stopped:
            break
    return outcome


def _steps(job: Job) -> int:
    """Return how many steps a run trains, and its pictures as one more."""
    trainers = nodes_of(job.graph, TRAINER.node_id)
    counts = [job.graph[node]["inputs"].get("steps") for node in trainers]
    return 1 + sum(count for count in counts if isinstance(count, int))


def missing_runs(jobs: Sequence[AnyJob], outcome: SweepOutcome) -> list[AnyJob]:
    """Return the runs whose results are not there; what is known of the others is noted.

    Args:
        jobs: all runs.
        outcome: is told what is there, and what ran with other settings.
    """
    missing = []
    for job in jobs:
        done = read_done(job.folder)
        if done is not None and done["key"] == job.key:
            try:
                read_run(job.folder, job.seed)
            except ReportError as error:
                outcome.fail(job.name, str(error))
            else:
                outcome.kept.append(job.name)
            continue
        if done is not None:
            outcome.changed.append(job.name)
            log.info("%s has other settings now than when it was run: it runs again.", job.name)
        missing.append(job)
    if outcome.kept:
        log.info("%d of %d runs are there already.", len(outcome.kept), len(jobs))
    return missing


def _run(
    client: ComfyClient,
    job: Job,
    listener_of: ListenerOf,
    object_info: Mapping[str, Any] | None,
    outcome: SweepOutcome,
) -> None:
    """Do one run, and note what became of it."""
    try:
        with listener_of(job) as listener:
            run = run_workflow(
                client,
                job.graph,
                listener,
                on_stop=lambda: log.info("Stopping %s on the host; finished runs stay.", job.name),
                object_info=object_info,
            )
        if run.interrupted:
            outcome.interrupted = True
        elif run.error is not None:
            outcome.fail(job.name, str(run.error))
        else:
            with ctrl_c_held_back():
                collect(client, job, run.outputs)
                read_run(job.folder, job.seed)
                outcome.done.append(job.name)
    except (ServerLost, ServerUnreachable) as error:
        outcome.stopped = str(error)
    except DiskError:
        raise
    except GlitchTrainError as error:
        outcome.fail(job.name, str(error))
