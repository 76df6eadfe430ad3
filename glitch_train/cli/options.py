"""Options that verbs share: ``--json``, and recipe settings made from their declarations."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..settings import declared

if TYPE_CHECKING:
    pass


def add_json_option(parser: argparse.ArgumentParser) -> None:
    """Give a verb the option ``--json``."""
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def check_output(out: Path, ending: str, inputs: Iterable[Path]) -> None:
    """Refuse an output whose name lies about its format, or that would overwrite an input.

    Args:
        out: the file to write.
        ending: what its name must end in.
        inputs: what is read; names of files that are not there are passed over.

    Raises:
        LoraFileError: says which, and what to do.
    """
    from ..errors import LoraFileError

    if out.suffix.lower() != ending:
        raise LoraFileError(
            f"{out.name} would hold a {ending} file; give -o a name that ends in {ending}."
        )
    for given in inputs:
        if given.exists() and out.exists() and out.samefile(given):
            raise LoraFileError(f"-o {out} would overwrite what is read; give another name.")


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
