"""Let torchvision's and torchaudio's CUDA wheels be there beside a CPU build of torch.

torchvision's Python code registers fake kernels for two operators that its compiled part would
declare, but that part does not load without CUDA. Declaring them first is enough. torchaudio does
not load at all, and newer ComfyUIs import it at their top, for nodes that are not needed here: they
get an empty one. This folder is put on PYTHONPATH only for a ComfyUI that was seen to need it (see
`glitch_demo.host`).
"""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


_AUDIO = ("torchaudio", "torchaudio.functional", "torchaudio.transforms")


class _EmptyAudio(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds a torchaudio in which there is nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the empty module of one of the names that ComfyUI imports."""
        if fullname not in _AUDIO:
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=fullname == _AUDIO[0])

    def exec_module(self, module: ModuleType) -> None:
        """Leave the module empty."""


class _DeclareOperators(importlib.abc.MetaPathFinder):
    """Declares torchvision's operators the moment torchvision is first looked for."""

    library: object = None  # kept: the declarations go when the Library object goes

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> None:
        """Declare the operators before torchvision; never finds a module itself."""
        if fullname != "torchvision" or self.library is not None:
            return
        import torch

        library = torch.library.Library("torchvision", "DEF")
        for operator in _OPERATORS:
            library.define(operator)
        self.library = library


def _run_the_sitecustomize_behind_this_one() -> None:
    """Run the sitecustomize that this file hides, if there is one."""
    here = Path(__file__).resolve().parent
    others = [entry for entry in sys.path if Path(entry or ".").resolve() != here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


sys.meta_path.insert(0, _DeclareOperators())
sys.meta_path.insert(0, _EmptyAudio())
_run_the_sitecustomize_behind_this_one()
