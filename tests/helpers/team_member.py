"""One of two processes: says what reached it from the other. Started by ``test_team``."""

from __future__ import annotations

import torch

from glitch_train.errors import DatasetError, GlitchTrainError
from glitch_train.training.team import join_team

team = join_team("cpu")
said = [f"{team.rank} of {team.size}", team.any(team.rank == 1), team.any(False)]


def work(fails: bool) -> str:
    """Fail, or not."""
    if fails:
        raise DatasetError("a picture is gone")
    return f"from {team.rank}"


for attempt in (
    lambda: team.all_succeed(lambda: work(team.rank == 1)),
    lambda: team.from_main(lambda: work(True)),
    lambda: team.from_main(lambda: work(False)),
):
    try:
        said.append(attempt())
    except GlitchTrainError as error:
        said.append(error)
parameters = [torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2, 2))]
parameters[0].grad = torch.full((3,), 1.0 + team.rank)
if team.rank:
    parameters[1].grad = torch.ones(2, 2)
team.share_gradients(parameters)
said += [parameter.grad.flatten().tolist() for parameter in parameters]
team.close()
print("\n".join(map(str, said)))  # noqa: T201
