"""What a run leaves on disk: its recipe, the LoRA, snapshots, and the state to go on from."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

from ...errors import DiskError, FileHeldError, TrainingError
from ...files import check_space, disk_errors_said, free_beside
from ...lora.file import SAVE_DTYPES, LoraStateDict, save_lora, to_kohya
from ...lora.metadata import metadata
from ...losses.record import LossRecord
from ...recipe.in_vain import IN_VAIN, settings_in_vain
from ..loop import LoraTraining
from ..optim import state_bytes
from .endings import RunProgress
from .setup import RunSetup
from .state import load_state, progress_of, save_state

log = logging.getLogger(__name__)


class RunFiles:
    """Writes and reads the files of one run.

    Attributes:
        lora: the LoRA as last saved; empty before.
        lora_path: where the run's LoRA is, or will be.
    """

    def __init__(self, setup: RunSetup, record: LossRecord) -> None:
        """Describe the run; nothing is written yet.

        Args:
            setup: what it is made of.
            record: kept in the state.
        """
        self.setup = setup
        self.record = record
        self.lora: LoraStateDict = {}
        self.lora_path = setup.paths.lora
        self._is_new = True
        self._mine: set[Path] = set()
        self._started = time.time()
        self._state_saved: tuple[Any, ...] = ()

    def save_lora(self, training: LoraTraining) -> None:
        """Write the run's LoRA as it stands.

        Raises:
            DiskError: when the disk does not take it; an older file stays whole.
        """
        self.lora_path = self._save_lora(self.lora_path, training)

    def _save_lora(self, path: Path, training: LoraTraining) -> Path:
        """Write a LoRA, beside its file where that is held; return where it is.

        Raises:
            DiskError: when the disk does not take it; an older file stays whole.
        """
        if not self.setup.team.is_main:
            return path
        train = self.setup.recipe.train
        self.lora = to_kohya(
            training.lora,
            self.setup.base,
            save_precision=train.save_precision,
        )
        about = metadata(
            self.setup.recipe,
            self.setup.base,
            self.setup.dataset,
            self.lora,
            steps_done=training.step,
            epochs_done=training.source.epoch,
            started=self._started,
        )
        path = self._reserved(path)
        try:
            save_lora(path, self.lora, about)
        except FileHeldError:  # the host keeps a LoRA mapped that it has loaded
            held, path = path, free_beside(path)
            save_lora(path, self.lora, about)
            self.note(f"{held.name} is in use by a program, so the LoRA was saved as {path}.")
        except DiskError:
            self._mine.discard(path)
            if path.is_file() and not path.stat().st_size:  # as it was reserved
                path.unlink()
            raise
        log.info("LoRA of %d steps saved to %s", training.step, path)
        return path

    def _reserved(self, path: Path) -> Path:
        """Return a path that is this run's: another host, on the same models, may name one so.

        It is reserved by an empty file, which the LoRA then replaces.
        """
        if not self._is_new or path in self._mine:
            return path
        wanted = path
        with disk_errors_said(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    path.open("xb").close()
                    break
                except FileExistsError:
                    path = free_beside(wanted)
        if path != wanted:
            self.note(f"Another run saved {wanted.name} meanwhile, so this one is {path.name}.")
        self._mine.add(path)
        return path

    def note(self, sentence: str) -> None:
        """Say now and at the end what could not be written as it should."""
        log.warning("%s", sentence)
        if sentence not in self.record.about.notes:
            self.record.about.notes.append(sentence)

    def note_in_vain(self) -> None:
        """Say which settings cannot take effect, instead of what a shorter run said of them."""
        notes = self.record.about.notes
        notes[:] = [one for one in notes if not one.startswith(IN_VAIN)]
        for sentence in settings_in_vain(self.setup.recipe.train):
            self.note(sentence)

    def save_snapshot(self, training: LoraTraining) -> None:
        """Keep the LoRA as it stands beside the finished one.

        Raises:
            DiskError: when the disk does not take it.
        """
        self._save_lora(self.setup.paths.snapshot(training.step), training)
        self.record.about.snapshots.append(training.step)

    def save_state(
        self,
        training: LoraTraining,
        progress: RunProgress,
        material: str,
        *,
        has_lora: bool = True,
    ) -> None:
        """Write what the run goes on from; what was already written of this step stays.

        Args:
            training: the run.
            progress: how far it is.
            material: what identifies its pictures and captions.
            has_lora: whether the LoRA of a finished run is on disk.

        Raises:
            DiskError: when the disk does not take it; the older state stays whole.
        """
        told = self.record.about
        content = (training.step, has_lora, told.passed_over, tuple(told.samples_missing))
        if not self.setup.team.is_main or content == self._state_saved:
            return
        save_state(
            self.setup.paths.state,
            training,
            self.record,
            progress,
            material=material,
            base=self.setup.base_key,
            has_lora=has_lora,
        )
        self._state_saved = content

    def drop_state(self) -> None:
        """Remove the state of a run that is finished and has its LoRA: gigabytes for SDXL.

        Raises:
            DiskError: when it cannot be removed, and not for being in use.
        """
        state = self.setup.paths.state
        if self.setup.team.is_main:
            try:
                with disk_errors_said(state):
                    state.unlink(missing_ok=True)
            except FileHeldError:
                self.note(f"{state.name} is in use by a program and was not removed; delete it.")

    def go_on(self, training: LoraTraining, material: str) -> RunProgress:
        """Go back to the run's saved state, where it has one; return how far it was.

        Raises:
            TrainingError: when the pictures are not those of the state.
        """
        paths = self.setup.paths
        state: dict[str, Any] | None = self.setup.team.from_main(
            lambda: load_state(paths.state) if paths.state.is_file() else None
        )
        if state is None:
            return RunProgress()
        self._is_new = False
        if state["material"] != material:
            raise TrainingError(
                f"The pictures or captions changed since {paths.name} was stopped, so it "
                "cannot go on; set resume to never."
            )
        training.load_state_dict(state["training"])
        self.record.restore(state["record"], state.get("about", {}))
        log.info("%s goes on after step %d", paths.name, training.step)
        return progress_of(state)

    def check_space(self, training: LoraTraining) -> None:
        """Find out whether LoRA, snapshots and state will find room.

        Raises:
            DiskError: one sentence with figures.
        """
        train, paths = self.setup.recipe.train, self.setup.paths
        numbers = sum(parameter.numel() for parameter in training.parameters)
        lora = numbers * SAVE_DTYPES[train.save_precision].itemsize
        shapes = [parameter.shape for parameter in training.parameters]
        state = 4 * numbers + state_bytes(train.optimizer, shapes)
        snapshots = (train.steps - training.step) // train.save_every if train.save_every else 0
        if train.stop_at_epochs or train.stop_at_minutes or train.stop_at_drift:
            snapshots = min(snapshots, 1)  # how many there will be is not known
        # The state is replaced again and again, the old one beside the new one for a moment.
        copies = 1 if paths.state.is_file() else 2
        needs = {paths.lora.parent: lora * (1 + snapshots), paths.folder: state * copies}
        fewer = "raise save_every, " if snapshots > 1 else ""
        advice = f"free space, {fewer}or lower network_dim"
        self.setup.team.from_main(lambda: check_space(needs, advice))
