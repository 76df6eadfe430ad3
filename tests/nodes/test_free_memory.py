"""Free memory is what the host calls free."""

from __future__ import annotations

import pytest
import torch

from glitch_train.training.devices import free_bytes

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("host_modules")]


def test_reserved_but_unused_memory_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a cache of gigabytes counted as taken, so that checkpointing comes on for nothing."""
    import comfy.model_management as host

    stats = {"reserved_bytes.all.current": 7 << 30, "active_bytes.all.current": 2 << 30}
    monkeypatch.setattr(torch.cuda, "memory_stats", lambda _: stats)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (3 << 30, 12 << 30))
    device = torch.device("cuda", 0)
    assert free_bytes(device) == host.get_free_memory(device) == 8 << 30


def test_on_a_cpu_it_is_what_the_system_has() -> None:
    """Catches half of it, or the swap as well."""
    import comfy.model_management as host

    cpu = torch.device("cpu")
    assert free_bytes(cpu) == pytest.approx(host.get_free_memory(cpu), rel=0.2)
