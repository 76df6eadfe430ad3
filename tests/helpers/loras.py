"""Seeded LoRAs on real module names and shapes, in every format that is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from glitch_train.lora.keys import lora_name
from glitch_train.model.families import Family
from glitch_train.model.network import Module, Network, reference_network

State = dict[str, torch.Tensor]
Keep = Callable[[Module], bool]


def is_attention(module: Module) -> bool:
    """Kohya's default set: what lies in transformers."""
    return module.role.is_attention


def everything(module: Module) -> bool:
    """Every Linear and convolution of the UNet, and the text encoders."""
    return True


def lora_state(
    network: Family | Network,
    *,
    rank: int = 2,
    alpha: float | None = 1.0,
    keep: Keep = is_attention,
    name: Callable[[Network, Module], str] = lora_name,
    factors: tuple[str, str] = (".lora_down.weight", ".lora_up.weight"),
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
) -> State:
    """Return a LoRA of a network; ``‖ΔW‖`` differs from module to module."""
    if isinstance(network, Family):
        network = reference_network(network)
    stream = torch.Generator().manual_seed(seed)
    state: State = {}
    for module in filter(keep, network.modules.values()):
        called = name(network, module)
        kernel = module.shape[2:]
        ones = (1,) * len(kernel)
        down = torch.randn(rank, module.n_in, *kernel, generator=stream) * module.n_in**-0.5
        up = torch.randn(module.n_out, rank, *ones, generator=stream) * 0.02
        state[called + factors[0]] = down.to(dtype)
        state[called + factors[1]] = up.to(dtype)
        if alpha is not None:
            state[f"{called}.alpha"] = torch.tensor(alpha)
    return state


def dense(state: State, name: str) -> torch.Tensor:
    """Return up @ down * alpha / rank of a kohya module, built in full: the slow truth."""
    up = state[f"{name}.lora_up.weight"].double().flatten(1)
    down = state[f"{name}.lora_down.weight"].double()
    alpha = state.get(f"{name}.alpha")
    scale = 1.0 if alpha is None else float(alpha) / up.shape[1]
    return (up @ down.flatten(1)).reshape(up.shape[0], *down.shape[1:]) * scale


def some(modules: Iterable[str]) -> Keep:
    """Keep modules whose key contains one of these pieces."""
    pieces = tuple(modules)
    return lambda module: any(piece in module.key for piece in pieces)
