"""Errors that a person can act on: one sentence saying what is wrong, where, and what to do."""

import reprlib

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 120  # a line of a terminal

quoted = _SHORT.repr
"""Returns a value as it stands in such a sentence: like ``repr``, shortened where it is long."""


class GlitchTrainError(Exception):
    """Base of every error this library raises on purpose; its text is meant to be shown as is."""


class RecipeError(GlitchTrainError):
    """A setting is out of range, unknown, or from a newer version."""


class DatasetError(GlitchTrainError):
    """The picture folder cannot be used."""


class CheckpointError(GlitchTrainError):
    """The base model is not one that can be trained here."""


class LoraFileError(GlitchTrainError):
    """A LoRA file cannot be read or written."""


class TrainingError(GlitchTrainError):
    """Training cannot start or cannot go on."""


class DiskError(GlitchTrainError):
    """A disk does not take a file, will not, or does not give it back."""


class FileHeldError(DiskError):
    """Another program, or this one, holds a file that was to be replaced: only Windows minds."""


class EnvironmentFault(GlitchTrainError):
    """A package, a file, memory or a driver fails that this library needs and does not own."""


class RecordError(GlitchTrainError):
    """A loss record cannot be read."""


class ReportError(GlitchTrainError):
    """Pictures, models or texts cannot be compared."""


class GridError(GlitchTrainError):
    """A grid of pictures cannot be made."""
