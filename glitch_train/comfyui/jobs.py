"""What a ComfyUI knows of a workflow: by its jobs, or by queue and history where it has none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .errors import RequestRefused
from .http import ComfyHttp

# comfy_execution/jobs.py of ComfyUI: the states of a job that has not ended.
_WAITING = ("pending", "in_progress")
# server.py: what a host with jobs answers to an unknown one; without, the path itself is unknown.
_NO_SUCH_JOB = b"Job not found"
_NO_SUCH_ROUTE = (404, 405)


@dataclass(frozen=True)
class Ending:
    """How a workflow ended.

    Attributes:
        outputs: what each node showed, by node id.
        messages: the host's last messages, each a name and its content.
        has_failed: whether it ended with an error.
        is_known: false for one that was taken out of the queue, of which the host keeps nothing.
    """

    outputs: Mapping[str, dict[str, Any]]
    messages: Sequence[tuple[str, dict[str, Any]]] = ()
    has_failed: bool = False
    is_known: bool = True


def ending(http: ComfyHttp, prompt_id: str) -> Ending | None:
    """Return how a workflow ended, or None while it waits or runs.

    Args:
        http: The host.
        prompt_id: Of the workflow.
    """
    try:
        job = http.get_json(f"/api/jobs/{prompt_id}")
    except RequestRefused as error:
        if error.status not in _NO_SUCH_ROUTE:
            raise
        if _NO_SUCH_JOB in error.body:
            return Ending({}, is_known=False)
        return _ending_in_history(http, prompt_id)
    if job.get("status") in _WAITING:
        return None
    return _ending(job.get("outputs"), job.get("execution_status"))


def cancel(http: ComfyHttp, prompt_id: str) -> None:
    """Stop a workflow, also when it still waits; nothing else, should it have ended meanwhile.

    Args:
        http: The host.
        prompt_id: Of the workflow.
    """
    try:
        http.post_json(f"/api/jobs/{prompt_id}/cancel", {})
    except RequestRefused as error:
        if error.status not in _NO_SUCH_ROUTE:
            raise
        http.post_json("/queue", {"delete": [prompt_id]})
        http.post_json("/interrupt", {"prompt_id": prompt_id})


def is_queued(http: ComfyHttp, prompt_id: str | None) -> bool:
    """Return whether a workflow waits or runs.

    Args:
        http: The host.
        prompt_id: Of the workflow; None for any at all.
    """
    queue = http.get_json("/queue")
    items = [*queue.get("queue_running", ()), *queue.get("queue_pending", ())]
    return any(prompt_id in (None, item[1]) for item in items)


def history(http: ComfyHttp, prompt_id: str) -> dict[str, Any] | None:
    """Return the host's record of a workflow that has ended, or None when it has not.

    Args:
        http: The host.
        prompt_id: Of the workflow.
    """
    entry: dict[str, Any] | None = http.get_json(f"/history/{prompt_id}").get(prompt_id)
    return entry


def _ending_in_history(http: ComfyHttp, prompt_id: str) -> Ending | None:
    entry = history(http, prompt_id)
    if entry is None and not is_queued(http, prompt_id):
        entry = history(http, prompt_id)  # it may have ended between two questions
        if entry is None:
            return Ending({}, is_known=False)
    return _ending(entry.get("outputs"), entry.get("status")) if entry else None


def _ending(outputs: Any, status: Any) -> Ending:
    status = status or {}
    return Ending(outputs or {}, status.get("messages", ()), status.get("status_str") == "error")
