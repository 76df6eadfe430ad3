"""One session of a run: from where it goes on to its end or the next stop."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator

from ...errors import FileHeldError
from ...losses.about import Ending
from ...losses.record import StepReport
from ...losses.writer import RecordWriter
from ..batches import BatchSource
from ..fp16 import skipped_in_words
from ..loop import LoraTraining, NotFiniteError
from ..plan import MemoryPlan
from ..probe import Probe, is_due
from .endings import RunProgress, reached
from .files import RunFiles
from .samples import Samples, Sampling
from .state import material_key

log = logging.getLogger(__name__)


class Session:
    """Trains, and leaves record, LoRA, snapshots and state on disk however it ends."""

    def __init__(
        self,
        files: RunFiles,
        source: BatchSource,
        probe: Probe,
        samples: Samples | None,
        clock: Callable[[], float],
    ) -> None:
        """Prepare the training, and go back to where the run was stopped.

        Args:
            files: those of the run.
            source: the batches.
            probe: measured now and then.
            samples: made now and then; None where there are none to be made.
            clock: seconds, increasing.

        Raises:
            GlitchTrainError: when it cannot go on, or the disk has no room for what it makes.
        """
        setup = files.setup
        self._train = setup.recipe.train
        self._state_every = setup.state_every
        self._team = setup.team
        self._files = files
        self._record = files.record
        self._probe = probe
        self._samples = samples
        self._clock = clock
        self._training = LoraTraining(setup.base, source, self._train, setup.device, setup.team)
        self._record.about.memory = self.plan.sentence
        log.log(logging.INFO if self.plan.fits else logging.WARNING, "%s", self.plan.sentence)
        self._material = material_key(source.items)
        self._progress = files.go_on(self._training, self._material)
        files.note_in_vain()
        files.check_space(self._training)
        self._began = clock() - self._progress.seconds
        self._ending = reached(self._train, self._progress)
        self._at_step_0: dict[str, float] = {}
        path = setup.paths.losses
        self._writer = RecordWriter(self._record, path) if self._team.is_main else None

    @property
    def plan(self) -> MemoryPlan:
        """What the training needs of the device's memory."""
        return self._training.memory

    def events(self) -> Iterator[StepReport | Sampling]:
        """Train until a rule ends the run; close the iterator to stop it."""
        try:
            yield from self._begin()
            if not self._ending:  # else nothing but its LoRA is missing
                for report in self._training:
                    yield from self._after(report)
                    if self._ending:
                        break
        except GeneratorExit:
            step = self._training.step
            cancelled = f"Cancelled after step {step}; run it again to go on."
            self._ending = self._ending or Ending("cancel", step, cancelled)
            raise
        except Exception as error:
            self._ending = Ending("error", self._training.step, str(error))
            if isinstance(error, NotFiniteError):
                self._write(error.report, {})
            raise
        finally:
            self._end()

    def _begin(self) -> Iterator[Sampling]:
        """Sample the base model, and measure it where nothing is trained yet."""
        if self._samples:
            yield from self._paused(self._samples.begin(self._training))
        if self._train.probe_every and not self._training.step:
            self._at_step_0 = self._probe.measure(self._training)

    def _after(self, report: StepReport) -> Iterator[StepReport | Sampling]:
        """Record a step, save what is due after it, and sample."""
        train, training = self._train, self._training
        self._take_down(report)
        sample = is_due(report.step, report.steps, train.sample_every)
        sample = sample or bool(train.sample_every and self._ending)
        due = [
            every and report.step % every == 0 for every in (train.save_every, self._state_every)
        ]
        if due[0]:
            self._files.save_snapshot(training)
        if any(due) and not self._ending:  # a finished run's state is written after its LoRA
            self._save_state_on_the_way()
        if sample:  # it takes memory of its own: nothing is lost if it ends the process
            self._keep()
        yield report
        if sample and self._samples:
            yield from self._paused(self._samples.make(training))

    def _take_down(self, report: StepReport) -> None:
        """Record a step, with the probe where it is due; find out whether the run ends with it."""
        every = self._train.probe_every
        measured, self._at_step_0 = self._at_step_0, {}  # step 0 stands in the first row
        ending = self._look()
        if is_due(report.step, report.steps, every) or (every and ending):
            measured = measured or self._probe.measure(self._training)
        self._write(report, measured)
        now = self._look()  # measuring took time, and the drift is known only with it
        self._ending = ending or now

    def _look(self) -> Ending | None:
        """Note how far the run is; return the ending where a rule of the recipe ends it here."""
        epochs, seconds = self._training.source.epochs_done, self._clock() - self._began
        drift = self._record.last("drift")
        self._progress = RunProgress(self._training.step, epochs, seconds, drift)
        # Clocks differ: all processes stop where the main one does.
        return self._team.from_main(lambda: reached(self._train, self._progress))

    def _write(self, report: StepReport, measured: dict[str, float]) -> None:
        self._record.append(report, **measured)
        if not report.finite and self._train.glitch_through:
            self._record.about.passed_over += 1
        self._record.about.skipped += report.skipped
        if self._writer:
            self._writer.write_last()

    def _paused(self, work: Iterator[Sampling]) -> Iterator[Sampling]:
        """Follow work that is not training, whose time stop_at_minutes leaves out."""
        began = self._clock()
        yield from work
        self._began += self._clock() - began

    def _save_state_on_the_way(self) -> None:
        try:
            self._files.save_state(self._training, self._progress, self._material)
        except FileHeldError as error:  # the next one, or that of the end, takes its place
            log.warning("Training goes on without saving its state: %s", error)

    def _keep(self) -> None:
        """Save state and LoRA, each even if the other cannot be.

        The state of a run that is not finished comes first, for more is lost with it; that of a
        finished one last, so that it says whether there is a LoRA. A finished run whose recipe
        asks for no states needs none, once its LoRA is there.
        """
        if self._ending is None or self._ending.is_stop:
            try:
                self._files.save_state(self._training, self._progress, self._material)
            finally:
                self._files.save_lora(self._training)
            return
        has_lora = False
        try:
            self._files.save_lora(self._training)
            has_lora = True
        finally:
            if has_lora and not self._train.save_every:
                self._files.drop_state()
            else:
                self._files.save_state(
                    self._training, self._progress, self._material, has_lora=has_lora
                )

    def _end(self) -> None:
        """Say why the run stopped, and save what it has come to."""
        if self._ending:
            self._record.about.ended = self._ending
        if self._record.about.skipped:
            self._files.note(skipped_in_words(self._record.about.skipped))
        with contextlib.closing(self._writer) if self._writer else contextlib.nullcontext():
            if self._training.step and self._training.is_whole:
                self._keep()
