"""A folder of pictures and captions becomes a dataset that counts every file once."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import DatasetError, RecipeError
from ..wording import shown_name
from .caption_files import Captions, find_captions, is_caption
from .dataset import FileReport, GlitchDataset, Sample
from .folder import (
    LEADS_OUT,
    Entries,
    ScannedPicture,
    has_pictures,
    is_picture,
    list_folder,
    other_files,
    scan_pictures,
)
from .masks import FolderMasks
from .mix import AnyDataset, MixedDataset, MixPart, mix_datasets
from .names import by_calling
from .numbered import NumberedFolder, numbered_folders
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
    for_trainer: Mapping[str, Any] | None = None,
) -> AnyDataset:
    """Read a folder of pictures and their captions, or the folders of kohya's below a root.

    Every picture is decoded once here, so that a broken one is known before training starts.

    Args:
        recipe: where the pictures are and what becomes of them.
        on_progress: called with (pictures done, files in all).
        workers: number of threads; by default one per core.
        cache_folder: where encoded variants are kept.
        allow_empty: return a dataset without samples instead of raising.
        origins: setting name to who named it, for the report and the trainer.
        for_trainer: settings of a training that were named here, for the trainer to compare.

    Returns:
        The dataset; files that are not used are listed with their reason. Where the folder has
        no pictures but folders called ``10_name``, a mix of these by their repeats.

    Raises:
        DatasetError: when the folder is missing or holds no readable picture.
    """
    entries = list_folder(Path(recipe.folder))
    empty = GlitchDataset(
        recipe,
        (),
        cache_folder=cache_folder,
        origins=dict(origins or {}),
        for_trainer=dict(for_trainer or {}),
    )
    numbered = [] if has_pictures(entries) else numbered_folders(entries.subfolders)
    if numbered:
        return _read_numbered(empty, entries, numbered, on_progress, workers)
    dataset = _read(empty, entries, "", on_progress, workers)
    if not dataset.samples and not allow_empty:
        raise DatasetError(no_pictures(Path(recipe.folder), dataset.skipped, dataset.subfolders))
    return dataset


def _read_numbered(
    root: GlitchDataset,
    entries: Entries,
    numbered: Sequence[NumberedFolder],
    on_progress: OnProgress | None,
    workers: int | None,
) -> MixedDataset:
    """Return kohya's folders as a mix; those without a picture are named with the reason."""
    origins = {name: who for name, who in root.origins.items() if name != "repeats"}
    parts: list[GlitchDataset] = []
    reasons: dict[str, str] = {}
    for one in numbered:
        folder = Path(root.recipe.folder) / one.name
        try:
            own = dataclasses.replace(root.recipe, folder=str(folder), repeats=one.repeats)
        except RecipeError as error:
            raise DatasetError(f"The name of the folder {folder}: {error}") from error
        empty = dataclasses.replace(root, recipe=own, origins=origins)
        part = _read(empty, list_folder(folder), one.words, on_progress, workers)
        if part.samples:
            parts.append(part)
        else:
            reasons[one.name] = no_pictures(folder, part.skipped, part.subfolders)
    if not parts:
        raise DatasetError(next(iter(reasons.values())))
    trained = {Path(part.recipe.folder).name for part in parts}
    unread = (name for name in entries.subfolders if name not in trained)
    said = (f"{name} ({reasons[name]})" if name in reasons else name for name in unread)
    files = _unread(entries, root.recipe.caption_source)
    return MixedDataset(root.recipe, tuple(parts), files=files, subfolders=tuple(said))


def load_parts(
    recipe: DatasetRecipe, mix: Sequence[MixPart], on_progress: OnProgress | None = None
) -> AnyDataset:
    """Read what a whole recipe trains on.

    Args:
        recipe: the dataset, where it is no mix.
        mix: the parts of a mix, or nothing.
        on_progress: called with (pictures done, files in all), for each part.

    Raises:
        DatasetError: as :func:`load_dataset`.
    """
    if not mix:
        return load_dataset(recipe, on_progress)
    return mix_datasets([(part.weight, load_dataset(part.dataset, on_progress)) for part in mix])


def _read(
    dataset: GlitchDataset,
    entries: Entries,
    words: str,
    on_progress: OnProgress | None,
    workers: int | None,
) -> GlitchDataset:
    """Return a dataset with the pictures of its folder.

    Args:
        dataset: without any.
        entries: what is in its folder.
        words: the caption of pictures that have none.
        on_progress: called with (pictures done, files in all).
        workers: number of threads; by default one per core.
    """
    recipe, folder = dataset.recipe, Path(dataset.recipe.folder)
    captions = find_captions(folder, entries.files, recipe.caption_source, recipe.fixed_caption)
    captions.otherwise = words
    masks = FolderMasks(recipe.masks, entries.masks)
    samples: list[Sample] = []
    reports: list[FileReport] = []
    pictures: set[str] = set()
    for picture in scan_pictures(folder, entries.files, masks, workers):
        pictures.add(picture.name)
        sample, report = _take(folder, picture, captions)
        reports.append(report)
        samples += [sample] if sample else []
        if on_progress:
            on_progress(len(pictures), len(entries.files))
    masks.used |= {sample.mask.name for sample in samples if sample.mask}
    reports += _report_others(entries, captions, masks, pictures)
    if on_progress:
        on_progress(len(entries.files), len(entries.files))
    return dataclasses.replace(
        dataset,
        samples=tuple(samples),
        files=tuple(sorted(reports, key=lambda file: file.name)),
        subfolders=entries.subfolders,
    )


def check_folder(folder: Path) -> None:
    """Look whether a folder holds a picture by its name, without opening any.

    Raises:
        DatasetError: says why not, as :func:`load_dataset` would.
    """
    entries = list_folder(folder)
    if not has_pictures(entries):
        numbered = numbered_folders(entries.subfolders)
        if any(has_pictures(list_folder(folder / one.name)) for one in numbered):
            return
        raise DatasetError(no_pictures(folder, _unread(entries), entries.subfolders))


def no_pictures(folder: Path, skipped: Sequence[FileReport], subfolders: Sequence[str]) -> str:
    """Return the sentence for a folder without a usable picture.

    Args:
        folder: the folder.
        skipped: its files, with the reasons against them.
        subfolders: folders in it.
    """
    if not skipped:
        if subfolders:
            return f"The folder {folder} holds only subfolders; choose one of them."
        return f"The folder {folder} is empty; put pictures with captions into it."
    below = f", or choose one of its subfolders, such as {subfolders[0]}" if subfolders else ""
    first = next((file for file in skipped if is_picture(file.name)), skipped[0])
    if first.reason == LEADS_OUT:
        target = os.path.realpath(folder / first.name)
        return (
            f"The folder {folder} holds links to files outside it, which are not followed (for "
            f"example {shown_name(first.name)} to {shown_name(target)}); copy the files into it, "
            "or choose the folder that they lie in (ComfyUI offers those that "
            "extra_model_paths.yaml names under glitch_datasets)."
        )
    return (
        f"The folder {folder} holds no readable picture ({len(skipped)} files skipped, "
        f"for example {shown_name(first.name)}: {first.reason}); use jpg, png, webp, bmp, tiff "
        f"or gif{below}."
    )


def _take(
    folder: Path, picture: ScannedPicture, captions: Captions
) -> tuple[Sample | None, FileReport]:
    if picture.size is None:
        return None, FileReport(picture.name, False, picture.note)
    caption, note = captions.of(picture.name)
    reason = "; ".join(filter(None, (picture.note, note)))
    sample = Sample(str(folder), picture.name, caption, picture.size, picture.content, picture.mask)
    return sample, FileReport(picture.name, True, reason)


def _unread(entries: Entries, source: str = "auto") -> tuple[FileReport, ...]:
    """Return what is said of the files of a folder in which no picture is looked for."""
    masks = FolderMasks("none", entries.masks)
    reports = _report_others(entries, Captions(source), masks, set())
    return tuple(sorted(reports, key=lambda file: file.name))


def _report_others(
    entries: Entries, captions: Captions, masks: FolderMasks, pictures: set[str]
) -> Iterator[FileReport]:
    owners = by_calling(pictures)
    for name in filter(is_caption, entries.files):
        if name in captions.used:
            yield FileReport(name, True, captions.reasons.get(name, ""))
        else:
            yield FileReport(name, False, captions.why_unused(name, owners))
    for name in entries.masks:
        used = name in masks.used
        yield FileReport(name, used, "" if used else masks.why_unused(name, owners))
    for name, reason in {**other_files(entries.files), **entries.odd}.items():
        yield FileReport(name, False, reason)
