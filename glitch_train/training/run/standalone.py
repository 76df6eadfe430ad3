"""A recipe that names its checkpoint and folder becomes a run, without a host."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import torch

from ...cache import TensorCache
from ...dataset.load import load_parts
from ...errors import CheckpointError, DatasetError, TrainingError
from ...model.checkpoint_file import load_checkpoint
from ...recipe.recipe import Recipe
from ..batches import BatchSource
from ..devices import resolve_precision
from ..items import picture_variants, training_items
from ..loop import LoraTraining
from ..memory import is_out_of_memory, let_go, shortage
from ..plan import MemoryPlan
from ..team import ALONE, Team
from .folder import choose_run
from .run import TrainingRun
from .setup import RunSetup


def prepare_run(
    recipe: Recipe,
    out: Path,
    *,
    resume: str = "auto",
    device: str | None = None,
    cache: Path | None = None,
    team: Team = ALONE,
    state_every: int = 0,
) -> TrainingRun:
    """Read checkpoint and pictures; raises before any work starts.

    Args:
        recipe: names its checkpoint and folder.
        out: where run folders and LoRA files go.
        resume: ``auto``, ``never`` or ``must``, see :func:`.folder.choose_run`.
        device: torch's name of it; a GPU where there is one by default.
        cache: where latents and prompt embeddings are kept; ``out/cache`` by default.
        team: the processes that train together.
        state_every: steps between two states that are written on the way; 0 leaves that to the
            recipe's save_every.

    Raises:
        GlitchTrainError: says what is missing or wrong, and where.
    """
    checkpoint = _named(recipe)
    if recipe.train.batch_size < team.size:
        raise TrainingError(
            f"batch_size {recipe.train.batch_size} cannot be shared by {team.size} processes; it "
            f"is the whole batch, so set it to {team.size} or more."
        )
    where = team.device or find_device(device)
    resolve_precision(recipe.train.precision, where)
    cache_folder = cache or out / "cache"
    if cache or cache_folder.exists():  # else it is made in OUT, which is tried itself
        team.from_main(TensorCache(cache_folder).check_place)
    dataset = team.from_main(lambda: load_parts(recipe.dataset, recipe.mix))
    base, encoders = load_checkpoint(checkpoint, where)
    key = base.key
    paths = team.from_main(lambda: choose_run(recipe, resume, key, out, out))
    setup = RunSetup(
        base, key, dataset, recipe, encoders, paths, cache_folder, where, team, state_every
    )
    return TrainingRun(setup)


def plan_memory(recipe: Recipe, *, device: str | None = None) -> MemoryPlan:
    """Return what a run would need of the device's memory; nothing is encoded or written.

    Args:
        recipe: names its checkpoint and folder.
        device: see :func:`prepare_run`.

    Raises:
        GlitchTrainError: says what is missing or wrong, and where.
    """
    checkpoint = _named(recipe)
    where = find_device(device)
    dataset = load_parts(recipe.dataset, recipe.mix)
    base, _ = load_checkpoint(checkpoint, where)
    if not recipe.train.trains_text_encoder:
        base.text_encoders = ()
    variants = sum(1 for _ in picture_variants(dataset))
    items = training_items(dataset, [""] * variants, defaultdict(str))
    nothing = TensorCache(Path())
    train = recipe.train
    source = BatchSource(
        items, nothing, nothing, batch_size=train.batch_size, repeats=1, seed=train.seed
    )
    try:
        return LoraTraining(base, source, train, where).memory
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        let_go(error)
    raise shortage()


def _named(recipe: Recipe) -> Path:
    if not recipe.checkpoint:
        raise CheckpointError("No base model is named; give --checkpoint FILE.safetensors.")
    if not all(one.folder for one in recipe.datasets):
        raise DatasetError("No folder of pictures is named; give --folder FOLDER.")
    return Path(recipe.checkpoint)


def find_device(name: str | None) -> torch.device:
    """Return the device of a name, or the best one.

    Raises:
        TrainingError: when there is no such device here.
    """
    if name is None:
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise TrainingError(f"The device {name!r} cannot be used here: {reason}.") from error
    return device
