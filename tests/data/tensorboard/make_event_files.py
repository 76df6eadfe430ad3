"""Write the event files of this folder: ``pip install tensorboardX tensorboard``, then run this.

The tags are those of kohya-ss/sd-scripts. tensorboardX (and torch.utils.tensorboard) store a
scalar as a simple value, TensorFlow's writers as a tensor; there is one file of each. The values
are read back with tensorboard's own EventAccumulator before they count as expected.
"""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter
from tensorboard.util import tensor_util
from tensorboardX import SummaryWriter

HERE = Path(__file__).resolve().parent
STEPS = 40


def scalars() -> dict[str, dict[int, float]]:
    """Return tag to step to value."""
    rng = np.random.default_rng(4)
    order = np.arange(STEPS)
    loss = (0.08 + 0.03 * np.exp(-order / 10)) * (1 + 0.2 * rng.standard_normal(STEPS))
    rate = 1e-4 * np.cos(order / STEPS * math.pi / 2)
    steps = range(1, STEPS + 1)
    return {
        "loss/current": dict(zip(steps, loss, strict=True)),
        "loss/average": {step: float(loss[:step].mean()) for step in steps},
        "lr/unet": dict(zip(steps, rate, strict=True)),
        "loss/validation/step_average": {step: 0.09 - 0.0005 * step for step in range(10, 41, 10)},
    }


def fill(add: Callable[[str, float, int], None]) -> None:
    """Write every scalar in order of steps, as a trainer does."""
    for step in range(1, STEPS + 1):
        for tag, values in scalars().items():
            if step in values:
                add(tag, float(values[step]), step)


def main() -> None:
    """Write both files and what they must be read as."""
    plain, tensors = HERE / "tensorboardX", HERE / "tensorboard_tensors"
    for folder in (plain, tensors):
        shutil.rmtree(folder, ignore_errors=True)
    writer = SummaryWriter(str(plain))
    fill(writer.add_scalar)
    writer.close()
    events = EventFileWriter(str(tensors))

    def add(tag: str, value: float, step: int) -> None:
        tensor = tensor_util.make_tensor_proto(np.float32(value))
        summary = Summary(value=[Summary.Value(tag=tag, tensor=tensor)])
        events.add_event(Event(wall_time=1.7e9 + step, step=step, summary=summary))

    fill(add)
    events.close()
    read = EventAccumulator(str(plain)).Reload()
    names = {"loss/validation/step_average": "validation"}
    expected = {names.get(tag, tag): [e.value for e in read.Scalars(tag)] for tag in scalars()}
    expected["step"] = [event.step for event in read.Scalars("loss/current")]
    (HERE / "expected.json").write_text(json.dumps(expected))
    for path in HERE.rglob("*tfevents*"):
        path.rename(path.with_name("events.out.tfevents.1700000000"))


if __name__ == "__main__":
    main()
