"""The API client against a real host: what it tells, and in which words it fails."""

from pathlib import Path
from typing import Any

import pytest

from glitch_demo.host import Host
from glitch_train.comfyui.client import ComfyClient
from glitch_train.comfyui.errors import (
    PromptRejected,
    RequestRefused,
    RunFailed,
    RunInterrupted,
    ServerLost,
    ServerUnreachable,
)
from glitch_train.comfyui.events import (
    Cached,
    Event,
    Executed,
    Executing,
    Failed,
    Finished,
    Interrupted,
    Preview,
    Progress,
    Started,
)

pytestmark = pytest.mark.host

Graph = dict[str, dict[str, Any]]


def _picture(color: int) -> Graph:
    """A small workflow of stock nodes that saves one picture."""
    size = {"width": 64, "height": 64, "batch_size": 1}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {**size, "color": color}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


def _slow_picture(color: int, blurs: int = 60) -> Graph:
    """A workflow that takes minutes: stock nodes, one after another, half a second each."""
    size = {"width": 1024, "height": 1024, "batch_size": 1}
    graph: Graph = {"0": {"class_type": "EmptyImage", "inputs": {**size, "color": color}}}
    for number in range(1, blurs + 1):
        inputs = {"image": [str(number - 1), 0], "blur_radius": 31, "sigma": 10.0}
        graph[str(number)] = {"class_type": "ImageBlur", "inputs": inputs}
    graph["end"] = {"class_type": "PreviewImage", "inputs": {"images": [str(blurs), 0]}}
    return graph


def test_events_from_start_to_end(bare_client: ComfyClient) -> None:
    """Catches a lost message: order, outputs and end are all told."""
    events = list(bare_client.events(bare_client.queue(_picture(1))))
    assert isinstance(events[0], Started)
    assert isinstance(events[1], Cached)
    assert [event.node for event in events if isinstance(event, Executing)] == ["1", "2"]
    assert isinstance(events[-1], Finished)


def test_outputs_can_be_downloaded(bare_client: ComfyClient) -> None:
    """Catches outputs that are not the ones of this run, or a wrong query."""
    outputs = bare_client.run(_picture(2))
    (image,) = outputs["2"]["images"]
    assert bare_client.download(**image).startswith(b"\x89PNG")


def test_a_cached_run_has_outputs_too(bare_client: ComfyClient) -> None:
    """Catches a client that returns nothing when the host had everything in its cache."""
    first = bare_client.run(_picture(3))
    assert bare_client.run(_picture(3))["2"] == first["2"]


def test_only_the_own_workflow_counts(bare_client: ComfyClient) -> None:
    """Catches events of one workflow told as those of another, and events lost meanwhile."""
    ids = [bare_client.queue(_picture(color)) for color in (4, 5, 6)]
    for prompt_id in reversed(ids):
        events = list(bare_client.events(prompt_id))
        assert sum(isinstance(event, Finished) for event in events) == 1
        assert sum(isinstance(event, Executed) for event in events) == 1


def test_a_workflow_that_is_not_followed(bare_client: ComfyClient) -> None:
    """Catches a wait without end when there is no connection to hear the end on."""
    prompt_id = bare_client.queue(_picture(7), follow=False)
    events = list(bare_client.events(prompt_id))
    assert [type(event) for event in events] == [Executed, Finished]


def test_an_unknown_node_class(bare_client: ComfyClient) -> None:
    """Catches a rejection that does not say which class; newer hosts speak of the title alone."""
    graph = {"1": {"class_type": "NoSuchNode", "inputs": {}, "_meta": {"title": "Mine"}}}
    with pytest.raises(PromptRejected, match="node NoSuchNode"):
        bare_client.queue(graph)


def test_a_rejected_input_is_named(bare_client: ComfyClient) -> None:
    """Catches a rejection that does not say which input of which node."""
    graph = _picture(8)
    graph["1"]["inputs"]["width"] = 0
    graph["1"]["_meta"] = {"title": "The canvas"}
    with pytest.raises(PromptRejected) as caught:
        bare_client.queue(graph)
    assert str(caught.value) == (
        'ComfyUI does not accept the workflow: node 1 "The canvas", input width: '
        "value 0 smaller than min of 1."
    )
    assert set(caught.value.node_errors) == {"1"}


def test_a_failing_node_speaks_for_itself(bare_client: ComfyClient, bare_host: Host) -> None:
    """Catches a failure told without the node's own message."""
    broken = bare_host.base_dir / "input" / "not a picture.png"
    broken.parent.mkdir(exist_ok=True)
    broken.write_bytes(b"no picture at all")
    graph = _picture(9)
    graph["1"] = {"class_type": "LoadImage", "inputs": {"image": broken.name}}
    events: list[Event] = []
    with pytest.raises(RunFailed, match='Node 1 "LoadImage" failed: cannot identify') as caught:
        bare_client.run(graph, events.append)
    assert caught.value.failure == events[-1]
    assert isinstance(events[-1], Failed)
    assert events[-1].exception_type == "PIL.UnidentifiedImageError"


def test_interrupting_a_running_workflow(bare_client: ComfyClient) -> None:
    """Catches an interrupt that is not told, or that stops nothing."""
    prompt_id = bare_client.queue(_slow_picture(10))
    seen: list[Event] = []
    for event in bare_client.events(prompt_id):
        seen.append(event)
        if event == Executing("2"):
            bare_client.interrupt(prompt_id)
    assert isinstance(seen[-1], Interrupted)
    assert Executing("60") not in seen
    with pytest.raises(RunInterrupted):
        bare_client.run(
            _slow_picture(11),
            lambda event: bare_client.interrupt() if event == Executing("2") else None,
        )


def test_a_workflow_taken_out_of_the_queue(bare_client: ComfyClient) -> None:
    """Catches a wait without end: the host says nothing of a workflow that never ran."""
    running = bare_client.queue(_slow_picture(12))
    waiting = bare_client.queue(_picture(13))
    bare_client.interrupt(waiting)
    assert bare_client.is_queued(running), "only the named workflow is stopped"
    assert list(bare_client.events(waiting)) == [Interrupted()]
    bare_client.interrupt(running)
    assert isinstance(list(bare_client.events(running))[-1], Interrupted)


def test_a_file_that_is_not_there(bare_client: ComfyClient) -> None:
    """Catches an error page taken for a picture."""
    with pytest.raises(RequestRefused, match="answered 404 to GET /view"):
        bare_client.download("nothing.png")


def test_a_host_that_dies_is_lost(tmp_path: Path) -> None:
    """Catches a wait without end, or a bare socket error, when the host crashes."""
    with Host(tmp_path, pack=None) as host, ComfyClient(host.address) as client:
        events = client.events(client.queue(_slow_picture(14)))
        assert isinstance(next(events), Started)
        host.kill()
        with pytest.raises(ServerLost, match="went away while the workflow was running"):
            list(events)
        with pytest.raises(ServerUnreachable, match=f"No ComfyUI answers at {host.url}"):
            client.queue(_picture(15))


def test_progress_and_previews_of_a_sampler(client: ComfyClient) -> None:
    """Catches progress told twice or not at all, and previews that do not name their node."""
    graph: Graph = {
        "1": {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "pocket_sd15.safetensors"},
        },
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a portrait", "clip": ["1", 1]}},
        "3": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 128, "height": 128, "batch_size": 1},
        },
        "4": {
            "class_type": "KSampler",
            "inputs": {
                "model": ["1", 0],
                "positive": ["2", 0],
                "negative": ["2", 0],
                "latent_image": ["3", 0],
                "seed": 1,
                "steps": 4,
                "cfg": 1.0,
                "sampler_name": "euler",
                "scheduler": "normal",
                "denoise": 1.0,
            },
        },
        "5": {"class_type": "VAEDecode", "inputs": {"samples": ["4", 0], "vae": ["1", 2]}},
        "6": {"class_type": "PreviewImage", "inputs": {"images": ["5", 0]}},
    }
    events: list[Event] = []
    client.run(graph, events.append)
    steps = [event.value for event in events if isinstance(event, Progress) and event.maximum == 4]
    assert steps == [1, 2, 3, 4]
    previews = [event for event in events if isinstance(event, Preview)]
    assert previews
    assert {preview.node for preview in previews} == {"4"}
    assert all(preview.format == "JPEG" for preview in previews)
    assert all(preview.image_bytes.startswith(b"\xff\xd8") for preview in previews)
