"""What a training is said to need, against what it takes; and what is chosen for what is free."""

from __future__ import annotations

import functools
import gc
import weakref
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from runs import start, start_text_encoders
from torch.utils._python_dispatch import TorchDispatchMode

from glitch_demo.full_shapes import LAYOUTS
from glitch_train.lora.layers import LoraShape, inject_lora
from glitch_train.lora.targets import recipe_targets
from glitch_train.model.checkpoint import BaseModel, unet_config
from glitch_train.recipe.train import OPTIMIZERS, TrainRecipe
from glitch_train.training import plan
from glitch_train.training.rehearsal import META, rehearse

pytestmark = pytest.mark.slow


class Memory(TorchDispatchMode):
    """Counts the memory that lives: every storage from the operation that makes it to its end."""

    def __init__(self, known: torch.nn.Module) -> None:
        super().__init__()
        self.now = self.most = 0
        self._live = {value.untyped_storage()._cdata for value in known.parameters()}

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        results = operation(*args, **(kwargs or {}))
        for value in results if isinstance(results, (tuple, list)) else (results,):
            if isinstance(value, torch.Tensor):
                self._see(value.untyped_storage())
        return results

    def _see(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._live:
            self._live.add(storage._cdata)
            self.now += storage.nbytes()
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, place: int, size: int) -> None:
        self._live.discard(place)
        self.now -= size


@functools.cache
def full_size(family_name: str) -> BaseModel:
    """Return a model of full size in bf16 with a LoRA of rank 32, all of it shapes."""
    family, layout = LAYOUTS[family_name]
    shapes = {"label_emb.0.0.weight": (1280, 2816)} if family.is_xl else {}
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**unet_config(shapes, layout, family))
    torch.nn.Module.to(unet, torch.bfloat16).requires_grad_(False)
    recipe = TrainRecipe(network_dim=32)
    inject_lora(unet, recipe_targets(unet, recipe), LoraShape.of(recipe), torch.Generator())
    return BaseModel(family, layout, unet, ())


def test_a_rehearsed_model_is_let_go() -> None:
    """Catches a model that stays in memory for good once its step was counted."""
    base = full_size.__wrapped__("SD1.5")
    rehearse(base, TrainRecipe(network_dim=32), torch.bfloat16, (8, 8), 1)
    unet = weakref.ref(base.unet)
    del base
    gc.collect()
    assert unet() is None


@pytest.mark.parametrize(
    ("family", "size", "checkpointing"),
    [
        ("SD1.5", (64, 64), True), ("SD1.5", (64, 64), False), ("SD1.5", (96, 64), True),
        ("SDXL", (128, 128), True), ("SDXL", (104, 152), False),
    ],
    ids=str,
)  # fmt: skip
def test_a_step_is_reckoned_within_a_tenth(
    family: str, size: tuple[int, int], checkpointing: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches activations, recomputed blocks or gradients that are forgotten or counted twice.

    The reference does the whole step, backward pass and checkpointing included, and watches
    storages come and go.
    """
    base = full_size(family)
    expected = rehearse(base, TrainRecipe(network_dim=32), torch.bfloat16, size, 1)

    def fused(query, key, value, attn_mask=None, **_: object):
        graph = torch.is_grad_enabled()
        attend = torch.ops.aten._scaled_dot_product_efficient_attention
        return attend(query, key, value, attn_mask, graph, 0.0, False)[0]

    monkeypatch.setattr(F, "scaled_dot_product_attention", fused)
    switch = "enable" if checkpointing else "disable"
    getattr(base.unet, f"{switch}_gradient_checkpointing")()
    assert expected.peak(checkpointing) == pytest.approx(most_in_a_step(base, size), rel=0.1)


def most_in_a_step(base: BaseModel, size: tuple[int, int]) -> int:
    """Return the bytes of a forward and backward pass on shapes."""
    empty = functools.partial(torch.empty, dtype=torch.bfloat16, device=META)
    with Memory(base.unet) as memory:
        added = None
        if base.family.is_xl:
            added = {"text_embeds": empty(1, 1280), "time_ids": torch.empty(1, 6, device=META)}
        predicted = base.unet(
            empty(1, 4, *size), torch.zeros(1, dtype=torch.long, device=META),
            encoder_hidden_states=empty(1, 77, base.unet.config.cross_attention_dim),
            added_cond_kwargs=added, return_dict=False,
        )[0]  # fmt: skip
        loss = predicted.float().square().mean()
        trained = [value for value in base.unet.parameters() if value.requires_grad]
        gradients = torch.autograd.grad(loss, trained)
    assert len(gradients) == len(trained)
    return memory.most


@pytest.mark.parametrize(
    "settings",
    [
        {"gradient_checkpointing": "off"},
        {"gradient_checkpointing": "on"},
        {"network_type": "dora", "gradient_checkpointing": "off"},
        {"conv_dim": 2, "gradient_checkpointing": "off"},
        {"precision": "bf16", "gradient_checkpointing": "off"},
        {"is_xl": True, "gradient_checkpointing": "off"},
    ],
    ids=str,
)
def test_a_step_that_is_really_done(tmp_path: Path, settings: dict) -> None:
    """Catches shapes that keep less than the numbers themselves, in attention above all."""
    training = start(tmp_path, batch_size=4, **settings)
    training.source.next()  # what is read is then there
    with Memory(training.base.unet) as memory:
        training._forward_backward()
    assert training.memory.needs.step == pytest.approx(memory.most, rel=0.1)


@pytest.mark.parametrize("optimizer", [*OPTIMIZERS])
def test_weights_gradients_and_moments_to_the_byte(tmp_path: Path, optimizer: str) -> None:
    """Catches an optimizer that remembers more, or less, than is reckoned with."""
    if optimizer == "AdamW8bit" and not torch.cuda.is_available():
        pytest.skip("bitsandbytes' optimizers need a GPU")
    training = start(tmp_path, optimizer=optimizer, conv_dim=2, learning_rate=1e-3)
    needs = training.memory.needs
    frozen = [value for value in training.base.unet.parameters() if not value.requires_grad]
    assert needs.base == sum(value.nbytes for value in frozen)
    assert needs.lora == sum(value.nbytes for value in training.parameters)
    training._forward_backward()
    gradients = sum(value.grad.nbytes for value in training.parameters)
    assert training.memory._rehearsals.one.gradients == gradients
    training.optimizer.step()
    remembered = sum(
        value.nbytes
        for state in training.optimizer.state.values()
        for value in state.values()
        if isinstance(value, torch.Tensor) and value.ndim
    )
    # Prodigy remembers where a factor began, which it leaves out of one that began at zero.
    at_zero = sum(value.up.nbytes for value in training.lora.unet.values())
    assert needs.optimizer == remembered + (at_zero if optimizer == "Prodigy" else 0)


def test_eight_bits_and_their_scales() -> None:
    """Catches small factors counted as eight bits, which bitsandbytes keeps whole.

    By hand: two moments of 640 × 32 values with 80 scales each; two of 100 fp32 values.
    """
    shapes = [torch.Size((640, 32)), torch.Size((100,))]
    assert plan.state_bytes("AdamW8bit", shapes) == 2 * (640 * 32 + 4 * 80) + 800


@pytest.mark.parametrize(("stored", "each"), [("fp8", 1), ("nf4", 0.5)])
def test_a_base_in_fewer_bits(tmp_path: Path, stored: str, each: float) -> None:
    """Catches a stored base counted as it was in the file."""
    if stored == "nf4":
        pytest.importorskip("bitsandbytes")
    whole = start(tmp_path / "a", precision="bf16").memory
    fewer = start(tmp_path / "b", precision="bf16", base_precision=stored).memory
    assert each / 2 < fewer.needs.base / whole.needs.base < 1
    assert f"base in {stored}" in fewer.sentence
    if stored == "fp8":
        gain = dict((what, gain) for gain, what in whole.remedies())["base_precision fp8"]
        assert whole.needs.base - fewer.needs.base == gain


def test_trained_text_encoders_are_counted(tmp_path: Path) -> None:
    """Catches towers that are trained, and neither their weights nor their passes reckoned."""
    frozen = start_text_encoders(tmp_path / "a").memory.needs
    trained = start_text_encoders(tmp_path / "b", train_text_encoder=True).memory.needs
    assert trained.base > frozen.base or trained.lora > frozen.lora
    assert trained.step > frozen.step
    assert trained.optimizer > frozen.optimizer


def test_what_is_chosen_follows_what_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a decision that ignores need or room, or that overrules a setting."""

    def with_room(free: float, **settings: object) -> plan.MemoryPlan:
        monkeypatch.setattr(plan, "free_bytes", lambda _: free)
        return start(tmp_path, batch_size=4, **settings).memory

    enough = with_room(1e9)
    assert (enough.checkpointing, enough.micro_batch, enough.fits) == (False, 4, True)
    still = enough.needs.optimizer + enough.needs.step
    less = with_room(still - 1)
    assert (less.checkpointing, less.micro_batch, less.fits) == (True, 4, True)
    least = with_room(less.needs.optimizer + less.needs.step - 1)
    assert (least.checkpointing, least.micro_batch, least.fits) == (True, 2, True)
    assert "of 2 at a time" in least.sentence
    off = with_room(still - 1, gradient_checkpointing="off")
    assert (off.checkpointing, off.micro_batch, off.fits) == (False, 4, False)
    assert with_room(1e9, gradient_checkpointing="on").checkpointing


def test_a_plan_that_does_not_fit_names_remedies_by_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Catches a remedy without effect, one of a wrong size, or the smallest named first."""
    monkeypatch.setattr(plan, "free_bytes", lambda _: 10_000)
    settings = {"network_dim": 32, "batch_size": 2, "gradient_checkpointing": "off"}
    too_large = start(tmp_path / "a", **settings).memory
    gains = [gain for gain, _ in too_large.remedies()]
    assert gains == sorted(gains, reverse=True)
    assert {what.split()[0] for _, what in too_large.remedies()} == {
        "base_precision", "optimizer", "network_dim", "gradient_checkpointing", "pictures",
        "batch_size",
    }  # fmt: skip
    changes = {
        "gradient_checkpointing auto": {"gradient_checkpointing": "on"},
        "batch_size 1": {"batch_size": 1},
        "network_dim 16": {"network_dim": 16},
    }
    for gain, what in too_large.remedies():
        if what in changes:
            changed = start(tmp_path / what, **settings | changes[what]).memory.needs
            share = 0.3 if what.startswith("network_dim") else 0.01  # its activations shrink too
            assert too_large.needs.total - changed.total == pytest.approx(gain, rel=share), what
    said = too_large.sentence
    places = [said.index(what) for _, what in too_large.remedies()]
    assert places == sorted(places)
    assert "does not fit" in said
