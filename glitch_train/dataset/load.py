"""A folder of pictures and captions becomes a dataset that counts every file once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ..errors import DatasetError
from ..wording import shown_name
from .caption_files import Captions, find_captions, is_caption
from .dataset import FileReport, GlitchDataset, Sample
from .folder import Entries, ScannedPicture, list_folder, other_files, scan_pictures
from .recipe import DatasetRecipe

OnProgress = Callable[[int, int], None]


def load_dataset(
    recipe: DatasetRecipe,
    on_progress: OnProgress | None = None,
    *,
    workers: int | None = None,
    cache_folder: Path | None = None,
    allow_empty: bool = False,
    origins: Mapping[str, str] | None = None,
) -> GlitchDataset:
    """Read a folder of pictures and their captions.

    Every picture is decoded once here, so that a broken one is known before training starts.

    Args:
        recipe: where the pictures are and what becomes of them.
        on_progress: called with (pictures done, files in all).
        workers: number of threads; by default one per core.
        cache_folder: where encoded variants are kept.
        allow_empty: return a dataset without samples instead of raising.
        origins: setting name to who named it, for the report and the trainer.

    Returns:
        The dataset; files that are not used are listed with their reason.

    Raises:
        DatasetError: when the folder is missing or holds no readable picture.
    """
    folder = Path(recipe.folder)
    entries = list_folder(folder)
    captions = find_captions(folder, entries.files, recipe.caption_source, recipe.fixed_caption)
    samples: list[Sample] = []
    reports: list[FileReport] = []
    pictures: set[str] = set()
    for picture in scan_pictures(folder, entries.files, workers):
        pictures.add(picture.name)
        sample, report = _take(folder, picture, captions)
        reports.append(report)
        samples += [sample] if sample else []
        if on_progress:
            on_progress(len(pictures), len(entries.files))
    reports += _report_others(entries, captions, pictures)
    if on_progress:
        on_progress(len(entries.files), len(entries.files))
    dataset = GlitchDataset(
        recipe,
        tuple(samples),
        tuple(sorted(reports, key=lambda file: file.name)),
        entries.subfolders,
        cache_folder,
        dict(origins or {}),
    )
    if not samples and not allow_empty:
        raise DatasetError(no_pictures(dataset))
    return dataset


def no_pictures(dataset: GlitchDataset) -> str:
    """Return the sentence for a dataset without a usable picture."""
    folder, skipped = dataset.recipe.folder, dataset.skipped
    if not skipped:
        if dataset.subfolders:
            return f"The folder {folder} holds only subfolders; choose one of them."
        return f"The folder {folder} is empty; put pictures with captions into it."
    first = skipped[0]
    return (
        f"The folder {folder} holds no readable picture ({len(skipped)} files skipped, "
        f"for example {shown_name(first.name)}: {first.reason}); use jpg, png, webp, bmp, tiff "
        "or gif."
    )


def _take(
    folder: Path, picture: ScannedPicture, captions: Captions
) -> tuple[Sample | None, FileReport]:
    if picture.size is None:
        return None, FileReport(picture.name, False, picture.note)
    caption, note = captions.of(folder, picture.name)
    reason = "; ".join(filter(None, (picture.note, note)))
    sample = Sample(str(folder), picture.name, caption, picture.size, picture.content)
    return sample, FileReport(picture.name, True, reason)


def _report_others(
    entries: Entries, captions: Captions, pictures: set[str]
) -> Iterator[FileReport]:
    for name in filter(is_caption, entries.files):
        if name in captions.used:
            yield FileReport(name, True, captions.reasons.get(name, ""))
        else:
            yield FileReport(name, False, captions.why_unused(name, pictures))
    for name, reason in {**other_files(entries.files), **entries.odd}.items():
        yield FileReport(name, False, reason)
