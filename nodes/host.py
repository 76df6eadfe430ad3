"""What the pack asks of ComfyUI: device, weights, progress, folders, interruption."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import folder_paths

from ..glitch_train.errors import GlitchTrainError, RecipeError
from ..glitch_train.file_names import check_path_lengths, name_fault
from ..glitch_train.files import disk_errors_said

if TYPE_CHECKING:
    import torch
    from PIL import Image

PREVIEW_MAX_PX = 640


class NodeProgress:
    """The progress bar, preview and text line of one node."""

    def __init__(self, node_id: str | None) -> None:
        """Show progress on the node with this id."""
        self.node_id = node_id
        self._bar: Any = None

    def show(self, done: int, total: int, preview: Image.Image | None = None) -> None:
        """Move the bar, with a picture where there is a new one."""
        import comfy.utils

        if self._bar is None:
            self._bar = comfy.utils.ProgressBar(total, node_id=self.node_id)
        picture = ("JPEG", preview, PREVIEW_MAX_PX) if preview is not None else None
        self._bar.update_absolute(done, total, picture)

    def say(self, text: str) -> None:
        """Show a line of text on the node, where the host can."""
        from server import PromptServer

        send = getattr(getattr(PromptServer, "instance", None), "send_progress_text", None)
        if send and self.node_id is not None:
            with contextlib.suppress(Exception):  # a closed browser must not stop the run
                send(text, self.node_id)


def state_or_sentence(state_of: Callable[[], Any]) -> Any:
    """Return what a fingerprint is made of, or the sentence on why that cannot be read.

    A fingerprint must not raise: the host would print why, and where a console's code page lacks a
    letter of it, the thread that runs workflows would end.
    """
    try:
        return state_of()
    except (GlitchTrainError, OSError) as error:
        return str(error)


def sentence_or_true(check: Callable[[], object]) -> bool | str:
    """Run a check for ``validate_inputs``: True, or the sentence of what is wrong."""
    try:
        check()
    except GlitchTrainError as error:
        return str(error)
    return True


def sent_besides(node: Any, places: Mapping[str, str]) -> dict[str, Any]:
    """Return settings that a graph sends with a node which has no such input any more.

    The host drops them without a word, and a graph for its API may be older than the node.

    Args:
        node: the executing node class, with the hidden inputs unique_id and prompt.
        places: setting name to the node that it is an input of.

    Raises:
        RecipeError: one of them is connected, and what comes there is not known here.
    """
    inputs = _as_sent(node).get("inputs", {})
    found = {name: inputs[name] for name in places if name in inputs}
    for name, value in found.items():
        if isinstance(value, list):
            raise RecipeError(
                f"{name} is no input of this node any more: connect it to a {places[name]} node, "
                "and that to this one."
            )
    return found


def said_of_sent(names: Collection[str], places: Mapping[str, str]) -> str:
    """Return a sentence on what :func:`sent_besides` found; empty where there is nothing."""
    if not names:
        return ""
    nodes = dict.fromkeys(places[name] for name in names)
    return (
        f"Taken, though sent with a node that has no such input any more: {', '.join(names)}; "
        f"their place is in {', '.join(nodes)}."
    )


def title_of(node: Any) -> str:
    """Return the title that a person gave the executing node; empty where it is not known."""
    return str((_as_sent(node).get("_meta") or {}).get("title") or "")


def _as_sent(node: Any) -> dict[str, Any]:
    """Return the executing node as the graph has it; empty where there is no graph."""
    hidden = getattr(node, "hidden", None)
    prompt = getattr(hidden, "prompt", None) or {}
    sent: dict[str, Any] = prompt.get(hidden.unique_id) or {} if prompt else {}
    return sent


def stop_if_interrupted() -> None:
    """Raise the host's own exception when the person pressed Cancel."""
    import comfy.model_management

    comfy.model_management.throw_exception_if_processing_interrupted()


def to_image_tensor(images: Sequence[Image.Image]) -> torch.Tensor:
    """Return RGB pictures of one size as the host's IMAGE: (B, H, W, 3), fp32 in 0..1."""
    import numpy as np
    import torch

    stacked = np.stack([np.asarray(image.convert("RGB")) for image in images])
    return torch.from_numpy(stacked.astype(np.float32) / 255.0)


def to_padded_batch(pictures: Sequence[Any]) -> torch.Tensor:
    """Return pictures as one IMAGE, smaller ones centred on black.

    Args:
        pictures: arrays (height, width, 3), uint8.
    """
    import torch

    height = max(picture.shape[0] for picture in pictures)
    width = max(picture.shape[1] for picture in pictures)
    batch = torch.zeros(len(pictures), height, width, 3)
    for place, picture in zip(batch, pictures, strict=True):
        top, left = (height - picture.shape[0]) // 2, (width - picture.shape[1]) // 2
        inner = place[top : top + picture.shape[0], left : left + picture.shape[1]]
        inner.copy_(torch.from_numpy(picture)).div_(255.0)
    return batch


def png_texts(node: Any) -> dict[str, str]:
    """Return the workflow as PNG texts, as the host's Save Image embeds it.

    Args:
        node: the executing node class, with the hidden inputs prompt and extra_pnginfo.
    """
    from comfy.cli_args import args

    hidden = getattr(node, "hidden", None)
    if args.disable_metadata or not hidden:
        return {}
    texts = {"prompt": hidden.prompt} if hidden.prompt else {}
    texts |= hidden.extra_pnginfo or {}
    return {name: json.dumps(value) for name, value in texts.items()}


def prefix_or_sentence(filename_prefix: str | None) -> bool | str:
    """Check a prefix for ``validate_inputs``; one that is linked is None and checked later."""
    return sentence_or_true(lambda: filename_prefix is None or checked_prefix(filename_prefix))


def checked_prefix(filename_prefix: str) -> Path:
    """Return where below the host's output folder a prefix leads; both separators mean the same.

    Raises:
        GlitchTrainError: when it leads outside, Windows does not take it, or it is too long.
    """
    output = Path(os.path.realpath(folder_paths.get_output_directory()))
    *folders, name = filename_prefix.replace("\\", "/").split("/")
    for part in (*folders, f"{name}_00001"):
        fault = "" if part in (".", "..") else name_fault(part)
        if fault:
            raise GlitchTrainError(
                f"filename_prefix {filename_prefix!r}: {part!r} {fault}; choose another name."
            )
    wanted = Path(os.path.realpath(output.joinpath("/".join((*folders, name)))))
    if output not in wanted.parents:
        raise GlitchTrainError(
            f"filename_prefix {filename_prefix!r} leads outside the output folder; "
            "use a plain name or subfolder/name."
        )
    check_path_lengths(wanted.with_name(f"{wanted.name}_00001.json"))
    return wanted


def output_place(filename_prefix: str) -> tuple[str, str, str]:
    """Return (folder, numbered file stem, subfolder) below the host's output folder.

    Raises:
        GlitchTrainError: as :func:`checked_prefix`.
    """
    output = Path(os.path.realpath(folder_paths.get_output_directory()))
    wanted = checked_prefix(filename_prefix)
    with disk_errors_said(wanted.parent):
        wanted.parent.mkdir(parents=True, exist_ok=True)
    taken = re.compile(re.escape(wanted.name) + r"_(\d{5})", re.IGNORECASE)
    numbers = [int(m[1]) for p in wanted.parent.iterdir() if (m := taken.match(p.name))]
    subfolder = wanted.parent.relative_to(output).as_posix()
    stem = f"{wanted.name}_{max(numbers, default=0) + 1:05}"
    return str(wanted.parent), stem, "" if subfolder == "." else subfolder


def with_lora(
    model: Any,
    clip: Any,
    lora: dict[str, torch.Tensor],
    strength_model: float = 1.0,
    strength_clip: float = 1.0,
) -> tuple[Any, Any]:
    """Return MODEL and CLIP with a LoRA applied as the host's loader does it.

    What has strength 0 comes back as it was given.
    """
    import comfy.sd

    patched_model, patched_clip = comfy.sd.load_lora_for_models(
        model, clip, lora, strength_model, strength_clip
    )
    return patched_model if strength_model else model, patched_clip if strength_clip else clip
