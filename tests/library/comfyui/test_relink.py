"""Links by type, where a host numbers outputs in another way than the workflow's."""

from __future__ import annotations

import copy
import json
from pathlib import Path

from glitch_train.comfyui.overrides import with_overrides

TWIN = Path(__file__).parents[3] / "workflows" / "api" / "other_families.json"
READERS = {
    "GlitchLossGraph": ("loss_map", "LOSS_MAP"),
    "GlitchGrid": ("lora", "LORA_MODEL"),
    "GlitchReport": ("lora", "LORA_MODEL"),
}


def test_a_host_with_other_outputs_gets_its_own_numbers() -> None:
    """Catches a workflow refused because another ComfyUI's Train LoRA had one output more."""
    graph = json.loads(TWIN.read_text("utf-8"))
    before = copy.deepcopy(graph)
    info = {
        kind: {"input": {"optional": {name: [wanted]}}} for kind, (name, wanted) in READERS.items()
    }
    of_both = {
        ("MODEL", "LORA_MODEL", "LOSS_MAP", "INT"): {"LORA_MODEL": 1, "LOSS_MAP": 2},
        ("LORA_MODEL", "LOSS_MAP", "INT"): {"LORA_MODEL": 0, "LOSS_MAP": 1},
    }
    for outputs, places in of_both.items():
        asked = {"steps": ["INT", {"default": 16}], "bucket_mode": ["BOOLEAN", {"default": False}]}
        info["TrainLoraNode"] = {"output": list(outputs), "input": {"required": asked}}
        fitted = with_overrides(graph, [], info)
        for entry in fitted.values():
            if entry["class_type"] in READERS:
                name, wanted = READERS[entry["class_type"]]
                assert entry["inputs"][name][1] == places[wanted]
        (trained,) = (one for one in fitted.values() if one["class_type"] == "TrainLoraNode")
        assert (trained["inputs"]["steps"], trained["inputs"]["bucket_mode"]) == (500, False)
    assert graph == before
    assert with_overrides(graph, []) == before
