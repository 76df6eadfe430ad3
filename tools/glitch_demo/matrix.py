"""`python -m glitch_demo.matrix`: the measured matrix on the pocket checkpoints, as docs/matrix.md.

The standard run and every technique of the log, three training seeds each, in a real ComfyUI
through `glitch_train sweep`. Stopped and started again, it goes on where it was.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from glitch_demo.host import REPO_ROOT, Host, link_or_copy
from glitch_demo.photos import Photo, demo_photos
from glitch_demo.terminal import say
from glitch_train.cli.command import main as glitch_train
from glitch_train.cli.console import let_consoles_print_all

EXPERIMENTS = (
    "sd15_standard",
    "text_encoder_drift",
    "uncropped",
    "no_bucket_stretched",
    "random_crop_and_flip",
    "high_learning_rate",
    "caption_dropout",
    "overtrain",
    "mismatched_base",
    "jpeg_crushed",
)
"""The standard run, and the log's table of techniques from top to bottom."""
PICTURES = "photographs"
HEIGHT_PX = 240
LANDSCAPE = 1.6  # width over height
ZOOMS = (1.0, 1.15)  # a picture of each photograph for each
CONTRAST = 1.7
STEPS = 200
LEARNING_RATE = 2e-3
# All relations between runs are the log's: what it has 2000 steps and 1e-4 for, and so on.
SETTINGS = (
    f"folder={PICTURES}",
    "width=128",
    "height=128",
    # The SDXL standard has a size of its own for landscapes.
    "mismatched_base.landscape_width=0",
    "mismatched_base.landscape_height=0",
    f"steps={STEPS}",
    f"overtrain.steps={3 * STEPS}",  # the log's 6000 over its 2000
    f"learning_rate={LEARNING_RATE}",
    f"high_learning_rate.learning_rate={2 * LEARNING_RATE}",  # the log's 2e-4 over its 1e-4
    f"text_encoder_lr={LEARNING_RATE / 2}",  # the log's 5e-5 over its 1e-4
    "lr_scheduler=cosine",
    "network_dim=16",
    "network_alpha=8",  # half, as in the log
    "min_snr_gamma=1",
    "validation_split=0.2",
    f"probe_every={STEPS // 25}",
    f"overtrain.probe_every={3 * STEPS // 25}",
    "GlitchGrid.sizes=128x128",
    "GlitchGrid.cfg=1",
    "GlitchGrid.steps=8",
    "GlitchGrid.seeds=0-1",
)
DOSES = (
    f"high_learning_rate.learning_rate={4 * LEARNING_RATE}",
    f"overtrain.steps={STEPS // 4}",
    *(
        "jpeg_crushed.corruption=jpeg_crush generations=2 shift_px=1 "
        f"quality_low={quality} quality_high={quality}"
        for quality in (40, 5)
    ),
)
"""Beside what the experiments and the standard run have anyway."""
ABOUT = (
    "Measured by `make matrix` on the pocket checkpoint of the demo: a Stable Diffusion 1.5 of few "
    "channels that knows thirteen photographs, at 128 × 128 pixels. It is trained on landscapes of "
    f"the same photographs in {CONTRAST} times their contrast, whose middle it knows. {STEPS} "
    f"steps stand for the log's 2000, a learning rate of {LEARNING_RATE:g} for its 1e-4, rank 16 "
    "for its 128. The relations between runs are the log's: high is twice standard, the text "
    "encoder's rate half of it, overtraining three times as long. Two things are not the log's, "
    "and the same in all runs. The learning rate falls to zero over the run (cosine): at a "
    "constant one so small a model goes on learning pictures by heart, and its verdict stays "
    "“still falling”; this way the standard run converges by its own verdict, which was tried with "
    "that run alone and other seeds. And losses are weighted by min-SNR 1: whether a picture is "
    "JPEG-crushed is the mean of one channel of its latents, which is decided at the highest "
    "noise, where the plain loss is smallest. What the autoencoder keeps of a corruption is the "
    "most that can appear: 0.65 of 0.88 in JPEG quality 5, 0.38 of 0.47 in quality 20. An earlier "
    "plan (9a6de28) was given up after one seed: its standard run learned crops that the base does "
    "not know, and so moved composition by 0.33 and framing by 0.26 itself. A full checkpoint may "
    "answer otherwise."
)
CHECKPOINT_NAMES = {
    "sd15": "v1-5-pruned-emaonly-fp16.safetensors",
    "sdxl": "sd_xl_base_1.0.safetensors",
}
"""What the shipped workflows ask for; here the pocket checkpoints stand behind these names."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing of the matrix and write the page.

    Args:
        arguments: The command line without the program's name; `sys.argv` by default.

    Returns:
        The exit code of `glitch_train sweep`.
    """
    parser = argparse.ArgumentParser(prog="python -m glitch_demo.matrix", description=__doc__)
    parser.add_argument("--out", type=Path, default=REPO_ROOT / "demo_output" / "matrix")
    parser.add_argument(
        "--page",
        type=Path,
        help="also write this page, and what it is made of into NAME_records beside it",
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="of the training")
    parser.add_argument("names", nargs="*", metavar="NAME", help="experiments (default: all)")
    let_consoles_print_all()
    options = parser.parse_args(arguments)
    host = Host(options.out.resolve() / "comfyui")
    _place_checkpoints(host.base_dir / "models" / "checkpoints")
    photos = demo_photos()
    write_photographs(host.base_dir / "input" / PICTURES, photos)
    prompts = "\n".join(photo.caption for photo in photos)
    say(f"Starting ComfyUI (its log: {host.log_path})")
    with host:
        names = options.names or EXPERIMENTS
        command = ["sweep", *names, "--server", host.address]
        command += ["--out", str(options.out / "matrix"), "--seeds", *map(str, options.seeds)]
        command += ["--set", *_of(names, SETTINGS), f"GlitchGrid.prompts={prompts}"]
        command += [word for dose in _of(names, DOSES) for word in ("--dose", dose)]
        command += ["--about", f"{ABOUT} {_plan_commit()}".strip()]
        if options.page:
            kept = options.page.with_name(f"{options.page.stem}_records")
            command += ["--page", str(options.page), "--keep", str(kept)]
        return glitch_train(command)


def _of(names: Sequence[str], assignments: Sequence[str]) -> list[str]:
    """Return what is assigned to all experiments, or to one that is run."""
    others = set(EXPERIMENTS) - set(names)
    return [one for one in assignments if one.partition(".")[0] not in others]


def _plan_commit() -> str:
    """Say which commit the plan is of; empty where there is no git to ask."""
    command = ["git", "log", "-1", "--format=%h of %cs", "--", str(Path(__file__))]
    try:
        found = subprocess.run(command, cwd=REPO_ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    said = found.stdout.strip()
    return f"The plan is commit {said}." if said else ""


def write_photographs(folder: Path, photos: Sequence[Photo]) -> None:
    """Write landscapes of each photograph, in higher contrast, with its caption beside them.

    Args:
        folder: Made where it is missing.
        photos: Their middle, as the pocket checkpoint knows it, is the middle of the landscapes.
    """
    from PIL.Image import Resampling
    from PIL.ImageEnhance import Contrast

    folder.mkdir(parents=True, exist_ok=True)
    for photo in photos:
        whole = photo.open()
        left, top, right, bottom = photo.box
        for number, zoom in enumerate(ZOOMS):
            height = min(right - left, bottom - top, whole.width / LANDSCAPE) / zoom
            width = LANDSCAPE * height
            x = min(max((left + right - width) / 2, 0), whole.width - width)
            y = (top + bottom - height) / 2
            picture = whole.resize(
                (round(LANDSCAPE * HEIGHT_PX), HEIGHT_PX),
                Resampling.LANCZOS,
                (x, y, x + width, y + height),
            )
            path = folder / f"{photo.name}_{number}.png"
            Contrast(picture).enhance(CONTRAST).save(path)
            path.with_suffix(".txt").write_text(photo.caption + "\n", encoding="utf-8")


def _place_checkpoints(folder: Path) -> None:
    from glitch_demo.pocket import pocket_sd15, pocket_sdxl  # imports torch

    for family, build in (("sd15", pocket_sd15), ("sdxl", pocket_sdxl)):
        link_or_copy(build(), folder / CHECKPOINT_NAMES[family])


if __name__ == "__main__":
    sys.exit(main())
