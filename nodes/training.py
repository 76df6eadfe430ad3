"""What happens around a training run in the host: preparation and the live view."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import folder_paths
from comfy_api.latest import ui

from ..glitch_train.cache import TensorCache
from ..glitch_train.dataset.mix import AnyDataset
from ..glitch_train.drawing.figures import to_image
from ..glitch_train.losses.graph.draw import draw_losses
from ..glitch_train.losses.graph.live import LivePreview
from ..glitch_train.losses.record import LossRecord, StepReport
from ..glitch_train.recipe.partial import PartialRecipe
from ..glitch_train.recipe.recipe import Recipe
from ..glitch_train.recipe.train import TrainRecipe
from ..glitch_train.training.memory import let_go
from ..glitch_train.training.run.folder import choose_run
from ..glitch_train.training.run.run import Preparing, RunEvent, TrainingRun
from ..glitch_train.training.run.samples import Sampling
from ..glitch_train.training.run.setup import RunSetup
from ..glitch_train.wording import shown, where_from
from . import folders, host, model_options, weights


def prepare_run(
    model: Any, clip: Any, vae: Any, dataset: AnyDataset, recipe: Recipe, resume: str
) -> TrainingRun:
    """Turn the host's objects into a run of the library; raises before any work starts."""
    model_options.check_injections(model, clip.patcher)
    base = weights.base_model(model, clip)
    encoders = weights.encoders(model, clip, vae)
    output = Path(folder_paths.get_output_directory()) / "glitch"
    loras = Path(folder_paths.get_folder_paths("loras")[0])
    base_key = base.key
    cache_folder = dataset.cache_folder or folders.temporary_cache()
    TensorCache(cache_folder).check_place()
    run = TrainingRun(
        RunSetup(
            base=base,
            base_key=base_key,
            dataset=dataset,
            recipe=recipe,
            encoders=encoders,
            paths=choose_run(recipe, resume, base_key, output, loras),
            cache_folder=cache_folder,
            device=comfy.model_management.get_torch_device(),
        )
    )
    for sentence in model_options.left_out(model, samples=bool(recipe.train.sample_every)):
        run.files.note(sentence)
    return run


class LiveView:
    """The node's bar, text line and growing curve while a run trains."""

    def __init__(
        self,
        progress: host.NodeProgress,
        run: TrainingRun,
        named: PartialRecipe | None = None,
        said: str = "",
    ) -> None:
        """Show ``run`` on the node behind ``progress``, and what a connected recipe named.

        Args:
            progress: of the node.
            run: the run.
            named: the connected recipe, if one is.
            said: what else is to say of the settings.
        """
        self.progress = progress
        self.run = run
        where_from = _where_from(run, named) if named is not None else ""
        self._said = " ".join(filter(None, [said, where_from, _named_elsewhere(run, named)]))
        self._started = time.perf_counter()
        self._steps_before = -1
        self._preview = LivePreview(run.record)

    def show(self, event: RunEvent) -> None:
        """Show one event; the curve is drawn as often as its share of the time allows."""
        if isinstance(event, Preparing):
            self.progress.show(event.done, event.total)
            self.progress.say(f"encoding {event.what} {event.done}/{event.total}")
            self._preview.warm_up()
            self._preview.restart()
            self._started = time.perf_counter()
            return
        if isinstance(event, Sampling):
            self._show_sampling(event)
            return
        if self._steps_before < 0:  # a run that goes on did some steps in another session
            self._steps_before = event.step - 1
        elapsed_s = time.perf_counter() - self._started
        said = describe(event, elapsed_s / (event.step - self._steps_before))
        self.progress.say(f"{said}\n{self.run.record.about.memory}")
        self.progress.show(event.step, event.steps, self._preview.picture_if_due())

    def _show_sampling(self, event: Sampling) -> None:
        self.progress.say(f"sampling {event.done}/{event.total}, step {event.step}")
        if event.done == event.total and self.run.samples:
            self._preview.show_samples(self.run.samples.strip(small=True))
            picture = self._preview.picture_if_due()
            self.progress.show(len(self.run.record), self.run.recipe.train.steps, picture)

    def final_view(self, node: Any) -> dict[str, Any]:
        """Return finished curve and strip for the node's ``ui``: a cached node shows them again."""
        ended = ended_in_words(self.run.record)
        pictures = [to_image(draw_losses([self.run.record]))]
        if self.run.samples and (strip := self.run.samples.strip()):
            pictures.append(strip)
        views = [ui.PreviewImage(host.to_image_tensor([one]), cls=node) for one in pictures]
        shown = views[0].as_dict()
        shown["images"] = [image for view in views for image in view.as_dict()["images"]]
        lines = [ended, *filter(None, [self.run.record.about.memory, self._said])]
        self.progress.say(" ".join(lines))
        return {**shown, "text": (str(self.run.lora_path), *lines)}


def ended_in_words(record: LossRecord) -> str:
    """Return why a run stopped, what it passed over and could not write, as one line."""
    about = record.about
    passed_over = about.passed_over
    more = f"{passed_over} steps were passed over (glitch_through)." if passed_over else ""
    return " ".join(filter(None, [about.ended.why if about.ended else "", more, *about.notes]))


@contextlib.contextmanager
def memory_given_back() -> Iterator[None]:
    """Give back what a training took, however it ends.

    An error keeps the frames it went through, and they the model, until the host forgets it.
    """
    try:
        yield
    except BaseException as error:
        let_go(error)
        raise
    finally:
        gc.collect()
        comfy.model_management.soft_empty_cache()


def describe(report: StepReport, seconds_per_step: float) -> str:
    """Return step, loss and time left as one line."""
    left_s = seconds_per_step * (report.steps - report.step)
    minutes, seconds = divmod(round(left_s), 60)
    return (
        f"step {report.step}/{report.steps} · loss {report.loss:.4f} · {minutes}:{seconds:02} left"
    )


def _where_from(run: TrainingRun, named: PartialRecipe) -> str:
    """Say which settings a connected recipe decided, and which it names in vain."""
    said = where_from(named.origins(TrainRecipe), run.recipe.train)
    parts = run.setup.dataset.parts
    unmet = dict.fromkeys(one for part in parts for one in named.unmet(part.recipe, part.origins))
    if unmet:
        said += f"; not as the recipe has it: {', '.join(unmet)} (connect it to the loader too)"
    return said


def _named_elsewhere(run: TrainingRun, named: PartialRecipe | None) -> str:
    """Say which of the run's settings a recipe names that is connected to the loader alone."""
    asked: dict[str, Any] = {}
    for part in run.setup.dataset.parts:
        asked |= part.for_trainer
    decided = named.settings if named else {}
    unmet = [
        f"{name} is {shown(getattr(run.recipe.train, name))}, the recipe asks for {shown(value)}"
        for name, value in asked.items()
        if name not in decided and getattr(run.recipe.train, name) != value
    ]
    if not unmet:
        return ""
    return f"Not as the loader's recipe has it: {', '.join(unmet)} (connect it to the trainer too)."
