"""The command line: ``glitch-train`` and ``python -m glitch_train``."""

from .command import main as main
