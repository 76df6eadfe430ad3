"""What the demo trains on: the user's checkpoint and pictures, or the pocket ones."""

import shutil
from pathlib import Path

from glitch_demo.host import link_or_copy
from glitch_demo.terminal import StageBar
from glitch_train.comfyui.graph import Graph, replace_texts, set_input
from glitch_train.comfyui.our_nodes import DATASET_LOADER, TRAINER
from glitch_train.errors import GlitchTrainError

DEMO_PICTURES = "glitch_demo_pictures"
DEMO_SUBJECTS = 2
CLEAN_JPEG_QUALITY = 95  # the workflow itself crushes them
OWN_LEARNING_RATE = 1e-4  # the pocket model is small, and takes twenty times as much
OWN_SIZE_PX = 512  # what a full SD1.5 checkpoint draws well; the pocket one draws 128
CHECKPOINT_SUFFIXES = frozenset({".safetensors", ".ckpt"})
PICTURE_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})


class MaterialError(GlitchTrainError):
    """The checkpoint or the pictures that were asked for cannot be used."""


def own_checkpoint(path: str) -> Path:
    """Return the user's checkpoint, checked.

    Args:
        path: As the user gave it.

    Raises:
        MaterialError: It is not a checkpoint file.
    """
    file = Path(path).expanduser()
    if not file.is_file() or file.suffix.lower() not in CHECKPOINT_SUFFIXES:
        state = "another kind of file" if file.is_file() else "no such file"
        raise MaterialError(
            f"CHECKPOINT must be the path of a .safetensors or .ckpt file, got {path!r} ({state})."
        )
    return file.resolve()


def own_pictures(path: str) -> Path:
    """Return the user's folder of pictures, checked.

    Args:
        path: As the user gave it.

    Raises:
        MaterialError: It is not a folder, or has no pictures.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise MaterialError(f"PICTURES must be the path of a folder, got {path!r}.")
    if not any(file.suffix.lower() in PICTURE_SUFFIXES for file in folder.rglob("*")):
        kinds = ", ".join(sorted(PICTURE_SUFFIXES))
        raise MaterialError(
            f"PICTURES must be a folder with pictures ({kinds}), {path!r} has none."
        )
    return folder.resolve()


def place_checkpoint(base_dir: Path, checkpoint: Path | None) -> str:
    """Put the checkpoint among the host's models.

    Args:
        base_dir: The host's base folder.
        checkpoint: The user's own, or None for the pocket one, which is unpacked when missing.

    Returns:
        Its name, as a checkpoint loader takes it.
    """
    if checkpoint is None:
        from glitch_demo.pocket import pocket_sd15  # imports torch

        bar = StageBar("Unpacking the pocket checkpoint (once)")
        try:
            checkpoint = pocket_sd15(on_progress=bar)
        finally:
            bar.close()
    link_or_copy(checkpoint, base_dir / "models" / "checkpoints" / checkpoint.name)
    return checkpoint.name


def place_pictures(base_dir: Path, pictures: Path | None) -> str:
    """Put the pictures and their captions into the host's input folder.

    They are copied: the host takes no folder that a link leads out of its input folder, and the
    originals are safe.

    Args:
        base_dir: The host's base folder.
        pictures: The user's own folder, or None for the demo's crushed photographs.

    Returns:
        The folder's name under the input folder.
    """
    name = pictures.name if pictures else DEMO_PICTURES
    target = base_dir / "input" / name
    shutil.rmtree(target, ignore_errors=True)
    if pictures is None:
        from glitch_demo.photos import PhotosMissingError, demo_photos, write_picture_folder

        try:
            photos = demo_photos()[:DEMO_SUBJECTS]
            write_picture_folder(target, photos, jpeg_quality=CLEAN_JPEG_QUALITY)
        except PhotosMissingError as error:
            raise MaterialError(str(error)) from error
        return name
    for file in sorted(pictures.rglob("*")):
        if file.is_file() and file.suffix.lower() in PICTURE_SUFFIXES | {".txt"}:
            copy = target / file.relative_to(pictures)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(file, copy)
    return name


def suit_own_checkpoint(graph: Graph) -> Graph:
    """Return the workflow at the size and learning rate of a full checkpoint.

    Args:
        graph: The demo workflow, made for the pocket checkpoint.
    """
    for node in (DATASET_LOADER.node_id, "EmptyLatentImage"):
        for side in ("width", "height"):
            graph = set_input(graph, node, side, OWN_SIZE_PX)
    return set_input(graph, TRAINER.node_id, "learning_rate", OWN_LEARNING_RATE)


def suit_own_pictures(graph: Graph, pictures: Path) -> Graph:
    """Return the workflow with the first captions of a folder as its prompts.

    Args:
        graph: The demo workflow.
        pictures: The user's folder; without captions the prompts stay.
    """
    captions = [
        text
        for file in sorted(pictures.rglob("*.txt"))
        if (text := file.read_text("utf-8", errors="replace").strip())
    ]
    return replace_texts(graph, list(dict.fromkeys(captions)))
