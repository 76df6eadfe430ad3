"""A node pack for a ComfyUI under test: Windows' rules hold in its process from here on.

ComfyUI imports packs after its own modules, so that Linux has started it before Windows begins.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from windows_rules import windows_rules  # noqa: E402

NODE_CLASS_MAPPINGS: dict = {}

# Standard output that is no console has the code page too. Source: docs.python.org, sys.stdout.
for stream in (sys.stdout, sys.stderr):
    stream.reconfigure(encoding="cp1252", errors="strict")

_rules = windows_rules()
_rules.__enter__()
print("Windows' rules hold in this process.", flush=True)  # noqa: T201
