"""What the host's nodes put on a MODEL beside weights: said by name, or refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def model(host_modules: None):
    """Return a MODEL of the host with as much inside as its nodes ask for."""
    from comfy.model_patcher import ModelPatcher

    inside = torch.nn.Module()
    inside.model_sampling = None
    inside.model_config = SimpleNamespace(unet_config={"model_channels": 320})
    cpu = torch.device("cpu")
    return ModelPatcher(inside, load_device=cpu, offload_device=cpu)


def output(result):
    """Return a node's first output, in the old style or the new."""
    return getattr(result, "result", result)[0]


def run(node, *arguments):
    """Run a node of the host in the style that it has."""
    if hasattr(node, "execute"):
        return output(node.execute(*arguments))
    return output(getattr(node(), node.FUNCTION)(*arguments))


def test_a_plain_model_has_nothing_to_say(pack, model) -> None:
    """Catches a note on every run."""
    assert pack("nodes.model_options").left_out(model, samples=True) == []
    pack("nodes.model_options").check_injections(model)


def test_what_changes_layers_is_always_said(pack, model) -> None:
    """Catches FreeU or HyperTile that a person believes was trained."""
    from comfy_extras.nodes_freelunch import FreeU_V2
    from comfy_extras.nodes_hypertile import HyperTile

    left_out = pack("nodes.model_options").left_out
    (said,) = left_out(run(FreeU_V2, model, 1.3, 1.4, 0.9, 0.2), samples=False)
    assert "trained without what MODEL adds to its layers (FreeU_V2)" in said
    (said,) = left_out(run(HyperTile, model, 256, 2, 0, False), samples=False)
    assert "(HyperTile)" in said
    wrapped = model.clone()
    wrapped.set_model_unet_function_wrapper(run)
    assert "(run)" in left_out(wrapped, samples=False)[0]


def test_guidance_is_said_where_pictures_are_drawn(pack, model) -> None:
    """Catches sample pictures that differ from KSampler's without a word."""
    from comfy_extras.nodes_model_advanced import RescaleCFG
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    left_out = pack("nodes.model_options").left_out
    for node, arguments in ((RescaleCFG, (0.7,)), (PerturbedAttentionGuidance, (3.0,))):
        patched = run(node, model, *arguments)
        assert left_out(patched, samples=False) == []
        (said,) = left_out(patched, samples=True)
        assert f"made without MODEL's guidance ({node.__name__})" in said


def test_sampling_and_precision_are_read_elsewhere(pack, model) -> None:
    """Catches ModelSamplingDiscrete, which is honoured, called left out."""
    patched = model.clone()
    patched.add_object_patch("model_sampling", object())
    assert pack("nodes.model_options").left_out(patched, samples=True) == []
    patched.add_object_patch("diffusion_model.forward", print)
    assert "diffusion_model.forward" in pack("nodes.model_options").left_out(
        patched, samples=True
    )[0]  # fmt: skip


def test_layers_that_come_while_sampling_are_refused(pack, model) -> None:
    """Catches a LoRA in bypass mode that is on MODEL and not in what is trained on."""
    patched = model.clone()
    patched.set_injections("bypass_lora", [object()])
    error = pack("glitch_train.errors").CheckpointError
    with pytest.raises(error, match=r"\(bypass_lora\).*without bypass mode"):
        pack("nodes.model_options").check_injections(model, patched)
