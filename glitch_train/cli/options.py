"""Options that verbs share: ``--json``, ``--set``, and settings made from their declarations."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from ..errors import GlitchTrainError
from ..settings import declared


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


class _OneValueEach(argparse.Action):
    """Collects ``NAME=VALUE`` words and refuses a name that is given two values."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given = [*getattr(namespace, self.dest), *(values or ())]
        first: dict[str, str] = {}
        for assignment in given:
            name, _, value = map(str.strip, assignment.partition("="))
            if first.setdefault(name, value) != value:
                raise argparse.ArgumentError(
                    self, f"{name} is set twice, to {first[name]} and to {value}; keep one"
                )
        setattr(namespace, self.dest, given)


def add_set_option(parser: argparse.ArgumentParser, about: str) -> None:
    """Give a verb the option ``--set``.

    Args:
        parser: the verb's parser.
        about: its help.
    """
    parser.add_argument(
        "--set", metavar="NAME=VALUE", nargs="+", action=_OneValueEach, default=[], help=about
    )


# What people end the name of a file with; a folder or stem called so would hold something else.
_FILE_ENDINGS = (
    ".bin", ".ckpt", ".csv", ".gif", ".html", ".jpeg", ".jpg", ".json", ".jsonl", ".md", ".pdf",
    ".png", ".pt", ".pth", ".safetensors", ".svg", ".tif", ".tiff", ".toml", ".txt", ".webp",
    ".yaml", ".yml", ".zip",
)  # fmt: skip


def check_output(
    out: Path, ending: str, inputs: Iterable[Path] = (), *, option: str = "-o"
) -> None:
    """Refuse an output whose name lies about its format, or that would overwrite an input.

    Args:
        out: the file to write.
        ending: what its name must end in.
        inputs: as :func:`check_overwrites_none`.
        option: what it was given by.

    Raises:
        GlitchTrainError: says which, and what to do.
    """
    if out.suffix.lower() != ending:
        raise GlitchTrainError(
            f"{out.name} would hold a {ending} file; give {option} a name that ends in {ending}."
        )
    check_overwrites_none([out], inputs, option=option)


def check_output_folder(out: Path, *, option: str = "--out", holds: str = "a folder") -> None:
    """Refuse a folder, or a stem of several files, that is called like a file or is one.

    Args:
        out: where several files go.
        option: what it was given by.
        holds: what it is.

    Raises:
        GlitchTrainError: says why, and what to do.
    """
    # os.path's words answer for any name; Path's raise for one that is too long.
    if os.path.isfile(out) and holds == "a folder":
        raise GlitchTrainError(f"{option} {out} is a file, not a folder; give another name.")
    if out.suffix.lower() in _FILE_ENDINGS:
        raise GlitchTrainError(
            f"{option} {out} is {holds}, and {out.suffix} is a file's ending; leave it out."
        )


def check_overwrites_none(
    outputs: Iterable[Path], inputs: Iterable[Path], *, option: str = "-o"
) -> None:
    """Refuse outputs that would overwrite what is read.

    Args:
        outputs: the files to write.
        inputs: files, or folders of them, that are read; what is not there is passed over.
        option: what the outputs were given by.

    Raises:
        GlitchTrainError: names the first.
    """
    # A path may lead through a folder that is only made for the output (new/../a.png).
    places = {out: os.path.realpath(out) for out in outputs}
    for given in inputs:
        read = given.rglob("*") if os.path.isdir(given) else [given]
        for one in read:
            for out, place in places.items():
                if os.path.exists(one) and os.path.exists(place) and os.path.samefile(one, place):
                    raise GlitchTrainError(
                        f"{option} {out} would overwrite what is read; give another name."
                    )


def add_settings(
    parser: argparse.ArgumentParser, recipe_type: type, *, without: tuple[str, ...] = ()
) -> None:
    """Give a verb one option per setting: ``--caption-dropout`` and ``--caption_dropout``.

    An option that is not given leaves the recipe's value alone. Values are checked by the recipe.

    Args:
        parser: the verb's parser.
        recipe_type: a dataclass declared with :mod:`glitch_train.settings`.
        without: settings that the verb offers in another way.
    """
    group = parser.add_argument_group("recipe settings")
    for name, (field, setting) in declared(recipe_type).items():
        if name in without:
            continue
        flags = dict.fromkeys((f"--{name.replace('_', '-')}", f"--{name}"))
        about: dict[str, Any] = {
            "dest": name,
            "default": None,
            "help": f"{setting.help} (default: {field.default!r})".replace("%", "%%"),
        }
        if isinstance(field.default, bool):
            group.add_argument(*flags, action=argparse.BooleanOptionalAction, **about)
        elif setting.choices:
            group.add_argument(*flags, choices=setting.choices, **about)
        else:
            about["metavar"] = type(field.default).__name__.upper()
            group.add_argument(*flags, type=type(field.default), **about)


def read_settings(
    options: argparse.Namespace, recipe_type: type, *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Return the settings that were given on the command line."""
    given = vars(options)
    names = (name for name in declared(recipe_type) if name not in without)
    return {name: given[name] for name in names if given.get(name) is not None}
