"""The command line: one verb per task, each in a module of its own.

A verb's module has ``add_verb(subparsers)``, which declares its arguments and sets ``run`` to a
function that takes the parsed arguments and returns what ``--json`` prints, with ``text`` where
people are told it in other words. Nothing heavy is imported before a verb runs.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import logging
import os
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from ..comfyui.run import terminate_as_ctrl_c
from ..environment import environment_said
from ..errors import EnvironmentFault, GlitchTrainError, RecipeError
from ..wording import shown_name
from .console import json_for_stdout, let_consoles_print_all, stdout_kept

VERB_MODULES = (
    "train",
    "prepare",
    "recipe",
    "graph",
    "verdict",
    "transfer",
    "inspect",
    "report",
    "calibrate",
    "queue",
    "sweep",
    "matrix",
)

# But for what stands in names for bytes that are no characters. Source: PEP 383.
_NO_TEXT = re.compile("[\x00\ud800-\udc7f\udd00-\udfff]")

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_WRONG_ARGUMENTS = 2
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb.

    Args:
        arguments: the command line without the program's name; ``sys.argv`` by default.

    Returns:
        The exit code: 0, 1 after an error (one sentence on stderr, with ``--json`` also as
        ``error`` on stdout), 2 for wrong arguments, 130 after Ctrl-C or a request to end.
    """
    let_consoles_print_all()
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = argparse.Namespace(json="--json" in words, debug="--debug" in words)
    try:
        with terminate_as_ctrl_c(), environment_said():
            _check_place()
            build_parser().parse_args(words, options)
            _check_texts(options)
            with stdout_kept():
                result = options.run(options)
            if result is None:  # another process of the same run reports
                return EXIT_OK
            as_json = options.json or "text" not in result
            _write(_as_json(result) if as_json else f"{result['text']}\n")
    except WrongArguments as error:
        return _failed(options, error, EXIT_WRONG_ARGUMENTS)
    except GlitchTrainError as error:
        return _failed(options, error, EXIT_FAILED)
    except KeyboardInterrupt:
        return _failed(options, "Interrupted.", EXIT_INTERRUPTED)
    if result.get("interrupted"):
        return EXIT_INTERRUPTED
    if "error" in result:  # a report is still worth having when the work itself failed
        sys.stderr.write(f"{shown_name(str(result['error']))}\n")
        return EXIT_FAILED
    return EXIT_OK


def _failed(options: argparse.Namespace, error: object, code: int) -> int:
    """Say an error on stderr, and to the reader of JSON too; return the exit code."""
    if options.debug:
        traceback.print_exc()
    sentence = shown_name(str(error))  # a file's name may hold a line break
    sys.stderr.write(f"{sentence}\n")
    if options.json and (os.environ.get("RANK", "0") == "0" or "WORLD_SIZE" not in os.environ):
        with contextlib.suppress(OSError):  # a stdout that takes nothing has been said
            _write(_as_json({"error": sentence}))
    return code


class WrongArguments(GlitchTrainError):
    """The command line is not one of a verb."""


class _Parser(argparse.ArgumentParser):
    """Raises what is wrong with the arguments, so that it is said as every error is."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        raise WrongArguments(f"{self.prog}: error: {message}")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser with every verb."""
    parser = _Parser(
        prog="glitch_train", description="Train, read and transfer glitch LoRAs without ComfyUI."
    )
    parser.add_argument(
        "--debug", action="store_true", help="before an error's sentence, show where it arose"
    )
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    for module in VERB_MODULES:
        importlib.import_module(f".{module}", __package__).add_verb(verbs)
    for verb in verbs.choices.values():
        verb.register("type", Path, _given_path)
    return parser


def _check_place() -> None:
    """Refuse a working folder that is gone: torch would end the process without a word.

    Raises:
        EnvironmentFault: says so.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise EnvironmentFault(
            f"The folder that this was started in cannot be used ({error.strerror}): change to "
            "one that is there."
        ) from error


def _given_path(text: str) -> Path:
    """Return a path; an empty one, as out of a variable that is not set, would mean this folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or folder (. is this folder)")
    return Path(text)


def _check_texts(options: argparse.Namespace) -> None:
    """Refuse what neither a path nor a setting can hold, wherever it was given.

    Raises:
        RecipeError: names the argument.
    """
    for name, value in vars(options).items():
        for text in value if isinstance(value, list) else [value]:
            if isinstance(text, (str, Path)) and _NO_TEXT.search(str(text)):
                raise RecipeError(
                    f"{name} {str(text)!r} has a NUL or half of a character, which no name or "
                    "setting can hold; write it anew."
                )
            if isinstance(text, Path) and _is_too_long(text):
                raise RecipeError(
                    f"{name} {str(text)[:80]}… is too long for a file's name; give a shorter one."
                )


def _is_too_long(path: Path) -> bool:
    try:
        path.stat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG
    return False


def _write(text: str) -> None:
    """Write the result to stdout, and find out here whether it arrived."""
    # A file name may hold bytes that are no characters; escaped, JSON still reads it.
    whole = text.encode("utf-8", errors="backslashreplace").decode("utf-8")
    try:
        sys.stdout.write(whole)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail again at exit. Source: Python's docs, "Note on
        # SIGPIPE".
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if not isinstance(error, BrokenPipeError):  # ``| head`` has read enough
            error.filename = "stdout"
            raise


def _as_json(result: dict[str, Any]) -> str:
    values = {name: value for name, value in result.items() if name != "text"}
    return json_for_stdout(values) + "\n"
