"""Builds API workflows: every widget that a test does not name keeps the node's own default."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from glitch_train.comfyui.client import ComfyClient

WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


class GraphBuilder:
    """Collects nodes; ``builder.add("KSampler", model=…)`` returns the node's id."""

    def __init__(self, client: ComfyClient) -> None:
        self.nodes: dict[str, dict[str, Any]] = {}
        self._info = client.object_info()

    def add(self, class_type: str, **inputs: Any) -> str:
        """Add a node; links are ``(node id, output name, type or number)``."""
        node = str(len(self.nodes) + 1)
        linked = {name: self._link(value) for name, value in inputs.items()}
        self.nodes[node] = {
            "class_type": class_type,
            "inputs": self._defaults(class_type) | linked,
        }
        return node

    def there(self, *names: str) -> str:
        """Return the first of a node's names, by which hosts of different age call it."""
        return next(name for name in names if name in self._info)

    def _link(self, value: Any) -> Any:
        if not isinstance(value, tuple):
            return value
        node, output = value
        if isinstance(output, str):
            about = self._info[self.nodes[node]["class_type"]]
            names = about["output_name"]
            output = names.index(output) if output in names else about["output"].index(output)
        return [node, output]

    def _defaults(self, class_type: str) -> dict[str, Any]:
        required = self._info[class_type]["input"].get("required", {})
        defaults = {}
        for name, (kind, *rest) in required.items():
            options = rest[0] if rest else {}
            if isinstance(kind, list):
                defaults[name] = options.get("default", kind[0] if kind else None)
            elif kind in WIDGETS:
                choices = options.get("options") or [None]
                defaults[name] = options.get("default", choices[0])
        return defaults


def pictures_of(client: ComfyClient, outputs: dict[str, Any], node: str) -> np.ndarray:
    """Return the pictures a node saved, (N, H, W, 3) uint8."""
    files = outputs[node]["images"]
    loaded = [Image.open(io.BytesIO(client.download(**file))).convert("RGB") for file in files]
    return np.stack([np.asarray(picture) for picture in loaded])
